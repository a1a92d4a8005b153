//! The tricorne command, and re-exports for Rust users

pub mod demo;

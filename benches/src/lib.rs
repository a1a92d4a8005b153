//! Benchmarks behind BENCHMARKS.md

//! The `tricorne` command.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::set_up();
    ExitCode::from(tricorne::cli::main(std::env::args_os()))
}

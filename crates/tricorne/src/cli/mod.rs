//! The command: arguments in, exit code out. The only place that prints, reads the environment or ends
//! the process.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | all done |
//! | 1 | finished, but some records failed |
//! | 2 | could not run |
//! | 130 | interrupted after a checkpoint; the same command goes on |

mod args;
mod demo;
mod fail;
mod interrupt;
mod output;
mod progress;
mod run;
mod summary;

use std::ffi::OsString;

use clap::Parser;

use self::args::{Args, Command};
use self::output::Output;

/// All done.
pub const EXIT_DONE: u8 = 0;
/// Finished, but some records failed.
pub const EXIT_SOME_FAILED: u8 = 1;
/// Could not run.
pub const EXIT_COULD_NOT_RUN: u8 = 2;
/// Interrupted after a checkpoint.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Runs the command with these arguments (the first is the program's name) and returns its exit code.
///
/// Takes over the interrupt signal of the process: the first Ctrl-C stops after a checkpoint, the second
/// ends the process at once.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // clap prints help and version to stdout, mistakes to stderr; a closed pipe is no mistake.
            let _ = error.print();
            return if error.use_stderr() { EXIT_COULD_NOT_RUN } else { EXIT_DONE };
        }
    };
    let result = match args.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => run::check(&args),
        Command::Fetch(args) => run::fetch(&args),
        Command::Prep(args) => run::prep(&args),
        Command::Demo(args) => demo::demo(&args),
    };
    result.unwrap_or_else(|failure| {
        Output::stderr().failure(&failure);
        EXIT_COULD_NOT_RUN
    })
}

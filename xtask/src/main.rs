//! The project's own commands: `cargo xtask check` runs everything that a change has to pass, `cargo xtask bench` prints the
//! figures that BENCHMARKS.md quotes, `cargo xtask fault` kills what can be killed.

mod args;
mod bench;
mod check;
mod command;
mod fault;
mod features;
mod layers;
mod lexer;
mod lockfile;
mod python;
mod sources;
mod text;

use std::process::ExitCode;

use args::Request;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args::parse(&words) {
        Ok(Request::Help) => {
            println!("{}", args::USAGE);
            Ok(())
        }
        Ok(Request::Check(options)) => check::run(&options),
        Ok(Request::Bench(options)) => bench::run(&options),
        Ok(Request::Fault(options)) => fault::run(&options),
        Err(message) => Err(format!("{message}\n\n{}", args::USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

//! The arguments of the command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Concurrency for AI data work: URLs or files in, a clean data set out.
#[derive(Debug, Parser)]
#[command(name = "tricorne", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 all done, 1 some records failed, 2 could not run, 130 interrupted after a checkpoint."
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a plan: fetch or read, extract, clean, measure, filter, dedup, write shards
    ///
    /// The same command again goes on where a run was stopped or killed.
    Run(RunArgs),
    /// Check a plan and print it with every default filled in
    Check(CheckArgs),
    /// Download URLs and keep the pages as files, with a table of what came
    Fetch(FetchArgs),
    /// Make a data set of local HTML and text files, without the network
    Prep(PrepArgs),
    /// Run the whole job on 260 real pages that the program carries and serves on the loopback address
    Demo(DemoArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The plan, a TOML file
    pub(super) plan: PathBuf,
    /// Write to this folder instead of the plan's
    #[arg(short, long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The plan, a TOML file
    pub(super) plan: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct FetchArgs {
    /// URLs; `-` reads them from the standard input
    #[arg(required_unless_present = "list", value_name = "URLS")]
    pub(super) urls: Vec<String>,
    /// A file with one URL a line
    #[arg(short = 'i', long, value_name = "FILE", conflicts_with = "urls")]
    pub(super) list: Option<PathBuf>,
    /// The folder for pages and table
    #[arg(short, long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Requests in flight, instead of adapting to the servers
    #[arg(long, value_name = "N")]
    pub(super) concurrency: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct PrepArgs {
    /// Files, folders or patterns such as 'pages/**/*.html'
    #[arg(required = true, value_name = "FILES")]
    pub(super) files: Vec<String>,
    /// The folder for the data set
    #[arg(short, long, value_name = "OUT")]
    pub(super) out: PathBuf,
    /// The format of the shards
    #[arg(long, value_enum, default_value_t = FormatArg::Parquet)]
    pub(super) format: FormatArg,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// The folder for plan, list and data set
    #[arg(short, long, value_name = "DIR", default_value = "tricorne-demo")]
    pub(super) out: PathBuf,
    /// Keep serving the pages afterwards, for `tricorne run DIR/plan.toml`, until Ctrl-C
    #[arg(long)]
    pub(super) serve: bool,
    /// Serve on this port instead of a free one
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct CommonArgs {
    /// Threads for text work, instead of one per core
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<NonZeroUsize>,
    /// Run the records again that failed
    #[arg(long)]
    pub(super) retry_failed: bool,
    /// Run fetch, text and sink one after the other, to measure each alone
    #[arg(long)]
    pub(super) serial: bool,
    /// How to show progress, on stderr [default: bar on a terminal, plain elsewhere]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) progress: Option<ProgressArg>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Log to stderr: -v what happens, -vv each failed record, -vvv everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressArg {
    /// Live bars
    Bar,
    /// A line every few seconds
    Plain,
    /// A JSON object a line
    Json,
    /// Nothing
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// Apache Parquet
    Parquet,
    /// One JSON object a line
    Jsonl,
    /// One JSON object a line, compressed with zstd
    #[value(name = "jsonl.zst")]
    JsonlZst,
}

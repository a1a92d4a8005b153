//! What a run does, as data: the plan, read from TOML or built in code, checked before anything starts.
//!
//! [`Plan::load`] reads a plan file and reports every mistake in it with line, column and a way out;
//! [`Plan::for_fetch`] and [`Plan::for_prep`] build the plans behind the command's shortcuts. A plan says what
//! rows will hold ([`Plan::columns`]), what identifies the data it makes ([`Plan::shape`], [`Plan::hash`]) and
//! can be printed with every default filled in ([`Plan::to_toml`]).
//!
//! ```
//! use std::path::Path;
//! use tricorne_pipeline::plan::Plan;
//!
//! let text = r#"
//!     [source]
//!     urls = ["https://example.org/"]
//!     [[stage]]
//!     use = "extract"
//!     [[stage]]
//!     use = "filter"
//!     where = "status == 200 and language = 'en'"
//!     [sink]
//!     path = "out"
//! "#;
//! let errors = Plan::parse(text, Path::new("plan.toml"), Path::new("")).unwrap_err();
//! assert_eq!((errors.errors()[0].line, errors.errors()[0].message.as_str()), (8, "`=` is not an operator"));
//! ```

mod build;
mod bytes;
mod columns;
mod diff;
mod error;
mod headers;
mod parse;
mod print;
mod rate;
mod reader;
mod shape;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

pub use bytes::parse_bytes;
pub(crate) use columns::of_the_sink;
pub use diff::diff;
pub use error::{PlanError, PlanErrorKind, PlanErrors};
pub use shape::DATA_VERSION;
pub use tricorne_http::PrivateAddresses;

use tricorne_exec::limit::Rate;

use crate::expr::Expr;
use crate::sink::Column;

/// A checked plan: where records come from, what happens to them, where rows go.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The plan file, as messages name it; a name in angle brackets for a plan built in code.
    pub path: PathBuf,
    /// The folder that the plan file's relative paths start from; [`Plan::to_toml`] writes paths relative to it.
    pub base_dir: PathBuf,
    /// Where records come from.
    pub source: Source,
    /// How pages are downloaded; `Some` exactly when the source has URLs.
    pub fetch: Option<Fetch>,
    /// What happens to each record, in order; none means download only.
    pub stages: Vec<Stage>,
    /// Where rows go.
    pub sink: Sink,
    /// How the machine is used.
    pub run: Run,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A text file with one URL per line.
    Urls {
        /// The list.
        path: InputPath,
    },
    /// URLs written in the plan or on the command line.
    UrlList(Vec<String>),
    /// A file with one JSON object per line that holds a URL; the other keys are passed through as `extra`.
    Jsonl {
        /// The list.
        path: InputPath,
        /// The key of the URL.
        url_key: String,
    },
    /// A CSV file whose first row names the columns, one of which holds a URL; the others are passed through as `extra`,
    /// each as text.
    Csv {
        /// The list.
        path: InputPath,
        /// The column of the URL.
        url_column: String,
        /// The byte between two fields.
        delimiter: u8,
    },
    /// A Parquet file with a text column that holds a URL; the other columns are passed through as `extra`.
    Parquet {
        /// The list.
        path: PathBuf,
        /// The column of the URL.
        url_column: String,
    },
    /// Local HTML and text files.
    Files {
        /// Globs as written in the plan; relative ones start from [`Plan::base_dir`].
        patterns: Vec<String>,
    },
}

impl Source {
    /// Whether records have to be downloaded.
    #[must_use]
    pub fn has_urls(&self) -> bool {
        !matches!(self, Source::Files { .. })
    }

    /// Whether records have more than a URL, which goes to the column `extra`.
    pub(crate) fn has_extra(&self) -> bool {
        matches!(self, Source::Jsonl { .. } | Source::Csv { .. } | Source::Parquet { .. })
    }
}

/// A list to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputPath {
    /// The standard input, written `-`.
    Stdin,
    /// A file, with the plan's folder already in front of a relative path.
    File(PathBuf),
}

/// A number of things at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// Found while running, from what the machine and the servers bear; written `"auto"`.
    #[default]
    Auto,
    /// Always this many.
    Fixed(NonZeroUsize),
}

/// How pages are downloaded. Time spent waiting in our own queues counts towards no time-out.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// Requests in flight, to all hosts together. Default: auto, which adapts to what the servers answer.
    pub concurrency: Limit,
    /// Requests in flight to one host. Default: auto.
    pub per_host: Limit,
    /// Requests in a time to one host, evenly spread; written like `"10/s"`. Default: no limit.
    pub rate_per_host: Option<Rate>,
    /// Time to make a connection, TLS included. Default: 10 s.
    pub connect_secs: f64,
    /// Time from the request to the first byte of the answer. Default: 15 s.
    pub first_byte_secs: f64,
    /// Time without any progress within a body. Default: 15 s.
    pub stall_secs: f64,
    /// Network time of one record, over all its attempts. Default: 60 s.
    pub timeout_secs: f64,
    /// Attempts after the first, for one record. Default: 5.
    pub retries: u32,
    /// Delay before the first retry, before jitter; doubles from retry to retry. Default: 0.5 s.
    pub retry_base_secs: f64,
    /// Longest delay that doubling leads to. Default: 30 s.
    pub retry_max_secs: f64,
    /// Longest wait that a server's `Retry-After` is obeyed for. Default: 120 s.
    pub retry_after_max_secs: f64,
    /// Redirects followed for one record. Default: 10.
    pub max_redirects: u32,
    /// Largest body as sent. Default: 16 MiB.
    pub max_body_bytes: u64,
    /// Largest body after decompression. Default: 64 MiB.
    pub max_decoded_bytes: u64,
    /// The `User-Agent` header. Default: `tricorne/` and the version.
    pub user_agent: String,
    /// Further headers of every request, by lower-case name. Default: none.
    pub headers: BTreeMap<String, String>,
    /// Which records may reach addresses outside the public internet; changes which records fail, not what a row holds.
    /// Default: those that the list itself leads there, not those that a public address redirects there.
    pub private_addresses: PrivateAddresses,
    /// A PEM file with certificate authorities to trust besides the system's. Default: none.
    pub ca_file: Option<PathBuf>,
}

impl Default for Fetch {
    fn default() -> Self {
        Fetch {
            concurrency: Limit::Auto,
            per_host: Limit::Auto,
            rate_per_host: None,
            connect_secs: 10.0,
            first_byte_secs: 15.0,
            stall_secs: 15.0,
            timeout_secs: 60.0,
            retries: 5,
            retry_base_secs: 0.5,
            retry_max_secs: 30.0,
            retry_after_max_secs: 120.0,
            max_redirects: 10,
            max_body_bytes: 16 << 20,
            max_decoded_bytes: 64 << 20,
            user_agent: concat!("tricorne/", env!("CARGO_PKG_VERSION")).into(),
            headers: BTreeMap::new(),
            private_addresses: PrivateAddresses::Listed,
            ca_file: None,
        }
    }
}

/// One step of the work on a record.
///
/// Their order in a plan is fixed: extract, clean, features, filter, dedup. Bytes are decoded to text before
/// the first of extract, clean and features.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// From a page to its main text and title.
    Extract,
    /// Normal form, control characters and white space of the text.
    Clean,
    /// Measures of the text, each a column.
    Features {
        /// Which, in the order of their columns; at least one, none twice. Default: all.
        columns: Vec<Feature>,
    },
    /// Drops rows for which a condition is not true.
    Filter {
        /// The condition as written.
        source: String,
        /// The condition; its column indices are those of [`Plan::columns`].
        expr: Expr,
    },
    /// Drops rows that repeat an earlier one.
    Dedup {
        /// What makes two rows the same. Default: the text if the plan makes text, else the body.
        by: DedupKey,
    },
}

impl Stage {
    /// The names of all stages, in the order that plans have them.
    pub const NAMES: [&'static str; 5] = ["extract", "clean", "features", "filter", "dedup"];

    /// The name in plans and reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.rank()]
    }

    /// The place in the fixed order of stages.
    fn rank(&self) -> usize {
        match self {
            Stage::Extract => 0,
            Stage::Clean => 1,
            Stage::Features { .. } => 2,
            Stage::Filter { .. } => 3,
            Stage::Dedup { .. } => 4,
        }
    }

    /// Whether the stage works on text, so that records are decoded before it.
    #[must_use]
    pub fn makes_text(&self) -> bool {
        matches!(self, Stage::Extract | Stage::Clean | Stage::Features { .. })
    }
}

/// A measure of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Words, as Python's `len(text.lower().split())`.
    WordCount,
    /// Different words, as Python's `len(set(text.lower().split()))`.
    UniqueWords,
    /// Mean length of a word, in characters.
    AvgWordLen,
    /// Length of the text, in characters.
    CharCount,
    /// The language as an ISO 639-1 code; null where it cannot be told.
    Language,
}

impl Feature {
    /// All features, in the order of the default columns.
    pub const ALL: [Feature; 5] = [
        Feature::WordCount,
        Feature::UniqueWords,
        Feature::AvgWordLen,
        Feature::CharCount,
        Feature::Language,
    ];

    /// The name of its column.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Feature::WordCount => "word_count",
            Feature::UniqueWords => "unique_words",
            Feature::AvgWordLen => "avg_word_len",
            Feature::CharCount => "char_count",
            Feature::Language => "language",
        }
    }
}

/// What makes two rows the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupKey {
    /// The text after all text stages.
    Text,
    /// The body as received, by its SHA-256.
    Sha256,
}

impl DedupKey {
    /// The word in plans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DedupKey::Text => "text",
            DedupKey::Sha256 => "sha256",
        }
    }
}

/// The file format of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Apache Parquet, compressed with zstd.
    #[default]
    Parquet,
    /// One JSON object per line.
    Jsonl,
    /// The same, compressed with zstd.
    JsonlZst,
}

impl Format {
    /// Whether shards are compressed.
    pub(crate) fn is_compressed(self) -> bool {
        self != Format::Jsonl
    }

    /// The word in plans, also the extension of shard files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Jsonl => "jsonl",
            Format::JsonlZst => "jsonl.zst",
        }
    }
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// The output folder.
    pub path: PathBuf,
    /// The format of shards. Default: Parquet.
    pub format: Format,
    /// How many input records make a shard. Default: 10,000.
    pub records_per_shard: u64,
    /// The zstd level, 1 (fast) to 22 (small); unused by plain JSONL. Default: 2.
    pub compression_level: i32,
    /// Rows in one row group of Parquet; unused by JSONL. Default: 2,000, some 10 MB of page text.
    pub row_group_rows: u64,
    /// Keep every page that is received as a file below `pages/`, named after its content; the column `file` of its row
    /// names it. Default: no.
    pub keep_pages: bool,
    /// The columns that are written, in this order, `id` among them; `None` for all of [`Plan::columns`], the default. A
    /// text that is not written is let go of as soon as it has been measured, filtered and compared.
    pub columns: Option<Vec<Column>>,
}

impl Sink {
    /// A sink with default settings.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Sink {
            path: path.into(),
            format: Format::Parquet,
            records_per_shard: 10_000,
            compression_level: 2,
            row_group_rows: 2_000,
            keep_pages: false,
            columns: None,
        }
    }
}

/// How the machine is used. Nothing here changes the rows of a run that succeeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Threads for text work. Default: auto, one per core.
    pub workers: Limit,
    /// After this long without progress, the record or stage that makes none is named. Default: 60 s.
    pub watchdog_secs: f64,
}

impl Default for Run {
    fn default() -> Self {
        Run { workers: Limit::Auto, watchdog_secs: 60.0 }
    }
}

impl Plan {
    /// Reads and checks a plan file. Its relative paths start from its own folder.
    ///
    /// # Errors
    /// Everything that is wrong with the plan, or that the file cannot be read.
    pub fn load(path: &Path) -> Result<Plan, PlanErrors> {
        let text = parse::read(path)?;
        Plan::parse(&text, path, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks the text of a plan. `path` is named in messages; relative paths start from `base_dir`, where
    /// the lists that the plan names must exist.
    ///
    /// # Errors
    /// Everything that is wrong with the plan, by rising line and column.
    pub fn parse(text: &str, path: &Path, base_dir: &Path) -> Result<Plan, PlanErrors> {
        parse::parse(text, path, base_dir)
    }

    /// Whether rows have text: any of the extract, clean and features stages is there.
    #[must_use]
    pub fn makes_text(&self) -> bool {
        self.stages.iter().any(Stage::makes_text)
    }
}

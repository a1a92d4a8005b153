//! Sources: lists of URLs (text, JSON lines, CSV or Parquet, from a file or the standard input), URLs given
//! directly, and local files by pattern; all but Parquet also compressed with gzip or zstd.
//!
//! A source gives the same records in the same order at every run and holds only what is next in memory.
//! An entry that is no record (not UTF-8, not JSON, no URL) still has its id, so that it is reported.

mod ahead;
mod csv_table;
mod files;
mod lines;
mod parquet_table;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use tricorne_sync::CancelToken;

pub(crate) use files::LocalFiles;

use crate::error::RunError;
use crate::plan::{InputPath, Plan, Source as SourcePlan};
use crate::record::{Failure, Input, Record};
use crate::runner::Source;

/// A longer entry of a list is no record; it is never held.
const MAX_ENTRY_BYTES: u64 = 1 << 20;
/// Bytes of an error message's excerpt of an entry.
const EXCERPT: usize = 80;

/// Opens the source of a plan. Cancelling ends a wait for the standard input.
pub(crate) fn open(plan: &Plan, cancel: &CancelToken) -> Result<Box<dyn Source>, RunError> {
    let list =
        |path: &InputPath, of: &dyn Fn(Entries) -> Box<dyn Source>| -> Result<Box<dyn Source>, RunError> {
            Ok(match path {
                InputPath::Stdin => {
                    let source = of(Entries::of("-".into(), BufReader::new(io::stdin())));
                    Box::new(ahead::ReadAhead::start(source, cancel))
                }
                InputPath::File(path) => {
                    let file = File::open(path).map_err(RunError::io("open", path))?;
                    of(Entries::of(path.display().to_string(), BufReader::with_capacity(1 << 17, file)))
                }
            })
        };
    match &plan.source {
        SourcePlan::Urls { path } => list(path, &|entries| Box::new(lines::Lines::urls(entries))),
        SourcePlan::Jsonl { path, url_key } => {
            list(path, &|entries| Box::new(lines::Lines::json(entries, url_key)))
        }
        SourcePlan::Csv { path, url_column, delimiter } => {
            list(path, &|entries| Box::new(csv_table::CsvTable::new(entries, url_column, *delimiter)))
        }
        SourcePlan::Parquet { path, url_column } => {
            Ok(Box::new(parquet_table::ParquetTable::open(path, url_column)?))
        }
        SourcePlan::UrlList(urls) => Ok(Box::new(Given { urls: urls.clone(), next: 0 })),
        SourcePlan::Files { patterns } => Ok(Box::new(files::Globs::new(patterns, &plan.base_dir)?)),
    }
}

/// A list that is being read: its content without compression, and the ids that its entries get.
struct Entries {
    name: String,
    content: Box<dyn BufRead + Send>,
    next_id: u64,
}

impl Entries {
    fn of(name: String, content: impl BufRead + Send + 'static) -> Self {
        Entries { name, content: Box::new(unpack::Unpack::new(content)), next_id: 0 }
    }

    fn good(&mut self, url: String, extra: Option<String>) -> Input {
        self.next_id += 1;
        Input { record: Record { id: self.next_id - 1, url, extra }, problem: None }
    }

    /// An entry that is no record. `place` says where it stands: `line 7`.
    fn broken(&mut self, text: &str, kind: &str, place: &str, what: &str) -> Input {
        let mut input = self.good(text.chars().take(EXCERPT).collect(), None);
        input.problem = Some(Failure {
            stage: "source".into(),
            kind: kind.into(),
            message: format!("{place} of `{}` {what}", self.name),
            attempts: 0,
        });
        input
    }

    /// Reading failed after this many lines.
    fn not_read(&self, lines: u64, error: &io::Error) -> RunError {
        let place = if lines == 0 { String::new() } else { format!("after line {lines}: ") };
        let damaged = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData);
        let hint = damaged.then(|| "see whether the file was copied whole, and is not being written".into());
        self.unreadable(format!("{place}{error}"), hint)
    }

    fn unreadable(&self, message: impl Into<String>, hint: Option<String>) -> RunError {
        RunError::Input { input: self.name.clone(), message: message.into(), hint }
    }
}

struct Given {
    urls: Vec<String>,
    next: usize,
}

impl Source for Given {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        let Some(url) = self.urls.get(self.next) else { return Ok(None) };
        let record = Record { id: self.next as u64, url: url.trim().to_owned(), extra: None };
        self.next += 1;
        Ok(Some(Input { record, problem: None }))
    }

    fn name(&self) -> String {
        "the given URLs".into()
    }
}

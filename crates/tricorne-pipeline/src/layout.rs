//! Where things are in an output folder, and the small files that say what is finished.
//!
//! ```text
//! OUT/shard-00000.parquet …      the data set
//! OUT/manifest.json              the shards with rows and sha256; written last
//! OUT/failed.jsonl               one line per record that failed
//! OUT/run.json                   what the last run did and how long it took
//! OUT/.tricorne/plan.json        what shapes the data: the folder belongs to this plan
//! OUT/.tricorne/lock             held while a run uses the folder
//! OUT/.tricorne/journal/00000    the journal of an open shard
//! OUT/.tricorne/shards/00000.json            the commit record: its generation is the one that counts
//! OUT/.tricorne/shards/00000.g1.{rows,keys,failed}   rows before dedup, their hashes, the failures
//! OUT/.tricorne/shards/00000.published.json  what stands in OUT for this shard
//! ```
//!
//! A commit writes the files of a new generation beside the old ones and then replaces the commit
//! record: the one atomic step. Whatever the record does not name is left over from a kill.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::files::{Files, write_atomically};
use crate::plan::Format;

/// The paths of an output folder.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    out: PathBuf,
    format: Format,
}

impl Layout {
    pub(crate) fn new(out: &Path, format: Format) -> Self {
        Layout { out: out.to_path_buf(), format }
    }

    pub(crate) fn out(&self) -> &Path {
        &self.out
    }
    pub(crate) fn work(&self) -> PathBuf {
        self.out.join(".tricorne")
    }
    pub(crate) fn plan(&self) -> PathBuf {
        self.work().join("plan.json")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.work().join("lock")
    }
    pub(crate) fn journals(&self) -> PathBuf {
        self.work().join("journal")
    }
    pub(crate) fn shards(&self) -> PathBuf {
        self.work().join("shards")
    }
    pub(crate) fn journal(&self, shard: u64) -> PathBuf {
        self.journals().join(format!("{shard:05}"))
    }
    pub(crate) fn record(&self, shard: u64) -> PathBuf {
        self.shards().join(format!("{shard:05}.json"))
    }
    pub(crate) fn published_record(&self, shard: u64) -> PathBuf {
        self.shards().join(format!("{shard:05}.published.json"))
    }
    pub(crate) fn staged(&self, shard: u64, generation: u32, part: Part) -> PathBuf {
        self.shards().join(format!("{shard:05}.g{generation}.{}", part.name()))
    }
    pub(crate) fn published_name(&self, shard: u64) -> String {
        format!("shard-{shard:05}.{}", self.format.as_str())
    }
    pub(crate) fn published(&self, shard: u64) -> PathBuf {
        self.out.join(self.published_name(shard))
    }
    pub(crate) fn manifest(&self) -> PathBuf {
        self.out.join("manifest.json")
    }
    pub(crate) fn failed(&self) -> PathBuf {
        self.out.join("failed.jsonl")
    }
    pub(crate) fn run_report(&self) -> PathBuf {
        self.out.join("run.json")
    }

    /// True for a file name that only a run of ours writes into the output folder.
    pub(crate) fn is_result(name: &str) -> bool {
        name == "manifest.json"
            || name == "failed.jsonl"
            || (name.starts_with("shard-") && name.contains('.'))
    }
}

/// The files of one generation of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The rows: the shard file, or, if the plan removes duplicates, the rows before that as they are.
    Rows,
    /// A hash for each row ([`Key`]); only if the plan removes duplicates.
    Keys,
    /// One JSON line per failed record.
    Failed,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Rows => "rows",
            Part::Keys => "keys",
            Part::Failed => "failed",
        }
    }
}

/// What is known of a committed shard, before dedup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitRecord {
    /// Counts the commits of this shard: 1, and one more for each retry of its failed records.
    pub(crate) generation: u32,
    /// Records of the input that belong to it.
    pub(crate) records: u64,
    /// Hash of those records.
    pub(crate) input: String,
    /// Rows, before dedup. The file of rows has fewer if a retry started from rows that dedup had already thinned.
    pub(crate) rows: u64,
    /// Bytes of the file of rows.
    pub(crate) bytes: u64,
    /// SHA-256 of the file of rows, if it is the shard file.
    pub(crate) sha256: Option<String>,
    /// Drops by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Records that failed.
    pub(crate) failed: u64,
}

/// What stands in the output folder for a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedRecord {
    pub(crate) generation: u32,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// One line of `failed.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedLine {
    pub(crate) id: u64,
    pub(crate) url: String,
    pub(crate) stage: String,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) attempts: u32,
}

/// The hash of a row for exact dedup: 128 bits of a SHA-256, and the row's index in its shard.
/// 20 bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) hash: [u8; 16],
    pub(crate) index: u32,
}

impl Key {
    pub(crate) const LEN: usize = 20;

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&self.index.to_le_bytes());
    }

    pub(crate) fn read_all(bytes: &[u8]) -> impl Iterator<Item = Key> + '_ {
        bytes.chunks_exact(Key::LEN).map(|chunk| {
            let (hash, index) = chunk.split_at(16);
            Key {
                hash: hash.try_into().expect("split at 16"),
                index: u32::from_le_bytes(index.try_into().expect("20 bytes less 16")),
            }
        })
    }
}

/// Reads a JSON file of ours; `None` if there is none.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    files: &dyn Files,
    path: &Path,
) -> Result<Option<T>, RunError> {
    let Some(bytes) = files.read(path).map_err(RunError::io("read", path))? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| RunError::Damaged { path: path.to_path_buf(), message: error.to_string() })
}

/// Replaces a JSON file of ours atomically.
pub(crate) fn write_json<T: Serialize>(files: &dyn Files, path: &Path, value: &T) -> Result<(), RunError> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("our own records have a JSON form");
    bytes.push(b'\n');
    write_atomically(files, path, &bytes).map_err(RunError::io("write", path))
}

/// Reads the keys of a shard's generation.
pub(crate) fn read_keys(files: &dyn Files, path: &Path) -> Result<Vec<u8>, RunError> {
    let bytes = files.read(path).map_err(RunError::io("read", path))?;
    bytes.filter(|bytes| bytes.len() % Key::LEN == 0).ok_or_else(|| RunError::Damaged {
        path: path.to_path_buf(),
        message: "it is missing or its length is not a number of keys".into(),
    })
}

/// Reads the failures of a shard's generation.
pub(crate) fn read_failed(files: &dyn Files, path: &Path) -> Result<Vec<FailedLine>, RunError> {
    let bytes = files.read(path).map_err(RunError::io("read", path))?.unwrap_or_default();
    bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|error| RunError::Damaged { path: path.to_path_buf(), message: error.to_string() })
}

/// Reads the record of every committed shard, by shard number, and removes what a kill left beside them.
pub(crate) fn read_commits(
    files: &dyn Files,
    layout: &Layout,
) -> Result<BTreeMap<u64, CommitRecord>, RunError> {
    let dir = layout.shards();
    let names = files.list(&dir).map_err(RunError::io("list", &dir))?;
    let mut commits = BTreeMap::new();
    for name in &names {
        if let Some(shard) = name.strip_suffix(".json").and_then(|stem| stem.parse().ok()) {
            let path = layout.record(shard);
            if let Some(record) = read_json::<CommitRecord>(files, &path)? {
                commits.insert(shard, record);
            }
        }
    }
    for name in &names {
        if is_left_over(name, &commits) {
            let path = dir.join(name);
            files.remove(&path).map_err(RunError::io("remove", &path))?;
        }
    }
    Ok(commits)
}

/// True for `00000.g2.rows` unless the shard's record says generation 2, and for temporary files.
fn is_left_over(name: &str, commits: &BTreeMap<u64, CommitRecord>) -> bool {
    if name.ends_with(".tmp") {
        return true;
    }
    let mut parts = name.split('.');
    let (Some(shard), Some(generation)) = (parts.next(), parts.next()) else { return false };
    let Some(generation) = generation.strip_prefix('g').and_then(|n| n.parse::<u32>().ok()) else {
        return false;
    };
    let Ok(shard) = shard.parse::<u64>() else { return false };
    commits.get(&shard).is_none_or(|record| record.generation != generation)
}

//! The finishing pass: from committed shards to the data set in the output folder.
//!
//! Without dedup, publishing a shard is renaming its file. With dedup the pass first finds, over the
//! keys of *all* committed shards, the rows that lose to an equal row with a smaller id; shards that
//! lose nothing are renamed, the others rewritten without their losers. Losers are computed from the keys
//! alone, so the pass can be killed anywhere and run again, and a row that a retry brings back later
//! gives the bytes of one calm run.
//!
//! Memory: 24 bytes for each of at most a million keys at a time (a sixteenth of all keys from 16 million
//! rows on), and one bit per record of the input.

use std::collections::BTreeMap;

use crate::error::RunError;
use crate::files::{Files, publish as rename_durably, temporary_name, write_atomically};
use crate::layout::{CommitRecord, Key, Layout, Part, PublishedRecord, read_json, read_keys, write_json};
use crate::plan::DedupKey;
use crate::sink::{SinkSpec, hex};

/// Keys that are held in memory at once, at the least.
const KEYS_AT_ONCE: u64 = 1 << 20;
/// How often the keys are read, at the most.
const PASSES: u64 = 16;

/// The rows that lose to an equal row with a smaller id: one bit per record.
#[derive(Debug, Default)]
pub(crate) struct Losers {
    bits: BTreeMap<u64, Vec<u64>>,
}

impl Losers {
    fn add(&mut self, shard: u64, index: u32) {
        let words = self.bits.entry(shard).or_default();
        let word = index as usize / 64;
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (index % 64);
    }

    pub(crate) fn contains(&self, shard: u64, index: u64) -> bool {
        let word = usize::try_from(index / 64).unwrap_or(usize::MAX);
        self.bits
            .get(&shard)
            .and_then(|words| words.get(word))
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub(crate) fn count(&self, shard: u64) -> u64 {
        self.bits.get(&shard).map_or(0, |words| words.iter().map(|word| u64::from(word.count_ones())).sum())
    }
}

/// Finds the losers over all committed shards. The first id wins.
pub(crate) fn find_losers(
    files: &dyn Files,
    layout: &Layout,
    commits: &BTreeMap<u64, CommitRecord>,
) -> Result<Losers, RunError> {
    let total: u64 = commits.values().map(|record| record.rows).sum();
    find_losers_in(files, layout, commits, total.div_ceil(KEYS_AT_ONCE).clamp(1, PASSES))
}

fn find_losers_in(
    files: &dyn Files,
    layout: &Layout,
    commits: &BTreeMap<u64, CommitRecord>,
    passes: u64,
) -> Result<Losers, RunError> {
    let mut losers = Losers::default();
    let mut keys: Vec<([u8; 16], u32, u32)> = Vec::new();
    for pass in 0..passes {
        keys.clear();
        for (&shard, record) in commits {
            let bytes = read_keys(files, &layout.staged(shard, record.generation, Part::Keys))?;
            let shard = u32::try_from(shard).map_err(|_| RunError::Damaged {
                path: layout.shards(),
                message: "more than 4,294,967,295 shards".into(),
            })?;
            let mine = Key::read_all(&bytes).filter(|key| u64::from(key.hash[0]) * passes / 256 == pass);
            keys.extend(mine.map(|key| (key.hash, shard, key.index)));
        }
        keys.sort_unstable();
        for pair in keys.windows(2) {
            if pair[0].0 == pair[1].0 {
                losers.add(u64::from(pair[1].1), pair[1].2);
            }
        }
    }
    Ok(losers)
}

/// Brings one shard into the output folder, without its losers. Does nothing if it stands there already.
pub(crate) fn publish_shard(
    files: &dyn Files,
    layout: &Layout,
    sink: &SinkSpec,
    records_per_shard: u64,
    (shard, record): (u64, &CommitRecord),
    losers: &Losers,
) -> Result<PublishedRecord, RunError> {
    let staged = layout.staged(shard, record.generation, Part::Rows);
    let published = layout.published(shard);
    let marker_path = layout.published_record(shard);
    let marker =
        read_json::<PublishedRecord>(files, &marker_path)?.filter(|m| m.generation == record.generation);
    let expected = record.rows - losers.count(shard);

    let is_staged = files.exists(&staged).map_err(RunError::io("look for", &staged))?;
    let mut now = marker.clone().unwrap_or(PublishedRecord {
        generation: record.generation,
        rows: record.staged_rows,
        bytes: record.bytes,
        sha256: record.sha256.clone(),
    });
    if is_staged {
        // Not published yet, or killed before the staged file was removed: the marker may be about a
        // file that is no longer there.
        now.rows = record.staged_rows;
        if now.rows == expected {
            now.bytes = record.bytes;
            now.sha256.clone_from(&record.sha256);
            rename_durably(files, &staged, &published).map_err(RunError::io("rename", &staged))?;
        }
    }
    if now.rows != expected {
        let base = if is_staged { &staged } else { &published };
        let temporary = temporary_name(&published);
        let mut writer = sink.create(files, &temporary)?;
        for row in sink.read(files, base)? {
            let row = row?;
            if !losers.contains(shard, row.id - shard * records_per_shard) {
                writer.write(&row)?;
            }
        }
        let written = writer.finish()?;
        if written.rows != expected {
            return Err(RunError::Damaged {
                path: base.clone(),
                message: format!("{} rows were expected after dedup, {} are there", expected, written.rows),
            });
        }
        rename_durably(files, &temporary, &published).map_err(RunError::io("rename", &temporary))?;
        now.rows = written.rows;
        now.bytes = written.bytes;
        now.sha256 = hex(&written.sha256);
    }
    if marker.as_ref() != Some(&now) {
        write_json(files, &marker_path, &now)?;
    }
    if is_staged {
        files.remove(&staged).map_err(RunError::io("remove", &staged))?;
    }
    Ok(now)
}

/// Finds what dedup removes; nothing if the plan has none.
pub(crate) fn losers_of(
    files: &dyn Files,
    layout: &Layout,
    dedup: Option<DedupKey>,
    commits: &BTreeMap<u64, CommitRecord>,
) -> Result<Losers, RunError> {
    dedup.map_or_else(|| Ok(Losers::default()), |_| find_losers(files, layout, commits))
}

/// Writes `failed.jsonl` from the failures of all committed shards; removes it if there are none.
pub(crate) fn publish_failed(
    files: &dyn Files,
    layout: &Layout,
    commits: &BTreeMap<u64, CommitRecord>,
) -> Result<(), RunError> {
    let path = layout.failed();
    if commits.values().all(|record| record.failed == 0) {
        return files.remove(&path).map_err(RunError::io("remove", &path));
    }
    let temporary = temporary_name(&path);
    let write = || {
        let file = files.create(&temporary)?;
        for (&shard, record) in commits.iter().filter(|(_, record)| record.failed > 0) {
            let lines =
                files.read(&layout.staged(shard, record.generation, Part::Failed))?.unwrap_or_default();
            file.append(&[&lines])?;
        }
        file.sync()?;
        rename_durably(files, &temporary, &path)
    };
    write().map_err(RunError::io("write", &path))
}

/// Writes `manifest.json`: the last step, which says that the data set is complete.
pub(crate) fn publish_manifest(
    files: &dyn Files,
    layout: &Layout,
    manifest: &serde_json::Value,
) -> Result<(), RunError> {
    // A shard may have been renamed by a run that was killed before it could make the name durable.
    files.sync_dir(layout.out()).map_err(RunError::io("sync", layout.out()))?;
    let path = layout.manifest();
    let mut bytes = serde_json::to_vec_pretty(manifest).expect("a manifest has a JSON form");
    bytes.push(b'\n');
    write_atomically(files, &path, &bytes).map_err(RunError::io("write", &path))
}

//! The finishing pass: from committed shards to the data set in the output folder.
//!
//! Without dedup, publishing a shard is renaming its file. With dedup the pass first finds, over the
//! keys of *all* committed shards, the rows that lose to an equal row with a smaller id, and then writes each shard from
//! its staged rows, without its losers. Losers are computed from the keys alone, so the pass can be killed anywhere and
//! run again, and a row that a retry brings back later gives the bytes of one calm run.
//!
//! Memory: 24 bytes for each of at most a million keys at a time (a sixteenth of all keys from 16 million
//! rows on), and one bit per record of the input.

use std::collections::BTreeMap;

use crate::error::RunError;
use crate::files::{Files, publish as rename_durably, temporary_name, write_atomically};
use crate::layout::{CommitRecord, Key, Layout, Part, PublishedRecord, read_json, read_keys, write_json};
use crate::sink::{SinkSpec, hex};

/// Keys that a run holds in memory at once, at the least: 24 MiB of them.
pub(crate) const KEYS_AT_ONCE: u64 = 1 << 20;
/// How often the keys are read, at the most.
const MAX_PASSES: u64 = 16;

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

/// Finds the losers over all committed shards. The first id wins. Holds about `keys_at_once` keys in memory, or, if that
/// takes more than sixteen passes, a sixteenth of all.
pub(crate) fn find_losers(
    files: &dyn Files,
    layout: &Layout,
    commits: &BTreeMap<u64, CommitRecord>,
    keys_at_once: u64,
) -> Result<Losers, RunError> {
    let total: u64 = commits.values().map(|record| record.rows).sum();
    let passes = total.div_ceil(keys_at_once).clamp(1, MAX_PASSES);
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

/// Brings one shard into the output folder; with dedup, without its losers. Does nothing if it stands there already.
pub(crate) fn publish_shard(
    files: &dyn Files,
    layout: &Layout,
    sink: &SinkSpec,
    records_per_shard: u64,
    (shard, record): (u64, &CommitRecord),
    losers: Option<&Losers>,
) -> Result<PublishedRecord, RunError> {
    let staged = layout.staged(shard, record.generation, Part::Rows);
    let published = layout.published(shard);
    let marker_path = layout.published_record(shard);
    let marker =
        read_json::<PublishedRecord>(files, &marker_path)?.filter(|m| m.generation == record.generation);
    let is_staged = files.exists(&staged).map_err(RunError::io("look for", &staged))?;

    let now = match (losers, marker.clone()) {
        // Without dedup the staged file is the shard. It is gone if a kill came between the renaming and the marker.
        (None, _) => {
            if is_staged {
                retract_manifest(files, layout)?;
                rename_durably(files, &staged, &published).map_err(RunError::io("rename", &staged))?;
            }
            PublishedRecord {
                generation: record.generation,
                rows: record.rows,
                bytes: record.bytes,
                sha256: record.sha256.clone().ok_or_else(|| RunError::Damaged {
                    path: layout.record(shard),
                    message: "it has no SHA-256 of the shard".into(),
                })?,
            }
        }
        (Some(losers), Some(marker)) if !is_staged && marker.rows == record.rows - losers.count(shard) => {
            marker
        }
        (Some(losers), _) => {
            let rows = match is_staged {
                true => sink.read_staged(files, &staged, true)?,
                // A retry of another shard has brought an earlier row back, so this one loses more than before.
                false => sink.read(files, &published)?,
            };
            let first_id = shard * records_per_shard;
            let temporary = temporary_name(&published);
            let mut writer = sink.create(files, &temporary)?;
            for row in rows {
                let row = row?;
                if !losers.contains(shard, row.id - first_id) {
                    writer.write(&row)?;
                }
            }
            let written = writer.finish()?;
            let expected = record.rows - losers.count(shard);
            if written.rows != expected {
                return Err(RunError::Damaged {
                    path: if is_staged { staged } else { published },
                    message: format!("{expected} rows were expected after dedup, {} are there", written.rows),
                });
            }
            retract_manifest(files, layout)?;
            rename_durably(files, &temporary, &published).map_err(RunError::io("rename", &temporary))?;
            PublishedRecord {
                generation: record.generation,
                rows: written.rows,
                bytes: written.bytes,
                sha256: written.sha256.as_ref().map(hex).unwrap_or_default(),
            }
        }
    };
    if marker.as_ref() != Some(&now) {
        write_json(files, &marker_path, &now)?;
    }
    if is_staged {
        files.remove(&staged).map_err(RunError::io("remove", &staged))?;
    }
    Ok(now)
}

/// Removes the manifest of an earlier run before the first shard of which it would no longer be true is replaced: whoever
/// finds a manifest finds the data set that it describes, also after a power cut.
fn retract_manifest(files: &dyn Files, layout: &Layout) -> Result<(), RunError> {
    let path = layout.manifest();
    let remove = || {
        if files.exists(&path)? {
            files.remove(&path)?;
            files.sync_dir(layout.out())?;
        }
        Ok(())
    };
    remove().map_err(RunError::io("remove", &path))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::OsFiles;
    use crate::plan::Format;
    use std::collections::HashSet;

    /// Keys of some shards with many duplicates, written as commits would, and who loses by the plain rule.
    fn shards(
        dir: &std::path::Path,
        shard_count: u64,
    ) -> (Layout, BTreeMap<u64, CommitRecord>, Vec<(u64, u32)>) {
        let layout = Layout::new(dir, Format::Jsonl);
        std::fs::create_dir_all(layout.shards()).unwrap();
        let (mut commits, mut seen, mut losers) = (BTreeMap::new(), HashSet::new(), Vec::new());
        let mut state = 7u64;
        for shard in 0..shard_count {
            let mut keys = Vec::new();
            for index in 0..100u32 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut hash = [0; 16];
                // 250 different keys, spread over all first bytes.
                hash[0] = ((state >> 33) % 250) as u8;
                hash[15] = 1;
                Key { hash, index }.write(&mut keys);
                if !seen.insert(hash) {
                    losers.push((shard, index));
                }
            }
            std::fs::write(layout.staged(shard, 1, Part::Keys), &keys).unwrap();
            let record = CommitRecord {
                generation: 1,
                records: 100,
                input: String::new(),
                rows: 100,
                bytes: 0,
                sha256: None,
                dropped: BTreeMap::new(),
                failed: 0,
            };
            commits.insert(shard, record);
        }
        (layout, commits, losers)
    }

    #[test]
    fn the_losers_are_the_same_in_any_number_of_passes() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, commits, expected) = shards(dir.path(), 8);
        assert!(expected.len() > 500);
        // 800 keys: in 1, 2, 3, 7, 16 passes, and in 16 where more would be needed.
        for keys_at_once in [800, 799, 300, 120, 50, 1] {
            let losers = find_losers(&OsFiles, &layout, &commits, keys_at_once).unwrap();
            let found: Vec<(u64, u32)> = (0..8)
                .flat_map(|shard| (0..100).map(move |index| (shard, index)))
                .filter(|&(shard, index)| losers.contains(shard, u64::from(index)))
                .collect();
            assert_eq!(found, expected, "{keys_at_once} keys at once");
            assert_eq!((0..8).map(|shard| losers.count(shard)).sum::<u64>(), expected.len() as u64);
        }
    }
}

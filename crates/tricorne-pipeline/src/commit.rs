//! From the journal of a shard to its committed files.
//!
//! An [`Assembly`] writes the rows of a shard in id order, as far as they are known: encoding overlaps
//! with fetching, and at the end of a run only the tail is left to do. [`Assembly::commit`] then makes
//! it permanent: sync the files, sync their folder, replace the commit record, remove the journal.
//!
//! A retry of failed records is the same: the rows of the generation before are merged with the
//! journalled ones by id.

use std::collections::BTreeMap;
use std::iter::Peekable;

use crate::error::RunError;
use crate::files::Files;
use crate::journal::Journal;
use crate::layout::{CommitRecord, FailedLine, Key, Layout, Part, read_keys, write_json};
use crate::record::{Outcome, Row};
use crate::sink::{Rows, ShardWriter, SinkSpec, hex};

/// Everything that committing shards needs to know.
pub(crate) struct Committing<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) layout: &'a Layout,
    pub(crate) sink: &'a SinkSpec,
    pub(crate) has_dedup: bool,
}

/// The generation that a retry starts from.
struct Before {
    record: CommitRecord,
    rows: Peekable<Rows>,
    keys: BTreeMap<u32, [u8; 16]>,
}

/// A shard that is being written in id order.
pub(crate) struct Assembly {
    shard: u64,
    first_id: u64,
    generation: u32,
    writer: Box<dyn ShardWriter>,
    before: Option<Before>,
    next: u32,
    keys: Vec<u8>,
    failed: Vec<u8>,
    failed_count: u64,
    dropped: BTreeMap<String, u64>,
}

impl Assembly {
    /// Starts the files of the next generation of a shard.
    pub(crate) fn start(
        ctx: &Committing<'_>,
        shard: u64,
        first_id: u64,
        before: Option<&CommitRecord>,
    ) -> Result<Self, RunError> {
        let generation = before.map_or(1, |record| record.generation + 1);
        let before = before.map(|record| Before::open(ctx, shard, record)).transpose()?;
        Ok(Assembly {
            shard,
            first_id,
            generation,
            writer: ctx.sink.stage(
                ctx.files,
                &ctx.layout.staged(shard, generation, Part::Rows),
                ctx.has_dedup,
            )?,
            dropped: before.as_ref().map(|before| before.record.dropped.clone()).unwrap_or_default(),
            before,
            next: 0,
            keys: Vec::new(),
            failed: Vec::new(),
            failed_count: 0,
        })
    }

    /// Writes the records up to `end` (an index in the shard), all of which have ended: in the journal,
    /// or, in a retry, in the generation before.
    pub(crate) fn advance(&mut self, journal: &Journal, end: u32) -> Result<(), RunError> {
        while self.next < end {
            let index = self.next;
            let id = self.first_id + u64::from(index);
            let old = self.before.as_mut().map(|before| before.take(id, index)).transpose()?;
            let (old_row, old_key) = old.unwrap_or_default();
            if journal.has_outcome(id) {
                let (url, outcome) = journal.read_outcome(id)?;
                match outcome {
                    Outcome::Row(row) => {
                        self.key(index, row.key);
                        self.writer.write(&row)?;
                    }
                    Outcome::Drop(reason) => *self.dropped.entry(reason).or_default() += 1,
                    Outcome::Failed(failure) => {
                        let line = FailedLine {
                            id,
                            url,
                            stage: failure.stage.into_owned(),
                            kind: failure.kind,
                            message: failure.message,
                            attempts: failure.attempts,
                        };
                        serde_json::to_writer(&mut self.failed, &line)
                            .expect("a line of text has a JSON form");
                        self.failed.push(b'\n');
                        self.failed_count += 1;
                    }
                }
            } else {
                // A row that the dedup pass removed has a key but no row any more.
                self.key(index, old_key);
                if let Some(row) = old_row {
                    self.writer.write(&row)?;
                }
            }
            self.next += 1;
        }
        Ok(())
    }

    fn key(&mut self, index: u32, hash: Option<[u8; 16]>) {
        if let Some(hash) = hash {
            Key { hash, index }.write(&mut self.keys);
        }
    }

    /// Makes the shard permanent. All records up to the end of the shard have been written.
    pub(crate) fn commit(self, ctx: &Committing<'_>, input: String) -> Result<CommitRecord, RunError> {
        let (files, layout) = (ctx.files, ctx.layout);
        let staged = |part| layout.staged(self.shard, self.generation, part);
        let written = self.writer.finish()?;
        let side = |part, bytes: &[u8]| {
            let path = staged(part);
            let write = || {
                let file = files.create(&path)?;
                file.append(&[bytes])?;
                file.sync()
            };
            write().map_err(RunError::io("write", &path))
        };
        let mut rows = written.rows;
        if ctx.has_dedup {
            side(Part::Keys, &self.keys)?;
            rows = (self.keys.len() / Key::LEN) as u64;
        }
        side(Part::Failed, &self.failed)?;
        let dir = layout.shards();
        files.sync_dir(&dir).map_err(RunError::io("sync", &dir))?;

        let record = CommitRecord {
            generation: self.generation,
            records: u64::from(self.next),
            input,
            rows,
            bytes: written.bytes,
            sha256: written.sha256.as_ref().map(hex),
            dropped: self.dropped,
            failed: self.failed_count,
        };
        write_json(files, &layout.record(self.shard), &record)?; // from here on it counts

        let journal = layout.journal(self.shard);
        files.remove(&journal).map_err(RunError::io("remove", &journal))?;
        if let Some(before) = self.before {
            for part in [Part::Rows, Part::Keys, Part::Failed] {
                let path = layout.staged(self.shard, before.record.generation, part);
                files.remove(&path).map_err(RunError::io("remove", &path))?;
            }
        }
        Ok(record)
    }
}

impl Before {
    fn open(ctx: &Committing<'_>, shard: u64, record: &CommitRecord) -> Result<Before, RunError> {
        let staged = ctx.layout.staged(shard, record.generation, Part::Rows);
        let is_staged = ctx.files.exists(&staged).map_err(RunError::io("look for", &staged))?;
        let rows = match is_staged {
            true => ctx.sink.read_staged(ctx.files, &staged, ctx.has_dedup)?,
            false => ctx.sink.read(ctx.files, &ctx.layout.published(shard))?,
        };
        let keys = match ctx.has_dedup {
            false => BTreeMap::new(),
            true => {
                let bytes = read_keys(ctx.files, &ctx.layout.staged(shard, record.generation, Part::Keys))?;
                Key::read_all(&bytes).map(|key| (key.index, key.hash)).collect()
            }
        };
        Ok(Before { record: record.clone(), rows: rows.peekable(), keys })
    }

    fn take(&mut self, id: u64, index: u32) -> Result<(Option<Row>, Option<[u8; 16]>), RunError> {
        let row = self.rows.next_if(|row| row.as_ref().map_or(true, |row| row.id <= id)).transpose()?;
        Ok((row.filter(|row| row.id == id), self.keys.get(&index).copied()))
    }
}

//! The journal of an open shard: an append-only file into which every page is written when it has
//! been received and every outcome when it is known, in whatever order they come.
//!
//! It is three things at once: what a killed run goes on from, the place where records wait that are
//! out of order (so that they do not wait in memory), and the queue between fetch and the text stages
//! (which is handed positions, not pages). In memory there are 24 bytes per id of the open shard.
//!
//! ```text
//! file  = "TRICJNL1" generation:u32 entry*
//! entry = length:u32 crc32:u32 payload            (both of the payload)
//! payload = index:u32 check:u64 kind:u8 …         (index within the shard; check: hash of the input record)
//! ```
//!
//! A kill can cut the last entry short; recovery stops at the first entry that does not hold and cuts
//! the file there. The journal is not synced: a killed process loses nothing of it, and after a power
//! cut the checksums say how much of an open shard must be fetched again.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::RunError;
use crate::files::{File, FileReader, Files};
use crate::record::wire::{self, Malformed, Reader, Writer};
use crate::record::{Outcome, Record, StoredPage};

const MAGIC: &[u8; 8] = b"TRICJNL1";
/// A journal of this length holds nothing yet.
pub(crate) const HEADER_LEN: u64 = 12;
const PREFIX_LEN: usize = 8;
const PAGE: u8 = 1;

/// A short hash of an input record: tells a changed input from the one that a journal was made for.
pub(crate) fn input_check(record: &Record) -> u64 {
    let mut hash = Sha256::new();
    hash.update(record.url.as_bytes());
    if let Some(extra) = &record.extra {
        hash.update([0]);
        hash.update(extra.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(digest[..8].try_into().expect("a digest is longer than 8 bytes"))
}

/// How far a record of an open shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is journalled.
    Nothing,
    /// The page is journalled, its outcome is not.
    Fetched,
    /// It ended as a row or a drop.
    Done,
    /// It ended as a failure.
    Failed,
}

#[derive(Clone, Copy)]
struct Slot {
    progress: Progress,
    len: u32,
    offset: u64,
    check: u64,
}

const EMPTY: Slot = Slot { progress: Progress::Nothing, len: 0, offset: 0, check: 0 };

struct State {
    slots: Vec<Slot>,
    end: u64,
}

/// The journal of one open shard.
pub(crate) struct Journal {
    path: PathBuf,
    first_id: u64,
    file: Arc<dyn File>,
    state: Mutex<State>,
    /// Indices below this one were on their way when the run before ended.
    reached: usize,
}

impl Journal {
    /// Starts an empty journal, replacing whatever is there.
    pub(crate) fn create(
        files: &dyn Files,
        path: &Path,
        first_id: u64,
        generation: u32,
    ) -> Result<Self, RunError> {
        let file = files.create(path).map_err(RunError::io("create", path))?;
        file.append(&[MAGIC, &generation.to_le_bytes()]).map_err(RunError::io("write", path))?;
        let state = State { slots: Vec::new(), end: HEADER_LEN };
        Ok(Journal { path: path.to_path_buf(), first_id, file, state: Mutex::new(state), reached: 0 })
    }

    /// Opens the journal that an earlier run left, cutting off what a kill left half-written.
    /// `None` if there is none, or one of another generation (left behind by a finished commit).
    pub(crate) fn recover(
        files: &dyn Files,
        path: &Path,
        first_id: u64,
        generation: u32,
    ) -> Result<Option<Self>, RunError> {
        if !files.exists(path).map_err(RunError::io("look for", path))? {
            return Ok(None);
        }
        let file = files.open(path).map_err(RunError::io("open", path))?;
        let reader = FileReader::new(Arc::clone(&file)).map_err(RunError::io("read", path))?;
        let Some(state) = scan(reader, generation).map_err(RunError::io("read", path))? else {
            return Ok(None);
        };
        if state.end < file.len().map_err(RunError::io("read", path))? {
            file.truncate(state.end).map_err(RunError::io("truncate", path))?;
        }
        let reached = state.slots.len();
        Ok(Some(Journal { path: path.to_path_buf(), first_id, file, state: Mutex::new(state), reached }))
    }

    /// How far the record is. A record that an earlier run journalled must be the one that the input
    /// holds now.
    pub(crate) fn progress(&self, record: &Record) -> Result<Progress, RunError> {
        let slot = self.slot(record.id);
        if slot.progress != Progress::Nothing && slot.check != input_check(record) {
            return Err(RunError::InputChanged {
                what: format!("record {} is now `{}`, but it was another one before", record.id, record.url),
            });
        }
        Ok(slot.progress)
    }

    /// True if an earlier run had come so far in the input: a record without an entry was on its way
    /// when that run ended.
    pub(crate) fn was_reached(&self, id: u64) -> bool {
        self.index(id) < self.reached
    }

    /// True if the journal holds how the record ended.
    pub(crate) fn has_outcome(&self, id: u64) -> bool {
        matches!(self.slot(id).progress, Progress::Done | Progress::Failed)
    }

    /// True if nothing has been journalled yet.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().end == HEADER_LEN
    }

    /// Writes down a page. Returns when the operating system has it.
    pub(crate) fn append_page(&self, record: &Record, page: &StoredPage) -> Result<(), RunError> {
        let check = input_check(record);
        let mut head = self.entry(record.id, check);
        head.u8(PAGE);
        head.option_text(page.final_url.as_deref());
        head.option(page.status, |w, v| w.u32(u32::from(v)));
        head.option_text(page.content_type.as_deref());
        head.u32(page.attempts);
        head.0.extend_from_slice(&page.sha256);
        self.append(record.id, check, Progress::Fetched, head, &page.body)
    }

    /// Writes down how a record ended.
    pub(crate) fn append_outcome(&self, record: &Record, outcome: &Outcome) -> Result<(), RunError> {
        let progress = if matches!(outcome, Outcome::Failed(_)) { Progress::Failed } else { Progress::Done };
        let check = input_check(record);
        let mut head = self.entry(record.id, check);
        wire::put_outcome(&mut head, outcome);
        head.text(&record.url);
        self.append(record.id, check, progress, head, &[])
    }

    /// The journalled page of a record that is [`Progress::Fetched`].
    pub(crate) fn read_page(&self, id: u64) -> Result<StoredPage, RunError> {
        let payload = self.read(id)?;
        let mut r = Reader(&payload);
        let parse = |r: &mut Reader<'_>| -> Result<StoredPage, Malformed> {
            r.take(4 + 8)?; // index, check
            if r.u8()? != PAGE {
                return Err(Malformed);
            }
            Ok(StoredPage {
                final_url: r.option_text()?,
                status: r.option(Reader::u32)?.map(u16::try_from).transpose().map_err(|_| Malformed)?,
                content_type: r.option_text()?,
                attempts: r.u32()?,
                sha256: r.array()?,
                body: Bytes::new(),
            })
        };
        let mut page = parse(&mut r).map_err(|Malformed| self.damaged(id))?;
        let body_at = payload.len() - r.0.len();
        page.body = Bytes::from(payload).slice(body_at..);
        Ok(page)
    }

    /// The URL and the journalled outcome of a record that has one.
    pub(crate) fn read_outcome(&self, id: u64) -> Result<(String, Outcome), RunError> {
        let payload = self.read(id)?;
        let mut r = Reader(&payload);
        let mut parse = || {
            r.take(4 + 8)?; // index, check
            let outcome = wire::get_outcome(&mut r)?;
            Ok((r.text()?, outcome))
        };
        parse().map_err(|Malformed| self.damaged(id))
    }

    /// The bytes on disk.
    #[cfg(test)]
    pub(crate) fn len(&self) -> u64 {
        self.lock().end
    }

    fn entry(&self, id: u64, check: u64) -> Writer {
        let mut w = Writer(Vec::with_capacity(512));
        w.0.extend_from_slice(&[0; PREFIX_LEN]);
        w.u32(self.index(id) as u32);
        w.u64(check);
        w
    }

    fn append(
        &self,
        id: u64,
        check: u64,
        progress: Progress,
        mut head: Writer,
        body: &[u8],
    ) -> Result<(), RunError> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head.0[PREFIX_LEN..]);
        crc.update(body);
        let len = u32::try_from(head.0.len() - PREFIX_LEN + body.len()).map_err(|_| RunError::Damaged {
            path: self.path.clone(),
            message: format!("the page of record {id} is larger than 4 GiB"),
        })?;
        head.0[..4].copy_from_slice(&len.to_le_bytes());
        head.0[4..PREFIX_LEN].copy_from_slice(&crc.finalize().to_le_bytes());

        let index = self.index(id);
        let mut state = self.lock();
        self.file.append(&[&head.0, body]).map_err(RunError::io("write", &self.path))?;
        let offset = state.end + PREFIX_LEN as u64;
        state.end = offset + u64::from(len);
        if state.slots.len() <= index {
            state.slots.resize(index + 1, EMPTY);
        }
        state.slots[index] = Slot { progress, len, offset, check };
        Ok(())
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, RunError> {
        let slot = self.slot(id);
        let mut payload = vec![0; slot.len as usize];
        self.file.read_exact_at(&mut payload, slot.offset).map_err(RunError::io("read", &self.path))?;
        Ok(payload)
    }

    fn slot(&self, id: u64) -> Slot {
        self.lock().slots.get(self.index(id)).copied().unwrap_or(EMPTY)
    }

    fn index(&self, id: u64) -> usize {
        usize::try_from(id - self.first_id).expect("a shard fits into memory's address space")
    }

    fn damaged(&self, id: u64) -> RunError {
        RunError::Damaged {
            path: self.path.clone(),
            message: format!("the entry of record {id} does not parse"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a journal from the start, as far as it holds. `None` for another generation or no header.
fn scan(reader: FileReader, generation: u32) -> std::io::Result<Option<State>> {
    let mut reader = BufReader::with_capacity(1 << 20, reader);
    let mut header = [0; HEADER_LEN as usize];
    if !read_full(&mut reader, &mut header)?
        || &header[..8] != MAGIC
        || header[8..] != generation.to_le_bytes()
    {
        return Ok(None);
    }
    let mut state = State { slots: Vec::new(), end: HEADER_LEN };
    let mut prefix = [0; PREFIX_LEN];
    let mut payload = Vec::new();
    while read_full(&mut reader, &mut prefix)? {
        let len = u32::from_le_bytes(prefix[..4].try_into().expect("four bytes"));
        let crc = u32::from_le_bytes(prefix[4..].try_into().expect("four bytes"));
        payload.clear();
        // `take` and not a buffer of `len`: a torn prefix may claim gigabytes.
        (&mut reader).take(u64::from(len)).read_to_end(&mut payload)?;
        if payload.len() != len as usize || crc32fast::hash(&payload) != crc {
            break;
        }
        let mut r = Reader(&payload);
        let (Ok(index), Ok(check), Ok(kind)) = (r.u32(), r.u64(), r.u8()) else { break };
        let progress = match kind {
            PAGE => Progress::Fetched,
            wire::FAILED => Progress::Failed,
            _ => Progress::Done,
        };
        let index = index as usize;
        if state.slots.len() <= index {
            state.slots.resize(index + 1, EMPTY);
        }
        state.slots[index] = Slot { progress, len, offset: state.end + PREFIX_LEN as u64, check };
        state.end += PREFIX_LEN as u64 + u64::from(len);
    }
    Ok(Some(state))
}

/// False at a clean or torn end.
fn read_full(reader: &mut impl Read, buf: &mut [u8]) -> std::io::Result<bool> {
    match reader.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::OsFiles;
    use crate::record::{Failure, Row};

    fn page(body: &[u8]) -> StoredPage {
        StoredPage {
            final_url: Some("http://a/b".into()),
            status: Some(200),
            content_type: None,
            sha256: Sha256::digest(body).into(),
            body: Bytes::copy_from_slice(body),
            attempts: 3,
        }
    }

    fn record(id: u64) -> Record {
        Record { id, url: format!("http://a/{id}"), extra: None }
    }

    fn row(id: u64) -> Outcome {
        Outcome::Row(Box::new(Row { id, text: Some("words".into()), ..Row::default() }))
    }

    #[test]
    fn what_was_written_is_there_after_recovery() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = Journal::create(&OsFiles, &path, 100, 1).unwrap();
        assert!(journal.is_empty());
        for id in [103, 100, 101] {
            journal.append_page(&record(id), &page(b"<p>hello")).unwrap();
        }
        journal.append_outcome(&record(103), &row(103)).unwrap();
        let failure =
            Failure { stage: "fetch".into(), kind: "dns".into(), message: "no".into(), attempts: 6 };
        let failed = Outcome::Failed(failure);
        journal.append_outcome(&record(102), &failed).unwrap();
        drop(journal);

        let journal = Journal::recover(&OsFiles, &path, 100, 1).unwrap().unwrap();
        let progress = |id| journal.progress(&record(id)).unwrap();
        assert_eq!(progress(100), Progress::Fetched);
        assert_eq!(progress(102), Progress::Failed);
        assert_eq!(progress(103), Progress::Done);
        assert_eq!(progress(104), Progress::Nothing);
        let stored = journal.read_page(101).unwrap();
        assert_eq!((&stored.body[..], stored.status, stored.attempts), (&b"<p>hello"[..], Some(200), 3));
        assert_eq!(stored.sha256, <[u8; 32]>::from(Sha256::digest(b"<p>hello")));
        assert_eq!(journal.read_outcome(103).unwrap().1, row(103));
        assert_eq!(journal.read_outcome(102).unwrap(), (record(102).url, failed));
        let other = Record { id: 100, url: "http://else/".into(), extra: None };
        assert!(matches!(journal.progress(&other), Err(RunError::InputChanged { .. })));
    }

    /// Cut at every length: what precedes the cut is kept, nothing is invented, and appending goes on.
    #[test]
    fn a_torn_tail_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = Journal::create(&OsFiles, &path, 0, 1).unwrap();
        journal.append_page(&record(0), &page(b"first")).unwrap();
        let whole_first = journal.len();
        journal.append_page(&record(1), &page(b"second")).unwrap();
        drop(journal);
        let full = std::fs::read(&path).unwrap();
        for cut in 0..full.len() {
            std::fs::write(&path, &full[..cut]).unwrap();
            let Some(journal) = Journal::recover(&OsFiles, &path, 0, 1).unwrap() else {
                assert!((cut as u64) < HEADER_LEN);
                continue;
            };
            assert_eq!(journal.slot(0).progress == Progress::Fetched, cut as u64 >= whole_first, "{cut}");
            assert_eq!(journal.slot(1).progress, Progress::Nothing, "{cut}");
            journal.append_page(&record(7), &page(b"later")).unwrap();
            drop(journal);
            let journal = Journal::recover(&OsFiles, &path, 0, 1).unwrap().unwrap();
            assert_eq!(&journal.read_page(7).unwrap().body[..], b"later");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = Journal::create(&OsFiles, &path, 0, 1).unwrap();
        journal.append_page(&record(0), &page(b"first")).unwrap();
        let end = journal.len();
        journal.append_page(&record(1), &page(b"second")).unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[end as usize + PREFIX_LEN + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let journal = Journal::recover(&OsFiles, &path, 0, 1).unwrap().unwrap();
        assert_eq!(
            (journal.slot(0).progress, journal.slot(1).progress),
            (Progress::Fetched, Progress::Nothing)
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), end);
    }

    #[test]
    fn a_journal_of_another_generation_is_not_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        Journal::create(&OsFiles, &path, 0, 1).unwrap();
        assert!(Journal::recover(&OsFiles, &path, 0, 2).unwrap().is_none());
        assert!(Journal::recover(&OsFiles, &dir.path().join("none"), 0, 1).unwrap().is_none());
    }
}

//! The rows of a committed shard while they wait for dedup: as they are, one after the other.
//!
//! Most shards of real pages lose some rows to dedup and are written anew, so encoding and compressing them before that
//! would be work done twice.
//!
//! ```text
//! file  = entry*
//! entry = length:u32 id:u64 row        (length of id and row; the row as in the journal)
//! ```
//!
//! There are no checksums: the file is synced before the commit record names it, and nothing is appended to it later.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Rows, ShardWriter, Written};
use crate::error::RunError;
use crate::files::{File, FileReader, Files};
use crate::record::Row;
use crate::record::wire::{self, Malformed, Reader, Writer};

const PREFIX_LEN: usize = 4;
/// Rows are handed to the system in pieces of this size.
const BUFFER_BYTES: usize = 1 << 17;

pub(super) struct StagedRows {
    file: Arc<dyn File>,
    path: PathBuf,
    buffer: Writer,
    rows: u64,
    bytes: u64,
}

impl StagedRows {
    pub(super) fn create(files: &dyn Files, path: &Path) -> io::Result<Self> {
        let file = files.create(path)?;
        Ok(StagedRows { file, path: path.to_path_buf(), buffer: Writer::default(), rows: 0, bytes: 0 })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes += self.buffer.0.len() as u64;
        self.file.append(&[&self.buffer.0])?;
        self.buffer.0.clear();
        Ok(())
    }
}

impl ShardWriter for StagedRows {
    fn write(&mut self, row: &Row) -> Result<(), RunError> {
        let start = self.buffer.0.len();
        self.buffer.u32(0);
        self.buffer.u64(row.id);
        wire::put_row(&mut self.buffer, row);
        let entry = &mut self.buffer.0[start..];
        let len = u32::try_from(entry.len() - PREFIX_LEN).expect("a row came out of a journal entry");
        entry[..PREFIX_LEN].copy_from_slice(&len.to_le_bytes());
        self.rows += 1;
        if self.buffer.0.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush().map_err(RunError::io("write", &self.path))
    }

    fn finish(mut self: Box<Self>) -> Result<Written, RunError> {
        self.flush().and_then(|()| self.file.sync()).map_err(RunError::io("write", &self.path))?;
        Ok(Written { rows: self.rows, bytes: self.bytes, sha256: None })
    }
}

pub(super) fn read(file: Arc<dyn File>, path: &Path) -> Result<Rows, RunError> {
    let path = path.to_path_buf();
    let mut left = file.len().map_err(RunError::io("read", &path))?;
    let reader = FileReader::new(file).map_err(RunError::io("read", &path))?;
    let mut reader = BufReader::with_capacity(1 << 17, reader);
    let mut entry = Vec::new();
    Ok(Box::new(std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let mut next = || {
            let mut prefix = [0; PREFIX_LEN];
            reader.read_exact(&mut prefix)?;
            let len = u64::from(u32::from_le_bytes(prefix));
            left = left.saturating_sub(len + PREFIX_LEN as u64);
            entry.clear();
            // `take` and not a buffer of `len`: a damaged prefix may claim gigabytes.
            let read_bytes = (&mut reader).take(len).read_to_end(&mut entry)?;
            if (read_bytes as u64) < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        };
        let row = next().map_err(RunError::io("read", &path)).and_then(|()| {
            parse(&entry).map_err(|Malformed| RunError::Damaged {
                path: path.clone(),
                message: "a staged row does not parse".into(),
            })
        });
        if row.is_err() {
            left = 0; // what follows cannot be found
        }
        Some(row)
    })))
}

fn parse(entry: &[u8]) -> Result<Row, Malformed> {
    let mut reader = Reader(entry);
    let id = reader.u64()?;
    wire::get_row(&mut reader, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::OsFiles;

    fn rows() -> Vec<Row> {
        let row = |id: u64| Row {
            id,
            url: format!("http://h/{id}"),
            text: (!id.is_multiple_of(3)).then(|| "文 text ".repeat(id as usize)),
            key: Some([id as u8; 16]),
            ..Row::default()
        };
        (0..2000).step_by(7).map(row).collect()
    }

    #[test]
    fn rows_come_back_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut staged = Box::new(StagedRows::create(&OsFiles, &path).unwrap());
        for row in rows() {
            staged.write(&row).unwrap();
        }
        let written = staged.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((written.rows, written.bytes), (rows().len() as u64, bytes.len() as u64));
        assert!(written.bytes > 3 * BUFFER_BYTES as u64, "several pieces are under test");
        let back: Vec<Row> = read(OsFiles.open(&path).unwrap(), &path).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, rows());
    }

    #[test]
    fn a_cut_file_is_an_error_and_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut staged = Box::new(StagedRows::create(&OsFiles, &path).unwrap());
        for row in &rows()[..3] {
            staged.write(row).unwrap();
        }
        staged.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in [bytes.len() - 1, bytes.len() - 60, 2] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let back: Vec<_> = read(OsFiles.open(&path).unwrap(), &path).unwrap().collect();
            assert!(back.last().unwrap().is_err(), "{len}");
            assert_eq!(back.iter().filter(|row| row.is_err()).count(), 1);
        }
    }
}

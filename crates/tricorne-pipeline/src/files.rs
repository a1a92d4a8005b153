//! The file layer: the few operations that the journal and the commit protocol stand on.
//!
//! Everything that must survive a crash goes through [`Files`], so that tests can put a layer
//! underneath that dies at any step, runs out of space, or checks that every rename was preceded by
//! the sync that makes it safe.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open file. Positioned reads do not disturb the position that writes go to.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait File: Send + Sync {
    /// Appends all of `parts`, one after the other. On an error an unknown prefix has been written.
    fn append(&self, parts: &[&[u8]]) -> io::Result<()>;
    /// Reads exactly `buf.len()` bytes from `offset`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file to `len` bytes; the next append goes there.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes the content durable (fsync).
    fn sync(&self) -> io::Result<()>;
}

/// What the engine asks of a file system.
pub trait Files: Send + Sync + fmt::Debug {
    /// Creates a folder and its parents; an existing folder is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates or empties a file.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for appending and reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Reads a whole small file; `None` if there is none.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Replaces `to` by `from` atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder durable (fsync of the folder).
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted; empty if there is no such folder.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// True if there is a file or folder of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Takes the lock file of a folder for as long as the guard lives; `None` if somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;
}

/// Holds a lock file; dropping it gives the lock back, and so does the end of the process.
pub struct LockGuard(
    #[allow(dead_code, reason = "held for its drop")] pub Box<dyn std::any::Any + Send + Sync>,
);

/// Writes `content` to `path` so that a crash leaves either the old or the new content:
/// a temporary file, sync, rename, sync of the folder.
pub fn write_atomically(files: &dyn Files, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let file = files.create(&temporary)?;
    file.append(&[content])?;
    file.sync()?;
    drop(file);
    publish(files, &temporary, path)
}

/// Renames a synced temporary file to its final name and makes the name durable.
pub fn publish(files: &dyn Files, temporary: &Path, path: &Path) -> io::Result<()> {
    files.rename(temporary, path)?;
    files.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// The name under which `path` is written before it is complete.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// The file system of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsFiles;

struct OsFile {
    file: fs::File,
}

impl File for OsFile {
    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<io::IoSlice<'_>> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match (&self.file).write_vectored(rest) {
                Ok(0) if rest.iter().all(|part| part.is_empty()) => break,
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => io::IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        // Appends go to the end whatever the position, so moving it by a positioned read is harmless.
        let mut done = 0;
        while done < buf.len() {
            match std::os::windows::fs::FileExt::seek_read(
                &self.file,
                &mut buf[done..],
                offset + done as u64,
            )? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Files for OsFiles {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        // Append mode on an emptied file: every write goes to the end, also after a truncate.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = fs::OpenOptions::new().create_new(true).read(true).append(true).open(path)?;
        Ok(Arc::new(OsFile { file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).append(true).open(path)?;
        Ok(Arc::new(OsFile { file }))
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::File::open(path)?.sync_all()
    }

    #[cfg(not(unix))]
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(()) // a folder cannot be opened for syncing here; the rename itself is journalled
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(LockGuard(Box::new(file)))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A sequential reader over a [`File`], from the start.
pub(crate) struct FileReader {
    file: Arc<dyn File>,
    position: u64,
    len: u64,
}

impl FileReader {
    pub(crate) fn new(file: Arc<dyn File>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(FileReader { file, position: 0, len })
    }
}

impl Read for FileReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len - self.position).unwrap_or(usize::MAX);
        let count = buf.len().min(left);
        self.file.read_exact_at(&mut buf[..count], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.filter(|&t| t <= self.len).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

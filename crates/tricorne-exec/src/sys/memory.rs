//! Memory that two processes have in common, and copies of it that are made page by page when written to.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::fork;

/// Bytes of a page: where parts of a file that are mapped apart begin.
pub(crate) const PAGE: usize = 4096;

/// A mapping, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(file: impl AsFd, offset: usize, len: usize, flags: MapFlags) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        // Touching a page behind the end of a file kills the process; a sealed file cannot lose its end later.
        if !fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(invalid("a file of shared memory is not sealed"));
        }
        let end = offset.checked_add(len).ok_or_else(|| invalid("a mapping is too long"))?;
        if len == 0 || u64::try_from(fstat(&file)?.st_size).unwrap_or(0) < end as u64 {
            return Err(invalid("a file of shared memory is too short"));
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: with a null address the system chooses a free range, so no memory in use is replaced. Whether
        // references into it stay valid is for the two types below, which own the mapping.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, flags, file, offset as u64) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| invalid("a mapping at the address 0"))?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` has made exactly this mapping, and whoever borrowed from it borrowed from `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: plain memory, bound to no thread.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference it is only reached by the methods of the types below.
unsafe impl Sync for Mapping {}

/// Memory that another process reads and writes too.
///
/// No reference to its bytes is ever given out: words are atomics, and bytes are copied in and out.
pub(crate) struct SharedMap(Mapping);

impl SharedMap {
    /// Maps `len` bytes from the start of a sealed memory file.
    pub(crate) fn new(file: impl AsFd, len: usize) -> io::Result<Self> {
        Mapping::new(file, 0, len, MapFlags::SHARED).map(Self)
    }

    /// The word at `offset`.
    ///
    /// # Panics
    /// If it is not aligned or not inside.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.0.len, "a word inside of the mapping");
        // SAFETY: inside of the mapping (checked) and aligned (checked; mappings begin at a page), and valid for as
        // long as `self`. The other process, too, uses it as an atomic.
        unsafe { AtomicU64::from_ptr(self.0.start.as_ptr().add(offset).cast()) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// If they do not fit.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.0.len && bytes.len() <= self.0.len - offset, "bytes inside of the mapping");
        // SAFETY: the target is inside of the mapping (checked), and `bytes` is ordinary memory of this process,
        // so they do not overlap. Who writes where and when is the protocol of `process::board` and
        // `process::segment`: the reader looks only after a word has told it to. A program that breaks the protocol
        // gets other bytes than it wrote; every byte is a valid one.
        unsafe { self.0.start.as_ptr().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Appends the `len` bytes at `offset` to `bytes`; `false` if they are not all inside.
    #[must_use]
    pub(crate) fn read(&self, offset: usize, len: usize, bytes: &mut Vec<u8>) -> bool {
        if offset > self.0.len || len > self.0.len - offset {
            return false;
        }
        bytes.reserve(len);
        // SAFETY: the source is inside of the mapping (checked). The target is spare capacity of the vector, at least
        // `len` bytes (reserved), which are written before the length says so. As to writers see `write`.
        unsafe {
            let target = bytes.as_mut_ptr().add(bytes.len());
            target.copy_from_nonoverlapping(self.0.start.as_ptr().add(offset), len);
            bytes.set_len(bytes.len() + len);
        }
        true
    }
}

/// The bytes of a memory file, as a private copy: pages are copied when they are written to, and not before.
///
/// Until it is dropped the sender leaves the file alone; it is told so by the word that is stored on drop.
///
/// In a forked copy of this process a copy of it tells nothing: the one here still reads.
pub(crate) struct CopyOnWrite {
    /// For `sys::fork`: who has mapped it.
    number: u64,
    bytes: Mapping,
    len: usize,
    /// The page of the sender's word.
    head: SharedMap,
}

impl CopyOnWrite {
    /// Maps the `len` bytes behind the first page, which holds the word that the sender waits for.
    pub(crate) fn new(file: impl AsFd, len: usize) -> io::Result<Self> {
        let head = SharedMap::new(&file, PAGE)?;
        let bytes = Mapping::new(&file, PAGE, len, MapFlags::PRIVATE)?;
        Ok(Self { number: fork::new_number(), bytes, len, head })
    }
}

impl Deref for CopyOnWrite {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped, for as long as `self`. They do not change: a private mapping shows no writes
        // of others to pages that were copied, and to the other pages nobody writes before `drop` gives them back.
        unsafe { std::slice::from_raw_parts(self.bytes.start.as_ptr(), self.len) }
    }
}

impl DerefMut for CopyOnWrite {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; what is written stays in this process, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.start.as_ptr(), self.len) }
    }
}

impl Drop for CopyOnWrite {
    fn drop(&mut self) {
        if fork::is_elsewhere(self.number) {
            return;
        }
        // Release: the sender writes into the file after it has seen the word, so after our last read.
        self.head.word(0).store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    fn file(len: u64, seals: SealFlags) -> std::os::fd::OwnedFd {
        let file =
            memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memory file");
        ftruncate(&file, len).expect("memory");
        fcntl_add_seals(&file, seals).expect("seals");
        file
    }

    #[test]
    fn a_copy_on_write_keeps_its_writes_to_itself_and_tells_its_end() {
        let file = file(2 * PAGE as u64, SealFlags::SHRINK);
        let map = SharedMap::new(&file, 2 * PAGE).expect("mapped");
        map.word(0).store(1, Ordering::Relaxed);
        map.write(PAGE, b"hello");
        let mut copy = CopyOnWrite::new(&file, 5).expect("mapped");
        copy[0] = b'j';
        assert_eq!(&*copy, b"jello");
        let mut read = b"> ".to_vec();
        assert!(map.read(PAGE, 5, &mut read));
        assert_eq!(read, b"> hello");
        assert_eq!(map.word(0).load(Ordering::Acquire), 1);
        drop(copy);
        assert_eq!(map.word(0).load(Ordering::Acquire), 0);
    }

    #[test]
    fn files_that_could_fault_are_refused() {
        let open = file(2 * PAGE as u64, SealFlags::GROW);
        assert!(SharedMap::new(&open, PAGE).is_err(), "not sealed against shrinking");
        let short = file(PAGE as u64, SealFlags::SHRINK);
        assert!(SharedMap::new(&short, PAGE + 1).is_err());
        assert!(CopyOnWrite::new(&short, 1).is_err());
        let map = SharedMap::new(&short, PAGE).expect("mapped");
        assert!(!map.read(PAGE, 1, &mut Vec::new()));
        assert!(!map.read(usize::MAX, 2, &mut Vec::new()));
    }
}

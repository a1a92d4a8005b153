//! Segments: memory files in which large buffers travel, used again and again.
//!
//! Copying into pages that the system has to make first costs four to six times as much as copying into pages that are
//! there, so a segment is kept when its buffer is gone. Its first page holds one word, the rest is the buffer:
//!
//! ```text
//!                 take, fill                 send (word = 1)
//!  free ────────────────────────▶ filled ──────────────────▶ lent ──▶ the receiver maps it copy-on-write
//!   ▲                                                          │
//!   └───────────── the sender sees word = 0 ◀── (word = 0) ────┘      … and drops it, or its process has ended
//! ```
//!
//! Only the receiver stores 0, only the sender stores 1, and the sender writes into it only when it has seen 0: a
//! buffer never changes under its reader. A receiver that was killed cannot store 0; the sender, who knows to whom it
//! lent what, does it for it. There is no message and nothing to unlink: the last descriptor and mapping gone, the
//! memory is free, whoever was killed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use crate::sys::memory::{PAGE, SharedMap};

/// Buffers from this size on travel in a segment of their own.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;
/// What a pool keeps in free segments.
const MAX_FREE_BYTES: usize = 512 << 20;
/// So many segments are kept while they are free, and so many while they are lent, as each costs a descriptor. Others are the
/// receiver's alone, and not used again.
const MAX_KEPT: usize = 128;

/// Makes a memory file of `len` bytes that cannot be made shorter.
pub(crate) fn memory_file(name: &str, len: usize) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, len as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// A memory file of its sender. Until it is lent nobody else has it.
pub(crate) struct Segment {
    file: OwnedFd,
    map: SharedMap,
    capacity: usize,
    /// As many bytes as were ever written to it, which is what it costs.
    touched: usize,
}

impl Segment {
    fn new(capacity: usize) -> io::Result<Self> {
        let file = memory_file("tricorne-segment", PAGE + capacity)?;
        let map = SharedMap::new(&file, PAGE + capacity)?;
        Ok(Self { file, map, capacity, touched: 0 })
    }

    /// Copies `bytes` to its start.
    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        self.map.write(PAGE, bytes);
        self.touched = self.touched.max(bytes.len());
    }

    /// To be called before its descriptor is sent: from then on the receiver has it until it says otherwise.
    pub(crate) fn lend(&self) {
        // Relaxed: the system call that sends it orders this before whatever the receiver does.
        self.map.word(0).store(1, Ordering::Relaxed);
    }

    fn is_lent(&self) -> bool {
        // Acquire: after the receiver's last read, which was before it stored 0.
        self.map.word(0).load(Ordering::Acquire) != 0
    }

    fn take_back(&self) {
        self.map.word(0).store(0, Ordering::Relaxed);
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The segments of one sender.
#[derive(Default)]
pub(crate) struct SegmentPool {
    segments: Mutex<Segments>,
}

#[derive(Default)]
struct Segments {
    free: Vec<Segment>,
    /// With the number of the receiver.
    lent: Vec<(u64, Segment)>,
}

impl Segments {
    /// Takes back what its receivers have dropped.
    fn collect(&mut self) {
        let mut index = 0;
        while index < self.lent.len() {
            if self.lent[index].1.is_lent() {
                index += 1;
            } else {
                let (_, segment) = self.lent.swap_remove(index);
                self.keep(segment);
            }
        }
    }

    fn keep(&mut self, segment: Segment) {
        self.free.push(segment);
        let mut bytes: usize = self.free.iter().map(|segment| segment.touched).sum();
        while bytes > MAX_FREE_BYTES || self.free.len() > MAX_KEPT {
            // The one that has been free for longest.
            bytes -= self.free.remove(0).touched;
        }
    }
}

impl SegmentPool {
    /// A segment with room for `len` bytes: a used one if there is one of that size.
    ///
    /// # Errors
    /// No memory, or no descriptors.
    pub(crate) fn take(&self, len: usize) -> io::Result<Segment> {
        let capacity = len.max(LARGE_BYTES).checked_next_power_of_two().ok_or(io::ErrorKind::OutOfMemory)?;
        let mut segments = self.lock();
        segments.collect();
        if let Some(index) = segments.free.iter().rposition(|segment| segment.capacity == capacity) {
            return Ok(segments.free.remove(index));
        }
        drop(segments);
        Segment::new(capacity)
    }

    /// For a segment that was filled and perhaps sent: keeps it until `receiver` has dropped it, unless there are many.
    pub(crate) fn put(&self, receiver: u64, segment: Segment) {
        let mut segments = self.lock();
        if segment.is_lent() {
            if segments.lent.len() == MAX_KEPT {
                segments.collect();
            }
            if segments.lent.len() < MAX_KEPT {
                segments.lent.push((receiver, segment));
            }
        } else {
            segments.keep(segment);
        }
    }

    /// For a segment whose receiver has certainly ended, or never had it.
    pub(crate) fn put_back(&self, segment: Segment) {
        segment.take_back();
        self.lock().keep(segment);
    }

    /// Takes back all that `receiver` has: its process has ended.
    pub(crate) fn receiver_ended(&self, receiver: u64) {
        let mut segments = self.lock();
        for segment in segments.lent.extract_if(.., |(owner, _)| *owner == receiver).collect::<Vec<_>>() {
            segment.1.take_back();
            segments.keep(segment.1);
        }
    }

    /// Segments that are free, and that are lent.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let segments = self.lock();
        (segments.free.len(), segments.lent.len())
    }

    fn lock(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::CopyOnWrite;

    #[test]
    fn a_segment_is_used_again_when_its_reader_has_dropped_it() {
        let pool = SegmentPool::default();
        let mut segment = pool.take(100_000).expect("memory");
        segment.fill(&[1; 100_000]);
        segment.lend();
        let reader = CopyOnWrite::new(&segment, 100_000).expect("mapped");
        pool.put(7, segment);
        assert_eq!(pool.counts(), (0, 1));
        let mut second = pool.take(100_000).expect("memory");
        second.fill(&[2; 100_000]);
        assert!(reader.iter().all(|byte| *byte == 1), "it was not written to under its reader");
        pool.put(8, second);
        assert_eq!(pool.counts(), (1, 1));
        drop(reader);
        let third = pool.take(100_000).expect("memory");
        assert_eq!(pool.counts(), (1, 0), "one of the two, and none is lent");
        pool.put_back(third);
        assert_eq!(pool.counts(), (2, 0));
    }

    #[test]
    fn what_a_dead_receiver_had_comes_back() {
        let pool = SegmentPool::default();
        for receiver in [1, 2, 1] {
            let segment = pool.take(1).expect("memory");
            segment.lend();
            pool.put(receiver, segment);
        }
        pool.receiver_ended(1);
        assert_eq!(pool.counts(), (2, 1));
    }
}

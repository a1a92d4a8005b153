//! The board of a worker: shared memory in which it is written, before anything else happens, which item of a batch
//! runs and which results are there. So a crash costs the item that ran, and nothing else.
//!
//! A board has two slots, so that the next batch is there when one is done. A slot has three words and a log:
//!
//! | word | who writes it | what it says |
//! | --- | --- | --- |
//! | `claim` | both, by compare-and-swap | high half: items that were begun; low half: items that may be begun |
//! | `finished` | worker | high half: results in the log; low half: bytes of the log |
//! | `started` | worker | when the item that runs was begun, in nanoseconds of the monotonic clock |
//!
//! ```text
//!  pool:    reset (claim = 0│n, finished = 0), send the batch            worker: claim  k│n ─▶ k+1│n, run item k,
//!  pool:    recall  k│n ─▶ k│k: items k.. are the pool's again                   append the result, finished = k+1│bytes
//! ```
//!
//! Both change the same word, so an item is either begun or recalled, never both. While the worker runs item `k`, `claim`
//! says `k+1` and `finished` says `k`; between two items both say the same. Once the process has ended, the words
//! cannot change, and say which task was lost, if any. A slot is reset only when its batch was declared done.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::segment::memory_file;
use crate::sys::memory::{PAGE, SharedMap};

/// Bytes of one log. Pages that were never written cost nothing.
pub(crate) const LOG_BYTES: usize = 1 << 20;
const CLAIM: usize = 0;
const FINISHED: usize = 8;
const STARTED: usize = 16;
/// Apart, so that the two ends do not take a cache line from each other more often than they must.
const SLOT_BYTES: usize = 128;

/// One end of a board: the pool's or the worker's.
pub(crate) struct Board {
    map: SharedMap,
}

/// What the words of a slot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Items that were begun.
    pub(crate) begun: u32,
    /// Items with a result in the log.
    pub(crate) finished: u32,
    /// Bytes of the log that hold them.
    pub(crate) log_bytes: usize,
    /// When the last item was begun.
    pub(crate) started_nanos: u64,
}

fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, (word & 0xffff_ffff) as u32)
}

impl Board {
    const BYTES: usize = PAGE + 2 * LOG_BYTES;

    /// A new board, and the file to open its other end with.
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let file = memory_file("tricorne-board", Self::BYTES)?;
        Ok((Self::open(&file)?, file))
    }

    pub(crate) fn open(file: impl AsFd) -> io::Result<Self> {
        SharedMap::new(file, Self::BYTES).map(|map| Self { map })
    }

    fn word(&self, slot: usize, word: usize) -> &AtomicU64 {
        self.map.word(slot * SLOT_BYTES + word)
    }

    /// The pool's: makes the slot ready for `items` items, before they are sent.
    pub(crate) fn reset(&self, slot: usize, items: u32) {
        // Relaxed: the system call that sends the batch orders these before what the worker does with it.
        self.word(slot, FINISHED).store(0, Ordering::Relaxed);
        self.word(slot, STARTED).store(0, Ordering::Relaxed);
        self.word(slot, CLAIM).store(join(0, items), Ordering::Relaxed);
    }

    /// The pool's: how far the worker is.
    pub(crate) fn progress(&self, slot: usize) -> Progress {
        // Acquire, and first: what the log holds up to there was written before.
        let (finished, log_bytes) = split(self.word(slot, FINISHED).load(Ordering::Acquire));
        let (begun, _) = split(self.word(slot, CLAIM).load(Ordering::Acquire));
        let started_nanos = self.word(slot, STARTED).load(Ordering::Relaxed);
        Progress { begun, finished, log_bytes: log_bytes as usize, started_nanos }
    }

    /// Takes back the items that were not begun: those from the returned number on. Either end may.
    pub(crate) fn recall(&self, slot: usize) -> u32 {
        let recalled = |word| {
            let (begun, _) = split(word);
            Some(join(begun, begun))
        };
        // AcqRel: on success it is after all claims before it and before all claims after it.
        let before = self.word(slot, CLAIM).try_update(Ordering::AcqRel, Ordering::Acquire, recalled);
        split(before.unwrap_or_else(|word| word)).0
    }

    /// The pool's: appends the bytes of the log from `from` to `to`; `false` if these are no places in a log.
    #[must_use]
    pub(crate) fn read_log(&self, slot: usize, from: usize, to: usize, bytes: &mut Vec<u8>) -> bool {
        from <= to && to <= LOG_BYTES && self.map.read(Self::log(slot) + from, to - from, bytes)
    }

    /// The worker's: begins the next item, at `now`; `None` if there is none, or none any more.
    pub(crate) fn claim(&self, slot: usize, now: u64) -> Option<u32> {
        self.word(slot, STARTED).store(now, Ordering::Relaxed);
        let claimed = |word| {
            let (begun, limit) = split(word);
            (begun < limit).then(|| join(begun + 1, limit))
        };
        // AcqRel: what the item does is after the claim, and the time above is before it.
        let before = self.word(slot, CLAIM).try_update(Ordering::AcqRel, Ordering::Acquire, claimed);
        before.ok().map(|word| split(word).0)
    }

    /// The worker's: writes the result of item `item` behind the `log_bytes` bytes of those before it, and says so.
    ///
    /// # Panics
    /// If the log has no room for it.
    pub(crate) fn finish(&self, slot: usize, item: u32, log_bytes: usize, result: &[u8]) {
        let end = log_bytes + result.len();
        assert!(end <= LOG_BYTES, "a result that fits into the log");
        self.map.write(Self::log(slot) + log_bytes, result);
        let end = u32::try_from(end).expect("a log is smaller than 4 GiB");
        // Release: after the result, and before the next claim.
        self.word(slot, FINISHED).store(join(item + 1, end), Ordering::Release);
    }

    fn log(slot: usize) -> usize {
        PAGE + slot * LOG_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    #[test]
    fn the_words_say_what_runs_and_what_is_there() {
        let (pool, file) = Board::create().expect("memory");
        let worker = Board::open(&file).expect("memory");
        pool.reset(1, 3);
        assert_eq!(worker.claim(1, 77), Some(0));
        assert_eq!(pool.progress(1), Progress { begun: 1, finished: 0, log_bytes: 0, started_nanos: 77 });
        worker.finish(1, 0, 0, b"first");
        assert_eq!(worker.claim(1, 78), Some(1));
        assert_eq!(pool.recall(1), 2);
        worker.finish(1, 1, 5, b"second");
        assert_eq!(worker.claim(1, 79), None, "it was recalled");
        let progress = pool.progress(1);
        assert_eq!((progress.begun, progress.finished, progress.log_bytes), (2, 2, 11));
        let mut log = Vec::new();
        assert!(pool.read_log(1, 5, 11, &mut log));
        assert_eq!(log, b"second");
        assert!(!pool.read_log(1, 0, LOG_BYTES + 1, &mut log) && !pool.read_log(1, 2, 1, &mut log));
        assert_eq!(pool.progress(0).begun, 0, "the other slot is untouched");
    }

    /// Two threads stand for the two processes: every item is claimed or recalled, exactly once.
    #[test]
    fn an_item_is_begun_or_recalled_and_never_both() {
        const ITEMS: u32 = 50;
        let (pool, file) = Board::create().expect("memory");
        let worker = Board::open(&file).expect("memory");
        for round in 0..2_000_u32 {
            pool.reset(0, ITEMS);
            let begun = AtomicUsize::new(0);
            let recalled = thread::scope(|scope| {
                scope.spawn(|| {
                    while worker.claim(0, 0).is_some() {
                        begun.fetch_add(1, Ordering::Relaxed);
                    }
                });
                for _ in 0..round % 40 {
                    std::hint::spin_loop();
                }
                pool.recall(0)
            });
            assert_eq!(begun.into_inner(), recalled as usize, "round {round}");
        }
    }
}

//! The lazy map of a process pool.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::encode;
use super::engine::{Call, Engine, Job, Outcome};
use super::function::Function;
use super::pool::read;
use crate::error::TaskError;
use crate::future::TaskResult;

/// The most inputs that are ahead of the results.
const MAX_AHEAD: usize = 16 * 1024;
/// What was read of a slow input is submitted after so long.
const PATIENCE: Duration = Duration::from_millis(1);

/// The results of [`ProcessPoolExecutor::map`](super::ProcessPoolExecutor::map), in the order of the inputs.
///
/// Each is a [`TaskResult`]: one that failed does not end the map. Inputs travel in batches that take a few milliseconds, by
/// what is measured while it runs; the first ones go alone. [`chunk_size`](Self::chunk_size) sets the size instead.
pub struct Map<'p, A, R, I> {
    engine: &'p Engine,
    workers: usize,
    timeout: Option<Duration>,
    function: &'p Function<A, R>,
    /// `None` once it is at its end.
    inputs: Option<I>,
    chunk_size: Option<usize>,
    shared: Arc<Shared<R>>,
    /// Results that were taken out of `shared`.
    ready: VecDeque<TaskResult<R>>,
    /// Inputs that were submitted.
    submitted: u64,
    /// Results that are in `ready` or were given.
    taken: u64,
}

struct Shared<R> {
    slots: Mutex<Slots<R>>,
    /// The first slot is filled.
    first: Condvar,
    is_dropped: AtomicBool,
}

struct Slots<R> {
    /// Number of the first slot.
    base: u64,
    results: VecDeque<Option<TaskResult<R>>>,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, Slots<R>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, number: u64, result: TaskResult<R>) {
        let mut slots = self.lock();
        let Some(index) = number.checked_sub(slots.base) else { return };
        if let Some(slot) = usize::try_from(index).ok().and_then(|index| slots.results.get_mut(index)) {
            *slot = Some(result);
        }
        drop(slots);
        if index == 0 {
            self.first.notify_one();
        }
    }
}

struct Slot<R> {
    shared: Arc<Shared<R>>,
    number: u64,
    is_filled: bool,
}

impl<R> Drop for Slot<R> {
    /// Nobody waits for ever for a result that could not be read because its `Deserialize` panicked.
    fn drop(&mut self) {
        if !self.is_filled {
            let message = "the result was lost: reading it panicked".to_owned();
            self.shared.fill(self.number, Err(TaskError::Transport { message }));
        }
    }
}

impl<R: DeserializeOwned + Send + 'static> Job for Slot<R> {
    fn start(&mut self) -> bool {
        // Relaxed: if it is missed, a task is run that nobody waits for.
        !self.shared.is_dropped.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>, outcome: Outcome) {
        let result = read(outcome);
        self.is_filled = true;
        self.shared.fill(self.number, result);
    }
}

impl<'p, A, R, I> Map<'p, A, R, I> {
    pub(crate) fn new(
        engine: &'p Engine,
        workers: usize,
        timeout: Option<Duration>,
        function: &'p Function<A, R>,
        inputs: I,
    ) -> Self {
        let slots = Slots { base: 0, results: VecDeque::new() };
        Self {
            engine,
            workers,
            timeout,
            function,
            inputs: Some(inputs),
            chunk_size: None,
            shared: Arc::new(Shared {
                slots: Mutex::new(slots),
                first: Condvar::new(),
                is_dropped: AtomicBool::new(false),
            }),
            ready: VecDeque::new(),
            submitted: 0,
            taken: 0,
        }
    }

    /// Sends inputs in batches of this size, at least 1, instead of measuring. To be called before the first result is taken.
    #[must_use]
    pub fn chunk_size(mut self, inputs: usize) -> Self {
        self.chunk_size = Some(inputs.max(1));
        self
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.submitted - self.taken).unwrap_or(usize::MAX)
    }

    /// How many inputs may be ahead of the results: two batches for each worker, though not many more than have been taken
    /// so far, so that the first results are there at once and who wants few does not pay for many.
    fn window(&self) -> usize {
        let least = 4 * self.workers;
        if let Some(chunk) = self.chunk_size {
            return least.max(2 * self.workers * chunk);
        }
        let batch = self.function.definition().batch_items() as usize;
        let batches = (2 * self.workers).saturating_mul(batch).min(MAX_AHEAD);
        least.max(batches.min(2 * usize::try_from(self.taken).unwrap_or(MAX_AHEAD)))
    }
}

impl<A, R, I> Map<'_, A, R, I>
where
    A: Serialize,
    R: DeserializeOwned + Send + 'static,
    I: Iterator<Item = A>,
{
    /// Submits inputs as far as there is room, unless results are waiting and most of the room is used.
    fn advance(&mut self) {
        let window = self.window();
        if self.in_flight() > window / 2 {
            return;
        }
        let mut calls = Vec::new();
        let mut since = Instant::now();
        let mut room = window - self.in_flight();
        // A chunk is not cut by the bound.
        if let Some(chunk) = self.chunk_size {
            room = room.next_multiple_of(chunk);
        }
        for index in 0..room {
            let Some(input) = self.inputs.as_mut().and_then(Iterator::next) else {
                self.inputs = None;
                break;
            };
            let number = self.submitted;
            self.submitted += 1;
            self.shared.lock().results.push_back(None);
            match encode(&input) {
                Ok(argument) => calls.push(Call {
                    function: Arc::clone(self.function.definition()),
                    argument,
                    timeout: self.timeout,
                    chunk: self.chunk_size.map(|_| 0),
                    job: Box::new(Slot { shared: Arc::clone(&self.shared), number, is_filled: false }),
                }),
                Err(message) => self.shared.fill(number, Err(TaskError::Transport { message })),
            }
            let is_chunk = self.chunk_size.is_none_or(|size| (index + 1).is_multiple_of(size));
            // Looking at the clock costs more than a small input.
            if is_chunk && (index < 2 * self.workers || index % 64 == 0) && since.elapsed() > PATIENCE {
                self.submit(&mut calls);
                since = Instant::now();
                if self.is_first_ready() {
                    return;
                }
            }
        }
        self.submit(&mut calls);
    }

    fn submit(&self, calls: &mut Vec<Call>) {
        static NEXT_CHUNK: AtomicU64 = AtomicU64::new(1);
        if let Some(size) = self.chunk_size {
            for chunk in calls.chunks_mut(size) {
                // Relaxed: only the numbers' being different matters.
                let number = NEXT_CHUNK.fetch_add(1, Ordering::Relaxed);
                chunk.iter_mut().for_each(|call| call.chunk = Some(number));
            }
        }
        if !calls.is_empty() {
            self.engine.submit_many(calls.drain(..));
        }
    }

    fn is_first_ready(&self) -> bool {
        matches!(self.shared.lock().results.front(), Some(Some(_)))
    }
}

impl<A, R, I> Iterator for Map<'_, A, R, I>
where
    A: Serialize,
    R: DeserializeOwned + Send + 'static,
    I: Iterator<Item = A>,
{
    type Item = TaskResult<R>;

    fn next(&mut self) -> Option<TaskResult<R>> {
        if let Some(result) = self.ready.pop_front() {
            return Some(result);
        }
        self.advance();
        if self.in_flight() == 0 {
            return None;
        }
        let mut slots = self.shared.lock();
        while !matches!(slots.results.front(), Some(Some(_))) {
            slots = self.shared.first.wait(slots).unwrap_or_else(PoisonError::into_inner);
        }
        while let Some(Some(_)) = slots.results.front() {
            slots.base += 1;
            self.taken += 1;
            self.ready.extend(slots.results.pop_front().flatten());
        }
        drop(slots);
        self.ready.pop_front()
    }
}

impl<A, R, I> fmt::Debug for Map<'_, A, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("submitted", &self.submitted)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl<A, R, I> Drop for Map<'_, A, R, I> {
    fn drop(&mut self) {
        self.shared.is_dropped.store(true, Ordering::Relaxed);
    }
}

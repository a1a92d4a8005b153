//! Which worker gets which tasks, how many at once, and what becomes of them: all that happens under the engine's lock.
//!
//! A batch is as many tasks as take about [`TARGET`], by what was measured of the function, at most twice as many as in
//! the batch before and at most a fair share of the queue. While a batch of short tasks runs, the next one is sent, so
//! that the worker does not wait. A batch that takes longer than expected is no trouble: every few milliseconds the
//! manager takes its results, and if another worker has nothing to do, the tasks that were not begun go there.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::board::Board;
use super::engine::{Definition, Locked, Outcome, Task};
use super::frame::{FromWorker, Garbled, Reader, kind};
use super::parcel::Parcel;
use super::segment::Segment;
use super::socket::{self, MAX_FILES, MAX_MESSAGE, Wait};
use super::stats::ProcessPoolStats;
use super::worker::{monotonic_nanos, status};
use crate::error::TaskError;

/// How long a batch of short tasks should take.
const TARGET: Duration = Duration::from_millis(2);
/// How often the manager looks at batches of several tasks.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// How often memory is looked at, if it has a limit.
const MEMORY_TICK: Duration = Duration::from_millis(50);
/// How long a worker that has closed its connection has to end by itself.
const HANG_UP_LIMIT: Duration = Duration::from_millis(100);
/// The most tasks of one batch.
const MAX_ITEMS: u32 = 8192;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// All that is known of the tasks and the workers of a pool.
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// What every task gets from now on.
    pub(crate) broken: Option<TaskError>,
    pub(crate) queue: VecDeque<Task>,
    pub(crate) workers: BTreeMap<u64, Worker>,
    /// Workers that wait; the last one was the last to work.
    idle: Vec<u64>,
    pub(crate) next_task: u64,
    next_batch: u64,
    /// How many workers the manager should start.
    pub(crate) to_start: usize,
    /// When the manager looks, if nobody wakes it.
    pub(crate) planned: Option<Instant>,
    pub(crate) template_pid: Option<u32>,
    pub(crate) manager_thread: Option<ThreadId>,
    pub(crate) counters: ProcessPoolStats,
    frame: Vec<u8>,
    log: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// No more tasks are taken; those that are there are run.
    Draining,
    /// There is no task, and the workers were told to end.
    Leaving,
    Ended,
}

/// One worker process.
pub(crate) struct Worker {
    pub(crate) socket: OwnedFd,
    pub(crate) board: Board,
    pub(crate) stage: Stage,
    /// 0 until it has said hello.
    pub(crate) pid: u32,
    pub(crate) pidfd: Option<OwnedFd>,
    /// The batches that it has, in the slots of its board.
    pub(crate) frames: [Option<Frame>; 2],
    /// Functions that it knows.
    known: HashSet<u64>,
    /// Tasks that it has run.
    executed: u64,
    /// Its socket was full.
    blocked: bool,
    /// Why it was killed, if the pool did it.
    pub(crate) killed: Option<Cause>,
    /// When its connection was at its end.
    pub(crate) hung_up: Option<Instant>,
    /// Which template has made it.
    pub(crate) template: u64,
    /// When its memory is to be looked at.
    memory_look: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Starting {
        since: Instant,
    },
    Ready,
    /// It was told to end, and gets nothing more.
    Leaving {
        since: Instant,
    },
}

/// Why the pool has killed a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    TimedOut { after: Duration },
    Cancelled,
    Memory,
    Garbage,
    Ended,
    StartLimit,
    ExitLimit,
}

/// A batch that a worker has.
pub(crate) struct Frame {
    number: u64,
    /// Whose tasks these are, if they are all of one function.
    function: Option<Arc<Definition>>,
    /// Those without a result yet; the first one is item number `taken`.
    tasks: VecDeque<Task>,
    taken: u32,
    log_bytes: usize,
    /// Files that came for results of these items.
    files: HashMap<u32, Vec<OwnedFd>>,
    sent: Instant,
    has_timeouts: bool,
    is_chunk: bool,
}

impl Worker {
    pub(crate) fn new(socket: OwnedFd, board: Board, template: u64) -> Self {
        let now = Instant::now();
        Self {
            socket,
            board,
            stage: Stage::Starting { since: now },
            pid: 0,
            pidfd: None,
            frames: [None, None],
            known: HashSet::new(),
            executed: 0,
            blocked: false,
            killed: None,
            hung_up: None,
            template,
            memory_look: None,
        }
    }

    /// It was sent SIGTERM.
    pub(crate) fn terminated(&mut self, now: Instant) {
        self.stage = Stage::Leaving { since: now };
        self.killed = Some(Cause::Ended);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.frames.iter().any(Option::is_some)
    }

    fn in_flight(&self) -> usize {
        self.frames.iter().flatten().map(|frame| frame.tasks.len()).sum()
    }

    /// How many tasks it may be given before it is replaced.
    fn left(&self, max_tasks: Option<u64>) -> u64 {
        max_tasks.map_or(u64::MAX, |max| max.saturating_sub(self.executed + self.in_flight() as u64))
    }

    /// Whether it takes a batch now: at once, or behind another one of short tasks.
    fn takes_more(&self, max_tasks: Option<u64>) -> bool {
        if self.left(max_tasks) == 0 {
            return false;
        }
        if self.stage != Stage::Ready || self.killed.is_some() || self.blocked || self.hung_up.is_some() {
            return false;
        }
        let mut frames = self.frames.iter().flatten();
        match (frames.next(), frames.next()) {
            (Some(frame), None) => frame.tasks.front().is_some_and(|task| {
                let run_nanos = task.function.run_nanos.load(Ordering::Relaxed);
                run_nanos != 0 && run_nanos < nanos(TARGET)
            }),
            (None, None) => true,
            _ => false,
        }
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Open,
            broken: None,
            queue: VecDeque::new(),
            workers: BTreeMap::new(),
            idle: Vec::new(),
            next_task: 1,
            next_batch: 1,
            to_start: 0,
            planned: None,
            template_pid: None,
            manager_thread: None,
            counters: ProcessPoolStats::default(),
            frame: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Why the pool takes no task, if it does not.
    pub(crate) fn refusal(&self, rejected: impl Fn() -> TaskError) -> Option<TaskError> {
        match (&self.broken, self.phase) {
            (Some(error), _) => Some(error.clone()),
            (None, Phase::Open) => None,
            (None, _) => Some(rejected()),
        }
    }

    pub(crate) fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
        }
    }

    /// Whether the manager sleeps for longer than until `wanted`.
    pub(crate) fn is_earlier_than_planned(&self, wanted: Option<Instant>) -> bool {
        wanted.is_some_and(|wanted| self.planned.is_none_or(|planned| wanted < planned))
    }

    /// Whether no worker has anything to do, and nobody has to do anything about workers.
    pub(crate) fn is_quiet(&self) -> bool {
        self.phase == Phase::Open
            && self.queue.is_empty()
            && self.to_start == 0
            && self.workers.values().all(|worker| !worker.is_busy() && worker.stage == Stage::Ready)
    }

    pub(crate) fn stats(&self) -> ProcessPoolStats {
        ProcessPoolStats {
            workers: self.workers.len(),
            idle: self.idle.len(),
            queued: self.queue.len(),
            in_flight: self.workers.values().map(Worker::in_flight).sum(),
            running: self.workers.values().filter(|worker| worker.running().is_some()).count(),
            ..self.counters
        }
    }

    /// Workers that are about to begin a task: they are being started for one, or were sent it.
    pub(crate) fn about_to_begin(&self) -> usize {
        let is_about = |worker: &&Worker| {
            matches!(worker.stage, Stage::Starting { .. }) || worker.is_busy() && worker.running().is_none()
        };
        self.to_start + self.workers.values().filter(is_about).count()
    }

    pub(crate) fn is_running(&self, id: u64) -> bool {
        self.workers.values().any(|worker| worker.running().is_some_and(|task| task.id == id))
    }

    /// A worker has nothing to do.
    pub(crate) fn ready(&mut self, number: u64) {
        self.idle.push(number);
    }
}

impl Locked<'_> {
    /// Ends a task that no worker has any more, without a reply.
    pub(crate) fn lose(&mut self, task: Task, error: TaskError) {
        if matches!(error, TaskError::Cancelled) {
            self.state.counters.cancelled += 1;
        }
        for segment in task.parcel.segments {
            self.shared.segments.put_back(segment);
        }
        self.deferred.finished.push((task.job, Outcome::Lost(error)));
    }

    /// Sends what can be sent, and says how many workers should be started. Returns when the manager should look at
    /// what was sent, if it should.
    pub(crate) fn dispatch(&mut self) -> Option<Instant> {
        let mut look: Option<Instant> = None;
        let max_tasks = self.shared.config.max_tasks_per_worker;
        while !self.state.queue.is_empty() {
            let state = &mut *self.state;
            let number = loop {
                match state.idle.pop() {
                    Some(number)
                        if state
                            .workers
                            .get(&number)
                            .is_some_and(|w| w.takes_more(max_tasks) && !w.is_busy()) =>
                    {
                        break Some(number);
                    }
                    Some(_) => {}
                    None => {
                        break state
                            .workers
                            .iter()
                            .find(|(_, worker)| worker.takes_more(max_tasks))
                            .map(|(n, _)| *n);
                    }
                }
            };
            let Some(number) = number else { break };
            if let Some(at) = self.send_batch(number) {
                look = Some(look.map_or(at, |look| look.min(at)));
            }
        }
        let state = &mut *self.state;
        let is_leaving =
            |worker: &&Worker| worker.killed.is_some() || matches!(worker.stage, Stage::Leaving { .. });
        let staying = state.workers.len() - state.workers.values().filter(is_leaving).count();
        let starting =
            state.workers.values().filter(|worker| matches!(worker.stage, Stage::Starting { .. })).count();
        let needed = state.queue.len().saturating_sub(starting);
        state.to_start = needed.min(self.shared.config.workers.saturating_sub(staying));
        look
    }

    /// Sends a worker the next batch. Returns when the manager should look at it, if it should.
    fn send_batch(&mut self, number: u64) -> Option<Instant> {
        let config = &self.shared.config;
        let state = &mut *self.state;
        let worker = state.workers.get_mut(&number)?;
        let slot = usize::from(worker.frames[0].is_some());
        let share = state.queue.len().div_ceil(2 * config.workers);
        let left = worker.left(config.max_tasks_per_worker);

        let mut tasks: VecDeque<Task> = VecDeque::new();
        let mut definitions: Vec<Arc<Definition>> = Vec::new();
        let (mut bytes, mut files, mut run_nanos) = (64, 0, 0_u64);
        let mut largest = usize::MAX;
        while let Some(task) = state.queue.front() {
            let function = &task.function;
            let expected = function.run_nanos.load(Ordering::Relaxed);
            let is_new = !worker.known.contains(&function.id)
                && definitions.iter().all(|known| known.id != function.id);
            let more_bytes = 16 + task.parcel.frame_bytes() + if is_new { 64 * 1024 } else { 0 };
            let more_files = task.parcel.segments.len() + usize::from(is_new);
            if let Some(first) = tasks.front() {
                let fits = bytes + more_bytes <= MAX_MESSAGE
                    && files + more_files <= MAX_FILES
                    && (tasks.len() as u64) < left
                    && tasks.len() < MAX_ITEMS as usize;
                let wanted = match (first.chunk, task.chunk) {
                    (None, None) => {
                        expected != 0
                            && tasks.len() < largest
                            && run_nanos.saturating_add(expected) <= nanos(TARGET)
                    }
                    (first, this) => first == this,
                };
                if !fits || !wanted {
                    break;
                }
            } else {
                largest = share.min(function.max_items.load(Ordering::Relaxed) as usize);
            }
            if is_new {
                definitions.push(Arc::clone(function));
            }
            bytes += more_bytes;
            files += more_files;
            run_nanos = run_nanos.saturating_add(expected.max(1));
            let mut task = state.queue.pop_front().expect("seen above");
            if !task.started && !task.job.start() {
                state.counters.cancelled += 1;
                for segment in task.parcel.segments {
                    self.shared.segments.put_back(segment);
                }
                self.deferred.unwanted.push(task.job);
                continue;
            }
            task.started = true;
            tasks.push_back(task);
        }
        if tasks.is_empty() {
            if !worker.is_busy() {
                state.ready(number);
            }
            return None;
        }

        let mut parcels = Vec::new();
        for definition in &definitions {
            match Parcel::pack(&definition.message, &self.shared.segments) {
                Ok(parcel) => parcels.push(parcel),
                Err(error) => {
                    let error = TaskError::Transport { message: error.to_string() };
                    tasks.drain(..).for_each(|task| self.lose(task, error.clone()));
                    return None;
                }
            }
        }
        let items = u32::try_from(tasks.len()).expect("at most `MAX_ITEMS`");
        let batch = state.next_batch;
        state.next_batch += 1;
        let frame = &mut state.frame;
        frame.clear();
        frame.extend([kind::BATCH, u8::from(slot == 1)]);
        frame.extend(batch.to_le_bytes());
        frame.extend(u32::try_from(definitions.len()).expect("fewer than tasks").to_le_bytes());
        frame.extend(items.to_le_bytes());
        for (definition, parcel) in definitions.iter().zip(&parcels) {
            frame.extend(definition.id.to_le_bytes());
            parcel.write(frame);
        }
        for task in &tasks {
            frame.extend(task.id.to_le_bytes());
            frame.extend(task.function.id.to_le_bytes());
            task.parcel.write(frame);
        }
        let segments =
            || parcels.iter().chain(tasks.iter().map(|task| &task.parcel)).flat_map(|p| &p.segments);
        segments().for_each(Segment::lend);
        let files: Vec<BorrowedFd<'_>> = segments().map(AsFd::as_fd).collect();
        worker.board.reset(slot, items);
        let sent = socket::send(&worker.socket, frame, &files, Wait::No);
        for segment in parcels.into_iter().flat_map(|parcel| parcel.segments) {
            self.shared.segments.put(number, segment);
        }
        if let Err(error) = sent {
            let is_gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
            if !is_gone && !worker.is_busy() {
                // It has read all that it was sent, so this cannot be sent: too many descriptors, or the system has no memory.
                let error = TaskError::Transport { message: error.to_string() };
                tasks.drain(..).for_each(|task| self.lose(task, error.clone()));
                return None;
            }
            // No room behind the batch that it has, or it has just died, which the manager is about to see.
            worker.blocked = true;
            while let Some(task) = tasks.pop_back() {
                state.queue.push_front(task);
            }
            return None;
        }
        worker.known.extend(definitions.iter().map(|definition| definition.id));
        state.counters.batches += 1;
        let now = Instant::now();
        let timeout = tasks.iter().filter_map(|task| task.timeout).min();
        let function = tasks.front().map(|task| Arc::clone(&task.function));
        if config.max_memory_bytes.is_some() {
            worker.memory_look.get_or_insert(now + MEMORY_TICK);
        }
        worker.frames[slot] = Some(Frame {
            number: batch,
            function: function.filter(|function| tasks.iter().all(|task| task.function.id == function.id)),
            is_chunk: tasks.front().is_some_and(|task| task.chunk.is_some()),
            has_timeouts: timeout.is_some(),
            tasks,
            taken: 0,
            log_bytes: 0,
            files: HashMap::new(),
            sent: now,
        });
        let tick = (worker.in_flight() > 1).then(|| now + TICK);
        let timeout = timeout.and_then(|timeout| now.checked_add(timeout));
        [tick, timeout, worker.memory_look].into_iter().flatten().min()
    }

    /// Takes the results that are on a worker's board. With `all` the socket has been read up to there: then the files of
    /// every result must have come; without, those whose files are still on their way are left for later.
    pub(crate) fn harvest(&mut self, number: u64, slot: usize, all: bool) -> Result<(), Garbled> {
        let state = &mut *self.state;
        let Some(worker) = state.workers.get_mut(&number) else { return Ok(()) };
        let Some(frame) = &mut worker.frames[slot] else { return Ok(()) };
        let progress = worker.board.progress(slot);
        if progress.finished == frame.taken {
            return Ok(());
        }
        let new = progress.finished.checked_sub(frame.taken).ok_or(Garbled)? as usize;
        if new > frame.tasks.len() {
            return Err(Garbled);
        }
        state.log.clear();
        if !worker.board.read_log(slot, frame.log_bytes, progress.log_bytes, &mut state.log) {
            return Err(Garbled);
        }
        let mut reader = Reader::new(&state.log);
        for _ in 0..new {
            let from = reader.position();
            let how = reader.u8()?;
            let files = frame.files.remove(&frame.taken);
            if files.is_none() && !all && Parcel::has_segments(&state.log[from + 1..]) {
                return Ok(());
            }
            let message = Parcel::unpack(&mut reader, &mut files.unwrap_or_default().into_iter())?;
            frame.log_bytes += reader.position() - from;
            let outcome = match how {
                status::DONE => Outcome::Done(message),
                status::FAILED => Outcome::Failed(message),
                status::UNSENT => {
                    let message = String::from_utf8_lossy(&message.payload).into_owned();
                    Outcome::Lost(TaskError::Transport { message })
                }
                _ => return Err(Garbled),
            };
            let task = frame.tasks.pop_front().expect("there are `new` of them");
            frame.taken += 1;
            state.counters.completed += 1;
            for segment in task.parcel.segments {
                self.shared.segments.put(number, segment);
            }
            self.deferred.finished.push((task.job, outcome));
        }
        reader.end()
    }

    /// What a worker says that is at work.
    pub(crate) fn at_work(
        &mut self,
        number: u64,
        frame: &FromWorker,
        files: Vec<OwnedFd>,
    ) -> Result<(), Garbled> {
        match *frame {
            FromWorker::Files { slot, number: batch, item } => {
                let Some(worker) = self.state.workers.get_mut(&number) else { return Ok(()) };
                worker.files(slot, batch, item, files)
            }
            FromWorker::Done { slot, number: batch, executed, nanos } => {
                self.done(number, slot, batch, executed, nanos)
            }
            FromWorker::Hello { .. } | FromWorker::Ready | FromWorker::Refused(_) => Err(Garbled),
        }
    }

    /// Reads one frame of a worker that is at work; `false` if the manager has to see to that worker.
    pub(crate) fn hear_result(&mut self, number: u64, buffer: &mut [u8]) -> bool {
        let Some(worker) = self.state.workers.get(&number) else { return false };
        if worker.stage != Stage::Ready {
            return false;
        }
        let mut files = Vec::new();
        let heard = match socket::receive(&worker.socket, buffer, &mut files, Wait::No) {
            Ok(Some(frame)) => FromWorker::read(frame).and_then(|frame| self.at_work(number, &frame, files)),
            Ok(None) => return false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(_) => Err(Garbled),
        };
        if heard.is_err() {
            self.kill_worker(number, Cause::Garbage);
        }
        heard.is_ok()
    }

    /// A worker says that it is done with a batch.
    pub(crate) fn done(
        &mut self,
        number: u64,
        slot: usize,
        batch: u64,
        executed: u32,
        run_nanos: u64,
    ) -> Result<(), Garbled> {
        self.harvest(number, slot, true)?;
        let state = &mut *self.state;
        let Some(worker) = state.workers.get_mut(&number) else { return Ok(()) };
        let Some(frame) = worker.frames[slot].take_if(|frame| frame.number == batch) else {
            return Err(Garbled);
        };
        if frame.taken != executed {
            worker.frames[slot] = Some(frame);
            return Err(Garbled);
        }
        worker.blocked = false;
        worker.executed += u64::from(executed);
        if let Some((function, run_nanos)) = frame.function.as_ref().zip((executed > 0).then_some(run_nanos))
        {
            function.measured(run_nanos, executed, nanos(TARGET));
        }
        // Its log was full before it had run them all.
        self.send_again(frame.tasks);
        let state = &mut *self.state;
        let Some(worker) = state.workers.get_mut(&number) else { return Ok(()) };
        if worker.stage == Stage::Ready && !worker.is_busy() {
            if self.shared.config.max_tasks_per_worker.is_some_and(|max| worker.executed >= max) {
                worker.leave();
            } else {
                state.ready(number);
            }
        }
        Ok(())
    }

    /// Puts tasks that were not begun in front of all others.
    fn send_again(&mut self, mut tasks: VecDeque<Task>) {
        self.state.counters.sent_again += tasks.len() as u64;
        while let Some(task) = tasks.pop_back() {
            self.state.queue.push_front(task);
        }
    }

    /// Takes back all that a worker has not begun. From then on it begins nothing that it has.
    pub(crate) fn recall(&mut self, number: u64) {
        let Some(worker) = self.state.workers.get_mut(&number) else { return };
        let mut recalled = Vec::new();
        for slot in worker.slots_by_age().into_iter().rev() {
            let Some(frame) = &mut worker.frames[slot] else { continue };
            let begun = worker.board.recall(slot);
            let keep = (begun.saturating_sub(frame.taken) as usize).min(frame.tasks.len());
            recalled.push(frame.tasks.split_off(keep));
        }
        for tasks in recalled {
            self.send_again(tasks);
        }
    }

    /// Kills a worker; what it has not begun is sent again. Its burial says what was lost.
    pub(crate) fn kill_worker(&mut self, number: u64, cause: Cause) {
        self.recall(number);
        let Some(worker) = self.state.workers.get_mut(&number) else { return };
        worker.killed.get_or_insert(cause);
        worker.kill();
    }

    /// See [`Engine::kill`](super::Engine::kill) and [`Engine::cancel`](super::Engine::cancel).
    pub(crate) fn end_task(&mut self, id: u64, even_if_it_runs: bool) -> bool {
        let has = |worker: &Worker| {
            worker.frames.iter().flatten().any(|frame| frame.tasks.iter().any(|t| t.id == id))
        };
        let holder = self.state.workers.iter().find(|(_, worker)| has(worker)).map(|(number, _)| *number);
        if let Some(number) = holder {
            // It goes on if it has not begun this task, which is in the queue then, or if it has just ended it.
            self.recall(number);
            let worker = self.state.workers.get(&number);
            if worker.and_then(Worker::running).is_some_and(|task| task.id == id) {
                if even_if_it_runs {
                    self.kill_worker(number, Cause::Cancelled);
                }
                return even_if_it_runs;
            }
        }
        let Some(index) = self.state.queue.iter().position(|task| task.id == id) else { return false };
        let Some(task) = self.state.queue.remove(index) else { return false };
        self.lose(task, TaskError::Cancelled);
        true
    }

    /// Cancels all that no worker has begun.
    pub(crate) fn cancel_pending(&mut self) {
        self.cancel_pending_behind(0);
    }

    /// Cancels all that no worker has begun, except the first ones of the queue.
    pub(crate) fn cancel_pending_behind(&mut self, first: usize) {
        let numbers: Vec<u64> = self.state.workers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.recall(number));
        let first = first.min(self.state.queue.len());
        for task in self.state.queue.split_off(first) {
            self.lose(task, TaskError::Cancelled);
        }
    }

    /// The manager has ended, and nobody is left to bury anybody.
    pub(crate) fn abandon_all(&mut self, error: &TaskError) {
        self.state.phase = Phase::Ended;
        let mut left = std::mem::take(&mut self.state.queue);
        for worker in std::mem::take(&mut self.state.workers).into_values() {
            worker.kill();
            left.extend(worker.frames.into_iter().flatten().flat_map(|frame| frame.tasks));
        }
        left.into_iter().for_each(|task| self.lose(task, error.clone()));
    }

    /// Ends everything with `error`.
    pub(crate) fn break_pool(&mut self, error: &TaskError) {
        self.state.close();
        self.state.broken.get_or_insert_with(|| error.clone());
        let numbers: Vec<u64> = self.state.workers.keys().copied().collect();
        for number in numbers {
            let is_leaving =
                |worker: &Worker| matches!(worker.stage, Stage::Leaving { .. }) && !worker.is_busy();
            if !self.state.workers.get(&number).is_some_and(is_leaving) {
                self.kill_worker(number, Cause::Ended);
            }
        }
        for task in std::mem::take(&mut self.state.queue) {
            self.lose(task, error.clone());
        }
    }

    /// Looks at the clocks of a worker: time-outs, limits, batches that take too long. Returns when to look again.
    pub(crate) fn look_at(&mut self, number: u64, now: Instant) -> Option<Instant> {
        let config = &self.shared.config;
        let worker = self.state.workers.get(&number)?;
        let mut look = Vec::new();
        let mut due = |at: Option<Instant>| {
            at.is_some_and(|at| {
                at <= now || {
                    look.push(at);
                    false
                }
            })
        };
        let mut kill = None;
        match worker.stage {
            Stage::Starting { since } if due(since.checked_add(config.start_limit)) => {
                kill = Some(Cause::StartLimit);
            }
            Stage::Leaving { since } if due(since.checked_add(config.exit_limit)) => {
                kill = Some(Cause::ExitLimit);
            }
            _ => {}
        }
        // One that was told to end has its own limit, also for what its program does at exit.
        if let Some(since) = worker.hung_up
            && !matches!(worker.stage, Stage::Leaving { .. })
            && due(Some(since + HANG_UP_LIMIT))
        {
            kill = Some(Cause::Garbage);
        }
        if let Some(max_bytes) = config.max_memory_bytes
            && worker.memory_look.is_some()
            && worker.killed.is_none()
            && due(worker.memory_look)
        {
            let over = own_memory_bytes(worker.pid).is_some_and(|bytes| bytes > max_bytes);
            let worker = self.state.workers.get_mut(&number)?;
            worker.memory_look = worker.is_busy().then(|| now + MEMORY_TICK);
            look.extend(worker.memory_look);
            match (over, worker.is_busy()) {
                (true, true) => kill = Some(Cause::Memory),
                (true, false) => worker.leave(),
                (false, _) => {}
            }
        }
        if let Some(cause) = kill {
            self.kill_worker(number, cause);
            return look.into_iter().min();
        }
        let worker = self.state.workers.get(&number)?;
        if worker.killed.is_none() {
            let several = worker.in_flight() > 1;
            if several {
                look.push(now + TICK);
            }
            if let Some(at) = self.look_at_batches(number, now, several) {
                look.push(at);
            }
        }
        look.into_iter().min()
    }

    fn look_at_batches(&mut self, number: u64, now: Instant, several: bool) -> Option<Instant> {
        let mut look: Option<Instant> = None;
        for slot in 0..2 {
            if several && self.harvest(number, slot, false).is_err() {
                self.kill_worker(number, Cause::Garbage);
                return None;
            }
            let worker = self.state.workers.get(&number)?;
            let Some(frame) = &worker.frames[slot] else { continue };
            let progress = worker.board.progress(slot);
            let ahead = progress.finished.saturating_sub(frame.taken) as usize;
            let running = frame.tasks.get(ahead).filter(|_| progress.begun > progress.finished);
            let ran = Duration::from_nanos(monotonic_nanos().saturating_sub(progress.started_nanos));
            if let Some(task) = running
                && ran > TICK
            {
                // What has run for so long takes at least so long: the others are not put behind such a one.
                task.function.run_nanos.fetch_max(nanos(ran), Ordering::Relaxed);
            }
            if frame.has_timeouts {
                let after = match running {
                    Some(task) => task.timeout,
                    None => frame.tasks.iter().filter_map(|task| task.timeout).min(),
                };
                if let Some(after) = after {
                    let left = if running.is_some() { after.saturating_sub(ran) } else { after };
                    if let Some(task) = running.filter(|_| left.is_zero()) {
                        let task = task.id;
                        self.time_out(number, task, after);
                        return None;
                    }
                    let at = now.checked_add(left.max(Duration::from_micros(100)));
                    look = [look, at].into_iter().flatten().min();
                }
            }
        }
        look
    }

    /// Kills the worker of the task that runs, which has run for too long, unless it has just ended.
    fn time_out(&mut self, number: u64, task: u64, after: Duration) {
        self.recall(number);
        let worker = self.state.workers.get(&number);
        if worker.and_then(Worker::running).is_some_and(|running| running.id == task) {
            self.kill_worker(number, Cause::TimedOut { after });
        }
    }

    /// Gives what slow workers have not begun to those that have nothing to do.
    pub(crate) fn rebalance(&mut self, now: Instant) {
        let state = &*self.state;
        if !state.queue.is_empty()
            || (state.idle.is_empty() && state.workers.len() >= self.shared.config.workers)
        {
            return;
        }
        let is_slow = |worker: &Worker| {
            let waits = |frame: &Frame| !frame.is_chunk && now.duration_since(frame.sent) > TICK;
            worker.in_flight() > 1 && worker.frames.iter().flatten().any(waits)
        };
        let slow = state.workers.iter().find(|(_, worker)| is_slow(worker)).map(|(number, _)| *number);
        if let Some(number) = slow {
            self.recall(number);
        }
    }

    /// Forgets a worker that has ended, or never was. What it had not begun is sent again; the task that it ran, if any, is
    /// returned.
    pub(crate) fn bury(&mut self, number: u64) -> Option<(Worker, Option<Task>)> {
        let slots = self.state.workers.get(&number)?.slots_by_age();
        for slot in slots {
            // What cannot be read here was lost: it counts as what ran.
            let _ = self.harvest(number, slot, true);
        }
        let mut worker = self.state.workers.remove(&number)?;
        let mut lost = None;
        let mut again = VecDeque::new();
        for slot in slots {
            let Some(mut frame) = worker.frames[slot].take() else { continue };
            let progress = worker.board.progress(slot);
            if progress.begun > frame.taken && lost.is_none() {
                lost = frame.tasks.pop_front();
            }
            again.append(&mut frame.tasks);
        }
        self.send_again(again);
        self.shared.segments.receiver_ended(number);
        self.state.idle.retain(|idle| *idle != number);
        self.state.counters.workers_ended += 1;
        Some((worker, lost))
    }
}

impl Worker {
    /// The task that it runs. After a recall it can only end, and no other one can begin.
    fn running(&self) -> Option<&Task> {
        self.frames.iter().enumerate().find_map(|(slot, frame)| {
            let frame = frame.as_ref()?;
            let progress = self.board.progress(slot);
            let ahead = progress.finished.checked_sub(frame.taken)?;
            if progress.begun > progress.finished { frame.tasks.get(ahead as usize) } else { None }
        })
    }

    /// Files came for the result of an item.
    pub(crate) fn files(
        &mut self,
        slot: usize,
        batch: u64,
        item: u32,
        files: Vec<OwnedFd>,
    ) -> Result<(), Garbled> {
        let frame = self.frames[slot].as_mut().filter(|frame| frame.number == batch).ok_or(Garbled)?;
        if item < frame.taken || frame.files.len() > MAX_ITEMS as usize {
            return Err(Garbled);
        }
        frame.files.insert(item, files);
        Ok(())
    }

    /// The slots, the one with the older batch first.
    fn slots_by_age(&self) -> [usize; 2] {
        match &self.frames {
            [Some(one), Some(other)] if one.number > other.number => [1, 0],
            _ => [0, 1],
        }
    }

    /// Tells it to end when it has done what it has.
    pub(crate) fn leave(&mut self) {
        self.stage = Stage::Leaving { since: Instant::now() };
        // If it has gone already, that is what was wanted.
        let _ = socket::send(&self.socket, &[kind::EXIT], &[], Wait::No);
    }

    /// Kills the process, if it is known yet.
    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// Memory of a process that is its own: resident and anonymous. Mapped segments are the sender's.
fn own_memory_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

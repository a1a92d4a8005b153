//! The streaming runner: source, fetch, journal, text workers and committer over bounded queues.
//!
//! ```text
//!             queue            queue                    queue of positions             queue of shards
//!  source ───▶ fetch (async) ───▶ journal (1 thread) ───▶ text (N threads) ───▶ committer (1 thread)
//!  1 thread    pages in flight    page on disk             outcome on disk        rows in id order
//!                   ▲                  │
//!                   └── places given ──┘
//!                       back
//! ```
//!
//! A fetch keeps its permit until its page is in the journal, so a kill costs at most what was in
//! flight, and a slow disk slows the fetching down instead of filling the memory. From the journal on,
//! only positions are queued: a page is read back by the worker that needs it. In a plan without text
//! stages nobody needs it: the journal's thread hashes it and writes the outcome instead.
//!
//! Waking a thread costs more than journalling a page. So what ends in one turn of the event loop goes to
//! the journal as one batch, the places of a batch come back as one, and the event loop gives them back
//! itself, where nobody has to be woken.

mod finish;
mod meter;
mod monitor;
mod open;
mod shard;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tricorne_exec::sys::thread_cpu_time;
use tricorne_exec::{AsyncExecutor, Shutdown, TaskError, ThreadPoolExecutor};
use tricorne_sync::{CancelToken, OwnedPermit, Queue, Semaphore};

pub use self::meter::StageClock;
use self::meter::{Counter, InWork, StageMeter};
use self::shard::OpenShard;
use crate::commit::{Assembly, Committing};
use crate::error::RunError;
use crate::files::Files;
use crate::journal::{Journal, Progress, input_check};
use crate::layout::{CommitRecord, Layout, Part, read_failed};
use crate::observer::{Event, Observer};
use crate::plan::DedupKey;
use crate::publish::publish_shard;
use crate::record::{Failure, Input, Outcome, Page, Record, StoredPage};
use crate::report::{FetchStats, RunReport};
use crate::sink::SinkSpec;

/// Where records come from.
pub trait Source: Send {
    /// The next record, in an order that is the same at every run. Ids count up from 0.
    fn next(&mut self) -> Result<Option<Input>, RunError>;
    /// How the user named it, for messages.
    fn name(&self) -> String;
}

/// A boxed future, so that the runner does not depend on who fetches.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gets the page of a record over the network, retries and limits included. Dropping the future
/// gives everything up.
pub trait Fetch: Send + Sync {
    /// Fetches one page.
    fn fetch<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Page, Failure>>;
    /// What has been counted so far.
    fn stats(&self) -> FetchStats;
}

/// Gets the page of a record from where it can be read again at any time: a file.
pub trait Load: Send + Sync {
    /// Reads one page.
    fn load(&self, record: &Record) -> Result<StoredPage, Failure>;
}

/// How pages are had.
#[derive(Clone)]
pub enum Pages {
    /// Over the network: journalled when received.
    Fetched(Arc<dyn Fetch>),
    /// From local files: only outcomes are journalled.
    Local(Arc<dyn Load>),
}

/// The per-record stages after the page is there.
pub trait Process: Send + Sync {
    /// The names of the stages, in order.
    fn stages(&self) -> &[&'static str];
    /// A worker with memory of its own; one for each thread.
    fn worker(&self) -> Box<dyn Worker>;
}

/// Runs the stages for one record at a time.
pub trait Worker {
    /// From page to outcome. Tells the clock which stage it is in. A panic fails the record.
    ///
    /// # Errors
    /// What concerns more than this record, such as a full disk; it ends the run.
    fn process(
        &mut self,
        record: &Record,
        page: StoredPage,
        clock: &mut StageClock<'_>,
    ) -> Result<Outcome, RunError>;
}

/// The last phase to run: a run can be cut into phases to measure each alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Only fetch, into the journals.
    Fetch,
    /// Only up to the outcomes.
    Text,
    /// Everything.
    Sink,
}

/// Everything a run needs. Built from a plan by [`crate::pipeline`], or by tests with stages of their own.
pub struct Engine {
    /// The file layer.
    pub files: Arc<dyn Files>,
    /// The output folder.
    pub out: PathBuf,
    /// How shards are written.
    pub sink: SinkSpec,
    /// Exact dedup, if wanted.
    pub dedup: Option<DedupKey>,
    /// Records of the input in a shard.
    pub records_per_shard: u64,
    /// Hash of `shape`.
    pub plan_hash: String,
    /// What shapes the data.
    pub shape: serde_json::Value,
    /// The Unicode versions behind the features, for the manifest.
    pub unicode_version: String,
    /// How pages are had.
    pub pages: Pages,
    /// The stages after that.
    pub process: Arc<dyn Process>,
    /// Threads for them.
    pub workers: usize,
    /// Records that may be waiting for their page at once: in flight, in back-off or in a queue of ours.
    pub max_pending: usize,
    /// How long nothing may move before the observer is told what is being waited for.
    pub watchdog: Duration,
    /// Run the records again that failed in an earlier run.
    pub retry_failed: bool,
    /// The last phase to run.
    pub last_phase: Phase,
}

/// Open shards at a time, at the most and at the least; in between as many as make so many records.
const OPEN_SHARDS: std::ops::RangeInclusive<u64> = 2..=64;
const OPEN_RECORDS: u64 = 1 << 16;
/// Records between two stages.
const QUEUE: usize = 1024;
/// Records that the event loop takes from its queue at a time, so that the source is not woken for each.
const TAKEN: usize = 64;
/// Bytes of received pages that may wait for the journal.
const LANDED_BYTES: u64 = 64 << 20;

impl Engine {
    /// Runs to the end, to the first error that concerns more than one record, or until cancelled.
    ///
    /// # Errors
    /// [`RunError`]; what was journalled or committed stays and the next run goes on from it.
    pub fn run(
        &self,
        source: Box<dyn Source>,
        observer: &Arc<dyn Observer>,
        cancel: &CancelToken,
    ) -> Result<RunReport, RunError> {
        let begun = Instant::now();
        let layout = Layout::new(&self.out, self.sink.format);
        let opened = open::open_output(self, &layout)?;
        let run = Arc::new(Run::new(self, layout, opened, begun, Arc::clone(observer), cancel.child()));
        if run.resumed_anything() {
            run.observer.event(&Event::Resumed {
                committed_shards: run.before.len() as u64,
                open_shards: run.open_before,
            });
        }

        let input = source.name();
        self.work(&run, source)?;
        if let Some(error) = run.error() {
            return Err(error);
        }
        let interrupted = cancel.is_cancelled();
        if !interrupted {
            if run.counters.read.get() == 0 {
                return Err(RunError::EmptyInput { input });
            }
            run.check_nothing_is_missing()?;
        }
        finish::finish(self, &run, interrupted)
    }

    /// Starts the threads and waits for them.
    fn work(&self, run: &Arc<Run>, source: Box<dyn Source>) -> Result<(), RunError> {
        let thread = |source| RunError::Threads { source };
        let threads = ThreadPoolExecutor::builder()
            .workers(self.workers + 4)
            .name("tricorne")
            .stack_bytes(TEXT_STACK)
            .start_all()
            .build()
            .map_err(thread)?;
        let event_loop = match &self.pages {
            Pages::Fetched(fetch) => Some((
                AsyncExecutor::builder().name("tricorne-fetch").build().map_err(thread)?,
                Arc::clone(fetch),
            )),
            Pages::Local(_) => None,
        };
        let mut ends = Vec::new();

        let monitor = {
            let run = Arc::clone(run);
            threads.submit(move || monitor::watch(&run))
        };
        {
            let run = Arc::clone(run);
            ends.push(threads.submit(move || run.guarded(|run| run.read_source(source))));
        }
        let loops = event_loop.as_ref().map(|(executor, fetch)| {
            let journal = Arc::clone(run);
            let slot = self.workers;
            ends.push(threads.submit(move || journal.guarded(|run| run.write_journal(slot))));
            let places = executor.spawn(give_back_places(Arc::clone(run)));
            (executor.spawn(drive_fetch(Arc::clone(run), Arc::clone(fetch), self.max_pending)), places)
        });
        let mut texts = Vec::new();
        for slot in 0..self.workers {
            let run = Arc::clone(run);
            texts.push(threads.submit(move || run.guarded(|run| run.work_texts(slot))));
        }
        let committer = {
            let run = Arc::clone(run);
            threads.submit(move || run.guarded(Run::commit_shards))
        };

        // Each queue is closed when those who put into it have ended.
        let places = loops.map(|(driver, places)| {
            run.fail_on_panic(driver.result());
            run.landed.close();
            places
        });
        for end in ends {
            run.fail_on_panic(end.result());
        }
        run.safe.close();
        if let Some(places) = places {
            run.fail_on_panic(places.result());
        }
        run.texts.close();
        for end in texts {
            run.fail_on_panic(end.result());
        }
        run.ready.close();
        run.fail_on_panic(committer.result());
        run.all_done.set();
        run.fail_on_panic(monitor.result());
        threads.shutdown(Shutdown::Drain);
        Ok(())
    }
}

/// Extraction walks deep trees; the pages that are too deep are refused by depth, well before this.
const TEXT_STACK: usize = 16 << 20;

/// A record on its way.
struct Task {
    shard: Arc<OpenShard>,
    record: Record,
}

/// What came of a fetch.
struct Landed {
    task: Task,
    result: Result<Page, Failure>,
    place: OwnedPermit,
}

/// What a record holds on the fetch side until it is journalled.
struct Place {
    id: u64,
    /// The fetch's permit.
    _guard: Option<Box<dyn std::any::Any + Send>>,
    /// One of the places of the pending.
    _pending: OwnedPermit,
}

#[derive(Default)]
struct Counters {
    read: Counter,
    read_all: AtomicBool,
    resumed: Counter,
    fetched: Counter,
    refetched: Counter,
    bytes: Counter,
    rows: Counter,
    dropped: Counter,
    failed: Counter,
    committed: Counter,
    /// Nanoseconds since the run began; 0 for none yet.
    first_row: AtomicU64,
}

/// Times of the engine's own stages.
#[derive(Default)]
struct Meters {
    source: StageMeter,
    fetch: StageMeter,
    journal: StageMeter,
    sink: StageMeter,
    text: Vec<StageMeter>,
}

/// One run, shared by its threads.
struct Run {
    begun: Instant,
    cpu_before: Duration,
    files: Arc<dyn Files>,
    layout: Layout,
    sink: SinkSpec,
    dedup: Option<DedupKey>,
    records_per_shard: u64,
    pages: Pages,
    process: Arc<dyn Process>,
    retry_failed: bool,
    last_phase: Phase,
    watchdog: Duration,
    observer: Arc<dyn Observer>,
    /// Cancelled from outside, or by the first error.
    cancel: CancelToken,
    _unhook: Mutex<Option<tricorne_sync::CancelGuard>>,

    /// The commits that earlier runs made.
    before: BTreeMap<u64, CommitRecord>,
    open_before: u64,
    /// All commits, this run's included.
    commits: Mutex<BTreeMap<u64, CommitRecord>>,
    open_places: Arc<Semaphore>,

    to_fetch: Arc<Queue<Task>>,
    /// What has landed in the present turn of the event loop.
    landing: Mutex<Vec<Landed>>,
    landed: Arc<Queue<Vec<Landed>>>,
    /// Places of records that are safe in the journal, on their way back to the event loop.
    safe: Arc<Queue<Vec<Place>>>,
    texts: Arc<Queue<Task>>,
    ready: Arc<Queue<Arc<OpenShard>>>,
    all_done: tricorne_sync::Event,

    counters: Counters,
    languages: Mutex<BTreeMap<String, u64>>,
    meters: Meters,
    in_work: InWork,
    samples: Mutex<Vec<crate::report::InFlightSample>>,
    first_error: Mutex<Option<RunError>>,
    _lock: crate::files::LockGuard,
}

impl Run {
    fn new(
        engine: &Engine,
        layout: Layout,
        opened: open::Opened,
        begun: Instant,
        observer: Arc<dyn Observer>,
        cancel: CancelToken,
    ) -> Self {
        let places =
            (OPEN_RECORDS / engine.records_per_shard).clamp(*OPEN_SHARDS.start(), *OPEN_SHARDS.end());
        // A phase that is run alone leaves every shard open.
        let places = if engine.last_phase < Phase::Sink { Semaphore::MAX_PERMITS } else { places as usize };
        let counters = Counters::default();
        counters.committed.add(opened.commits.len() as u64);
        let run = Run {
            begun,
            cpu_before: tricorne_exec::sys::process_cpu_time().own,
            files: Arc::clone(&engine.files),
            layout,
            sink: engine.sink.clone(),
            dedup: engine.dedup,
            records_per_shard: engine.records_per_shard,
            pages: engine.pages.clone(),
            process: Arc::clone(&engine.process),
            retry_failed: engine.retry_failed,
            last_phase: engine.last_phase,
            watchdog: engine.watchdog,
            observer,
            cancel,
            _unhook: Mutex::default(),
            before: opened.commits.clone(),
            open_before: opened.open_shards,
            commits: Mutex::new(opened.commits),
            open_places: Arc::new(Semaphore::new(places)),
            to_fetch: Arc::new(Queue::bounded(QUEUE)),
            landing: Mutex::default(),
            landed: Arc::new(Queue::bounded_weighted(QUEUE, LANDED_BYTES)),
            safe: Arc::new(Queue::bounded(QUEUE)),
            texts: Arc::new(Queue::bounded(QUEUE)),
            ready: Arc::new(Queue::bounded(places.min(1 << 20) + 1)),
            all_done: tricorne_sync::Event::new(),
            counters,
            languages: Mutex::default(),
            meters: Meters {
                text: engine.process.stages().iter().map(|_| StageMeter::default()).collect(),
                ..Meters::default()
            },
            // One slot more for the journal's thread.
            in_work: InWork::new(engine.workers + 1),
            samples: Mutex::default(),
            first_error: Mutex::default(),
            _lock: opened.lock,
        };
        // A cancelled run stops taking work up; what has landed is still journalled.
        let (to_fetch, texts, places) =
            (Arc::clone(&run.to_fetch), Arc::clone(&run.texts), Arc::clone(&run.open_places));
        let guard = run.cancel.on_cancel(move || {
            drop(to_fetch.close_now());
            drop(texts.close_now());
            places.close();
        });
        *lock(&run._unhook) = Some(guard);
        run
    }

    fn resumed_anything(&self) -> bool {
        !self.before.is_empty() || self.open_before > 0
    }

    fn error(&self) -> Option<RunError> {
        lock(&self.first_error).take()
    }

    /// Runs a part of the engine; its error, or its panic, stops the run.
    fn guarded(self: &Arc<Self>, part: impl FnOnce(&Arc<Run>) -> Result<(), RunError>) {
        let _stop = CancelOnPanic(self);
        if let Err(error) = part(self) {
            self.fail(error);
        }
    }

    fn fail(&self, error: RunError) {
        lock(&self.first_error).get_or_insert(error);
        self.cancel.cancel();
    }

    fn fail_on_panic<T>(&self, result: Result<T, TaskError>) {
        if let Err(error) = result {
            self.fail(RunError::Panicked { message: error.to_string() });
        }
    }

    // ---- source ---------------------------------------------------------------------------------

    fn read_source(self: &Arc<Self>, mut source: Box<dyn Source>) -> Result<(), RunError> {
        let (begun, cpu) = (Instant::now(), thread_cpu_time());
        let _close = CloseOnDrop(&self.to_fetch);
        let mut reading: Option<Reading> = None;
        let mut next_shard = 0;
        let mut read_all = false;
        while !self.cancel.is_cancelled() {
            let Some(input) = source.next()? else {
                read_all = true;
                break;
            };
            self.counters.read.add(1);
            let number = input.record.id / self.records_per_shard;
            if reading.as_ref().is_none_or(|reading| reading.number != number) {
                if let Some(done) = reading.take() {
                    self.end_of_shard(done)?;
                }
                let Some(started) = self.start_shard(number)? else { break };
                reading = Some(started);
                next_shard = number + 1;
            }
            let Some(current) = &mut reading else { break };
            current.hash.update(input_check(&input.record).to_le_bytes());
            current.records += 1;
            if let Some(shard) = &current.open
                && !self.start_record(shard, input)?
            {
                break;
            }
            if current.open.is_none() {
                self.counters.resumed.add(1);
            }
        }
        if read_all {
            if let Some(done) = reading {
                self.end_of_shard(done)?;
            }
            if let Some((&shard, record)) = self.before.range(next_shard..).next() {
                let first = shard * self.records_per_shard;
                return Err(RunError::InputChanged {
                    what: format!(
                        "records {first} to {} were there and are not any more",
                        first + record.records - 1
                    ),
                });
            }
            // Release is not needed: the flag is for display, the threads' ends order the rest.
            self.counters.read_all.store(true, Ordering::Relaxed);
        }
        self.meters.source.add(begun.elapsed(), thread_cpu_time().saturating_sub(cpu));
        Ok(())
    }

    /// `None` if the run was cancelled while waiting for a place.
    fn start_shard(&self, number: u64) -> Result<Option<Reading>, RunError> {
        let first_id = number * self.records_per_shard;
        let before = self.before.get(&number);
        let mut reading = Reading { number, open: None, hash: Sha256::new(), records: 0 };
        let retried = match before {
            Some(record) if self.retry_failed && record.failed > 0 => {
                let path = self.layout.staged(number, record.generation, Part::Failed);
                Some(read_failed(&*self.files, &path)?.into_iter().map(|line| line.id).collect())
            }
            Some(_) => return Ok(Some(reading)),
            None => None,
        };
        let Ok(place) = self.wait_for_place() else { return Ok(None) };
        let generation = before.map_or(1, |record| record.generation + 1);
        let path = self.layout.journal(number);
        let journal = match Journal::recover(&*self.files, &path, first_id, generation)? {
            Some(journal) => journal,
            None => Journal::create(&*self.files, &path, first_id, generation)?,
        };
        let shard = OpenShard::new(number, first_id, journal, before.cloned(), retried, place);
        reading.open = Some(Arc::new(shard));
        Ok(Some(reading))
    }

    fn wait_for_place(&self) -> Result<OwnedPermit, tricorne_sync::Closed> {
        self.open_places.acquire_owned(1)
    }

    /// False if the run was cancelled.
    fn start_record(self: &Arc<Self>, shard: &Arc<OpenShard>, input: Input) -> Result<bool, RunError> {
        let Input { record, problem } = input;
        let id = record.id;
        shard.add();
        if shard.retried.as_ref().is_some_and(|retried| !retried.contains(&id)) {
            self.counters.resumed.add(1);
            self.ended(shard, id);
            return Ok(true);
        }
        let progress = shard.journal.progress(&record)?;
        let again = progress == Progress::Failed && self.retry_failed;
        let task = |record| Task { shard: Arc::clone(shard), record };
        match progress {
            Progress::Done | Progress::Failed if !again => {
                self.counters.resumed.add(1);
                self.ended(shard, id);
                return Ok(true);
            }
            Progress::Fetched => return Ok(self.to_text(task(record))),
            _ => {}
        }
        if shard.journal.was_reached(id) || shard.retried.is_some() || again {
            self.counters.refetched.add(1);
        }
        if let Some(failure) = problem {
            self.outcome(&task(record), &Outcome::Failed(failure))?;
            return Ok(true);
        }
        Ok(match self.pages {
            Pages::Fetched(_) => self.to_fetch.put(task(record)).is_ok(),
            Pages::Local(_) => self.to_text(task(record)),
        })
    }

    fn end_of_shard(&self, done: Reading) -> Result<(), RunError> {
        let digest: [u8; 32] = done.hash.finalize().into();
        let input = crate::sink::hex(&digest);
        let before = self.before.get(&done.number);
        if let Some(record) = before.filter(|record| record.input != input || record.records != done.records)
        {
            let first = done.number * self.records_per_shard;
            return Err(RunError::InputChanged {
                what: format!(
                    "records {first} to {} are not those that shard {} was made of",
                    first + record.records.max(done.records) - 1,
                    done.number
                ),
            });
        }
        if let Some(shard) = done.open {
            let tell = shard.seal(input);
            self.tell_committer(&shard, tell);
        }
        Ok(())
    }

    fn fetch_task_ended(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended {
            self.fail(RunError::Panicked { message: error.to_string() });
        }
    }

    // ---- fetch and journal ----------------------------------------------------------------------

    /// Hands over what came of a fetch, together with all that lands in the same turn of the event loop.
    async fn land(&self, landed: Landed) {
        let first = {
            let mut landing = lock(&self.landing);
            landing.push(landed);
            landing.len() == 1
        };
        if first {
            tokio::task::yield_now().await; // whoever else is ready now comes along
            self.hand_over_landed().await;
        }
    }

    async fn hand_over_landed(&self) {
        let batch = std::mem::take(&mut *lock(&self.landing));
        let bytes = |landed: &Landed| landed.result.as_ref().map_or(0, |page| page.body.len() as u64);
        let weight = batch.iter().map(bytes).sum();
        // Closed only when the driver or the journal has ended: what has landed is never lost.
        let _ = self.landed.put_weighted_async(batch, weight).await;
    }

    /// `slot` is this thread's place in [`InWork`].
    fn write_journal(self: &Arc<Self>, slot: usize) -> Result<(), RunError> {
        let (begun, cpu) = (Instant::now(), thread_cpu_time());
        // If this thread fails, the event loop must not wait for room in a queue that nobody empties.
        let _close = CloseOnDrop(&self.landed);
        // Without text stages nobody needs the body any more: the outcome is made and journalled at once.
        let mut worker = self.process.stages().is_empty().then(|| self.process.worker());
        while let Ok(batch) = self.landed.get() {
            let mut safe = Vec::with_capacity(batch.len());
            for Landed { task, mut result, place } in batch {
                let id = task.record.id;
                let guard = result.as_mut().ok().and_then(|page| page.guard.take());
                if let Err(error) = self.journal_landed(task, result, &mut worker, slot) {
                    // Stop the run before the permits go, or more would be fetched in vain.
                    self.fail(error);
                    return Ok(());
                }
                safe.push(Place { id, _guard: guard, _pending: place });
            }
            // Refused only after the run was cancelled and the event loop has ended.
            let _ = self.safe.put(safe);
        }
        self.meters.journal.add(begun.elapsed(), thread_cpu_time().saturating_sub(cpu));
        Ok(())
    }

    fn journal_landed(
        &self,
        task: Task,
        result: Result<Page, Failure>,
        worker: &mut Option<Box<dyn Worker>>,
        slot: usize,
    ) -> Result<(), RunError> {
        let page = match result {
            Ok(page) => StoredPage::from(page),
            Err(failure) => return self.outcome(&task, &Outcome::Failed(failure)),
        };
        let bytes = page.body.len() as u64;
        if let Some(worker) = worker {
            let outcome = self.text_work(worker, slot, &task.record, page)?;
            self.outcome(&task, &outcome)?;
        } else {
            task.shard.journal.append_page(&task.record, &page)?;
            drop(page);
            self.to_text(task);
        }
        self.counters.fetched.add(1);
        self.counters.bytes.add(bytes);
        Ok(())
    }

    // ---- text -----------------------------------------------------------------------------------

    /// False if the run was cancelled; the page then waits in the journal for the next run.
    fn to_text(&self, task: Task) -> bool {
        self.last_phase < Phase::Text || self.texts.put(task).is_ok()
    }

    fn work_texts(self: &Arc<Self>, slot: usize) -> Result<(), RunError> {
        let mut worker = self.process.worker();
        while let Ok(task) = self.texts.get() {
            self.in_work.text_begins(slot, &task.record);
            let page = match &self.pages {
                Pages::Fetched(_) => Ok(task.shard.journal.read_page(task.record.id)?),
                Pages::Local(load) => load.load(&task.record),
            };
            let outcome = match page {
                Err(failure) => Outcome::Failed(failure),
                Ok(page) => {
                    if matches!(self.pages, Pages::Local(_)) {
                        self.counters.fetched.add(1);
                        self.counters.bytes.add(page.body.len() as u64);
                    }
                    self.text_work(&mut worker, slot, &task.record, page)?
                }
            };
            self.outcome(&task, &outcome)?;
            self.in_work.text_ends(slot);
        }
        Ok(())
    }

    /// Runs the text stages on a page. A panic in them fails the record, and the worker starts afresh.
    fn text_work(
        &self,
        worker: &mut Box<dyn Worker>,
        slot: usize,
        record: &Record,
        page: StoredPage,
    ) -> Result<Outcome, RunError> {
        let attempts = page.attempts;
        let mut clock = StageClock::new(&self.meters.text, &self.in_work, slot);
        let process = || worker.process(record, page, &mut clock);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(process));
        clock.leave();
        let mut outcome = outcome.unwrap_or_else(|panic| {
            *worker = self.process.worker(); // its memory may be half-changed
            Ok(Outcome::Failed(Failure {
                stage: "text".into(),
                kind: "panic".into(),
                message: panic_message(&*panic),
                attempts,
            }))
        })?;
        if let Outcome::Row(row) = &mut outcome {
            self.sink.prepare(row, self.dedup);
        }
        Ok(outcome)
    }

    /// A record has ended: journal how, count it, and let the committer know.
    fn outcome(&self, task: &Task, outcome: &Outcome) -> Result<(), RunError> {
        task.shard.journal.append_outcome(&task.record, outcome)?;
        match outcome {
            Outcome::Row(row) => {
                self.counters.rows.add(1);
                if self.counters.first_row.load(Ordering::Relaxed) == 0 {
                    let now = self.begun.elapsed().as_nanos() as u64;
                    // Only the first one counts; losing the race to another first row is fine.
                    let _ = self.counters.first_row.compare_exchange(
                        0,
                        now,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                if let Some(language) = &row.language {
                    *lock(&self.languages).entry(language.clone()).or_default() += 1;
                }
            }
            Outcome::Drop(_) => self.counters.dropped.add(1),
            Outcome::Failed(failure) => {
                tracing::debug!(
                    id = task.record.id, url = %task.record.url, stage = %failure.stage, kind = %failure.kind,
                    attempts = failure.attempts, "record failed: {}", failure.message
                );
                self.counters.failed.add(1);
            }
        }
        self.ended(&task.shard, task.record.id);
        Ok(())
    }

    fn ended(&self, shard: &Arc<OpenShard>, id: u64) {
        let tell = shard.end(id);
        self.tell_committer(shard, tell);
    }

    // ---- sink -----------------------------------------------------------------------------------

    fn tell_committer(&self, shard: &Arc<OpenShard>, tell: bool) {
        if tell && self.last_phase == Phase::Sink {
            // A shard is in this queue at most once, so there is always room; after the committer's end
            // nobody needs to be told.
            let _ = self.ready.put(Arc::clone(shard));
        }
    }

    fn commit_shards(self: &Arc<Self>) -> Result<(), RunError> {
        let ctx = Committing {
            files: &*self.files,
            layout: &self.layout,
            sink: &self.sink,
            has_dedup: self.dedup.is_some(),
        };
        let mut assemblies: BTreeMap<u64, Assembly> = BTreeMap::new();
        while let Ok(shard) = self.ready.get() {
            let (wall, cpu) = (Instant::now(), thread_cpu_time());
            if self.cancel.is_cancelled() {
                continue; // what is journalled is enough to go on from
            }
            let mut assembly = match assemblies.remove(&shard.number) {
                Some(assembly) => assembly,
                None => Assembly::start(&ctx, shard.number, shard.first_id, shard.before.as_ref())?,
            };
            let ready = shard.ready();
            assembly.advance(&shard.journal, ready.end)?;
            if let Some(input) = ready.complete {
                let record = assembly.commit(&ctx, input)?;
                if self.dedup.is_none() {
                    let placed = (shard.number, &record);
                    publish_shard(
                        &*self.files,
                        &self.layout,
                        &self.sink,
                        self.records_per_shard,
                        placed,
                        None,
                    )?;
                }
                self.counters.committed.add(u64::from(shard.before.is_none()));
                tracing::info!(
                    shard = shard.number,
                    rows = record.rows,
                    failed = record.failed,
                    "shard committed"
                );
                self.observer.event(&Event::Committed { shard: shard.number, rows: record.rows });
                lock(&self.commits).insert(shard.number, record);
            } else {
                assemblies.insert(shard.number, assembly);
            }
            self.meters.sink.add(wall.elapsed(), thread_cpu_time().saturating_sub(cpu));
        }
        Ok(())
    }

    /// A guard against a bug of ours: a run that was not interrupted has committed every shard.
    fn check_nothing_is_missing(&self) -> Result<(), RunError> {
        let shards = self.counters.read.get().div_ceil(self.records_per_shard);
        let committed = lock(&self.commits).len() as u64;
        if self.last_phase == Phase::Sink && committed != shards {
            return Err(RunError::Panicked {
                message: format!("{committed} of {shards} shards were committed"),
            });
        }
        Ok(())
    }
}

/// The shard that the source is in.
struct Reading {
    number: u64,
    /// `None` for a shard that is committed: its records are only compared.
    open: Option<Arc<OpenShard>>,
    hash: Sha256,
    records: u64,
}

/// Takes records from their queue and keeps up to `max_pending` of them on their way.
async fn drive_fetch(run: Arc<Run>, fetch: Arc<dyn Fetch>, max_pending: usize) {
    let cpu = thread_cpu_time();
    let mut pending = JoinSet::new();
    let mut cancelled = std::pin::pin!(run.cancel.cancelled_async());
    let places = Arc::new(Semaphore::new(max_pending));
    let mut taken = VecDeque::new();
    loop {
        let next = async {
            let place = places.acquire_owned_async(1).await.ok()?;
            if taken.is_empty() {
                taken = run.to_fetch.get_batch_async(TAKEN).await.ok()?.into();
            }
            Some((taken.pop_front()?, place))
        };
        let next = tokio::select! {
            biased;
            () = &mut cancelled => break,
            next = next => next,
        };
        while let Some(ended) = pending.try_join_next() {
            run.fetch_task_ended(ended);
        }
        let Some((task, place)) = next else { break };
        let (run, fetch) = (Arc::clone(&run), Arc::clone(&fetch));
        pending.spawn(async move {
            run.in_work.fetch_begins(&task.record);
            let result = fetch.fetch(&task.record).await;
            run.land(Landed { task, result, place }).await;
        });
    }
    while !run.cancel.is_cancelled() {
        let ended = tokio::select! {
            biased;
            () = &mut cancelled => None,
            ended = pending.join_next() => ended,
        };
        match ended {
            Some(ended) => run.fetch_task_ended(ended),
            None => break,
        }
    }
    pending.shutdown().await; // gives up what is under way; nothing is, unless cancelled
    run.hand_over_landed().await; // whoever was to do it may have been given up
    run.meters.fetch.cpu_nanos.add(thread_cpu_time().saturating_sub(cpu).as_nanos() as u64);
}

/// Gives back the places of journalled records, on the event loop itself: there a waiting fetch is made ready by a
/// few stores, from another thread by a system call each.
async fn give_back_places(run: Arc<Run>) {
    while let Ok(places) = run.safe.get_async().await {
        for place in places {
            run.in_work.fetch_ends(place.id);
        }
    }
}

struct CloseOnDrop<'a, T>(&'a Queue<T>);

impl<T> Drop for CloseOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Cancels the run when a part of the engine unwinds, so that nobody waits for it.
struct CancelOnPanic<'a>(&'a Run);

impl Drop for CancelOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel.cancel();
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The manager: the one thread of a pool that waits for all that may happen to it.
//!
//! It starts the template and, through it, the workers; it reads what they say, sees them die, and looks at clocks. The
//! template dies with this thread, not with the one that made the pool.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::Timespec;

use super::board::Board;
use super::crash::{CrashCause, ProcessEnd, WorkerCrashed, oom_kills};
use super::dispatch::{Cause, Phase, Stage, Worker};
use super::engine::{Locked, OnCrash, Outcome, Shared, Task};
use super::frame::{FromTemplate, FromWorker, kind};
use super::function::THIS_PROGRAM;
use super::launch::{Launch, WorkerEnds};
use super::lead;
use super::output::{Pipe, Pumped, Stream};
use super::parcel::Parcel;
use super::segment::Segment;
use super::socket::{self, Wait};
use crate::error::{ExecError, TaskError};
use crate::sys::child::NotForCopies;

/// How long the template may take until it says hello.
const TEMPLATE_LIMIT: Duration = Duration::from_secs(20);
/// How long the pool waits to hear how a worker ended.
const REPORT_LIMIT: Duration = Duration::from_millis(500);
/// When to try again to pass on output that is not taken.
const STALL_TICK: Duration = Duration::from_millis(20);
/// Number of the template of workers that a launcher has made.
const NO_TEMPLATE: u64 = 0;
/// So many workers or templates in a row may end before they are ready.
const MAX_FAILED_STARTS: u32 = 10;

/// What happened, as a number for epoll: a kind in the highest byte, and which worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Wake,
    Template(u64),
    Socket(u64),
    Process(u64),
    Output(u64, usize),
}

impl Token {
    const BITS: u32 = 56;

    fn data(self) -> EventData {
        let (kind, number) = match self {
            Self::Wake => (0, 0),
            Self::Template(number) => (1, number),
            Self::Socket(number) => (2, number),
            Self::Process(number) => (3, number),
            Self::Output(number, stream) => (4 + stream as u64, number),
        };
        EventData::new_u64(kind << Self::BITS | number)
    }

    pub(crate) fn from(data: u64) -> Self {
        let number = data & ((1 << Self::BITS) - 1);
        match data >> Self::BITS {
            0 => Self::Wake,
            1 => Self::Template(number),
            2 => Self::Socket(number),
            3 => Self::Process(number),
            4 => Self::Output(number, 0),
            _ => Self::Output(number, 1),
        }
    }
}

/// The template, seen from here.
struct Template {
    number: u64,
    process: Child,
    control: OwnedFd,
    /// Workers that it was told to make and of whose end it has not told.
    children: usize,
}

impl Drop for Template {
    fn drop(&mut self) {
        // It has no children that it would still have to report, or does not answer.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A worker that has ended while it ran a task, until it is known how.
struct Dying {
    worker: Worker,
    task: Task,
    since: Instant,
}

/// The outputs of a worker that are read here.
struct Outputs {
    pid: u32,
    pipes: [Option<Pipe>; 2],
}

/// How a process ended, and the most memory that it had, as the template has reported.
type Report = (i32, Option<u64>);

pub(crate) struct Manager {
    shared: Arc<Shared>,
    template: Option<Template>,
    /// At its reading end the system kills the workers; this is the writing end, and there is no other one.
    lifeline: (OwnedFd, NotForCopies),
    next_worker: u64,
    next_template: u64,
    outputs: HashMap<u64, Outputs>,
    /// Outputs that could not be passed on.
    stalled: Vec<(u64, usize)>,
    dying: HashMap<u64, Dying>,
    reports: HashMap<u64, Report>,
    failed_starts: u32,
    oom_kills: Option<u64>,
    /// Workers of a launcher that have ended, until it is asked how.
    buried: Vec<u64>,
    buffer: Vec<u8>,
}

impl Manager {
    /// Prepares it, and launches the workers that are to be there before it has a thread.
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, ExecError> {
        let process = |source: io::Error| ExecError::Process { source };
        epoll::add(&shared.lead.epoll, &shared.wake, Token::Wake.data(), EventFlags::IN)
            .map_err(|error| process(error.into()))?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| process(error.into()))?;
        let lifeline = (reader, NotForCopies::new(writer));
        let mut manager = Self {
            shared,
            template: None,
            lifeline,
            next_worker: 1,
            next_template: 1,
            outputs: HashMap::new(),
            stalled: Vec::new(),
            dying: HashMap::new(),
            reports: HashMap::new(),
            failed_starts: 0,
            oom_kills: oom_kills(),
            buried: Vec::new(),
            buffer: vec![0; 16 * 1024],
        };
        if let Launch::By(launcher) = &manager.shared.config.launch
            && launcher.at_once()
        {
            for _ in 0..manager.shared.config.workers {
                manager.start_worker().map_err(process)?;
            }
        }
        Ok(manager)
    }

    /// On the thread that is the manager's from now on: starts the template and waits until it is there.
    pub(crate) fn begin(&mut self) -> Result<(), ExecError> {
        if let Launch::Template(_) = self.shared.config.launch {
            self.start_template().map_err(|source| ExecError::Process { source })?;
            self.await_template()?;
        }
        self.shared.lead.i_am_the_manager();
        let mut locked = self.shared.lock();
        locked.state.manager_thread = Some(thread::current().id());
        locked.unlock();
        Ok(())
    }

    fn start_template(&mut self) -> io::Result<()> {
        let (ours, its) = socket::pair()?;
        let Launch::Template(words) = &self.shared.config.launch else { return Ok(()) };
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(its);
        if program == THIS_PROGRAM {
            // Other programs find their files by the name.
            command.arg0("tricorne-template");
        }
        let process = command.spawn()?;
        // It has its end for itself.
        drop(command);
        let number = self.next_template;
        self.next_template += 1;
        // From here on it is ended and waited for on every path.
        let template = Template { number, process, control: ours, children: 0 };
        match socket::send(&template.control, &[kind::LIFELINE], &[self.lifeline.0.as_fd()], Wait::No) {
            // It has ended already, which is noticed, and counted, by the end of its socket.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent?,
        }
        let token = Token::Template(number).data();
        epoll::add(&self.shared.lead.epoll, &template.control, token, EventFlags::IN)?;
        let mut locked = self.shared.lock();
        locked.state.counters.templates_started += 1;
        locked.state.template_pid = Some(template.process.id());
        locked.unlock();
        self.template = Some(template);
        Ok(())
    }

    /// Waits for the hello of the first template: whoever makes a pool wants to know at once that it is a wrong program.
    fn await_template(&mut self) -> Result<(), ExecError> {
        let failed = |reason: &str| ExecError::Template { reason: reason.to_owned() };
        let Some(template) = &self.template else { return Err(failed("it is not there")) };
        let mut waiting = [PollFd::new(&template.control, PollFlags::IN)];
        let limit = Timespec { tv_sec: TEMPLATE_LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = rustix::io::retry_on_intr(|| poll(&mut waiting, Some(&limit)));
        if !ready.is_ok_and(|ready| ready > 0) {
            return Err(failed("it runs, and does not answer"));
        }
        match socket::receive(&template.control, &mut self.buffer, &mut Vec::new(), Wait::No) {
            Ok(Some(frame)) if FromTemplate::read(frame) == Ok(FromTemplate::Hello) => Ok(()),
            Ok(Some(_)) => Err(failed("it answers in another language")),
            Ok(None) | Err(_) => Err(failed("it has ended without an answer")),
        }
    }

    /// Until the pool has ended.
    pub(crate) fn run(mut self) {
        // Whatever happens here, nobody waits for ever.
        struct Ended(Arc<Shared>);
        impl Drop for Ended {
            fn drop(&mut self) {
                let mut locked = self.0.lock();
                locked.abandon_all(&TaskError::Broken { message: "its manager thread has ended".to_owned() });
                locked.unlock();
                self.0.ended.set();
            }
        }
        let _ended = Ended(Arc::clone(&self.shared));
        let mut events: Vec<Event> = Vec::with_capacity(64);
        let mut until = Some(Instant::now());
        loop {
            if lead::wait(&self.shared.lead.epoll, &mut events, until).is_err() {
                // It is our own descriptor: only memory can be short, and may come back.
                thread::sleep(STALL_TICK);
            }
            let shared = Arc::clone(&self.shared);
            let mut locked = shared.lock();
            let mut outputs = Vec::new();
            for event in &events {
                match Token::from(event.data.u64()) {
                    Token::Wake => {
                        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
                    }
                    Token::Template(number) => self.hear_template(number, &mut locked),
                    Token::Socket(number) => self.hear_worker(number, &mut locked),
                    Token::Process(number) => self.bury(number, &mut locked),
                    Token::Output(number, stream) => outputs.push((number, stream)),
                }
            }
            let now = Instant::now();
            let mut look = self.look_at_clocks(now, &mut locked);
            let sent = locked.dispatch();
            look = [look, sent].into_iter().flatten().min();
            let to_start = locked.state.to_start;
            locked.state.planned = look;
            self.leave_if_done(&mut locked);
            locked.unlock();

            // From here on without the lock.
            outputs.append(&mut self.stalled);
            for (number, stream) in outputs {
                self.pump(number, stream);
            }
            let mut again = self.settle_deaths(now);
            if to_start > 0 {
                self.start_workers(to_start);
                again = true;
            }
            let mut locked = shared.lock();
            if locked.state.phase == Phase::Leaving
                && locked.state.workers.is_empty()
                && self.dying.is_empty()
            {
                locked.unlock();
                self.await_last_reports();
                return;
            }
            until = if again { Some(now) } else { look };
            if !self.stalled.is_empty() {
                let stall = Some(now + STALL_TICK);
                until = [until, stall].into_iter().flatten().min();
            }
            if !self.dying.is_empty() {
                until = [until, Some(now + REPORT_LIMIT)].into_iter().flatten().min();
            }
            locked.state.planned = until;
            let is_quiet = until.is_none() && locked.state.is_quiet();
            locked.unlock();
            if is_quiet && shared.lead.is_help_wanted() {
                shared.lead.nap(|| {
                    let locked = shared.lock();
                    let is_quiet = locked.state.is_quiet();
                    locked.unlock();
                    is_quiet
                });
                until = Some(Instant::now());
            }
        }
    }

    fn hear_template(&mut self, number: u64, locked: &mut Locked<'_>) {
        let template = match &mut self.template {
            Some(template) if template.number == number => template,
            _ => return,
        };
        let mut failed = Vec::new();
        let is_alive = loop {
            match socket::receive(&template.control, &mut self.buffer, &mut Vec::new(), Wait::No) {
                Ok(Some(frame)) => match FromTemplate::read(frame) {
                    Ok(FromTemplate::Hello) => {}
                    Ok(FromTemplate::Ended { worker, status, peak_bytes }) => {
                        template.children = template.children.saturating_sub(1);
                        self.reports.insert(worker, (status, Some(peak_bytes)));
                    }
                    Ok(FromTemplate::Failed { worker, errno }) => {
                        template.children = template.children.saturating_sub(1);
                        failed.push((worker, errno));
                    }
                    Err(_) => break false,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Ok(None) | Err(_) => break false,
            }
        };
        for (worker, errno) in failed {
            self.failed_starts += 1;
            self.forget(worker, locked);
            let reason = io::Error::from_raw_os_error(errno);
            self.break_if_hopeless(&format!("workers cannot be started: {reason}"), locked);
        }
        if is_alive {
            return;
        }
        // It is gone, or mad. Its workers go on; the next one makes those that are missing.
        if let Some(template) = self.template.take() {
            let _ = epoll::delete(&self.shared.lead.epoll, &template.control);
        }
        locked.state.template_pid = None;
        self.failed_starts += 1;
        self.break_if_hopeless("its template process ends again and again", locked);
    }

    /// Waits until the template has told how its last workers have ended, for a moment: what it has told it has also waited for,
    /// and nobody else has to.
    fn await_last_reports(&mut self) {
        let shared = Arc::clone(&self.shared);
        let until = Instant::now() + REPORT_LIMIT;
        while let Some(template) = self.template.as_ref().filter(|template| template.children > 0) {
            let left = until.saturating_duration_since(Instant::now());
            let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut waiting = [PollFd::new(&template.control, PollFlags::IN)];
            if left.is_zero() || poll(&mut waiting, Some(&limit)) == Ok(0) {
                break;
            }
            let number = template.number;
            let mut locked = shared.lock();
            self.hear_template(number, &mut locked);
            locked.unlock();
        }
        let mut locked = shared.lock();
        locked.state.template_pid = None;
        locked.unlock();
    }

    fn break_if_hopeless(&mut self, message: &str, locked: &mut Locked<'_>) {
        if self.failed_starts >= MAX_FAILED_STARTS {
            locked.break_pool(&TaskError::Broken { message: message.to_owned() });
        }
    }

    fn hear_worker(&mut self, number: u64, locked: &mut Locked<'_>) {
        match self.read_worker(number, locked) {
            Ok(true) => {}
            Ok(false) => self.hang_up(number, locked),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => locked.kill_worker(number, Cause::Garbage),
        }
    }

    /// Reads one frame of a worker; `false` if there will be no more.
    fn read_worker(&mut self, number: u64, locked: &mut Locked<'_>) -> io::Result<bool> {
        let Some(worker) = locked.state.workers.get_mut(&number) else { return Ok(true) };
        let mut files = Vec::new();
        let Some(frame) = socket::receive(&worker.socket, &mut self.buffer, &mut files, Wait::No)? else {
            return Ok(false);
        };
        let garbage = || io::Error::from(super::frame::Garbled);
        match FromWorker::read(frame)? {
            FromWorker::Hello { pid } => {
                let pidfd = files.pop().filter(|_| worker.pidfd.is_none()).ok_or_else(garbage)?;
                epoll::add(&self.shared.lead.epoll, &pidfd, Token::Process(number).data(), EventFlags::IN)?;
                worker.pid = pid;
                worker.pidfd = Some(pidfd);
                if worker.killed.is_some() {
                    worker.kill();
                }
                if let Some(outputs) = self.outputs.get_mut(&number) {
                    outputs.pid = pid;
                }
            }
            FromWorker::Ready => {
                let Stage::Starting { .. } = worker.stage else {
                    // Told to end before it was ready.
                    return if matches!(worker.stage, Stage::Leaving { .. }) {
                        Ok(true)
                    } else {
                        Err(garbage())
                    };
                };
                self.failed_starts = 0;
                worker.stage = Stage::Ready;
                locked.state.ready(number);
            }
            FromWorker::Refused(why) => {
                // It ends by itself, with what it has to say and to write.
                worker.leave();
                let message = format!("its initializer failed: {why}");
                locked.break_pool(&TaskError::Broken { message });
            }
            frame => locked.at_work(number, &frame, files)?,
        }
        Ok(true)
    }

    /// The connection to a worker is at its end: the process has ended, or will.
    fn hang_up(&mut self, number: u64, locked: &mut Locked<'_>) {
        let Some(worker) = locked.state.workers.get_mut(&number) else { return };
        if worker.pidfd.is_some() {
            let _ = epoll::delete(&self.shared.lead.epoll, &worker.socket);
            worker.hung_up.get_or_insert_with(Instant::now);
            return;
        }
        // It was never born, or died before it could say hello.
        let made_by_this_one = worker.template == NO_TEMPLATE
            || self.template.as_ref().is_some_and(|template| template.number == worker.template);
        let wanted = worker.killed.is_none() && matches!(worker.stage, Stage::Starting { .. });
        if wanted && made_by_this_one {
            self.failed_starts += 1;
        }
        self.forget(number, locked);
        self.break_if_hopeless("its workers end before they are ready", locked);
    }

    fn forget(&mut self, number: u64, locked: &mut Locked<'_>) {
        if let Some((worker, _)) = locked.bury(number) {
            self.release(&worker);
        }
    }

    /// A descriptor that another process has as well does not leave the set by being closed.
    fn release(&self, worker: &Worker) {
        let _ = epoll::delete(&self.shared.lead.epoll, &worker.socket);
        if let Some(pidfd) = &worker.pidfd {
            let _ = epoll::delete(&self.shared.lead.epoll, pidfd);
        }
    }

    /// A worker process has ended.
    fn bury(&mut self, number: u64, locked: &mut Locked<'_>) {
        // What it said last: files of results that are on its board.
        while matches!(self.read_worker(number, locked), Ok(true)) {
            if !locked.state.workers.contains_key(&number) {
                return;
            }
        }
        let Some((worker, task)) = locked.bury(number) else { return };
        self.release(&worker);
        if let Launch::By(_) = self.shared.config.launch {
            self.buried.push(number);
        }
        if matches!(worker.stage, Stage::Starting { .. }) && worker.killed != Some(Cause::Ended) {
            self.failed_starts += 1;
            let how = if worker.killed == Some(Cause::StartLimit) {
                "are not ready in time"
            } else {
                "end before they are ready"
            };
            self.break_if_hopeless(&format!("its workers {how}"), locked);
        }
        let unasked = worker.stage == Stage::Ready && worker.killed.is_none();
        if task.is_none() && unasked && self.shared.config.on_crash == OnCrash::Break {
            let message = format!("worker process `{}` ended while it ran no task", worker.pid);
            locked.break_pool(&TaskError::Broken { message });
        }
        if let Some(task) = task {
            self.dying.insert(number, Dying { worker, task, since: Instant::now() });
        }
    }

    /// Fails the tasks of workers that have ended, as soon as it is known how.
    fn settle_deaths(&mut self, now: Instant) -> bool {
        let mut settled = false;
        if let Launch::By(launcher) = &self.shared.config.launch {
            for number in self.buried.drain(..) {
                if let Some(status) = launcher.ended(number) {
                    self.reports.insert(number, (status, None));
                }
            }
        }
        let numbers: Vec<u64> = self.dying.keys().copied().collect();
        for number in numbers {
            let Some(dying) = self.dying.get(&number) else { continue };
            let will_be_told =
                self.template.as_ref().is_some_and(|template| template.number == dying.worker.template);
            let report = self.reports.get(&number).copied();
            if report.is_none() && will_be_told && now.duration_since(dying.since) < REPORT_LIMIT {
                continue;
            }
            let Some(dying) = self.dying.remove(&number) else { continue };
            let error = self.explain(number, &dying, report);
            settled = true;
            let shared = Arc::clone(&self.shared);
            let mut locked = shared.lock();
            match &error {
                TaskError::WorkerCrashed(_) => locked.state.counters.crashed += 1,
                TaskError::TimedOut { .. } => locked.state.counters.timed_out += 1,
                _ => {}
            }
            let is_crash = matches!(error, TaskError::WorkerCrashed(_));
            locked.lose(dying.task, error.clone());
            if is_crash && self.shared.config.on_crash == OnCrash::Break {
                locked.break_pool(&error);
            }
            locked.unlock();
        }
        self.forget_the_dead();
        settled
    }

    /// Of workers that ended without a task nobody asks how.
    fn forget_the_dead(&mut self) {
        let (dying, shared) = (&self.dying, &self.shared);
        let locked = shared.lock();
        let workers = &locked.state.workers;
        if self.outputs.len() > workers.len() || self.reports.len() > dying.len() {
            let is_known = |number: &u64| dying.contains_key(number) || workers.contains_key(number);
            self.reports.retain(|number, _| is_known(number));
            // A process that a worker has started may still write.
            let is_open = |outputs: &Outputs| outputs.pipes.iter().flatten().any(|pipe| !pipe.is_closed);
            self.outputs.retain(|number, outputs| is_known(number) || is_open(outputs));
        }
        locked.unlock();
    }

    fn explain(&mut self, number: u64, dying: &Dying, report: Option<Report>) -> TaskError {
        let config = &self.shared.config;
        let cause = match dying.worker.killed {
            Some(Cause::TimedOut { after }) => return TaskError::TimedOut { after },
            Some(Cause::Cancelled) => return TaskError::Cancelled,
            Some(Cause::Memory) => {
                CrashCause::MemoryLimit { max_bytes: config.max_memory_bytes.unwrap_or_default() }
            }
            Some(Cause::Garbage) => CrashCause::Garbage,
            Some(Cause::Ended) => CrashCause::Ended,
            Some(Cause::ExitLimit | Cause::StartLimit) => CrashCause::ExitLimit { after: config.exit_limit },
            None => CrashCause::Unknown,
        };
        for stream in 0..2 {
            self.pump(number, stream);
        }
        let pipe = self.outputs.get(&number).and_then(|outputs| outputs.pipes[1].as_ref());
        let wants_memory = pipe.is_some_and(|pipe| pipe.wants_memory);
        let stderr = pipe.map(|pipe| pipe.tail.iter().cloned().collect()).unwrap_or_default();
        let end = report.map_or(ProcessEnd::Unknown, |(status, _)| ProcessEnd::from_status(status));
        let cause = match (cause, end) {
            (CrashCause::Unknown, ProcessEnd::Signal(libc::SIGKILL)) => {
                let kills = oom_kills();
                let killed = kills > self.oom_kills;
                self.oom_kills = kills;
                if killed { CrashCause::ProbablyOutOfMemory } else { cause }
            }
            (CrashCause::Unknown, _) if wants_memory => CrashCause::ProbablyOutOfMemory,
            _ => cause,
        };
        TaskError::WorkerCrashed(Arc::new(WorkerCrashed {
            task: dying.task.id,
            pid: dying.worker.pid,
            end,
            peak_memory_bytes: report.and_then(|(_, peak_bytes)| peak_bytes),
            cause,
            stderr,
        }))
    }

    fn look_at_clocks(&mut self, now: Instant, locked: &mut Locked<'_>) -> Option<Instant> {
        let numbers: Vec<u64> = locked.state.workers.keys().copied().collect();
        let mut look: Option<Instant> = None;
        for number in numbers {
            look = [look, locked.look_at(number, now)].into_iter().flatten().min();
            let unborn = |worker: &Worker| worker.killed.is_some() && worker.pidfd.is_none();
            if locked.state.workers.get(&number).is_some_and(unborn) {
                // There is nobody to kill yet; when it is born, it finds its connection at the end.
                self.forget(number, locked);
            }
        }
        locked.rebalance(now);
        look
    }

    /// Tells the workers to end when there is nothing to do and nothing will come.
    fn leave_if_done(&mut self, locked: &mut Locked<'_>) {
        let state = &mut *locked.state;
        let idle = state.queue.is_empty()
            && self.dying.is_empty()
            && state.workers.values().all(|worker| !worker.is_busy());
        if state.phase != Phase::Draining || !idle {
            return;
        }
        state.phase = Phase::Leaving;
        for worker in state.workers.values_mut() {
            if !matches!(worker.stage, Stage::Leaving { .. }) {
                worker.leave();
            }
        }
        state.planned = Some(Instant::now());
        // The exit limit begins now: look again at once.
        self.shared.wake();
    }

    fn pump(&mut self, number: u64, stream: usize) {
        let Some(outputs) = self.outputs.get_mut(&number) else { return };
        let pid = outputs.pid;
        let Some(pipe) = &mut outputs.pipes[stream] else { return };
        let token = Token::Output(number, stream);
        match pipe.pump(pid) {
            Pumped::Empty => {
                // It is known to the set, unless it was stalled.
                let _ = epoll::add(&self.shared.lead.epoll, &pipe.file, token.data(), EventFlags::IN);
            }
            Pumped::Stalled => {
                let _ = epoll::delete(&self.shared.lead.epoll, &pipe.file);
                self.stalled.push((number, stream));
            }
            Pumped::Closed => {
                let _ = epoll::delete(&self.shared.lead.epoll, &pipe.file);
                // Its lines are kept until it is known whether they are needed.
                pipe.is_closed = true;
            }
        }
    }

    fn start_workers(&mut self, count: usize) {
        if matches!(self.shared.config.launch, Launch::Template(_))
            && self.template.is_none()
            && let Err(error) = self.start_template()
        {
            self.fail_start(&error);
            return;
        }
        for _ in 0..count {
            if let Err(error) = self.start_worker() {
                self.fail_start(&error);
                return;
            }
        }
    }

    fn fail_start(&mut self, error: &io::Error) {
        // A template that has just ended is noticed by the end of its socket.
        if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return;
        }
        if error.kind() == io::ErrorKind::WouldBlock {
            thread::sleep(Duration::from_millis(1));
            return;
        }
        self.failed_starts += 1;
        let shared = Arc::clone(&self.shared);
        let mut locked = shared.lock();
        self.break_if_hopeless(&format!("workers cannot be started: {error}"), &mut locked);
        locked.unlock();
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let config = &self.shared.config;
        let launcher = match (&config.launch, &self.template) {
            (Launch::By(launcher), _) => Some(launcher),
            (_, Some(_)) => None,
            (_, None) => return Ok(()),
        };
        let (ours, its) = socket::pair()?;
        let (board, board_file) = Board::create()?;
        let (stdout, stderr) = match launcher {
            Some(_) => (None, None),
            None => (config.stdout.pipe()?, config.stderr.pipe()?),
        };
        let number = self.next_worker;

        let mut frame = vec![kind::BEGIN];
        let mut parcels = Vec::new();
        if let Some((function, argument)) = &config.initializer {
            frame.extend(function.id.to_le_bytes());
            for message in [&function.message, argument] {
                let parcel = Parcel::pack(message, &self.shared.segments)?;
                parcel.write(&mut frame);
                parcel.segments.iter().for_each(Segment::lend);
                parcels.push(parcel);
            }
        }
        let files: Vec<_> = parcels.iter().flat_map(|parcel| &parcel.segments).map(AsFd::as_fd).collect();
        socket::send(&ours, &frame, &files, Wait::No)?;

        let mut made_by = NO_TEMPLATE;
        if let Some(launcher) = launcher {
            let lifeline = self.lifeline.0.try_clone()?;
            launcher.launch(number, &WorkerEnds { socket: its, board: board_file, lifeline })?;
        } else if let Some(template) = &mut self.template {
            let mut order = vec![kind::START];
            order.extend(number.to_le_bytes());
            order.extend([u8::from(stdout.is_some()), u8::from(stderr.is_some())]);
            let mut files = vec![its.as_fd(), board_file.as_fd()];
            files.extend([&stdout, &stderr].into_iter().flatten().map(|(_, writer)| writer.as_fd()));
            socket::send(&template.control, &order, &files, Wait::No)?;
            template.children += 1;
            made_by = template.number;
        }
        for segment in parcels.into_iter().flat_map(|parcel| parcel.segments) {
            self.shared.segments.put(number, segment);
        }
        self.next_worker += 1;

        let pipe = |ends: Option<(OwnedFd, OwnedFd)>, stream, output: &super::output::Output| {
            ends.map(|(reader, _)| Pipe::new(reader, stream, output.clone()))
        };
        let pipes =
            [pipe(stdout, Stream::Stdout, &config.stdout), pipe(stderr, Stream::Stderr, &config.stderr)];
        for (stream, pipe) in pipes.iter().enumerate() {
            if let Some(pipe) = pipe {
                epoll::add(
                    &self.shared.lead.epoll,
                    &pipe.file,
                    Token::Output(number, stream).data(),
                    EventFlags::IN,
                )?;
            }
        }
        epoll::add(&self.shared.lead.epoll, &ours, Token::Socket(number).data(), EventFlags::IN)?;
        self.outputs.insert(number, Outputs { pid: 0, pipes });
        let mut locked = self.shared.lock();
        locked.state.counters.workers_started += 1;
        locked.state.workers.insert(number, Worker::new(ours, board, made_by));
        locked.unlock();
        Ok(())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Tasks whose end could not be explained any more.
        for (_, dying) in self.dying.drain() {
            let error = TaskError::Broken { message: "its manager thread has ended".to_owned() };
            let job = dying.task.job;
            let finish = || job.finish(Outcome::Lost(error));
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(finish));
        }
    }
}

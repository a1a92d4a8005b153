//! The worker's side: takes batches from its socket, runs them item by item, and leaves the results on its board.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use super::board::{Board, LOG_BYTES};
use super::frame::{FromWorker, Garbled, Reader, kind};
use super::message::Message;
use super::parcel::{MAX_INLINE, Parcel};
use super::segment::{Segment, SegmentPool};
use super::socket::{self, MAX_MESSAGE, Wait};

/// How an item ended, as it is written into the log.
pub(crate) mod status {
    pub(crate) const DONE: u8 = 0;
    pub(crate) const FAILED: u8 = 1;
    /// The payload is text: why the result could not be sent.
    pub(crate) const UNSENT: u8 = 2;
}

/// The most bytes of one result in the log: its status and its parcel.
const MAX_RESULT: usize = 1 + 6 + MAX_INLINE;

/// What a task gave.
#[derive(Debug)]
pub struct Reply {
    /// Whether it is a failure: the codec knows the difference, the engine only hands it on.
    pub failed: bool,
    /// Result or failure, as the codec wrote it.
    pub message: Message,
}

/// Runs tasks in a worker process: the codec's side of [`Engine`](super::Engine).
///
/// What panics here ends the worker, and is a crash of the task that ran.
pub trait Handler {
    /// Makes a function known, before the first task that names it. Called once for each function.
    fn define(&mut self, function: u64, definition: Message);

    /// Runs one task.
    fn run(&mut self, function: u64, argument: Message) -> Reply;

    /// A failure in words, for an initializer that failed.
    fn explain(&self, failure: &Message) -> String;
}

/// Nanoseconds of the clock that all processes have in common.
pub(crate) fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Serves the pool at the other end of `socket` until that says that it is enough, or is gone.
///
/// # Errors
/// The pool has sent something that no pool sends, or the system has no memory.
pub(crate) fn serve(socket: OwnedFd, board: &OwnedFd, handler: &mut dyn Handler) -> io::Result<()> {
    let me = pidfd_open(getpid(), PidfdFlags::empty())?;
    let hello = FromWorker::Hello { pid: getpid().as_raw_nonzero().get().cast_unsigned() };
    socket::send(&socket, &hello.write(), &[me.as_fd()], Wait::Yes)?;
    drop(me);
    let mut worker = Worker {
        socket,
        board: Board::open(board)?,
        segments: SegmentPool::default(),
        result: Vec::with_capacity(MAX_RESULT),
    };
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut files = Vec::new();
    while let Some(frame) = socket::receive(&worker.socket, &mut buffer, &mut files, Wait::Yes)? {
        let mut files = files.drain(..);
        let mut reader = Reader::new(frame);
        let more = match reader.u8() {
            Ok(kind::BEGIN) => worker.begin(&mut reader, &mut files, handler),
            Ok(kind::BATCH) => worker.batch(&mut reader, &mut files, handler).map(|()| true),
            Ok(kind::EXIT) => Ok(false),
            _ => Err(Garbled.into()),
        };
        match more {
            Ok(true) => {}
            Ok(false) => break,
            // The pool has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct Worker {
    socket: OwnedFd,
    board: Board,
    segments: SegmentPool,
    /// The result that is being written.
    result: Vec<u8>,
}

impl Worker {
    fn say(&self, what: &FromWorker, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        socket::send(&self.socket, &what.write(), files, Wait::Yes)
    }

    /// Runs the initializer, if there is one; `false` if it failed.
    fn begin(
        &mut self,
        reader: &mut Reader<'_>,
        files: &mut impl Iterator<Item = OwnedFd>,
        handler: &mut dyn Handler,
    ) -> io::Result<bool> {
        if !reader.is_empty() {
            let function = reader.u64()?;
            handler.define(function, Parcel::unpack(reader, files)?);
            let reply = handler.run(function, Parcel::unpack(reader, files)?);
            if reply.failed {
                let why = handler.explain(&reply.message);
                self.say(&FromWorker::Refused(why), &[])?;
                return Ok(false);
            }
        }
        self.say(&FromWorker::Ready, &[])?;
        Ok(true)
    }

    fn batch(
        &mut self,
        reader: &mut Reader<'_>,
        files: &mut impl Iterator<Item = OwnedFd>,
        handler: &mut dyn Handler,
    ) -> io::Result<()> {
        let begun = monotonic_nanos();
        let slot = usize::from(reader.u8()? != 0);
        let number = reader.u64()?;
        let (definitions, items) = (reader.u32()?, reader.u32()?);
        for _ in 0..definitions {
            let function = reader.u64()?;
            handler.define(function, Parcel::unpack(reader, files)?);
        }
        let mut executed = 0;
        let mut log_bytes = 0;
        let mut now = begun;
        while executed < items {
            let Some(item) = self.board.claim(slot, now) else { break };
            let _task = reader.u64()?;
            let function = reader.u64()?;
            let reply = handler.run(function, Parcel::unpack(reader, files)?);
            let segments = self.write_result(&reply, slot, number, item)?;
            self.board.finish(slot, item, log_bytes, &self.result);
            log_bytes += self.result.len();
            for segment in segments {
                self.segments.put(0, segment);
            }
            executed += 1;
            if LOG_BYTES - log_bytes < MAX_RESULT {
                // No room for another one: the pool sends the others again.
                self.board.recall(slot);
            }
            now = monotonic_nanos();
        }
        self.say(&FromWorker::Done { slot, number, executed, nanos: now - begun }, &[])
    }

    /// Writes a result as it goes into the log; its segments are sent here, so that they are with the pool before the
    /// log says that the result is there.
    fn write_result(
        &mut self,
        reply: &Reply,
        slot: usize,
        number: u64,
        item: u32,
    ) -> io::Result<Vec<Segment>> {
        self.result.clear();
        let parcel = match Parcel::pack(&reply.message, &self.segments) {
            Ok(parcel) => {
                self.result.push(if reply.failed { status::FAILED } else { status::DONE });
                parcel
            }
            Err(error) => {
                self.result.push(status::UNSENT);
                Parcel::pack(&Message::new(error.to_string().into_bytes()), &self.segments)?
            }
        };
        parcel.write(&mut self.result);
        if !parcel.segments.is_empty() {
            parcel.segments.iter().for_each(Segment::lend);
            let files: Vec<_> = parcel.segments.iter().map(AsFd::as_fd).collect();
            self.say(&FromWorker::Files { slot, number, item }, &files)?;
        }
        Ok(parcel.segments)
    }
}

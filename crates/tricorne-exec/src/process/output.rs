//! What workers write to stdout and stderr: left alone, passed on, or taken in, line by line.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{stderr, stdout};
use rustix::time::Timespec;

/// Lines that are kept for the report of a crash.
const TAIL_LINES: usize = 20;
/// Longer lines are cut into pieces of this size.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// What is read at once; small enough that a pipe that is ready takes it whole.
const CHUNK_BYTES: usize = 4096;

/// Which of its two outputs a worker wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a worker wrote, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputLine {
    /// The worker's process id.
    pub pid: u32,
    /// Where it wrote to.
    pub stream: Stream,
    /// What it wrote; bytes that are not UTF-8 are replaced. At most 8 KiB: longer lines come in pieces.
    pub text: String,
}

/// What becomes of what workers write.
#[derive(Clone)]
pub enum Output {
    /// It goes where the output of this process goes, directly.
    Inherit,
    /// It goes through the pool to the output of this process; the last lines are kept for the report of a crash.
    Forward,
    /// Each line is given to this function, on the pool's manager thread: it should be short.
    Capture(Arc<dyn Fn(OutputLine) + Send + Sync>),
}

impl Output {
    /// [`Output::Capture`] with this function.
    pub fn capture(sink: impl Fn(OutputLine) + Send + Sync + 'static) -> Self {
        Self::Capture(Arc::new(sink))
    }

    /// A pipe if the pool has to read: its two ends.
    pub(crate) fn pipe(&self) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        if matches!(self, Self::Inherit) {
            return Ok(None);
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Some((reader, writer)))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inherit => "Inherit",
            Self::Forward => "Forward",
            Self::Capture(_) => "Capture",
        })
    }
}

/// What came of a look into a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// All that there was is read; more may come.
    Empty,
    /// The output of this process takes nothing at the moment: the worker has to wait as if it wrote there itself.
    Stalled,
    /// Nobody can write to it any more.
    Closed,
}

/// One output of one worker.
pub(crate) struct Pipe {
    pub(crate) file: OwnedFd,
    stream: Stream,
    output: Output,
    /// The line that has not ended.
    partial: Vec<u8>,
    /// The last lines.
    pub(crate) tail: VecDeque<String>,
    /// One of its lines says that there was no memory: Rust's words, or C++'s.
    pub(crate) wants_memory: bool,
    /// Nobody can write to it any more.
    pub(crate) is_closed: bool,
}

impl Pipe {
    pub(crate) fn new(file: OwnedFd, stream: Stream, output: Output) -> Self {
        Self {
            file,
            stream,
            output,
            partial: Vec::new(),
            tail: VecDeque::new(),
            wants_memory: false,
            is_closed: false,
        }
    }

    /// Reads what there is, up to a bound, and does with it what is to be done. Calls the sink.
    pub(crate) fn pump(&mut self, pid: u32) -> Pumped {
        // Bounded, so that a worker that writes all the time does not keep the manager for itself.
        for _ in 0..16 {
            if matches!(self.output, Output::Forward) && !self.target_is_ready() {
                return Pumped::Stalled;
            }
            let mut chunk = [0; CHUNK_BYTES];
            match rustix::io::read(&self.file, &mut chunk) {
                Ok(0) => {
                    self.end_line(pid);
                    return Pumped::Closed;
                }
                Ok(len) => self.take(&chunk[..len], pid),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Pumped::Empty,
                Err(_) => return Pumped::Closed,
            }
        }
        Pumped::Empty
    }

    fn target_is_ready(&self) -> bool {
        let target = match self.stream {
            Stream::Stdout => stdout(),
            Stream::Stderr => stderr(),
        };
        let mut waiting = [PollFd::new(&target, PollFlags::OUT)];
        // An error counts as ready: the write below then fails, and nobody is held up by an output that is gone.
        poll(&mut waiting, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready != 0)
    }

    fn take(&mut self, bytes: &[u8], pid: u32) {
        if matches!(self.output, Output::Forward) {
            let target = match self.stream {
                Stream::Stdout => stdout(),
                Stream::Stderr => stderr(),
            };
            let mut rest = bytes;
            while let Ok(written @ 1..) = rustix::io::write(target.as_fd(), rest) {
                rest = &rest[written..];
            }
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, ended) = match piece.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (piece, false),
            };
            let mut line = line;
            while self.partial.len() + line.len() > MAX_LINE_BYTES {
                let (fits, more) = line.split_at(MAX_LINE_BYTES - self.partial.len());
                self.partial.extend_from_slice(fits);
                self.end_line(pid);
                line = more;
            }
            self.partial.extend_from_slice(line);
            if ended {
                self.line(pid);
            }
        }
    }

    fn end_line(&mut self, pid: u32) {
        if !self.partial.is_empty() {
            self.line(pid);
        }
    }

    fn line(&mut self, pid: u32) {
        let text = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        self.wants_memory |= text.starts_with("memory allocation of ") || text.contains("std::bad_alloc");
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text.clone());
        if let Output::Capture(sink) = &self.output {
            let line = OutputLine { pid, stream: self.stream, text };
            // A sink that panics must not take the pool with it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sink(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn lines_are_cut_kept_and_handed_on() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        let output = Output::capture(move |line| seen.lock().expect("no panic").push((line.pid, line.text)));
        let (reader, writer) = output.pipe().expect("a pipe").expect("to be read");
        let mut pipe = Pipe::new(reader, Stream::Stderr, output);
        assert_eq!(pipe.pump(1), Pumped::Empty);
        let long = "x".repeat(MAX_LINE_BYTES + 5);
        rustix::io::write(&writer, b"one\ntw").expect("room");
        assert_eq!(pipe.pump(1), Pumped::Empty);
        rustix::io::write(&writer, format!("o\n\n{long}\nlast").as_bytes()).expect("room");
        drop(writer);
        assert_eq!(pipe.pump(1), Pumped::Closed);
        let texts: Vec<_> = lines.lock().expect("no panic").iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(texts, ["one", "two", "", &long[..MAX_LINE_BYTES], "xxxxx", "last"]);
        assert_eq!(pipe.tail.back().map(String::as_str), Some("last"));
    }
}

//! The template: a process with one thread that makes workers by copying itself, and reports how they ended.
//!
//! A process with threads must not be copied: a lock that another thread holds at that moment stays locked in the copy
//! for ever. So a pool starts a program anew (by default its own), which does nothing but wait for orders. What it has
//! loaded by then, all its workers have, at the price of a copy: about a millisecond.
//!
//! Nothing that a worker has is shared with another one: it is born with its socket and its board, and closes the
//! template's own descriptors. Three things end it when its pool is gone: the end of its socket, when it reads; the
//! lifeline, a pipe whose writing end only the pool has, and at whose end the system kills it, whatever it does; and the
//! pool. The template itself also dies with the thread that started it, which is the pool's manager. It may be killed at
//! any time: workers go on, the pool starts another one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin};

use super::frame::{FromTemplate, Garbled, Reader, kind};
use super::launch::{reopen, tie_to};
use super::socket::{self, Wait};
use super::worker::{self, Handler};
use crate::sys::child;

/// What the program of a template does around the making of a worker.
///
/// An interpreter, say, has to be told before and after it is copied.
pub trait Host {
    /// Makes a copy of this process, in which it returns `None`; otherwise the number of the copy.
    ///
    /// # Errors
    /// The system's reason.
    fn fork(&mut self) -> io::Result<Option<u32>> {
        Ok(child::fork()?.map(|pid| pid.as_raw_nonzero().get().cast_unsigned()))
    }

    /// Called in a new worker: what is to run its tasks.
    fn worker(&mut self) -> Box<dyn Handler + '_>;
}

/// Serves the pool that has started this program, from the template and from all workers made of it: it returns in
/// each of them, when the pool needs it no longer.
///
/// To be called first in `main`, when the program was started by a pool. The socket to the pool is its standard input,
/// which is replaced by an empty one; all other descriptors that it has inherited are closed.
///
/// # Errors
/// The system's, or a pool that cannot be understood; the process should end then.
pub fn serve_template(host: &mut dyn Host) -> io::Result<()> {
    let control = fcntl_dupfd_cloexec(stdin(), 3)?;
    let nothing = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&nothing)?;
    drop(nothing);
    child::close_inherited(&control);
    child::ignore_interrupt();
    child::keep_ended_children();
    // If the pool has died before this, the socket is at its end, and the loop below ends at once.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    socket::send(&control, &FromTemplate::Hello.write(), &[], Wait::Yes)?;
    let template = Template { control, lifeline: None, children: BTreeMap::new() };
    match template.run(host)? {
        None => Ok(()),
        Some(birth) => birth.live(host),
    }
}

struct Template {
    control: OwnedFd,
    /// The reading end.
    lifeline: Option<OwnedFd>,
    children: BTreeMap<u64, (Pid, OwnedFd)>,
}

impl Template {
    /// Makes workers and reports their end; what it returns is to be done in a new worker.
    fn run(mut self, host: &mut dyn Host) -> io::Result<Option<Birth>> {
        loop {
            let mut waiting = vec![PollFd::new(&self.control, PollFlags::IN)];
            waiting.extend(self.children.values().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)));
            match poll(&mut waiting, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<bool> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(waiting);
            let ended: Vec<u64> = self
                .children
                .keys()
                .zip(&ready[1..])
                .filter(|(_, ended)| **ended)
                .map(|(worker, _)| *worker)
                .collect();
            for worker in ended {
                self.report(worker)?;
            }
            if ready[0] {
                match self.obey(host)? {
                    Order::Obeyed => {}
                    Order::End => return Ok(None),
                    // Here all that belongs to the template is closed: `self` is consumed.
                    Order::Live(birth) => return Ok(Some(birth)),
                }
            }
        }
    }

    fn report(&mut self, worker: u64) -> io::Result<()> {
        let Some((pid, _)) = self.children.get(&worker) else { return Ok(()) };
        if let Some(ended) = child::reap(*pid)? {
            self.children.remove(&worker);
            let ended = FromTemplate::Ended { worker, status: ended.status, peak_bytes: ended.peak_bytes };
            self.say(&ended)?;
        }
        Ok(())
    }

    /// Reports, as far as there is still somebody to report to.
    fn say(&self, what: &FromTemplate) -> io::Result<()> {
        match socket::send(&self.control, &what.write(), &[], Wait::Yes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn obey(&mut self, host: &mut dyn Host) -> io::Result<Order> {
        let (mut buffer, mut files) = ([0; 64], Vec::new());
        let Some(frame) = socket::receive(&self.control, &mut buffer, &mut files, Wait::Yes)? else {
            return Ok(Order::End);
        };
        let mut reader = Reader::new(frame);
        let mut files = files.into_iter();
        match reader.u8()? {
            kind::LIFELINE => {
                self.lifeline = Some(files.next().ok_or(Garbled)?);
                Ok(Order::Obeyed)
            }
            kind::START => {
                let worker = reader.u64()?;
                let (stdout, stderr) = (reader.u8()? != 0, reader.u8()? != 0);
                let socket = files.next().ok_or(Garbled)?;
                let board = files.next().ok_or(Garbled)?;
                let stdout = if stdout { files.next() } else { None };
                let stderr = if stderr { files.next() } else { None };
                let lifeline = self.lifeline.as_ref().ok_or(Garbled)?;
                match host.fork() {
                    Ok(None) => {
                        let lifeline = reopen(lifeline)?;
                        return Ok(Order::Live(Birth { socket, board, stdout, stderr, lifeline }));
                    }
                    Ok(Some(pid)) => {
                        let pid = Pid::from_raw(pid.cast_signed()).ok_or(Garbled)?;
                        self.children.insert(worker, (pid, pidfd_open(pid, PidfdFlags::empty())?));
                    }
                    Err(error) => {
                        let errno = error.raw_os_error().unwrap_or(0);
                        self.say(&FromTemplate::Failed { worker, errno })?;
                    }
                }
                Ok(Order::Obeyed)
            }
            _ => Err(Garbled.into()),
        }
    }
}

enum Order {
    Obeyed,
    /// The pool is gone.
    End,
    /// This process is the new worker.
    Live(Birth),
}

/// All that a new worker has.
struct Birth {
    socket: OwnedFd,
    board: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    lifeline: OwnedFd,
}

impl Birth {
    fn live(self, host: &mut dyn Host) -> io::Result<()> {
        if !tie_to(&self.lifeline)? {
            return Ok(());
        }
        if let Some(stdout) = self.stdout {
            dup2_stdout(&stdout)?;
        }
        if let Some(stderr) = self.stderr {
            dup2_stderr(&stderr)?;
        }
        let mut handler = host.worker();
        worker::serve(self.socket, &self.board, &mut *handler)
        // The lifeline is closed last, when there is nothing to end any more.
    }
}

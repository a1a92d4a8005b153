//! Frames: what the processes of a pool say to each other, one message on a socket each.
//!
//! ```text
//! pool → worker     begin      parcels of the initializer, if there is one
//!                   batch      slot, number, definitions, items (task, function, parcel)
//!                   exit
//! worker → pool     hello      process id; with a pidfd
//!                   ready
//!                   refused    why the initializer failed
//!                   files      slot, number, item; with the segments of the item's result
//!                   done       slot, number, items that were run, nanoseconds
//! pool → template   lifeline   with the reading end of a pipe
//!                   start      number of the worker; with socket, board, stdout and stderr
//! template → pool   hello
//!                   ended      number of the worker, status, peak memory
//!                   failed     number of the worker, error number
//! ```
//!
//! Numbers are little-endian. Nothing that is received is believed: a frame that cannot be read ends its sender.

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbled;

impl From<Garbled> for std::io::Error {
    fn from(_: Garbled) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, "a frame that cannot be read")
    }
}

/// What the first byte of a frame says it is.
pub(crate) mod kind {
    pub(crate) const BEGIN: u8 = 1;
    pub(crate) const BATCH: u8 = 2;
    pub(crate) const EXIT: u8 = 3;
    pub(crate) const READY: u8 = 10;
    pub(crate) const REFUSED: u8 = 11;
    pub(crate) const FILES: u8 = 12;
    pub(crate) const DONE: u8 = 13;
    pub(crate) const LIFELINE: u8 = 20;
    pub(crate) const START: u8 = 21;
    pub(crate) const HELLO: u8 = 30;
    pub(crate) const ENDED: u8 = 31;
    pub(crate) const FAILED: u8 = 32;
}

/// Reads numbers and bytes from the front of a frame.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.position == self.bytes.len()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Garbled> {
        let end = self.position.checked_add(len).ok_or(Garbled)?;
        let bytes = self.bytes.get(self.position..end).ok_or(Garbled)?;
        self.position = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        self.bytes(N)?.try_into().map_err(|_| Garbled)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Garbled> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Garbled> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Garbled> {
        self.array().map(u64::from_le_bytes)
    }

    /// That nothing follows.
    pub(crate) fn end(&self) -> Result<(), Garbled> {
        if self.is_empty() { Ok(()) } else { Err(Garbled) }
    }
}

/// What a template says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromTemplate {
    Hello,
    Ended { worker: u64, status: i32, peak_bytes: u64 },
    Failed { worker: u64, errno: i32 },
}

impl FromTemplate {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(32);
        match self {
            Self::Hello => frame.push(kind::HELLO),
            Self::Ended { worker, status, peak_bytes } => {
                frame.push(kind::ENDED);
                frame.extend(worker.to_le_bytes());
                frame.extend(status.to_le_bytes());
                frame.extend(peak_bytes.to_le_bytes());
            }
            Self::Failed { worker, errno } => {
                frame.push(kind::FAILED);
                frame.extend(worker.to_le_bytes());
                frame.extend(errno.to_le_bytes());
            }
        }
        frame
    }

    pub(crate) fn read(frame: &[u8]) -> Result<Self, Garbled> {
        let mut reader = Reader::new(frame);
        let read = match reader.u8()? {
            kind::HELLO => Self::Hello,
            kind::ENDED => Self::Ended {
                worker: reader.u64()?,
                status: reader.u32()?.cast_signed(),
                peak_bytes: reader.u64()?,
            },
            kind::FAILED => Self::Failed { worker: reader.u64()?, errno: reader.u32()?.cast_signed() },
            _ => return Err(Garbled),
        };
        reader.end()?;
        Ok(read)
    }
}

/// What a worker says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromWorker {
    Hello { pid: u32 },
    Ready,
    Refused(String),
    Files { slot: usize, number: u64, item: u32 },
    Done { slot: usize, number: u64, executed: u32, nanos: u64 },
}

impl FromWorker {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(32);
        match self {
            Self::Hello { pid } => {
                frame.push(kind::HELLO);
                frame.extend(pid.to_le_bytes());
            }
            Self::Ready => frame.push(kind::READY),
            Self::Refused(why) => {
                frame.push(kind::REFUSED);
                frame.extend_from_slice(&why.as_bytes()[..why.floor_char_boundary(8 * 1024)]);
            }
            Self::Files { slot, number, item } => {
                frame.extend([kind::FILES, u8::from(*slot == 1)]);
                frame.extend(number.to_le_bytes());
                frame.extend(item.to_le_bytes());
            }
            Self::Done { slot, number, executed, nanos } => {
                frame.extend([kind::DONE, u8::from(*slot == 1)]);
                frame.extend(number.to_le_bytes());
                frame.extend(executed.to_le_bytes());
                frame.extend(nanos.to_le_bytes());
            }
        }
        frame
    }

    pub(crate) fn read(frame: &[u8]) -> Result<Self, Garbled> {
        let mut reader = Reader::new(frame);
        let slot = |reader: &mut Reader<'_>| match reader.u8()? {
            slot @ 0..=1 => Ok(usize::from(slot)),
            _ => Err(Garbled),
        };
        let read = match reader.u8()? {
            kind::HELLO => Self::Hello { pid: reader.u32()? },
            kind::READY => Self::Ready,
            kind::REFUSED => {
                return Ok(Self::Refused(String::from_utf8_lossy(&frame[1..]).into_owned()));
            }
            kind::FILES => {
                Self::Files { slot: slot(&mut reader)?, number: reader.u64()?, item: reader.u32()? }
            }
            kind::DONE => Self::Done {
                slot: slot(&mut reader)?,
                number: reader.u64()?,
                executed: reader.u32()?,
                nanos: reader.u64()?,
            },
            _ => return Err(Garbled),
        };
        reader.end()?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_worker_says_is_understood_and_nothing_else() {
        for frame in [
            FromWorker::Hello { pid: 12 },
            FromWorker::Ready,
            FromWorker::Refused("no such function".to_owned()),
            FromWorker::Files { slot: 1, number: 1 << 40, item: 9 },
            FromWorker::Done { slot: 0, number: 3, executed: 4, nanos: u64::MAX },
        ] {
            let written = frame.write();
            assert_eq!(FromWorker::read(&written), Ok(frame));
            if written[0] != kind::REFUSED {
                assert_eq!(FromWorker::read(&written[..written.len() - 1]), Err(Garbled));
                assert_eq!(FromWorker::read(&[&written[..], &[0]].concat()), Err(Garbled));
            }
        }
        assert_eq!(FromWorker::read(&[]), Err(Garbled));
        assert_eq!(FromWorker::read(&[kind::DONE, 2]), Err(Garbled));
        assert_eq!(FromWorker::read(b"GET / HTTP/1.1"), Err(Garbled));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = FromWorker::read(&frame);
        }
    }
}

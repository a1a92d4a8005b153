//! How a [`Message`] is put into bytes and segments, and taken out again.
//!
//! A parcel is the sizes of payload and buffers, the small ones themselves, and a segment for each large one:
//!
//! ```text
//! count: u32 │ count × (size: u64, its highest bit: in a segment of its own) │ the bytes of those that are not
//! ```
//!
//! If that would be too much for a frame, it goes into a segment as well, the first one.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::frame::{Garbled, Reader};
use super::message::{Buffer, Message};
use super::segment::{LARGE_BYTES, Segment, SegmentPool};
use crate::sys::memory::CopyOnWrite;

/// The most bytes of a parcel that go into a frame.
pub(crate) const MAX_INLINE: usize = 32 * 1024;
/// The most segments of one parcel.
pub(crate) const MAX_SEGMENTS: usize = 100;
const IN_SEGMENT: u64 = 1 << 63;

/// A message, ready to be sent, and to be sent again.
pub(crate) struct Parcel {
    /// What goes into the frame; empty if that is in the first segment.
    inline: Vec<u8>,
    /// Bytes of the parcel in the first segment, or 0.
    boxed: u32,
    pub(crate) segments: Vec<Segment>,
}

impl Parcel {
    /// Puts `message` into segments of `pool`, as far as it is large.
    ///
    /// # Errors
    /// No memory, or no descriptors.
    pub(crate) fn pack(message: &Message, pool: &SegmentPool) -> io::Result<Self> {
        let parts = || std::iter::once(&message.payload).chain(&message.buffers);
        let small: usize = parts().map(|part| if part.len() < LARGE_BYTES { part.len() } else { 0 }).sum();
        let count = 1 + message.buffers.len();
        let mut inline = Vec::with_capacity(4 + 8 * count + small);
        let mut segments = Vec::new();
        inline.extend(u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?.to_le_bytes());
        let mut in_segments = 0;
        let mut is_large = |part: &Buffer| {
            let large = part.len() >= LARGE_BYTES && in_segments + 1 < MAX_SEGMENTS;
            in_segments += usize::from(large);
            large
        };
        let places: Vec<bool> = parts().map(&mut is_large).collect();
        for (part, large) in parts().zip(&places) {
            inline.extend((part.len() as u64 | if *large { IN_SEGMENT } else { 0 }).to_le_bytes());
        }
        for (part, large) in parts().zip(&places) {
            if *large {
                let mut segment = pool.take(part.len())?;
                segment.fill(part);
                segments.push(segment);
            } else {
                inline.extend_from_slice(part);
            }
        }
        let mut boxed = 0;
        if inline.len() > MAX_INLINE {
            boxed = u32::try_from(inline.len()).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidInput, "more than 4 GiB of small buffers")
            })?;
            let mut segment = pool.take(inline.len())?;
            segment.fill(&inline);
            segments.insert(0, segment);
            inline = Vec::new();
        }
        Ok(Self { inline, boxed, segments })
    }

    /// Bytes that [`write`](Self::write) appends.
    pub(crate) fn frame_bytes(&self) -> usize {
        6 + self.inline.len()
    }

    /// Appends it to a frame, with which its segments must be sent.
    pub(crate) fn write(&self, frame: &mut Vec<u8>) {
        frame.push(u8::from(self.boxed != 0));
        frame.push(u8::try_from(self.segments.len()).expect("at most `MAX_SEGMENTS`"));
        let len = if self.boxed != 0 { self.boxed } else { u32::try_from(self.inline.len()).expect("small") };
        frame.extend(len.to_le_bytes());
        frame.extend_from_slice(&self.inline);
    }

    /// Whether files belong to the parcel that these bytes begin with.
    pub(crate) fn has_segments(bytes: &[u8]) -> bool {
        bytes.get(1).is_some_and(|segments| *segments > 0)
    }

    /// Takes a message out of a frame and of the files that came with it.
    ///
    /// # Errors
    /// It is not a parcel.
    pub(crate) fn unpack(
        frame: &mut Reader<'_>,
        files: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<Message, Garbled> {
        let boxed = frame.u8()? != 0;
        let segments = usize::from(frame.u8()?);
        let len = frame.u32()? as usize;
        let files: Vec<OwnedFd> = files.take(segments).collect();
        if files.len() != segments {
            return Err(Garbled);
        }
        let mut files = files.into_iter();
        if boxed {
            let map = map(files.next(), len)?;
            let mut reader = Reader::new(&map);
            Self::parts(&mut reader, &mut files, |range| Buffer::mapped(Arc::clone(&map), range))
        } else {
            let bytes = frame.bytes(len)?;
            let mut reader = Reader::new(bytes);
            Self::parts(&mut reader, &mut files, |range| Buffer::small(bytes[range].to_vec()))
        }
    }

    fn parts(
        reader: &mut Reader<'_>,
        files: &mut impl Iterator<Item = OwnedFd>,
        inline: impl Fn(std::ops::Range<usize>) -> Buffer,
    ) -> Result<Message, Garbled> {
        let count = reader.u32()? as usize;
        let sizes = reader.bytes(count.checked_mul(8).ok_or(Garbled)?)?;
        let mut sizes = Reader::new(sizes);
        let mut part = || {
            let size = sizes.u64()?;
            let len = usize::try_from(size & !IN_SEGMENT).map_err(|_| Garbled)?;
            if size & IN_SEGMENT != 0 {
                let map = map(files.next(), len)?;
                return Ok(Buffer::mapped(map, 0..len));
            }
            let start = reader.position();
            reader.bytes(len)?;
            Ok(inline(start..start + len))
        };
        if count == 0 {
            return Err(Garbled);
        }
        let payload = part()?;
        let buffers = (1..count).map(|_| part()).collect::<Result<_, _>>()?;
        Ok(Message { payload, buffers })
    }
}

fn map(file: Option<OwnedFd>, len: usize) -> Result<Arc<CopyOnWrite>, Garbled> {
    CopyOnWrite::new(file.ok_or(Garbled)?, len).map(Arc::new).map_err(|_| Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn there_and_back(message: &Message) -> (Message, usize) {
        let pool = SegmentPool::default();
        let parcel = Parcel::pack(message, &pool).expect("memory");
        let mut frame = Vec::new();
        parcel.write(&mut frame);
        assert_eq!(frame.len(), parcel.frame_bytes());
        let mut files =
            parcel.segments.iter().map(|segment| segment.as_fd().try_clone_to_owned().expect("descriptors"));
        let mut reader = Reader::new(&frame);
        let message = Parcel::unpack(&mut reader, &mut files).expect("as it was packed");
        assert!(reader.is_empty());
        (message, parcel.segments.len())
    }

    #[test]
    fn messages_of_all_sizes_come_back() {
        let sized = |len: usize| (0..len).map(|index| (index % 251) as u8).collect::<Vec<u8>>();
        for (payload, buffers, segments) in [
            (0, vec![], 0),
            (5, vec![0, 1, 100], 0),
            (MAX_INLINE - 12, vec![], 0),
            (MAX_INLINE - 11, vec![], 1),
            (LARGE_BYTES, vec![LARGE_BYTES - 1, LARGE_BYTES, 3], 3),
            (10, vec![40_000, 40_000], 1),
            (10, vec![LARGE_BYTES; 120], MAX_SEGMENTS),
        ] {
            let message = Message {
                payload: sized(payload).into(),
                buffers: buffers.iter().map(|len| sized(*len).into()).collect(),
            };
            let (back, used) = there_and_back(&message);
            assert_eq!((back.payload, back.buffers, used), (message.payload, message.buffers, segments));
        }
    }

    #[test]
    fn garbage_is_refused() {
        let unpack = |frame: &[u8]| Parcel::unpack(&mut Reader::new(frame), &mut std::iter::empty()).is_ok();
        let mut good = Vec::new();
        Parcel::pack(&Message::new(vec![1, 2, 3]), &SegmentPool::default()).expect("memory").write(&mut good);
        assert!(unpack(&good));
        for cut in 0..good.len() {
            assert!(!unpack(&good[..cut]), "{cut}");
        }
        for (place, byte) in [(0, 1), (1, 1), (2, 200), (6, 0), (6, 9), (10, 4), (17, 0x80), (17, 0x10)] {
            let mut bad = good.clone();
            bad[place] = byte;
            assert!(!unpack(&bad), "byte {place} = {byte}");
        }
    }
}

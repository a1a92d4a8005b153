//! What travels between processes: a payload that only its codec understands, and large buffers beside it.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use crate::sys::memory::CopyOnWrite;

/// What a task gets, or gives: opaque bytes.
#[derive(Debug, Default, Clone)]
pub struct Message {
    /// What the codec wrote.
    pub payload: Buffer,
    /// Bytes that the codec left out of the payload, in an order that it knows. From 64 KiB on each travels in shared
    /// memory, is copied once, by the sender, and is not copied by the receiver.
    pub buffers: Vec<Buffer>,
}

impl Message {
    /// A message without buffers.
    #[must_use]
    pub fn new(payload: Vec<u8>) -> Self {
        Self { payload: Buffer::small(payload), buffers: Vec::new() }
    }
}

/// Bytes that travel between processes without being taken apart.
///
/// As a part of an argument or of a result (it implements serde's traits) a buffer of 64 KiB or more is copied once, into
/// memory that the receiver maps: copy-on-write, so it can be changed like any other memory. Pages are copied when
/// they are changed, the memory goes back to the sender when the buffer is dropped.
///
/// A clone is cheap and shares the bytes until one of the two is changed.
///
/// # Examples
///
/// ```
/// use tricorne_exec::process::Buffer;
///
/// let mut pixels = Buffer::from(vec![0; 100_000]);
/// let before = pixels.clone();
/// pixels[0] = 255;
/// assert_eq!((before[0], pixels[0], pixels.len()), (0, 255, 100_000));
/// ```
#[derive(Clone)]
pub struct Buffer(Inner);

#[derive(Clone)]
enum Inner {
    /// Of the engine itself: cheap to make, and not cloned.
    Small(Vec<u8>),
    Owned(Arc<Vec<u8>>),
    Foreign(Arc<dyn AsRef<[u8]> + Send + Sync>),
    Mapped(Arc<CopyOnWrite>, Range<usize>),
}

impl Buffer {
    /// Bytes that somebody else owns, until they were sent.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Inner::Foreign(Arc::new(owner)))
    }

    pub(crate) fn small(bytes: Vec<u8>) -> Self {
        Self(Inner::Small(bytes))
    }

    /// A part of a mapped file.
    ///
    /// # Panics
    /// If the range is not inside.
    pub(crate) fn mapped(map: Arc<CopyOnWrite>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= map.len(), "a range inside of the mapping");
        Self(Inner::Mapped(map, range))
    }

    /// The bytes as a vector; they are copied unless they are in one already that nobody shares.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Inner::Small(bytes) => bytes,
            Inner::Owned(bytes) => Arc::try_unwrap(bytes).unwrap_or_else(|shared| shared.to_vec()),
            Inner::Foreign(_) | Inner::Mapped(..) => self.to_vec(),
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::small(Vec::new())
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Owned(Arc::new(bytes)))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Small(bytes) => bytes,
            Inner::Owned(bytes) => bytes,
            Inner::Foreign(owner) => (**owner).as_ref(),
            Inner::Mapped(map, range) => &map[range.clone()],
        }
    }
}

impl DerefMut for Buffer {
    /// Where the bytes are shared with a clone or an owner, they are copied first.
    fn deref_mut(&mut self) -> &mut [u8] {
        let own = match &mut self.0 {
            Inner::Small(_) | Inner::Owned(_) => true,
            Inner::Foreign(_) => false,
            Inner::Mapped(map, _) => Arc::get_mut(map).is_some(),
        };
        if !own {
            self.0 = Inner::Small(self.to_vec());
        }
        match &mut self.0 {
            Inner::Small(bytes) => bytes,
            Inner::Owned(bytes) => {
                let bytes: &mut Vec<u8> = Arc::make_mut(bytes);
                bytes
            }
            Inner::Mapped(map, range) => match Arc::get_mut(map) {
                Some(map) => &mut map[range.clone()],
                None => unreachable!("shared ones were replaced above, and `self` is borrowed"),
            },
            Inner::Foreign(_) => unreachable!("replaced above"),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

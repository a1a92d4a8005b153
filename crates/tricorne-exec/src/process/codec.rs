//! How Rust values become messages: serde and postcard, with large [`Buffer`]s left out of the payload.
//!
//! postcard is compact, needs no schema and no names of fields; both ends are the same program, so nothing has to be
//! understood by anybody else.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::message::{Buffer, Message};
use super::segment::LARGE_BYTES;

thread_local! {
    /// The buffers of the value that is being written or read on this thread.
    static BUFFERS: RefCell<Option<Vec<Buffer>>> = const { RefCell::new(None) };
}

/// While it lives, `BUFFERS` are those of one value; then those of the value around it again, also after a panic.
struct WithBuffers {
    outer: Option<Vec<Buffer>>,
    has_ended: bool,
}

impl WithBuffers {
    fn new(buffers: Vec<Buffer>) -> Self {
        Self { outer: BUFFERS.replace(Some(buffers)), has_ended: false }
    }

    fn end(&mut self) -> Option<Vec<Buffer>> {
        self.has_ended = true;
        BUFFERS.replace(self.outer.take())
    }
}

impl Drop for WithBuffers {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end();
        }
    }
}

/// Writes a value.
///
/// # Errors
/// What its `Serialize` says.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Message, String> {
    let mut inner = WithBuffers::new(Vec::new());
    let payload = postcard::to_allocvec(value);
    let buffers = inner.end().unwrap_or_default();
    match payload {
        Ok(payload) => Ok(Message { payload: Buffer::small(payload), buffers }),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a value.
///
/// # Errors
/// It is none of this type.
pub(crate) fn decode<T: DeserializeOwned>(message: Message) -> Result<T, String> {
    let _inner = WithBuffers::new(message.buffers);
    postcard::from_bytes(&message.payload).map_err(|error| error.to_string())
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct OwnBytes(Vec<u8>);

impl<'de> Deserialize<'de> for OwnBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsBytes;
        impl Visitor<'_> for AsBytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(AsBytes).map(OwnBytes)
    }
}

impl Serialize for Buffer {
    /// As bytes; or, as a part of a message, as a reference to one of its buffers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = BUFFERS.with_borrow_mut(|buffers| {
            let buffers = buffers.as_mut().filter(|_| self.len() >= LARGE_BYTES)?;
            buffers.push(self.clone());
            u32::try_from(buffers.len() - 1).ok()
        });
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&index.is_some())?;
        match index {
            Some(index) => tuple.serialize_element(&index)?,
            None => tuple.serialize_element(&Bytes(self))?,
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Buffer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Buffer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a buffer")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Buffer, A::Error> {
                let missing = || de::Error::custom("a buffer is not whole");
                if !parts.next_element::<bool>()?.ok_or_else(missing)? {
                    return Ok(Buffer::from(parts.next_element::<OwnBytes>()?.ok_or_else(missing)?.0));
                }
                let index = parts.next_element::<u32>()?.ok_or_else(missing)? as usize;
                BUFFERS
                    .with_borrow_mut(|buffers| buffers.as_mut()?.get_mut(index).map(std::mem::take))
                    .ok_or_else(|| de::Error::custom("a buffer is missing"))
            }
        }
        deserializer.deserialize_tuple(2, Parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_large_buffers_stay_outside() {
        let value = (
            "name".to_owned(),
            vec![Buffer::from(vec![1; 10]), Buffer::from(vec![2; LARGE_BYTES])],
            Some(-3_i64),
        );
        let message = encode(&value).expect("it can be written");
        assert_eq!(message.buffers.len(), 1);
        assert!(message.payload.len() < 40, "{}", message.payload.len());
        assert_eq!(decode::<(String, Vec<Buffer>, Option<i64>)>(message), Ok(value));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let message = encode(&(7_u8, Buffer::from(vec![2; LARGE_BYTES]))).expect("it can be written");
        let without = Message { buffers: Vec::new(), ..message.clone() };
        assert!(decode::<(u8, Buffer)>(without).is_err(), "a buffer is missing");
        assert!(decode::<(u8, Buffer, String)>(message).is_err());
        // A buffer is also a value for others: then it is plain bytes.
        let bytes = postcard::to_allocvec(&Buffer::from(vec![9; LARGE_BYTES])).expect("it can be written");
        assert!(bytes.len() > LARGE_BYTES);
        assert_eq!(postcard::from_bytes::<Buffer>(&bytes).expect("plain").len(), LARGE_BYTES);
    }
}

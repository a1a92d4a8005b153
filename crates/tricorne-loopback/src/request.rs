//! What a client asked for, as a handler sees it.

use bytes::Bytes;

/// One request, with what the server knows about its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The method as sent, such as `GET`.
    pub method: String,
    /// The request target as sent: the path with its query, if any.
    pub path: String,
    /// Names and values in the order of arrival; bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The request's body; empty for most.
    pub body: Bytes,
    /// The number of this request among those for the same path, from 1. Requests refused for lack of capacity do not
    /// count: the handler never sees them.
    pub attempt: u32,
    /// Requests that are being answered now, this one included.
    pub in_flight: usize,
}

impl Request {
    /// The value of the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

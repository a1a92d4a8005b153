//! What the server answers, and how badly.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

/// One answer, built step by step: status, headers and body, then the ways in which it goes wrong.
///
/// Of the faults that end an answer early ([`cut_after`](Reply::cut_after), [`stall_after`](Reply::stall_after),
/// [`drop_connection`](Reply::drop_connection), [`reset_connection`](Reply::reset_connection),
/// [`never_answer`](Reply::never_answer)) the last one named wins. An answer that ends early is never counted as completed.
#[derive(Clone, Debug)]
#[must_use = "a reply is sent only when the handler returns it"]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub(crate) body: Bytes,
    pub(crate) delay: Duration,
    pub(crate) framing: Framing,
    pub(crate) drip: Option<(usize, Duration)>,
    pub(crate) ending: Ending,
    pub(crate) close: bool,
}

/// How the client learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By `Content-Length`.
    Length,
    /// By chunks of at most so many bytes.
    Chunked(usize),
    /// By the end of the connection.
    UntilClose,
    /// The body is the whole answer: nothing is added.
    Raw,
}

/// How the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Whole,
    CutAfter(usize),
    StallAfter(usize),
    DropConnection,
    ResetConnection,
    NeverAnswer,
}

impl Reply {
    /// An answer with this status and an empty body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
            framing: Framing::Length,
            drip: None,
            ending: Ending::Whole,
            close: false,
        }
    }

    /// Status 200 with a body of the given content type.
    pub fn ok(content_type: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Self {
        Self::new(200).header("Content-Type", content_type).body(body)
    }

    /// Status 200 with an HTML page in UTF-8.
    pub fn html(body: impl Into<Bytes>) -> Self {
        Self::ok("text/html; charset=utf-8", body)
    }

    /// An answer that sends the client to `location`; `status` is one of 301, 302, 303, 307, 308 when it is meant well.
    pub fn redirect(status: u16, location: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status).header("Location", location)
    }

    /// Exactly these bytes, status line and all, and then the end of the connection: for answers that are not HTTP.
    /// Delay, drip and endings apply to it, and count its bytes as the body.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { framing: Framing::Raw, close: true, ..Self::new(0).body(bytes) }
    }

    /// Adds a header, sent as it is. A `Content-Length` of your own replaces the true one.
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body. It is not copied where it is static or already `Bytes`.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Waits before the first byte of the answer. A client that goes away meanwhile ends the wait.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the body in chunks of at most `chunk_bytes`, without a `Content-Length`.
    ///
    /// # Panics
    ///
    /// If `chunk_bytes` is zero.
    pub fn chunked(mut self, chunk_bytes: usize) -> Self {
        assert!(chunk_bytes > 0, "chunks of `0` bytes would never end");
        self.framing = Framing::Chunked(chunk_bytes);
        self
    }

    /// Sends the body without its length: it ends where the connection ends.
    pub fn until_close(mut self) -> Self {
        self.framing = Framing::UntilClose;
        self.close = true;
        self
    }

    /// Sends the body `piece_bytes` at a time with a pause of `interval` between the pieces. When chunked, each piece is
    /// a chunk.
    ///
    /// # Panics
    ///
    /// If `piece_bytes` is zero.
    pub fn drip(mut self, piece_bytes: usize, interval: Duration) -> Self {
        assert!(piece_bytes > 0, "pieces of `0` bytes would never end");
        self.drip = Some((piece_bytes, interval));
        self
    }

    /// Closes the connection after this many bytes of the body, whatever length was announced.
    pub fn cut_after(mut self, body_bytes: usize) -> Self {
        self.ending = Ending::CutAfter(body_bytes);
        self
    }

    /// Sends this many bytes of the body and then nothing more, until the client gives up.
    pub fn stall_after(mut self, body_bytes: usize) -> Self {
        self.ending = Ending::StallAfter(body_bytes);
        self
    }

    /// Closes the connection without a byte of an answer.
    pub fn drop_connection(mut self) -> Self {
        self.ending = Ending::DropConnection;
        self
    }

    /// Resets the connection (TCP RST) without a byte of an answer.
    pub fn reset_connection(mut self) -> Self {
        self.ending = Ending::ResetConnection;
        self
    }

    /// Keeps the connection open and says nothing, until the client gives up.
    pub fn never_answer(mut self) -> Self {
        self.ending = Ending::NeverAnswer;
        self
    }

    /// Announces `Connection: close` and closes the connection after this answer.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }
}

//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! hyper splits a connection into a sender and a driver that is usually spawned as a task of its own. Here the future of
//! a request polls both: no task, no wake-up across tasks, and dropping that future closes the connection.
//!
//! ```text
//!   request future ──▶ poll driver (socket → head or piece of body) ──▶ poll answer / body ──▶ pending? deadline
//! ```

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;

use crate::{
    connect::Wire,
    deadline::Deadline,
    error::{AttemptError, FailureKind, chain, is_tls},
};

/// What a connection reads at a time, at the most, and so what each idle one may keep in memory; also the most that the
/// head of an answer may have.
const MAX_READ_BYTES: usize = 16 << 10;

/// Memory for a body whose length the server announces is taken at once up to this; a lie costs no more.
const MAX_RESERVE_BYTES: u64 = 1 << 20;

type Driver = http1::Connection<TokioIo<Wire>, Empty<Bytes>>;

/// A connection that can carry one request after another.
pub(crate) struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    /// `None` when the connection has ended.
    driver: Option<Box<Driver>>,
    received: Arc<AtomicU64>,
    /// The other end.
    pub(crate) peer: SocketAddr,
}

/// The error of an exchange, and whether the connection may have been dead before the request reached the server.
pub(crate) struct ExchangeError {
    pub(crate) error: AttemptError,
    pub(crate) stale: bool,
}

impl Connection {
    pub(crate) async fn handshake(
        wire: Wire,
        received: Arc<AtomicU64>,
        peer: SocketAddr,
    ) -> Result<Self, AttemptError> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_READ_BYTES)
            // Real servers send all of these, and browsers show their pages.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| AttemptError::new(FailureKind::Connect, chain(&error)))?;
        Ok(Connection { sender, driver: Some(Box::new(driver)), received, peer })
    }

    /// Whether another request can be sent: the server has neither closed the connection nor sent something unasked.
    pub(crate) async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_driver(cx))).await.is_pending() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer, within the current phase of `deadline`.
    pub(crate) async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
        deadline: &mut Deadline,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let received_before = self.received.load(Ordering::Relaxed);
        let mut answer = pin!(self.sender.send_request(request));
        let mut driver = self.driver.take();
        let result = poll_fn(|cx| {
            // The driver first: it fills what the answer waits for.
            let _ = poll_driver(&mut driver, cx);
            match answer.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(answer.map_err(|error| head_error(&error))),
                Poll::Pending => deadline.poll_passed(cx).map(Err),
            }
        })
        .await;
        self.driver = driver;
        result.map_err(|error| {
            let silent = self.received.load(Ordering::Relaxed) == received_before;
            ExchangeError { stale: silent && error.kind == FailureKind::Disconnected, error }
        })
    }

    /// Reads a whole body, at most `max_bytes`; each piece gives the current phase of `deadline` its full time again.
    pub(crate) async fn read_body(
        &mut self,
        mut body: Incoming,
        max_bytes: u64,
        deadline: &mut Deadline,
    ) -> Result<Vec<u8>, AttemptError> {
        let too_large = |bytes: u64| {
            let message = format!("the body has at least {bytes} bytes, more than `{max_bytes}`");
            AttemptError::new(FailureKind::BodyTooLarge, message)
        };
        let announced = body.size_hint().lower();
        if announced > max_bytes {
            return Err(too_large(announced));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(announced.min(MAX_RESERVE_BYTES)).unwrap_or(0));
        while let Some(piece) = poll_fn(|cx| self.poll_piece(Pin::new(&mut body), deadline, cx)).await? {
            deadline.progress();
            if bytes.len() as u64 + piece.len() as u64 > max_bytes {
                return Err(too_large(bytes.len() as u64 + piece.len() as u64));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn poll_piece(
        &mut self,
        mut body: Pin<&mut Incoming>,
        deadline: &mut Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, AttemptError>> {
        let cut =
            |reason: &str| AttemptError::new(FailureKind::BodyCut, format!("the body was cut: {reason}"));
        let mut driven = false;
        let mut ended = false;
        loop {
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(cut(&chain(&error)))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) if !piece.is_empty() => return Poll::Ready(Ok(Some(piece))),
                    // Trailers say nothing about the page.
                    _ => driven = false,
                },
                // Asking for a piece told the driver that there is room for one.
                Poll::Pending if !driven => {
                    driven = true;
                    ended = self.poll_driver(cx).is_ready();
                }
                Poll::Pending if ended => return Poll::Ready(Err(cut("the connection has ended"))),
                Poll::Pending => return deadline.poll_passed(cx).map(Err),
            }
        }
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        poll_driver(&mut self.driver, cx)
    }
}

/// Lets the connection do what it can; ready when it has ended. Its errors reach the answer or the body as well.
fn poll_driver(driver: &mut Option<Box<Driver>>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(running) = driver else { return Poll::Ready(()) };
    if Pin::new(running.as_mut()).poll(cx).is_pending() {
        return Poll::Pending;
    }
    *driver = None;
    Poll::Ready(())
}

fn head_error(error: &hyper::Error) -> AttemptError {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    // TLS 1.3 servers refuse a client only after its handshake is done.
    let (kind, what) = if cause.is_some_and(is_tls) {
        (FailureKind::Tls, "TLS failed before the answer")
    } else if error.is_parse() {
        (FailureKind::Protocol, "the answer is not HTTP/1.1")
    } else {
        (FailureKind::Disconnected, "the connection was lost before the answer")
    };
    AttemptError::new(kind, format!("{what}: {}", chain(error)))
}

//! One connection: requests are read one after the other and answered in order, well or badly.

use std::future::pending;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::reply::{Ending, Framing};
use crate::server::Shared;
use crate::{Reply, Request};

const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
const MAX_BODY_BYTES: usize = 64 << 20;
/// How much a client may send ahead while it waits for an answer.
const MAX_AHEAD_BYTES: usize = 64 << 10;
/// How long a closed connection is still listened to, so that the end of the answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// The client is gone, or the connection is to end: there is nothing more to do on it.
#[derive(Debug)]
struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Ended
    }
}

/// What could be read from the connection.
enum Incoming {
    Request(Request, Protocol),
    /// Not a request that the handler could be asked about; the status says why.
    Unreadable(u16),
}

/// What the client understands, and expects of the connection.
#[derive(Clone, Copy)]
struct Protocol {
    keep_alive: bool,
    /// False for HTTP/1.0, which does not know chunks.
    chunks: bool,
}

struct Connection {
    stream: TcpStream,
    /// Bytes that were received and not yet used.
    received: BytesMut,
    /// Kept between answers for its capacity.
    head: Vec<u8>,
}

/// Serves one connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Without this, small answers could wait for an acknowledgement; failing only costs time.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection { stream, received: BytesMut::new(), head: Vec::new() };
    while let Ok(()) = connection.exchange(&shared).await {}
}

impl Connection {
    /// Reads one request and answers it; `Err` when that was the last one.
    async fn exchange(&mut self, shared: &Shared) -> Result<(), Ended> {
        let (mut request, protocol) = match self.read_request().await? {
            Incoming::Request(request, protocol) => (request, protocol),
            Incoming::Unreadable(status) => {
                let protocol = Protocol { keep_alive: false, chunks: false };
                self.answer(Reply::new(status), protocol, false).await?;
                return self.close().await;
            }
        };
        let is_head = request.method == "HEAD";
        let Some(admission) = shared.counters.admit(&request.path) else {
            let keep_alive = self.answer(Reply::new(429), protocol, is_head).await?;
            return if keep_alive { Ok(()) } else { self.close().await };
        };
        request.attempt = admission.attempt;
        request.in_flight = admission.in_flight;
        let reply = (shared.handler)(&request);
        let whole = reply.ending == Ending::Whole;
        let keep_alive = self.answer(reply, protocol, is_head).await?;
        if whole {
            admission.permit.complete();
        } else {
            drop(admission.permit);
        }
        if keep_alive { Ok(()) } else { self.close().await }
    }

    async fn read_request(&mut self) -> Result<Incoming, Ended> {
        loop {
            match parse(&self.received) {
                Parsed::Partial if self.received.len() >= MAX_HEAD_BYTES => {
                    return Ok(Incoming::Unreadable(431));
                }
                Parsed::Partial => self.receive().await?,
                Parsed::Unreadable(status) => return Ok(Incoming::Unreadable(status)),
                Parsed::Head { mut request, protocol, head_bytes, body_bytes } => {
                    self.received.advance(head_bytes);
                    while self.received.len() < body_bytes {
                        self.receive().await?;
                    }
                    request.body = self.received.split_to(body_bytes).freeze();
                    return Ok(Incoming::Request(request, protocol));
                }
            }
        }
    }

    /// Waits for more bytes.
    async fn receive(&mut self) -> Result<(), Ended> {
        self.received.reserve(4 << 10);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(Ended),
            _ => Ok(()),
        }
    }

    /// Waits until the client closes its side, keeping what it sends meanwhile.
    async fn until_gone(&mut self) {
        while self.received.len() < MAX_AHEAD_BYTES {
            if self.receive().await.is_err() {
                return;
            }
        }
        pending::<()>().await;
    }

    /// Waits for `duration`, or fails as soon as the client is gone.
    async fn pause(&mut self, duration: Duration) -> Result<(), Ended> {
        if duration.is_zero() {
            return Ok(());
        }
        match timeout(duration, self.until_gone()).await {
            Ok(()) => Err(Ended),
            Err(_) => Ok(()),
        }
    }

    /// Sends the answer as far as it goes. True if the connection may serve another request.
    async fn answer(&mut self, reply: Reply, protocol: Protocol, is_head: bool) -> Result<bool, Ended> {
        self.pause(reply.delay).await?;
        match reply.ending {
            Ending::NeverAnswer => {
                self.until_gone().await;
                return Err(Ended);
            }
            Ending::DropConnection => return Err(Ended),
            Ending::ResetConnection => {
                self.stream.set_zero_linger()?;
                return Err(Ended);
            }
            Ending::Whole | Ending::CutAfter(_) | Ending::StallAfter(_) => {}
        }
        let framing = match reply.framing {
            Framing::Chunked(_) if !protocol.chunks => Framing::UntilClose,
            framing => framing,
        };
        let keep_alive = protocol.keep_alive && !reply.close && framing != Framing::UntilClose;
        self.head.clear();
        if framing != Framing::Raw {
            write_head(&mut self.head, &reply, framing, keep_alive);
        }
        let has_body = framing == Framing::Raw || !is_head && !is_bodiless(reply.status);
        self.send(&reply, framing, has_body).await?;
        match reply.ending {
            Ending::StallAfter(_) => {
                self.until_gone().await;
                Err(Ended)
            }
            Ending::CutAfter(_) => Ok(false),
            _ => Ok(keep_alive),
        }
    }

    /// Sends the head that was prepared, and the body in the pieces that framing and drip ask for.
    async fn send(&mut self, reply: &Reply, framing: Framing, has_body: bool) -> Result<(), Ended> {
        let limit = match reply.ending {
            _ if !has_body => 0,
            Ending::CutAfter(bytes) | Ending::StallAfter(bytes) => bytes.min(reply.body.len()),
            _ => reply.body.len(),
        };
        let mut rest = reply.body.slice(..limit);
        let chunked = matches!(framing, Framing::Chunked(_)) && has_body;
        let (piece_bytes, interval) = match (reply.drip, framing) {
            (Some(drip), _) => drip,
            (None, Framing::Chunked(bytes)) => (bytes, Duration::ZERO),
            (None, _) => (usize::MAX, Duration::ZERO),
        };
        let mut prefix = std::mem::take(&mut self.head);
        while !rest.is_empty() {
            let piece = rest.split_to(piece_bytes.min(rest.len()));
            if chunked {
                write!(prefix, "{:x}\r\n", piece.len())?;
                self.write(Buf::chain(&prefix[..], piece).chain(&b"\r\n"[..])).await?;
            } else {
                self.write(Buf::chain(&prefix[..], piece)).await?;
            }
            prefix.clear();
            if !rest.is_empty() {
                self.pause(interval).await?;
            }
        }
        if chunked && reply.ending == Ending::Whole {
            prefix.extend_from_slice(b"0\r\n\r\n");
        }
        self.stream.write_all(&prefix).await?;
        self.head = prefix;
        Ok(())
    }

    async fn write(&mut self, mut pieces: impl Buf) -> Result<(), Ended> {
        Ok(self.stream.write_all_buf(&mut pieces).await?)
    }

    /// Ends the connection so that all that was sent arrives: a socket closed on unread bytes would reset it.
    async fn close(&mut self) -> Result<(), Ended> {
        self.stream.shutdown().await?;
        let drained = async {
            loop {
                self.received.clear();
                if self.receive().await.is_err() {
                    return;
                }
            }
        };
        // Whether the client closed or the time is up, the connection is over.
        let _ = timeout(LINGER, drained).await;
        Err(Ended)
    }
}

/// What the received bytes amount to.
enum Parsed {
    Partial,
    Unreadable(u16),
    Head { request: Request, protocol: Protocol, head_bytes: usize, body_bytes: usize },
}

fn parse(received: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_bytes = match parsed.parse(received) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Unreadable(431),
        Err(_) => return Parsed::Unreadable(400),
    };
    let is_http_11 = parsed.version == Some(1);
    let mut keep_alive = is_http_11;
    let mut body_bytes = 0;
    let mut headers = Vec::with_capacity(parsed.headers.len());
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value).into_owned();
        if header.name.eq_ignore_ascii_case("content-length") {
            let Ok(bytes) = value.trim().parse::<usize>() else {
                return Parsed::Unreadable(400);
            };
            body_bytes = bytes;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Parsed::Unreadable(501);
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep_alive = match value.trim() {
                option if option.eq_ignore_ascii_case("close") => false,
                option if option.eq_ignore_ascii_case("keep-alive") => true,
                _ => keep_alive,
            };
        }
        headers.push((header.name.to_owned(), value));
    }
    if body_bytes > MAX_BODY_BYTES {
        return Parsed::Unreadable(413);
    }
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        headers,
        body: Bytes::new(),
        attempt: 0,
        in_flight: 0,
    };
    Parsed::Head { request, protocol: Protocol { keep_alive, chunks: is_http_11 }, head_bytes, body_bytes }
}

fn write_head(head: &mut Vec<u8>, reply: &Reply, framing: Framing, keep_alive: bool) {
    let mut put = |line: std::fmt::Arguments<'_>| {
        // Writing to a vector cannot fail.
        let _ = head.write_fmt(line);
    };
    put(format_args!("HTTP/1.1 {} {}\r\n", reply.status, reason(reply.status)));
    let mut has_length = false;
    for (name, value) in &reply.headers {
        has_length |= name.eq_ignore_ascii_case("content-length");
        put(format_args!("{name}: {value}\r\n"));
    }
    match framing {
        Framing::Length if !has_length && !is_bodiless(reply.status) => {
            put(format_args!("Content-Length: {}\r\n", reply.body.len()));
        }
        Framing::Chunked(_) => put(format_args!("Transfer-Encoding: chunked\r\n")),
        _ => {}
    }
    put(format_args!("Connection: {}\r\n\r\n", if keep_alive { "keep-alive" } else { "close" }));
}

/// Whether answers with this status have no body by definition.
fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// The usual words for a status; clients must not depend on them.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unnamed",
    }
}

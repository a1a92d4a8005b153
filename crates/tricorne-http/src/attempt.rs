//! One attempt at one address: a connection, a request, an answer. Redirects and retries are the caller's.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HOST, HeaderName, LOCATION, RETRY_AFTER},
};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout};

use crate::{
    client::{InFlight, Inner, Record},
    connect::{connect, refused_address},
    connection::Connection,
    deadline::Deadline,
    decode::Encodings,
    error::{AttemptError, FailureKind},
    host::Host,
    private::is_private,
    retry_after,
    stats::count,
    target::Target,
};

/// The rest of a body that nobody wants is read up to this, so that its connection can be used again.
const MAX_DRAIN_BYTES: u64 = 64 << 10;
const MAX_DRAIN_TIME: Duration = Duration::from_secs(1);

/// What came of an attempt that did not fail.
pub(crate) enum Answer {
    Page(Page),
    /// The `Location` to go on to.
    Redirect(String),
}

/// A 2xx answer, its body as sent.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<String>,
    pub(crate) encodings: Encodings,
    pub(crate) body: Vec<u8>,
}

impl Inner {
    /// The network time of this attempt is added to that of the record, also on failure.
    pub(crate) async fn attempt(
        &self,
        host: &Host,
        target: &Target,
        trusted: bool,
        slot: &mut InFlight,
        record: &mut Record,
    ) -> Result<Answer, AttemptError> {
        let started = Instant::now();
        let total = self.config.total_timeout;
        let mut deadline = Deadline::new(started, total.saturating_sub(record.network_time), total);
        let result = self.exchange(host, target, trusted, slot, record, &mut deadline).await;
        record.network_time += started.elapsed();
        result
    }

    async fn exchange(
        &self,
        host: &Host,
        target: &Target,
        trusted: bool,
        slot: &mut InFlight,
        record: &mut Record,
        deadline: &mut Deadline,
    ) -> Result<Answer, AttemptError> {
        let (mut connection, response) = self.head(host, target, trusted, slot, record, deadline).await?;
        let status = response.status();
        if status.is_success() {
            let encodings = Encodings::parse(text_values(response.headers(), &CONTENT_ENCODING))?;
            let content_type = text_values(response.headers(), &CONTENT_TYPE).next().map(str::to_owned);
            deadline.enter(FailureKind::TimeoutStall, self.config.stall_timeout);
            let body =
                connection.read_body(response.into_body(), self.config.max_body_bytes, deadline).await?;
            count(&self.counters.wire_bytes, body.len() as u64);
            self.keep(host, connection).await;
            return Ok(Answer::Page(Page { status, content_type, encodings, body }));
        }
        let location = response.headers().get(LOCATION).filter(|_| is_redirect(status));
        let answer = match location {
            Some(location) => {
                record.from_public |= !is_private(connection.peer.ip());
                Ok(Answer::Redirect(String::from_utf8_lossy(location.as_bytes()).into_owned()))
            }
            None => Err(self.refusal(status, response.headers())),
        };
        // Not by the deadline: a rest that drips would start its phase anew with every piece.
        let drain = connection.read_body(response.into_body(), MAX_DRAIN_BYTES, deadline);
        if let Ok(Ok(rest)) = timeout(MAX_DRAIN_TIME, drain).await {
            count(&self.counters.wire_bytes, rest.len() as u64);
            self.keep(host, connection).await;
        }
        answer
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// A kept connection may have died in the meantime; nobody can tell before writing to it. One that dies without a
    /// byte of an answer is replaced at once by a fresh one, which is no attempt of its own: a GET may be repeated. That
    /// is done once for a record: a server that drops every connection must not see twice the attempts.
    async fn head(
        &self,
        host: &Host,
        target: &Target,
        trusted: bool,
        slot: &mut InFlight,
        record: &mut Record,
        deadline: &mut Deadline,
    ) -> Result<(Connection, Response<Incoming>), AttemptError> {
        let may_be_private = self.config.private_addresses.allows(record.from_public);
        if let Some(mut connection) = host.take_idle(self.config.idle_timeout).await {
            let peer = connection.peer;
            if is_private(peer.ip()) && !may_be_private {
                self.keep(host, connection).await;
                return Err(refused_address(peer));
            }
            count(&self.counters.connections_reused, 1);
            match self.send(&mut connection, target, trusted, slot, deadline).await {
                Ok(response) => return Ok((connection, response)),
                Err(failed) if failed.stale && std::mem::take(&mut record.may_repeat) => {
                    count(&self.counters.connections_stale, 1);
                }
                Err(failed) => return Err(failed.error),
            }
        }
        deadline.enter(FailureKind::TimeoutConnect, self.config.connect_timeout);
        // Boxed: it is rare, and would make every waiting record larger by its handshake.
        let mut connection = Box::pin(connect(host, &self.tls, may_be_private, deadline)).await?;
        count(&self.counters.connections_opened, 1);
        match self.send(&mut connection, target, trusted, slot, deadline).await {
            Ok(response) => Ok((connection, response)),
            Err(failed) => Err(failed.error),
        }
    }

    async fn send(
        &self,
        connection: &mut Connection,
        target: &Target,
        trusted: bool,
        slot: &mut InFlight,
        deadline: &mut Deadline,
    ) -> Result<Response<Incoming>, crate::connection::ExchangeError> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = if trusted { self.headers.clone() } else { self.public_headers.clone() };
        request.headers_mut().insert(HOST, target.host_header.clone());
        count(&self.counters.requests, 1);
        // Connecting tells nothing of the server's load.
        slot.mark_sent();
        deadline.enter(FailureKind::TimeoutFirstByte, self.config.first_byte_timeout);
        connection.send(request, deadline).await
    }

    async fn keep(&self, host: &Host, mut connection: Connection) {
        if connection.is_usable().await {
            self.hosts.put_idle(host, connection, &self.config);
        }
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap) -> AttemptError {
        let kind = FailureKind::Status(status.as_u16());
        let mut error = AttemptError::new(kind, format!("the server answered `{status}`"));
        if status == StatusCode::TOO_MANY_REQUESTS {
            count(&self.counters.too_many_requests, 1);
        }
        if kind.is_transient() {
            error.retry_after = text_values(headers, &RETRY_AFTER).next().and_then(|value| {
                retry_after::parse(value, server_time(headers), self.config.retry_after_max)
            });
        }
        error
    }
}

/// The time by the clock of the server, to which its dates belong; ours if it does not tell.
fn server_time(headers: &HeaderMap) -> SystemTime {
    let date = text_values(headers, &DATE).next().and_then(|date| httpdate::parse_http_date(date).ok());
    date.unwrap_or_else(SystemTime::now)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The values of a header that are text; others cannot mean anything to us.
fn text_values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

//! The client: one record from its URL to its page, through limits, redirects and retries.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, USER_AGENT,
};
use tokio::time::{sleep, sleep_until};
use tricorne_exec::{
    limit::{LimitPermit, Limiter, Outcome},
    retry::{Jitter, RetryBudget, RetryPolicy},
    sys::thread_cpu_time,
};

use crate::{
    attempt::{Answer, Page},
    config::{ClientConfig, Concurrency},
    decode::ACCEPTED,
    error::{AttemptError, FailureKind, FetchFailure, HttpError},
    host::{Counted, Host, Hosts},
    stats::{ClientStats, Counters, count},
    target::Target,
    tls::Tls,
};

/// An HTTP/1.1 client for fetching many pages. A clone shares everything with the original.
///
/// It runs in the tokio runtime of the caller (with time and I/O enabled) and spawns no tasks.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ClientConfig,
    pub(crate) hosts: Hosts,
    pub(crate) tls: Tls,
    pub(crate) counters: Counters,
    /// Headers of every request; the place of `Host` is kept first.
    pub(crate) headers: HeaderMap,
    /// The same without those that are nobody else's business.
    pub(crate) public_headers: HeaderMap,
    limiter: Arc<Limiter>,
    in_flight: Arc<AtomicUsize>,
}

/// A page that was fetched.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The address that answered, after redirects, without a fragment.
    pub final_url: String,
    /// The status, 200 to 299.
    pub status: u16,
    /// The `Content-Type` header as sent.
    pub content_type: Option<String>,
    /// The body after content decoding.
    pub body: Bytes,
    /// Size of the body as sent, in bytes.
    pub wire_bytes: u64,
    /// Tries made; redirects do not count.
    pub attempts: u32,
    /// Time on the network over all attempts, without waiting for permits, patient hosts or back-off.
    pub network_time: Duration,
    /// The place of this request under the limits. Keep it until the record is safe, so that what is lost by a
    /// crash is bounded by the limits; dropping it lets the next request go. Whoever collects pages must let
    /// go of this part, or no further request is sent once the limit is reached.
    pub permit: InFlight,
}

/// The place of a request under the limits of its host and of the client; given back when dropped.
pub struct InFlight {
    host: LimitPermit,
    sent: Option<OwnWork>,
    _client: LimitPermit,
    _count: Counted,
}

impl InFlight {
    pub(crate) fn mark_sent(&mut self) {
        self.host.mark_sent();
        self.sent = Some(OwnWork::begin());
    }

    fn record(&mut self, outcome: Outcome) {
        let own_work = self.sent.map_or(Duration::ZERO, OwnWork::end);
        self.host.record_besides(outcome, own_work);
    }
}

/// The CPU time of the thread that drives the requests: while it works on one, the others wait for it.
#[derive(Clone, Copy)]
struct OwnWork {
    thread: ThreadId,
    cpu: Duration,
}

impl OwnWork {
    fn begin() -> Self {
        OwnWork { thread: thread::current().id(), cpu: thread_cpu_time() }
    }

    /// Zero if the request has moved to another thread: its share of that one's work is not known.
    fn end(self) -> Duration {
        if self.thread == thread::current().id() {
            thread_cpu_time().saturating_sub(self.cpu)
        } else {
            Duration::ZERO
        }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client. Nothing is read or opened before it is needed; so missing system roots fail the first `https`
    /// record, not this.
    ///
    /// # Errors
    ///
    /// [`HttpError`] for a limit of zero, a header that cannot be sent, or extra roots that are no certificates.
    pub fn new(config: ClientConfig) -> Result<Self, HttpError> {
        for (field, limit) in [
            ("concurrency", config.concurrency.max()),
            ("per_host", config.per_host.max()),
            ("max_hosts", config.max_hosts),
        ] {
            if limit == 0 {
                return Err(HttpError::ZeroLimit { field });
            }
        }
        let headers = request_headers(&config)?;
        let mut public_headers = headers.clone();
        for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
            public_headers.remove(secret);
        }
        let limiter = match config.concurrency {
            // Load is measured host by host; see `ClientConfig::concurrency`.
            Concurrency::Auto { max } | Concurrency::Fixed(max) => Limiter::fixed(max),
        };
        Ok(Client {
            inner: Arc::new(Inner {
                tls: Tls::new(&config.extra_root_pem)?,
                hosts: Hosts::new(),
                counters: Counters::default(),
                in_flight: Arc::default(),
                config,
                headers,
                public_headers,
                limiter,
            }),
        })
    }

    /// Fetches one page.
    ///
    /// Redirects 301, 302, 303, 307 and 308 are followed, also from `https` to `http`: the page is public data, and
    /// `final_url` says where it came from. Failures that may pass are tried again within the one budget of the
    /// record. Neither the limits nor a connection are held while waiting for the next try.
    ///
    /// # Fairness
    ///
    /// Records get their place under a limit first come, first served; a redirect or retry queues again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back its place and closes the connection it used.
    ///
    /// # Errors
    ///
    /// [`FetchFailure`], which says why and whether a later run may succeed.
    pub async fn get(&self, url: &str) -> Result<Fetched, FetchFailure> {
        let inner = &*self.inner;
        let mut record = Record::new(url, &inner.config);
        let mut target = Target::parse(url).map_err(|error| FetchFailure {
            kind: error.kind,
            message: error.message,
            url: url.to_owned(),
            attempts: 0,
            retryable: false,
            network_time: Duration::ZERO,
        })?;
        let first_origin = target.origin.clone();
        loop {
            let host = inner.hosts.get(&target.origin, &inner.config);
            let mut slot = inner.admit(&host).await;
            let trusted = target.origin == first_origin;
            // Boxed, so that the many records that wait for a place or for their next try stay small.
            let result = Box::pin(inner.attempt(&host, &target, trusted, &mut slot, &mut record)).await;
            slot.record(outcome(&result));
            match result {
                Ok(Answer::Page(page)) => return Box::pin(inner.finish(page, &target, &record, slot)).await,
                Ok(Answer::Redirect(location)) => {
                    drop(slot);
                    target = record.follow(&target, &location, inner)?;
                }
                Err(error) => {
                    drop(slot);
                    if let Some(wait) = error.retry_after {
                        host.close_for(wait);
                    }
                    let delay = record.next_delay(&error).ok_or_else(|| record.failure(&target, &error))?;
                    inner.counters.retried(error.kind);
                    sleep(delay).await;
                }
            }
        }
    }

    /// What the client has done so far and does now.
    pub fn stats(&self) -> ClientStats {
        let inner = &*self.inner;
        ClientStats {
            in_flight: inner.in_flight.load(Ordering::Relaxed),
            limit: inner.hosts.limit().min(inner.limiter.limit()),
            idle_connections: inner.hosts.idle(),
            hosts: inner.hosts.len(),
            ..inner.counters.snapshot()
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Inner {
    /// Waits until a request to `host` is welcome.
    ///
    /// The host's place is taken before the client's: whoever waits for a slow host must not keep others from fast
    /// ones. Nobody waits for a host while holding a place of the client, so that no two can wait for each other.
    ///
    /// Before all that it comes to the front of those who wait for the rate of the host, and stays there until it goes: so it
    /// waits without a place, and whatever it waits for afterwards, no burst comes of that.
    async fn admit(&self, host: &Host) -> InFlight {
        let clearance = match &host.rate {
            Some(rate) => Some(rate.clear_async(1).await),
            None => None,
        };
        loop {
            if let Some(until) = host.closed_until() {
                sleep_until(until).await;
                continue;
            }
            let host_permit = host.limiter.acquire_async().await;
            if host.closed_until().is_some() {
                continue;
            }
            let client_permit = self.limiter.acquire_async().await;
            // The host may have asked for patience while we queued.
            if host.closed_until().is_none() {
                if let Some(clearance) = clearance {
                    clearance.pass();
                }
                let count = Counted::new(&self.in_flight);
                return InFlight { host: host_permit, sent: None, _client: client_permit, _count: count };
            }
        }
    }

    async fn finish(
        &self,
        page: Page,
        target: &Target,
        record: &Record,
        permit: InFlight,
    ) -> Result<Fetched, FetchFailure> {
        let wire_bytes = page.body.len() as u64;
        let body = if page.encodings.is_identity() {
            page.body
        } else {
            let decoded = page.encodings.decode(&page.body, self.config.max_decoded_bytes).await;
            decoded.map_err(|error| record.failure(target, &error))?
        };
        if body.len() as u64 > self.config.max_decoded_bytes {
            let message =
                format!("the body has {} bytes, more than `{}`", body.len(), self.config.max_decoded_bytes);
            return Err(record.failure(target, &AttemptError::new(FailureKind::DecodedTooLarge, message)));
        }
        count(&self.counters.decoded_bytes, body.len() as u64);
        Ok(Fetched {
            final_url: target.url.as_str().to_owned(),
            status: page.status.as_u16(),
            content_type: page.content_type,
            body: Bytes::from(body),
            wire_bytes,
            attempts: record.budget.attempts(),
            network_time: record.network_time,
            permit,
        })
    }
}

/// What is kept for a record from one attempt to the next.
pub(crate) struct Record {
    budget: RetryBudget,
    pub(crate) network_time: Duration,
    /// Whether a kept connection that turns out to be dead may still be replaced without counting as an attempt.
    pub(crate) may_repeat: bool,
    /// Whether a public address has answered with a redirect.
    pub(crate) from_public: bool,
    /// Addresses that have answered with a redirect.
    visited: Vec<String>,
}

impl Record {
    fn new(url: &str, config: &ClientConfig) -> Self {
        let policy = RetryPolicy {
            max_attempts: config.retries.saturating_add(1),
            base: config.retry_base,
            max_delay: config.retry_max_delay,
        };
        // Keys that never change make the delays of a URL the same in every run.
        let mut hasher = DefaultHasher::new();
        url.hash(&mut hasher);
        let jitter = Jitter::for_stream(config.seed, hasher.finish());
        Record {
            budget: policy.budget(jitter),
            network_time: Duration::ZERO,
            may_repeat: true,
            from_public: false,
            visited: Vec::new(),
        }
    }

    fn next_delay(&mut self, error: &AttemptError) -> Option<Duration> {
        let again = error.kind.is_transient() && error.kind != FailureKind::TimeoutTotal;
        if again { self.budget.next_delay(error.retry_after) } else { None }
    }

    fn follow(&mut self, page: &Target, location: &str, inner: &Inner) -> Result<Target, FetchFailure> {
        self.visited.push(page.url.as_str().to_owned());
        let fail = |kind, message: String| Err(self.failure(page, &AttemptError::new(kind, message)));
        let next = page.join(location).map_err(|error| self.failure(page, &error))?;
        if let Some(start) = self.visited.iter().position(|url| url == next.url.as_str()) {
            let path = self.visited[start..].join("` -> `");
            return fail(
                FailureKind::RedirectLoop,
                format!("redirected in a circle: `{path}` -> `{}`", next.url),
            );
        }
        if self.visited.len() as u64 > u64::from(inner.config.max_redirects) {
            let message =
                format!("more than `{}` redirects, the last to `{}`", inner.config.max_redirects, next.url);
            return fail(FailureKind::TooManyRedirects, message);
        }
        count(&inner.counters.redirects, 1);
        Ok(next)
    }

    fn failure(&self, target: &Target, error: &AttemptError) -> FetchFailure {
        FetchFailure {
            kind: error.kind,
            message: error.message.clone(),
            url: target.url.as_str().to_owned(),
            attempts: self.budget.attempts(),
            retryable: error.kind.is_transient(),
            network_time: self.network_time,
        }
    }
}

/// What an attempt tells about the load of the host: any answer is work done, unless it is a refusal.
fn outcome(result: &Result<Answer, AttemptError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(error) if error.kind.is_overload() => Outcome::Overload,
        Err(AttemptError { kind: FailureKind::Status(400..=499), .. }) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    }
}

fn request_headers(config: &ClientConfig) -> Result<HeaderMap, HttpError> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static(""));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    let user_agent = ("user-agent".to_owned(), config.user_agent.clone());
    for (name, value) in std::iter::once(&user_agent).chain(&config.headers) {
        let bad = |reason: String| HttpError::BadHeader { name: name.clone(), reason };
        let key = HeaderName::try_from(name.as_str()).map_err(|error| bad(error.to_string()))?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|error| bad(error.to_string()))?;
        headers.insert(key, value);
    }
    if config.user_agent.is_empty() {
        headers.remove(USER_AGENT);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use tricorne_loopback::{Reply, Server};

    use super::*;
    use crate::error::FailureKind;

    /// No public address can be had in a test, so the record is told that it came from one.
    #[test]
    fn a_redirect_from_a_public_address_reaches_no_private_one_even_by_a_kept_connection() {
        let server = Server::start(|_| Reply::html("inside")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::new(ClientConfig::default()).unwrap();
            let inner = &*client.inner;
            let target = Target::parse(&server.url("/")).unwrap();
            let host = inner.hosts.get(&target.origin, &inner.config);
            for kept in [false, true] {
                let mut record = Record::new("http://public.example/", &inner.config);
                record.from_public = true;
                let mut slot = inner.admit(&host).await;
                let answer = inner.attempt(&host, &target, false, &mut slot, &mut record).await;
                assert_eq!(answer.err().unwrap().kind, FailureKind::PrivateAddress);
                drop(slot);
                assert_eq!(client.stats().idle_connections, usize::from(kept));
                client.get(&server.url("/")).await.unwrap();
            }
            assert_eq!(client.stats().connections_opened, 1, "the kept connection went on");
            assert_eq!(server.total_requests(), 2);
        });
    }
}

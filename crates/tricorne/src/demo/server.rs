//! Serves the demo site, and knows what each URL has to give.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tricorne_loopback::{DeadPort, Reply, Request, Server};

use super::corpus::Page;
use super::site::{Content, Failure, Fault, Outcome, Route, Site};

/// Compressed answers are sent without a length, in chunks of this size.
const CHUNK_BYTES: usize = 8 << 10;

/// What the demo site is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// The port to listen on; `0`, the default, takes a free one.
    pub port: u16,
    /// Chooses the pages that are slow, faulty, compressed, redirected or repeated. The order of the list does not depend
    /// on it. Default: 1.
    pub seed: u64,
    /// Whether answers take their time: 20 to 120 ms, a few about 600 ms. Default: yes. Without, tests are faster.
    pub latency: bool,
    /// Whether the first request for some pages fails. Default: yes. The list and what it gives are the same without.
    pub faults: bool,
    /// Whether the list has URLs that fail for good (see [`Failure`]). Default: no, so that a run ends without failures.
    pub with_failures: bool,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self { port: 0, seed: 1, latency: true, faults: true, with_failures: false }
    }
}

/// One URL of the list, with what a correct client gets there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DemoUrl {
    /// The URL to fetch.
    pub url: String,
    /// Where its redirects end; the same as `url` for most.
    pub final_url: String,
    /// What it gives in the end.
    pub outcome: Outcome,
    /// What goes wrong at the first request after the start or a reset of the counts.
    pub fault: Option<Fault>,
}

impl DemoUrl {
    /// The page that this URL gives, unless it fails.
    pub fn page(&self) -> Option<&'static Page> {
        match self.outcome {
            Outcome::Page(page) | Outcome::Duplicate(page) => Some(page),
            Outcome::Fails(_) => None,
        }
    }
}

/// The demo site on a loopback port, until it is dropped.
#[derive(Debug)]
pub struct DemoServer {
    server: Server,
    urls: Vec<DemoUrl>,
    /// Held so that the refusing URL of the list stays refusing.
    _dead_port: Option<DeadPort>,
}

impl DemoServer {
    /// Starts serving.
    ///
    /// # Errors
    ///
    /// If the port is taken, or the system has no socket or thread left.
    pub fn start(options: DemoOptions) -> io::Result<Self> {
        let Site { list, routes } = Site::build(&options)?;
        let dead_port = options.with_failures.then(DeadPort::reserve).transpose()?;
        let server = Server::start_on(options.port, move |request| match routes.get(&request.path) {
            Some(route) => reply(route, request),
            None => Reply::new(404).header("Content-Type", "text/html").body("<h1>Not found</h1>"),
        })?;
        let urls = list
            .into_iter()
            .map(|listed| {
                let url = |path: &str| match (listed.outcome, &dead_port) {
                    (Outcome::Fails(Failure::ConnectionRefused), Some(dead)) => dead.url(path),
                    _ => server.url(path),
                };
                DemoUrl {
                    url: url(&listed.path),
                    final_url: url(&listed.final_path),
                    outcome: listed.outcome,
                    fault: listed.fault,
                }
            })
            .collect();
        Ok(Self { server, urls, _dead_port: dead_port })
    }

    /// Where the site is served.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// All URLs in the order of the list, with what they give.
    pub fn urls(&self) -> &[DemoUrl] {
        &self.urls
    }

    /// The list as a text file: one URL per line.
    pub fn url_list(&self) -> String {
        let mut list = String::new();
        for DemoUrl { url, .. } in &self.urls {
            // Writing to a string cannot fail.
            let _ = writeln!(list, "{url}");
        }
        list
    }

    /// The server below, for its counters. After [`Server::reset_counts`] the faults happen once more.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

fn reply(route: &Route, request: &Request) -> Reply {
    let first_fault = route.fault.filter(|_| request.attempt == 1);
    let reply = match first_fault {
        Some(Fault::TooManyRequests) => Reply::new(429).header("Retry-After", "1"),
        Some(Fault::Unavailable) => Reply::new(503),
        Some(Fault::CutBody) => {
            let (whole, bytes) = content(&route.content, request);
            whole.cut_after(bytes / 2)
        }
        Some(Fault::DroppedConnection) => Reply::new(200).drop_connection(),
        None => content(&route.content, request).0,
    };
    reply.delay(route.latency)
}

/// The undisturbed answer, and the bytes of its body.
fn content(content: &Content, request: &Request) -> (Reply, usize) {
    let body = |content_type: &'static str, body: Bytes| {
        let bytes = body.len();
        (Reply::ok(content_type, body), bytes)
    };
    match content {
        Content::Compressed(page, compressed) if accepts_gzip(request) => {
            let (reply, bytes) = body(page.content_type(), compressed.clone());
            let reply = reply.header("Content-Encoding", "gzip").header("Vary", "Accept-Encoding");
            (reply.chunked(CHUNK_BYTES), bytes)
        }
        Content::Page(page) | Content::Compressed(page, _) => {
            body(page.content_type(), Bytes::from_static(page.body))
        }
        Content::Redirect { status, to, absolute } => {
            let location = match request.header("host") {
                Some(host) if *absolute => format!("http://{host}{to}"),
                _ => to.clone(),
            };
            (Reply::redirect(*status, location), 0)
        }
        Content::Disguised(bytes) => body("text/html", bytes.clone()),
    }
}

fn accepts_gzip(request: &Request) -> bool {
    request.header("accept-encoding").is_some_and(|codings| codings.contains("gzip"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use flate2::read::GzDecoder;

    use super::*;

    const CALM: DemoOptions =
        DemoOptions { port: 0, seed: 1, latency: false, faults: false, with_failures: false };

    /// Status, head and body of one answer; `None` if the connection ended early.
    struct Answer {
        status: u16,
        head: String,
        body: Option<Vec<u8>>,
    }

    impl Answer {
        fn field(&self, name: &str) -> Option<&str> {
            self.head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(key, _)| *key == name)
                .map(|(_, v)| v)
        }
    }

    fn get(url: &str, accept_encoding: &str) -> io::Result<Option<Answer>> {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: {accept_encoding}\r\nConnection: close\r\n\r\n"
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let rest = bytes.split_off(end + 4);
        let head = String::from_utf8(bytes).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: None };
        answer.body = match answer.field("Content-Length") {
            Some(length) => Some(rest).filter(|body| body.len() == length.parse::<usize>().unwrap()),
            None => unchunk(&rest),
        };
        Ok(Some(answer))
    }

    fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = rest.windows(2).position(|window| window == b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
            rest = rest.get(end + 4 + size..)?;
        }
    }

    /// Follows redirects to the end.
    fn follow(url: &str) -> (String, Answer) {
        let mut url = url.to_owned();
        for _ in 0..5 {
            let answer = get(&url, "gzip, br").unwrap().unwrap();
            match answer.field("Location") {
                None => return (url, answer),
                Some(path) if path.starts_with('/') => {
                    let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
                    url = format!("{origin}{path}");
                }
                Some(absolute) => url = absolute.to_owned(),
            }
        }
        panic!("too many redirects from `{url}`");
    }

    #[test]
    fn every_url_gives_what_it_should() {
        let demo = DemoServer::start(CALM).unwrap();
        let mut compressed = 0;
        for listed in demo.urls() {
            let page = listed.page().unwrap();
            let (final_url, answer) = follow(&listed.url);
            assert_eq!((answer.status, &final_url), (200, &listed.final_url));
            assert_eq!(answer.field("Content-Type"), Some(page.content_type()));
            let mut body = answer.body.clone().unwrap();
            if answer.field("Content-Encoding") == Some("gzip") {
                compressed += 1;
                let mut plain = Vec::new();
                GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
                body = plain;
            }
            assert!(body == page.body, "{}", listed.url);
        }
        assert_eq!(compressed, 40);
        let list = demo.url_list();
        assert_eq!(
            list.lines().collect::<Vec<_>>(),
            demo.urls().iter().map(|url| &url.url).collect::<Vec<_>>()
        );
    }

    #[test]
    fn compressed_pages_are_plain_for_clients_that_do_not_ask() {
        let demo = DemoServer::start(CALM).unwrap();
        for listed in demo.urls() {
            let answer = get(&listed.final_url, "identity").unwrap().unwrap();
            assert_eq!(answer.field("Content-Encoding"), None);
            assert!(answer.body.unwrap() == listed.page().unwrap().body);
        }
    }

    #[test]
    fn faults_strike_once_and_again_after_a_reset() {
        let demo = DemoServer::start(DemoOptions { latency: false, ..DemoOptions::default() }).unwrap();
        for round in 0..2 {
            for listed in demo.urls().iter().filter(|listed| listed.fault.is_some()) {
                let first = get(&listed.url, "gzip").unwrap();
                match (listed.fault.unwrap(), first) {
                    (Fault::TooManyRequests, Some(answer)) => {
                        assert_eq!((answer.status, answer.field("Retry-After")), (429, Some("1")));
                    }
                    (Fault::Unavailable, Some(answer)) => assert_eq!(answer.status, 503),
                    (Fault::CutBody, Some(answer)) => {
                        assert_eq!((answer.status, answer.body), (200, None));
                    }
                    (Fault::DroppedConnection, None) => {}
                    (fault, answer) => panic!("{fault:?}: answer: {}", answer.is_some()),
                }
                let second = get(&listed.url, "gzip").unwrap().unwrap();
                assert_eq!((round, second.status, second.body.is_some()), (round, 200, true));
            }
            demo.server().reset_counts();
        }
    }

    #[test]
    fn failing_urls_fail_each_in_its_way() {
        let demo = DemoServer::start(DemoOptions { with_failures: true, ..CALM }).unwrap();
        let mut seen = Vec::new();
        for listed in demo.urls() {
            let Outcome::Fails(failure) = listed.outcome else { continue };
            seen.push(failure);
            let answer = get(&listed.url, "gzip");
            if failure == Failure::ConnectionRefused {
                assert_eq!(answer.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
                continue;
            }
            let answer = answer.unwrap().unwrap();
            let body = answer.body.clone().unwrap();
            match failure {
                Failure::NotFound => assert_eq!(answer.status, 404),
                Failure::RedirectLoop => {
                    assert!(listed.url.ends_with(answer.field("Location").unwrap()));
                }
                _ => {
                    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("text/html")));
                    assert_eq!(answer.field("Content-Encoding"), None);
                    let magic: &[u8] = if failure == Failure::Pdf { b"%PDF-" } else { b"\x1f\x8b\x08" };
                    assert!(body.starts_with(magic));
                }
            }
        }
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn answers_take_their_time() {
        let demo = DemoServer::start(DemoOptions { faults: false, ..DemoOptions::default() }).unwrap();
        let asked = std::time::Instant::now();
        get(&demo.urls()[0].final_url, "gzip").unwrap().unwrap();
        assert!(asked.elapsed() >= Duration::from_millis(20));
    }
}

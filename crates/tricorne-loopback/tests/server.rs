//! The server as a client sees it, byte by byte, through plain sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tricorne_loopback::{DeadPort, Reply, Request, Server};

/// No read in these tests may take longer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that speaks just enough HTTP to show what the server did.
struct Client(TcpStream);

impl Client {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        Self(stream)
    }

    fn send(&mut self, text: &str) -> &mut Self {
        self.0.write_all(text.as_bytes()).unwrap();
        self
    }

    fn get(&mut self, path: &str) -> &mut Self {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads one answer with a `Content-Length`: status and body.
    fn answer(&mut self) -> (u16, String) {
        let head = self.head();
        let length: usize = field(&head, "Content-Length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status(&head), String::from_utf8(body).unwrap())
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// A server that gives each client the same reply.
fn serving(reply: Reply) -> Server {
    Server::start(move |_| reply.clone()).unwrap()
}

#[test]
fn keeps_the_connection_and_counts_attempts_per_path() {
    let server =
        Server::start(|request| Reply::html(format!("{} {}", request.path, request.attempt))).unwrap();
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/a").answer(), (200, "/a 1".into()));
    assert_eq!(client.get("/b?q=1").answer(), (200, "/b?q=1 1".into()));
    assert_eq!(client.get("/a").answer(), (200, "/a 2".into()));
    assert!(server.wait_idle(READ_TIMEOUT));

    let stats = server.stats();
    assert_eq!((stats.requests, stats.completed, stats.connections, stats.max_in_flight), (3, 3, 1, 1));
    assert_eq!((server.requests("/a"), server.requests("/b"), server.requests("/b?q=1")), (2, 0, 1));
    assert_eq!(server.path_counts().len(), 2);

    server.reset_counts();
    assert_eq!((server.total_requests(), server.completed(), server.max_in_flight()), (0, 0, 0));
    assert_eq!(client.get("/a").answer(), (200, "/a 1".into()));
}

#[test]
fn answers_pipelined_requests_in_order() {
    let server = Server::start(|request| {
        let wait = if request.path == "/0" { 50 } else { 0 };
        Reply::html(request.path.clone()).delay(Duration::from_millis(wait))
    })
    .unwrap();
    let mut client = Client::connect(&server);
    client.send(&(0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect::<String>());
    for n in 0..50 {
        assert_eq!(client.answer(), (200, format!("/{n}")));
    }
}

#[test]
fn the_handler_sees_method_headers_and_body() {
    let (sender, receiver) = mpsc::channel::<Request>();
    let server = Server::start(move |request| {
        sender.send(request.clone()).unwrap();
        Reply::new(204)
    })
    .unwrap();
    let mut client = Client::connect(&server);
    client.send("POST /p HTTP/1.1\r\nHost: x\r\nX-Key: one\r\nContent-Length: 5\r\n\r\nhel");
    client.send("lo");
    let head = client.head();
    assert_eq!((status(&head), field(&head, "Content-Length")), (204, None));
    let request = receiver.recv_timeout(READ_TIMEOUT).unwrap();
    assert_eq!(
        (request.method.as_str(), request.path.as_str(), &request.body[..]),
        ("POST", "/p", &b"hello"[..])
    );
    assert_eq!((request.header("x-key"), request.header("x-other")), (Some("one"), None));
    assert_eq!(request.in_flight, 1);

    // The body was used up: the next request starts where it should.
    client.get("/q");
    assert_eq!(status(&client.head()), 204);
    assert_eq!(receiver.recv_timeout(READ_TIMEOUT).unwrap().path, "/q");
}

#[test]
fn head_gets_no_body() {
    let server = serving(Reply::html("page"));
    let mut client = Client::connect(&server);
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = client.head();
    assert_eq!((status(&head), field(&head, "Content-Length")), (200, Some("4")));
    assert_eq!(client.get("/").answer(), (200, "page".into()));
}

#[test]
fn old_clients_get_a_plain_body_and_the_end_of_the_connection() {
    let server = serving(Reply::html("page").chunked(2));
    let answer = Client::connect(&server).send("GET / HTTP/1.0\r\n\r\n").rest();
    assert!(!answer.contains("Transfer-Encoding"), "{answer}");
    assert!(answer.ends_with("\r\n\r\npage"), "{answer}");
}

#[test]
fn a_closing_client_or_reply_ends_the_connection() {
    let server = serving(Reply::html("page"));
    let answer =
        Client::connect(&server).send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").rest();
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.ends_with("page"), "{answer}");

    let server = serving(Reply::html("page").close());
    let answer = Client::connect(&server).get("/").rest();
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.ends_with("page"), "{answer}");
}

#[test]
fn a_body_may_end_with_the_connection() {
    let server = serving(Reply::html("page").until_close());
    let answer = Client::connect(&server).get("/").rest();
    assert!(!answer.contains("Content-Length") && answer.ends_with("\r\n\r\npage"), "{answer}");
}

#[test]
fn chunks_have_the_size_asked_for_and_an_end() {
    let server = serving(Reply::html("abcdefg").chunked(3));
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        let head = client.get("/").head();
        assert_eq!(
            (field(&head, "Transfer-Encoding"), field(&head, "Content-Length")),
            (Some("chunked"), None)
        );
        let expected = b"3\r\nabc\r\n3\r\ndef\r\n1\r\ng\r\n0\r\n\r\n";
        let mut chunks = vec![0; expected.len()];
        client.0.read_exact(&mut chunks).unwrap();
        assert_eq!(chunks, expected);
    }
}

#[test]
fn a_cut_body_is_shorter_than_announced_and_not_completed() {
    let server = serving(Reply::html("abcdefg").cut_after(3));
    let answer = Client::connect(&server).get("/").rest();
    assert_eq!(field(&answer, "Content-Length"), Some("7"));
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");

    let chunked = serving(Reply::html("abcdefg").chunked(2).cut_after(3));
    let answer = Client::connect(&chunked).get("/").rest();
    assert!(answer.ends_with("\r\n\r\n2\r\nab\r\n1\r\nc\r\n"), "{answer}");

    for server in [server, chunked] {
        assert!(server.wait_idle(READ_TIMEOUT));
        assert_eq!((server.total_requests(), server.completed()), (1, 0));
    }
}

#[test]
fn a_dropped_connection_ends_and_a_reset_one_fails() {
    let server = serving(Reply::new(200).drop_connection());
    assert_eq!(Client::connect(&server).get("/").rest(), "");
    assert_eq!(server.completed(), 0);

    let server = serving(Reply::new(200).reset_connection());
    let mut client = Client::connect(&server);
    let error = client.get("/").0.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn silence_lasts_until_the_client_leaves() {
    for (reply, bytes) in
        [(Reply::html("abc").never_answer(), ""), (Reply::html("abc").stall_after(2), "\r\n\r\nab")]
    {
        let server = serving(reply);
        let mut client = Client::connect(&server);
        client.get("/");
        if !bytes.is_empty() {
            let mut seen = client.head();
            let mut start = [0; 2];
            client.0.read_exact(&mut start).unwrap();
            seen.push_str(std::str::from_utf8(&start).unwrap());
            assert!(seen.ends_with(bytes), "{seen}");
        }
        client.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = client.0.read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        assert_eq!(server.stats().in_flight, 1);

        drop(client);
        assert!(server.wait_idle(READ_TIMEOUT));
        assert_eq!(server.completed(), 0);
    }
}

#[test]
fn a_delay_delays_and_ends_early_when_the_client_leaves() {
    let server = Server::start(|request| {
        let wait =
            if request.path == "/short" { Duration::from_millis(80) } else { Duration::from_secs(3600) };
        Reply::html("late").delay(wait)
    })
    .unwrap();
    let mut client = Client::connect(&server);
    let asked = Instant::now();
    assert_eq!(client.get("/short").answer(), (200, "late".into()));
    assert!(asked.elapsed() >= Duration::from_millis(80));

    client.get("/long");
    drop(client);
    assert!(server.wait_idle(READ_TIMEOUT));
    assert_eq!((server.requests("/short"), server.completed()), (1, 1));
}

#[test]
fn a_drip_comes_in_pieces_with_pauses() {
    let server = serving(Reply::html("abcdef").drip(2, Duration::from_millis(30)));
    let asked = Instant::now();
    assert_eq!(Client::connect(&server).get("/").answer(), (200, "abcdef".into()));
    assert!(asked.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_raw_reply_is_sent_as_it_is() {
    let server = serving(Reply::raw("ICY 200\r\n\r\nnoise"));
    assert_eq!(Client::connect(&server).get("/").rest(), "ICY 200\r\n\r\nnoise");
}

#[test]
fn capacity_refuses_the_rest_at_once() {
    let server = serving(Reply::html("slow").never_answer());
    server.set_capacity(Some(2));
    let mut served: Vec<_> = (0..2).map(|_| Client::connect(&server)).collect();
    for client in &mut served {
        client.get("/");
    }
    let deadline = Instant::now() + READ_TIMEOUT;
    while server.stats().in_flight < 2 {
        assert!(Instant::now() < deadline, "the two requests never arrived");
        std::thread::yield_now();
    }
    let mut third = Client::connect(&server);
    assert_eq!(third.get("/").answer(), (429, String::new()));
    assert_eq!(third.get("/").answer(), (429, String::new()));
    assert_eq!((server.refused(), server.total_requests(), server.requests("/")), (2, 2, 2));

    server.set_capacity(None);
    third.get("/");
    while server.stats().in_flight < 3 {
        assert!(Instant::now() < deadline, "the third request was never admitted");
        std::thread::yield_now();
    }
    assert_eq!(server.max_in_flight(), 3);
    assert!(!server.wait_idle(Duration::from_millis(1)));
}

#[test]
fn what_is_not_http_is_refused_with_a_status() {
    let server = serving(Reply::html("never asked"));
    let huge = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(70_000));
    for (text, expected) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (huge.as_str(), 431),
    ] {
        let answer = Client::connect(&server).send(text).rest();
        assert_eq!(status(&answer), expected, "{answer}");
    }
    assert_eq!(server.total_requests(), 0);
}

#[test]
fn a_panicking_handler_costs_its_connection_only() {
    let server = Server::start(|request| {
        assert!(request.path != "/panic", "asked for");
        Reply::html("fine")
    })
    .unwrap();
    assert_eq!(Client::connect(&server).get("/panic").rest(), "");
    assert_eq!(Client::connect(&server).get("/").answer(), (200, "fine".into()));
    assert!(server.wait_idle(READ_TIMEOUT));
}

#[test]
fn dropping_the_server_cuts_connections_and_frees_the_port() {
    let server = serving(Reply::new(200).never_answer());
    let addr = server.addr();
    let mut waiting = Client::connect(&server);
    waiting.get("/");
    drop(server);
    // A clean end or a reset, according to what the system had in hand: in any case no answer.
    assert!(matches!(waiting.0.read(&mut [0]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(addr).is_err());

    let again = Server::start_on(addr.port(), |_| Reply::html("again")).unwrap();
    assert_eq!(again.addr(), addr);
    assert_eq!(Client::connect(&again).get("/").answer(), (200, "again".into()));
    assert!(Server::start_on(addr.port(), |_| Reply::new(200)).is_err());
}

#[test]
fn a_dead_port_refuses() {
    let dead = DeadPort::reserve().unwrap();
    assert_eq!(TcpStream::connect(dead.addr()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(dead.url("/x"), format!("http://{}/x", dead.addr()));
}

//! Plain fetches: the page, what is told about it, and connections that are used again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use crate::common::{RawServer, answer, client, get_all, millis, quick, read_request, run};
use tricorne_http::{Client, ClientConfig, FailureKind, HttpError};
use tricorne_loopback::{Reply, Server};

#[test]
fn a_page_with_all_that_is_known_about_it() {
    let server = Server::start(|request| Reply::html(format!("<p>{}", request.path))).expect("a server");
    run(async {
        let client = client(quick());
        let page = client.get(&server.url("/a?b=1#c")).await.expect("it is there");
        assert_eq!(&page.body[..], b"<p>/a?b=1");
        assert_eq!(page.final_url, server.url("/a?b=1"));
        assert_eq!((page.status, page.attempts, page.wire_bytes), (200, 1, 9));
        assert_eq!(page.content_type.as_deref(), Some("text/html; charset=utf-8"));
        assert!(page.network_time > Duration::ZERO && page.network_time < Duration::from_secs(5));
        assert_eq!(client.stats().in_flight, 1);
        drop(page);
        let stats = client.stats();
        assert_eq!((stats.in_flight, stats.requests, stats.wire_bytes, stats.hosts), (0, 1, 9, 1));
    });
}

#[test]
fn requests_carry_the_headers_of_the_settings() {
    let seen = Arc::new(Mutex::new(String::new()));
    let log = seen.clone();
    let server = RawServer::start(move |_, mut stream| {
        *log.lock().expect("no panic") = read_request(&mut stream).expect("a request");
        answer(&mut stream, "x");
        false
    });
    let config = ClientConfig {
        user_agent: "corpus-builder (mail@example.com)".to_owned(),
        headers: vec![("X-Team".to_owned(), "data".to_owned())],
        ..quick()
    };
    run(async { client(config).get(&server.url("/p?q")).await.expect("it is there") });
    let head = seen.lock().expect("no panic").to_ascii_lowercase();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("get /p?q http/1.1"));
    assert_eq!(lines.next(), Some(format!("host: {}", server.addr).as_str()));
    let headers: HashMap<_, _> = lines.filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(headers["user-agent"], "corpus-builder (mail@example.com)");
    assert_eq!(headers["accept-encoding"], "gzip, deflate, br, zstd");
    assert_eq!(headers["x-team"], "data");
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Server::start(|request| match request.path.as_str() {
        "/chunked" => Reply::html("c".repeat(50_000)).chunked(7_000),
        "/missing" => Reply::new(404).body("n".repeat(5_000)),
        _ => Reply::html("l".repeat(200_000)),
    })
    .expect("a server");
    run(async {
        let client = client(quick());
        for _ in 0..5 {
            assert_eq!(client.get(&server.url("/")).await.expect("it is there").body.len(), 200_000);
            assert_eq!(client.get(&server.url("/chunked")).await.expect("it is there").body.len(), 50_000);
            let failure = client.get(&server.url("/missing")).await.expect_err("it is not there");
            assert_eq!((failure.kind, failure.attempts), (FailureKind::Status(404), 1));
        }
        let stats = client.stats();
        assert_eq!((stats.connections_opened, stats.connections_reused, stats.connections_stale), (1, 14, 0));
        assert_eq!(stats.idle_connections, 1);
    });
}

#[test]
fn connections_that_the_server_ends_are_not_kept() {
    let server = Server::start(|request| match request.path.as_str() {
        "/close" => Reply::html("closed").close(),
        _ => Reply::html("until the end").until_close(),
    })
    .expect("a server");
    run(async {
        let client = client(quick());
        assert_eq!(&client.get(&server.url("/close")).await.expect("it is there").body[..], b"closed");
        assert_eq!(&client.get(&server.url("/end")).await.expect("it is there").body[..], b"until the end");
        assert_eq!(client.stats().connections_opened, 2);
        assert_eq!(client.stats().idle_connections, 0);
    });
}

/// The server ends the kept connection as soon as it has read the second request, as happens when its idle limit
/// and our request cross.
#[test]
fn a_stale_connection_is_replaced_without_costing_an_attempt() {
    let server = RawServer::start(|number, mut stream| {
        read_request(&mut stream).expect("a request");
        answer(&mut stream, "page");
        if number == 0 {
            read_request(&mut stream).expect("the request that finds us gone");
        }
        number == 0
    });
    run(async {
        let client = client(ClientConfig { retries: 0, ..quick() });
        for _ in 0..2 {
            let page = client.get(&server.url("/")).await.expect("it is there");
            assert_eq!((page.attempts, &page.body[..]), (1, &b"page"[..]));
        }
        let stats = client.stats();
        assert_eq!((stats.connections_opened, stats.connections_stale, stats.requests), (2, 1, 3));
    });
}

/// Thousands of records may wait for a place at the same time: what only a request on the network needs is not part
/// of them.
#[test]
fn a_waiting_fetch_is_small() {
    let client = client(quick());
    let bytes = std::mem::size_of_val(&client.get("http://127.0.0.1/"));
    assert!(bytes <= 1024, "{bytes} bytes");
}

/// A server that ends every kept connection at its second request gets one request more than the attempts, not twice
/// as many.
#[test]
fn a_stale_connection_is_replaced_once_for_a_record() {
    let server = Server::start(|request| match request.path.as_str() {
        "/dropped" => Reply::html("").drop_connection(),
        _ => Reply::html("page").delay(millis(50)),
    })
    .expect("a server");
    run(async {
        let client = client(ClientConfig { retries: 3, ..quick() });
        let urls: Vec<_> = (0..6).map(|number| server.url(&format!("/page/{number}"))).collect();
        drop(get_all(&client, &urls).await);
        assert!(client.stats().idle_connections >= 4, "one for each attempt");
        let failed = client.get(&server.url("/dropped")).await.expect_err("nothing comes");
        assert_eq!((failed.kind, failed.attempts), (FailureKind::Disconnected, 4));
        assert_eq!((server.requests("/dropped"), client.stats().connections_stale), (5, 1));
    });
}

#[test]
fn a_connection_closed_while_idle_is_not_used() {
    let (closed, wait_closed) = mpsc::channel();
    let server = RawServer::start(move |number, mut stream| {
        read_request(&mut stream).expect("a request");
        answer(&mut stream, "x");
        drop(stream);
        closed.send(()).expect("the test waits");
        number == 0
    });
    run(async {
        let client = client(quick());
        for _ in 0..2 {
            client.get(&server.url("/")).await.expect("it is there");
            wait_closed.recv_timeout(Duration::from_secs(10)).expect("the server closes");
            // The runtime sees it when it next looks at its sockets.
            tokio::time::sleep(millis(1)).await;
        }
        assert_eq!((client.stats().connections_opened, client.stats().connections_stale), (2, 0));
    });
}

/// Bytes after the end of a body must not become the answer to the next request.
#[test]
fn an_answer_with_too_many_bytes_ends_the_connection() {
    let server = RawServer::start(|number, mut stream| {
        read_request(&mut stream).expect("a request");
        let poison = if number == 0 { "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison" } else { "" };
        std::io::Write::write_all(
            &mut stream,
            format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{poison}").as_bytes(),
        )
        .expect("the client listens");
        let _ = read_request(&mut stream);
        number == 0
    });
    run(async {
        let client = client(quick());
        for _ in 0..2 {
            assert_eq!(&client.get(&server.url("/")).await.expect("it is there").body[..], b"good");
        }
        assert_eq!(client.stats().connections_opened, 2);
    });
}

#[test]
fn idle_connections_are_bounded_in_number_and_time() {
    let server = Server::start(|_| Reply::html("x").delay(millis(30))).expect("a server");
    run(async {
        let config = ClientConfig { idle_per_host: 3, idle_timeout: millis(150), ..quick() };
        let client = client(config);
        let urls: Vec<_> = (0..8).map(|index| server.url(&format!("/{index}"))).collect();
        for page in get_all(&client, &urls).await {
            page.expect("it is there");
        }
        assert_eq!(client.stats().connections_opened, 8);
        assert_eq!(client.stats().idle_connections, 3);
        tokio::time::sleep(millis(200)).await;
        client.get(&urls[0]).await.expect("it is there");
        assert_eq!(client.stats().connections_opened, 9, "those that were idle too long are not used");
        assert_eq!(client.stats().idle_connections, 1);
    });
}

#[test]
fn hosts_and_their_connections_are_bounded() {
    let servers: Vec<_> = (0..12).map(|_| Server::start(|_| Reply::html("x")).expect("a server")).collect();
    run(async {
        let client = client(ClientConfig { max_hosts: 8, idle_total: 4, ..quick() });
        for server in servers.iter().chain(&servers) {
            client.get(&server.url("/")).await.expect("it is there");
            let stats = client.stats();
            assert!(stats.hosts <= 8 && stats.idle_connections <= 4, "{stats:?}");
        }
        // The last one is still known, in any spelling.
        let opened = client.stats().connections_opened;
        client.get(&servers[11].url("/").replace("http", "HTTP")).await.expect("it is there");
        assert_eq!(client.stats().connections_opened, opened);
    });
}

#[test]
fn names_are_resolved_and_all_addresses_tried() {
    // `localhost` may be ::1 first, where this server does not listen.
    let server = Server::start(|_| Reply::html("x")).expect("a server");
    run(async {
        let local = client(quick());
        let port = server.addr().port();
        for name in ["localhost", "LOCALHOST"] {
            local.get(&format!("http://{name}:{port}/")).await.expect("it is there");
        }
        let stats = local.stats();
        assert_eq!((stats.hosts, stats.connections_opened), (1, 1));

        let config = ClientConfig { retries: 1, ..quick() };
        // Too long for a name: refused without asking any server.
        let name = "a".repeat(64);
        let failure = client(config).get(&format!("http://{name}/")).await.expect_err("no such name");
        assert_eq!((failure.kind, failure.attempts, failure.retryable), (FailureKind::Dns, 2, true));
        assert!(failure.message.contains(&name), "{}", failure.message);
    });
}

#[test]
fn settings_that_make_no_client_are_refused() {
    let error = |config| Client::new(config).expect_err("it is wrong");
    let zero = ClientConfig { max_hosts: 0, ..ClientConfig::default() };
    assert_eq!(error(zero).to_string(), "`max_hosts` is `0`");
    let broken = ClientConfig { headers: vec![("a b".to_owned(), String::new())], ..ClientConfig::default() };
    assert!(matches!(error(broken), HttpError::BadHeader { name, .. } if name == "a b"));
    let broken = ClientConfig { user_agent: "two\nlines".to_owned(), ..ClientConfig::default() };
    assert!(matches!(error(broken), HttpError::BadHeader { .. }));
    let pem = b"no certificate".to_vec();
    let broken = error(ClientConfig { extra_root_pem: pem, ..ClientConfig::default() });
    assert!(matches!(broken, HttpError::BadRoots { .. }) && broken.hint().is_some());
}

/// A request can be sent from a multi-threaded runtime, too.
#[test]
fn the_future_is_send_and_small() {
    fn check<T: Send>(future: &T) {
        let bytes = size_of_val(future);
        println!("{bytes} bytes");
        assert!(bytes <= 3000, "{bytes} bytes: thousands of records may wait in this form");
    }
    let client = client(quick());
    check(&client.get("http://example.com/"));
}

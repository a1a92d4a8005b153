//! Servers that fail: what is tried again, how often, and what the failure is called.

use std::{io::Write, time::Duration};

use tricorne_http::{ClientConfig, FailureKind};
use tricorne_loopback::{DeadPort, Reply, Server};

use crate::common::{RawServer, client, failure, millis, quick, read_request, run};

#[test]
fn statuses_that_may_pass_are_tried_again() {
    let server = Server::start(|request| {
        let status: u16 = request.path[1..].parse().expect("a status");
        if request.attempt == 1 { Reply::new(status) } else { Reply::html("now it works") }
    })
    .expect("a server");
    run(async {
        for status in [408, 429, 500, 502, 503, 504] {
            let client = client(quick());
            let page = client.get(&server.url(&format!("/{status}"))).await.expect("the second try works");
            assert_eq!((page.attempts, &page.body[..]), (2, &b"now it works"[..]), "{status}");
            let stats = client.stats();
            assert_eq!(stats.retries.into_iter().collect::<Vec<_>>(), [(FailureKind::Status(status), 1)]);
            assert_eq!(stats.too_many_requests, u64::from(status == 429));
        }
    });
}

#[test]
fn other_statuses_are_final() {
    let server = Server::start(|request| Reply::new(request.path[1..].parse().expect("a status")).body("no"))
        .expect("a server");
    run(async {
        let client = client(quick());
        for status in [300, 304, 400, 401, 403, 404, 410, 451, 501] {
            let failed = failure(&client, &server.url(&format!("/{status}"))).await;
            assert_eq!((failed.kind, failed.attempts), (FailureKind::Status(status), 1));
            assert_eq!(failed.kind.as_str(), format!("status_{status}"));
            assert!(!failed.retryable && failed.message.contains(&status.to_string()), "{failed:?}");
        }
    });
}

#[test]
fn the_text_of_a_refusal_is_not_waited_for() {
    let server =
        Server::start(|_| Reply::new(404).body("x".repeat(1000)).drip(1, millis(20))).expect("a server");
    run(async {
        let client = client(quick());
        let failed = failure(&client, &server.url("/")).await;
        assert_eq!(failed.kind, FailureKind::Status(404));
        assert!(failed.network_time < Duration::from_secs(10), "{failed:?}");
        assert_eq!(client.stats().idle_connections, 0);
    });
}

#[test]
fn the_budget_ends_and_its_last_failure_is_told() {
    let server =
        Server::start(|request| Reply::new(if request.attempt < 3 { 503 } else { 500 })).expect("a server");
    run(async {
        let failed = failure(&client(ClientConfig { retries: 2, ..quick() }), &server.url("/")).await;
        assert_eq!((failed.kind, failed.attempts, failed.retryable), (FailureKind::Status(500), 3, true));
        assert_eq!(server.requests("/"), 3);
    });
}

#[test]
fn an_answer_that_never_comes() {
    let server = Server::start(|_| Reply::html("x").never_answer()).expect("a server");
    run(async {
        let config = ClientConfig { first_byte_timeout: millis(40), retries: 2, ..quick() };
        let client = client(config);
        let failed = failure(&client, &server.url("/")).await;
        assert_eq!((failed.kind, failed.attempts), (FailureKind::TimeoutFirstByte, 3));
        assert_eq!(failed.message, "no answer within 40ms");
        assert!(failed.network_time >= millis(120) && failed.network_time < Duration::from_secs(10));
        assert_eq!((server.requests("/"), client.stats().in_flight), (3, 0));
    });
}

#[test]
fn a_body_that_stalls() {
    let server = Server::start(|request| match request.attempt {
        1 => Reply::html("0123456789").stall_after(4),
        _ => Reply::html("0123456789"),
    })
    .expect("a server");
    run(async {
        let client = client(ClientConfig { stall_timeout: millis(50), ..quick() });
        assert_eq!(client.get(&server.url("/")).await.expect("the second try works").attempts, 2);
        assert_eq!(client.stats().retries[&FailureKind::TimeoutStall], 1);
    });
}

#[test]
fn a_body_that_drips_is_no_stall_but_ends_at_the_total() {
    let server = Server::start(|_| Reply::html("x".repeat(1000)).drip(1, millis(10))).expect("a server");
    run(async {
        let config =
            ClientConfig { stall_timeout: Duration::from_secs(5), total_timeout: millis(200), ..quick() };
        let failed = failure(&client(config), &server.url("/")).await;
        assert_eq!((failed.kind, failed.attempts), (FailureKind::TimeoutTotal, 1));
        assert_eq!(failed.message, "no complete answer within 200ms on the network");
        assert!(failed.retryable, "a later run has the time anew");
    });
}

#[test]
fn the_total_time_covers_all_attempts() {
    let server = Server::start(|_| Reply::html("x").never_answer()).expect("a server");
    run(async {
        let config = ClientConfig {
            first_byte_timeout: millis(100),
            total_timeout: millis(250),
            retries: 100,
            ..quick()
        };
        let failed = failure(&client(config), &server.url("/")).await;
        assert_eq!(failed.kind, FailureKind::TimeoutTotal);
        assert!(failed.attempts <= 3, "{failed:?}");
        assert!(
            failed.network_time >= millis(250) && failed.network_time < Duration::from_secs(5),
            "{failed:?}"
        );
    });
}

#[test]
fn a_cut_body_is_never_a_page() {
    let server = Server::start(|request| {
        let body = "x".repeat(30_000);
        let reply = match request.path.as_str() {
            "/length" => Reply::html(body),
            _ => Reply::html(body).chunked(4_000),
        };
        if request.attempt < 3 { reply.cut_after(12_000) } else { reply }
    })
    .expect("a server");
    run(async {
        for path in ["/length", "/chunked"] {
            let once = client(ClientConfig { retries: 1, ..quick() });
            let failed = failure(&once, &server.url(path)).await;
            assert_eq!((failed.kind, failed.attempts), (FailureKind::BodyCut, 2), "{failed:?}");
            let page = once.get(&server.url(path)).await.expect("it is whole now");
            assert_eq!(page.body.len(), 30_000);
        }
    });
}

/// Sends `bytes` as the answer to every request, and closes.
fn lying(bytes: &'static str) -> RawServer {
    RawServer::start(move |_, mut stream| {
        if read_request(&mut stream).is_some() {
            // The client may close as soon as it has seen enough.
            let _ = stream.write_all(bytes.as_bytes());
        }
        true
    })
}

#[test]
fn answers_that_are_broken() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n0\r\n\r\n", FailureKind::BodyCut),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", FailureKind::BodyCut),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", FailureKind::BodyCut),
        ("HTTP/1.1 200 OK\r\nContent-Le", FailureKind::Disconnected),
        ("", FailureKind::Disconnected),
        ("SSH-2.0-OpenSSH_9.2\r\n", FailureKind::Protocol),
        ("<html>who needs headers</html>\r\n\r\n", FailureKind::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc", FailureKind::Protocol),
    ];
    run(async {
        for (bytes, kind) in cases {
            let server = lying(bytes);
            let failed = failure(&client(ClientConfig { retries: 1, ..quick() }), &server.url("/")).await;
            assert_eq!(failed.kind, kind, "{bytes:?}: {failed:?}");
            assert_eq!(failed.attempts, if kind.is_transient() { 2 } else { 1 }, "{bytes:?}");
        }
    });
}

#[test]
fn answers_that_are_odd_but_clear() {
    let cases = [
        "HTTP/1.0 200 OK\r\n\r\nabc",
        "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nBad Header Line: x\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    ];
    run(async {
        for bytes in cases {
            let server = lying(bytes);
            let page = client(ClientConfig { retries: 0, ..quick() }).get(&server.url("/")).await;
            assert_eq!(&page.unwrap_or_else(|failed| panic!("{bytes:?}: {failed:?}")).body[..], b"abc");
        }
    });
}

#[test]
fn connections_that_are_lost_or_refused() {
    let server = Server::start(|request| match (request.path.as_str(), request.attempt) {
        ("/dropped", 1) => Reply::html("x").drop_connection(),
        ("/reset", 1) => Reply::html("x").reset_connection(),
        _ => Reply::html("x"),
    })
    .expect("a server");
    let dead = DeadPort::reserve().expect("a port");
    run(async {
        for path in ["/dropped", "/reset"] {
            // A fresh client: on a kept connection this would be a stale one, which is no attempt.
            let client = client(quick());
            assert_eq!(client.get(&server.url(path)).await.expect("the second try works").attempts, 2);
            assert_eq!(client.stats().retries[&FailureKind::Disconnected], 1);
        }
        let failed = failure(&client(ClientConfig { retries: 1, ..quick() }), &dead.url("/")).await;
        assert_eq!((failed.kind, failed.attempts), (FailureKind::Connect, 2));
        assert!(
            failed.message.starts_with(&format!("connecting to `{}` failed: ", dead.addr())),
            "{failed:?}"
        );
    });
}

#[test]
fn bodies_are_bounded_on_the_wire() {
    let server = Server::start(|request| match request.path.as_str() {
        "/announced" => Reply::html("x".repeat(1001)),
        "/announced-lie" => Reply::html("x").header("Content-Length", "99999999999999").cut_after(1),
        "/chunked" => Reply::html("x".repeat(5_000_000)).chunked(700),
        _ => Reply::html("x".repeat(1000)).chunked(400),
    })
    .expect("a server");
    run(async {
        let client = client(ClientConfig { max_body_bytes: 1000, ..quick() });
        assert_eq!(client.get(&server.url("/fits")).await.expect("it is small enough").wire_bytes, 1000);
        for path in ["/announced", "/announced-lie", "/chunked"] {
            let failed = failure(&client, &server.url(path)).await;
            assert_eq!((failed.kind, failed.attempts), (FailureKind::BodyTooLarge, 1), "{path}");
        }
        assert_eq!(client.stats().idle_connections, 0, "a connection with a rest in it is not kept");
    });
}

#[test]
fn what_cannot_be_requested_costs_no_attempt() {
    run(async {
        let client = client(quick());
        for (url, kind) in
            [("not a url", FailureKind::BadUrl), ("ftp://host/", FailureKind::UnsupportedScheme)]
        {
            let failed = failure(&client, url).await;
            assert_eq!((failed.kind, failed.attempts, failed.url.as_str()), (kind, 0, url));
        }
        assert_eq!(client.stats().requests, 0);
    });
}

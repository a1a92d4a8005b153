//! Redirects: followed, bounded, and never a way around limits or budgets.

use std::sync::{Arc, Mutex};

use tricorne_http::{ClientConfig, FailureKind, PrivateAddresses};
use tricorne_loopback::{Reply, Server};

use crate::common::{client, failure, quick, run};

#[test]
fn all_kinds_are_followed_without_costing_attempts() {
    let server = Server::start(|request| match request.path.as_str() {
        "/start" => Reply::redirect(301, "/dir/302?x#y"),
        "/dir/302?x" => Reply::redirect(302, "303"),
        "/dir/303" => Reply::redirect(303, "../307").body("moved"),
        "/307" => Reply::redirect(307, "//LOCALHOST:0/").header("Location", "/308"),
        "/308" => Reply::redirect(308, "/seite/über"),
        "/seite/%C3%BCber" => Reply::html("here"),
        _ => Reply::new(404),
    })
    .expect("a server");
    run(async {
        // Two `Location` headers: the first one counts.
        let client = client(quick());
        let failed = failure(&client, &server.url("/307")).await;
        assert_eq!(failed.kind, FailureKind::BadUrl);
        let page = client.get(&server.url("/308")).await.expect("it is there");
        assert_eq!((&page.body[..], page.attempts), (&b"here"[..], 1));
        assert_eq!(page.final_url, server.url("/seite/%C3%BCber"));
        let failed = failure(&client, &server.url("/start")).await;
        assert_eq!(failed.kind, FailureKind::BadUrl);
        assert_eq!(failed.url, server.url("/307"), "the page that sent us there is named");
        assert_eq!(client.stats().connections_opened, 1);
        assert_eq!(client.stats().redirects, 1 + 3);
    });
}

#[test]
fn circles_and_long_ways_end() {
    let server = Server::start(|request| match request.path.as_str() {
        "/self" => Reply::redirect(302, "#again"),
        "/a" => Reply::redirect(302, "/b"),
        "/b" => Reply::redirect(302, "/a"),
        path => {
            let number: u32 = path[1..].parse().expect("a number");
            if number == 0 { Reply::html("end") } else { Reply::redirect(302, format!("/{}", number - 1)) }
        }
    })
    .expect("a server");
    run(async {
        let client = client(ClientConfig { max_redirects: 4, ..quick() });
        let failed = failure(&client, &server.url("/a")).await;
        assert_eq!((failed.kind, failed.attempts, failed.retryable), (FailureKind::RedirectLoop, 1, false));
        let [a, b] = ["/a", "/b"].map(|path| server.url(path));
        assert_eq!(failed.message, format!("redirected in a circle: `{a}` -> `{b}` -> `{a}`"));
        assert_eq!(failure(&client, &server.url("/self")).await.kind, FailureKind::RedirectLoop);
        assert_eq!(server.requests("/self"), 1);
        assert_eq!(
            client.get(&server.url("/4")).await.expect("four are allowed").final_url,
            server.url("/0")
        );
        let failed = failure(&client, &server.url("/5")).await;
        assert_eq!(failed.kind, FailureKind::TooManyRedirects);
        assert!(failed.message.contains("`4` redirects"), "{}", failed.message);
    });
}

#[test]
fn places_that_cannot_be_gone_to() {
    let server = Server::start(|request| match request.path.as_str() {
        "/file" => Reply::redirect(302, "file:///etc/passwd"),
        "/none" => Reply::new(302),
        _ => Reply::redirect(302, "http://[broken/"),
    })
    .expect("a server");
    run(async {
        let client = client(quick());
        assert_eq!(failure(&client, &server.url("/file")).await.kind, FailureKind::UnsupportedScheme);
        assert_eq!(failure(&client, &server.url("/none")).await.kind, FailureKind::Status(302));
        assert_eq!(failure(&client, &server.url("/broken")).await.kind, FailureKind::BadUrl);
    });
}

#[test]
fn a_redirect_neither_renews_nor_multiplies_the_budget() {
    let server = Server::start(|request| match (request.path.as_str(), request.attempt) {
        ("/start", 1) => Reply::new(503),
        ("/start", _) => Reply::redirect(302, "/broken"),
        _ => Reply::new(503),
    })
    .expect("a server");
    run(async {
        let failed = failure(&client(ClientConfig { retries: 3, ..quick() }), &server.url("/start")).await;
        assert_eq!((failed.kind, failed.attempts), (FailureKind::Status(503), 4));
        assert_eq!(failed.url, server.url("/broken"));
        // A repeat goes on at the page that failed.
        assert_eq!((server.requests("/start"), server.requests("/broken")), (2, 3));
    });
}

#[test]
fn secrets_stay_with_the_first_host() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let second = Server::start(move |request| {
        log.lock()
            .expect("no panic")
            .push((request.header("authorization").is_some(), request.header("x-team").is_some()));
        Reply::html("x")
    })
    .expect("a server");
    let elsewhere = second.url("/");
    let log = seen.clone();
    let first = Server::start(move |request| {
        log.lock()
            .expect("no panic")
            .push((request.header("authorization").is_some(), request.header("x-team").is_some()));
        if request.path == "/" {
            Reply::redirect(302, "/again")
        } else {
            Reply::redirect(302, elsewhere.clone())
        }
    })
    .expect("a server");
    let headers = [("Authorization", "Bearer secret"), ("X-Team", "data")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    run(async {
        client(ClientConfig { headers, ..quick() }).get(&first.url("/")).await.expect("it is there")
    });
    assert_eq!(*seen.lock().expect("no panic"), [(true, true), (true, true), (false, true)]);
}

#[test]
fn private_addresses_are_reached_only_where_the_settings_let() {
    let inner = Server::start(|_| Reply::html("inside")).expect("a server");
    let target = inner.url("/");
    let outer = Server::start(move |_| Reply::redirect(302, target.clone())).expect("a server");
    run(async {
        for policy in [PrivateAddresses::Allow, PrivateAddresses::Listed] {
            let client = client(ClientConfig { private_addresses: policy, ..quick() });
            // The page that redirects is private itself, so it leads nowhere that it could not reach.
            assert_eq!(&client.get(&outer.url("/")).await.expect("allowed").body[..], b"inside");
        }
        let seen = outer.total_requests() + inner.total_requests();
        let client = client(ClientConfig { private_addresses: PrivateAddresses::Refuse, ..quick() });
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
            let url = format!("http://{host}:{}/", inner.addr().port());
            let failed = failure(&client, &url).await;
            assert_eq!((failed.kind, failed.retryable), (FailureKind::PrivateAddress, false), "{url}");
            assert!(failed.message.contains("outside the public internet"), "{}", failed.message);
        }
        assert_eq!(client.stats().connections_opened, 0);
        assert_eq!(outer.total_requests() + inner.total_requests(), seen);
    });
}

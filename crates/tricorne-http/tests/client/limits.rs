//! Limits and gates: who waits for whom, and what is not held meanwhile.

use std::{
    io::Read,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant, SystemTime},
};

use tricorne_exec::limit::Rate;
use tricorne_http::{ClientConfig, Concurrency, FailureKind};
use tricorne_loopback::{Reply, Server};

use crate::common::{RawServer, client, failure, get_all, millis, quick, read_request, run};

#[test]
fn no_host_gets_more_than_its_share_nor_all_together_more_than_the_whole() {
    let start = || Server::start(|_| Reply::html("x").delay(millis(20))).expect("a server");
    let (first, second) = (start(), start());
    run(async {
        let config =
            ClientConfig { concurrency: Concurrency::Fixed(5), per_host: Concurrency::Fixed(3), ..quick() };
        let client = client(config);
        let urls: Vec<_> =
            (0..20).flat_map(|index| [&first, &second].map(|host| host.url(&format!("/{index}")))).collect();
        let mut most = 0;
        let sampled = client.clone();
        let sampling = tokio::spawn(async move {
            loop {
                most = most.max(sampled.stats().in_flight);
                assert!(most <= 5, "{most} in flight");
                tokio::time::sleep(millis(1)).await;
            }
        });
        for page in get_all(&client, &urls).await {
            page.expect("it is there");
        }
        sampling.abort();
        assert!(sampling.await.expect_err("it runs for ever").is_cancelled());
        assert_eq!((first.max_in_flight(), second.max_in_flight()), (3, 3));
        assert_eq!(client.stats().connections_opened, 6);
    });
}

#[test]
fn a_place_is_kept_until_the_page_is_let_go() {
    let server = Server::start(|_| Reply::html("x")).expect("a server");
    run(async {
        let client = client(ClientConfig { per_host: Concurrency::Fixed(1), ..quick() });
        let page = client.get(&server.url("/first")).await.expect("it is there");
        let url = server.url("/second");
        let mut second = Box::pin(client.get(&url));
        tokio::time::timeout(millis(60), &mut second).await.expect_err("the only place is taken");
        assert_eq!(server.requests("/second"), 0);
        drop(page.permit);
        second.await.expect("the place is free");
    });
}

#[test]
fn time_in_our_own_queue_is_no_time_out() {
    let server = Server::start(|_| Reply::html("x").delay(millis(150))).expect("a server");
    run(async {
        let config = ClientConfig {
            per_host: Concurrency::Fixed(1),
            total_timeout: millis(900),
            first_byte_timeout: millis(900),
            retries: 0,
            ..quick()
        };
        let started = Instant::now();
        let urls: Vec<_> = (0..8).map(|index| server.url(&format!("/{index}"))).collect();
        let pages = get_all(&client(config), &urls).await;
        assert!(started.elapsed() > millis(900), "the last one waited longer than its network time");
        for network_time in pages {
            let network_time = network_time.expect("waiting costs nothing");
            assert!(network_time >= millis(150) && network_time < millis(900), "{network_time:?}");
        }
    });
}

/// Retry-After closes the whole host, and nothing else: neither the other host nor the only place of the client.
fn retry_after(value: &str) {
    let value = value.to_owned();
    let patient = Server::start(move |request| match (request.path.as_str(), request.attempt) {
        ("/first", 1) => Reply::new(429).header("Retry-After", value.clone()),
        _ => Reply::html("x"),
    })
    .expect("a server");
    let other = Server::start(|_| Reply::html("x")).expect("a server");
    run(async {
        let config = ClientConfig {
            concurrency: Concurrency::Fixed(1),
            retry_after_max: millis(400),
            retry_base: millis(1),
            ..quick()
        };
        let client = client(config);
        let started = Instant::now();
        let url = patient.url("/first");
        let refused = {
            let client = client.clone();
            tokio::spawn(async move { client.get(&url).await.expect("the second try works") })
        };
        while client.stats().retries.is_empty() {
            tokio::time::sleep(millis(1)).await;
        }
        assert_eq!(client.stats().in_flight, 0, "no place is held while waiting");
        client.get(&other.url("/")).await.expect("it is there");
        let other_after = started.elapsed();
        client.get(&patient.url("/second")).await.expect("it is there");
        let second_after = started.elapsed();
        let refused = refused.await.expect("no panic");
        assert!(second_after >= millis(400), "{second_after:?}: the host had asked for patience");
        assert!(started.elapsed() >= millis(400));
        assert!(other_after < second_after);
        assert!(refused.attempts == 2 && refused.network_time < second_after, "waiting is no network time");
    });
}

#[test]
fn retry_after_in_seconds_closes_the_host() {
    retry_after("1");
}

#[test]
fn retry_after_as_a_date_closes_the_host() {
    let date = SystemTime::now() + Duration::from_secs(3600);
    retry_after(&httpdate::fmt_http_date(date));
}

/// The date belongs to the server's clock, which may be years off.
#[test]
fn a_date_is_measured_by_the_clock_of_the_server() {
    let server = Server::start(|request| match request.attempt {
        1 => Reply::new(503)
            .header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("Retry-After", "Sun, 06 Nov 1994 09:49:37 GMT"),
        _ => Reply::html("x"),
    })
    .expect("a server");
    run(async {
        let started = Instant::now();
        let client = client(ClientConfig { retry_after_max: millis(300), ..quick() });
        assert_eq!(client.get(&server.url("/")).await.expect("the second try works").attempts, 2);
        assert!(started.elapsed() >= millis(300));
    });
}

#[test]
fn a_dropped_fetch_closes_its_connection_and_frees_its_place() {
    let (ended, wait_ended) = mpsc::channel();
    let server = RawServer::start(move |number, mut stream| {
        read_request(&mut stream).expect("a request");
        if number == 0 {
            ended.send(stream.read(&mut [0]).ok()).expect("the test waits");
            return true;
        }
        crate::common::answer(&mut stream, "x");
        false
    });
    run(async {
        let client = client(ClientConfig { concurrency: Concurrency::Fixed(1), ..quick() });
        tokio::time::timeout(millis(80), client.get(&server.url("/"))).await.expect_err("it never answers");
        assert_eq!(wait_ended.recv_timeout(Duration::from_secs(10)), Ok(Some(0)), "the connection is closed");
        assert_eq!(client.stats().in_flight, 0);
        client.get(&server.url("/")).await.expect("the place is free");
    });
}

#[test]
fn a_fetch_dropped_at_any_moment_leaves_nothing_behind() {
    let server = Server::start(|request| match request.attempt % 3 {
        0 => Reply::new(503),
        1 => Reply::html("x".repeat(30_000)).drip(6_000, millis(1)),
        _ => Reply::redirect(302, format!("{}x", request.path)),
    })
    .expect("a server");
    run(async {
        let config = ClientConfig { per_host: Concurrency::Fixed(2), max_redirects: 3, ..quick() };
        let client = client(config);
        for round in 0..60_u64 {
            let mut gets = tokio::task::JoinSet::new();
            for index in 0..4 {
                let (client, url) = (client.clone(), server.url(&format!("/{index}")));
                gets.spawn(async move { client.get(&url).await.is_ok() });
            }
            tokio::time::sleep(Duration::from_micros(round * 150)).await;
            gets.shutdown().await;
            assert_eq!(client.stats().in_flight, 0, "round {round}");
        }
        assert!(client.stats().requests > 0);
    });
}

#[test]
fn a_host_that_does_not_answer_does_not_hold_up_others() {
    let silent = Server::start(|_| Reply::html("x").never_answer()).expect("a server");
    let quick_server = Server::start(|_| Reply::html("x")).expect("a server");
    run(async {
        let config = ClientConfig {
            concurrency: Concurrency::Fixed(4),
            per_host: Concurrency::Fixed(2),
            first_byte_timeout: millis(1500),
            retries: 0,
            ..quick()
        };
        let client = client(config);
        let stuck: Vec<_> = (0..6).map(|index| silent.url(&format!("/{index}"))).collect();
        let waiting = {
            let client = client.clone();
            tokio::spawn(async move { get_all(&client, &stuck[..2]).await })
        };
        while client.stats().in_flight < 2 {
            tokio::time::sleep(millis(1)).await;
        }
        for index in 0..50 {
            client.get(&quick_server.url(&format!("/{index}"))).await.expect("it is there");
        }
        assert!(!waiting.is_finished(), "the silent host is still being waited for");
        for failed in waiting.await.expect("no panic") {
            assert_eq!(failed.expect_err("it never answers").kind, FailureKind::TimeoutFirstByte);
        }
        assert_eq!(failure(&client, &silent.url("/")).await.kind, FailureKind::TimeoutFirstByte);
    });
}

/// A server that notes when its requests arrive.
fn noting_server() -> (Server, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::<Mutex<Vec<Instant>>>::default();
    let noted = arrivals.clone();
    let server = Server::start(move |request| {
        noted.lock().expect("no panic").push(Instant::now());
        // A redirect and a repeat are requests like any other.
        match request.path.as_str() {
            "/moved" => Reply::redirect(302, "/there"),
            "/busy" if noted.lock().expect("no panic").len() < 3 => Reply::new(503),
            _ => Reply::html("x"),
        }
    });
    (server.expect("a server"), arrivals)
}

#[test]
fn no_more_requests_arrive_in_a_time_than_the_rate_of_the_host() {
    let (server, arrivals) = noting_server();
    let (other, others) = noting_server();
    run(async {
        let rate = Rate::new(50, Duration::from_secs(1));
        let client = client(ClientConfig { rate_per_host: Some(rate), retries: 20, ..quick() });
        let urls: Vec<_> = ["/busy", "/moved", "/1", "/2", "/3", "/4"]
            .iter()
            .flat_map(|path| [server.url(path), other.url("/1")])
            .collect();
        let start = Instant::now();
        for page in get_all(&client, &urls).await {
            page.expect("it is there");
        }
        for arrivals in [arrivals, others] {
            let mut arrivals = arrivals.lock().expect("no panic").clone();
            arrivals.sort_unstable();
            // The rule of the rate: the request of number n is sent n times the interval after the first at the soonest. However
            // late a busy machine lets it arrive, it is not before that.
            for (number, arrival) in arrivals.iter().enumerate() {
                let soonest = rate.time_for(number as u64);
                assert!(*arrival - start >= soonest, "number {number} after {:?}", *arrival - start);
            }
        }
        assert!(server.total_requests() >= 7, "redirect and repeats are among them");
        assert_eq!(other.total_requests(), 6);
    });
}

#[test]
fn waiting_for_the_rate_holds_no_place_and_is_no_time_out() {
    let start = || Server::start(|_| Reply::html("x")).expect("a server");
    let (slow, quick_one) = (start(), start());
    run(async {
        let client = client(ClientConfig {
            concurrency: Concurrency::Fixed(1),
            per_host: Concurrency::Fixed(1),
            rate_per_host: Some(Rate::new(1, millis(700))),
            total_timeout: millis(500),
            ..quick()
        });
        client.get(&slow.url("/1")).await.expect("the first may go");
        let (waiting, url) = (client.clone(), slow.url("/2"));
        let second = tokio::spawn(async move { waiting.get(&url).await.map(|page| page.status) });
        let (waiting, url) = (client.clone(), slow.url("/3"));
        let given_up = tokio::spawn(async move { waiting.get(&url).await.map(|page| page.status) });
        client.get(&quick_one.url("/")).await.expect("nobody holds the one place");
        given_up.abort();
        assert!(given_up.await.expect_err("it waits for the second").is_cancelled());
        assert_eq!(second.await.expect("no panic").expect("to wait is no time-out"), 200);
        assert_eq!((slow.total_requests(), client.stats().in_flight), (2, 0));
    });
}

#[test]
fn a_host_is_not_forgotten_before_its_rate_is_paid_off() {
    let start = || Server::start(|_| Reply::html("x")).expect("a server");
    let (first, second) = (start(), start());
    run(async {
        let rate_per_host = Some(Rate::new(1, Duration::from_secs(3600)));
        let client = client(ClientConfig { rate_per_host, max_hosts: 1, ..quick() });
        client.get(&first.url("/1")).await.expect("the first may go");
        client.get(&second.url("/1")).await.expect("another host");
        let url = first.url("/2");
        tokio::time::timeout(millis(60), client.get(&url)).await.expect_err("an hour is not over");
        assert_eq!(first.total_requests(), 1);
    });
}

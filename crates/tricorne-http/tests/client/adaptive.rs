//! The adaptive limit against a server whose capacity changes while it runs.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tricorne_http::{Client, ClientConfig, Concurrency};
use tricorne_loopback::{Reply, Server};

use crate::common::{client, millis, quick, run};

/// How long the limit may take to follow.
const FOLLOW: Duration = Duration::from_secs(3);
/// How long it is then watched.
const WATCH: Duration = Duration::from_secs(1);

/// Requests that the run has at least before the capacity falls. Then up to 56 requests that are sent in the same
/// moment are refused, however long the run is: a share can only be judged on enough of them.
const MIDDLE_REQUESTS: u64 = 12_000;

/// The median of the requests in flight over `WATCH`.
async fn usual_in_flight(client: &Client) -> usize {
    let end = Instant::now() + WATCH;
    let mut samples = Vec::new();
    while Instant::now() < end {
        samples.push(client.stats().in_flight);
        sleep(millis(5)).await;
    }
    samples.sort_unstable();
    samples[samples.len() / 2]
}

#[test]
fn in_flight_follows_the_server_from_8_to_64_and_back() {
    let server = Server::start(|request| {
        // Between 10 and 30 ms, spread by the path: real servers do not answer in step.
        let spread =
            request.path.bytes().fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000_003) * 7919;
        Reply::html("x".repeat(2_000)).delay(millis(10 + spread % 21))
    })
    .expect("a server");
    run(async {
        let config = ClientConfig { per_host: Concurrency::Auto { max: 200 }, retries: 50, ..quick() };
        let client = client(config);
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..160 {
            let (client, server) = (client.clone(), server.url(""));
            workers.spawn(async move {
                for number in 0_u64.. {
                    client.get(&format!("{server}/{worker}/{number}")).await.expect("it is there in the end");
                }
            });
        }
        let mut report = Vec::new();
        for capacity in [8, 64, 8] {
            server.set_capacity(Some(capacity));
            sleep_until(Instant::now() + FOLLOW).await;
            report.push((capacity, usual_in_flight(&client).await));
            while capacity == 64 && client.stats().requests < MIDDLE_REQUESTS {
                sleep(millis(20)).await;
            }
        }
        let stats = client.stats();
        let refused = stats.too_many_requests as f64 / stats.requests as f64;
        println!(
            "capacity and in flight: {report:?}; {} requests, {:.2} % refused",
            stats.requests,
            refused * 100.0
        );
        for (capacity, in_flight) in report {
            assert!(
                in_flight.abs_diff(capacity) * 4 <= capacity,
                "capacity {capacity}: {in_flight} in flight"
            );
        }
        assert!(refused <= 0.01, "{:.2} % refused", refused * 100.0);
        workers.shutdown().await;
    });
}

//! The whole command against a server that serves 8 requests at once, then 64, then 8 again, and refuses the
//! rest with 429: the requests in flight follow within three seconds, and hardly any is refused.

mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Folder, Running, json_file, tricorne, until};
use tricorne_loopback::{Reply, Server};

/// How long the server stays as it is.
const PHASE: Duration = Duration::from_secs(5);
/// How soon the client has to follow.
const FOLLOWS: Duration = Duration::from_secs(3);
const FEW: u64 = 8;
const MANY: u64 = 64;
/// Requests before the capacity falls: those 56 that are sent in that moment are refused, however long the run
/// is, so a share can only be judged on enough of them.
const ENOUGH: u64 = 12_000;

#[test]
fn in_flight_follows_the_server_and_hardly_any_request_is_refused() {
    // Between 10 and 30 ms: real servers do not answer in step.
    let latency =
        |path: &str| path.bytes().fold(0_u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte)) % 21;
    let server = Server::start(move |request| {
        Reply::html("<p>A small page</p>").delay(Duration::from_millis(10 + latency(&request.path)))
    });
    let server = server.expect("a free port");
    let folder = Folder::new();
    folder.write("urls.txt", support::url_list(&server, 100_000));
    let plan = folder.write(
        "plan.toml",
        "[source]\nurls = 'urls.txt'\n[fetch]\nretries = 20\nretry_base_secs = 0.2\n[sink]\npath = 'out'\n",
    );

    server.set_capacity(Some(FEW as usize));
    let mut command = tricorne(["run", "--quiet"]);
    command.arg(&plan);
    let running = Running::start(command);
    let begun = Instant::now();
    sleep(PHASE);
    server.set_capacity(Some(MANY as usize));
    let widened = begun.elapsed();
    sleep(PHASE);
    until("enough requests", || (server.total_requests() >= ENOUGH).then_some(()));
    server.set_capacity(Some(FEW as usize));
    let narrowed = begun.elapsed();
    sleep(PHASE);
    let stats = server.stats();
    running.signal("INT");
    let ended = begun.elapsed();
    running.wait().expect(130);

    let report = json_file(&folder.path("out/run.json"));
    let samples: Vec<(Duration, u64)> = report["in_flight"]
        .as_array()
        .expect("samples")
        .iter()
        .map(|sample| {
            let secs = sample["secs"].as_f64().expect("seconds");
            (Duration::from_secs_f64(secs), sample["in_flight"].as_u64().expect("a number"))
        })
        .collect();
    let median = |from: Duration, to: Duration| {
        let mut values: Vec<u64> =
            samples.iter().filter(|(at, _)| (from..to).contains(at)).map(|&(_, value)| value).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let phases =
        [median(FOLLOWS, widened), median(widened + FOLLOWS, narrowed), median(narrowed + FOLLOWS, ended)];
    let asked = stats.requests + stats.refused;
    println!("in flight {phases:?}, {} of {asked} requests refused", stats.refused);
    assert!((FEW / 2..=FEW + 1).contains(&phases[0]), "{phases:?}: {samples:?}");
    assert!((MANY * 3 / 4..=MANY + 1).contains(&phases[1]), "{phases:?}: {samples:?}");
    assert!((FEW / 2..=FEW + 1).contains(&phases[2]), "{phases:?}: {samples:?}");
    assert!(stats.refused * 100 <= asked, "{} of {asked} requests were refused", stats.refused);
}

//! The whole command against servers that misbehave: a run ends with the expected rows and failures, asks no
//! more often than it may, and once the server behaves again `--retry-failed` gives the bytes of a calm run.

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use support::{
    Folder, answer, assert_same_data, data_set, json_file, json_lines, page_at, rows, run, tricorne,
};
use tricorne::demo::corpus::Page;
use tricorne::demo::site::{Failure, Outcome};
use tricorne::demo::{DemoOptions, DemoServer};
use tricorne_loopback::{Reply, Request, Server};

/// Attempts that the plan allows.
const ATTEMPTS: u32 = 3;
/// Pages of the faulty site.
const PAGES: usize = 120;

/// What is wrong with a page.
struct Fault {
    /// For how many attempts; for all of them if the run has to give the record up.
    strikes: u32,
    /// How the record fails: stage, kind and attempts. `None` if retries are enough.
    fails: Option<(&'static str, &'static str, u32)>,
    reply: fn(&'static Page, &str) -> Reply,
}

const fn passing(strikes: u32, reply: fn(&'static Page, &str) -> Reply) -> Fault {
    Fault { strikes, fails: None, reply }
}

const fn lasting(
    stage: &'static str,
    kind: &'static str,
    attempts: u32,
    reply: fn(&'static Page, &str) -> Reply,
) -> Fault {
    Fault { strikes: u32::MAX, fails: Some((stage, kind, attempts)), reply }
}

/// The pages with a fault, by number. All others are served as they are.
static FAULTS: LazyLock<BTreeMap<usize, Fault>> = LazyLock::new(|| {
    let all = [
        passing(1, |_, _| Reply::new(429).header("Retry-After", "1")),
        passing(1, |_, _| {
            // By the server's own clock, which is far from ours.
            let reply = Reply::new(429).header("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
            reply.header("Retry-After", "Sun, 06 Nov 1994 08:49:38 GMT")
        }),
        passing(2, |_, _| Reply::new(503)),
        passing(1, |page, _| answer(page).cut_after(page.body.len() / 2)),
        passing(1, |page, _| answer(page).chunked(512).cut_after(page.body.len() / 2)),
        passing(1, |page, _| answer(page).stall_after(page.body.len() / 2)),
        passing(1, |_, _| Reply::new(200).never_answer()),
        passing(1, |_, _| Reply::new(200).drop_connection()),
        passing(2, |_, _| Reply::new(200).reset_connection()),
        lasting("fetch", "status_404", 1, |_, _| Reply::new(404).body("<h1>Not here</h1>")),
        lasting("fetch", "status_503", ATTEMPTS, |_, _| Reply::new(503)),
        lasting("fetch", "status_429", ATTEMPTS, |_, _| Reply::new(429)),
        lasting("fetch", "body_cut", ATTEMPTS, |page, _| answer(page).cut_after(100)),
        lasting("fetch", "timeout_stall", ATTEMPTS, |page, _| answer(page).stall_after(100)),
        lasting("fetch", "timeout_first_byte", ATTEMPTS, |_, _| Reply::new(200).never_answer()),
        lasting("fetch", "disconnected", ATTEMPTS, |_, _| Reply::new(200).drop_connection()),
        lasting("fetch", "disconnected", ATTEMPTS, |_, _| Reply::new(200).reset_connection()),
        lasting("fetch", "redirect_loop", 1, |_, path| Reply::redirect(302, path.to_owned())),
        lasting("fetch", "too_many_redirects", 1, |_, path| {
            let steps = path.split_once('?').map_or(0, |(_, steps)| steps.len());
            let path = path.split('?').next().unwrap_or_default();
            Reply::redirect(307, format!("{path}?{}", "x".repeat(steps + 1)))
        }),
        lasting("fetch", "body_too_large", 1, |_, _| Reply::html(vec![b' '; 300_000])),
        lasting("fetch", "body_too_large", 1, |_, _| Reply::html(vec![b' '; 300_000]).chunked(5_000)),
        lasting("fetch", "decoded_too_large", 1, |_, _| {
            Reply::html(gzip(&vec![b' '; 8 << 20])).header("Content-Encoding", "gzip")
        }),
        lasting("fetch", "bad_encoding", 1, |page, _| answer(page).header("Content-Encoding", "gzip")),
        lasting("fetch", "protocol", 1, |_, _| Reply::raw("SSH-2.0-OpenSSH_9.2\r\n")),
        lasting("decode", "content_gzip", 1, |page, _| Reply::html(gzip(page.body))),
        lasting("decode", "content_pdf", 1, |_, _| Reply::html("%PDF-1.7\n%\u{e2}\u{e3}\n1 0 obj\n")),
        lasting("decode", "content_zip", 1, |_, _| Reply::html(&b"PK\x03\x04\x14\0\x06\0\x08\0"[..])),
    ];
    // Spread over the shards of ten records, so that most are rewritten by the retry.
    all.into_iter().enumerate().map(|(place, fault)| (place * 4 + 1, fault)).collect()
});

/// What the site always does: no faults, but things that a client has to cope with.
fn peculiar(number: usize, page: &'static Page, request: &Request) -> Reply {
    let host = request.header("host").unwrap_or_default();
    match number {
        3 => Reply::redirect(301, "/page/103"),
        7 => Reply::redirect(302, format!("http://{host}/page/107?with=query")),
        11 => Reply::redirect(308, "../page/11/../111"),
        15 => Reply::html(gzip(page.body)).header("Content-Encoding", "gzip").chunked(700),
        19 => Reply::ok(
            "text/html; charset=utf-8",
            &b"<p>na\xefve caf\xe9 in Latin-1, said to be UTF-8</p>"[..],
        ),
        23 => answer(page).chunked(1000),
        27 => answer(page).until_close(),
        31 => Reply::new(200).body(page.body),
        35 => answer(page).drip(4000, Duration::from_millis(20)),
        39 => answer(page).close(),
        _ => answer(page),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn number_of(path: &str) -> Option<usize> {
    path.strip_prefix("/page/")?.split('?').next()?.parse().ok()
}

/// When each path was asked for.
type Times = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

/// The faulty site and its switch: faults while it is false.
fn site() -> (Server, Arc<AtomicBool>, Times) {
    let (calm, times) = (Arc::new(AtomicBool::new(true)), Times::default());
    let (switch, seen) = (Arc::clone(&calm), Arc::clone(&times));
    let server = Server::start(move |request| {
        seen.lock().unwrap().entry(request.path.clone()).or_default().push(Instant::now());
        let (Some(number), Some(page)) = (number_of(&request.path), page_at(&request.path)) else {
            return Reply::new(404);
        };
        let fault = FAULTS.get(&number).filter(|fault| request.attempt <= fault.strikes);
        match fault {
            Some(fault) if !calm.load(Ordering::SeqCst) => (fault.reply)(page, &request.path),
            _ => peculiar(number, page, request),
        }
    });
    (server.expect("a free port"), switch, times)
}

fn plan(format: &str) -> String {
    format!(
        r#"
        [source]
        urls = "urls.txt"
        [fetch]
        concurrency = 16
        per_host = 16
        first_byte_secs = 2
        stall_secs = 2
        retries = {}
        retry_base_secs = 0.02
        retry_max_secs = 0.1
        max_redirects = 5
        max_body_bytes = "256 KiB"
        max_decoded_bytes = "1 MiB"
        [[stage]]
        use = "extract"
        [[stage]]
        use = "clean"
        [[stage]]
        use = "features"
        [[stage]]
        use = "dedup"
        [sink]
        path = "out"
        format = "{format}"
        records_per_shard = 10
        "#,
        ATTEMPTS - 1
    )
}

#[test]
fn all_faults_give_the_rows_and_failures_they_should_and_heal_to_the_calm_bytes() {
    let (server, calm, times) = site();
    let folder = Folder::new();
    folder.write("urls.txt", support::url_list(&server, PAGES));
    let plan = folder.write("plan.toml", plan("jsonl"));
    let (calm_out, out) = (folder.path("calm"), folder.path("faults"));
    let command = |out: &std::path::Path, more: &[&str]| {
        let mut command = tricorne(["run", "--quiet", "-o"]);
        command.arg(out).args(more).arg(&plan);
        run(command)
    };

    command(&calm_out, &[]).expect(0);
    let calm_rows = rows(&calm_out);
    assert_eq!(json_file(&calm_out.join("run.json"))["fetch"]["retries"], serde_json::json!({}));

    calm.store(false, Ordering::SeqCst);
    server.reset_counts();
    times.lock().unwrap().clear();
    let ran = command(&out, &[]).expect(1);
    assert!(ran.took < Duration::from_secs(30), "{:?}: time-outs add up", ran.took);

    // One line for each record that failed, and only for those.
    let failed: BTreeMap<usize, Value> = json_lines(&out.join("failed.jsonl"))
        .into_iter()
        .map(|line| (line["id"].as_u64().expect("an id") as usize, line))
        .collect();
    let lasting: BTreeMap<usize, _> =
        FAULTS.iter().filter_map(|(&number, fault)| Some((number, fault.fails?))).collect();
    assert_eq!(failed.keys().collect::<Vec<_>>(), lasting.keys().collect::<Vec<_>>());
    for (number, line) in &failed {
        let said = (line["stage"].as_str(), line["kind"].as_str(), line["attempts"].as_u64());
        let (stage, kind, attempts) = lasting[number];
        assert_eq!(said, (Some(stage), Some(kind), Some(u64::from(attempts))), "{line}");
        assert_eq!(line["url"], server.url(&format!("/page/{number}")));
        assert!(!line["message"].as_str().expect("a message").is_empty());
    }

    // Rows: those of the calm run without the failed ones.
    let expected: Vec<&Value> = calm_rows
        .iter()
        .filter(|row| !failed.contains_key(&(row["id"].as_u64().expect("an id") as usize)))
        .collect();
    let got = rows(&out);
    assert_eq!(got.iter().collect::<Vec<_>>(), expected);

    // Retries are not nested: each page was asked for as often as its fault needs, and no more.
    let counts = server.path_counts();
    for number in 0..PAGES {
        let attempts = match FAULTS.get(&number) {
            Some(Fault { fails: Some((_, _, attempts)), .. }) => *attempts,
            Some(fault) => fault.strikes + 1,
            None => 1,
        };
        // A redirect leads here as well.
        let least = attempts + u32::from(matches!(number, 103 | 111));
        let lost = matches!(FAULTS.get(&number), Some(Fault { fails: Some((_, "disconnected", _)), .. }));
        // A kept connection that ends without an answer may have been dead before the request: that is
        // tried once more on a fresh one, once for a record.
        let most = least + u32::from(lost);
        let asked = counts[&format!("/page/{number}")];
        assert!((least..=most).contains(&asked), "{asked} requests for page {number}, not {least} to {most}");
    }
    let report = json_file(&out.join("run.json"));
    assert_eq!(report["fetch"]["requests"].as_u64(), Some(server.total_requests()));
    let passing = |kind: &str| report["fetch"]["retries"][kind].as_u64().unwrap_or(0);
    assert_eq!(passing("status_429"), 2 + u64::from(ATTEMPTS - 1));
    assert_eq!(passing("status_503"), 2 + u64::from(ATTEMPTS - 1));

    // Retry-After was obeyed, as seconds and as a date.
    for number in [1, 5] {
        let asked = times.lock().unwrap()[&format!("/page/{number}")].clone();
        let waited = asked[1] - asked[0];
        assert!(waited >= Duration::from_millis(990), "page {number} was tried again after {waited:?}");
    }

    // The same command again has nothing to do but says again that records failed.
    server.reset_counts();
    let before = data_set(&out);
    command(&out, &[]).expect(1);
    assert_eq!(server.total_requests(), 0);
    assert_same_data(&before, &data_set(&out), "nothing to do");

    calm.store(true, Ordering::SeqCst);
    command(&out, &["--retry-failed"]).expect(0);
    assert_eq!(server.total_requests(), lasting.len() as u64, "only failed records are fetched again");
    assert_same_data(&data_set(&calm_out), &data_set(&out), "retry-failed");
}

#[test]
fn a_retry_that_fails_again_changes_nothing() {
    let (server, calm, _) = site();
    let folder = Folder::new();
    // A 404 among pages that are fine.
    let list: String = (36..44).map(|number| server.url(&format!("/page/{number}\n"))).collect();
    folder.write("urls.txt", list);
    let plan = folder.write("plan.toml", plan("parquet"));
    let command = |more: &[&str]| {
        let mut command = tricorne(["run", "--quiet"]);
        command.args(more).arg(&plan);
        run(command)
    };

    calm.store(false, Ordering::SeqCst);
    command(&[]).expect(1);
    let before = data_set(&folder.path("out"));
    command(&["--retry-failed"]).expect(1);
    assert_eq!(server.requests("/page/37"), 2);
    assert_same_data(&before, &data_set(&folder.path("out")), "a retry in vain");
}

#[test]
fn the_demo_with_and_without_faults_gives_the_same_bytes() {
    let folder = Folder::new();
    let plan = folder.write("plan.toml", plan("parquet"));
    let calm = DemoOptions { latency: false, faults: false, ..DemoOptions::default() };
    let mut port = 0;
    let sets = [false, true].map(|faults| {
        let demo = DemoServer::start(DemoOptions { port, faults, ..calm }).expect("the port is free");
        port = demo.addr().port();
        folder.write("urls.txt", demo.url_list());
        let out = folder.path(if faults { "faults" } else { "calm" });
        let mut command = tricorne(["run", "--quiet", "-o"]);
        command.arg(&out).arg(&plan);
        run(command).expect(0);
        let survived = json_file(&out.join("run.json"))["fetch"]["retries"].clone();
        assert_eq!(survived.as_object().is_some_and(|survived| !survived.is_empty()), faults);
        data_set(&out)
    });
    assert_same_data(&sets[0], &sets[1], "with faults");
}

#[test]
fn what_the_demo_cannot_give_is_reported_by_its_kind() {
    let options =
        DemoOptions { latency: false, faults: false, with_failures: true, ..DemoOptions::default() };
    let demo = DemoServer::start(options).expect("a free port");
    let folder = Folder::new();
    folder.write("urls.txt", demo.url_list());
    let plan = folder.write("plan.toml", plan("jsonl"));
    let mut command = tricorne(["run", "--quiet"]);
    command.arg(&plan);
    run(command).expect(1);

    let expected: BTreeMap<&str, _> = demo
        .urls()
        .iter()
        .filter_map(|listed| match listed.outcome {
            Outcome::Fails(failure) => Some((listed.url.as_str(), failure)),
            _ => None,
        })
        .collect();
    let lines = json_lines(&folder.path("out").join("failed.jsonl"));
    assert_eq!(lines.len(), expected.len());
    for line in &lines {
        let kind = match expected[line["url"].as_str().expect("a URL")] {
            Failure::NotFound => "status_404",
            Failure::Pdf => "content_pdf",
            Failure::Gzip => "content_gzip",
            Failure::ConnectionRefused => "connect",
            Failure::RedirectLoop => "redirect_loop",
            _ => "a failure that this test does not know",
        };
        assert_eq!(line["kind"], kind, "{line}");
    }
    // What is a page becomes a row, what is the same page again does not.
    let pages = demo.urls().iter().filter(|listed| matches!(listed.outcome, Outcome::Page(_))).count();
    assert_eq!(rows(&folder.path("out")).len(), pages);
}

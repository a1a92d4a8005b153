//! The command as a person or a script meets it: exit codes, what is printed where, bad input, interrupts.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{
    Folder, Ran, Running, assert_same_data, calm_site, data_set, json_file, json_lines, rows, run,
    run_with_input, tricorne, until, url_list,
};
use tricorne_loopback::{Reply, Server};

const PAGE: &str = "<title>A title</title><p>Some words on a page.</p>";

fn with_path(args: &[&str], path: &Path) -> Command {
    let mut command = tricorne(args);
    command.arg(path);
    command
}

/// Runs the command in the folder, so that its messages have relative paths.
fn run_in(folder: &Folder, args: &[&str]) -> Ran {
    let mut command = tricorne(args);
    command.current_dir(folder.path("."));
    run(command)
}

/// A plan that downloads `urls.txt` to `out`.
const DOWNLOAD: &str = "[source]\nurls = 'urls.txt'\n[fetch]\nretries = 0\n[sink]\npath = 'out'\n";

/// A plan that makes text of local pages.
const LOCAL: &str = "
    [source]
    files = 'pages/**/*.html'
    [[stage]]
    use = 'extract'
    [[stage]]
    use = 'features'
    [sink]
    path = 'out'
    format = 'jsonl'
";

// ---- arguments ----------------------------------------------------------------------------------

#[test]
fn without_arguments_it_explains_itself() {
    let ran = run(tricorne::<_, &str>([])).expect(2);
    assert_eq!(ran.stdout, "");
    for command in ["run", "check", "fetch", "prep", "demo"] {
        assert!(ran.stderr.contains(&format!("\n  {command}")), "{}", ran.stderr);
    }
    ran.says("Exit codes: 0 all done, 1 some records failed, 2 could not run, 130 interrupted");
}

#[test]
fn help_and_version_go_to_stdout() {
    let ran = run(tricorne(["--version"])).expect(0);
    assert_eq!(ran.stdout, format!("tricorne {}\n", env!("CARGO_PKG_VERSION")));
    for args in [vec!["--help"], vec!["run", "--help"], vec!["help", "fetch"]] {
        let ran = run(tricorne(&args)).expect(0);
        assert!(ran.stdout.contains("Usage: tricorne"), "{args:?}: {}", ran.stdout);
        assert_eq!(ran.stderr, "", "{args:?}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_the_nearest_word() {
    run(tricorne(["rum"])).expect(2).says("a similar subcommand exists: 'run'");
    run(tricorne(["run"])).expect(2).says("<PLAN>");
    run(tricorne(["run", "p.toml", "--qiet"])).expect(2).says("'--quiet'");
    run(tricorne(["run", "p.toml", "--workers", "0"])).expect(2).says("--workers");
    run(tricorne(["prep", "x.html"])).expect(2).says("--out <OUT>");
    run(tricorne(["fetch", "-o", "out"])).expect(2).says("<URLS>");
    run(tricorne(["run", "p.toml", "--progress", "bars"]))
        .expect(2)
        .says("possible values: bar, plain, json, none");
}

// ---- plans --------------------------------------------------------------------------------------

#[test]
fn check_prints_the_resolved_plan_which_reads_back_the_same() {
    let folder = Folder::new();
    folder.write("plan.toml", LOCAL);
    let ran = run_in(&folder, &["check", "plan.toml"]).expect(0);
    assert_eq!(ran.stderr, "");
    for default in ["records_per_shard = 10000", "workers = \"auto\"", "columns = [", "watchdog_secs = 60"] {
        assert!(ran.stdout.contains(default), "`{default}` is missing in\n{}", ran.stdout);
    }
    folder.write("again.toml", &ran.stdout);
    assert_eq!(run_in(&folder, &["check", "again.toml"]).expect(0).stdout, ran.stdout);
    assert!(!folder.path("out").exists(), "check writes nothing");
}

#[test]
fn every_mistake_in_a_plan_is_shown_with_place_and_way_out_before_anything_starts() {
    let folder = Folder::new();
    folder.write(
        "plan.toml",
        "[source]
urls = 'nowhere.txt'
[fetch]
concurency = 3
retries = 'five'
[[stage]]
use = 'extrakt'
[[stage]]
use = 'features'
[[stage]]
use = 'filter'
where = 'word_cuont >= 20'
[sink]
path = 'out'
",
    );
    let expected = "\
plan.toml:2:8: there is no file `nowhere.txt`
 2 | urls = 'nowhere.txt'
   |        ^^^^^^^^^^^^^
   = hint: a relative path starts from the plan's folder
plan.toml:4:1: unknown key `concurency` in `[fetch]`
 4 | concurency = 3
   | ^^^^^^^^^^
   = hint: did you mean `concurrency`?
plan.toml:5:11: `retries` must be a whole number, not the string `'five'`
 5 | retries = 'five'
   |           ^^^^^^
plan.toml:7:7: there is no stage `extrakt`
 7 | use = 'extrakt'
   |       ^^^^^^^^^
   = hint: did you mean `\"extract\"`?
plan.toml:12:10: there is no column `word_cuont`
 12 | where = 'word_cuont >= 20'
    |          ^^^^^^^^^^
    = hint: did you mean `word_count`?
";
    for command in ["check", "run"] {
        let ran = run_in(&folder, &[command, "plan.toml"]).expect(2);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", expected));
    }
    assert!(!folder.path("out").exists(), "nothing is started");
}

#[test]
fn plans_that_cannot_be_read_are_refused() {
    let folder = Folder::new();
    folder.write("broken.toml", "[source\n");
    folder.write("latin.toml", b"[source]\nurls = '\xe9'\n");
    run_in(&folder, &["run", "none.toml"]).expect(2).says("none.toml:1:1: there is no such plan file");
    run_in(&folder, &["run", "broken.toml"]).expect(2).says("broken.toml:1:");
    run_in(&folder, &["run", "latin.toml"]).expect(2).says("latin.toml:2:9: ");
    run_in(&folder, &["check", "."]).expect(2).says(".:1:1: ");
}

// ---- bad input ----------------------------------------------------------------------------------

#[test]
fn lines_that_are_no_urls_fail_one_by_one_with_their_place() {
    let server = calm_site(Duration::ZERO);
    let folder = Folder::new();
    let good = server.url("/page/0");
    let mut list = format!("# a comment\n\nnot a url\nftp://host/file\nhttp://\n{good}\n").into_bytes();
    list.extend_from_slice(b"http://host/\xe9\n");
    folder.write("urls.txt", list);
    folder.write("plan.toml", DOWNLOAD);
    run_in(&folder, &["run", "--quiet", "plan.toml"]).expect(1);
    let failed: Vec<_> = json_lines(&folder.path("out/failed.jsonl"))
        .iter()
        .map(|line| json!([line["id"], line["url"], line["stage"], line["kind"], line["attempts"]]))
        .collect();
    assert_eq!(
        failed,
        [
            json!([0, "not a url", "fetch", "bad_url", 0]),
            json!([1, "ftp://host/file", "fetch", "unsupported_scheme", 0]),
            json!([2, "http://", "fetch", "bad_url", 0]),
            json!([4, "http://host/\u{fffd}", "source", "not_utf8", 0]),
        ]
    );
    let line = &json_lines(&folder.path("out/failed.jsonl"))[3];
    assert_eq!(line["message"], "line 7 of `urls.txt` is not UTF-8");
    assert_eq!(server.total_requests(), 1);
}

#[test]
fn input_that_is_no_list_is_refused_at_once() {
    let folder = Folder::new();
    folder.write("plan.toml", DOWNLOAD);
    let lists: [(&[u8], &str, &str); 5] = [
        (b"\xff\xfeh\0t\0t\0p\0", "it is UTF-16", "iconv"),
        (b"\x1f\x8b\x08\0\0\0", "the gzip data ends too early", "copied whole"),
        (b"PAR1\x15\x04", "it is a Parquet file", "parquet ="),
        (b"(\xb5\x2f\xfd\x04", "the zstd data ends too early", "copied whole"),
        (b"a\0b\n", "it holds zero bytes and is no text", "UTF-8"),
    ];
    for (content, message, hint) in lists {
        folder.write("urls.txt", content);
        let ran = run_in(&folder, &["run", "--quiet", "plan.toml"]).expect(2);
        let first = format!("error: cannot read the input `urls.txt`: {message}\nhint: ");
        assert!(ran.stderr.starts_with(&first) && ran.stderr.contains(hint), "{}", ran.stderr);
    }
    for empty in ["", "\n\n# nothing\n"] {
        folder.write("urls.txt", empty);
        let ran = run_in(&folder, &["run", "plan.toml"]).expect(2);
        assert_eq!(
            ran.stderr,
            "error: the input `urls.txt` holds no records\n\
             hint: an input needs at least one line or file that is not blank\n"
        );
        assert_eq!(ran.stdout, "");
    }
    // None of these has taken the folder: the right list can go there.
    let server = calm_site(Duration::ZERO);
    folder.write("urls.txt", url_list(&server, 2));
    run_in(&folder, &["run", "--quiet", "plan.toml"]).expect(0);
}

#[test]
fn patterns_without_files_are_refused() {
    let folder = Folder::new();
    folder.write("pages/a.txt", "text");
    run_in(&folder, &["prep", "none/*.html", "-o", "out"]).expect(2).says("there is no `none`");
    let nothing = run_in(&folder, &["prep", "pages/*.html", "-o", "out"]).expect(2);
    nothing.says("error: the input `pages/*.html` holds no records\n");
}

// ---- output folders -----------------------------------------------------------------------------

#[test]
fn an_output_folder_that_is_something_else_is_refused_unharmed() {
    let folder = Folder::new();
    folder.write("pages/a.html", PAGE);
    folder.write("plan.toml", LOCAL);
    folder.write("file", "precious");
    folder.write("theirs/manifest.json", "precious");
    let file = run_in(&folder, &["run", "plan.toml", "-o", "file"]).expect(2);
    assert_eq!(
        file.stderr,
        "error: the output folder `file` is a file\n\
         hint: name a folder that does not exist yet, or move the file away\n"
    );
    let theirs = run_in(&folder, &["run", "plan.toml", "-o", "theirs"]).expect(2);
    assert_eq!(
        theirs.stderr,
        "error: the output folder `theirs` already holds `manifest.json`, which no run that can be continued has left\n\
         hint: name another folder, or move these files away\n"
    );
    let below = run_in(&folder, &["run", "plan.toml", "-o", "file/below/it"]).expect(2);
    assert_eq!(
        below.stderr,
        "error: there can be no output folder `file/below/it`: `file` is a file\n\
         hint: name a folder that does not exist yet, or move the file away\n"
    );
    for name in ["file", "theirs/manifest.json"] {
        assert_eq!(std::fs::read(folder.path(name)).expect("still there"), b"precious");
    }
}

#[test]
fn a_changed_plan_is_refused_with_words_and_harms_nothing() {
    let folder = Folder::new();
    folder.write("pages/a.html", PAGE);
    folder.write("plan.toml", LOCAL);
    run_in(&folder, &["run", "--quiet", "plan.toml"]).expect(0);
    let before = data_set(&folder.path("out"));

    folder.write("plan.toml", format!("{LOCAL}\nrecords_per_shard = 7\n"));
    let ran = run_in(&folder, &["run", "plan.toml"]).expect(2);
    ran.says("error: the output folder `out` belongs to another plan: ")
        .says("records_per_shard")
        .says("hint: name another output folder");
    assert_same_data(&before, &data_set(&folder.path("out")), "after a refusal");

    // What does not shape the data may change.
    folder.write("plan.toml", format!("{LOCAL}\n[run]\nworkers = 3\n"));
    run_in(&folder, &["run", "--quiet", "plan.toml"]).expect(0);
    assert_same_data(&before, &data_set(&folder.path("out")), "with other workers");
}

#[test]
fn changed_input_is_refused() {
    let folder = Folder::new();
    folder.write("pages/a.html", PAGE);
    folder.write("pages/b.html", PAGE);
    folder.write("plan.toml", LOCAL);
    run_in(&folder, &["run", "--quiet", "plan.toml"]).expect(0);
    std::fs::remove_file(folder.path("pages/a.html")).expect("it was there");
    run_in(&folder, &["run", "plan.toml"])
        .expect(2)
        .says("error: the input has changed since this run began: records 0 to 1");
}

#[test]
fn two_runs_in_one_folder_are_one_too_many() {
    let server = Server::start(|_| Reply::new(200).never_answer()).expect("a free port");
    let folder = Folder::new();
    folder.write("urls.txt", url_list(&server, 1));
    let plan = folder.write("plan.toml", DOWNLOAD);
    let first = Running::start(with_path(&["run", "--quiet"], &plan));
    until("the first request", || (server.total_requests() > 0).then_some(()));
    let second = run_in(&folder, &["run", "plan.toml"]).expect(2);
    assert_eq!(
        second.stderr,
        "error: another run is using the output folder `out`\n\
         hint: wait for it to end, or name another output folder\n"
    );
    assert!(first.kill());
}

// ---- interrupts ---------------------------------------------------------------------------------

/// A plan over a site where pages take their time, in shards of ten.
fn slow_job(folder: &Folder, pages: usize) -> Server {
    let server = calm_site(Duration::from_millis(40));
    folder.write("urls.txt", url_list(&server, pages));
    let plan = "
        [source]
        urls = 'urls.txt'
        [fetch]
        concurrency = 4
        per_host = 4
        [[stage]]
        use = 'extract'
        [[stage]]
        use = 'features'
        [sink]
        path = 'out'
        records_per_shard = 10
    ";
    folder.write("plan.toml", plan);
    server
}

#[test]
fn an_interrupted_run_says_so_and_goes_on_with_other_workers() {
    let folder = Folder::new();
    let server = slow_job(&folder, 60);
    let plan = folder.path("plan.toml");
    let mut calm = with_path(&["run", "--quiet"], &plan);
    calm.arg("-o").arg(folder.path("calm"));
    run(calm).expect(0);

    for signal in ["INT", "TERM"] {
        let out = folder.path(signal);
        let command = |args: &[&str]| {
            let mut command = with_path(args, &plan);
            command.arg("-o").arg(&out);
            command
        };
        server.reset_counts();
        let running = Running::start(command(&["run", "--workers", "1"]));
        until("half of the pages", || (server.completed() >= 25).then_some(()));
        running.signal(signal);
        let ran = running.wait().expect(130);
        assert!(
            ran.stderr.contains("stopping after a checkpoint; Ctrl-C again to stop at once"),
            "{}",
            ran.stderr
        );
        assert!(
            ran.stdout.contains("Interrupted; everything received so far is kept. Go on with: tricorne run"),
            "{}",
            ran.stdout
        );
        assert!(!out.join("manifest.json").exists());
        assert_eq!(json_file(&out.join("run.json"))["interrupted"], true);

        let ran = run(command(&["run", "--workers", "3"])).expect(0);
        assert!(ran.stderr.contains("going on from an earlier run"), "{}", ran.stderr);
        assert!(server.total_requests() <= 60 + 4, "{} requests", server.total_requests());
        assert_same_data(&data_set(&folder.path("calm")), &data_set(&out), signal);
    }
}

#[test]
fn a_second_interrupt_stops_at_once() {
    let folder = Folder::new();
    folder.write("plan.toml", DOWNLOAD.replace("urls.txt", "-"));
    let mut command = tricorne(["run", "plan.toml"]);
    command.current_dir(folder.path(".")).stdin(Stdio::piped());
    // It waits for a list that never comes: only interrupts end it.
    let mut running = Running::start(command);
    let _open = running.child.stdin.take();
    until("the output folder", || folder.path("out/.tricorne/lock").exists().then_some(()));
    running.signal("INT");
    running.signal("INT");
    running.wait().expect(130);
}

// ---- what is printed ----------------------------------------------------------------------------

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let folder = Folder::new();
    folder.write("pages/a.html", PAGE);
    folder.write("plan.toml", LOCAL);
    for args in [&["check", "plan.toml"][..], &["run", "plan.toml"], &["--help"]] {
        let mut command = tricorne(args);
        let mut child = command
            .current_dir(folder.path("."))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        drop(child.stdout.take()); // nobody reads a single line
        let output = child.wait_with_output().expect("a child of ours");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("panic") && !stderr.contains("ipe"), "{args:?}: {stderr}");
    }
}

#[test]
fn quiet_is_quiet_and_progress_is_what_was_asked_for() {
    let folder = Folder::new();
    let _server = slow_job(&folder, 150); // well over a second
    let job = |args: &[&str]| {
        let mut all = vec!["run", "plan.toml"];
        all.extend(args);
        run_in(&folder, &all).expect(0)
    };
    let quiet = job(&["-o", "quiet", "--quiet"]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));

    let none = job(&["-o", "none", "--progress", "none"]);
    assert_eq!(none.stderr, "");
    assert!(none.stdout.contains("150 records → 150 rows in "), "{}", none.stdout);

    let json = job(&["-o", "json", "--progress", "json"]);
    let events: Vec<Value> =
        json.stderr.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &events {
        *kinds.entry(event["event"].as_str().expect("an event")).or_default() += 1;
    }
    assert_eq!((kinds["committed"], kinds["finishing"]), (15, 1), "{kinds:?}");
    assert!(kinds["progress"] >= 1, "{kinds:?}");
    let progress = events.iter().rfind(|event| event["event"] == "progress").expect("counted");
    assert!(
        progress["progress"]["in_flight"].is_u64() && progress["progress"]["read"].is_u64(),
        "{progress}"
    );

    let verbose = job(&["-o", "verbose", "--quiet", "-v"]);
    assert_eq!(verbose.stdout, "");
    assert!(verbose.stderr.contains(" INFO "), "-v logs what happens: {}", verbose.stderr);
}

#[test]
fn the_summary_names_what_happened() {
    let folder = Folder::new();
    for (name, page) in [("a", PAGE), ("b", PAGE), ("c", "%PDF-1.7\n"), ("d", "<p>Only two</p>")] {
        folder.write(&format!("pages/{name}.html"), page);
    }
    let filter = "[[stage]]\nuse = 'filter'\nwhere = 'word_count > 3'\n[[stage]]\nuse = 'dedup'\n[sink]";
    folder.write("plan.toml", LOCAL.replace("[sink]", filter));
    let ran = run_in(&folder, &["run", "plan.toml"]).expect(1);
    for text in [
        "4 records → 1 row in ",
        "dropped    2  (",
        "duplicate × 1",
        "filter: word_count > 3 × 1",
        "failed     1  (decode: content_pdf × 1)",
        "tricorne run plan.toml --retry-failed",
        "shard-00000.jsonl",
        "manifest.json, run.json, failed.jsonl",
        "Some words on a page.",
    ] {
        assert!(ran.stdout.contains(text), "`{text}` is missing in\n{}", ran.stdout);
    }
}

// ---- the fronts ---------------------------------------------------------------------------------

#[test]
fn fetch_keeps_the_pages_as_they_came() {
    let server = calm_site(Duration::ZERO);
    let folder = Folder::new();
    let urls = [0, 100, 200].map(|number| server.url(&format!("/page/{number}")));
    folder.write("urls.txt", urls.join("\n"));
    let mut given = tricorne(["fetch", "--quiet", "-o", "given"]);
    given.args(&urls).current_dir(folder.path("."));
    run(given).expect(0);
    run_in(&folder, &["fetch", "--quiet", "-i", "urls.txt", "-o", "listed"]).expect(0);
    let mut piped = tricorne(["fetch", "--quiet", "--concurrency", "2", "-", "-o", "piped"]);
    piped.current_dir(folder.path("."));
    run_with_input(piped, urls.join("\n").as_bytes()).expect(0);

    let pages = tricorne::demo::corpus::pages();
    for out in ["given", "listed", "piped"] {
        for number in [0, 100, 200] {
            let page = &pages[number];
            let file = format!("{out}/pages/{}/{}.html", &page.sha256[..2], page.sha256);
            assert!(std::fs::read(folder.path(&file)).expect("the page is kept") == page.body, "{file}");
        }
        assert_eq!(json_file(&folder.path(out).join("manifest.json"))["rows"], 3);
    }
    run_in(&folder, &["fetch", "-i", "none.txt", "-o", "out"])
        .expect(2)
        .says("error: the list `none.txt` is not a file");
}

#[test]
fn prep_takes_files_folders_and_patterns() {
    let folder = Folder::new();
    folder.write("pages/a.html", PAGE);
    folder.write("pages/deep/b.txt", "Plain text is its own main text");
    folder.write("pages/deep/c.htm", PAGE);
    folder.write("pages/deep/d.bin", b"\0\x01");
    folder.write("single [1].html", PAGE);
    let found = |out: &str, files: &[&str]| {
        let mut args = vec!["prep", "--quiet", "--format", "jsonl", "-o", out];
        args.extend(files);
        run_in(&folder, &args).expect(0);
        rows(&folder.path(out))
            .iter()
            .map(|row| row["url"].as_str().expect("a path").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("o1", &["pages"]), ["pages/a.html", "pages/deep/b.txt", "pages/deep/c.htm"]);
    assert_eq!(found("o2", &["pages/**/*.html"]), ["pages/a.html"]);
    assert_eq!(found("o3", &["single [1].html", "pages/*/*.txt"]), ["single [1].html", "pages/deep/b.txt"]);
    let missing = run_in(&folder, &["prep", "nothere", "-o", "o4"]).expect(2);
    assert_eq!(
        missing.stderr,
        "error: cannot read the input `nothere`: there is no `nothere`\nhint: relative names start from the current folder\n"
    );
    let rows = rows(&folder.path("o1"));
    assert_eq!((&rows[0]["title"], &rows[1]["title"]), (&json!("A title"), &Value::Null));
    assert_eq!(
        (&rows[1]["text"], &rows[1]["word_count"]),
        (&json!("Plain text is its own main text"), &json!(7))
    );
}

#[test]
fn keys_of_a_jsonl_source_are_passed_through_as_they_stand() {
    let server = calm_site(Duration::ZERO);
    let folder = Folder::new();
    let extras = [
        r#"{"rank":1,"tags":["a","b"],"price":1.50}"#,
        r#"{"big":123456789012345678901234567890,"nested":{"k":"é"}}"#,
        "null",
    ];
    let mut list = String::new();
    for (number, extra) in extras.iter().enumerate() {
        let url = json!(server.url(&format!("/page/{number}")));
        let rest = extra.trim_start_matches('{');
        let _ = if *extra == "null" {
            writeln!(list, r#"{{"link":{url}}}"#)
        } else {
            writeln!(list, r#"{{"link":{url},{rest}"#)
        };
    }
    list.push_str("{\"link\": 3}\n{\"url\": \"http://host/\"}\nno json\n");
    folder.write("urls.jsonl", list);
    folder.write(
        "plan.toml",
        "[source]\njsonl = 'urls.jsonl'\nurl_key = 'link'\n[sink]\npath = 'out'\nformat = 'jsonl'\n",
    );
    run_in(&folder, &["run", "--quiet", "plan.toml"]).expect(1);
    let shard = std::fs::read_to_string(folder.path("out/shard-00000.jsonl")).expect("the shard");
    for (line, extra) in shard.lines().zip(extras) {
        assert!(line.contains(&format!("\"extra\":{extra}")), "{line}");
    }
    let kinds: Vec<_> =
        json_lines(&folder.path("out/failed.jsonl")).iter().map(|line| line["kind"].clone()).collect();
    assert_eq!(kinds, ["no_url", "no_url", "not_json"]);
}

#[test]
fn serial_gives_the_same_shards_and_measures_each_stage_alone() {
    let folder = Folder::new();
    let server = slow_job(&folder, 60);
    run_in(&folder, &["run", "--quiet", "plan.toml", "-o", "overlapped"]).expect(0);
    run_in(&folder, &["run", "--quiet", "plan.toml", "-o", "serial", "--serial"]).expect(0);
    assert_same_data(&data_set(&folder.path("overlapped")), &data_set(&folder.path("serial")), "serial");
    assert_eq!(server.total_requests(), 2 * 60);

    let report = json_file(&folder.path("serial/run.json"));
    assert_eq!(report["overlap_basis"], "serial");
    let solo = report["solo_secs"].as_object().expect("times");
    assert_eq!(solo.keys().collect::<Vec<_>>(), ["fetch", "sink", "text"]);
    assert!(solo["fetch"].as_f64() >= Some(60.0 / 4.0 * 0.04), "{solo:?}");
    let overlapped = json_file(&folder.path("overlapped/run.json"));
    assert_eq!(overlapped["overlap_basis"], "estimated");
    assert!(overlapped["first_row_secs"].as_f64() < overlapped["wall_secs"].as_f64());
    let cpu = overlapped["cpu_secs"].as_object().expect("times");
    for stage in ["source", "fetch", "journal", "extract", "features", "sink", "runner", "total"] {
        assert!(cpu[stage].as_f64() >= Some(0.0), "{stage}: {cpu:?}");
    }
}

// ---- demo ---------------------------------------------------------------------------------------

#[test]
fn the_demo_serves_on_and_its_plan_gives_the_same_shards() {
    let folder = Folder::new();
    let mut command = tricorne(["demo", "--serve", "--progress", "none", "-o"]);
    command.arg(folder.path("demo")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
    let summary: Vec<String> = stdout
        .by_ref()
        .map(|line| line.expect("UTF-8"))
        .take_while(|line| !line.ends_with("until Ctrl-C"))
        .collect();
    assert!(summary[0].starts_with("Serving ") && summary.len() > 20, "{summary:#?}");

    let mut command = with_path(&["run", "--quiet", "-o"], &folder.path("again"));
    command.arg(folder.path("demo/plan.toml"));
    let again = run(command);
    let signalled = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(signalled.expect("`kill` is there").success());
    let status = child.wait().expect("a child of ours");
    again.expect(0);
    assert_eq!(status.code(), Some(0));
    assert_same_data(&data_set(&folder.path("demo/out")), &data_set(&folder.path("again")), "run after demo");
}

#[test]
fn the_demo_leaves_other_folders_alone() {
    let folder = Folder::new();
    folder.write("mine/thesis.txt", "precious");
    run_in(&folder, &["demo", "-o", "mine"]).expect(2).says("`mine` is not empty and was not made by a demo");
    run_in(&folder, &["demo", "-o", "mine/thesis.txt"])
        .expect(2)
        .says("`mine/thesis.txt` is a file, not a folder");
}

#[test]
fn tables_give_the_same_rows_packed_and_from_a_pipe() {
    let server = calm_site(Duration::ZERO);
    let folder = Folder::new();
    let urls = url_list(&server, 2);
    let mut table = "rank,href\n".to_owned();
    for (rank, url) in urls.lines().enumerate() {
        table += &format!("{rank},{url}\n");
    }
    let plan = |source: &str, out: &str| {
        format!("[source]\n{source}\nurl_column = \"href\"\n[sink]\npath = \"{out}\"\nformat = \"jsonl\"\n")
    };
    folder.write("pages.csv", &table);
    folder.write("pages.csv.zst", zstd::encode_all(table.as_bytes(), 1).unwrap());
    for (source, out) in [("pages.csv", "a"), ("pages.csv.zst", "b"), ("-", "c")] {
        folder.write("plan.toml", plan(&format!("csv = \"{source}\""), out));
        let mut command = tricorne(["run", "--quiet", "plan.toml"]);
        command.current_dir(folder.path("."));
        let ran = if source == "-" { run_with_input(command, table.as_bytes()) } else { run(command) };
        ran.expect(0);
    }
    let of_file = rows(&folder.path("a"));
    assert_eq!(of_file[1]["extra"], serde_json::json!({ "rank": "1" }));
    assert_eq!(of_file[1]["url"], urls.lines().nth(1).unwrap());
    assert_eq!(data_set(&folder.path("b")), data_set(&folder.path("a")));
    assert_eq!(data_set(&folder.path("c")), data_set(&folder.path("a")));
}

//! Kill -9 at any moment costs what was in flight and no more, and the same command goes on to the bytes of a
//! calm run. The server counts the requests.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use support::{Folder, Running, assert_same_data, calm_site, data_set, json_file, run, tricorne, until};
use tricorne_loopback::Server;

/// Requests in flight at the most, so also pages that a kill may cost.
const IN_FLIGHT: u64 = 16;
/// URLs of different pages, and URLs of pages that the list has already.
const PAGES: usize = 120;
const REPEATED: usize = 20;
const RECORDS: u64 = (PAGES + REPEATED) as u64;
const LATENCY: Duration = Duration::from_millis(40);
/// Kills spread evenly over the time of a calm run.
const POINTS: u32 = 20;

/// Each test uses the whole machine and compares times: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Job {
    folder: Folder,
    server: Server,
}

impl Job {
    fn new() -> Job {
        let (folder, server) = (Folder::new(), calm_site(LATENCY));
        let again = (0..REPEATED).map(|number| server.url(&format!("/page/{}?again\n", number * 5)));
        folder.write("urls.txt", support::url_list(&server, PAGES) + &again.collect::<String>());
        folder.write(
            "plan.toml",
            format!(
                r#"
                [source]
                urls = "urls.txt"
                [fetch]
                concurrency = {IN_FLIGHT}
                per_host = {IN_FLIGHT}
                [[stage]]
                use = "extract"
                [[stage]]
                use = "clean"
                [[stage]]
                use = "features"
                [[stage]]
                use = "filter"
                where = "word_count >= 20"
                [[stage]]
                use = "dedup"
                [sink]
                path = "out"
                records_per_shard = 10
                [run]
                workers = 2
                "#
            ),
        );
        Job { folder, server }
    }

    fn command(&self, out: &Path) -> Command {
        let mut command = tricorne(["run", "--quiet", "-o"]);
        command.arg(out).arg(self.folder.path("plan.toml"));
        command
    }
}

#[test]
fn twenty_kills_spread_over_the_run_cost_only_what_was_in_flight() {
    let _alone = alone();
    let job = Job::new();
    let calm_out = job.folder.path("calm");
    let calm_time = run(job.command(&calm_out)).expect(0).took;
    let calm = data_set(&calm_out);
    assert_eq!(job.server.total_requests(), RECORDS);

    let mut most = 0;
    for point in 0..POINTS {
        let mut at = calm_time * (2 * point + 1) / (2 * POINTS);
        let when = format!("kill {} of {POINTS}, after {at:?} of {calm_time:?}", point + 1);
        let mut tries = 0;
        let out = loop {
            let out = job.folder.path(&format!("killed-{point}-{tries}"));
            job.server.reset_counts();
            let running = Running::start(job.command(&out));
            std::thread::sleep(at.saturating_sub(running.elapsed()));
            if running.kill() {
                break out;
            }
            // This run was faster than the calm one and had ended already.
            tries += 1;
            assert!(tries < 10, "{when}: every run ends before it");
            at = at * 9 / 10;
        };
        assert!(job.server.wait_idle(support::LIMIT));
        let before = job.server.total_requests();

        run(job.command(&out)).expect(0);
        let again = job.server.total_requests() - RECORDS;
        most = most.max(again);
        assert!(again <= IN_FLIGHT, "{when}: {again} of {before} pages were fetched again");
        let reported = json_file(&out.join("run.json"))["refetched"].as_u64().expect("a number");
        assert!(reported <= IN_FLIGHT, "{when}: run.json says {reported}");
        assert_same_data(&calm, &data_set(&out), &when);
    }
    println!("{POINTS} kills over {calm_time:?}: at most {most} of {RECORDS} pages were fetched again");
}

#[test]
fn kills_in_the_middle_of_commits_and_of_publishing() {
    const WANTED: usize = 3;
    let _alone = alone();
    let job = Job::new();
    let calm_out = job.folder.path("calm");
    run(job.command(&calm_out)).expect(0);
    job.server.reset_counts();

    // One folder, killed again and again on its way to the end.
    let out = job.folder.path("killed");
    let (mut kills, mut in_commit, mut in_publish) = (0, 0, 0);
    for _ in 0..60 {
        let looked_for = if in_commit < WANTED { half_committed } else { half_published };
        let known = looked_for(&out);
        let mut running = Running::start(job.command(&out));
        let reached = until("the end of the run", || {
            if looked_for(&out).difference(&known).next().is_some() {
                return Some(true);
            }
            running.child.try_wait().expect("a child of ours").map(|_| false)
        });
        if !reached {
            break;
        }
        kills += u64::from(running.kill());
        // The kill may have come a moment too late for what it was meant to hit.
        let hit = usize::from(looked_for(&out).difference(&known).next().is_some());
        if in_commit < WANTED {
            in_commit += hit;
        } else {
            in_publish += hit;
            if in_publish == WANTED {
                break;
            }
        }
    }
    assert_eq!((in_commit, in_publish), (WANTED, WANTED), "{kills} kills did not hit often enough");

    assert!(job.server.wait_idle(support::LIMIT));
    run(job.command(&out)).expect(0);
    let again = job.server.total_requests() - RECORDS;
    assert!(again <= IN_FLIGHT * kills, "{again} pages were fetched again after {kills} kills");
    assert_same_data(&data_set(&calm_out), &data_set(&out), "after kills in commits");
    println!(
        "{kills} kills, {in_commit} in commits, {in_publish} in publishing: {again} pages fetched again"
    );
}

/// Shards whose side files are there but whose commit record is not: a commit is under way, or was.
fn half_committed(out: &Path) -> BTreeSet<String> {
    let names = names(&out.join(".tricorne/shards"));
    let side = names.iter().filter_map(|name| name.split_once(".g1.keys"));
    side.map(|(shard, _)| shard.to_owned())
        .filter(|shard| !names.contains(&format!("{shard}.json")))
        .collect()
}

/// Shards that stand in the output folder while there is no manifest yet.
fn half_published(out: &Path) -> BTreeSet<String> {
    let names = names(out);
    if names.contains("manifest.json") {
        return BTreeSet::new();
    }
    names.into_iter().filter(|name| name.starts_with("shard-")).collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

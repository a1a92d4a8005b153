//! The thread that looks on: progress for the observer, samples for the report, and the watchdog.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Pages, Run, lock};
use crate::observer::{Event, Snapshot};
use crate::report::{FetchStats, InFlightSample};

const TICK: Duration = Duration::from_millis(100);
/// Samples that are kept; when there are more, every other one goes.
const SAMPLES: usize = 600;
/// How many things in work the watchdog names.
const NAMED: usize = 5;

pub(super) fn watch(run: &Arc<Run>) {
    let mut keep_every = 1u64;
    let (mut progress, mut since_progress, mut quiet_since) = (0, Instant::now(), Instant::now());
    let mut last_tick = Instant::now();
    for tick in 0.. {
        let done = run.all_done.wait_timeout(TICK);
        let snapshot = snapshot(run);

        if tick % keep_every == 0 || done {
            let mut samples = lock(&run.samples);
            samples.push(InFlightSample {
                secs: snapshot.elapsed.as_secs_f64(),
                in_flight: snapshot.in_flight,
                limit: snapshot.limit,
            });
            if samples.len() > SAMPLES {
                let mut n = 0;
                samples.retain(|_| {
                    n += 1;
                    n % 2 == 1
                });
                keep_every *= 2;
            }
        }

        // Busy while anything is on its way, starved otherwise; from samples, good to a tick.
        if matches!(run.pages, Pages::Fetched(_)) && run.in_work.fetching() > 0 {
            run.meters.fetch.wall_nanos.add(last_tick.elapsed().as_nanos() as u64);
        }
        last_tick = Instant::now();

        let now = snapshot.read + snapshot.fetched + snapshot.ended() + snapshot.committed_shards;
        if now != progress {
            (progress, since_progress, quiet_since) = (now, Instant::now(), Instant::now());
        } else if quiet_since.elapsed() >= run.watchdog {
            let secs = since_progress.elapsed().as_secs();
            let mut work = run.in_work.stuck(run.watchdog / 2, run.process.stages());
            let more = work.len().saturating_sub(NAMED);
            work.truncate(NAMED);
            if more > 0 {
                work.push(format!("{more} more"));
            }
            if work.is_empty() {
                work.push("no record: waiting for the source or the disk".into());
            }
            run.observer.event(&Event::Stuck { secs, work });
            quiet_since = Instant::now(); // say it again only after as long again
        }
        run.observer.tick(&snapshot);
        if done {
            break;
        }
    }
}

fn snapshot(run: &Run) -> Snapshot {
    let counters = &run.counters;
    let fetch = match &run.pages {
        Pages::Fetched(fetch) => fetch.stats(),
        Pages::Local(_) => FetchStats::default(),
    };
    Snapshot {
        elapsed: run.begun.elapsed(),
        read: counters.read.get(),
        read_all: counters.read_all.load(Ordering::Relaxed),
        resumed: counters.resumed.get(),
        fetched: counters.fetched.get(),
        bytes: counters.bytes.get(),
        waiting_for_text: run.texts.len() as u64,
        rows: counters.rows.get(),
        dropped: counters.dropped.get(),
        failed: counters.failed.get(),
        in_flight: fetch.in_flight,
        limit: fetch.limit,
        retries: fetch.retries_total(),
        committed_shards: counters.committed.get(),
    }
}

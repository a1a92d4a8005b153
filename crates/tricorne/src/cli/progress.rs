//! Progress on stderr while a run goes on: live bars, plain lines or JSON lines.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tricorne_pipeline::observer::{Event, Observer, Snapshot};
use tricorne_pipeline::plan::Plan;

use super::args::ProgressArg;
use super::output::{bytes, count, plural};

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Between two JSON lines.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How progress looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Bar,
    Plain,
    Json,
    None,
}

impl Look {
    pub(super) fn choose(arg: Option<ProgressArg>, quiet: bool) -> Look {
        match arg {
            Some(ProgressArg::Bar) => Look::Bar,
            Some(ProgressArg::Plain) => Look::Plain,
            Some(ProgressArg::Json) => Look::Json,
            Some(ProgressArg::None) => Look::None,
            None if quiet => Look::None,
            None if std::io::stderr().is_terminal() => Look::Bar,
            None => Look::Plain,
        }
    }
}

/// An observer that shows what it is told.
pub(super) trait Progress: Observer {
    /// The run has ended: leave the terminal as it was.
    fn end(&self);
}

pub(super) fn observer(look: Look, plan: &Plan) -> Arc<dyn Progress> {
    match look {
        Look::Bar => Arc::new(Bars::new(plan)),
        Look::Plain => Arc::new(Lines { json: false, last: Mutex::default() }),
        Look::Json => Arc::new(Lines { json: true, last: Mutex::default() }),
        Look::None => Arc::new(Nothing),
    }
}

struct Nothing;

impl Observer for Nothing {}
impl Progress for Nothing {
    fn end(&self) {}
}

// ---- lines --------------------------------------------------------------------------------------

struct Lines {
    json: bool,
    last: Mutex<Option<Instant>>,
}

impl Observer for Lines {
    fn tick(&self, now: &Snapshot) {
        let every = if self.json { JSON_EVERY } else { PLAIN_EVERY };
        let mut last = lock(&self.last);
        if last.get_or_insert_with(Instant::now).elapsed() < every {
            return;
        }
        *last = Some(Instant::now());
        if self.json {
            to_stderr(&json!({"event": "progress", "progress": now}).to_string());
        } else {
            to_stderr(&plain(now));
        }
    }

    fn event(&self, event: &Event) {
        if self.json {
            to_stderr(&serde_json::to_string(event).expect("an event has a JSON form"));
        } else if let Some(text) = in_words(event) {
            to_stderr(&text);
        }
    }
}

impl Progress for Lines {
    fn end(&self) {}
}

fn plain(now: &Snapshot) -> String {
    let total = if now.read_all { format!(" of {}", count(now.read)) } else { String::new() };
    let rate = now.fetched as f64 / now.elapsed.as_secs_f64().max(0.001);
    format!(
        "{:>6.0} s  {}{total} records done, {} in flight, {} fetched ({}, {rate:.0} pages/s), {}, {} dropped, {} failed",
        now.elapsed.as_secs_f64(),
        count(now.ended()),
        now.in_flight,
        count(now.fetched),
        bytes(now.bytes),
        plural(now.rows, "row"),
        count(now.dropped),
        count(now.failed),
    )
}

/// What a person wants to know of an event; `None` for those that the counters show anyway.
fn in_words(event: &Event) -> Option<String> {
    match event {
        Event::Resumed { committed_shards, open_shards } => Some(format!(
            "going on from an earlier run: {} committed, {} open",
            plural(*committed_shards, "shard"),
            count(*open_shards)
        )),
        Event::Stuck { secs, work } => {
            Some(format!("no progress for {secs} s; in work: {}", work.join("; ")))
        }
        _ => None,
    }
}

// ---- bars ---------------------------------------------------------------------------------------

struct Bars {
    all: MultiProgress,
    /// `None` without a network stage.
    fetch: Option<ProgressBar>,
    text: ProgressBar,
    sink: ProgressBar,
}

impl Bars {
    fn new(plan: &Plan) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let bar = |name: &'static str| {
            let bar = all.add(ProgressBar::new(0));
            bar.set_style(
                ProgressStyle::with_template("{prefix:>6} {bar:24} {pos:>7}/{len:<7} {msg}")
                    .expect("the template is well-formed"),
            );
            bar.set_prefix(name);
            bar
        };
        let fetch = plan.fetch.is_some().then(|| bar("fetch"));
        Bars { fetch, text: bar("text"), sink: bar("sink"), all }
    }
}

impl Observer for Bars {
    fn tick(&self, now: &Snapshot) {
        // Until the source is read, the total is what is known so far.
        let total = now.read;
        let per_sec = |value: u64| value as f64 / now.elapsed.as_secs_f64().max(0.001);
        if let Some(fetch) = &self.fetch {
            fetch.set_length(total);
            fetch.set_position(now.fetched + now.resumed);
            let retries = if now.retries > 0 {
                format!(", {}", plural(now.retries, "retry").replace("retrys", "retries"))
            } else {
                String::new()
            };
            fetch.set_message(format!(
                "{} at {}/s, {} of {} in flight{retries}",
                bytes(now.bytes),
                bytes(per_sec(now.bytes) as u64),
                now.in_flight,
                now.limit,
            ));
        }
        self.text.set_length(total);
        self.text.set_position(now.ended());
        self.text.set_message(format!(
            "{:.0} pages/s, {} waiting, {} dropped, {} failed",
            per_sec(now.rows + now.dropped + now.failed),
            now.waiting_for_text,
            now.dropped,
            now.failed
        ));
        self.sink.set_length(total);
        self.sink.set_position(now.rows + now.resumed);
        self.sink.set_message(format!("{} committed", plural(now.committed_shards, "shard")));
    }

    fn event(&self, event: &Event) {
        if let Some(text) = in_words(event) {
            let _ = self.all.println(text);
        }
    }
}

impl Progress for Bars {
    fn end(&self) {
        for bar in self.fetch.iter().chain([&self.text, &self.sink]) {
            bar.finish_and_clear();
        }
        let _ = self.all.clear();
    }
}

fn to_stderr(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

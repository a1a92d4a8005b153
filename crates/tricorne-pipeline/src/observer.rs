//! How a run reports while it goes on: the engine never prints, it tells an observer.

use std::time::Duration;

use serde::Serialize;

/// Is told what happens. Called from engine threads; must not block for long.
pub trait Observer: Send + Sync {
    /// Several times a second.
    fn tick(&self, _snapshot: &Snapshot) {}
    /// Something happened that a person may want to know at once.
    fn event(&self, _event: &Event) {}
}

/// An observer that looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// A moment of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The output folder holds the progress of an earlier run.
    Resumed {
        /// Shards that are committed already.
        committed_shards: u64,
        /// Shards that were open.
        open_shards: u64,
    },
    /// Nothing has moved for a while; names what is being waited for, longest first.
    Stuck {
        /// How long nothing has moved.
        secs: u64,
        /// The records and stages in work.
        work: Vec<String>,
    },
    /// A shard is safe on disk.
    Committed {
        /// Its number.
        shard: u64,
        /// Its rows before dedup.
        rows: u64,
    },
    /// All shards are committed; duplicates are looked for and shards published.
    Finishing,
}

/// The state of a run at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Since the run began; in JSON `elapsed_secs`.
    #[serde(rename = "elapsed_secs", serialize_with = "as_secs")]
    pub elapsed: Duration,
    /// Records read from the source.
    pub read: u64,
    /// True when the source has been read to its end, so that `read` is the total.
    pub read_all: bool,
    /// Records that an earlier run had finished.
    pub resumed: u64,
    /// Pages received in this run.
    pub fetched: u64,
    /// Bytes of those pages, after content decoding.
    pub bytes: u64,
    /// Pages journalled but not through the text stages yet.
    pub waiting_for_text: u64,
    /// Rows made in this run, before dedup.
    pub rows: u64,
    /// Records dropped in this run.
    pub dropped: u64,
    /// Records failed in this run.
    pub failed: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// How many may be under way now.
    pub limit: u64,
    /// Retries so far.
    pub retries: u64,
    /// Shards committed, with those of earlier runs.
    pub committed_shards: u64,
}

impl Snapshot {
    /// Records that have ended, with those of earlier runs.
    pub fn ended(&self) -> u64 {
        self.resumed + self.rows + self.dropped + self.failed
    }
}

fn as_secs<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

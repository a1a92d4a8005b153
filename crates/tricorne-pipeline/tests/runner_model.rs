//! The runner, journal and commit protocol as a model: made-up pages, random latencies and faults, a
//! kill at every step. Whatever happens, the bytes are those of one calm run.
//!
//! What is real: runner, journal, commit, publish, Parquet and JSONL. What is made up: the source, the network, the
//! text work and the file system ([`MemoryFiles`]), which checks the order of syncs as it goes.

#[path = "support/memory_files.rs"]
mod memory_files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use memory_files::MemoryFiles;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tricorne_pipeline::CancelToken;
use tricorne_pipeline::error::RunError;
use tricorne_pipeline::observer::{Event, Observer, Silent};
use tricorne_pipeline::plan::{DedupKey, Format};
use tricorne_pipeline::record::{Failure, Input, Outcome, Page, Record, Row, StoredPage};
use tricorne_pipeline::report::{FetchStats, RunReport};
use tricorne_pipeline::runner::{
    BoxFuture, Engine, Fetch, Load, Pages, Phase, Process, Source, StageClock, Worker,
};
use tricorne_pipeline::sink::{Column, SinkSpec};
use tricorne_sync::Semaphore;

const IN_FLIGHT: usize = 8;

struct Numbers {
    next: u64,
    count: u64,
    changed: Option<u64>,
}

impl Source for Numbers {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        if self.next == self.count {
            return Ok(None);
        }
        let id = self.next;
        self.next += 1;
        let word = if self.changed == Some(id) { "other" } else { "page" };
        let record = Record { id, url: format!("http://model/{word}/{id}"), extra: None };
        let problem = (id % 97 == 96).then(|| Failure {
            stage: "source".into(),
            kind: "not_utf8".into(),
            message: format!("line {id} is not UTF-8"),
            attempts: 0,
        });
        Ok(Some(Input { record, problem }))
    }
    fn name(&self) -> String {
        "numbers".into()
    }
}

/// The model's network: what it does to a record depends on seed, id and try.
struct Network {
    seed: u64,
    /// Some records fail until this is set.
    healed: AtomicBool,
    latency: bool,
    permits: Arc<Semaphore>,
    /// Where the process may have been killed: then nothing is fetched any more.
    files: Mutex<MemoryFiles>,
    fetches: Mutex<BTreeMap<u64, u64>>,
}

impl Network {
    fn new(seed: u64, latency: bool) -> Arc<Self> {
        Arc::new(Network {
            seed,
            healed: AtomicBool::new(false),
            latency,
            permits: Arc::new(Semaphore::new(IN_FLIGHT)),
            files: Mutex::default(),
            fetches: Mutex::default(),
        })
    }
    fn healed(seed: u64, latency: bool) -> Arc<Self> {
        let network = Network::new(seed, latency);
        network.healed.store(true, Ordering::SeqCst);
        network
    }
    fn total(&self) -> u64 {
        self.fetches.lock().unwrap().values().sum()
    }
}

fn mix(seed: u64, id: u64) -> u64 {
    let mut x = seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Fetch for Network {
    fn fetch<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Page, Failure>> {
        Box::pin(async move {
            let permit = self.permits.acquire_owned_async(1).await.unwrap();
            if self.files.lock().unwrap().is_dead() {
                return std::future::pending().await;
            }
            let tries = {
                let mut fetches = self.fetches.lock().unwrap();
                let count = fetches.entry(record.id).or_default();
                *count += 1;
                *count
            };
            let dice = mix(self.seed, record.id);
            if self.latency {
                let micros = mix(self.seed ^ tries, record.id) % 2000;
                tokio::time::sleep(Duration::from_micros(micros)).await;
            } else if dice.is_multiple_of(3) {
                tokio::task::yield_now().await;
            }
            if dice.is_multiple_of(11) && !self.healed.load(Ordering::SeqCst) {
                return Err(Failure {
                    stage: "fetch".into(),
                    kind: "status_503".into(),
                    message: "the server is ill".into(),
                    attempts: 6,
                });
            }
            // Every fifth page says what another one says: duplicates, across shards too.
            let says = if dice.is_multiple_of(5) { dice % 7 } else { record.id + 1000 };
            let body = Bytes::from(format!("{says} ").repeat(1 + (dice % 40) as usize));
            let body = if dice.is_multiple_of(5) { Bytes::from(format!("{says} again")) } else { body };
            Ok(Page {
                final_url: Some(record.url.clone()),
                status: Some(200),
                content_type: Some("text/plain".into()),
                body,
                attempts: 1,
                guard: Some(Box::new(permit)),
            })
        })
    }
    fn stats(&self) -> FetchStats {
        FetchStats::default()
    }
}

/// Counts words, in a stage of the text workers or, without one, in the thread of the journal.
struct Words {
    staged: bool,
}

impl Process for Words {
    fn stages(&self) -> &[&'static str] {
        if self.staged { &["words"] } else { &[] }
    }
    fn worker(&self) -> Box<dyn Worker> {
        Box::new(WordsWorker { staged: self.staged })
    }
}

struct WordsWorker {
    staged: bool,
}

impl Worker for WordsWorker {
    fn process(
        &mut self,
        record: &Record,
        page: StoredPage,
        clock: &mut StageClock<'_>,
    ) -> Result<Outcome, RunError> {
        if self.staged {
            clock.enter(0);
        }
        let text = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(record.id % 101 != 100, "a page that the text work panics on");
        let words = text.split(' ').count() as u64;
        if words.is_multiple_of(13) {
            return Ok(Outcome::Drop("filter: words % 13".into()));
        }
        Ok(Outcome::Row(Box::new(Row {
            id: record.id,
            url: record.url.clone(),
            final_url: page.final_url,
            status: page.status,
            bytes: page.body.len() as u64,
            sha256: page.sha256,
            text: Some(text),
            word_count: Some(words),
            ..Row::default()
        })))
    }
}

#[derive(Clone)]
struct Setup {
    records: u64,
    records_per_shard: u64,
    format: Format,
    dedup: Option<DedupKey>,
    workers: usize,
    columns: &'static [Column],
    staged: bool,
}

const COLUMNS: &[Column] = &[
    Column::Id,
    Column::Url,
    Column::FinalUrl,
    Column::Status,
    Column::Bytes,
    Column::Sha256,
    Column::Text,
    Column::WordCount,
];
/// Not the text, which dedup may still compare.
const FEW_COLUMNS: &[Column] = &[Column::WordCount, Column::Id];

const OUT: &str = "/out";

impl Setup {
    fn engine(&self, files: &MemoryFiles, network: &Arc<Network>) -> Engine {
        Engine {
            files: Arc::new(files.clone()),
            out: PathBuf::from(OUT),
            sink: SinkSpec {
                format: self.format,
                columns: self.columns.to_vec(),
                zstd_level: 1,
                row_group_rows: 10,
                metadata: vec![("tricorne.plan_hash".into(), "model".into())],
            },
            dedup: self.dedup,
            records_per_shard: self.records_per_shard,
            plan_hash: "model".into(),
            shape: serde_json::json!({"sink": {"records_per_shard": self.records_per_shard}}),
            unicode_version: "model".into(),
            pages: Pages::Fetched(Arc::clone(network) as Arc<dyn Fetch>),
            process: Arc::new(Words { staged: self.staged }),
            workers: self.workers,
            max_pending: 32,
            watchdog: Duration::from_secs(60),
            retry_failed: false,
            last_phase: Phase::Sink,
        }
    }

    fn source(&self) -> Box<dyn Source> {
        Box::new(Numbers { next: 0, count: self.records, changed: None })
    }

    fn run(
        &self,
        files: &MemoryFiles,
        network: &Arc<Network>,
        retry_failed: bool,
    ) -> Result<RunReport, RunError> {
        *network.files.lock().unwrap() = files.clone();
        let mut engine = self.engine(files, network);
        engine.retry_failed = retry_failed;
        run_engine(&engine, self.source())
    }

    /// The result of one calm run in which nothing failed that can succeed.
    fn calm(&self, seed: u64) -> BTreeMap<String, Vec<u8>> {
        let files = MemoryFiles::default();
        self.run(&files, &Network::healed(seed, false), false).unwrap();
        assert_eq!(files.violations(), Vec::<String>::new());
        results(&files)
    }
}

fn run_engine(engine: &Engine, source: Box<dyn Source>) -> Result<RunReport, RunError> {
    let observer: Arc<dyn Observer> = Arc::new(Silent);
    engine.run(source, &observer, &CancelToken::new())
}

/// Everything in the output folder that has to be the same, whatever happened.
fn results(files: &MemoryFiles) -> BTreeMap<String, Vec<u8>> {
    let mut files = files.files_in(Path::new(OUT));
    files.remove("run.json");
    files
}

fn assert_same(expected: &BTreeMap<String, Vec<u8>>, actual: &BTreeMap<String, Vec<u8>>, what: &str) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(expected), names(actual), "{what}");
    for (name, bytes) in expected {
        assert!(*bytes == actual[name], "{what}: {name} differs");
    }
}

/// A manifest that stands in the folder is true, whenever somebody looks.
fn assert_true_manifest(files: &MemoryFiles, what: &str) {
    let found = results(files);
    let Some(manifest) = found.get("manifest.json") else { return };
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    for shard in manifest["shards"].as_array().unwrap() {
        let digest = Sha256::digest(&found[shard["file"].as_str().unwrap()]);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shard["sha256"], digest, "{what}: {shard}");
    }
}

/// Runs, killed at each of `kills` (steps from the start of each run), until a run gets through.
fn run_with_kills(
    setup: &Setup,
    files: &MemoryFiles,
    network: &Arc<Network>,
    kills: &[u64],
    retry: bool,
    power: bool,
) {
    for &kill in kills {
        files.die_at(kill);
        let result = setup.run(files, network, retry);
        if !files.is_dead() {
            assert!(result.is_ok(), "{result:?}");
        }
        files.revive();
        assert_true_manifest(files, &format!("killed at {kill}"));
        if power {
            files.power_loss();
            assert_true_manifest(files, &format!("power cut at {kill}"));
        }
    }
    setup.run(files, network, retry).unwrap();
    assert_true_manifest(files, "in the end");
    assert_eq!(files.violations(), Vec::<String>::new());
}

fn hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn setup(format: Format, dedup: Option<DedupKey>) -> Setup {
    Setup { records: 1000, records_per_shard: 64, format, dedup, workers: 2, columns: COLUMNS, staged: true }
}

#[test]
fn a_run_makes_what_a_simple_loop_makes() {
    let setup = Setup { dedup: Some(DedupKey::Text), ..setup(Format::Jsonl, None) };
    let files = MemoryFiles::default();
    let report = setup.run(&files, &Network::healed(1, true), false).unwrap();

    // The same, said simply.
    let mut seen = std::collections::BTreeSet::new();
    let (mut rows, mut dropped, mut duplicates, mut failed) = (Vec::new(), 0, 0, 0);
    for id in 0..setup.records {
        if id % 97 == 96 || id % 101 == 100 {
            failed += 1;
            continue;
        }
        let dice = mix(1, id);
        let text = if dice.is_multiple_of(5) {
            format!("{} again", dice % 7)
        } else {
            format!("{} ", id + 1000).repeat(1 + (dice % 40) as usize)
        };
        if text.split(' ').count().is_multiple_of(13) {
            dropped += 1;
        } else if seen.insert(text.clone()) {
            rows.push((id, text));
        } else {
            duplicates += 1;
        }
    }
    let mut made = Vec::new();
    for (name, bytes) in results(&files).iter().filter(|(name, _)| name.starts_with("shard-")) {
        let number: u64 = name["shard-".len()..][..5].parse().unwrap();
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let row: serde_json::Value = serde_json::from_slice(line).unwrap();
            let (id, text) = (row["id"].as_u64().unwrap(), row["text"].as_str().unwrap().to_owned());
            assert_eq!(id / 64, number);
            assert_eq!(row["sha256"], hex(&text));
            made.push((id, text));
        }
    }
    assert_eq!(made, rows);
    assert_eq!(report.rows, rows.len() as u64);
    assert_eq!(report.dropped_total(), dropped + duplicates);
    assert_eq!(report.dropped["duplicate"], duplicates);
    assert_eq!(report.failed_total(), failed);
    assert_eq!(report.rows + report.dropped_total() + report.failed_total(), setup.records);
    let failures = String::from_utf8(results(&files)["failed.jsonl"].clone()).unwrap();
    assert_eq!(failures.lines().count() as u64, failed);
    assert!(failures.contains("a page that the text work panics on"));
}

#[test]
fn rows_without_their_text_are_the_same_rows() {
    for dedup in [None, Some(DedupKey::Text)] {
        let calm = |columns| {
            let calm = Setup { columns, ..setup(Format::Jsonl, dedup) }.calm(1);
            let shards = calm.into_iter().filter(|(name, _)| name.starts_with("shard-"));
            let lines: Vec<serde_json::Value> = shards
                .flat_map(|(_, bytes)| {
                    serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Vec<_>>()
                })
                .map(Result::unwrap)
                .collect();
            lines
        };
        let expected: Vec<_> = calm(COLUMNS)
            .iter()
            .map(|row| serde_json::json!({"word_count": row["word_count"], "id": row["id"]}))
            .collect();
        let few = calm(FEW_COLUMNS);
        assert_eq!(few, expected);
        assert!(few[0].to_string().starts_with("{\"word_count\":"), "{}", few[0]);
    }
}

#[test]
fn concurrency_and_timing_do_not_change_the_bytes() {
    for format in [Format::Jsonl, Format::JsonlZst, Format::Parquet] {
        let calm = setup(format, Some(DedupKey::Text)).calm(7);
        for workers in [1, 5] {
            let setup = Setup { workers, ..setup(format, Some(DedupKey::Text)) };
            let files = MemoryFiles::default();
            setup.run(&files, &Network::healed(7, true), false).unwrap();
            assert_same(&calm, &results(&files), "other timing");
        }
    }
}

/// Every step of a small run is a place to be killed at.
fn kill_at_every_step(setup: &Setup, power: bool) {
    let calm = setup.calm(3);
    let counting = MemoryFiles::default();
    setup.run(&counting, &Network::healed(3, false), false).unwrap();
    let steps = counting.steps();
    for step in 0..=steps {
        let files = MemoryFiles::default();
        let network = Network::healed(3, false);
        run_with_kills(setup, &files, &network, &[step], false, power);
        assert_same(&calm, &results(&files), &format!("killed at step {step} of {steps}"));
        if !power {
            let lost = network.total() - network.fetches.lock().unwrap().len() as u64;
            assert!(lost <= IN_FLIGHT as u64, "{lost} fetched again after a kill at step {step}");
        }
    }
}

fn small(dedup: Option<DedupKey>) -> Setup {
    Setup {
        records: 50,
        records_per_shard: 16,
        format: Format::Jsonl,
        dedup,
        workers: 2,
        columns: COLUMNS,
        staged: true,
    }
}

#[test]
fn a_kill_at_any_step_costs_what_was_in_flight_and_no_byte() {
    kill_at_every_step(&small(Some(DedupKey::Text)), false);
}

#[test]
fn a_kill_at_any_step_without_dedup() {
    kill_at_every_step(&small(None), false);
}

#[test]
fn a_kill_at_any_step_without_text_stages() {
    kill_at_every_step(&Setup { staged: false, ..small(Some(DedupKey::Text)) }, false);
}

#[test]
fn text_stages_in_the_journal_thread_make_the_same() {
    let staged = setup(Format::Jsonl, Some(DedupKey::Text));
    let files = MemoryFiles::default();
    let fused = Setup { staged: false, ..staged.clone() };
    fused.run(&files, &Network::healed(7, true), false).unwrap();
    assert_same(&staged.calm(7), &results(&files), "without a text worker");
}

#[test]
fn a_power_cut_at_any_step_costs_no_byte() {
    kill_at_every_step(&small(Some(DedupKey::Sha256)), true);
}

fn kill_a_retry_at_every_step(setup: &Setup, power: bool) {
    let calm = setup.calm(5);
    let after_failures = |network: &Arc<Network>| {
        let files = MemoryFiles::default();
        let report = setup.run(&files, network, false).unwrap();
        assert!(report.failed["fetch: status_503"] > 1);
        network.healed.store(true, Ordering::SeqCst);
        files
    };
    let network = Network::new(5, false);
    let files = after_failures(&network);
    let before = files.steps();
    setup.run(&files, &network, true).unwrap();
    assert_same(&calm, &results(&files), "retried");
    let steps = files.steps() - before;
    for step in 0..=steps {
        for plain_run_between in [false, true] {
            let network = Network::new(5, false);
            let files = after_failures(&network);
            files.die_at(step);
            let _ = setup.run(&files, &network, true);
            files.revive();
            if power {
                files.power_loss();
            }
            assert_true_manifest(&files, &format!("retry killed at step {step} of {steps}"));
            if plain_run_between {
                setup.run(&files, &network, false).unwrap();
                assert_true_manifest(&files, &format!("a plain run after the kill at {step}"));
            }
            run_with_kills(setup, &files, &network, &[], true, false);
            assert_same(&calm, &results(&files), &format!("retry killed at step {step} of {steps}"));
        }
    }
}

#[test]
fn a_retry_killed_at_any_step_ends_as_if_all_had_gone_well() {
    kill_a_retry_at_every_step(&small(Some(DedupKey::Text)), false);
}

#[test]
fn a_retry_without_dedup_killed_at_any_step() {
    kill_a_retry_at_every_step(&small(None), false);
}

#[test]
fn a_retry_cut_off_from_power_at_any_step() {
    kill_a_retry_at_every_step(&Setup { columns: FEW_COLUMNS, ..small(Some(DedupKey::Text)) }, true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// A thousand records, faults that heal, several kills anywhere, retries: the bytes never differ.
    #[test]
    fn the_bytes_never_differ(
        seed in any::<u64>(),
        kills in proptest::collection::vec(0..3000u64, 0..4),
        retry_kills in proptest::collection::vec(0..400u64, 0..3),
        parquet in any::<bool>(),
        dedup in prop_oneof![Just(None), Just(Some(DedupKey::Text)), Just(Some(DedupKey::Sha256))],
        records_per_shard in prop_oneof![Just(7u64), Just(64), Just(333), Just(5000)],
        workers in 1..4usize,
        power in any::<bool>(),
        few_columns in any::<bool>(),
    ) {
        let format = if parquet { Format::Parquet } else { Format::Jsonl };
        let columns = if few_columns { FEW_COLUMNS } else { COLUMNS };
        let setup = Setup { records: 1000, records_per_shard, format, dedup, workers, columns, staged: true };
        let calm = setup.calm(seed);
        let files = MemoryFiles::default();
        let network = Network::new(seed, true);
        run_with_kills(&setup, &files, &network, &kills, false, power);
        network.healed.store(true, Ordering::SeqCst);
        let setup = Setup { workers: 4 - workers, ..setup };
        run_with_kills(&setup, &files, &network, &retry_kills, true, power);
        assert_same(&calm, &results(&files), "after faults, kills and retries");
    }
}

/// `TRICORNE_DEEP` runs many more.
fn cases() -> u32 {
    if std::env::var_os("TRICORNE_DEEP").is_some() { 300 } else { 12 }
}

#[test]
fn a_full_disk_is_said_and_harms_nothing() {
    let setup = small(Some(DedupKey::Text));
    let calm = setup.calm(9);
    for room in (0..30_000).step_by(1500) {
        let files = MemoryFiles::default();
        let network = Network::healed(9, false);
        files.set_room(Some(room));
        match setup.run(&files, &network, false) {
            Ok(_) => {}
            Err(error) => {
                assert!(error.is_no_space(), "{error:?}");
                assert!(error.hint().unwrap().contains("make room"), "{error:?}");
            }
        }
        files.set_room(None);
        setup.run(&files, &network, false).unwrap();
        assert_eq!(files.violations(), Vec::<String>::new());
        assert_same(&calm, &results(&files), &format!("after a full disk at {room} bytes"));
    }
}

#[test]
fn a_finished_run_again_fetches_nothing_and_changes_nothing() {
    let setup = setup(Format::Parquet, Some(DedupKey::Text));
    let files = MemoryFiles::default();
    let network = Network::healed(2, false);
    setup.run(&files, &network, false).unwrap();
    let (first, fetched) = (results(&files), network.total());
    let report = setup.run(&files, &network, false).unwrap();
    assert_same(&first, &results(&files), "run again");
    assert_eq!(network.total(), fetched);
    assert_eq!((report.resumed, report.fetched), (setup.records, 0));
}

#[test]
fn a_run_cut_into_phases_makes_the_same() {
    let setup = setup(Format::Parquet, Some(DedupKey::Text));
    let calm = setup.calm(4);
    let files = MemoryFiles::default();
    let network = Network::healed(4, false);
    for phase in [Phase::Fetch, Phase::Text, Phase::Sink] {
        let mut engine = setup.engine(&files, &network);
        engine.last_phase = phase;
        run_engine(&engine, setup.source()).unwrap();
    }
    assert_same(&calm, &results(&files), "in phases");
    assert_eq!(network.total(), network.fetches.lock().unwrap().len() as u64);
}

#[test]
fn a_changed_input_is_refused() {
    let setup = setup(Format::Jsonl, None);
    let files = MemoryFiles::default();
    let network = Network::healed(2, false);
    files.die_at(1500);
    setup.run(&files, &network, false).unwrap_err();
    files.revive();
    let before = results(&files);
    for (count, changed) in [(1000, Some(3)), (1000, Some(400)), (40, None)] {
        let engine = setup.engine(&files, &network);
        let error = run_engine(&engine, Box::new(Numbers { next: 0, count, changed })).unwrap_err();
        assert!(matches!(error, RunError::InputChanged { .. }), "{error:?}");
    }
    for (name, bytes) in before {
        assert!(results(&files)[&name] == bytes, "{name} was harmed");
    }
}

#[test]
fn another_plan_another_run_and_foreign_files_are_refused() {
    let setup = small(None);
    let files = MemoryFiles::default();
    let network = Network::healed(2, false);
    setup.run(&files, &network, false).unwrap();
    let mut engine = setup.engine(&files, &network);
    engine.plan_hash = "other".into();
    engine.shape = serde_json::json!({"sink": {"records_per_shard": 17}});
    let error = run_engine(&engine, setup.source()).unwrap_err();
    assert!(error.to_string().contains("records_per_shard"), "{error}");

    let held = tricorne_pipeline::files::Files::lock(&files, Path::new("/out/.tricorne/lock")).unwrap();
    assert!(held.is_some());
    assert!(matches!(setup.run(&files, &network, false), Err(RunError::Locked { .. })));
    drop(held);

    let foreign = MemoryFiles::default();
    let dir = Path::new(OUT);
    tricorne_pipeline::files::Files::create_dir_all(&foreign, dir).unwrap();
    tricorne_pipeline::files::Files::create(&foreign, &dir.join("shard-00000.parquet")).unwrap();
    let error = setup.run(&foreign, &network, false).unwrap_err();
    assert!(matches!(error, RunError::ForeignOutput { .. }), "{error:?}");
}

#[test]
fn an_empty_input_is_said() {
    let setup = Setup { records: 0, ..small(None) };
    let error = setup.run(&MemoryFiles::default(), &Network::healed(1, false), false).unwrap_err();
    assert!(matches!(error, RunError::EmptyInput { .. }), "{error:?}");
}

/// A source that hands out records until it is told to stop: only a cancelled run ends.
#[test]
fn a_cancelled_run_ends_soon_and_goes_on_later() {
    struct Slow(Numbers, CancelToken);
    impl Source for Slow {
        fn next(&mut self) -> Result<Option<Input>, RunError> {
            if self.0.next == 500 {
                self.1.cancel();
            }
            self.0.next()
        }
        fn name(&self) -> String {
            self.0.name()
        }
    }
    let setup = setup(Format::Jsonl, Some(DedupKey::Text));
    let calm = setup.calm(6);
    let files = MemoryFiles::default();
    let network = Network::healed(6, true);
    let cancel = CancelToken::new();
    let source = Slow(Numbers { next: 0, count: 1000, changed: None }, cancel.clone());
    let observer: Arc<dyn Observer> = Arc::new(Silent);
    let report = setup.engine(&files, &network).run(Box::new(source), &observer, &cancel).unwrap();
    assert!(report.interrupted);
    assert!(!results(&files).contains_key("manifest.json"));
    setup.run(&files, &network, false).unwrap();
    assert_same(&calm, &results(&files), "after a cancel");
    let lost = network.total() - network.fetches.lock().unwrap().len() as u64;
    assert!(lost <= IN_FLIGHT as u64, "{lost}");
}

#[test]
fn the_watchdog_names_what_is_stuck() {
    struct Stuck(Arc<tricorne_sync::Event>);
    impl Fetch for Stuck {
        fn fetch<'a>(&'a self, _: &'a Record) -> BoxFuture<'a, Result<Page, Failure>> {
            Box::pin(async {
                self.0.wait_async().await;
                Err(Failure {
                    stage: "fetch".into(),
                    kind: "late".into(),
                    message: String::new(),
                    attempts: 1,
                })
            })
        }
        fn stats(&self) -> FetchStats {
            FetchStats::default()
        }
    }
    struct Listen(Mutex<Vec<Event>>, Arc<tricorne_sync::Event>);
    impl Observer for Listen {
        fn event(&self, event: &Event) {
            if matches!(event, Event::Stuck { .. }) {
                self.1.set();
            }
            self.0.lock().unwrap().push(event.clone());
        }
    }
    let setup = Setup { records: 1, ..small(None) };
    let release = Arc::new(tricorne_sync::Event::new());
    let mut engine = setup.engine(&MemoryFiles::default(), &Network::healed(1, false));
    engine.pages = Pages::Fetched(Arc::new(Stuck(Arc::clone(&release))));
    engine.watchdog = Duration::from_millis(200);
    let listen = Arc::new(Listen(Mutex::default(), release));
    let observer: Arc<dyn Observer> = Arc::clone(&listen) as Arc<dyn Observer>;
    engine.run(setup.source(), &observer, &CancelToken::new()).unwrap();
    let events = listen.0.lock().unwrap();
    let named = events.iter().any(|event| {
        matches!(event, Event::Stuck { work, .. } if work[0].contains("`fetch` of record 0 (`http://model/page/0`)"))
    });
    assert!(named, "{events:?}");
}

/// Local files are not journalled, only what became of them.
#[test]
fn local_pages_resume_too() {
    struct Disk(AtomicU64);
    impl Load for Disk {
        fn load(&self, record: &Record) -> Result<StoredPage, Failure> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let body = Bytes::from(format!("file {}", record.id));
            let sha256 = Sha256::digest(&body).into();
            Ok(StoredPage { final_url: None, status: None, content_type: None, sha256, body, attempts: 0 })
        }
    }
    let setup = small(None);
    let run = |files: &MemoryFiles, disk: &Arc<Disk>| {
        let mut engine = setup.engine(files, &Network::healed(1, false));
        engine.pages = Pages::Local(Arc::clone(disk) as Arc<dyn Load>);
        run_engine(&engine, setup.source())
    };
    let calm = MemoryFiles::default();
    run(&calm, &Arc::new(Disk(AtomicU64::new(0)))).unwrap();
    let files = MemoryFiles::default();
    let disk = Arc::new(Disk(AtomicU64::new(0)));
    files.die_at(40);
    run(&files, &disk).unwrap_err();
    files.revive();
    run(&files, &disk).unwrap();
    assert_same(&results(&calm), &results(&files), "local");
    assert!(disk.0.load(Ordering::SeqCst) <= 50 + 2);
}

/// A first run that failed before it had anything to keep must not lock the folder to its plan.
#[test]
fn a_run_that_kept_nothing_does_not_own_the_folder() {
    let setup = small(None);
    let files = MemoryFiles::default();
    let network = Network::healed(2, false);
    let mut engine = setup.engine(&files, &network);
    engine.plan_hash = "first".into();
    run_engine(&engine, Box::new(Numbers { next: 0, count: 0, changed: None })).unwrap_err();
    setup.run(&files, &network, false).unwrap();
}

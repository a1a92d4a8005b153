//! The resolved plan in TOML parses to the same plan.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tricorne_exec::limit::Rate;

use super::*;
use crate::expr::Expr;

/// Names that a careless printer would get wrong.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[a-z\"'\\\\ #é世=]{0,6}x"]
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![Just(Limit::Auto), (1_usize..4_096).prop_map(fixed)]
}

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![(1_u32..3_600).prop_map(f64::from), 0.001_f64..3_600.0]
}

fn source(base: PathBuf) -> impl Strategy<Value = Source> {
    let parquet = base.join("list.parquet");
    let input = move |name: &'static str| {
        prop_oneof![
            Just(InputPath::Stdin),
            Just(InputPath::File(base.join(name))),
            Just(InputPath::File(base.join("-")))
        ]
    };
    prop_oneof![
        input("a \"list\".txt").prop_map(|path| Source::Urls { path }),
        prop::collection::vec(name(), 1..4).prop_map(Source::UrlList),
        (input("list.jsonl"), name()).prop_map(|(path, url_key)| Source::Jsonl { path, url_key }),
        (input("list.csv"), name(), prop::sample::select(b",;\t|".as_slice()))
            .prop_map(|(path, url_column, delimiter)| Source::Csv { path, url_column, delimiter }),
        name().prop_map(move |url_column| Source::Parquet { path: parquet.clone(), url_column }),
        prop::collection::hash_set("[a-z*/ '\"]{0,6}x", 1..4)
            .prop_map(|patterns| Source::Files { patterns: patterns.into_iter().collect() }),
    ]
}

fn fetch(base: PathBuf) -> impl Strategy<Value = Fetch> {
    let text = || "[!-~]([ -~]{0,8}[!-~])?";
    let headers = prop::collection::btree_map("x-[a-z0-9.!#-]{1,6}", text(), 0..3);
    let times = prop::array::uniform7(seconds());
    let private =
        prop::sample::select(&[PrivateAddresses::Listed, PrivateAddresses::Allow, PrivateAddresses::Refuse]);
    let sizes = (1_u64..1 << 32, 0_u64..4_096);
    let rate = (1_u64..=1_000_000, prop::sample::select(&[1_u64, 60, 3_600]))
        .prop_map(|(amount, secs)| Rate::new(amount, Duration::from_secs(secs)));
    let per_host = (limit(), prop::option::of(rate));
    (limit(), per_host, times, (0_u32..=100, 0_u32..=50), sizes, text(), headers, (any::<bool>(), private))
        .prop_map(
            move |(
                concurrency,
                (per_host, rate_per_host),
                times,
                (retries, max_redirects),
                (body, kib),
                user_agent,
                headers,
                (ca, private_addresses),
            )| Fetch {
                concurrency,
                per_host,
                rate_per_host,
                connect_secs: times[0],
                first_byte_secs: times[1],
                stall_secs: times[2],
                timeout_secs: times[3],
                retries,
                retry_base_secs: times[4].min(times[5]),
                retry_max_secs: times[4].max(times[5]),
                retry_after_max_secs: times[6],
                max_redirects,
                max_body_bytes: body,
                max_decoded_bytes: (kib + 1) << 10,
                user_agent,
                headers: headers.into_iter().collect::<BTreeMap<_, _>>(),
                private_addresses,
                ca_file: ca.then(|| base.join("ca.pem")),
            },
        )
}

/// The conditions are checked against the columns that every plan has.
fn filter() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "id >= 20",
        "url != \"a'b\\\"\" and\n status in [200, 203]",
        "not content_type == 'é\\t'",
    ])
    .prop_map(str::to_owned)
}

fn stages(columns: Vec<crate::expr::Column>) -> impl Strategy<Value = Vec<Stage>> {
    let features = prop::sample::subsequence(Feature::ALL.to_vec(), 1..=5).prop_shuffle();
    let filters = prop::collection::vec(filter(), 0..3);
    (any::<bool>(), any::<bool>(), prop::option::of(features), filters, prop::option::of(any::<bool>()))
        .prop_map(move |(extract, clean, features, filters, dedup)| {
            let mut stages = Vec::new();
            stages.extend(extract.then_some(Stage::Extract));
            stages.extend(clean.then_some(Stage::Clean));
            stages.extend(features.map(|columns| Stage::Features { columns }));
            let makes_text = !stages.is_empty();
            stages.extend(filters.into_iter().map(|source| {
                // The places of these columns depend on whether there is text before them.
                let columns: Vec<_> =
                    columns.iter().filter(|column| makes_text || column.name != "charset").cloned().collect();
                Stage::Filter { expr: Expr::parse(&source, &columns).unwrap(), source }
            }));
            stages.extend(dedup.map(|by_text| Stage::Dedup {
                by: if by_text && makes_text { DedupKey::Text } else { DedupKey::Sha256 },
            }));
            stages
        })
}

fn sink(base: PathBuf) -> impl Strategy<Value = Sink> {
    let path = prop_oneof![name().prop_map(move |name| base.join(name)), Just(PathBuf::from("/data/out")),];
    let format = prop::sample::select(&[Format::Parquet, Format::Jsonl, Format::JsonlZst]);
    (path, format, 1_u64..10_000_000, 1..=22, 1_u64..10_000_000, any::<bool>()).prop_map(
        |(path, format, records_per_shard, compression_level, row_group_rows, keep_pages)| {
            let sink = Sink { format, records_per_shard, keep_pages, ..Sink::new(path) };
            match format {
                Format::Parquet => Sink { compression_level, row_group_rows, ..sink },
                Format::JsonlZst => Sink { compression_level, ..sink },
                _ => sink,
            }
        },
    )
}

fn plan(base: &Path) -> impl Strategy<Value = Plan> + use<> {
    let base = base.to_owned();
    let columns = parse("[source]\nurls = '-'\n[[stage]]\nuse = 'clean'\n[sink]\npath = 'o'\n").columns();
    let run = (limit(), seconds()).prop_map(|(workers, watchdog_secs)| Run { workers, watchdog_secs });
    (source(base.clone()), fetch(base.clone()), stages(columns), sink(base.clone()), run)
        .prop_map(move |(source, fetch, stages, sink, run)| Plan {
            path: "plan.toml".into(),
            base_dir: base.clone(),
            fetch: source.has_urls().then_some(fetch),
            source,
            stages,
            sink,
            run,
        })
        .prop_flat_map(|plan| {
            // The columns that there are depend on all the rest.
            let all = plan.written_columns();
            let others = prop::sample::subsequence(all[1..].to_vec(), 0..all.len()).prop_shuffle();
            prop::option::of(others).prop_map(move |others| {
                let mut plan = plan.clone();
                let chosen = others.map(|others| [&others[..], &all[..1]].concat());
                plan.sink.columns = chosen.filter(|chosen| *chosen != all);
                plan
            })
        })
}

#[test]
fn a_printed_plan_parses_to_the_same_plan() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a \"list\".txt", "list.jsonl", "list.csv", "list.parquet", "-", "ca.pem"] {
        let content = if name == "ca.pem" { super::CA_PEM } else { "" };
        fs::write(folder.path().join(name), content).unwrap();
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(500));
    runner
        .run(&plan(folder.path()), |plan| {
            let printed = plan.to_toml();
            let again = Plan::parse(&printed, &plan.path, &plan.base_dir);
            let again = again.map_err(|errors| TestCaseError::fail(format!("{errors}\n{printed}")))?;
            prop_assert_eq!(&again, &plan, "{}", printed);
            prop_assert_eq!(again.to_toml(), printed);
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_print_has_every_default() {
    let printed =
        parse("[source]\nurls = '-'\n[[stage]]\nuse = 'features'\n[sink]\npath = 'out'\n").to_toml();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"[source]
urls = "-"

[fetch]
concurrency = "auto"
per_host = "auto"
connect_secs = 10
first_byte_secs = 15
stall_secs = 15
timeout_secs = 60
retries = 5
retry_base_secs = 0.5
retry_max_secs = 30
retry_after_max_secs = 120
max_redirects = 10
max_body_bytes = "16 MiB"
max_decoded_bytes = "64 MiB"
user_agent = "tricorne/{version}"
private_addresses = "listed"

[[stage]]
use = "features"
columns = [
    "word_count",
    "unique_words",
    "avg_word_len",
    "char_count",
    "language",
]

[sink]
path = "out"
format = "parquet"
records_per_shard = 10000
compression_level = 2
row_group_rows = 2000
keep_pages = false
columns = [
    "id",
    "url",
    "final_url",
    "status",
    "content_type",
    "charset",
    "bytes",
    "sha256",
    "text",
    "word_count",
    "unique_words",
    "avg_word_len",
    "char_count",
    "language",
]

[run]
workers = "auto"
watchdog_secs = 60
"#
    );
    assert_eq!(printed, expected);
}

#[test]
fn a_path_outside_the_plan_folder_stays_the_same_place() {
    let mut plan = parse(SMALLEST);
    plan.sink.path = "elsewhere/out".into();
    let again = parse_in(&plan.base_dir, &plan.to_toml());
    assert_eq!(again.sink.path, std::path::absolute("elsewhere/out").unwrap());
}

#[test]
fn the_shortcut_plans_print_and_parse() {
    let fetch = Plan::for_fetch(["https://example.org/a b".into(), "x".into()], "out");
    assert_eq!(Plan::parse(&fetch.to_toml(), Path::new("<fetch>"), Path::new("")).unwrap(), fetch);
    let prep = Plan::for_prep(["*.html".into()], "out");
    assert_eq!(Plan::parse(&prep.to_toml(), Path::new("<prep>"), Path::new("")).unwrap(), prep);
}

//! What identifies the data that a plan makes.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::headers::CREDENTIALS;
use super::{Fetch, Format, Plan, Source, Stage};

/// Changes whenever the same plan would make other data than before: other columns, values or shard bytes.
pub const DATA_VERSION: u32 = 2;

impl Plan {
    /// Everything that shapes the data, and nothing else: the kind of source, the stages with their options,
    /// the format of shards, and the versions behind them. `unicode_version` is the version of the character
    /// tables that text work uses.
    ///
    /// Paths, concurrency, time-outs, retries and size limits are left out: they can only turn a row into a
    /// failure or back. Request headers are in it, as servers answer by them; only their hashes, as the shape is written
    /// down and shown. Credentials are not: they may be renewed while a run lasts. Keys are sorted, so that the JSON
    /// text is canonical.
    #[must_use]
    pub fn shape(&self, unicode_version: &str) -> Value {
        let mut shape = json!({
            "data_version": DATA_VERSION,
            "sink": self.sink_shape(),
            "source": self.source_shape(),
            "stages": self.stages.iter().map(stage_shape).collect::<Vec<_>>(),
        });
        if let Some(fetch) = self.fetch.as_ref().and_then(fetch_shape) {
            shape["fetch"] = fetch;
        }
        if self.makes_text() {
            shape["unicode_version"] = unicode_version.into();
        }
        shape.sort_all_objects();
        shape
    }

    /// The SHA-256 of [`Plan::shape`], in hex: plans with the same hash make the same data of the same input.
    #[must_use]
    pub fn hash(&self, unicode_version: &str) -> String {
        sha256_hex(&self.shape(unicode_version).to_string())
    }

    fn source_shape(&self) -> Value {
        match &self.source {
            // A list makes the same rows wherever it is written.
            Source::Urls { .. } | Source::UrlList(_) => json!({ "kind": "urls" }),
            Source::Jsonl { url_key, .. } => json!({ "kind": "jsonl", "url_key": url_key }),
            Source::Csv { url_column, delimiter, .. } => {
                json!({ "kind": "csv", "url_column": url_column, "delimiter": char::from(*delimiter) })
            }
            Source::Parquet { url_column, .. } => json!({ "kind": "parquet", "url_column": url_column }),
            Source::Files { .. } => json!({ "kind": "files" }),
        }
    }

    fn sink_shape(&self) -> Value {
        let mut sink = Map::new();
        sink.insert("format".into(), self.sink.format.as_str().into());
        sink.insert("records_per_shard".into(), self.sink.records_per_shard.into());
        sink.insert("keep_pages".into(), self.sink.keep_pages.into());
        if self.sink.format.is_compressed() {
            sink.insert("compression_level".into(), self.sink.compression_level.into());
        }
        if self.sink.format == Format::Parquet {
            sink.insert("row_group_rows".into(), self.sink.row_group_rows.into());
        }
        if let Some(columns) = &self.sink.columns {
            let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
            sink.insert("columns".into(), names.into());
        }
        sink.into()
    }
}

/// What the plan asks servers for beyond the default; `None` if nothing.
fn fetch_shape(fetch: &Fetch) -> Option<Value> {
    let mut shape = Map::new();
    if fetch.user_agent != Fetch::default().user_agent {
        shape.insert("user_agent".into(), fetch.user_agent.as_str().into());
    }
    let headers = fetch.headers.iter().filter(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
    let headers: Map<String, Value> =
        headers.map(|(name, value)| (name.clone(), format!("sha256:{}", sha256_hex(value)).into())).collect();
    if !headers.is_empty() {
        shape.insert("headers".into(), headers.into());
    }
    (!shape.is_empty()).then(|| shape.into())
}

fn sha256_hex(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn stage_shape(stage: &Stage) -> Value {
    let name = stage.name();
    match stage {
        Stage::Extract | Stage::Clean => json!({ "use": name }),
        Stage::Features { columns } => {
            json!({ "use": name, "columns": columns.iter().map(|feature| feature.name()).collect::<Vec<_>>() })
        }
        Stage::Filter { expr, .. } => json!({ "use": name, "where": expr.to_string() }),
        Stage::Dedup { by } => json!({ "use": name, "by": by.as_str() }),
    }
}

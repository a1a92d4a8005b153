//! Which columns the rows of a plan have.

use super::{DedupKey, Feature, Plan, Stage};
use crate::expr::{Column, ColumnType};
use crate::sink;

impl Feature {
    /// The type of its column.
    #[must_use]
    pub fn column_type(self) -> ColumnType {
        match self {
            Feature::WordCount | Feature::UniqueWords | Feature::CharCount => ColumnType::Int,
            Feature::AvgWordLen => ColumnType::Float,
            Feature::Language => ColumnType::Text,
        }
    }
}

impl Plan {
    /// The columns that rows have, in the order of the output: what the source and the download give, then what
    /// the stages add, then `extra` (what a list has beside the URL, as JSON text) and `file` (of kept pages).
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let mut columns = columns(self.source.has_extra(), &self.stages);
        if self.sink.keep_pages {
            columns.push(Column::new("file", ColumnType::Text));
        }
        columns
    }

    /// The columns that are written: those that the sink names, or else all that rows have.
    #[must_use]
    pub fn written_columns(&self) -> Vec<sink::Column> {
        self.sink.columns.clone().unwrap_or_else(|| of_the_sink(&self.columns()))
    }

    /// Whether anything after the per-record stages looks at the text.
    pub(crate) fn needs_text(&self) -> bool {
        self.written_columns().contains(&sink::Column::Text)
            || self.stages.contains(&Stage::Dedup { by: DedupKey::Text })
    }
}

/// The same columns as the sink knows them.
pub(crate) fn of_the_sink(columns: &[Column]) -> Vec<sink::Column> {
    let by_name = |name| sink::Column::by_name(name).expect("every column of a plan is one of the sink's");
    columns.iter().map(|column| by_name(&column.name)).collect()
}

/// The columns of rows from a source with more than a URL or another one, after these stages.
pub(super) fn columns(has_extra: bool, stages: &[Stage]) -> Vec<Column> {
    use ColumnType::{Int, Text};
    let mut columns = vec![
        Column::new("id", Int),
        Column::new("url", Text),
        Column::new("final_url", Text),
        Column::new("status", Int),
        Column::new("content_type", Text),
    ];
    let makes_text = stages.iter().any(Stage::makes_text);
    if makes_text {
        columns.push(Column::new("charset", Text));
    }
    columns.push(Column::new("bytes", Int));
    columns.push(Column::new("sha256", Text));
    if stages.contains(&Stage::Extract) {
        columns.push(Column::new("title", Text));
    }
    if makes_text {
        columns.push(Column::new("text", Text));
    }
    for stage in stages {
        if let Stage::Features { columns: features } = stage {
            columns.extend(features.iter().map(|feature| Column::new(feature.name(), feature.column_type())));
        }
    }
    if has_extra {
        columns.push(Column::new("extra", Text));
    }
    columns
}

/// How to get a column that exists in other plans but not in this one; `None` for a name no plan has.
pub(super) fn how_to_get(name: &str) -> Option<String> {
    if Feature::ALL.iter().any(|feature| feature.name() == name) {
        return Some(format!("add `{name}` to the `columns` of a stage with `use = \"features\"`"));
    }
    match name {
        "title" => Some("add a stage with `use = \"extract\"`".into()),
        "text" | "charset" => Some("add a stage with `use = \"extract\"` or `use = \"clean\"`".into()),
        "extra" => Some("only a `jsonl`, `csv` or `parquet` source gives `extra`".into()),
        "file" => Some("set `keep_pages = true` in `[sink]`".into()),
        _ => None,
    }
}

//! Which columns the rows of a plan have.

use super::{Feature, Plan, Source, Stage};
use crate::expr::{Column, ColumnType};

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
    /// The columns of the rows, in the order of the output: what the source and the download give, then what
    /// the stages add, then `extra` (the other keys of a JSONL record, as JSON text) and `file` (of kept pages).
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let mut columns = columns(matches!(self.source, Source::Jsonl { .. }), &self.stages);
        if self.sink.keep_pages {
            columns.push(Column::new("file", ColumnType::Text));
        }
        columns
    }
}

/// The columns of rows from a JSONL source or another one, after these stages.
pub(super) fn columns(from_jsonl: bool, stages: &[Stage]) -> Vec<Column> {
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
    if from_jsonl {
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
        "title" => Some("add a stage with `use = \"extract\"` before it".into()),
        "text" | "charset" => {
            Some("add a stage with `use = \"extract\"` or `use = \"clean\"` before it".into())
        }
        "extra" => Some("only a `jsonl` source gives `extra`".into()),
        _ => None,
    }
}

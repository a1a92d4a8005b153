//! Parquet lists: one record a row, its URL in a named column, the other columns passed through.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, RecordBatch, StringArray};
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::error::RunError;
use crate::expr::nearest::nearest;
use crate::record::{Failure, Input, Record};
use crate::runner::Source;

/// Rows decoded at once.
const BATCH_ROWS: usize = 256;

struct Row {
    url: Option<String>,
    /// The other columns, as a JSON object.
    extra: Option<String>,
}

pub(super) struct ParquetTable {
    name: String,
    reader: ParquetRecordBatchReader,
    url_column: String,
    rows: std::vec::IntoIter<Row>,
    next_id: u64,
}

impl ParquetTable {
    pub(super) fn open(path: &Path, url_column: &str) -> Result<Self, RunError> {
        let name = path.display().to_string();
        let unreadable =
            |message: String, hint: Option<String>| RunError::Input { input: name.clone(), message, hint };
        let file = File::open(path).map_err(RunError::io("open", path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)
            .map_err(|error| unreadable(format!("as Parquet: {error}"), None))?;
        let schema = builder.schema();
        let Ok(field) = schema.field_with_name(url_column) else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let hint = nearest(url_column, names.iter().copied()).map_or_else(
                || format!("its columns are `{}`; say which by `url_column`", names.join("`, `")),
                |near| format!("did you mean `url_column = \"{near}\"`?"),
            );
            return Err(unreadable(format!("it has no column `{url_column}`"), Some(hint)));
        };
        if !is_text(field.data_type()) {
            let message = format!("its column `{url_column}` holds {}, not text", field.data_type());
            return Err(unreadable(message, Some("name the column of the URLs by `url_column`".into())));
        }
        let reader = builder
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| unreadable(format!("as Parquet: {error}"), None))?;
        Ok(ParquetTable {
            name,
            reader,
            url_column: url_column.to_owned(),
            rows: Vec::new().into_iter(),
            next_id: 0,
        })
    }

    fn unreadable(&self, error: impl std::fmt::Display) -> RunError {
        let message = format!("after row {}: {error}", self.next_id);
        RunError::Input { input: self.name.clone(), message, hint: None }
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Vec<Row>, RunError> {
        let at = batch.schema().index_of(&self.url_column).map_err(|error| self.unreadable(error))?;
        let urls =
            arrow_cast::cast(batch.column(at), &DataType::Utf8).map_err(|error| self.unreadable(error))?;
        let urls: &StringArray = urls.as_string();
        let others: Vec<usize> = (0..batch.num_columns()).filter(|&column| column != at).collect();
        let mut extras = Vec::new();
        if !others.is_empty() {
            let others = batch.project(&others).map_err(|error| self.unreadable(error))?;
            let mut writer =
                WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut extras);
            writer.write(&others).map_err(|error| self.unreadable(error))?;
            writer.finish().map_err(|error| self.unreadable(error))?;
        }
        let extras = String::from_utf8(extras).map_err(|error| self.unreadable(error))?;
        let mut extras = extras.lines();
        Ok((0..batch.num_rows())
            .map(|row| {
                let url = urls.is_valid(row).then(|| urls.value(row).trim().to_owned());
                Row { url, extra: extras.next().map(str::to_owned) }
            })
            .collect())
    }
}

fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

impl Source for ParquetTable {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        let Row { url, extra } = loop {
            if let Some(row) = self.rows.next() {
                break row;
            }
            let Some(batch) = self.reader.next() else { return Ok(None) };
            let batch = batch.map_err(|error| self.unreadable(error))?;
            self.rows = self.rows(&batch)?.into_iter();
        };
        let id = self.next_id;
        self.next_id += 1;
        let problem = url.as_ref().is_none_or(String::is_empty).then(|| Failure {
            stage: "source".into(),
            kind: "no_url".into(),
            message: format!("row {} of `{}` has no URL", id + 1, self.name),
            attempts: 0,
        });
        let record = Record { id, url: url.unwrap_or_default(), extra };
        Ok(Some(Input { record, problem }))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

//! Shards as Parquet: zstd pages, row groups of a bounded number of rows, the plan's hash as metadata.

use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnPath;

use super::{Cell, Column, HashingFile, Rows, ShardWriter, SinkSpec, Written, hex, unhex};
use crate::error::RunError;
use crate::expr::ColumnType;
use crate::files::{File, FileReader};
use crate::record::Row;

/// Rows are handed to the encoder in batches of so many rows or bytes, whichever comes first. Both are
/// functions of the rows alone, so the pages, and with them the bytes, do not depend on timing.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// A row group also ends after so many bytes of text: until then its encoded pages are in memory, about a quarter of
/// that.
const ROW_GROUP_BYTES: usize = 8 << 20;
const NO_FLAGS: &str = "no column of a row is true or false";

pub(super) struct ParquetShard {
    columns: Vec<(Column, Builder)>,
    schema: Arc<Schema>,
    writer: ArrowWriter<HashingFile>,
    row_group_rows: usize,
    path: PathBuf,
    rows: u64,
    batch: Filled,
    group: Filled,
}

#[derive(Default, Clone, Copy)]
struct Filled {
    rows: usize,
    bytes: usize,
}

enum Builder {
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
}

impl Builder {
    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Int(builder) => Arc::new(builder.finish()),
            Builder::Float(builder) => Arc::new(builder.finish()),
            Builder::Text(builder) => Arc::new(builder.finish()),
        }
    }
}

/// Columns that every row has.
fn required(column: Column) -> bool {
    matches!(column, Column::Id | Column::Url | Column::Bytes | Column::Sha256)
}

fn schema(columns: &[Column]) -> Arc<Schema> {
    let field = |column: &Column| {
        let data_type = match column.column_type() {
            ColumnType::Int => DataType::Int64,
            ColumnType::Float => DataType::Float64,
            ColumnType::Text => DataType::Utf8,
            ColumnType::Bool => unreachable!("{NO_FLAGS}"),
        };
        Field::new(column.name(), data_type, !required(*column))
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn properties(spec: &SinkSpec) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("tricorne version ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(spec.zstd_level)?))
        .set_max_row_group_row_count(Some(spec.row_group_rows))
        .set_key_value_metadata(Some(
            spec.metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect(),
        ));
    for column in &spec.columns {
        let path = ColumnPath::from(column.name());
        // Long and mostly distinct values: a dictionary or a minimum would only cost.
        if matches!(
            column,
            Column::Url | Column::FinalUrl | Column::Sha256 | Column::Title | Column::Text | Column::Extra
        ) {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
        }
        if matches!(column, Column::Title | Column::Text | Column::Extra | Column::Sha256) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

impl ParquetShard {
    pub(super) fn new(spec: &SinkSpec, out: HashingFile, path: &Path) -> Result<Self, RunError> {
        let schema = schema(&spec.columns);
        let writer = properties(spec)
            .and_then(|properties| ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)))
            .map_err(|error| parquet_error("write", path, error))?;
        let builder = |column: &Column| match column.column_type() {
            ColumnType::Int => Builder::Int(Int64Builder::new()),
            ColumnType::Float => Builder::Float(Float64Builder::new()),
            ColumnType::Text => Builder::Text(StringBuilder::new()),
            ColumnType::Bool => unreachable!("{NO_FLAGS}"),
        };
        Ok(ParquetShard {
            columns: spec.columns.iter().map(|column| (*column, builder(column))).collect(),
            schema,
            writer,
            row_group_rows: spec.row_group_rows,
            path: path.to_path_buf(),
            rows: 0,
            batch: Filled::default(),
            group: Filled::default(),
        })
    }

    fn flush_batch(&mut self) -> Result<(), ParquetError> {
        if self.batch.rows == 0 {
            return Ok(());
        }
        let arrays = self.columns.iter_mut().map(|(_, builder)| builder.finish()).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        self.writer.write(&batch)?;
        self.group.rows += self.batch.rows;
        self.group.bytes += self.batch.bytes;
        self.batch = Filled::default();
        if self.group.rows >= self.row_group_rows || self.group.bytes >= ROW_GROUP_BYTES {
            self.writer.flush()?;
            self.group = Filled::default();
        }
        Ok(())
    }
}

impl ShardWriter for ParquetShard {
    fn write(&mut self, row: &Row) -> Result<(), RunError> {
        for (column, builder) in &mut self.columns {
            match (column.cell(row), builder) {
                (Cell::Int(value), Builder::Int(builder)) => builder.append_option(value),
                (Cell::Float(value), Builder::Float(builder)) => builder.append_option(value),
                (Cell::Text(value), Builder::Text(builder)) => {
                    self.batch.bytes += value.map_or(0, str::len);
                    builder.append_option(value);
                }
                (Cell::Hex(digest), Builder::Text(builder)) => builder.append_value(hex(digest)),
                _ => unreachable!("the builder of a column has the column's type"),
            }
        }
        self.rows += 1;
        self.batch.rows += 1;
        if self.batch.rows >= BATCH_ROWS.min(self.row_group_rows) || self.batch.bytes >= BATCH_BYTES {
            self.flush_batch().map_err(|error| parquet_error("write", &self.path, error))?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, RunError> {
        let (path, rows) = (self.path.clone(), self.rows);
        self.flush_batch()
            .and_then(|()| self.writer.into_inner())
            .map_err(|error| parquet_error("write", &path, error))
            .and_then(|out| out.finish().map_err(RunError::io("sync", &path)))
            .map(|(sha256, bytes)| Written { rows, bytes, sha256: Some(sha256) })
    }
}

fn parquet_error(action: &'static str, path: &Path, error: ParquetError) -> RunError {
    // An I/O error comes wrapped; a full disk must stay recognisable.
    let source = match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(source) => std::io::Error::other(source),
        },
        error => std::io::Error::other(error),
    };
    RunError::Io { action, path: path.to_path_buf(), source }
}

struct Chunks(Arc<dyn File>, u64);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.1
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<FileReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut reader = FileReader::new(Arc::clone(&self.0))?;
        reader.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(reader))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut buffer = vec![0; length];
        self.0.read_exact_at(&mut buffer, start)?;
        Ok(buffer.into())
    }
}

pub(super) fn read(spec: &SinkSpec, file: Arc<dyn File>, path: &Path) -> Result<Rows, RunError> {
    let path = path.to_path_buf();
    let len = file.len().map_err(RunError::io("read", &path))?;
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(Chunks(file, len))
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .map_err(|error| parquet_error("read", &path, error))?;
    let columns = spec.columns.clone();
    let mut ready = Vec::new().into_iter();
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            if let Some(row) = ready.next() {
                return Some(Ok(row));
            }
            let rows = batches.next()?.map_err(|error| parquet_error("read", &path, error.into())).and_then(
                |batch| {
                    rows_of(&batch, &columns)
                        .map_err(|message| RunError::Damaged { path: path.clone(), message })
                },
            );
            match rows {
                Ok(rows) => ready = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    })))
}

fn rows_of(batch: &RecordBatch, columns: &[Column]) -> Result<Vec<Row>, String> {
    let mut rows = vec![Row::default(); batch.num_rows()];
    for column in columns {
        let name = column.name();
        let array = batch.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`"))?;
        let wrong = || format!("the column `{name}` has type {}", array.data_type());
        match column.column_type() {
            ColumnType::Int => {
                let values = array.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
                for (row, value) in rows.iter_mut().zip(values) {
                    set_int(row, *column, value.map(i64::cast_unsigned));
                }
            }
            ColumnType::Float => {
                let values = array.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
                for (row, value) in rows.iter_mut().zip(values) {
                    row.avg_word_len = value;
                }
            }
            ColumnType::Text => {
                let values = array.as_string_opt::<i32>().ok_or_else(wrong)?;
                for (row, value) in rows.iter_mut().zip(values) {
                    set_text(row, *column, value)?;
                }
            }
            ColumnType::Bool => unreachable!("{NO_FLAGS}"),
        }
    }
    Ok(rows)
}

fn set_int(row: &mut Row, column: Column, value: Option<u64>) {
    match column {
        Column::Id => row.id = value.unwrap_or_default(),
        Column::Status => row.status = value.and_then(|status| u16::try_from(status).ok()),
        Column::Bytes => row.bytes = value.unwrap_or_default(),
        Column::WordCount => row.word_count = value,
        Column::UniqueWords => row.unique_words = value,
        Column::CharCount => row.char_count = value,
        _ => unreachable!("not a column of integers"),
    }
}

fn set_text(row: &mut Row, column: Column, value: Option<&str>) -> Result<(), String> {
    let owned = value.map(str::to_owned);
    match column {
        Column::Url => row.url = owned.unwrap_or_default(),
        Column::Sha256 => {
            row.sha256 = value.and_then(unhex).ok_or_else(|| format!("`{value:?}` is not a SHA-256"))?;
        }
        Column::FinalUrl => row.final_url = owned,
        Column::ContentType => row.content_type = owned,
        Column::Charset => row.charset = owned,
        Column::Title => row.title = owned,
        Column::Text => row.text = owned,
        Column::Language => row.language = owned,
        Column::File => row.file = owned,
        Column::Extra => row.extra = owned,
        _ => unreachable!("not a column of text"),
    }
    Ok(())
}

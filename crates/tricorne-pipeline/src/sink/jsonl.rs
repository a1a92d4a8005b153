//! Shards as JSON lines, plain or compressed: one object a row, the columns in order, `null` where there is no value.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Cell, Column, HashingFile, Rows, ShardWriter, SinkSpec, Written, hex, unhex};
use crate::error::RunError;
use crate::files::{File, FileReader};
use crate::plan::Format;
use crate::record::Row;

/// Where the lines go.
pub(super) enum Out {
    Plain(HashingFile),
    Zstd(zstd::Encoder<'static, HashingFile>),
}

impl Out {
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Out::Plain(out) => out.write_all(line),
            Out::Zstd(out) => out.write_all(line),
        }
    }

    fn finish(self) -> io::Result<([u8; 32], u64)> {
        match self {
            Out::Plain(out) => out.finish(),
            Out::Zstd(out) => out.finish()?.finish(),
        }
    }
}

pub(super) struct JsonlShard {
    columns: Vec<Column>,
    out: Out,
    path: PathBuf,
    line: Vec<u8>,
    rows: u64,
}

impl JsonlShard {
    pub(super) fn new(spec: &SinkSpec, out: Out, path: &Path) -> Self {
        JsonlShard { columns: spec.columns.clone(), out, path: path.to_path_buf(), line: Vec::new(), rows: 0 }
    }
}

impl ShardWriter for JsonlShard {
    fn write(&mut self, row: &Row) -> Result<(), RunError> {
        let line = &mut self.line;
        line.clear();
        for (n, column) in self.columns.iter().enumerate() {
            line.push(if n == 0 { b'{' } else { b',' });
            json(line, &column.name());
            line.push(b':');
            match column.cell(row) {
                // Already JSON: nested as it is, not quoted once more.
                Cell::Text(Some(object)) if *column == Column::Extra => {
                    line.extend_from_slice(object.as_bytes());
                }
                Cell::Text(value) => json(line, &value),
                Cell::Int(value) => json(line, &value),
                Cell::Float(value) => json(line, &value),
                Cell::Hex(digest) => json(line, &hex(digest)),
            }
        }
        line.extend_from_slice(b"}\n");
        self.rows += 1;
        self.out.write_all(line).map_err(RunError::io("write", &self.path))
    }

    fn finish(self: Box<Self>) -> Result<Written, RunError> {
        let (sha256, bytes) = self.out.finish().map_err(RunError::io("write", &self.path))?;
        Ok(Written { rows: self.rows, bytes, sha256: Some(sha256) })
    }
}

fn json(line: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(line, value).expect("numbers and text always have a JSON form");
}

/// A row as it was written; which columns are there, the plan has decided.
#[derive(Deserialize)]
struct Line<'a> {
    id: u64,
    #[serde(default)]
    url: String,
    final_url: Option<String>,
    status: Option<u16>,
    content_type: Option<String>,
    charset: Option<String>,
    #[serde(default)]
    bytes: u64,
    sha256: Option<String>,
    title: Option<String>,
    text: Option<String>,
    word_count: Option<u64>,
    unique_words: Option<u64>,
    avg_word_len: Option<f64>,
    char_count: Option<u64>,
    language: Option<String>,
    file: Option<String>,
    #[serde(borrow)]
    extra: Option<&'a RawValue>,
}

pub(super) fn read(spec: &SinkSpec, file: Arc<dyn File>, path: &Path) -> Result<Rows, RunError> {
    let path = path.to_path_buf();
    let reader = FileReader::new(file).map_err(RunError::io("read", &path))?;
    let content: Box<dyn io::Read + Send> = match spec.format {
        Format::JsonlZst => Box::new(zstd::Decoder::new(reader).map_err(RunError::io("read", &path))?),
        _ => Box::new(reader),
    };
    let mut lines = BufReader::with_capacity(1 << 17, content).split(b'\n');
    Ok(Box::new(std::iter::from_fn(move || {
        let line = lines.next()?.map_err(RunError::io("read", &path));
        Some(line.and_then(|line| {
            parse(&line).map_err(|message| RunError::Damaged { path: path.clone(), message })
        }))
    })))
}

fn parse(line: &[u8]) -> Result<Row, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let sha256 = match line.sha256 {
        Some(hex) => unhex(&hex).ok_or_else(|| format!("`{hex}` is not a SHA-256"))?,
        None => [0; 32],
    };
    Ok(Row {
        id: line.id,
        url: line.url,
        final_url: line.final_url,
        status: line.status,
        content_type: line.content_type,
        charset: line.charset,
        bytes: line.bytes,
        sha256,
        title: line.title,
        text: line.text,
        word_count: line.word_count,
        unique_words: line.unique_words,
        avg_word_len: line.avg_word_len,
        char_count: line.char_count,
        language: line.language,
        file: line.file,
        extra: line.extra.map(|raw| raw.get().to_owned()),
        key: None,
    })
}

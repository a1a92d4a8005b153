//! Shard files: rows in, one file out, and back again.
//!
//! The bytes of a shard are a function of its rows, in order, and of the plan. A shard can therefore
//! be rewritten, after a retry or by the dedup pass, to the bytes that one calm run would have made.

mod jsonl;
mod parquet;
mod staged;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::RunError;
use crate::expr::ColumnType;
use crate::files::{File, Files};
use crate::plan::{DedupKey, Format};
use crate::record::Row;

/// A value of a row, borrowed.
pub(crate) enum Cell<'a> {
    Int(Option<i64>),
    Float(Option<f64>),
    Text(Option<&'a str>),
    Hex(&'a [u8; 32]),
}

macro_rules! columns {
    ($($variant:ident $name:literal $ty:ident $doc:literal),* $(,)?) => {
        /// A column that a data set can have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Column { $(#[doc = $doc] $variant),* }

        impl Column {
            /// Every column, in the order in which they stand in a shard.
            pub const ALL: &'static [Column] = &[$(Column::$variant),*];
            /// The name in the schema.
            pub fn name(self) -> &'static str { match self { $(Column::$variant => $name),* } }
            /// The type in the schema.
            pub fn column_type(self) -> ColumnType { match self { $(Column::$variant => ColumnType::$ty),* } }
        }
    };
}

columns! {
    Id "id" Int "The position in the input, from 0.",
    Url "url" Text "The URL or path of the input.",
    FinalUrl "final_url" Text "The URL that answered in the end.",
    Status "status" Int "The HTTP status.",
    ContentType "content_type" Text "The `Content-Type` header.",
    Charset "charset" Text "The charset that the text was decoded from.",
    Bytes "bytes" Int "The length of the body after content decoding.",
    Sha256 "sha256" Text "SHA-256 of the body after content decoding, in hex.",
    Title "title" Text "The title of the page.",
    Text "text" Text "The text.",
    WordCount "word_count" Int "`len(text.lower().split())`.",
    UniqueWords "unique_words" Int "`len(set(text.lower().split()))`.",
    AvgWordLen "avg_word_len" Float "Mean length of the words in characters.",
    CharCount "char_count" Int "`len(text)`.",
    Language "language" Text "ISO 639-1 code.",
    Extra "extra" Text "The other keys of a JSONL input, as one JSON object.",
    File "file" Text "The file below the output folder that holds the body, if pages are kept.",
}

impl Column {
    /// The column of this name.
    pub fn by_name(name: &str) -> Option<Column> {
        Column::ALL.iter().copied().find(|column| column.name() == name)
    }

    pub(crate) fn cell(self, row: &Row) -> Cell<'_> {
        let int = |value: Option<u64>| Cell::Int(value.map(u64::cast_signed));
        match self {
            Column::Id => int(Some(row.id)),
            Column::Url => Cell::Text(Some(&row.url)),
            Column::FinalUrl => Cell::Text(row.final_url.as_deref()),
            Column::Status => int(row.status.map(u64::from)),
            Column::ContentType => Cell::Text(row.content_type.as_deref()),
            Column::Charset => Cell::Text(row.charset.as_deref()),
            Column::Bytes => int(Some(row.bytes)),
            Column::Sha256 => Cell::Hex(&row.sha256),
            Column::Title => Cell::Text(row.title.as_deref()),
            Column::Text => Cell::Text(row.text.as_deref()),
            Column::WordCount => int(row.word_count),
            Column::UniqueWords => int(row.unique_words),
            Column::AvgWordLen => Cell::Float(row.avg_word_len),
            Column::CharCount => int(row.char_count),
            Column::Language => Cell::Text(row.language.as_deref()),
            Column::File => Cell::Text(row.file.as_deref()),
            Column::Extra => Cell::Text(row.extra.as_deref()),
        }
    }
}

/// How shards are written: everything, besides the rows, that their bytes depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSpec {
    /// The file format.
    pub format: Format,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The zstd level of Parquet pages and of `jsonl.zst`.
    pub zstd_level: i32,
    /// Rows in a row group of Parquet, at the most.
    pub row_group_rows: usize,
    /// Key-value metadata of Parquet.
    pub metadata: Vec<(String, String)>,
}

/// What is known of a shard file that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Of a shard file; nobody asks for that of staged rows.
    pub(crate) sha256: Option<[u8; 32]>,
}

/// Writes one shard file. Dropped without [`finish`](ShardWriter::finish), it leaves an unusable file
/// that is overwritten by the next attempt.
pub(crate) trait ShardWriter: Send {
    fn write(&mut self, row: &Row) -> Result<(), RunError>;
    /// Completes and syncs the file.
    fn finish(self: Box<Self>) -> Result<Written, RunError>;
}

pub(crate) type Rows = Box<dyn Iterator<Item = Result<Row, RunError>> + Send>;

impl SinkSpec {
    /// Prepares a finished row for journal and sink: notes what dedup compares, and lets go of a text that is not to be
    /// written, so that it costs nothing from here on.
    pub(crate) fn prepare(&self, row: &mut Row, dedup: Option<DedupKey>) {
        row.key = dedup.map(|by| {
            let digest: [u8; 32] = match by {
                DedupKey::Text => Sha256::digest(row.text.as_deref().unwrap_or_default()).into(),
                DedupKey::Sha256 => row.sha256,
            };
            digest[..16].try_into().expect("a digest is longer than 16 bytes")
        });
        if !self.columns.contains(&Column::Text) {
            row.text = None;
        }
    }

    /// Starts the file of rows of a commit. Dedup will write it anew without its losers, so with dedup the rows are only
    /// put down as they are; without, it is the shard file.
    pub(crate) fn stage(
        &self,
        files: &dyn Files,
        path: &Path,
        has_dedup: bool,
    ) -> Result<Box<dyn ShardWriter>, RunError> {
        if !has_dedup {
            return self.create(files, path);
        }
        Ok(Box::new(staged::StagedRows::create(files, path).map_err(RunError::io("create", path))?))
    }

    /// Reads the rows of a commit back, in order.
    pub(crate) fn read_staged(
        &self,
        files: &dyn Files,
        path: &Path,
        has_dedup: bool,
    ) -> Result<Rows, RunError> {
        if !has_dedup {
            return self.read(files, path);
        }
        let file = files.open(path).map_err(RunError::io("open", path))?;
        staged::read(file, path)
    }

    /// Starts a shard file at `path`.
    pub(crate) fn create(&self, files: &dyn Files, path: &Path) -> Result<Box<dyn ShardWriter>, RunError> {
        let out = HashingFile::create(files, path).map_err(RunError::io("create", path))?;
        Ok(match self.format {
            Format::Parquet => Box::new(parquet::ParquetShard::new(self, out, path)?),
            Format::Jsonl => Box::new(jsonl::JsonlShard::new(self, jsonl::Out::Plain(out), path)),
            Format::JsonlZst => {
                let out = zstd::Encoder::new(out, self.zstd_level).map_err(RunError::io("write", path))?;
                Box::new(jsonl::JsonlShard::new(self, jsonl::Out::Zstd(out), path))
            }
        })
    }

    /// Reads the rows of a shard file back, in order.
    pub(crate) fn read(&self, files: &dyn Files, path: &Path) -> Result<Rows, RunError> {
        let file = files.open(path).map_err(RunError::io("open", path))?;
        match self.format {
            Format::Parquet => parquet::read(self, file, path),
            Format::Jsonl | Format::JsonlZst => jsonl::read(self, file, path),
        }
    }
}

/// A file that hashes what is written to it.
struct HashingFile {
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    hash: Sha256,
    bytes: u64,
}

impl HashingFile {
    const BUFFER: usize = 1 << 17;

    fn create(files: &dyn Files, path: &Path) -> io::Result<Self> {
        let file = files.create(path)?;
        Ok(HashingFile { file, buffer: Vec::with_capacity(Self::BUFFER), hash: Sha256::new(), bytes: 0 })
    }

    /// Flushes, syncs, and says what was written.
    fn finish(mut self) -> io::Result<([u8; 32], u64)> {
        self.flush()?;
        self.file.sync()?;
        Ok((self.hash.finalize().into(), self.bytes))
    }
}

impl Write for HashingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + data.len() > Self::BUFFER {
            self.file.append(&[&self.buffer, data])?;
            self.buffer.clear();
        } else {
            self.buffer.extend_from_slice(data);
        }
        self.hash.update(data);
        self.bytes += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&[&self.buffer])?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// The hex form that the `sha256` column and the manifest show.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The digest that [`hex`] printed.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::files::OsFiles;
    use proptest::prelude::*;

    pub(crate) fn spec(format: Format) -> SinkSpec {
        SinkSpec {
            format,
            columns: Column::ALL.to_vec(),
            zstd_level: 3,
            row_group_rows: 4,
            metadata: vec![("tricorne.plan_hash".into(), "00".into())],
        }
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let text = || proptest::option::of("\\PC{0,20}");
        let row = (
            (text(), proptest::option::of(100..600u16), text(), text()),
            (0..1_000_000u64, any::<[u8; 32]>(), text(), text(), proptest::option::of(0..99u64)),
            (proptest::option::of(0.0..40.0f64), text(), proptest::option::of(Just("{\"a\":[1, 2.50]}"))),
        );
        proptest::collection::vec(row, 0..20).prop_map(|rows| {
            let make =
                |(id, (a, b, c)): (usize, ((_, _, _, _), (_, _, _, _, _), (_, _, Option<&str>)))| Row {
                    id: id as u64 * 3,
                    url: format!("http://h/{id}"),
                    final_url: a.0,
                    status: a.1,
                    content_type: a.2,
                    charset: a.3,
                    bytes: b.0,
                    sha256: b.1,
                    title: b.2,
                    text: b.3,
                    word_count: b.4,
                    unique_words: b.4,
                    avg_word_len: c.0,
                    char_count: b.4,
                    language: c.1,
                    file: None,
                    extra: c.2.map(str::to_owned),
                    key: None,
                };
            rows.into_iter().enumerate().map(make).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_come_back_and_rewriting_gives_the_same_bytes(
            rows in rows(),
            format in prop_oneof![Just(Format::Parquet), Just(Format::Jsonl), Just(Format::JsonlZst)],
        ) {
            let dir = tempfile::tempdir().unwrap();
            let spec = spec(format);
            let write = |name: &str, rows: &[Row]| {
                let path = dir.path().join(name);
                let mut shard = spec.create(&OsFiles, &path).unwrap();
                for row in rows {
                    shard.write(row).unwrap();
                }
                let written = shard.finish().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                prop_assert_eq!(written.rows, rows.len() as u64);
                prop_assert_eq!(written.bytes, bytes.len() as u64);
                prop_assert_eq!(written.sha256, Some(Sha256::digest(&bytes).into()));
                Ok(bytes)
            };
            let first = write("a", &rows)?;
            let back: Vec<Row> =
                spec.read(&OsFiles, &dir.path().join("a")).unwrap().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(&back, &rows);
            prop_assert_eq!(write("b", &back)?, first);
        }
    }

    /// A parser that is only nearly exact would change the bytes of a rewritten shard.
    #[test]
    fn a_float_of_json_comes_back_to_the_last_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let spec = spec(Format::Jsonl);
        let row = Row { avg_word_len: Some(24.642_636_379_253_92), ..Row::default() };
        let mut shard = spec.create(&OsFiles, &path).unwrap();
        shard.write(&row).unwrap();
        shard.finish().unwrap();
        assert_eq!(spec.read(&OsFiles, &path).unwrap().next().unwrap().unwrap(), row);
    }

    #[test]
    fn hex_is_reversible() {
        let digest: [u8; 32] = Sha256::digest(b"x").into();
        assert_eq!(unhex(&hex(&digest)), Some(digest));
        assert_eq!(unhex("zz"), None);
        assert_eq!(unhex(&"é".repeat(32)), None);
    }
}

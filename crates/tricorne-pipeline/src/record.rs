//! What flows through a run: an input record, the page that was fetched for it, and the one outcome
//! that it ends as: a row, a counted drop, or a failure.

use std::any::Any;
use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One entry of the input. Its `id` is its position, from 0, and decides the shard it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The position in the input, from 0.
    pub id: u64,
    /// The URL to fetch, or the path of the file to read.
    pub url: String,
    /// The other keys of a JSONL input, as one JSON object; passed through to the row.
    pub extra: Option<String>,
}

/// An entry of the input as the source saw it: well formed, or failed on sight (a line that is not
/// UTF-8, a JSON line without a URL). A failed one still has an id, so that it is reported, not lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The record; of a malformed line, as much of it as could be read.
    pub record: Record,
    /// Why it cannot be used, if so.
    pub problem: Option<Failure>,
}

/// A page as received: after redirects and content decoding, before anything was made of it.
pub struct Page {
    /// The URL that answered in the end, where that is known.
    pub final_url: Option<String>,
    /// The HTTP status; none for a local file.
    pub status: Option<u16>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The body after content decoding.
    pub body: Bytes,
    /// How many requests it took.
    pub attempts: u32,
    /// Kept until the page is safe in the journal, then dropped: the fetch's permit.
    pub guard: Option<Box<dyn Any + Send>>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("final_url", &self.final_url)
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("bytes", &self.body.len())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// A page with the hash of its body: as it is journalled, and read back from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPage {
    /// The URL that answered in the end, where that is known.
    pub final_url: Option<String>,
    /// The HTTP status; none for a local file.
    pub status: Option<u16>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// SHA-256 of the body.
    pub sha256: [u8; 32],
    /// The body after content decoding.
    pub body: Bytes,
    /// How many requests it took.
    pub attempts: u32,
}

impl From<Page> for StoredPage {
    /// Hashes the body. What guards the page is dropped.
    fn from(page: Page) -> Self {
        StoredPage {
            final_url: page.final_url,
            status: page.status,
            content_type: page.content_type,
            sha256: Sha256::digest(&page.body).into(),
            body: page.body,
            attempts: page.attempts,
        }
    }
}

/// Why a record has no row. It is data: the run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stage that gave up: `source`, `fetch`, `decode`, `extract`, …
    pub stage: Cow<'static, str>,
    /// A stable word for counting: `status_404`, `timeout_stall`, `not_utf8`, …
    pub kind: String,
    /// What happened, for a person.
    pub message: String,
    /// How many requests were sent for it.
    pub attempts: u32,
}

/// One finished record. Which fields become columns is the plan's choice; the rest stay empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// The position in the input.
    pub id: u64,
    /// The URL or path of the input.
    pub url: String,
    /// The URL that answered in the end.
    pub final_url: Option<String>,
    /// The HTTP status; none for a local file.
    pub status: Option<u16>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The charset that the text was decoded from.
    pub charset: Option<String>,
    /// The length of the body after content decoding.
    pub bytes: u64,
    /// SHA-256 of the body after content decoding, as received.
    pub sha256: [u8; 32],
    /// The title of the page.
    pub title: Option<String>,
    /// The text as the last text stage left it.
    pub text: Option<String>,
    /// `len(text.lower().split())` in Python's terms.
    pub word_count: Option<u64>,
    /// `len(set(text.lower().split()))`.
    pub unique_words: Option<u64>,
    /// Mean length of those words in characters; 0 without words.
    pub avg_word_len: Option<f64>,
    /// `len(text)` in characters.
    pub char_count: Option<u64>,
    /// ISO 639-1 code of the language, if it could be told.
    pub language: Option<String>,
    /// The file below the output folder that holds the body, if pages are kept.
    pub file: Option<String>,
    /// The other keys of a JSONL input, as one JSON object.
    pub extra: Option<String>,
    /// What dedup compares. The engine sets it, in plans with dedup, as soon as the row is finished.
    pub key: Option<[u8; 16]>,
}

/// What a record ends as.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A row of the data set.
    Row(Box<Row>),
    /// Left out on purpose, for this reason (`filter: word_count >= 20`).
    Drop(String),
    /// Could not be made.
    Failed(Failure),
}

/// A fixed-layout codec for the journal: length-prefixed fields, little endian.
pub(crate) mod wire {
    use super::{Cow, Failure, Outcome, Row};

    /// The bytes do not hold what they should; the journal's checksum makes that a bug or a foreign file.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) struct Malformed;

    #[derive(Default)]
    pub(crate) struct Writer(pub(crate) Vec<u8>);

    impl Writer {
        pub(crate) fn u8(&mut self, value: u8) {
            self.0.push(value);
        }
        pub(crate) fn u32(&mut self, value: u32) {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
        pub(crate) fn u64(&mut self, value: u64) {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
        pub(crate) fn bytes(&mut self, value: &[u8]) {
            self.u32(u32::try_from(value.len()).expect("a field of the journal is smaller than 4 GiB"));
            self.0.extend_from_slice(value);
        }
        pub(crate) fn text(&mut self, value: &str) {
            self.bytes(value.as_bytes());
        }
        pub(crate) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
            self.u8(u8::from(value.is_some()));
            if let Some(value) = value {
                put(self, value);
            }
        }
        pub(crate) fn option_text(&mut self, value: Option<&str>) {
            self.option(value, Self::text);
        }
    }

    pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

    impl<'a> Reader<'a> {
        pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
            let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed)?;
            self.0 = tail;
            Ok(head)
        }
        pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
            Ok(self.take(N)?.try_into().expect("take returns what was asked for"))
        }
        pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
            Ok(self.take(1)?[0])
        }
        pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
            Ok(u32::from_le_bytes(self.array()?))
        }
        pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
            Ok(u64::from_le_bytes(self.array()?))
        }
        pub(crate) fn text(&mut self) -> Result<String, Malformed> {
            let count = self.u32()? as usize;
            String::from_utf8(self.take(count)?.to_vec()).map_err(|_| Malformed)
        }
        pub(crate) fn option<T>(
            &mut self,
            get: impl FnOnce(&mut Self) -> Result<T, Malformed>,
        ) -> Result<Option<T>, Malformed> {
            match self.u8()? {
                0 => Ok(None),
                1 => get(self).map(Some),
                _ => Err(Malformed),
            }
        }
        pub(crate) fn option_text(&mut self) -> Result<Option<String>, Malformed> {
            self.option(Self::text)
        }
    }

    pub(crate) const ROW: u8 = 2;
    pub(crate) const DROP: u8 = 3;
    pub(crate) const FAILED: u8 = 4;

    /// Appends an outcome, its kind first.
    pub(crate) fn put_outcome(w: &mut Writer, outcome: &Outcome) {
        match outcome {
            Outcome::Row(row) => {
                w.u8(ROW);
                w.u64(row.id);
                put_row(w, row);
            }
            Outcome::Drop(reason) => w.text_outcome(DROP, reason),
            Outcome::Failed(failure) => {
                w.u8(FAILED);
                w.text(&failure.stage);
                w.text(&failure.kind);
                w.text(&failure.message);
                w.u32(failure.attempts);
            }
        }
    }

    impl Writer {
        fn text_outcome(&mut self, kind: u8, text: &str) {
            self.u8(kind);
            self.text(text);
        }
    }

    /// Reads what [`put_outcome`] wrote.
    pub(crate) fn get_outcome(r: &mut Reader<'_>) -> Result<Outcome, Malformed> {
        Ok(match r.u8()? {
            ROW => {
                let id = r.u64()?;
                Outcome::Row(Box::new(get_row(r, id)?))
            }
            DROP => Outcome::Drop(r.text()?),
            FAILED => Outcome::Failed(Failure {
                stage: Cow::Owned(r.text()?),
                kind: r.text()?,
                message: r.text()?,
                attempts: r.u32()?,
            }),
            _ => return Err(Malformed),
        })
    }

    /// Appends a row without its id.
    pub(crate) fn put_row(w: &mut Writer, row: &Row) {
        w.text(&row.url);
        w.option_text(row.final_url.as_deref());
        w.option(row.status, |w, v| w.u32(u32::from(v)));
        w.option_text(row.content_type.as_deref());
        w.option_text(row.charset.as_deref());
        w.u64(row.bytes);
        w.0.extend_from_slice(&row.sha256);
        w.option_text(row.title.as_deref());
        w.option_text(row.text.as_deref());
        w.option(row.word_count, Writer::u64);
        w.option(row.unique_words, Writer::u64);
        w.option(row.avg_word_len, |w, v| w.u64(v.to_bits()));
        w.option(row.char_count, Writer::u64);
        w.option_text(row.language.as_deref());
        w.option_text(row.file.as_deref());
        w.option_text(row.extra.as_deref());
        w.option(row.key, |w, key| w.0.extend_from_slice(&key));
    }

    /// Reads what [`put_row`] wrote.
    pub(crate) fn get_row(r: &mut Reader<'_>, id: u64) -> Result<Row, Malformed> {
        Ok(Row {
            id,
            url: r.text()?,
            final_url: r.option_text()?,
            status: r.option(Reader::u32)?.map(u16::try_from).transpose().map_err(|_| Malformed)?,
            content_type: r.option_text()?,
            charset: r.option_text()?,
            bytes: r.u64()?,
            sha256: r.array()?,
            title: r.option_text()?,
            text: r.option_text()?,
            word_count: r.option(Reader::u64)?,
            unique_words: r.option(Reader::u64)?,
            avg_word_len: r.option(Reader::u64)?.map(f64::from_bits),
            char_count: r.option(Reader::u64)?,
            language: r.option_text()?,
            file: r.option_text()?,
            extra: r.option_text()?,
            key: r.option(Reader::array)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let text = || proptest::option::of(".{0,12}");
        let row = (
            (any::<u64>(), ".{0,9}", text(), proptest::option::of(any::<u16>()), text(), text()),
            (any::<u64>(), any::<[u8; 32]>(), text(), text(), proptest::option::of(any::<u64>())),
            (proptest::option::of(any::<u64>()), proptest::option::of(-1e9..1e9f64), text(), text()),
        )
            .prop_map(|(a, b, c)| {
                Outcome::Row(Box::new(Row {
                    id: a.0,
                    url: a.1,
                    final_url: a.2,
                    status: a.3,
                    content_type: a.4,
                    charset: a.5,
                    bytes: b.0,
                    sha256: b.1,
                    title: b.2,
                    text: b.3,
                    word_count: b.4,
                    unique_words: c.0,
                    avg_word_len: c.1,
                    char_count: b.4,
                    language: c.2,
                    file: None,
                    extra: c.3,
                    key: b.4.map(|n| u128::from(n).to_le_bytes()),
                }))
            });
        let failed = (".{0,9}", ".{0,9}", any::<u32>()).prop_map(|(kind, message, attempts)| {
            Outcome::Failed(Failure { stage: Cow::Borrowed("fetch"), kind, message, attempts })
        });
        prop_oneof![row, ".{0,9}".prop_map(Outcome::Drop), failed]
    }

    proptest! {
        #[test]
        fn an_outcome_survives_the_codec(outcome in outcomes()) {
            let mut writer = wire::Writer::default();
            wire::put_outcome(&mut writer, &outcome);
            prop_assert_eq!(wire::get_outcome(&mut wire::Reader(&writer.0)), Ok(outcome));
        }

        #[test]
        fn cut_bytes_are_malformed_not_a_panic(outcome in outcomes(), keep in 0.0..1.0f64) {
            let mut writer = wire::Writer::default();
            wire::put_outcome(&mut writer, &outcome);
            let cut = (writer.0.len() as f64 * keep) as usize;
            prop_assert!(wire::get_outcome(&mut wire::Reader(&writer.0[..cut])).is_err());
        }
    }
}

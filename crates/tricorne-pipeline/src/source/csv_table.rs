//! CSV lists: a header, then one record a row, its URL in a named column, the other columns passed through.

use std::io::{self, BufRead, Read};

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::lines::not_a_list;
use super::{Entries, MAX_ENTRY_BYTES};
use crate::error::RunError;
use crate::expr::nearest::nearest;
use crate::record::Input;
use crate::runner::Source;

/// Rows as RFC 4180 has them: fields may be quoted, a quoted one may hold delimiters, line ends and doubled quotes.
pub(super) struct CsvTable {
    entries: Entries,
    url_column: String,
    delimiter: u8,
    /// Once the header has been read.
    rows: Option<Rows>,
}

struct Rows {
    reader: Reader<Bounded>,
    /// The place of the URL.
    url: usize,
    /// The names of all columns, as JSON text.
    names: Vec<String>,
    row: ByteRecord,
}

impl CsvTable {
    pub(super) fn new(entries: Entries, url_column: &str, delimiter: u8) -> Self {
        CsvTable { entries, url_column: url_column.to_owned(), delimiter, rows: None }
    }

    fn open(&mut self) -> Result<Rows, RunError> {
        let mut content = std::mem::replace(&mut self.entries.content, Box::new(io::empty()));
        let start = content.fill_buf().map_err(|error| self.entries.not_read(0, &error))?;
        if let Some((what, hint)) = not_a_list(start) {
            return Err(self.entries.unreadable(what, Some(hint.into())));
        }
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(Bounded { content, left: 0, exceeded: false });
        let mut row = ByteRecord::new();
        self.read(&mut reader, &mut row)?;
        let names: Vec<String> =
            row.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        if let Some((_, name)) = names.iter().enumerate().find(|(n, name)| names[..*n].contains(name)) {
            let hint = "give each column a name of its own".to_owned();
            return Err(self.entries.unreadable(format!("two columns are called `{name}`"), Some(hint)));
        }
        let Some(url) = names.iter().position(|name| *name == self.url_column) else {
            return Err(self.no_url_column(&names));
        };
        let names = names
            .iter()
            .map(|name| serde_json::to_string(name).expect("text always has a JSON form"))
            .collect();
        Ok(Rows { reader, url, names, row })
    }

    fn no_url_column(&self, names: &[String]) -> RunError {
        let [other, word] = if self.delimiter == b',' { ["\t", "\\t"] } else { [",", ","] };
        let hint = match nearest(&self.url_column, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `url_column = \"{near}\"`?"),
            None if names.iter().any(|name| name.contains(other)) => {
                format!("its first row looks as if `delimiter = \"{word}\"` were right")
            }
            None if names.iter().any(|name| name.contains(';')) => {
                "its first row looks as if `delimiter = \";\"` were right".into()
            }
            None if names.is_empty() => "the first row names the columns; this file has none".into(),
            None => format!(
                "the first row names the columns: here `{}`; say which by `url_column`",
                names.join("`, `")
            ),
        };
        self.entries.unreadable(format!("it has no column `{}`", self.url_column), Some(hint))
    }

    /// Reads the next row; false at the end.
    fn read(&self, reader: &mut Reader<Bounded>, row: &mut ByteRecord) -> Result<bool, RunError> {
        let line = reader.position().line();
        reader.get_mut().left = MAX_ENTRY_BYTES;
        reader.read_byte_record(row).map_err(|error| {
            if reader.get_ref().exceeded {
                let hint = format!("look for a quote in line {line} or after it that is not closed");
                let message = format!("the row that begins in line {line} is longer than 1 MiB");
                return self.entries.unreadable(message, Some(hint));
            }
            match error.kind() {
                ErrorKind::Io(error) => self.entries.not_read(line.saturating_sub(1), error),
                _ => self.entries.unreadable(error.to_string(), None),
            }
        })
    }
}

impl Source for CsvTable {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        let mut rows = match self.rows.take() {
            Some(rows) => rows,
            None => self.open()?,
        };
        let more = self.read(&mut rows.reader, &mut rows.row)?;
        let input = more.then(|| rows.input(&mut self.entries));
        self.rows = Some(rows);
        Ok(input)
    }

    fn name(&self) -> String {
        self.entries.name.clone()
    }
}

impl Rows {
    fn input(&self, entries: &mut Entries) -> Input {
        let place = format!("line {}", self.row.position().map_or(0, csv::Position::line));
        let text = String::from_utf8_lossy(self.row.get(self.url).unwrap_or_default()).into_owned();
        if self.row.len() != self.names.len() {
            let what = format!("has {} fields where the first row has {}", self.row.len(), self.names.len());
            return entries.broken(&text, "csv_fields", &place, &what);
        }
        let fields: Result<Vec<&str>, _> = self.row.iter().map(std::str::from_utf8).collect();
        let Ok(fields) = fields else {
            return entries.broken(&text, "not_utf8", &place, "is not UTF-8");
        };
        if text.trim().is_empty() {
            return entries.broken("", "no_url", &place, "has no URL");
        }
        let mut extra = String::new();
        for (_, (name, field)) in self.names.iter().zip(fields).enumerate().filter(|(n, _)| *n != self.url) {
            extra.push(if extra.is_empty() { '{' } else { ',' });
            extra.push_str(name);
            extra.push(':');
            extra.push_str(&serde_json::to_string(field).expect("text always has a JSON form"));
        }
        if !extra.is_empty() {
            extra.push('}');
        }
        entries.good(text.trim().to_owned(), (!extra.is_empty()).then_some(extra))
    }
}

/// Content of which no more than a bound is read for one row: a quote that is never closed would take in all the rest.
struct Bounded {
    content: Box<dyn BufRead + Send>,
    left: u64,
    exceeded: bool,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.exceeded = true;
            return Err(io::Error::other("the row is too long"));
        }
        let read = self.content.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

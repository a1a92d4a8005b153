//! A plan as TOML, with every default written out.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};

use toml::Value;

use super::bytes::format_bytes;
use super::parse::PRIVATE_ADDRESSES;
use super::rate::format_rate;
use super::{Fetch, Format, InputPath, Limit, Plan, Source, Stage};

impl Plan {
    /// The plan as TOML with every default written out; parsing it with the same `base_dir` gives an equal plan.
    ///
    /// Paths below `base_dir` are written relative to it, so the text may also move with its folder. A part of
    /// a path that is not Unicode is replaced, as TOML cannot hold it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = Printer { text: String::new() };
        self.print_source(&mut out);
        if let Some(fetch) = &self.fetch {
            self.print_fetch(fetch, &mut out);
        }
        for stage in &self.stages {
            print_stage(stage, &mut out);
        }
        out.section("[sink]");
        out.string("path", &self.written_path(&self.sink.path));
        out.string("format", self.sink.format.as_str());
        out.line("records_per_shard", self.sink.records_per_shard);
        if self.sink.format.is_compressed() {
            out.line("compression_level", self.sink.compression_level);
        }
        if self.sink.format == Format::Parquet {
            out.line("row_group_rows", self.sink.row_group_rows);
        }
        out.line("keep_pages", self.sink.keep_pages);
        let columns: Vec<String> =
            self.written_columns().iter().map(|column| column.name().to_owned()).collect();
        out.strings("columns", &columns);
        out.section("[run]");
        out.limit("workers", self.run.workers);
        out.seconds("watchdog_secs", self.run.watchdog_secs);
        out.text
    }

    fn print_source(&self, out: &mut Printer) {
        out.section("[source]");
        match &self.source {
            Source::Urls { path } => out.string("urls", &self.written_input(path)),
            Source::UrlList(urls) => out.strings("urls", urls),
            Source::Jsonl { path, url_key } => {
                out.string("jsonl", &self.written_input(path));
                out.string("url_key", url_key);
            }
            Source::Csv { path, url_column, delimiter } => {
                out.string("csv", &self.written_input(path));
                out.string("url_column", url_column);
                out.string("delimiter", &char::from(*delimiter).to_string());
            }
            Source::Parquet { path, url_column } => {
                out.string("parquet", &self.written_path(path));
                out.string("url_column", url_column);
            }
            Source::Files { patterns } => out.strings("files", patterns),
        }
    }

    fn print_fetch(&self, fetch: &Fetch, out: &mut Printer) {
        out.section("[fetch]");
        out.limit("concurrency", fetch.concurrency);
        out.limit("per_host", fetch.per_host);
        if let Some(rate) = fetch.rate_per_host {
            out.string("rate_per_host", &format_rate(rate));
        }
        out.seconds("connect_secs", fetch.connect_secs);
        out.seconds("first_byte_secs", fetch.first_byte_secs);
        out.seconds("stall_secs", fetch.stall_secs);
        out.seconds("timeout_secs", fetch.timeout_secs);
        out.line("retries", fetch.retries);
        out.seconds("retry_base_secs", fetch.retry_base_secs);
        out.seconds("retry_max_secs", fetch.retry_max_secs);
        out.seconds("retry_after_max_secs", fetch.retry_after_max_secs);
        out.line("max_redirects", fetch.max_redirects);
        out.string("max_body_bytes", &format_bytes(fetch.max_body_bytes));
        out.string("max_decoded_bytes", &format_bytes(fetch.max_decoded_bytes));
        out.string("user_agent", &fetch.user_agent);
        for (word, value) in PRIVATE_ADDRESSES {
            if value == fetch.private_addresses {
                out.string("private_addresses", word);
            }
        }
        if let Some(ca_file) = &fetch.ca_file {
            out.string("ca_file", &self.written_path(ca_file));
        }
        if !fetch.headers.is_empty() {
            out.section("[fetch.headers]");
            for (name, value) in &fetch.headers {
                out.line(&quoted(name), quoted(value));
            }
        }
    }

    fn written_input(&self, path: &InputPath) -> String {
        match path {
            InputPath::Stdin => "-".into(),
            InputPath::File(path) => match self.written_path(path) {
                // A file of that name is not the standard input.
                name if name == "-" => "./-".into(),
                name => name,
            },
        }
    }

    /// The path as the plan file would say it.
    fn written_path(&self, path: &Path) -> String {
        let relative = path.strip_prefix(&self.base_dir).unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        // A relative path that does not lie below the plan's folder has to find its way out of it.
        let written = match self.base_dir.join(relative) == path {
            true => relative.to_owned(),
            false => std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)),
        };
        written.to_string_lossy().into_owned()
    }
}

fn print_stage(stage: &Stage, out: &mut Printer) {
    out.section("[[stage]]");
    out.string("use", stage.name());
    match stage {
        Stage::Extract | Stage::Clean => {}
        Stage::Features { columns } => {
            let names: Vec<String> = columns.iter().map(|feature| feature.name().to_owned()).collect();
            out.strings("columns", &names);
        }
        Stage::Filter { source, .. } => out.string("where", source),
        Stage::Dedup { by } => out.string("by", by.as_str()),
    }
}

/// The text in TOML's quotes.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Writes lines of TOML.
struct Printer {
    text: String,
}

impl Printer {
    fn section(&mut self, header: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.line_text(format_args!("{gap}{header}"));
    }

    fn line(&mut self, key: &str, value: impl Display) {
        self.line_text(format_args!("{key} = {value}"));
    }

    fn line_text(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.line(key, quoted(value));
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        match values {
            [] => self.line(key, "[]"),
            [only] => self.line(key, format_args!("[{}]", quoted(only))),
            several => {
                self.line(key, "[");
                for value in several {
                    self.line_text(format_args!("    {},", quoted(value)));
                }
                self.line_text(format_args!("]"));
            }
        }
    }

    fn limit(&mut self, key: &str, limit: Limit) {
        match limit {
            Limit::Auto => self.string(key, "auto"),
            Limit::Fixed(number) => self.line(key, number),
        }
    }

    /// The shortest form that reads back as the same number; whole seconds without a point.
    fn seconds(&mut self, key: &str, seconds: f64) {
        self.line(key, seconds);
    }
}

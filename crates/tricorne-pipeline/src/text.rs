//! The text stages of a plan, run one after the other on one record by one worker.
//!
//! They are fused: a page that is 30 kB long goes through all of them on one core, out of that core's
//! cache, without a queue in between. Each still has its own time in the report.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use tricorne_text::{Counter, Extractor, MainText, Sniffed, clean, decode, language, sniff};

use crate::error::RunError;
use crate::expr;
use crate::files::{Files, publish};
use crate::plan::{Feature, Plan, Stage, of_the_sink};
use crate::record::{Failure, Outcome, Record, Row, StoredPage};
use crate::runner::{Process, StageClock, Worker};
use crate::sink::{Cell, Column, hex};

/// One step, with what it needs.
enum Step {
    /// Keep the body as a file.
    Keep,
    /// From bytes to text.
    Decode,
    Extract,
    Clean,
    Features(Vec<Feature>),
    Filter {
        reason: String,
        expr: expr::Expr,
    },
}

/// The per-record stages of a plan.
pub(crate) struct TextStages {
    shared: Arc<Shared>,
    names: Vec<&'static str>,
}

struct Shared {
    steps: Vec<Step>,
    /// What a condition may name, in the order of its indices.
    columns: Vec<Column>,
    /// Whether the text is wanted once it has been measured.
    needs_text: bool,
    extractor: MainText,
    files: Arc<dyn Files>,
    out: PathBuf,
}

impl TextStages {
    pub(crate) fn new(plan: &Plan, files: Arc<dyn Files>) -> Self {
        let mut steps = Vec::new();
        let mut names = Vec::new();
        let mut add = |name, step| {
            names.push(name);
            steps.push(step);
        };
        if plan.sink.keep_pages {
            add("keep", Step::Keep);
        }
        if plan.makes_text() {
            add("decode", Step::Decode);
        }
        for stage in &plan.stages {
            match stage {
                Stage::Extract => add("extract", Step::Extract),
                Stage::Clean => add("clean", Step::Clean),
                Stage::Features { columns } => add("features", Step::Features(columns.clone())),
                Stage::Filter { source, expr } => {
                    add("filter", Step::Filter { reason: format!("filter: {source}"), expr: expr.clone() });
                }
                Stage::Dedup { .. } => {} // a pass over the committed shards
            }
        }
        let shared = Shared {
            steps,
            columns: of_the_sink(&plan.columns()),
            needs_text: plan.needs_text(),
            extractor: MainText::default(),
            files,
            out: plan.sink.path.clone(),
        };
        TextStages { shared: Arc::new(shared), names }
    }
}

impl Process for TextStages {
    fn stages(&self) -> &[&'static str] {
        &self.names
    }

    fn worker(&self) -> Box<dyn Worker> {
        Box::new(TextWorker { shared: Arc::clone(&self.shared), counter: Counter::new() })
    }
}

struct TextWorker {
    shared: Arc<Shared>,
    counter: Counter,
}

impl Worker for TextWorker {
    fn process(
        &mut self,
        record: &Record,
        page: StoredPage,
        clock: &mut StageClock<'_>,
    ) -> Result<Outcome, RunError> {
        let shared = Arc::clone(&self.shared);
        let mut row = Row {
            id: record.id,
            url: record.url.clone(),
            final_url: page.final_url.clone(),
            status: page.status,
            content_type: page.content_type.clone(),
            bytes: page.body.len() as u64,
            sha256: page.sha256,
            extra: record.extra.clone(),
            ..Row::default()
        };
        let mut text = None;
        // Whether the text is still markup, for `extract`.
        let mut markup = false;
        for (n, step) in shared.steps.iter().enumerate() {
            clock.enter(n);
            let done = match step {
                Step::Keep => {
                    row.file = Some(shared.keep(record.id, &page)?);
                    Ok(())
                }
                Step::Decode => decode_page(&page, &mut row).map(|decoded| {
                    markup = decoded.1;
                    text = Some(decoded.0);
                }),
                Step::Extract if markup => {
                    extract(&shared.extractor, text.as_deref().unwrap_or_default(), &mut row)
                        .map(|extracted| text = Some(Cow::Owned(extracted)))
                }
                Step::Extract => Ok(()), // plain text is its own main text
                Step::Clean => {
                    clean_in_place(&mut text);
                    clean_in_place(&mut row.title);
                    Ok(())
                }
                Step::Features(features) => {
                    self.measure(features, text.as_deref().unwrap_or_default(), &mut row);
                    Ok(())
                }
                Step::Filter { reason, expr } => {
                    let view = RowView {
                        row: &row,
                        text: text.as_deref(),
                        columns: &shared.columns,
                        hex: OnceCell::new(),
                    };
                    if !expr.eval(&view) {
                        return Ok(Outcome::Drop(reason.clone()));
                    }
                    Ok(())
                }
            };
            if let Err(mut failure) = done {
                failure.attempts = page.attempts;
                return Ok(Outcome::Failed(failure));
            }
        }
        if shared.needs_text {
            row.text = text.map(Cow::into_owned);
        }
        Ok(Outcome::Row(Box::new(row)))
    }
}

impl TextWorker {
    fn measure(&mut self, features: &[Feature], text: &str, row: &mut Row) {
        if features.iter().any(|feature| *feature != Feature::Language) {
            let counts = self.counter.count(text);
            row.word_count = Some(counts.word_count);
            row.unique_words = Some(counts.unique_words);
            row.avg_word_len = Some(counts.avg_word_len);
            row.char_count = Some(counts.char_count);
        }
        if features.contains(&Feature::Language) {
            row.language = language(text).map(|language| language.code.to_owned());
        }
    }
}

/// The text, and whether it is markup.
fn decode_page<'a>(page: &'a StoredPage, row: &mut Row) -> Result<(Cow<'a, str>, bool), Failure> {
    let content_type = page.content_type.as_deref();
    let kind = sniff(&page.body, content_type);
    if !kind.is_text() {
        let served = content_type.map_or_else(String::new, |served| format!(", served as `{served}`"));
        return Err(Failure {
            stage: "decode".into(),
            kind: format!("content_{kind}"),
            message: format!("the content is {kind}{served}; not text"),
            attempts: 0,
        });
    }
    let decoded = decode(&page.body, content_type);
    row.charset = Some(decoded.charset.to_owned());
    Ok((decoded.text, kind.is_page() || kind == Sniffed::Xml))
}

fn extract(extractor: &dyn Extractor, html: &str, row: &mut Row) -> Result<String, Failure> {
    let url = row.final_url.as_deref().or(Some(&row.url));
    let extracted = extractor.extract(html, url).map_err(|error| Failure {
        stage: "extract".into(),
        kind: "too_large".into(),
        message: error.to_string(),
        attempts: 0,
    })?;
    row.title = extracted.title;
    Ok(extracted.text)
}

fn clean_in_place<T: AsRef<str> + From<String>>(text: &mut Option<T>) {
    if let Some(text) = text
        && let Cow::Owned(cleaned) = clean(text.as_ref())
    {
        *text = cleaned.into();
    }
}

impl Shared {
    /// Writes the body to `pages/`, named after its content: the same body is the same file, whoever
    /// writes it and however often.
    fn keep(&self, id: u64, page: &StoredPage) -> Result<String, RunError> {
        let name = hex(&page.sha256);
        let kind = sniff(&page.body, page.content_type.as_deref());
        let file = format!("pages/{}/{name}.{}", &name[..2], extension(kind));
        let path = self.out.join(&file);
        let write = || {
            let dir = path.parent().unwrap_or(&self.out);
            self.files.create_dir_all(dir)?;
            // Named after the record too: another worker may be writing the same content.
            let temporary = path.with_extension(format!("{id}.tmp"));
            let out = self.files.create(&temporary)?;
            out.append(&[&page.body])?;
            out.sync()?;
            publish(&*self.files, &temporary, &path)
        };
        if !self.files.exists(&path).map_err(RunError::io("look for", &path))? {
            write().map_err(RunError::io("write", &path))?;
        }
        Ok(file)
    }
}

/// The ending of a kept page's name.
fn extension(kind: Sniffed) -> &'static str {
    match kind {
        Sniffed::Html | Sniffed::Xhtml => "html",
        Sniffed::Xml => "xml",
        Sniffed::PlainText => "txt",
        Sniffed::Gzip => "gz",
        Sniffed::Zstd => "zst",
        Sniffed::Zip => "zip",
        Sniffed::Pdf => "pdf",
        _ => "bin",
    }
}

/// A row as the filter sees it.
struct RowView<'a> {
    row: &'a Row,
    /// It is put into the row at the end only.
    text: Option<&'a str>,
    columns: &'a [Column],
    hex: OnceCell<String>,
}

impl expr::Row for RowView<'_> {
    fn get(&self, column: usize) -> expr::Value<'_> {
        let Some(column) = self.columns.get(column) else { return expr::Value::Null };
        if *column == Column::Text {
            return self.text.map_or(expr::Value::Null, expr::Value::Text);
        }
        match column.cell(self.row) {
            Cell::Int(value) => value.map_or(expr::Value::Null, expr::Value::Int),
            Cell::Float(value) => value.map_or(expr::Value::Null, expr::Value::Float),
            Cell::Text(value) => value.map_or(expr::Value::Null, expr::Value::Text),
            Cell::Hex(digest) => expr::Value::Text(self.hex.get_or_init(|| hex(digest))),
        }
    }
}

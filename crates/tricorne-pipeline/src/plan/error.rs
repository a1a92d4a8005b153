//! What can be wrong with a plan, shown with the line where it is wrong.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthChar;

/// How many errors [`PlanErrors`] prints.
const MAX_PRINTED: usize = 20;

/// How many errors [`PlanErrors`] keeps; a file that is no plan can have one in every line.
pub(super) const MAX_KEPT: usize = 100;

/// How much of a long source line is shown, in characters on either side of the mistake.
const EXCERPT_CHARS: usize = 60;

/// The kinds of mistakes in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// The plan file cannot be read.
    Unreadable,
    /// The file is not TOML.
    Syntax,
    /// A section or key that plans do not have.
    UnknownKey,
    /// A section or key that is needed.
    MissingKey,
    /// A value of the wrong type.
    WrongType,
    /// A value of the right type that makes no sense: out of range, not one of the words, empty.
    BadValue,
    /// A file that the plan names is not there, or is a folder.
    MissingFile,
    /// A mistake in the condition of a `filter` stage.
    Expression,
    /// A stage at the wrong place.
    StageOrder,
    /// Something is there twice.
    Duplicate,
    /// Two settings that do not go together.
    Conflict,
}

/// One mistake in a plan, with its place.
///
/// `Display` gives `path:line:column: message`, the source line with the mistake underlined, and the hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PlanError {
    /// The plan file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// Which kind of mistake.
    pub kind: PlanErrorKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The source line and what underlines it; none for a mistake of the file as a whole.
    excerpt: Option<Excerpt>,
}

/// A source line and the marks below it, ready to print.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    line: String,
    marks: String,
}

impl PlanError {
    /// A mistake at the bytes `span` of `source`.
    pub(super) fn at(
        path: &Path,
        source: &str,
        span: Range<usize>,
        kind: PlanErrorKind,
        message: String,
        hint: Option<String>,
    ) -> PlanError {
        let start = floor_char_boundary(source, span.start);
        let end = floor_char_boundary(source, span.end).max(start);
        let line_start = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |newline| start + newline);
        let line = source[line_start..line_end].trim_end_matches('\r');
        // A mistake can start at the line break itself, or go on in later lines.
        let in_line = |at: usize| (at - line_start).min(line.len());
        PlanError {
            path: path.into(),
            line: source[..start].matches('\n').count() + 1,
            column: line[..in_line(start)].chars().count() + 1,
            kind,
            message,
            hint,
            excerpt: Some(excerpt(line, in_line(start)..in_line(end))),
        }
    }

    /// A mistake of the file as a whole, shown without a line of it.
    pub(super) fn whole_file(
        path: &Path,
        kind: PlanErrorKind,
        message: String,
        hint: Option<String>,
    ) -> PlanError {
        PlanError { path: path.into(), line: 1, column: 1, kind, message, hint, excerpt: None }
    }
}

fn floor_char_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The part of a line around `span`, with marks that stand under it in a terminal.
fn excerpt(line: &str, span: Range<usize>) -> Excerpt {
    let before: Vec<char> = line[..span.start].chars().collect();
    let cut = before.len().saturating_sub(EXCERPT_CHARS);
    let mut shown = String::from(if cut > 0 { "…" } else { "" });
    let mut marks = String::from(if cut > 0 { " " } else { "" });
    let mut marked = 0;
    for &c in &before[cut..] {
        let c = printable(c);
        shown.push(c);
        // A tab stays a tab so that it is as wide below as above.
        if c == '\t' {
            marks.push('\t');
        } else {
            marks.extend(std::iter::repeat_n(' ', c.width().unwrap_or(0)));
        }
    }
    let mut rest = line[span.start..].char_indices();
    for (offset, c) in rest.by_ref().take(EXCERPT_CHARS) {
        let c = printable(c);
        shown.push(c);
        if offset < span.len() {
            let width = if c == '\t' { 1 } else { c.width().unwrap_or(0) };
            marks.extend(std::iter::repeat_n('^', width));
            marked += width;
        }
    }
    if rest.next().is_some() {
        shown.push('…');
    }
    if marked == 0 {
        marks.push('^');
    }
    Excerpt { line: shown.trim_end().into(), marks }
}

/// The character, or a visible stand-in: a control character could command the terminal.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

impl Display for PlanError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)?;
        let gutter = self.line.to_string().len() + 1;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n {} | {}\n {:gutter$}| {}", self.line, excerpt.line, "", excerpt.marks)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n {:gutter$}= hint: {hint}", "")?;
        }
        Ok(())
    }
}

/// What is wrong with a plan: every mistake, or the first hundred; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PlanErrors {
    errors: Vec<PlanError>,
    /// How many more there are.
    unkept: usize,
}

impl PlanErrors {
    pub(super) fn new(mut errors: Vec<PlanError>, unkept: usize) -> PlanErrors {
        errors.sort_by_key(|error| (error.line, error.column));
        PlanErrors { errors, unkept }
    }

    /// The mistakes, by rising line and column.
    #[must_use]
    pub fn errors(&self) -> &[PlanError] {
        &self.errors
    }
}

impl Display for PlanErrors {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, error) in self.errors.iter().take(MAX_PRINTED).enumerate() {
            write!(f, "{}{error}", if place == 0 { "" } else { "\n" })?;
        }
        match self.errors.len().saturating_sub(MAX_PRINTED) + self.unkept {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

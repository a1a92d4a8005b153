//! Checks the `[[stage]]` tables: what each one needs, and that they stand in an order that works.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::columns::{columns, how_to_get};
use super::error::PlanErrorKind;
use super::parse::owner;
use super::reader::{Found, Reader, Section};
use super::{DedupKey, Feature, Stage};
use crate::expr::nearest::{nearest, word_list};
use crate::expr::{Column, Expr, ExprErrorKind};

/// What messages call the section of a stage.
pub(super) const STAGE: &str = "`[[stage]]`";

/// A stage that was read, and where its name stands.
struct Read<'a> {
    kind: Kind<'a>,
    span: Range<usize>,
}

/// A stage before it is known what the others are.
enum Kind<'a> {
    /// Done.
    Stage(Stage),
    /// The condition of a filter; `None` if it could not be read.
    Filter(Option<Found<&'a str>>),
    /// The key of a dedup, if it says one.
    Dedup(Option<Found<DedupKey>>),
    /// A stage of unknown name.
    Unknown,
}

impl Kind<'_> {
    fn rank(&self) -> Option<usize> {
        match self {
            Kind::Stage(stage) => Some(stage.rank()),
            Kind::Filter(_) => Some(3),
            Kind::Dedup(_) => Some(4),
            Kind::Unknown => None,
        }
    }
}

/// The stages of a plan; incomplete only where an error was noted. `may_have_extra` says whether the source
/// gives rows an `extra` column.
pub(super) fn stages<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>, may_have_extra: bool) -> Vec<Stage> {
    let Some(value) = root.get("stage") else {
        return Vec::new();
    };
    let DeValue::Array(items) = value.get_ref() else {
        let message = "`stage` must be a list of stages, not one section";
        reader.error(
            value.span(),
            PlanErrorKind::WrongType,
            message,
            "start each stage with `[[stage]]`".to_owned(),
        );
        return Vec::new();
    };
    let mut read = Vec::new();
    for item in items {
        let DeValue::Table(table) = item.get_ref() else {
            reader.wrong_type("stage", item, "a section that starts with `[[stage]]`");
            continue;
        };
        read.push(stage(reader, &Section { name: STAGE, table, span: item.span() }));
    }
    check_order(reader, &read);
    finish(reader, read, may_have_extra)
}

fn stage<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Read<'a> {
    let unknown = |span| Read { kind: Kind::Unknown, span };
    if !section.table.contains_key("use") {
        reader.missing(section, "use", "a line like `use = \"extract\"`");
        return unknown(section.span.clone());
    }
    let Some(name) = reader.string(section, "use") else {
        return unknown(section.span.clone());
    };
    let (keys, kind): (&[&str], _) = match name.value {
        "extract" => (&["use"], Kind::Stage(Stage::Extract)),
        "clean" => (&["use"], Kind::Stage(Stage::Clean)),
        "features" => {
            (&["use", "columns"], Kind::Stage(Stage::Features { columns: features(reader, section) }))
        }
        "filter" => {
            if !section.table.contains_key("where") {
                reader.missing(section, "where", "a condition like `where = \"word_count >= 20\"`");
            }
            (&["use", "where"], Kind::Filter(reader.string(section, "where")))
        }
        "dedup" => {
            let keys = [DedupKey::Text, DedupKey::Sha256].map(|key| (key.as_str(), key));
            (&["use", "by"], Kind::Dedup(reader.choice(section, "by", "dedup key", &keys)))
        }
        other => {
            let hint = match (other, nearest(other, Stage::NAMES)) {
                (_, Some(near)) => format!("did you mean `\"{near}\"`?"),
                ("decode", None) => {
                    "leave it out: text is decoded before the first stage that needs it".into()
                }
                ("fetch", None) => "leave it out: the `[fetch]` section is not a stage".into(),
                (_, None) => format!("the stages are {}", word_list(Stage::NAMES, "and")),
            };
            let message = format!("there is no stage `{other}`");
            reader.error(name.span.clone(), PlanErrorKind::BadValue, message, hint);
            return unknown(name.span);
        }
    };
    reader.check_keys(section, keys, |key| {
        // A key of another stage is better explained by the list of this stage's keys.
        owner(key).filter(|other| *other != STAGE)
    });
    Read { kind, span: name.span }
}

/// The columns of a features stage: all where it names none, or names them wrongly.
fn features<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Vec<Feature> {
    let Some(value) = section.table.get("columns") else {
        return Feature::ALL.into();
    };
    let Some(names) = reader.strings("columns", value, "a list of features") else {
        return Feature::ALL.into();
    };
    reader.refuse_repeats("columns", &names);
    let choices = Feature::ALL.map(|feature| (feature.name(), feature));
    let features: Vec<Feature> =
        names.iter().filter_map(|name| reader.one_of("feature", name, &choices)).collect();
    if features.len() == names.len() { features } else { Feature::ALL.into() }
}

fn check_order(reader: &mut Reader<'_>, stages: &[Read<'_>]) {
    // Where the first stage of each rank stands, and the latest rank so far.
    let mut firsts = [None; Stage::NAMES.len()];
    let mut latest = 0;
    for stage in stages {
        let Some(rank) = stage.kind.rank() else { continue };
        let name = Stage::NAMES[rank];
        let is_filter = matches!(stage.kind, Kind::Filter(_));
        match firsts[rank] {
            Some(first) if !is_filter => {
                let first = reader.text[..first].matches('\n').count() + 1;
                let message = format!("the stage `{name}` is there twice, first on line {first}");
                reader.error(
                    stage.span.clone(),
                    PlanErrorKind::Duplicate,
                    message,
                    "leave one out".to_owned(),
                );
            }
            _ if rank < latest => {
                let message = format!("the stage `{name}` cannot come after `{}`", Stage::NAMES[latest]);
                let hint = format!("the order is {}", word_list(Stage::NAMES, "and"));
                reader.error(stage.span.clone(), PlanErrorKind::StageOrder, message, hint);
            }
            _ => {}
        }
        firsts[rank].get_or_insert(stage.span.start);
        latest = latest.max(rank);
    }
}

/// Checks what depends on other stages, and gives the stages their final form.
fn finish(reader: &mut Reader<'_>, read: Vec<Read<'_>>, may_have_extra: bool) -> Vec<Stage> {
    let certain = !read.iter().any(|stage| matches!(stage.kind, Kind::Unknown));
    let made: Vec<Stage> = read
        .iter()
        .filter_map(|stage| match &stage.kind {
            Kind::Stage(stage) => Some(stage.clone()),
            _ => None,
        })
        .collect();
    let makes_text = made.iter().any(Stage::makes_text);
    let available = if certain {
        columns(may_have_extra, &made)
    } else {
        // The misspelt stage may make any column: a filter on it is not a second mistake.
        columns(true, &[Stage::Extract, Stage::Features { columns: Feature::ALL.into() }])
    };
    let mut stages = Vec::with_capacity(read.len());
    for Read { kind, span } in read {
        match kind {
            Kind::Stage(stage) => stages.push(stage),
            Kind::Filter(condition) => {
                stages.extend(condition.and_then(|condition| filter(reader, &condition, &available)));
            }
            Kind::Dedup(by) => {
                let default = if makes_text { DedupKey::Text } else { DedupKey::Sha256 };
                let by_span = by.as_ref().map_or(span, |found| found.span.clone());
                let by = by.map_or(default, |found| found.value);
                if by == DedupKey::Text && !makes_text && certain {
                    let message = "rows have no `text` to compare: no earlier stage makes it";
                    let hint = "add a stage with `use = \"extract\"` before it, or write `by = \"sha256\"`";
                    reader.error(by_span, PlanErrorKind::StageOrder, message, hint.to_owned());
                }
                stages.push(Stage::Dedup { by });
            }
            Kind::Unknown => {}
        }
    }
    stages
}

fn filter(reader: &mut Reader<'_>, condition: &Found<&str>, available: &[Column]) -> Option<Stage> {
    let error = match Expr::parse(condition.value, available) {
        Ok(expr) => return Some(Stage::Filter { source: condition.value.to_owned(), expr }),
        Err(error) => error,
    };
    let raw = &reader.text[condition.span.clone()];
    let start = condition.span.start + raw_offset(raw, error.offset);
    let end = condition.span.start + raw_offset(raw, error.offset + error.len);
    let (mut kind, mut message, mut hint) = (PlanErrorKind::Expression, error.message, error.hint);
    if let ExprErrorKind::UnknownColumn { name } = &error.kind
        && let Some(way) = how_to_get(name)
    {
        kind = PlanErrorKind::StageOrder;
        message = format!("no earlier stage makes the column `{name}`");
        hint = Some(way);
    }
    reader.error(start..end, kind, message, hint);
    None
}

/// Where byte `decoded` of a string's value stands in `raw`, its TOML notation with quotes.
fn raw_offset(raw: &str, decoded: usize) -> usize {
    let multi_line = raw.starts_with("\"\"\"") || raw.starts_with("'''");
    let mut at = if multi_line { 3 } else { 1 };
    if multi_line {
        // A line break right after the opening quotes is not part of the value.
        at += raw[at..].chars().take_while(|c| *c == '\r').count();
        at += usize::from(raw[at..].starts_with('\n'));
    }
    let mut value_bytes = 0;
    while value_bytes < decoded {
        let Some(c) = raw[at..].chars().next() else { break };
        if c != '\\' || raw.starts_with('\'') {
            at += c.len_utf8();
            value_bytes += c.len_utf8();
            continue;
        }
        let escape = &raw[at + 1..];
        let digits = match escape.chars().next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(c) if c.is_whitespace() => {
                // A backslash at the end of a line joins it with the next one.
                at += 1 + (escape.len() - escape.trim_start().len());
                continue;
            }
            _ => 0,
        };
        let code = escape.get(1..=digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        value_bytes += code.and_then(char::from_u32).map_or(1, char::len_utf8);
        at += 2 + digits;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_in_a_value_are_found_in_its_notation() {
        for (raw, wanted) in [
            (r#""a > x""#, "x"),
            (r#"'a > x'"#, "x"),
            (r#""'\t\u00e9\x41\U0001F600' < x""#, "x"),
            ("\"\"\"\nab\\\n   c > x\"\"\"", "x"),
            ("\"\"\"\r\nab > x\"\"\"", "x"),
            ("'''\na\\b > x'''", "x"),
            ("\"é > x\"", "x"),
        ] {
            let document = format!("v = {raw}");
            let value = toml::from_str::<toml::Table>(&document).unwrap()["v"].as_str().unwrap().to_owned();
            let decoded = value.find(wanted).unwrap();
            let at = raw_offset(raw, decoded);
            assert!(raw[at..].starts_with(wanted), "{raw}: {at}");
        }
    }
}

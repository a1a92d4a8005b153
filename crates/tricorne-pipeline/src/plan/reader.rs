//! Reads typed values out of parsed TOML and collects what is wrong with them.

use std::collections::HashSet;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tricorne_exec::limit::Rate;

use super::Limit;
use super::bytes::{format_bytes, parse_bytes};
use super::error::{MAX_KEPT, PlanError, PlanErrorKind, PlanErrors};
use super::rate::parse_rate;
use crate::expr::nearest::{nearest, word_list};

/// A table of the plan.
pub(super) struct Section<'a> {
    /// What messages call it: [`PLAN`], `` `[fetch]` `` and so on.
    pub(super) name: &'static str,
    pub(super) table: &'a DeTable<'a>,
    /// Where it starts: its header, or the whole inline table.
    pub(super) span: Range<usize>,
}

/// What messages call the [`Section`] that holds the sections.
pub(super) const PLAN: &str = "the plan";

/// A value with the place where it is written.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The source text and the mistakes found in it so far.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    errors: Vec<PlanError>,
    /// Mistakes beyond those that are kept.
    unkept: usize,
}

impl<'a> Reader<'a> {
    /// A reader that has found no mistake yet.
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Reader { path, text, errors: Vec::new(), unkept: 0 }
    }

    /// The value, if no mistake was found; there is none only where one was.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, PlanErrors> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(PlanErrors::new(self.errors, self.unkept)),
        }
    }

    /// How many mistakes were found so far.
    pub(super) fn count(&self) -> usize {
        self.errors.len() + self.unkept
    }

    /// Notes a mistake of the file as a whole.
    pub(super) fn whole_file_error(&mut self, kind: PlanErrorKind, message: String, hint: String) {
        self.errors.push(PlanError::whole_file(self.path, kind, message, Some(hint)));
    }

    /// Notes a mistake at `span`.
    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        kind: PlanErrorKind,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        // Finding a line takes time in proportion to the file, too much to do for every word of a wrong file.
        if self.errors.len() < MAX_KEPT {
            self.errors.push(PlanError::at(self.path, self.text, span, kind, message.into(), hint.into()));
        } else {
            self.unkept += 1;
        }
    }

    /// The value at `span` as written, shortened to one line for a message.
    pub(super) fn written(&self, span: &Range<usize>) -> String {
        const MAX_CHARS: usize = 50;
        let line = self.text[span.clone()].lines().next().unwrap_or_default();
        let mut short: String =
            line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
        if line.len() < span.len() || line.chars().nth(MAX_CHARS).is_some() {
            short.push('…');
        }
        format!("`{short}`")
    }

    /// Notes every key of the section that is not in `keys`. `owner` knows the section that has a key.
    pub(super) fn check_keys(
        &mut self,
        section: &Section<'_>,
        keys: &[&str],
        owner: impl Fn(&str) -> Option<&'static str>,
    ) {
        for key in section.table.keys() {
            let name: &str = key.get_ref();
            if keys.contains(&name) {
                continue;
            }
            let hint = match (nearest(name, keys.iter().copied()), owner(name)) {
                (_, Some(other)) => format!("`{name}` belongs to {other}"),
                (Some(near), None) => format!("did you mean `{near}`?"),
                (None, None) => {
                    format!("the keys of {} are {}", section.name, word_list(keys.iter().copied(), "and"))
                }
            };
            self.error(
                key.span(),
                PlanErrorKind::UnknownKey,
                format!("unknown key `{name}` in {}", section.name),
                hint,
            );
        }
    }

    /// Notes that `key` is not there; `example` is a line that would do.
    pub(super) fn missing(&mut self, section: &Section<'_>, key: &str, example: &str) {
        let message = format!("{} has no `{key}`", section.name);
        self.error(section.span.clone(), PlanErrorKind::MissingKey, message, format!("add {example}"));
    }

    /// Notes that a value is not what it should be.
    pub(super) fn wrong_type(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let message = format!(
            "`{key}` must be {wanted}, not the {} {}",
            value.get_ref().type_str(),
            self.written(&value.span())
        );
        // `"5"` for 5 is the usual reason.
        let hint = match value.get_ref() {
            DeValue::String(text) if text.parse::<f64>().is_ok() && wanted.contains("number") => {
                Some(format!("write `{text}` without quotes"))
            }
            _ => None,
        };
        self.error(value.span(), PlanErrorKind::WrongType, message, hint);
    }

    fn out_of_range(&mut self, key: &str, span: Range<usize>, allowed: &str) {
        let message = format!("`{key}` is {}", self.written(&span));
        self.error(span, PlanErrorKind::BadValue, message, format!("use {allowed}"));
    }

    /// True or false.
    pub(super) fn flag(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let value = section.table.get(key)?;
        let DeValue::Boolean(flag) = value.get_ref() else {
            self.wrong_type(key, value, "true or false");
            return None;
        };
        Some(*flag)
    }

    /// A text, which must not be empty.
    pub(super) fn string(&mut self, section: &Section<'a>, key: &str) -> Option<Found<&'a str>> {
        let text = self.any_string(section, key)?;
        self.not_empty(key, text.value, text.span)
    }

    /// A text, which may be empty or white space.
    pub(super) fn any_string(&mut self, section: &Section<'a>, key: &str) -> Option<Found<&'a str>> {
        let value = section.table.get(key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(key, value, "a string");
            return None;
        };
        Some(Found { value: text, span: value.span() })
    }

    fn not_empty(&mut self, key: &str, text: &'a str, span: Range<usize>) -> Option<Found<&'a str>> {
        if text.trim().is_empty() {
            let hint = "give it a value, or leave it out if it is not needed";
            self.error(span, PlanErrorKind::BadValue, format!("`{key}` is empty"), hint.to_owned());
            return None;
        }
        Some(Found { value: text, span })
    }

    /// A list of texts that are not empty; `wanted` is what the list is of.
    pub(super) fn strings(
        &mut self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        wanted: &str,
    ) -> Option<Vec<Found<&'a str>>> {
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, wanted);
            return None;
        };
        let before = self.count();
        let mut found = Vec::new();
        for item in items {
            let DeValue::String(text) = item.get_ref() else {
                self.wrong_type(key, item, "a list of strings");
                continue;
            };
            found.extend(self.not_empty(key, text, item.span()));
        }
        if items.is_empty() {
            self.error(
                value.span(),
                PlanErrorKind::BadValue,
                format!("`{key}` is empty"),
                format!("give {wanted}"),
            );
        }
        (self.count() == before).then_some(found)
    }

    /// Notes the texts that are in the list of `key` a second time.
    pub(super) fn refuse_repeats(&mut self, key: &str, list: &[Found<&str>]) {
        let mut seen = HashSet::new();
        for item in list {
            if !seen.insert(item.value) {
                let message = format!("{} is in `{key}` twice", self.written(&item.span));
                self.error(item.span.clone(), PlanErrorKind::Duplicate, message, "leave one out".to_owned());
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<T>,
    ) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let value = section.table.get(key)?;
        let DeValue::Integer(_) = value.get_ref() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let number = whole(value.get_ref()).and_then(|number| T::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let allowed = format!("a number from `{}` to `{}`", range.start(), range.end());
            self.out_of_range(key, value.span(), &allowed);
        }
        number
    }

    /// `"auto"` or a whole number from 1 to `most`.
    pub(super) fn limit(&mut self, section: &Section<'_>, key: &str, most: usize) -> Option<Limit> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) if text == "auto" => Some(Limit::Auto),
            DeValue::Integer(_) => {
                let number = whole(value.get_ref()).and_then(|number| usize::try_from(number).ok());
                let number = number.filter(|number| *number <= most).and_then(NonZeroUsize::new);
                if number.is_none() {
                    let allowed = format!("a number from `1` to `{most}`, or `\"auto\"`");
                    self.out_of_range(key, value.span(), &allowed);
                }
                number.map(Limit::Fixed)
            }
            _ => {
                self.wrong_type(key, value, "a whole number or `\"auto\"`");
                None
            }
        }
    }

    /// A time in seconds within `range`.
    pub(super) fn seconds(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<f64>,
    ) -> Option<Found<f64>> {
        let value = section.table.get(key)?;
        let seconds = match value.get_ref() {
            DeValue::Integer(_) => whole(value.get_ref()).map(|number| number as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => {
                self.wrong_type(key, value, "a number of seconds");
                return None;
            }
        };
        let seconds = seconds.filter(|seconds| range.contains(seconds));
        if seconds.is_none() {
            let allowed = format!("a number of seconds from `{}` to `{}`", range.start(), range.end());
            self.out_of_range(key, value.span(), &allowed);
        }
        seconds.map(|seconds| Found { value: seconds, span: value.span() })
    }

    /// A size in bytes, as a number or like `"10 MiB"`, within `range`.
    pub(super) fn bytes(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = section.table.get(key)?;
        let bytes = match value.get_ref() {
            DeValue::Integer(_) => whole(value.get_ref()).and_then(|number| u64::try_from(number).ok()),
            DeValue::String(text) => match parse_bytes(text) {
                None => {
                    let message = format!("`{key}` is {}, which is not a size", self.written(&value.span()));
                    let hint = "write a size like `\"10 MiB\"`, `\"500 kB\"` or a number of bytes";
                    self.error(value.span(), PlanErrorKind::BadValue, message, hint.to_owned());
                    return None;
                }
                bytes => bytes,
            },
            _ => {
                self.wrong_type(key, value, "a size like `\"10 MiB\"` or a number of bytes");
                return None;
            }
        };
        let bytes = bytes.filter(|bytes| range.contains(bytes));
        if bytes.is_none() {
            let (low, high) = (format_bytes(*range.start()), format_bytes(*range.end()));
            self.out_of_range(key, value.span(), &format!("a size from `{low}` to `{high}`"));
        }
        bytes
    }

    /// So many in a time, like `"10/s"`.
    pub(super) fn rate(&mut self, section: &Section<'a>, key: &str) -> Option<Rate> {
        let found = self.string(section, key)?;
        let rate = parse_rate(found.value);
        if rate.is_none() {
            let message = format!("`{key}` is {}, which is not a rate", self.written(&found.span));
            let hint =
                "write a number up to `1000000` and a time, like `\"10/s\"`, `\"90/min\"` or `\"500/h\"`";
            self.error(found.span, PlanErrorKind::BadValue, message, hint.to_owned());
        }
        rate
    }

    /// One of some words, each of which is a `noun`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        noun: &str,
        choices: &[(&'static str, T)],
    ) -> Option<Found<T>> {
        let found = self.string(section, key)?;
        let value = self.one_of(noun, &found, choices)?;
        Some(Found { value, span: found.span })
    }

    /// What the word stands for, if it is one of the choices.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        noun: &str,
        word: &Found<&str>,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word.value) {
            return Some(*value);
        }
        let names = || choices.iter().map(|(name, _)| *name);
        let hint = match nearest(word.value, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use {}", word_list(names(), "or")),
        };
        let message = format!("there is no {noun} `{}`", word.value.escape_debug());
        self.error(word.span.clone(), PlanErrorKind::BadValue, message, hint);
        None
    }
}

/// The value of an integer in any of TOML's notations; `None` if it does not fit 64 bits.
fn whole(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

//! Printing: lines to stdout or stderr. A closed pipe is not an error; nobody is there to read more.

use std::io::{self, Write};

use console::{Style, Term};

use super::fail::Failure;

pub(super) struct Output {
    stream: Box<dyn Write>,
    styled: bool,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Output { stream: Box::new(io::stdout()), styled: console::colors_enabled() }
    }

    pub(super) fn stderr() -> Self {
        Output { stream: Box::new(io::stderr()), styled: console::colors_enabled_stderr() }
    }

    pub(super) fn line(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.stream, "{}", text.as_ref());
    }

    pub(super) fn text(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes());
    }

    pub(super) fn bold(&self, text: impl AsRef<str>) -> String {
        Style::new().bold().force_styling(self.styled).apply_to(text.as_ref()).to_string()
    }

    pub(super) fn dim(&self, text: impl AsRef<str>) -> String {
        Style::new().dim().force_styling(self.styled).apply_to(text.as_ref()).to_string()
    }

    pub(super) fn failure(&mut self, failure: &Failure) {
        match failure {
            Failure::Plan(errors) => self.line(errors.to_string().trim_end()),
            Failure::Message { message, causes, hint } => {
                self.line(format!("{}: {message}", self.bold("error")));
                for cause in causes {
                    self.line(format!("  caused by: {cause}"));
                }
                if let Some(hint) = hint {
                    self.line(format!("{}: {hint}", self.bold("hint")));
                }
            }
        }
    }
}

/// The width to print in.
pub(super) fn width() -> usize {
    let (_, columns) = Term::stdout().size();
    usize::from(columns).clamp(60, 110)
}

/// `12.3 MB`: decimal units, three digits.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 || unit == "GB" {
            return match unit {
                "B" => format!("{count} B"),
                _ if value < 9.995 => format!("{value:.2} {unit}"),
                _ if value < 99.95 => format!("{value:.1} {unit}"),
                _ => format!("{value:.0} {unit}"),
            };
        }
        value /= 1000.0;
    }
    unreachable!("GB takes everything")
}

/// `1,234,567`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub(super) fn plural(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(value), if value == 1 { "" } else { "s" })
}

/// `0.25 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`.
pub(super) fn secs(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2} s"),
        value if value < 99.95 => format!("{value:.1} s"),
        value => {
            let whole = value.round() as u64;
            match whole {
                0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
                _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [bytes(999), bytes(1000), bytes(45_678), bytes(123_456_789)],
            ["999 B", "1.00 kB", "45.7 kB", "123 MB"]
        );
        assert_eq!(bytes(5_000_000_000_000), "5000 GB");
        assert_eq!(
            [secs(0.254), secs(12.34), secs(185.0), secs(7620.0)],
            ["0.25 s", "12.3 s", "3 min 05 s", "2 h 07 min"]
        );
        assert_eq!([plural(1, "row"), plural(2000, "row")], ["1 row", "2,000 rows"]);
    }
}

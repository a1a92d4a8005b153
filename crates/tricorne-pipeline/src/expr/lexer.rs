//! Cuts an expression into tokens.

use std::ops::Range;

use super::error::{ExprError, ExprErrorKind};
use super::eval::CompareOp;

/// One token of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'s> {
    Name(&'s str),
    Int(i64),
    Float(f64),
    Text(String),
    Compare(CompareOp),
    And,
    Or,
    Not,
    In,
    True,
    False,
    OpenParen,
    CloseParen,
    OpenBracket,
    CloseBracket,
    Comma,
    End,
}

/// A token with its place in the source, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Spanned<'s> {
    pub(super) token: Token<'s>,
    pub(super) span: Range<usize>,
}

/// A syntax error at `span`.
pub(super) fn syntax(span: &Range<usize>, message: String, hint: Option<String>) -> ExprError {
    ExprError { kind: ExprErrorKind::Syntax, offset: span.start, len: span.len(), message, hint }
}

/// All tokens of `source`, ended by one [`Token::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Spanned<'_>>, ExprError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = next_token(source, at, first)?;
        tokens.push(Spanned { token, span: at..at + length });
        at += length;
    }
    tokens.push(Spanned { token: Token::End, span: source.len()..source.len() });
    Ok(tokens)
}

fn next_token(source: &str, at: usize, first: char) -> Result<(Token<'_>, usize), ExprError> {
    let rest = &source[at..];
    let second = rest[first.len_utf8()..].chars().next();
    let two = |token| Ok((token, 2));
    let one = |token| Ok((token, 1));
    match (first, second) {
        ('=', Some('=')) => two(Token::Compare(CompareOp::Eq)),
        ('!', Some('=')) => two(Token::Compare(CompareOp::Ne)),
        ('<', Some('=')) => two(Token::Compare(CompareOp::Le)),
        ('>', Some('=')) => two(Token::Compare(CompareOp::Ge)),
        ('<', Some('>')) => Err(foreign(at, "<>", "!=")),
        ('&', Some('&')) => Err(foreign(at, "&&", "and")),
        ('|', Some('|')) => Err(foreign(at, "||", "or")),
        ('=', _) => Err(foreign(at, "=", "==")),
        ('!', _) => Err(foreign(at, "!", "not")),
        ('&', _) => Err(foreign(at, "&", "and")),
        ('|', _) => Err(foreign(at, "|", "or")),
        ('<', _) => one(Token::Compare(CompareOp::Lt)),
        ('>', _) => one(Token::Compare(CompareOp::Gt)),
        ('(', _) => one(Token::OpenParen),
        (')', _) => one(Token::CloseParen),
        ('[', _) => one(Token::OpenBracket),
        (']', _) => one(Token::CloseBracket),
        (',', _) => one(Token::Comma),
        ('"' | '\'', _) => text(source, at, first),
        ('0'..='9', _) | ('-' | '.', Some('0'..='9')) => number(source, at),
        _ if first.is_alphabetic() || first == '_' => {
            let word = name(rest);
            Ok((keyword(word, at)?, word.len()))
        }
        _ => Err(syntax(
            &(at..at + first.len_utf8()),
            format!("unexpected `{}`", first.escape_debug()),
            Some(
                "a condition has columns, numbers, text in quotes, comparisons, `and`, `or`, `not`, `in`"
                    .into(),
            ),
        )),
    }
}

/// The error for an operator of another language.
fn foreign(at: usize, written: &str, meant: &str) -> ExprError {
    let hint = Some(format!("write `{meant}`"));
    syntax(&(at..at + written.len()), format!("`{written}` is not an operator"), hint)
}

fn name(rest: &str) -> &str {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    &rest[..end]
}

fn keyword(word: &str, at: usize) -> Result<Token<'_>, ExprError> {
    Ok(match word {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        "in" => Token::In,
        "true" => Token::True,
        "false" => Token::False,
        _ => {
            let lower = word.to_ascii_lowercase();
            if ["and", "or", "not", "in", "true", "false"].contains(&lower.as_str()) {
                let hint = Some(format!("write `{lower}`, in lower case"));
                return Err(syntax(&(at..at + word.len()), format!("unexpected `{word}`"), hint));
            }
            Token::Name(word)
        }
    })
}

fn number(source: &str, at: usize) -> Result<(Token<'_>, usize), ExprError> {
    let bytes = source.as_bytes();
    let mut end = at + usize::from(bytes[at] == b'-');
    let mut fraction = false;
    while let Some(&byte) = bytes.get(end) {
        let exponent_sign =
            matches!(byte, b'+' | b'-') && matches!(bytes[end - 1], b'e' | b'E') && end > at + 1;
        // Letters are taken too, so that `20k` is one bad number and not a number and a column.
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || exponent_sign) {
            break;
        }
        fraction |= matches!(byte, b'.' | b'e' | b'E');
        end += 1;
    }
    let written = &source[at..end];
    let bad = |hint: &str| syntax(&(at..end), format!("`{written}` is not a number"), Some(hint.into()));
    let digits = written.trim_start_matches('-');
    let well_formed = digits.starts_with(|c: char| c.is_ascii_digit())
        && !digits.ends_with(['_', '.'])
        && !digits.contains("__")
        && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if !well_formed {
        return Err(bad("write numbers like `20`, `-1.5`, `1e3` or `10_000`"));
    }
    let plain = written.replace('_', "");
    let token = if fraction {
        let value: f64 =
            plain.parse().map_err(|_| bad("write numbers like `20`, `-1.5`, `1e3` or `10_000`"))?;
        if !value.is_finite() {
            return Err(bad("it is too large for a number of 64 bits"));
        }
        // Adding zero turns -0.0 into 0.0, which compares the same: one canonical form.
        Token::Float(value + 0.0)
    } else {
        Token::Int(plain.parse().map_err(|_| bad("it is too large for a whole number of 64 bits"))?)
    };
    Ok((token, end - at))
}

fn text(source: &str, at: usize, quote: char) -> Result<(Token<'_>, usize), ExprError> {
    let mut value = String::new();
    let mut chars = source[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        if c == quote {
            return Ok((Token::Text(value), offset + 2));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some((_, c @ ('\\' | '"' | '\''))) => value.push(c),
            Some((_, 'n')) => value.push('\n'),
            Some((_, 't')) => value.push('\t'),
            Some((_, 'r')) => value.push('\r'),
            Some((_, other)) => {
                let start = at + 1 + offset;
                return Err(syntax(
                    &(start..start + 1 + other.len_utf8()),
                    format!("`\\{}` is not an escape", other.escape_debug()),
                    Some(r"the escapes are `\\`, `\n`, `\t`, `\r`, and a backslash before a quote".into()),
                ));
            }
            None => break,
        }
    }
    Err(syntax(
        &(at..at + 1),
        format!("the text after `{quote}` has no end"),
        Some(format!("close it with `{quote}`")),
    ))
}

//! Rust source as words and signs, without comments and literals, so that a rule about code never trips over prose.

/// A word (identifier, keyword, number) or a sign, with its line (1-based). `::` is one sign; every other sign is one character.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Splits source into tokens. Comments, strings, characters and lifetimes are left out; whatever is not Rust does no harm.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let next = chars.get(at + 1).copied();
        match chars[at] {
            '/' if next == Some('/') => at = find(&chars, at, |c| c == '\n'),
            '/' if next == Some('*') => at = after_block_comment(&chars, at),
            '"' => at = after_string(&chars, at),
            '\'' => at = after_quote(&chars, at),
            c if is_word(c) => {
                at = find(&chars, at, |c| !is_word(c));
                let word: String = chars[start..at].iter().collect();
                let raw = matches!(word.as_str(), "r" | "br" | "cr");
                match chars.get(at) {
                    Some('"') if raw => at = after_raw_string(&chars, at),
                    Some('#') if raw && raw_string_follows(&chars, at) => at = after_raw_string(&chars, at),
                    // A raw identifier `r#type`: the word is what follows.
                    Some('#') if word == "r" => at += 1,
                    Some('"') if matches!(word.as_str(), "b" | "c") => at = after_string(&chars, at),
                    Some('\'') if word == "b" => at = after_quote(&chars, at),
                    _ => found.push(Token { text: word, line }),
                }
            }
            ':' if next == Some(':') => {
                found.push(Token { text: "::".to_owned(), line });
                at += 2;
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token { text: c.to_string(), line });
                }
                at += 1;
            }
        }
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The place of the first character from `at` on that fits, or the end.
fn find(chars: &[char], at: usize, fits: impl Fn(char) -> bool) -> usize {
    chars[at..].iter().position(|c| fits(*c)).map_or(chars.len(), |offset| at + offset)
}

fn after_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn after_string(chars: &[char], at: usize) -> usize {
    after_escaped(chars, at + 1, '"')
}

/// The place after the closing sign, passing over what a backslash escapes.
fn after_escaped(chars: &[char], mut at: usize, close: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == close => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// After a character literal, or after the quote and name of a lifetime.
fn after_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => after_escaped(chars, at + 1, '\''),
        (Some(_), Some('\'')) => at + 3,
        _ => find(chars, at + 1, |c| !is_word(c)),
    }
}

fn raw_string_follows(chars: &[char], at: usize) -> bool {
    chars.get(find(chars, at, |c| c != '#')) == Some(&'"')
}

fn after_raw_string(chars: &[char], at: usize) -> usize {
    let open = find(chars, at, |c| c != '#');
    let hashes = open - at;
    let mut at = open + 1;
    while at < chars.len() {
        at = find(chars, at, |c| c == '"');
        let end = (at + 1 + hashes).min(chars.len());
        if at < chars.len() && chars[at + 1..end].iter().filter(|c| **c == '#').count() == hashes {
            return end;
        }
        at += 1;
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> String {
        tokens(source).into_iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_left_out() {
        assert_eq!(words("a // unsafe\nb /* unsafe /* x */ unsafe */ c"), "a b c");
        assert_eq!(
            words(r##"f("unsafe \" unsafe", r#"unsafe "# , b"unsafe", c"unsafe", 'u', '\'', b'x')"##),
            "f ( , , , , , , )"
        );
        assert_eq!(words("fn f<'a>(x: &'a str)"), "fn f < > ( x : & str )");
        assert_eq!(words("r#type r#\"unsafe\"# r\"unsafe\" z"), "type z");
    }

    #[test]
    fn paths_keep_their_signs_and_lines() {
        let found = tokens("\"two\nlines\"\nuse std::env;");
        assert_eq!(words("use std::env;"), "use std :: env ;");
        assert!(found.iter().all(|token| token.line == 3), "{found:?}");
    }

    #[test]
    fn unfinished_source_ends() {
        for source in ["\"", "r#\"", "/*", "'", "'\\", "b'", "r#", "\"\\", "r#\"x\""] {
            tokens(source);
        }
    }
}

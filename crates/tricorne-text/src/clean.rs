//! Normal form for text: one spelling of each character, no control characters, orderly white space.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Brings text into the form that a data set wants; borrowed if it is in that form already.
///
/// - Unicode normal form NFC.
/// - Line ends (CRLF, CR, form feed, vertical tab, U+0085, U+2028, U+2029) become `\n`. At most one blank
///   line stays between two lines, none at the beginning and the end of the text.
/// - Other white space (tab, no-break and wide spaces, and U+001C to U+001F, which separate words for Python)
///   becomes a space; runs of spaces become one; a line neither begins nor ends with a space.
/// - Other control characters (U+0000 to U+001F, U+007F to U+009F) are removed, and so are characters that
///   only say where a line may break: soft hyphen (U+00AD), zero-width space (U+200B), word joiner (U+2060),
///   byte order mark (U+FEFF). The zero-width joiner and non-joiner stay: Persian, Indic scripts and emoji
///   are spelt with them. So do marks of writing direction.
///
/// Linear in the length of the text. Idempotent: cleaning twice is cleaning once. The words that
/// [`Counter`](crate::Counter) sees are the same before and after, but for NFC and the removed characters.
///
/// ```
/// use tricorne_text::clean;
///
/// assert_eq!(clean("  Cafe\u{301} \t au\u{a0}lait\r\n\r\n\r\nzwei\u{ad}te\0  "), "Café au lait\n\nzweite");
/// ```
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    let tidy_text = if is_tidy(text) { Cow::Borrowed(text) } else { Cow::Owned(tidy(text)) };
    if is_nfc(&tidy_text) {
        return tidy_text;
    }
    // What was removed stood between characters that may now compose, so this comes last. Nothing composes
    // to, or decomposes to, white space or a removed character, so the result is still tidy.
    Cow::Owned(tidy_text.nfc().collect())
}

/// What a character becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Keep,
    Space,
    LineEnd,
    Remove,
}

/// The class of each ASCII character, so that the common case is one look-up a byte.
const ASCII_CLASSES: [Class; 128] = {
    let mut classes = [Class::Keep; 128];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte {
            0x0a..=0x0d => Class::LineEnd,
            0x09 | 0x1c..=0x20 => Class::Space,
            0x00..=0x1f | 0x7f => Class::Remove,
            _ => Class::Keep,
        };
        byte += 1;
    }
    classes
};

/// The class and the length in bytes of the character that begins at `at`, from its UTF-8 bytes: text outside
/// ASCII is mostly characters whose first byte already says that they stay.
fn classify(bytes: &[u8], at: usize) -> (Class, usize) {
    let byte_after = |offset: usize| bytes.get(at + offset).copied().unwrap_or(0);
    match bytes[at] {
        byte @ 0x00..0x80 => (ASCII_CLASSES[usize::from(byte)], 1),
        0xc2 => {
            let class = match byte_after(1) {
                0x85 => Class::LineEnd,
                0xa0 => Class::Space,
                0x80..=0x9f | 0xad => Class::Remove,
                _ => Class::Keep,
            };
            (class, 2)
        }
        0x80..0xe0 => (Class::Keep, 2),
        lead @ 0xe0..0xf0 => {
            let class = match (lead, byte_after(1), byte_after(2)) {
                (0xe2, 0x80, 0xa8 | 0xa9) => Class::LineEnd,
                (0xe1, 0x9a, 0x80)
                | (0xe2, 0x80, 0x80..=0x8a | 0xaf)
                | (0xe2, 0x81, 0x9f)
                | (0xe3, 0x80, 0x80) => Class::Space,
                (0xe2, 0x80, 0x8b) | (0xe2, 0x81, 0xa0) | (0xef, 0xbb, 0xbf) => Class::Remove,
                _ => Class::Keep,
            };
            (class, 3)
        }
        0xf0.. => (Class::Keep, 4),
    }
}

/// Goes over printable ASCII with single spaces, 32 bytes at a time: several times faster than the walk by
/// characters.
#[derive(Debug, Default)]
struct OrderlyAscii {
    /// Not to be tried again before this place: in another script each try would fail.
    next_try: usize,
}

impl OrderlyAscii {
    /// Where the walk by characters has to go on, at `at` or after it. What is before `at` must not end in
    /// white space, and the same then holds for the result, before which there is at least one byte of the
    /// text.
    fn skip(&mut self, bytes: &[u8], mut at: usize) -> usize {
        const CHUNK_BYTES: usize = 32;
        if at < self.next_try {
            return at;
        }
        let start = at;
        while let Some(chunk) = bytes.get(at..=at + CHUNK_BYTES) {
            let mut is_disorderly = false;
            for (&byte, &next) in chunk[..CHUNK_BYTES].iter().zip(&chunk[1..]) {
                is_disorderly |=
                    !(0x20..0x7f).contains(&byte) | ((byte == b' ') & !(0x21..0x7f).contains(&next));
            }
            if is_disorderly {
                break;
            }
            at += CHUNK_BYTES;
        }
        self.next_try = at + CHUNK_BYTES;
        // A space at the end is left for the walk by characters to see.
        if at > start && bytes[at - 1] == b' ' { at - 1 } else { at }
    }
}

/// Whether [`tidy`] would change nothing.
fn is_tidy(text: &str) -> bool {
    let bytes = text.as_bytes();
    // How many line ends and spaces came last. The beginning of the text counts as too many line ends
    // already.
    let (mut lines, mut spaces) = (2, 0);
    let mut orderly = OrderlyAscii::default();
    let mut at = 0;
    while at < bytes.len() {
        if lines == 0 && spaces == 0 {
            at = orderly.skip(bytes, at);
        }
        let (class, char_bytes) = classify(bytes, at);
        match class {
            Class::Keep => (lines, spaces) = (0, 0),
            Class::Space if bytes[at] == b' ' && lines == 0 && spaces == 0 => spaces = 1,
            Class::LineEnd if bytes[at] == b'\n' && lines < 2 && spaces == 0 => lines += 1,
            _ => return false,
        }
        at += char_bytes;
    }
    text.is_empty() || (lines == 0 && spaces == 0)
}

/// Everything but the normal form.
fn tidy(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut tidy = String::with_capacity(text.len());
    let (mut has_space, mut lines) = (false, 0);
    let mut orderly = OrderlyAscii::default();
    let mut at = 0;
    while at < bytes.len() {
        // A run of characters that stay, single spaces between words included, is copied at once.
        let start = at;
        let mut after_run = loop {
            if at > start {
                at = orderly.skip(bytes, at);
            }
            if at == bytes.len() {
                break None;
            }
            let (class, char_bytes) = classify(bytes, at);
            let is_single_space =
                bytes[at] == b' ' && at > start && bytes.get(at + 1).is_some_and(u8::is_ascii_graphic);
            if class != Class::Keep && !is_single_space {
                break Some((class, char_bytes));
            }
            at += char_bytes;
        };
        if at > start {
            if !tidy.is_empty() {
                match lines {
                    0 if has_space => tidy.push(' '),
                    0 => {}
                    1 => tidy.push('\n'),
                    _ => tidy.push_str("\n\n"),
                }
            }
            (has_space, lines) = (false, 0);
            tidy.push_str(&text[start..at]);
        }
        if let Some((class, char_bytes)) = after_run.take() {
            match class {
                Class::Keep | Class::Remove => {}
                Class::Space => has_space = true,
                Class::LineEnd => {
                    let is_crlf = bytes[at..].starts_with(b"\r\n");
                    lines += usize::from(!is_crlf);
                }
            }
            at += char_bytes;
        }
    }
    tidy
}

/// Whether the text is in normal form NFC: a quick answer for the characters that most text is made of, the
/// tables for the rest.
fn is_nfc(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let char_bytes = match bytes[at] {
            0x00..0x80 => 1,
            0x80..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
        };
        if !is_surely_nfc(&bytes[at..at + char_bytes]) {
            return is_nfc_quick(text.chars()) == IsNormalized::Yes;
        }
        at += char_bytes;
    }
    true
}

/// Whether the character, given as UTF-8, neither changes under NFC nor combines with a character before it.
fn is_surely_nfc(char_utf8: &[u8]) -> bool {
    match char_utf8 {
        // Up to U+02FF; the Cyrillic letters of living languages; Latin with marks; punctuation and symbols;
        // kana and ideographs; Hangul; full-width forms; emoji.
        [0x00..=0xcb, ..] | [0xd0 | 0xd1, _] => true,
        [0xe1, 0xb8..=0xbb, _] => true,
        [0xe2, second, third] => match second {
            0x80 => !matches!(third, 0x80 | 0x81),
            _ => matches!(second, 0x81 | 0x82 | 0x85..=0x8b | 0x8d..=0xaa),
        },
        [0xe3, second, third] => !matches!((second, third), (0x80, 0xaa..=0xaf) | (0x82, 0x99 | 0x9a)),
        [0xe4..=0xe9 | 0xeb | 0xec, ..]
        | [0xea, 0xb0..=0xbf, _]
        | [0xed, 0x80..=0x9d, _]
        | [0xef, 0xbc..=0xbf, _] => true,
        [0xf0, 0x9f, 0x80..=0xbf, _] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::char::canonical_combining_class;

    fn every_char() -> impl Iterator<Item = char> {
        '\0'..=char::MAX
    }

    #[test]
    fn classes_follow_the_unicode_properties() {
        for ch in every_char() {
            let mut utf8 = [0; 4];
            let bytes = ch.encode_utf8(&mut utf8).as_bytes();
            let expected = match ch {
                '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Class::LineEnd,
                '\u{1c}'..='\u{1f}' => Class::Space,
                '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' => Class::Remove,
                _ if ch.is_whitespace() => Class::Space,
                _ if ch.is_control() => Class::Remove,
                _ => Class::Keep,
            };
            assert_eq!(classify(bytes, 0), (expected, bytes.len()), "{ch:?}");
        }
    }

    #[test]
    fn the_quick_normal_form_check_is_never_wrong() {
        let mut sure_count = 0;
        for ch in every_char() {
            let mut utf8 = [0; 4];
            if is_surely_nfc(ch.encode_utf8(&mut utf8).as_bytes()) {
                sure_count += 1;
                assert_eq!(is_nfc_quick(std::iter::once(ch)), IsNormalized::Yes, "{ch:?}");
                assert_eq!(canonical_combining_class(ch), 0, "{ch:?}");
            }
        }
        assert!(sure_count > 40_000, "the quick check must cover common text: {sure_count}");
    }

    #[test]
    fn white_space_is_put_in_order() {
        let cases = [
            ("", ""),
            (" \n\t ", ""),
            ("a", "a"),
            ("a b\nc\n\nd", "a b\nc\n\nd"),
            ("\n a  b \n", "a b"),
            ("a\r\nb\rc\u{85}d\u{2028}e", "a\nb\nc\nd\ne"),
            ("a\r\n\r\nb", "a\n\nb"),
            ("a \n \n \n \n b", "a\n\nb"),
            ("a\u{3000}\u{3000}b\u{a0}", "a b"),
            ("a\u{1f}b", "a b"),
            ("a \0 b\0c", "a bc"),
            ("so\u{ad}ft\u{200b}ly\u{feff}", "softly"),
            ("a\n\u{200b}\nb", "a\n\nb"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("你 好", "你 好"),
            ("e\0\u{301}", "é"),
            ("\u{1100}\u{1161}", "가"),
            ("\u{212b}", "Å"),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn tidy_text_is_borrowed() {
        for text in ["", "one two\nthree\n\nfour", "Grüße, 世界! Привет"] {
            assert!(matches!(clean(text), Cow::Borrowed(_)), "{text:?}");
        }
    }

    /// Text that is rich in what cleaning is about.
    fn rough_text() -> impl Strategy<Value = String> {
        let ch = prop_oneof![
            3 => prop::sample::select(vec![' ', '\n', '\r', '\t', '\0', '\u{1f}', '\u{85}', '\u{a0}', '\u{ad}', '\u{2028}', '\u{200b}', '\u{feff}']),
            2 => prop::sample::select(vec!['a', 'Z', '.', 'é', '世', 'ß', '😀', 'я']),
            2 => prop::sample::select(vec!['\u{301}', '\u{323}', '\u{1100}', '\u{1161}', '\u{11a8}', '\u{3099}', 'か', '\u{2126}', '\u{fb1d}', '\u{2adc}']),
            1 => any::<char>(),
        ];
        // Plain words as well, so that texts are long enough for the walk by chunks.
        let plain = prop::sample::select(vec![
            "many plain words in a row ",
            "a-word-that-is-rather-long-without-any-space",
            "x ",
        ]);
        let piece = prop_oneof![2 => ch.prop_map(String::from), 1 => plain.prop_map(str::to_owned)];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn cleaning_is_idempotent_and_keeps_its_promises(text in rough_text()) {
            let once = clean(&text).into_owned();
            prop_assert_eq!(&*clean(&once), &*once);
            prop_assert_eq!(once.nfc().collect::<String>(), &*once);
            prop_assert!(once.chars().all(|ch| ch == '\n' || !ch.is_control()));
            prop_assert!(once.chars().all(|ch| ch == '\n' || ch == ' ' || !ch.is_whitespace()));
            for pattern in ["  ", " \n", "\n ", "\n\n\n"] {
                prop_assert!(!once.contains(pattern), "{:?} in {:?}", pattern, once);
            }
            prop_assert_eq!(once.trim(), &*once);
        }

        #[test]
        fn the_tidiness_check_agrees_with_tidying(text in rough_text()) {
            prop_assert_eq!(is_tidy(&text), tidy(&text) == text);
            prop_assert!(is_tidy(&tidy(&text)));
        }
    }
}

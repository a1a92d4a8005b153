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
    let (is_tidy, mut may_not_be_nfc) = is_tidy(text);
    let tidy_text = if is_tidy {
        Cow::Borrowed(text)
    } else {
        let tidied = tidy(text);
        may_not_be_nfc = tidied.1;
        Cow::Owned(tidied.0)
    };
    if !may_not_be_nfc || is_nfc_quick(tidy_text.chars()) == IsNormalized::Yes {
        return tidy_text;
    }
    // What was removed stood between characters that may now compose, so this comes last. Nothing composes
    // to, or decomposes to, white space or a removed character, so the result is still tidy.
    Cow::Owned(tidy_text.nfc().collect())
}

/// What a character becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It stays, and neither changes under NFC nor combines with a character before it.
    Keep,
    /// It stays, and the tables have to say whether it is in normal form.
    KeepInDoubt,
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
#[inline]
fn classify(bytes: &[u8], at: usize) -> (Class, usize) {
    let byte_after = |offset: usize| bytes.get(at + offset).copied().unwrap_or(0);
    match bytes[at] {
        byte @ 0x00..0x80 => (ASCII_CLASSES[usize::from(byte)], 1),
        // The ideographs and Hangul that text in East Asia consists of.
        0xe4..=0xe9 | 0xeb | 0xec => (Class::Keep, 3),
        0xc2 => {
            let class = match byte_after(1) {
                0x85 => Class::LineEnd,
                0xa0 => Class::Space,
                0x80..=0x9f | 0xad => Class::Remove,
                _ => Class::Keep,
            };
            (class, 2)
        }
        // Up to U+02FF; the Cyrillic letters of living languages.
        0x80..=0xcb | 0xd0 | 0xd1 => (Class::Keep, 2),
        0xcc..0xe0 => (Class::KeepInDoubt, 2),
        lead @ 0xe0..0xf0 => {
            let (second, third) = (byte_after(1), byte_after(2));
            let class = match (lead, second, third) {
                (0xe2, 0x80, 0xa8 | 0xa9) => Class::LineEnd,
                (0xe1, 0x9a, 0x80)
                | (0xe2, 0x80, 0x82..=0x8a | 0xaf)
                | (0xe2, 0x81, 0x9f)
                | (0xe3, 0x80, 0x80) => Class::Space,
                // These two are spaces, too, but the normal form of others.
                (0xe2, 0x80, 0x80 | 0x81) => Class::Space,
                (0xe2, 0x80, 0x8b) | (0xe2, 0x81, 0xa0) | (0xef, 0xbb, 0xbf) => Class::Remove,
                // Latin with marks; punctuation and symbols; kana and the like; Hangul; full-width forms.
                (0xe1, 0xb8..=0xbb, _)
                | (0xe2, 0x80..=0x82 | 0x85..=0x8b | 0x8d..=0xaa, _)
                | (0xea, 0xb0..=0xbf, _)
                | (0xed, 0x80..=0x9d, _)
                | (0xef, 0xbc..=0xbf, _) => Class::Keep,
                (0xe3, 0x80, 0xaa..=0xaf) | (0xe3, 0x82, 0x99 | 0x9a) => Class::KeepInDoubt,
                (0xe3, ..) => Class::Keep,
                _ => Class::KeepInDoubt,
            };
            (class, 3)
        }
        // Emoji.
        0xf0 if byte_after(1) == 0x9f => (Class::Keep, 4),
        0xf0.. => (Class::KeepInDoubt, 4),
    }
}

/// From `at` on, over graphic ASCII characters and single spaces between them: the place of the first byte
/// that is anything else, or that is too near to the end to tell. What is before `at` must not end in white
/// space.
///
/// Eight bytes at a time, in the high bits of their lanes.
#[inline]
fn skip_orderly_ascii(bytes: &[u8], mut at: usize) -> usize {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;
    /// The lanes that are not from `FIRST` to 0x7e.
    #[inline]
    const fn outside<const FIRST: u8>(lanes: u64) -> u64 {
        let from_first = (lanes | HIGH) - ONES * FIRST as u64;
        let is_delete = (lanes & !HIGH) + ONES;
        (!from_first | is_delete | lanes) & HIGH
    }
    while let Some(window) = bytes.get(at..at + 9) {
        let lanes = |eight: &[u8]| u64::from_le_bytes(eight.try_into().expect("eight of nine bytes"));
        let (here, next) = (lanes(&window[..8]), lanes(&window[1..]));
        let not_space = here ^ (ONES * u64::from(b' '));
        let is_space = !(((not_space & !HIGH) + !HIGH) | not_space) & HIGH;
        let is_disorderly = outside::<0x20>(here) | (is_space & outside::<0x21>(next));
        if is_disorderly != 0 {
            return at + is_disorderly.trailing_zeros() as usize / 8;
        }
        at += 8;
        if window[7] == b' ' {
            // The eighth byte is a space that something graphic follows.
            at += 1;
        }
    }
    at
}

/// Whether [`tidy`] would change nothing; and, if so, whether the text may not be in normal form.
fn is_tidy(text: &str) -> (bool, bool) {
    let bytes = text.as_bytes();
    // How many line ends and spaces came last. The beginning of the text counts as too many line ends
    // already.
    let (mut lines, mut spaces) = (2, 0);
    let mut in_doubt = false;
    let mut at = 0;
    while at < bytes.len() {
        if lines == 0 && spaces == 0 && bytes[at] < 0x80 {
            at = skip_orderly_ascii(bytes, at);
            if at == bytes.len() {
                break;
            }
        }
        let (class, char_bytes) = classify(bytes, at);
        match class {
            Class::Keep => (lines, spaces) = (0, 0),
            Class::KeepInDoubt => {
                (lines, spaces) = (0, 0);
                in_doubt = true;
            }
            Class::Space if bytes[at] == b' ' && lines == 0 && spaces == 0 => spaces = 1,
            Class::LineEnd if bytes[at] == b'\n' && lines < 2 && spaces == 0 => lines += 1,
            _ => return (false, false),
        }
        at += char_bytes;
    }
    (text.is_empty() || (lines == 0 && spaces == 0), in_doubt)
}

/// Everything but the normal form; and whether the result may not be in normal form.
fn tidy(text: &str) -> (String, bool) {
    let bytes = text.as_bytes();
    let mut tidy = String::with_capacity(text.len());
    let (mut has_space, mut lines) = (false, 0);
    let mut in_doubt = false;
    let mut at = 0;
    while at < bytes.len() {
        // A run of characters that stay, single spaces between words included, is copied at once.
        let start = at;
        let mut after_run = loop {
            if at > start && bytes.get(at).is_some_and(u8::is_ascii) {
                at = skip_orderly_ascii(bytes, at);
            }
            if at == bytes.len() {
                break None;
            }
            let (class, char_bytes) = classify(bytes, at);
            in_doubt |= class == Class::KeepInDoubt;
            let is_single_space =
                bytes[at] == b' ' && at > start && bytes.get(at + 1).is_some_and(u8::is_ascii_graphic);
            if !matches!(class, Class::Keep | Class::KeepInDoubt) && !is_single_space {
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
                Class::Keep | Class::KeepInDoubt | Class::Remove => {}
                Class::Space => has_space = true,
                Class::LineEnd => {
                    let is_crlf = bytes[at..].starts_with(b"\r\n");
                    lines += usize::from(!is_crlf);
                }
            }
            at += char_bytes;
        }
    }
    (tidy, in_doubt)
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
            let (class, char_bytes) = classify(bytes, 0);
            let class = if class == Class::KeepInDoubt { Class::Keep } else { class };
            assert_eq!((class, char_bytes), (expected, bytes.len()), "{ch:?}");
        }
    }

    #[test]
    fn what_is_kept_without_doubt_is_in_normal_form() {
        let mut sure_count = 0;
        for ch in every_char() {
            let mut utf8 = [0; 4];
            if classify(ch.encode_utf8(&mut utf8).as_bytes(), 0).0 == Class::Keep {
                sure_count += 1;
                assert_eq!(is_nfc_quick(std::iter::once(ch)), IsNormalized::Yes, "{ch:?}");
                assert_eq!(canonical_combining_class(ch), 0, "{ch:?}");
            }
        }
        assert!(sure_count > 40_000, "the quick check must cover common text: {sure_count}");
    }

    #[test]
    fn orderly_ascii_ends_at_the_first_other_byte() {
        let filler = b"word another-word to be, or not ~to be! filler filler";
        for length in 0..40 {
            for other in 0..=u8::MAX {
                let bytes = [&filler[..length], &[other], b"words after that".as_slice()].concat();
                let is_disorderly = |at: usize| {
                    let next = bytes.get(at + 1).copied().unwrap_or(0);
                    !(0x20..0x7f).contains(&bytes[at]) || (bytes[at] == b' ' && !(0x21..0x7f).contains(&next))
                };
                let first = (0..bytes.len()).find(|&at| is_disorderly(at)).unwrap_or(bytes.len());
                let end = skip_orderly_ascii(&bytes, 0);
                assert!(end <= first, "{end} {first} {other}");
                assert!(end == first || end + 9 > bytes.len(), "{end} {first} {other}");
                assert!(end == 0 || end == first || bytes[end - 1] != b' ', "{end} {other}");
            }
        }
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
            let (tidied, in_doubt) = tidy(&text);
            prop_assert_eq!(is_tidy(&text).0, tidied == text);
            prop_assert_eq!(is_tidy(&tidied), (true, in_doubt));
        }
    }
}

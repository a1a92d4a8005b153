//! Reads one word and lower-cases it as Python's `str.lower` does: the path for words that are not short and ASCII.
//!
//! White space ends a word and is neither cased nor ignored by the rule for the final sigma, so a word can be lower-cased by itself.

use std::sync::LazyLock;

/// A lower-cased word.
pub(crate) struct LoweredWord<'a> {
    /// The word; empty if there was white space at the start.
    pub(crate) word: &'a [u8],
    /// The length of the word in characters.
    pub(crate) char_count: u64,
    /// Where to go on: after the word and the white space that ended it.
    pub(crate) next: usize,
}

/// Reads the word that begins at byte `start`. The word is borrowed from the text if lower-casing does not change it, else from `scratch`.
pub(crate) fn read_word<'a>(text: &'a str, start: usize, scratch: &'a mut Vec<u8>) -> LoweredWord<'a> {
    let bytes = text.as_bytes();
    let two_byte_chars = &*TWO_BYTE_CHARS;
    scratch.clear();
    let mut char_count = 0;
    // What lies between here and `at` is lower case already and not yet in `scratch`.
    let mut unchanged_from = start;
    let mut at = start;
    let space_bytes = loop {
        let Some(&lead) = bytes.get(at) else { break 0 };
        let (char_bytes, lower) = match lead {
            0x09..=0x0d | 0x1c..=0x20 => break 1,
            b'A'..=b'Z' => (1, Lower::Char(char::from(lead.to_ascii_lowercase()))),
            ..0x80 => (1, Lower::Same),
            // No letter between U+3000 and U+9FFF, or in the Hangul syllables and after them, has a case.
            0xe3 if bytes[at + 1..at + 3] == [0x80, 0x80] => break 3,
            0xe3..=0xe9 | 0xeb..=0xed => (3, Lower::Same),
            0xea if bytes[at + 1] >= 0xb0 => (3, Lower::Same),
            0xc2..=0xdf => {
                let ch = usize::from(lead & 0x1f) << 6 | usize::from(bytes[at + 1] & 0x3f);
                (2, two_byte_chars[ch])
            }
            _ => {
                let ch = text[at..].chars().next().expect("a character begins here");
                (ch.len_utf8(), lower(ch))
            }
        };
        match lower {
            Lower::Same => {}
            Lower::Char(ch) => {
                scratch.extend_from_slice(&bytes[unchanged_from..at]);
                scratch.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes());
                unchanged_from = at + char_bytes;
            }
            Lower::Space => break char_bytes,
            Lower::InContext => {
                let end = text[at..].find(is_white_space).map_or(text.len(), |word_bytes| at + word_bytes);
                let space_bytes = text[end..].chars().next().map_or(0, char::len_utf8);
                let word = text[start..end].to_lowercase();
                scratch.clear();
                scratch.extend_from_slice(word.as_bytes());
                let char_count = word.chars().count() as u64;
                return LoweredWord { word: scratch, char_count, next: end + space_bytes };
            }
        }
        char_count += 1;
        at += char_bytes;
    };
    let word = if scratch.is_empty() {
        &bytes[unchanged_from..at]
    } else {
        scratch.extend_from_slice(&bytes[unchanged_from..at]);
        scratch
    };
    LoweredWord { word, char_count, next: at + space_bytes }
}

/// What lower-casing makes of a character.
#[derive(Debug, Clone, Copy)]
enum Lower {
    Same,
    Char(char),
    /// It depends on the other characters of the word (capital sigma), or becomes more than one character.
    InContext,
    /// White space: it ends the word.
    Space,
}

/// The characters up to U+07FF: Latin, Greek, Cyrillic, Hebrew and Arabic among them.
static TWO_BYTE_CHARS: LazyLock<Box<[Lower]>> = LazyLock::new(|| ('\0'..'\u{800}').map(lower).collect());

fn lower(ch: char) -> Lower {
    let mut lowered = ch.to_lowercase();
    match (lowered.next(), lowered.next()) {
        _ if is_white_space(ch) => Lower::Space,
        (Some(only), None) if only == ch => Lower::Same,
        (Some(only), None) if ch != 'Σ' => Lower::Char(only),
        _ => Lower::InContext,
    }
}

/// White space as Python has it: that of Unicode and the four information separators.
fn is_white_space(ch: char) -> bool {
    ch.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&ch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let (mut scratch, mut words, mut at) = (Vec::new(), Vec::new(), 0);
        while at < text.len() {
            let read = read_word(text, at, &mut scratch);
            assert!(read.next > at);
            let word = String::from_utf8(read.word.to_vec()).unwrap();
            assert_eq!(read.char_count, word.chars().count() as u64);
            if read.char_count > 0 {
                words.push(word);
            }
            at = read.next;
        }
        words
    }

    #[test]
    fn every_character_is_lowered_as_the_standard_library_does() {
        for ch in '\0'..=char::MAX {
            let text = format!("x{ch}Y");
            let lower = text.to_lowercase();
            let expected: Vec<&str> = lower.split(is_white_space).collect();
            assert_eq!(words(&text), expected, "{ch:?}");
        }
    }

    #[test]
    fn sigma_is_final_at_the_end_of_a_word_only() {
        assert_eq!(words("ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ. Σ ΑΣ\u{301}Β"), ["οδυσσευς", "σοφος.", "σ", "ασ\u{301}β"]);
        assert_eq!(words("İSTANBUL\u{3000}İ"), ["i\u{307}stanbul", "i\u{307}"]);
    }
}

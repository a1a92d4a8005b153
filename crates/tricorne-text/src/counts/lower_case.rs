//! Reads one word and lower-cases it as Python's `str.lower` does: the path for words that are not short and
//! ASCII.
//!
//! White space ends a word and is neither cased nor ignored by the rule for the final sigma, so a word can be
//! lower-cased by itself.

use std::sync::LazyLock;

/// A lower-cased word.
pub(super) struct LoweredWord<'a> {
    /// Begins with the word, and may go on after it.
    pub(super) source: &'a [u8],
    /// The length of the word in `source`; 0 if there was white space at the start.
    pub(super) word_bytes: usize,
    /// The length of the word in characters.
    pub(super) char_count: usize,
    /// Where to go on: after the word and the white space that ended it.
    pub(super) next: usize,
}

/// Lower-cases a word of up to 16 bytes, followed by zeros, in a register; gives it with the number of its
/// bytes that continue a character.
///
/// Nothing if the word has a character for which [`read_word`] is needed. ASCII letters stay as they are.
#[inline]
pub(super) fn lower_short_word(word: u128, tables: &CaseTables) -> Option<(u128, u32)> {
    const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; 16]);
    let outside_ascii = word & HIGH_BITS;
    // The bytes that begin a character have their two highest bits set.
    let mut leads = outside_ascii & (word << 1);
    let continuation_bytes = (outside_ascii & !leads).count_ones();
    let mut lowered = word;
    while leads != 0 {
        let bits_before = leads.trailing_zeros() & !7;
        let bytes = (word >> bits_before) as u32;
        let (lead, second) = (bytes as u8, (bytes >> 8) as u8);
        if lead < 0xe0 {
            let change = tables.two_byte_changes[two_byte_char(lead, second)];
            if change == NOT_IN_PLACE {
                return None;
            }
            lowered ^= u128::from(change) << bits_before;
        } else if !tables.same_three_bytes.contains(lead, second, (bytes >> 16) as u8) {
            return None;
        }
        leads &= leads - 1;
    }
    Some((lowered, continuation_bytes))
}

/// Reads the word that begins at byte `start`. The word is borrowed from the text if lower-casing does not
/// change it, else from `scratch`.
pub(super) fn read_word<'a>(text: &'a str, start: usize, scratch: &'a mut Vec<u8>) -> LoweredWord<'a> {
    let bytes = text.as_bytes();
    let tables = &**CASE_TABLES;
    scratch.clear();
    let mut char_count = 0;
    // What lies between here and `at` is lower case already and not yet in `scratch`.
    let mut unchanged_from = start;
    let mut at = start;
    let space_bytes = loop {
        let Some(&lead) = bytes.get(at) else { break 0 };
        if lead >= 0xe0 {
            if tables.same_three_bytes.contains(lead, bytes[at + 1], bytes[at + 2]) {
                at += 3;
                char_count += 1;
                continue;
            }
        } else if matches!(lead, 0x21..=0x40 | 0x5b..=0x7f | 0x00..=0x08 | 0x0e..=0x1b) {
            at += 1;
            char_count += 1;
            continue;
        } else if lead <= 0x20 {
            break 1;
        } else if (0xc2..0xe0).contains(&lead) {
            let change = tables.two_byte_changes[two_byte_char(lead, bytes[at + 1])];
            if change != NOT_IN_PLACE {
                if change != 0 {
                    scratch.extend_from_slice(&bytes[unchanged_from..at]);
                    let lowered = u16::from_le_bytes([lead, bytes[at + 1]]) ^ change;
                    scratch.extend_from_slice(&lowered.to_le_bytes());
                    unchanged_from = at + 2;
                }
                at += 2;
                char_count += 1;
                continue;
            }
        }
        let ch = text[at..].chars().next().expect("a character begins here");
        let char_bytes = ch.len_utf8();
        match lower(ch) {
            Lower::Same => {}
            Lower::Char(lowered) => {
                scratch.extend_from_slice(&bytes[unchanged_from..at]);
                scratch.extend_from_slice(lowered.encode_utf8(&mut [0; 4]).as_bytes());
                unchanged_from = at + char_bytes;
            }
            Lower::Space => break char_bytes,
            Lower::InContext => return lower_in_context(text, start, at, scratch),
        }
        char_count += 1;
        at += char_bytes;
    };
    let next = at + space_bytes;
    if unchanged_from == start {
        return LoweredWord { source: &bytes[start..], word_bytes: at - start, char_count, next };
    }
    scratch.extend_from_slice(&bytes[unchanged_from..at]);
    let word_bytes = scratch.len();
    LoweredWord { source: scratch, word_bytes, char_count, next }
}

/// The whole word again, by the rules of the standard library.
fn lower_in_context<'a>(text: &str, start: usize, at: usize, scratch: &'a mut Vec<u8>) -> LoweredWord<'a> {
    let end = text[at..].find(is_white_space).map_or(text.len(), |word_bytes| at + word_bytes);
    let space_bytes = text[end..].chars().next().map_or(0, char::len_utf8);
    let word = text[start..end].to_lowercase();
    scratch.clear();
    scratch.extend_from_slice(word.as_bytes());
    LoweredWord {
        source: scratch,
        word_bytes: word.len(),
        char_count: word.chars().count(),
        next: end + space_bytes,
    }
}

/// For each block of 64 characters of three bytes, by the low bits of their first two bytes, which of them are
/// their own lower case and no white space. A table, as text in Chinese and Japanese goes to and fro between
/// ideographs, kana and wide punctuation in a way that no branch predictor follows.
struct SameThreeBytes([u64; 1024]);

impl SameThreeBytes {
    fn new() -> Self {
        let mut blocks = [0; 1024];
        for ch in '\u{800}'..='\u{ffff}' {
            if matches!(lower(ch), Lower::Same) {
                blocks[ch as usize >> 6] |= 1 << (ch as usize & 0x3f);
            }
        }
        Self(blocks)
    }

    #[inline]
    fn contains(&self, lead: u8, second: u8, third: u8) -> bool {
        let block = usize::from(lead & 0x0f) << 6 | usize::from(second & 0x3f);
        lead < 0xf0 && self.0[block] >> (third & 0x3f) & 1 == 1
    }
}

/// For each character up to U+07FF (Latin, Greek, Cyrillic, Hebrew, Arabic and more) what turns its two bytes
/// into those of its lower case, by exclusive or: 0 for most.
type TwoByteChanges = [u16; 0x800];

/// The character is white space, or its lower case is not one character of two bytes.
const NOT_IN_PLACE: u16 = u16::MAX;

fn two_byte_changes() -> TwoByteChanges {
    let utf8 = |ch: char| {
        let mut utf8 = [0; 2];
        ch.encode_utf8(&mut utf8);
        u16::from_le_bytes(utf8)
    };
    let mut changes = [NOT_IN_PLACE; 0x800];
    for (ch, change) in ('\0'..).zip(changes.iter_mut()) {
        match lower(ch) {
            Lower::Same => *change = 0,
            Lower::Char(lowered) if lowered.len_utf8() == 2 => *change = utf8(ch) ^ utf8(lowered),
            _ => {}
        }
    }
    changes
}

/// What lower-casing does to the characters of most texts, ready to be looked up.
pub(super) struct CaseTables {
    two_byte_changes: TwoByteChanges,
    same_three_bytes: SameThreeBytes,
}

pub(super) static CASE_TABLES: LazyLock<Box<CaseTables>> = LazyLock::new(|| {
    Box::new(CaseTables { two_byte_changes: two_byte_changes(), same_three_bytes: SameThreeBytes::new() })
});

#[inline]
const fn two_byte_char(lead: u8, second: u8) -> usize {
    ((lead & 0x1f) as usize) << 6 | (second & 0x3f) as usize
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
            let word = String::from_utf8(read.source[..read.word_bytes].to_vec()).unwrap();
            assert_eq!(read.char_count, word.chars().count());
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
    fn in_a_register_every_character_is_lowered_the_same() {
        let mut in_register_count = 0;
        for ch in '\0'..=char::MAX {
            let text = format!("x{ch}y{ch}");
            let mut bytes = [0; 16];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            // ASCII is not touched here, white space included.
            let expected = if ch.is_ascii() { text.clone() } else { text.to_lowercase() };
            if let Some((word, continuation_bytes)) =
                lower_short_word(u128::from_le_bytes(bytes), &CASE_TABLES)
            {
                in_register_count += 1;
                assert_eq!(&word.to_le_bytes()[..text.len()], expected.as_bytes(), "{ch:?}");
                assert_eq!(text.len() - continuation_bytes as usize, 4, "{ch:?}");
                assert!(ch.is_ascii() || !is_white_space(ch), "{ch:?}");
            }
        }
        assert!(in_register_count > 60_000, "{in_register_count}");
    }

    #[test]
    fn sigma_is_final_at_the_end_of_a_word_only() {
        assert_eq!(words("ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ. Σ ΑΣ\u{301}Β"), ["οδυσσευς", "σοφος.", "σ", "ασ\u{301}β"]);
        assert_eq!(words("İSTANBUL\u{3000}İ"), ["i\u{307}stanbul", "i\u{307}"]);
    }
}

//! Word and character counts that equal Python's, several times faster.
//!
//! The definition is Python's, to the character:
//!
//! ```python
//! words = text.lower().split()
//! word_count, unique_words = len(words), len(set(words))
//! avg_word_len = sum(map(len, words)) / len(words) if words else 0.0
//! char_count = len(text)
//! ```
//!
//! How it is fast: most words are ASCII and shorter than 16 bytes. Such a word is read with one or two 8-byte loads, cut, and lower-cased
//! in registers, and the two registers are its key in a hash table that compares whole keys, so no text is copied and no answer is
//! probable only. Everything else takes a slower path of the same meaning: [`lower_case`](crate::lower_case) and a table of byte strings.

use std::hash::{BuildHasher, RandomState};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::lower_case::{LoweredWord, read_word};

/// What a text amounts to, in words and characters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Words: runs of characters that are not white space. Text without spaces, such as Chinese, has few and long ones.
    pub word_count: u64,
    /// Different words after lower-casing.
    pub unique_words: u64,
    /// Mean length of the lower-cased words in characters (code points); 0.0 if there are none.
    pub avg_word_len: f64,
    /// Characters (code points) of the text.
    pub char_count: u64,
}

/// Counts a text. For many texts, a [`Counter`] saves the allocations.
///
/// ```
/// let counts = tricorne_text::counts("To be, or not to be,");
/// assert_eq!((counts.word_count, counts.unique_words, counts.char_count), (6, 4, 20));
/// assert_eq!(counts.avg_word_len, 2.5);
/// ```
#[must_use]
pub fn counts(text: &str) -> Counts {
    Counter::new().count(text)
}

/// The Unicode version that lower-casing and white space follow. Python's may be another; the counts agree on every character that
/// both versions know.
pub const UNICODE_VERSION: &str = match std::str::from_utf8(&VERSION_DIGITS) {
    Ok(version) => version,
    Err(_) => unreachable!(),
};

const VERSION_DIGITS: [u8; 6] = {
    let (major, minor, update) = char::UNICODE_VERSION;
    [b'0' + major / 10, b'0' + major % 10, b'.', b'0' + minor, b'.', b'0' + update]
};

/// Counts one text after another, keeping its tables. One per thread.
#[derive(Debug)]
pub struct Counter {
    short_words: ShortWords,
    long_words: LongWords,
    scratch: Vec<u8>,
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter {
    /// Makes a counter with empty tables. They grow to the largest text, up to a few megabytes that are kept.
    #[must_use]
    pub fn new() -> Self {
        // A secret seed, so that no page can be made that puts all its words into one chain. The counts do not depend on it.
        let random = RandomState::new();
        let seed = |number: u8| random.hash_one(number);
        Self {
            short_words: ShortWords { slots: Vec::new(), word_count: 0, seeds: [seed(0), seed(1)] },
            long_words: LongWords {
                table: HashTable::new(),
                text: Vec::new(),
                hasher: FixedState::with_seed(seed(2)),
            },
            scratch: Vec::new(),
        }
    }

    /// Counts the words and characters of `text`. Linear in its length.
    pub fn count(&mut self, text: &str) -> Counts {
        self.short_words.clear(text.len());
        self.long_words.clear();
        let bytes = text.as_bytes();
        let (mut word_count, mut word_chars) = (0u64, 0u64);
        let mut at = 0;
        while at < bytes.len() {
            let first = load(bytes, at);
            let ends = control_or_space_bytes(first);
            if ends != 0 {
                let (word, word_bytes) = split_at_end(first, ends);
                if word & HIGH_BITS == 0 && is_ascii_white_space(bytes, at + word_bytes) {
                    if word_bytes > 0 {
                        self.short_words.insert(ShortWord::from_parts(lower_ascii(word), 0, word_bytes));
                        word_count += 1;
                        word_chars += word_bytes as u64;
                    }
                    at += word_bytes + 1;
                    continue;
                }
            } else if first & HIGH_BITS == 0 {
                let second = load(bytes, at + 8);
                let ends = control_or_space_bytes(second);
                let (word, word_bytes) = split_at_end(second, ends);
                if ends != 0 && word & HIGH_BITS == 0 && is_ascii_white_space(bytes, at + 8 + word_bytes) {
                    let word_bytes = 8 + word_bytes;
                    self.short_words.insert(ShortWord::from_parts(
                        lower_ascii(first),
                        lower_ascii(word),
                        word_bytes,
                    ));
                    word_count += 1;
                    word_chars += word_bytes as u64;
                    at += word_bytes + 1;
                    continue;
                }
            }
            let LoweredWord { word, char_count, next } = read_word(text, at, &mut self.scratch);
            if char_count > 0 {
                match ShortWord::from_bytes(word) {
                    Some(word) => self.short_words.insert(word),
                    None => self.long_words.insert(word),
                }
                word_count += 1;
                word_chars += char_count;
            }
            at = next;
        }
        Counts {
            word_count,
            unique_words: (self.short_words.word_count + self.long_words.table.len()) as u64,
            avg_word_len: if word_count == 0 { 0.0 } else { word_chars as f64 / word_count as f64 },
            char_count: text.chars().count() as u64,
        }
    }
}

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight bytes from `at` on, as if spaces followed the text.
#[inline]
fn load(bytes: &[u8], at: usize) -> u64 {
    if let Some(chunk) = bytes.get(at..at + 8) {
        return u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
    }
    let mut padded = [b' '; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    padded[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(padded)
}

/// The high bit of each byte that is at most 0x20: white space and the control characters.
#[inline]
const fn control_or_space_bytes(eight: u64) -> u64 {
    !((eight | HIGH_BITS) - 0x21 * ONES) & !eight & HIGH_BITS
}

/// The bytes before the first one marked in `ends`, and how many they are.
#[inline]
const fn split_at_end(eight: u64, ends: u64) -> (u64, usize) {
    let bits = ends.trailing_zeros() & !7;
    if bits == 64 { (eight, 8) } else { (eight & ((1 << bits) - 1), (bits / 8) as usize) }
}

/// Lower-cases eight ASCII bytes.
#[inline]
const fn lower_ascii(eight: u64) -> u64 {
    let at_least_a = eight + (0x80 - b'A' as u64) * ONES;
    let beyond_z = eight + (0x80 - b'Z' as u64 - 1) * ONES;
    eight | (at_least_a & !beyond_z & HIGH_BITS) >> 2
}

/// Whether the byte at `at` separates words; the end of the text does.
#[inline]
fn is_ascii_white_space(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|&byte| matches!(byte, 0x09..=0x0d | 0x1c..=0x20))
}

/// A lower-cased word of 1 to 15 bytes, with its length in the last byte: equal if and only if the words are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShortWord {
    low: u64,
    high: u64,
}

impl ShortWord {
    /// No word: every word has a length.
    const NONE: Self = Self { low: 0, high: 0 };

    #[inline]
    const fn from_parts(low: u64, high: u64, word_bytes: usize) -> Self {
        Self { low, high: high | (word_bytes as u64) << 56 }
    }

    fn from_bytes(word: &[u8]) -> Option<Self> {
        if word.len() > 15 {
            return None;
        }
        let mut padded = [0; 16];
        padded[..word.len()].copy_from_slice(word);
        let whole = u128::from_le_bytes(padded);
        Some(Self::from_parts(whole as u64, (whole >> 64) as u64, word.len()))
    }
}

/// The set of short words: open addressing with linear probing, at most half full.
#[derive(Debug)]
struct ShortWords {
    /// A power of two of them.
    slots: Vec<ShortWord>,
    word_count: usize,
    seeds: [u64; 2],
}

impl ShortWords {
    const MIN_SLOTS: usize = 1 << 8;
    /// 4 MiB, the most that is kept for the next text.
    const MAX_KEPT_SLOTS: usize = 1 << 18;

    /// Forgets all words and makes room for those of a text of this length.
    fn clear(&mut self, text_bytes: usize) {
        self.word_count = 0;
        // Real pages have a different word every 20 to 40 bytes; long ones fewer.
        let slot_count = (text_bytes / 16).next_power_of_two().clamp(Self::MIN_SLOTS, 1 << 14);
        if self.slots.capacity() > Self::MAX_KEPT_SLOTS {
            self.slots = Vec::new();
        }
        self.slots.clear();
        self.slots.resize(slot_count, ShortWord::NONE);
    }

    #[inline]
    fn insert(&mut self, word: ShortWord) {
        let mask = self.slots.len() - 1;
        let mut slot = self.hash(word) & mask;
        loop {
            let found = self.slots[slot];
            if found == word {
                return;
            }
            if found == ShortWord::NONE {
                break;
            }
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = word;
        self.word_count += 1;
        if self.word_count * 2 > self.slots.len() {
            self.grow();
        }
    }

    #[inline]
    fn hash(&self, word: ShortWord) -> usize {
        let product = u128::from(word.low ^ self.seeds[0]) * u128::from(word.high ^ self.seeds[1]);
        (product as u64 ^ (product >> 64) as u64) as usize
    }

    #[cold]
    fn grow(&mut self) {
        let slot_count = self.slots.len() * 4;
        let words = std::mem::replace(&mut self.slots, vec![ShortWord::NONE; slot_count]);
        let mask = slot_count - 1;
        for word in words.into_iter().filter(|&word| word != ShortWord::NONE) {
            let mut slot = self.hash(word) & mask;
            while self.slots[slot] != ShortWord::NONE {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = word;
        }
    }
}

/// The set of words of 16 bytes and more.
#[derive(Debug)]
struct LongWords {
    table: HashTable<LongWord>,
    /// The words, one after the other.
    text: Vec<u8>,
    hasher: FixedState,
}

#[derive(Debug)]
struct LongWord {
    hash: u64,
    start: usize,
    end: usize,
}

impl LongWords {
    /// The most text that is kept allocated for the next text.
    const MAX_KEPT_BYTES: usize = 4 << 20;

    fn clear(&mut self) {
        if self.text.capacity() > Self::MAX_KEPT_BYTES {
            self.text = Vec::new();
            self.table = HashTable::new();
        }
        self.text.clear();
        self.table.clear();
    }

    fn insert(&mut self, word: &[u8]) {
        let hash = self.hasher.hash_one(word);
        let text = &mut self.text;
        let is_same = |known: &LongWord| known.hash == hash && &text[known.start..known.end] == word;
        if let Entry::Vacant(vacant) = self.table.entry(hash, is_same, |known| known.hash) {
            let start = text.len();
            text.extend_from_slice(word);
            vacant.insert(LongWord { hash, start, end: text.len() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// The definition, written as plainly as Rust allows.
    fn plainly(text: &str) -> Counts {
        let lower = text.to_lowercase();
        let is_space = |ch: char| ch.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&ch);
        let words: Vec<&str> = lower.split(is_space).filter(|word| !word.is_empty()).collect();
        let word_chars: usize = words.iter().map(|word| word.chars().count()).sum();
        Counts {
            word_count: words.len() as u64,
            unique_words: words.iter().collect::<HashSet<_>>().len() as u64,
            avg_word_len: if words.is_empty() { 0.0 } else { word_chars as f64 / words.len() as f64 },
            char_count: text.chars().count() as u64,
        }
    }

    #[test]
    fn words_around_every_length_limit() {
        let mut counter = Counter::new();
        for word_bytes in 1..40 {
            let word = &"ABCDEFGHIJ".repeat(4)[..word_bytes];
            for text in [
                word.to_owned(),
                format!(" {word} "),
                format!("{word} {} {word}x", word.to_lowercase()),
                format!("{word}\u{a0}{word}\u{1c}{word}\u{1}{word}"),
                format!("é{word} {word}é {word}\u{3000}"),
                format!("a {word}\0"),
            ] {
                assert_eq!(counter.count(&text), plainly(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn words_that_differ_only_in_zeros_differ() {
        let text = "\0 \0\0 a a\0 a\0\0 \0\0\0\0\0\0\0\0 \0\0\0\0\0\0\0\0\0";
        assert_eq!(counts(text).unique_words, 7);
        assert_eq!(counts(text), plainly(text));
    }

    #[test]
    fn empty_and_blank_texts() {
        assert_eq!(counts(""), Counts::default());
        assert_eq!(counts(" \n\u{3000}"), Counts { char_count: 3, ..Counts::default() });
    }

    #[test]
    fn tables_grow_and_are_forgotten() {
        let mut counter = Counter::new();
        let many: String = (0..100_000).map(|number| format!("w{number} ")).collect();
        let long: String = (0..10_000).map(|number| format!("a-word-of-many-letters-{number} ")).collect();
        assert_eq!(counter.count(&many).unique_words, 100_000);
        assert_eq!(counter.count(&long).unique_words, 10_000);
        assert_eq!(counter.count("w1 a-word-of-many-letters-1").unique_words, 2);
        assert_eq!(counter.count("").unique_words, 0);
    }

    #[test]
    fn the_version_is_that_of_the_library() {
        let (major, minor, update) = char::UNICODE_VERSION;
        assert_eq!(UNICODE_VERSION, format!("{major}.{minor}.{update}"));
    }

    fn texts() -> impl Strategy<Value = String> {
        let ch = prop_oneof![
            4 => prop::sample::select(vec![' ', '\n', '\u{1c}', '\u{1f}', '\u{85}', '\u{a0}', '\u{2003}', '\u{3000}', '\u{200b}', '\0', '\u{1b}']),
            6 => prop::sample::select(vec!['a', 'B', 'z', 'Z', '@', '[', '{', '7']),
            3 => prop::sample::select(vec!['É', 'ß', 'İ', 'ǅ', 'Σ', 'σ', '\u{301}', '\'', 'Ⱥ', 'K', 'Я', '世', '가', 'Ａ', '𐐀', 'Ა', 'Ꭰ', 'ꭰ']),
            1 => any::<char>(),
        ];
        prop::collection::vec(ch, 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn fast_counts_equal_plain_counts(text in texts()) {
            prop_assert_eq!(counts(&text), plainly(&text));
        }
    }
}

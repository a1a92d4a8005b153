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
//! How it is fast: a [`Block`] of text is lower-cased and its white space marked by vector instructions. Most
//! words are shorter than 16 bytes; such a word is cut out in two registers, and they are its key in a hash
//! table that compares whole keys ([`ShortWords`]), so no answer is only probable. Longer words go into a table
//! of byte strings, those of ASCII right out of the block. Everything else takes a slower path of the same
//! meaning, [`read_word`].

mod block;
mod long_words;
mod lower_case;
mod short_words;

use std::hash::{BuildHasher, RandomState};

use block::Block;
use long_words::LongWords;
use lower_case::{LoweredWord, read_word};
use short_words::{ShortWord, ShortWords};

/// What a text amounts to, in words and characters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Words: runs of characters that are not white space. Text without spaces, such as Chinese, has few and
    /// long ones.
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

/// The Unicode version that lower-casing and white space follow. Python's may be another; the counts agree on
/// every character that both versions know.
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
    block: Block,
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
        // A secret seed, so that no page can be made that puts all its words into one chain. The counts do
        // not depend on it.
        let random = RandomState::new();
        let seed = |number: u8| random.hash_one(number);
        Self {
            short_words: ShortWords::new([seed(0), seed(1)]),
            long_words: LongWords::new(seed(2)),
            block: Block::new(),
            scratch: Vec::new(),
        }
    }

    /// Counts the words and characters of `text`. Linear in its length.
    pub fn count(&mut self, text: &str) -> Counts {
        self.short_words.clear(text.len());
        self.long_words.clear();
        let (mut word_count, mut word_chars) = (0, 0);
        let mut at = 0;
        let mut block_start = 0;
        self.block.read(text.as_bytes());
        while at < text.len() {
            if at - block_start >= self.block.word_starts() {
                block_start = at;
                self.block.read(&text.as_bytes()[at..]);
            }
            let run = self.short_words.count_run(&self.block, at - block_start, &mut self.long_words);
            at += run.bytes;
            word_count += run.words;
            word_chars += run.word_chars;
            if at - block_start >= self.block.word_starts() {
                continue;
            }
            // The table is full, or the next word is not a simple one. This path takes any word.
            let LoweredWord { source, word_bytes, char_count, next } = read_word(text, at, &mut self.scratch);
            if char_count > 0 {
                match ShortWord::from_start(source, word_bytes) {
                    Some(word) => self.short_words.insert(word),
                    None => self.long_words.insert(&source[..word_bytes]),
                }
                word_count += 1;
                word_chars += char_count;
            }
            at = next;
        }
        Counts {
            word_count: word_count as u64,
            unique_words: (self.short_words.len() + self.long_words.len()) as u64,
            avg_word_len: if word_count == 0 { 0.0 } else { word_chars as f64 / word_count as f64 },
            char_count: text.chars().count() as u64,
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

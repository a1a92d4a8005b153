//! The set of words of up to 15 bytes, and the loop that most words go through.

use super::block::Block;
use super::long_words::LongWords;
use super::lower_case::{CASE_TABLES, lower_short_word};

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// All bits of the bytes before the first one that is marked by its high bit.
#[inline]
const fn bytes_before(marks: u64) -> u64 {
    ((marks & marks.wrapping_neg()) >> 7).wrapping_sub(1)
}

/// A lower-cased word of 1 to 15 bytes, with its length in the last byte: equal if and only if the words are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShortWord {
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

    #[inline]
    const fn is_none(self) -> bool {
        self.high == 0
    }

    /// Whether a slot with this in it is neither empty nor the place of `word`.
    #[inline]
    const fn is_of_another(self, word: Self) -> bool {
        let difference = (self.low ^ word.low) | (self.high ^ word.high);
        // Both are zero or not; `min` makes one test of the two, whose outcomes alone nobody can predict.
        if difference < self.high { difference != 0 } else { self.high != 0 }
    }

    #[inline]
    fn hash(self, seeds: [u64; 2]) -> usize {
        let product = u128::from(self.low ^ seeds[0]) * u128::from(self.high ^ seeds[1]);
        (product as u64 ^ (product >> 64) as u64) as usize
    }

    /// The first `word_bytes` of `source`, if they are few enough.
    #[inline]
    pub(super) fn from_start(source: &[u8], word_bytes: usize) -> Option<Self> {
        if word_bytes > 15 {
            return None;
        }
        let whole = match source.first_chunk::<16>() {
            Some(chunk) => u128::from_le_bytes(*chunk) & ((1 << (8 * word_bytes)) - 1),
            None => {
                let mut padded = [0; 16];
                padded[..word_bytes].copy_from_slice(&source[..word_bytes]);
                u128::from_le_bytes(padded)
            }
        };
        Some(Self::from_parts(whole as u64, (whole >> 64) as u64, word_bytes))
    }
}

/// The set of short words: open addressing with linear probing.
#[derive(Debug)]
pub(super) struct ShortWords {
    /// All that were ever needed and are kept; those beyond `mask` are empty.
    slots: Vec<ShortWord>,
    /// The table is as many slots as a power of two; one less.
    mask: usize,
    /// The slots that are in use, in the order in which they were filled: clearing them costs less than
    /// clearing the table. One place is left for a write that comes to nothing.
    used: Vec<u32>,
    word_count: usize,
    seeds: [u64; 2],
}

/// What [`ShortWords::count_run`] has read.
pub(super) struct Run {
    pub(super) bytes: usize,
    pub(super) words: usize,
    pub(super) word_chars: usize,
}

impl ShortWords {
    const MIN_SLOTS: usize = 1 << 8;
    /// 32 KiB: more does not stay in the nearest cache.
    const MAX_SLOTS_AT_START: usize = 1 << 11;
    /// 4 MiB, the most that is kept for the next text.
    const MAX_KEPT_SLOTS: usize = 1 << 18;

    /// The seeds decide which words meet in the table, and nothing else.
    pub(super) fn new(seeds: [u64; 2]) -> Self {
        Self { slots: Vec::new(), mask: 0, used: Vec::new(), word_count: 0, seeds }
    }

    pub(super) fn len(&self) -> usize {
        self.word_count
    }

    /// Forgets all words and makes room for those of a text of this length.
    pub(super) fn clear(&mut self, text_bytes: usize) {
        for &slot in &self.used[..self.word_count] {
            self.slots[slot as usize] = ShortWord::NONE;
        }
        self.word_count = 0;
        // Pages of some kilobytes have a different word every 13 bytes or so; at a quarter full, few words
        // meet another in their slot.
        let slot_count =
            (text_bytes / 4).next_power_of_two().clamp(Self::MIN_SLOTS, Self::MAX_SLOTS_AT_START);
        if self.slots.len() > Self::MAX_KEPT_SLOTS {
            (self.slots, self.used) = (Vec::new(), Vec::new());
        }
        self.use_slots(slot_count);
    }

    /// Makes the table, which is empty, this large.
    fn use_slots(&mut self, slot_count: usize) {
        if self.slots.len() < slot_count {
            self.slots.resize(slot_count, ShortWord::NONE);
            self.used.resize(slot_count / 2 + 1, 0);
        }
        self.mask = slot_count - 1;
    }

    /// Reads short words, and long ones of ASCII, from `start` on, until one is of another kind, the table has
    /// to grow, or the block ends.
    ///
    /// The lengths of words and whether they are new cannot be predicted, so neither is a branch here: a
    /// wrong guess costs as much as the rest of the work on a word.
    #[inline]
    pub(super) fn count_run(&mut self, block: &Block, start: usize, long_words: &mut LongWords) -> Run {
        let mask = self.mask;
        let slots = &mut self.slots[..=mask];
        let max_words = slots.len() / 2;
        let used = &mut self.used[..=max_words];
        let mut known_words = self.word_count;
        let (mut at, mut pieces, mut empty_pieces) = (start, 0, 0);
        // Bytes that are no character of their own: those that continue one.
        let mut not_chars = 0;
        let tables = &**CASE_TABLES;
        while let Some(([first, second], [first_ends, second_ends])) = block.chunk(at) {
            let goes_on = u64::from(first_ends == 0).wrapping_neg();
            let mut low = first & bytes_before(first_ends);
            let mut high = second & bytes_before(second_ends) & goes_on;
            let word_bits = first_ends.trailing_zeros() + (second_ends.trailing_zeros() & goes_on as u32);
            let word_bytes = (word_bits / 8) as usize;
            if (word_bytes > 15) | (known_words >= max_words) {
                // Markup has so many long words of ASCII that they do not end the run.
                let Some(word) = block.ascii_word(at).filter(|_| word_bytes > 15) else { break };
                long_words.insert(word);
                pieces += 1;
                at += word.len() + 1;
                continue;
            }
            if (low | high) & HIGH_BITS != 0 {
                let whole = u128::from(low) | u128::from(high) << 64;
                let Some((whole, continuation_bytes)) = lower_short_word(whole, tables) else { break };
                (low, high) = (whole as u64, (whole >> 64) as u64);
                not_chars += continuation_bytes as usize;
            }
            pieces += 1;
            at += word_bytes + 1;
            if word_bytes == 0 {
                empty_pieces += 1;
                continue;
            }
            let word = ShortWord::from_parts(low, high, word_bytes);
            let mut slot = word.hash(self.seeds) & mask;
            while slots[slot].is_of_another(word) {
                slot = (slot + 1) & mask;
            }
            used[known_words] = slot as u32;
            known_words += usize::from(slots[slot].is_none());
            slots[slot] = word;
        }
        self.word_count = known_words;
        let run_bytes = at - start;
        Run { bytes: run_bytes, words: pieces - empty_pieces, word_chars: run_bytes - pieces - not_chars }
    }

    pub(super) fn insert(&mut self, word: ShortWord) {
        if self.word_count > self.mask / 2 {
            self.grow();
        }
        let slot = self.slot_of(word);
        self.used[self.word_count] = slot as u32;
        self.word_count += usize::from(self.slots[slot].is_none());
        self.slots[slot] = word;
    }

    /// Where the word is, or belongs.
    fn slot_of(&self, word: ShortWord) -> usize {
        let mask = self.mask;
        let mut slot = word.hash(self.seeds) & mask;
        while self.slots[slot].is_of_another(word) {
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[cold]
    fn grow(&mut self) {
        let take = |&slot: &u32| std::mem::replace(&mut self.slots[slot as usize], ShortWord::NONE);
        let words: Vec<ShortWord> = self.used[..self.word_count].iter().map(take).collect();
        self.use_slots((self.mask + 1) * 4);
        for (word, used) in words.into_iter().zip(0..) {
            let slot = self.slot_of(word);
            self.used[used] = slot as u32;
            self.slots[slot] = word;
        }
    }
}

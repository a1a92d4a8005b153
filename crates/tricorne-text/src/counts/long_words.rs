//! The set of words of 16 bytes and more.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A set of byte strings that keeps its memory from text to text.
#[derive(Debug)]
pub(super) struct LongWords {
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

    pub(super) fn new(seed: u64) -> Self {
        Self { table: HashTable::new(), text: Vec::new(), hasher: FixedState::with_seed(seed) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn clear(&mut self) {
        if self.text.capacity() > Self::MAX_KEPT_BYTES {
            self.text = Vec::new();
            self.table = HashTable::new();
        }
        self.text.clear();
        self.table.clear();
    }

    pub(super) fn insert(&mut self, word: &[u8]) {
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

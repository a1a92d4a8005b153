//! The little words that no running text is without.

use std::sync::LazyLock;

/// For each language that `whichlang` knows by more than its script, frequent little words, chosen so that its
/// neighbours do not have them too: what the detector says must show in them.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "en",
        &["the", "of", "and", "to", "is", "for", "that", "with", "are", "this", "by", "from", "it", "you"],
    ),
    (
        "de",
        &[
            "der", "die", "und", "den", "von", "zu", "das", "mit", "ist", "für", "auf", "ein", "eine",
            "nicht", "werden",
        ],
    ),
    (
        "fr",
        &[
            "le", "les", "et", "des", "une", "du", "est", "pour", "dans", "par", "sur", "pas", "au", "ou",
            "être",
        ],
    ),
    ("es", &["el", "en", "y", "los", "las", "del", "por", "para", "con", "una", "es", "se", "como", "puede"]),
    ("pt", &["o", "os", "do", "da", "em", "um", "uma", "para", "com", "não", "no", "na", "dos", "ao", "ou"]),
    ("it", &["il", "di", "che", "è", "per", "una", "del", "con", "non", "della", "sono", "gli", "le", "si"]),
    ("nl", &["het", "een", "van", "en", "dat", "op", "te", "zijn", "voor", "met", "niet", "aan", "wordt"]),
    ("sv", &["och", "att", "är", "för", "till", "inte", "ett", "från"]),
    (
        "tr",
        &["ve", "bir", "bu", "için", "ile", "olan", "olarak", "veya", "daha", "ise", "çok", "gibi", "değil"],
    ),
    ("vi", &["và", "của", "là", "các", "có", "cho", "trong", "được", "với", "không", "một", "những", "này"]),
];

/// Little words of languages that `whichlang` does not know. No other language has many of those of one list.
const UNMISTAKABLE: &[(&str, &[&str])] = &[
    (
        "ca",
        &[
            "amb", "els", "és", "dels", "aquest", "aquesta", "aquests", "són", "també", "més", "això",
            "però", "quan", "perquè", "fer", "podeu",
        ],
    ),
    (
        "cs",
        &[
            "že", "jsou", "které", "který", "která", "nebo", "být", "také", "pokud", "není", "při", "můžete",
            "této", "lze", "jako",
        ],
    ),
    ("da", &["af", "nogle", "blive", "bliver", "noget", "bruges"]),
    ("fi", &["että", "ovat", "mutta", "joka", "tämä", "myös", "sekä", "niin"]),
    ("hu", &["az", "hogy", "egy", "ez", "meg", "vagy", "csak", "kell", "lehet"]),
    (
        "id",
        &[
            "yang", "dan", "untuk", "dengan", "ini", "dari", "tidak", "pada", "anda", "akan", "dapat",
            "adalah", "atau", "sebuah", "itu",
        ],
    ),
    ("nb", &["å", "etter", "noen", "seg"]),
    (
        "pl",
        &[
            "nie", "się", "jest", "że", "lub", "są", "dla", "przez", "oraz", "można", "który", "jeśli",
            "być", "które",
        ],
    ),
    ("ro", &["și", "şi", "în", "să", "sau", "pentru", "sunt", "poate", "dacă", "prin", "această"]),
];

/// The most bytes of a word of the lists: such a word fits a register.
const MAX_WORD_BYTES: usize = 8;
/// Slots of the table, a power of two: about a quarter is in use.
const SLOTS: usize = 1024;

/// All words of all lists, each with the lists that have it.
pub(super) struct FunctionWords {
    /// A word, its letters in one number, and a bit for each list. An empty slot has no bits.
    slots: [(u64, u32); SLOTS],
}

/// What of the lists is in a text.
pub(super) struct Tally {
    word_count: usize,
    /// For each list how often its words are there.
    found: [usize; KNOWN.len() + UNMISTAKABLE.len()],
}

impl FunctionWords {
    pub(super) fn get() -> &'static Self {
        static ALL: LazyLock<FunctionWords> = LazyLock::new(FunctionWords::new);
        &ALL
    }

    fn new() -> Self {
        let mut all = Self { slots: [(0, 0); SLOTS] };
        for (list, (_, words)) in KNOWN.iter().chain(UNMISTAKABLE).enumerate() {
            for word in *words {
                let key = word.bytes().fold(0, |key, byte| key << 8 | u64::from(byte));
                let slot = all.slot_of(key);
                all.slots[slot].0 = key;
                all.slots[slot].1 |= 1 << list;
            }
        }
        all
    }

    /// Where the word is, or would be.
    fn slot_of(&self, key: u64) -> usize {
        // By Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4).
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize;
        while self.slots[slot].1 != 0 && self.slots[slot].0 != key {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    /// Counts the words of a text in Latin script. Capitals of ASCII count as small letters; others begin none
    /// of these words often enough to matter.
    pub(super) fn tally(&self, text: &str) -> Tally {
        let mut tally = Tally { word_count: 0, found: [0; KNOWN.len() + UNMISTAKABLE.len()] };
        let (mut key, mut word_bytes) = (0, 0);
        // White space after the text ends its last word.
        for byte in text.bytes().chain([b' ']) {
            // Outside ASCII: the first bytes of U+0080 to U+00BF and of punctuation part words; all others
            // begin a letter, and the bytes after the first belong to what it was.
            let is_letter = byte.is_ascii_alphabetic()
                || (byte >= 0xc3 && byte != 0xe2)
                || (matches!(byte, 0x80..0xc0) && word_bytes > 0);
            if is_letter {
                key = key << 8 | u64::from(if byte.is_ascii() { byte | 0x20 } else { byte });
                word_bytes += 1;
            } else if word_bytes > 0 {
                tally.word_count += 1;
                if word_bytes <= MAX_WORD_BYTES {
                    let mut lists = self.slots[self.slot_of(key)].1;
                    while lists != 0 {
                        tally.found[lists.trailing_zeros() as usize] += 1;
                        lists &= lists - 1;
                    }
                }
                (key, word_bytes) = (0, 0);
            }
        }
        tally
    }
}

impl Tally {
    /// The least share of function words in running text, in percent. Real shares are 15 to 40 with these
    /// short lists.
    const MIN_KNOWN_PERCENT: usize = 5;
    /// The same for the rarer words that only one language has.
    const MIN_UNMISTAKABLE_PERCENT: usize = 3;
    /// One of them may stand anywhere.
    const MIN_UNMISTAKABLE_WORDS: usize = 3;

    /// Whether enough of the words are function words of a language that `whichlang` knows. Those that it
    /// knows by their script are not among them: the census has settled them before.
    pub(super) fn is_running_text_in(&self, code: &str) -> bool {
        let list = KNOWN.iter().position(|(known, _)| *known == code);
        list.is_some_and(|list| self.found[list] * 100 >= self.word_count * Self::MIN_KNOWN_PERCENT)
    }

    /// Whether there is more than a stray word of those that only languages have which `whichlang` does not
    /// know.
    pub(super) fn hints_at_another(&self) -> bool {
        self.found[KNOWN.len()..].iter().any(|count| count * 100 > self.word_count)
    }

    /// The language whose own words are there, if it is one that `whichlang` does not know; with its share of
    /// such words.
    pub(super) fn unmistakable(&self) -> Option<(&'static str, f64)> {
        let found = &self.found[KNOWN.len()..];
        let (list, most) = found.iter().copied().enumerate().max_by_key(|&(_, count)| count)?;
        let all: usize = found.iter().sum();
        let is_clear = most * 100 >= self.word_count * Self::MIN_UNMISTAKABLE_PERCENT && most * 5 >= all * 4;
        (most >= Self::MIN_UNMISTAKABLE_WORDS && is_clear)
            .then(|| (UNMISTAKABLE[list].0, most as f64 / all as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_its_lists() {
        for (list, (code, words)) in KNOWN.iter().chain(UNMISTAKABLE).enumerate() {
            for word in *words {
                assert!(word.len() <= MAX_WORD_BYTES, "{word}");
                let tally = FunctionWords::get().tally(&format!("{word} Xy\u{ab}{word}\u{2019}"));
                assert_eq!((tally.word_count, tally.found[list]), (3, 2), "{word} in {code}");
            }
        }
    }

    #[test]
    fn what_is_shared_by_neighbours_is_not_unmistakable() {
        let all = FunctionWords::get();
        assert_eq!(all.tally("nogle af de sider bliver set").unmistakable(), Some(("da", 1.0)));
        assert_eq!(all.tally("på en av de sidene er det ikke").unmistakable(), None);
        assert_eq!(all.tally("af nogle bliver etter noen").unmistakable(), None);
        assert_eq!(all.tally("en af nogle").unmistakable(), None);
        assert_eq!(all.tally("").unmistakable(), None);
        assert!(all.tally("").is_running_text_in("en"));
        assert!(!all.tally("the end").is_running_text_in("xx"));
    }
}

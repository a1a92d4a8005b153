//! A piece of text made ready for cutting words out of it: ASCII lower-cased, white space marked.

/// How much text is made ready at once: it and its marks stay in the nearest cache.
const BLOCK_BYTES: usize = 4096;
/// How many bytes are read at once.
const CHUNK_BYTES: usize = 16;

/// A piece of a text.
#[derive(Debug)]
pub(super) struct Block {
    lowered: Box<[u8; BLOCK_BYTES + CHUNK_BYTES]>,
    ends: Box<[u8; BLOCK_BYTES + CHUNK_BYTES]>,
    word_starts: usize,
}

impl Block {
    pub(super) fn new() -> Self {
        let zeros = || Box::new([0; BLOCK_BYTES + CHUNK_BYTES]);
        Self { lowered: zeros(), ends: zeros(), word_starts: 0 }
    }

    /// Takes in the beginning of `text`. If that is all of it, white space follows.
    pub(super) fn read(&mut self, text: &[u8]) {
        let bytes = text.len().min(BLOCK_BYTES);
        // The compiler turns these loops into vector instructions: about one for each byte, for all that they
        // do.
        for (lowered, byte) in self.lowered.iter_mut().zip(&text[..bytes]) {
            *lowered = byte | u8::from(byte.wrapping_sub(b'A') < 26) << 5;
        }
        for (end, byte) in self.ends.iter_mut().zip(&text[..bytes]) {
            // Tab to carriage return, and the four information separators before the space, as Python has it.
            *end = u8::from((byte.wrapping_sub(0x09) < 5) | (byte.wrapping_sub(0x1c) < 5)) << 7;
        }
        self.word_starts = bytes;
        if bytes == text.len() {
            self.lowered[bytes..bytes + CHUNK_BYTES].fill(b' ');
            self.ends[bytes..bytes + CHUNK_BYTES].fill(0x80);
        } else {
            self.word_starts -= CHUNK_BYTES - 1;
        }
    }

    /// Before this place, all of the next 16 bytes can be read.
    pub(super) fn word_starts(&self) -> usize {
        self.word_starts
    }

    /// The word of ASCII that begins at a place, lower-cased, if all of it and the white space after it is in
    /// the block.
    #[inline]
    pub(super) fn ascii_word(&self, start: usize) -> Option<&[u8]> {
        let mut at = start;
        while let Some((bytes, ends)) = self.chunk(at) {
            for (bytes, end) in bytes.into_iter().zip(ends) {
                // The high bits of the bytes before the first white space.
                let outside_ascii =
                    bytes & 0x8080_8080_8080_8080 & (end & end.wrapping_neg()).wrapping_sub(1);
                if outside_ascii != 0 {
                    return None;
                }
                if end != 0 {
                    return Some(&self.lowered[start..at + end.trailing_zeros() as usize / 8]);
                }
                at += 8;
            }
        }
        None
    }

    /// From a place on: 16 bytes, and which of them are white space of ASCII, by their high bits. Nothing
    /// from `word_starts` on.
    #[inline]
    pub(super) fn chunk(&self, at: usize) -> Option<([u64; 2], [u64; 2])> {
        if at >= self.word_starts {
            return None;
        }
        Some((halves(self.lowered[at..].first_chunk()?), halves(self.ends[at..].first_chunk()?)))
    }
}

#[inline]
fn halves(chunk: &[u8; CHUNK_BYTES]) -> [u64; 2] {
    let whole = u128::from_le_bytes(*chunk);
    [whole as u64, (whole >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_lowered_and_marked() {
        let mut block = Block::new();
        let text: Vec<u8> = (0..=u8::MAX).collect();
        block.read(&text);
        assert_eq!(block.word_starts(), 256);
        for byte in 0..=u8::MAX {
            let ([low, _], [end, _]) = block.chunk(usize::from(byte)).unwrap();
            assert_eq!(low as u8, byte.to_ascii_lowercase());
            assert_eq!(end as u8 == 0x80, matches!(byte, 9..=13 | 0x1c..=0x20), "{byte}");
        }
        assert_eq!(block.chunk(255).unwrap().1, [0x8080_8080_8080_8000, 0x8080_8080_8080_8080]);
        assert_eq!(block.chunk(256), None);
    }

    #[test]
    fn words_of_ascii_are_cut_out() {
        let mut block = Block::new();
        for word_bytes in 0..60 {
            let word = "Ab".repeat(30)[..word_bytes].to_owned();
            let lower = word.to_lowercase();
            for (text, expected) in [
                (format!("{word} é"), Some(&*lower)),
                (format!("{word}\u{1c}"), Some(&*lower)),
                (format!("{word}é b"), None),
                (format!("é{word} b"), None),
            ] {
                block.read(text.as_bytes());
                assert_eq!(block.ascii_word(0), expected.map(str::as_bytes), "{text}");
            }
            // White space after the end of the text may be out of sight.
            block.read(word.as_bytes());
            assert!(block.ascii_word(0).is_none_or(|found| found == lower.as_bytes()), "{word}");
        }
        block.read(&[b'x'; BLOCK_BYTES + 1]);
        assert_eq!(block.ascii_word(BLOCK_BYTES - 100), None);
    }

    #[test]
    fn a_block_that_does_not_end_the_text_stops_early() {
        let mut block = Block::new();
        block.read(&[b'x'; BLOCK_BYTES + 1]);
        assert_eq!(block.word_starts(), BLOCK_BYTES - 15);
        assert_eq!(block.chunk(BLOCK_BYTES - 16).unwrap().1, [0, 0]);
    }
}

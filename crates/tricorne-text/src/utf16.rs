//! Recognising UTF-16 by its bytes.

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

/// How many bytes are looked at.
const SAMPLE_BYTES: usize = 1024;

/// The byte order of UTF-16 text without a byte order mark, where the text is mostly ASCII characters, as
/// markup is: every second byte is zero then, on the same side, and none on the other.
pub(crate) fn detect(body: &[u8]) -> Option<&'static Encoding> {
    let sample = &body[..body.len().min(SAMPLE_BYTES)];
    let units = sample.chunks_exact(2);
    let unit_count = units.len();
    if unit_count < 2 {
        return None;
    }
    let (mut zero_first, mut zero_second) = (0, 0);
    for unit in units {
        zero_first += usize::from(unit[0] == 0);
        zero_second += usize::from(unit[1] == 0);
    }
    // Three quarters: a short page in another script still has its tags.
    let enough = unit_count - unit_count / 4;
    match (zero_first, zero_second) {
        (0, zeros) if zeros >= enough => Some(UTF_16LE),
        (zeros, 0) if zeros >= enough => Some(UTF_16BE),
        _ => None,
    }
}

/// The ASCII characters of a UTF-16 sample, other characters as `0xff`; nothing if it is not UTF-16.
pub(crate) fn ascii_part(sample: &[u8], is_declared: bool) -> Option<Vec<u8>> {
    let (encoding, start) = match sample {
        [0xff, 0xfe, ..] => (UTF_16LE, 2),
        [0xfe, 0xff, ..] => (UTF_16BE, 2),
        _ => match detect(sample) {
            Some(encoding) => (encoding, 0),
            None if is_declared => (UTF_16LE, 0),
            None => return None,
        },
    };
    let ascii = sample[start..].chunks_exact(2).map(|unit| {
        let (low, high) = if encoding == UTF_16LE { (unit[0], unit[1]) } else { (unit[1], unit[0]) };
        if high == 0 && low < 0x80 { low } else { 0xff }
    });
    Some(ascii.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_sided_zeros_are_utf_16() {
        assert_eq!(detect(b"<\0h\0t\0m\0l\0"), Some(UTF_16LE));
        assert_eq!(detect(b"\0<\0h\0t\0m\0l"), Some(UTF_16BE));
        assert_eq!(detect(b"<html>"), None);
        assert_eq!(detect(&[0; 64]), None);
        assert_eq!(detect(b"a\0b\0\0\0c\0"), None);
        assert_eq!(detect(b"\0"), None);
    }
}

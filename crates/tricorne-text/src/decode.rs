//! From bytes to text: finds the charset and decodes.
//!
//! The order is that of browsers: byte order mark, HTTP header, declaration in the markup, then a look at the
//! bytes themselves. A declaration is believed even when some bytes do not fit it; [`Decoded::had_errors`]
//! tells.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

use crate::content_type::ContentType;
use crate::{markup_charset, utf16};

/// Where the charset of a body was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CharsetSource {
    /// A byte order mark.
    Bom,
    /// The `charset` parameter of the `Content-Type` header.
    Header,
    /// A `meta` element or the XML declaration.
    Meta,
    /// The bytes: valid UTF-8, the zeros of UTF-16, or letter statistics.
    Detected,
}

impl CharsetSource {
    /// A stable name for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bom => "bom",
            Self::Header => "header",
            Self::Meta => "meta",
            Self::Detected => "detected",
        }
    }
}

/// Decoded text and how it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The text without its byte order mark; borrowed if the body was valid UTF-8 already.
    pub text: Cow<'a, str>,
    /// The WHATWG name of the encoding in lower case. `iso-8859-1` on the web means `windows-1252`, and is
    /// named so.
    pub charset: &'static str,
    /// Where the charset was found.
    pub source: CharsetSource,
    /// Whether some bytes did not fit the charset and became U+FFFD.
    pub had_errors: bool,
}

/// Decodes a body to text. `content_type` is the value of the HTTP header of that name, if there was one.
///
/// A charset label that no browser knows counts as no declaration. Never fails: bytes that do not fit become
/// U+FFFD.
///
/// ```
/// use tricorne_text::{CharsetSource, decode};
///
/// let decoded = decode(b"\xb0\xa1\xb3\xaa\xb4\xd9", Some("text/html; charset=euc-kr"));
/// assert_eq!((&*decoded.text, decoded.charset), ("가나다", "euc-kr"));
/// assert_eq!(decoded.source, CharsetSource::Header);
/// ```
#[must_use]
pub fn decode<'a>(body: &'a [u8], content_type: Option<&str>) -> Decoded<'a> {
    let (encoding, source, bom_bytes) = find_charset(body, content_type);
    let (text, had_errors) = encoding.decode_without_bom_handling(&body[bom_bytes..]);
    Decoded { text, charset: lower_case_name(encoding), source, had_errors }
}

fn find_charset(body: &[u8], content_type: Option<&str>) -> (&'static Encoding, CharsetSource, usize) {
    if let Some((encoding, bom_bytes)) = Encoding::for_bom(body) {
        return (encoding, CharsetSource::Bom, bom_bytes);
    }
    if let Some(encoding) = content_type.and_then(|value| ContentType::parse(value).encoding()) {
        return (encoding, CharsetSource::Header, 0);
    }
    if let Some(encoding) = markup_charset::find(body) {
        return (encoding, CharsetSource::Meta, 0);
    }
    (detect(body), CharsetSource::Detected, 0)
}

/// How many bytes the letter statistics may look at: their cost is about 10 ns a byte that is not ASCII.
const DETECT_BYTES: usize = 64 * 1024;

fn detect(body: &[u8]) -> &'static Encoding {
    if let Some(encoding) = utf16::detect(body) {
        return encoding;
    }
    // Text in another encoding is practically never valid UTF-8 by chance, and ASCII is UTF-8.
    if Encoding::utf8_valid_up_to(body) == body.len() {
        return UTF_8;
    }
    // A long ASCII head says nothing; the detector starts where the text stops being ASCII.
    let start = Encoding::ascii_valid_up_to(body);
    let sample = &body[start..body.len().min(start + DETECT_BYTES)];
    // A few damaged bytes in a page that is UTF-8 otherwise must not turn all of it into another script.
    if is_mostly_utf8(sample) {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(sample, true);
    detector.guess(None, Utf8Detection::Allow)
}

/// Whether multi-byte UTF-8 sequences outnumber broken ones by twenty to one.
fn is_mostly_utf8(sample: &[u8]) -> bool {
    let (mut good, mut broken) = (0usize, 0usize);
    for chunk in sample.utf8_chunks() {
        good += chunk.valid().bytes().filter(|byte| *byte >= 0xc0).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    good > 20 * broken
}

/// The lower-case form of the name that the WHATWG Encoding Standard gives an encoding.
fn lower_case_name(encoding: &'static Encoding) -> &'static str {
    const NAMES: &[&str] = &[
        "utf-8",
        "utf-16le",
        "utf-16be",
        "windows-1252",
        "gbk",
        "gb18030",
        "big5",
        "euc-jp",
        "shift_jis",
        "iso-2022-jp",
        "euc-kr",
        "ibm866",
        "iso-8859-2",
        "iso-8859-3",
        "iso-8859-4",
        "iso-8859-5",
        "iso-8859-6",
        "iso-8859-7",
        "iso-8859-8",
        "iso-8859-8-i",
        "iso-8859-10",
        "iso-8859-13",
        "iso-8859-14",
        "iso-8859-15",
        "iso-8859-16",
        "koi8-r",
        "koi8-u",
        "macintosh",
        "windows-874",
        "windows-1250",
        "windows-1251",
        "windows-1253",
        "windows-1254",
        "windows-1255",
        "windows-1256",
        "windows-1257",
        "windows-1258",
        "x-mac-cyrillic",
        "x-user-defined",
    ];
    let name = encoding.name();
    NAMES.iter().find(|lower| lower.eq_ignore_ascii_case(name)).copied().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], header: Option<&str>, charset: &str, source: CharsetSource, text: &str) {
        let decoded = decode(body, header);
        assert_eq!((decoded.charset, decoded.source, &*decoded.text), (charset, source, text));
    }

    #[test]
    fn the_order_is_bom_header_meta_bytes() {
        let utf8_bom = b"\xef\xbb\xbf<meta charset=gbk>\xc3\xa9";
        check(
            utf8_bom,
            Some("text/html; charset=koi8-r"),
            "utf-8",
            CharsetSource::Bom,
            "<meta charset=gbk>é",
        );
        check(
            b"<meta charset=gbk>\xc1",
            Some("text/html; charset=koi8-r"),
            "koi8-r",
            CharsetSource::Header,
            "<meta charset=gbk>а",
        );
        check(
            b"<meta charset=gbk>\xc4\xe3",
            Some("text/html"),
            "gbk",
            CharsetSource::Meta,
            "<meta charset=gbk>你",
        );
        check("<p>你好".as_bytes(), None, "utf-8", CharsetSource::Detected, "<p>你好");
        check(b"plain", None, "utf-8", CharsetSource::Detected, "plain");
        check(b"", None, "utf-8", CharsetSource::Detected, "");
    }

    #[test]
    fn unknown_and_hostile_labels_are_no_declaration() {
        check(
            b"<meta charset=iso-2022-kr>hi",
            Some("text/html; charset=klingon"),
            "utf-8",
            CharsetSource::Detected,
            "<meta charset=iso-2022-kr>hi",
        );
    }

    #[test]
    fn latin_1_is_windows_1252() {
        check(
            b"\x93caf\xe9\x94",
            Some("text/html; charset=ISO-8859-1"),
            "windows-1252",
            CharsetSource::Header,
            "“café”",
        );
    }

    #[test]
    fn utf_16_with_and_without_mark() {
        let le: Vec<u8> = "<p>hé".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = "\u{feff}<p>hé".encode_utf16().flat_map(u16::to_be_bytes).collect();
        check(&le, None, "utf-16le", CharsetSource::Detected, "<p>hé");
        check(&be, Some("text/html; charset=utf-8"), "utf-16be", CharsetSource::Bom, "<p>hé");
    }

    #[test]
    fn legacy_text_is_detected() {
        let (russian, ..) =
            encoding_rs::WINDOWS_1251.encode("Съешь же ещё этих мягких французских булок, да выпей чаю. ");
        assert_eq!(decode(&russian.repeat(5), None).charset, "windows-1251");
        let (japanese, ..) =
            encoding_rs::SHIFT_JIS.encode("いろはにほへと ちりぬるを わかよたれそ つねならむ ");
        let page = [b"<html>".as_slice(), &japanese.repeat(5)].concat();
        assert_eq!(decode(&page, None).charset, "shift_jis");
    }

    #[test]
    fn a_few_bad_bytes_do_not_change_the_script() {
        let mut page = "Ça déjà été vu, très tôt, à l'été. ".repeat(10).into_bytes();
        page.extend_from_slice(b"\xe9\xff");
        let decoded = decode(&page, None);
        assert_eq!((decoded.charset, decoded.had_errors), ("utf-8", true));
        assert!(decode(b"\xc3(", Some("text/html; charset=utf-8")).had_errors);
    }

    #[test]
    fn every_encoding_has_a_lower_case_name() {
        for label in [
            "utf-8",
            "latin1",
            "sjis",
            "euc-jp",
            "iso-2022-jp",
            "gb2312",
            "gb18030",
            "big5",
            "euc-kr",
            "cp866",
            "koi8-u",
            "mac",
            "tis-620",
            "iso-8859-8-i",
            "x-user-defined",
            "x-mac-ukrainian",
            "utf-16",
            "utf-16be",
            "iso-8859-16",
        ] {
            let encoding = Encoding::for_label(label.as_bytes()).unwrap();
            assert_eq!(lower_case_name(encoding), encoding.name().to_ascii_lowercase());
        }
        for number in 1250..=1258 {
            let encoding = Encoding::for_label(format!("windows-{number}").as_bytes()).unwrap();
            assert_eq!(lower_case_name(encoding), encoding.name().to_ascii_lowercase());
        }
    }
}

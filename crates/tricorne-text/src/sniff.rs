//! What a body really is, whatever the server said it was.
//!
//! Servers label compressed files, PDF documents and images as `text/html` often enough that a text data set
//! built on the label alone holds thousands of "words" of noise. The signature of the content wins over the
//! label; the label only decides between the kinds of text that cannot be told apart by their first bytes.

use std::fmt;

use crate::content_type::ContentType;
use crate::utf16;

/// How many bytes of the body are looked at.
const SAMPLE_BYTES: usize = 4096;

/// The kind of content that a body holds, as told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sniffed {
    /// An HTML page.
    Html,
    /// An XHTML page: HTML in XML syntax.
    Xhtml,
    /// Other XML: a feed, a sitemap, SVG.
    Xml,
    /// Text without markup, JSON and other text formats included.
    PlainText,
    /// Nothing at all, or only white space.
    Empty,
    /// A gzip stream.
    Gzip,
    /// A Zstandard stream.
    Zstd,
    /// A bzip2, xz, 7z or RAR file.
    OtherArchive,
    /// A ZIP file, which includes office documents and EPUB.
    Zip,
    /// A PDF document.
    Pdf,
    /// A bitmap image.
    Image,
    /// Sound or video.
    Media,
    /// A font.
    Font,
    /// Bytes that are no text and have no signature known here.
    Binary,
}

impl Sniffed {
    /// A stable name for reports and for the reason of a dropped record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Xhtml => "xhtml",
            Self::Xml => "xml",
            Self::PlainText => "plain_text",
            Self::Empty => "empty",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::OtherArchive => "archive",
            Self::Zip => "zip",
            Self::Pdf => "pdf",
            Self::Image => "image",
            Self::Media => "media",
            Self::Font => "font",
            Self::Binary => "binary",
        }
    }

    /// Whether the body can be decoded as text. An empty body can: to nothing.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Html | Self::Xhtml | Self::Xml | Self::PlainText | Self::Empty)
    }

    /// Whether the text is a page from which main text can be extracted.
    #[must_use]
    pub const fn is_page(self) -> bool {
        matches!(self, Self::Html | Self::Xhtml)
    }
}

impl fmt::Display for Sniffed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says what `body` holds. `content_type` is the value of the HTTP header of that name, if there was one.
///
/// UTF-16 text, with or without a byte order mark, is text. A few stray control characters do not make a page
/// binary; see [`Sniffed::Binary`] for what does: more than 3 % control characters in the first 4 KiB (10 %
/// after an opening HTML tag).
///
/// ```
/// use tricorne_text::{Sniffed, sniff};
///
/// assert_eq!(sniff(b"<!doctype html><p>Hi", None), Sniffed::Html);
/// assert_eq!(sniff(b"\x1f\x8b\x08\0\0\0\0\0", Some("text/html; charset=utf-8")), Sniffed::Gzip);
/// ```
#[must_use]
pub fn sniff(body: &[u8], content_type: Option<&str>) -> Sniffed {
    let sample = &body[..body.len().min(SAMPLE_BYTES)];
    if let Some(kind) = signature(sample) {
        return kind;
    }
    let content_type = ContentType::parse(content_type.unwrap_or(""));
    if let Some(ascii) = utf16::ascii_part(sample, content_type.declares_utf16()) {
        return text_kind(&ascii, &content_type);
    }
    let kind = text_kind(sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample), &content_type);
    let tolerated = match kind {
        Sniffed::Html | Sniffed::Xhtml if starts_with_html_tag(skip_white_space(sample)) => sample.len() / 10,
        _ => sample.len() / 32,
    };
    let controls = sample.iter().filter(|&&byte| is_binary_byte(byte)).count();
    // One stray byte proves nothing, however short the text.
    if controls > tolerated.max(1) { Sniffed::Binary } else { kind }
}

/// The kinds that begin with fixed bytes.
fn signature(sample: &[u8]) -> Option<Sniffed> {
    const SIGNATURES: &[(&[u8], Sniffed)] = &[
        (b"\x1f\x8b", Sniffed::Gzip),
        (b"\x28\xb5\x2f\xfd", Sniffed::Zstd),
        (b"BZh", Sniffed::OtherArchive),
        (b"\xfd7zXZ\0", Sniffed::OtherArchive),
        (b"7z\xbc\xaf\x27\x1c", Sniffed::OtherArchive),
        (b"Rar!\x1a\x07", Sniffed::OtherArchive),
        (b"PK\x03\x04", Sniffed::Zip),
        (b"PK\x05\x06", Sniffed::Zip),
        (b"PK\x07\x08", Sniffed::Zip),
        (b"\x89PNG\r\n\x1a\n", Sniffed::Image),
        (b"\xff\xd8\xff", Sniffed::Image),
        (b"GIF87a", Sniffed::Image),
        (b"GIF89a", Sniffed::Image),
        (b"II*\0", Sniffed::Image),
        (b"MM\0*", Sniffed::Image),
        (b"\0\0\x01\0", Sniffed::Image),
        (b"ID3", Sniffed::Media),
        (b"OggS\0", Sniffed::Media),
        (b"fLaC\0", Sniffed::Media),
        (b"\x1a\x45\xdf\xa3", Sniffed::Media),
        (b"FLV\x01", Sniffed::Media),
        (b"wOFF\0", Sniffed::Font),
        (b"wOFF\x01", Sniffed::Font),
        (b"wOF2\0", Sniffed::Font),
        (b"wOF2\x01", Sniffed::Font),
        (b"OTTO\0", Sniffed::Font),
        (b"\0\x01\0\0\0", Sniffed::Font),
        (b"\x7fELF", Sniffed::Binary),
        (b"\0asm", Sniffed::Binary),
        (b"SQLite format 3\0", Sniffed::Binary),
    ];
    // Readers of PDF accept white space and more before the mark; servers do put blank lines there.
    if skip_white_space(sample).starts_with(b"%PDF-") {
        return Some(Sniffed::Pdf);
    }
    if let Some(&(mark, kind)) = SIGNATURES.iter().find(|(mark, _)| sample.starts_with(mark)) {
        let is_certain = match mark {
            // These are also the beginnings of words.
            b"BZh" => sample.get(4..10) == Some(b"1AY&SY"),
            b"ID3" => sample.get(3).is_some_and(|&version| version < 0x10),
            _ => true,
        };
        return is_certain.then_some(kind);
    }
    match (sample.get(..4), sample.get(4..8), sample.get(8..12)) {
        (Some(b"RIFF"), _, Some(b"WEBP")) => Some(Sniffed::Image),
        (Some(b"RIFF"), _, Some(b"WAVE" | b"AVI ")) => Some(Sniffed::Media),
        (Some(_), Some(b"ftyp"), Some(b"avif" | b"avis" | b"heic" | b"heix" | b"mif1" | b"msf1")) => {
            Some(Sniffed::Image)
        }
        (Some(_), Some(b"ftyp"), Some(_)) => Some(Sniffed::Media),
        (Some([b'B', b'M', ..]), Some([_, _, 0, 0]), Some([0, 0, ..])) => Some(Sniffed::Image),
        _ => None,
    }
}

/// Tells the kinds of text apart, by the text first and by the label where the text does not say.
fn text_kind(sample: &[u8], content_type: &ContentType<'_>) -> Sniffed {
    let start = skip_white_space(sample);
    if start.is_empty() {
        return Sniffed::Empty;
    }
    // A page about HTML served as plain text is plain text, as it is for a browser.
    if content_type.essence_is("text/plain") {
        return Sniffed::PlainText;
    }
    if starts_with_ignoring_case(start, b"<?xml") {
        return if contains_ignoring_case(start, b"<html") { Sniffed::Xhtml } else { Sniffed::Xml };
    }
    if content_type.essence_is("application/xhtml+xml") {
        return Sniffed::Xhtml;
    }
    if starts_with_html_tag(start) {
        return Sniffed::Html;
    }
    if content_type.is_xml() {
        return Sniffed::Xml;
    }
    if content_type.essence_is("text/html") {
        return Sniffed::Html;
    }
    // No label to go by, or a label that the signatures have already proved wrong.
    let is_labelled_text = content_type.is_text();
    let has_markup = [&b"<html"[..], b"<head", b"<body", b"<!doctype html", b"</p>", b"</div>", b"</a>"]
        .iter()
        .any(|tag| contains_ignoring_case(start, tag));
    if has_markup && !is_labelled_text { Sniffed::Html } else { Sniffed::PlainText }
}

/// Whether the text begins with one of the tags that only HTML begins with (the list of the WHATWG MIME
/// sniffing standard).
fn starts_with_html_tag(start: &[u8]) -> bool {
    const TAGS: &[&[u8]] = &[
        b"<!doctype html",
        b"<html",
        b"<head",
        b"<script",
        b"<iframe",
        b"<h1",
        b"<div",
        b"<font",
        b"<table",
        b"<a",
        b"<style",
        b"<title",
        b"<b",
        b"<body",
        b"<br",
        b"<p",
        b"<meta",
        b"<link",
        b"<ul",
        b"<section",
        b"<article",
        b"<main",
        b"<span",
        b"<nav",
        b"<header",
    ];
    if start.starts_with(b"<!--") {
        return true;
    }
    TAGS.iter().any(|tag| {
        starts_with_ignoring_case(start, tag)
            && start
                .get(tag.len())
                .is_some_and(|&byte| byte == b'>' || byte == b'/' || byte.is_ascii_whitespace())
    })
}

fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn contains_ignoring_case(text: &[u8], pattern: &[u8]) -> bool {
    text.windows(pattern.len()).any(|window| window.eq_ignore_ascii_case(pattern))
}

fn skip_white_space(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
    &text[start..]
}

/// Bytes that no text encoding in use on the web produces, ISO-2022-JP's escape excepted.
const fn is_binary_byte(byte: u8) -> bool {
    // 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f, in a form that becomes vector instructions.
    (byte < 0x09) | (byte == 0x0b) | (byte.wrapping_sub(0x0e) < 0x0d) | (byte.wrapping_sub(0x1c) < 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: Option<&str> = Some("text/html; charset=utf-8");

    #[test]
    fn signatures_win_over_the_label() {
        let cases: &[(&[u8], Sniffed)] = &[
            (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", Sniffed::Gzip),
            (b"\x28\xb5\x2f\xfd\x04\x58", Sniffed::Zstd),
            (b"%PDF-1.7\n%\xe2\xe3", Sniffed::Pdf),
            (b"\r\n %PDF-1.4", Sniffed::Pdf),
            (b"PK\x03\x04\x14\0\x06\0", Sniffed::Zip),
            (b"\x89PNG\r\n\x1a\n\0\0", Sniffed::Image),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Sniffed::Image),
            (b"GIF89a\x01\0", Sniffed::Image),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Sniffed::Image),
            (b"BM\x36\0\0\0\0\0\0\0\x36\0", Sniffed::Image),
            (b"\0\0\0\x20ftypavif\0\0\0\0", Sniffed::Image),
            (b"\0\0\0\x20ftypisom\0\0\0\0", Sniffed::Media),
            (b"BZh91AY&SY\x01", Sniffed::OtherArchive),
            (b"wOF2\0\x01\0\0", Sniffed::Font),
            (b"\x7fELF\x02\x01\x01", Sniffed::Binary),
        ];
        for (body, kind) in cases {
            assert_eq!(sniff(body, HTML), *kind, "{body:?}");
            assert!(!kind.is_text());
        }
    }

    #[test]
    fn words_that_begin_like_a_signature_are_text() {
        for body in [
            "BM is a bus company in the north",
            "ID3 tags are old",
            "BZh what",
            "PK machines",
            "RIFF raff, WEBPages",
        ] {
            assert_eq!(sniff(body.as_bytes(), None), Sniffed::PlainText, "{body}");
        }
    }

    #[test]
    fn kinds_of_text() {
        let cases: &[(&str, Option<&str>, Sniffed)] = &[
            ("<!DOCTYPE html><html>", None, Sniffed::Html),
            ("\u{feff}\n <!-- hello --><p>", None, Sniffed::Html),
            ("<P>short", Some("application/octet-stream"), Sniffed::Html),
            ("<?xml version='1.0'?><!DOCTYPE html PUBLIC ''><HTML>", HTML, Sniffed::Xhtml),
            ("<?xml version='1.0'?><rss version='2.0'>", HTML, Sniffed::Xml),
            ("<feed xmlns='http://www.w3.org/2005/Atom'>", Some("application/atom+xml"), Sniffed::Xml),
            ("just words", HTML, Sniffed::Html),
            ("just words", None, Sniffed::PlainText),
            ("words <body> words </a>", None, Sniffed::Html),
            ("<html> in a text file", Some("text/plain"), Sniffed::PlainText),
            ("{\"a\": \"<p></p>\"}", Some("application/json"), Sniffed::PlainText),
            ("<anything>", None, Sniffed::PlainText),
            (" \n\t ", HTML, Sniffed::Empty),
            ("", None, Sniffed::Empty),
        ];
        for (body, content_type, kind) in cases {
            assert_eq!(sniff(body.as_bytes(), *content_type), *kind, "{body:?} as {content_type:?}");
        }
    }

    #[test]
    fn noise_is_binary_and_stray_controls_are_not() {
        // A small linear congruential generator stands for encrypted or compressed bytes.
        let mut state = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(3000)
        .collect();
        assert_eq!(sniff(&noise, HTML), Sniffed::Binary);
        assert_eq!(sniff(b"a\x01b\x02c\x03", None), Sniffed::Binary);
        assert_eq!(sniff(b"one\x1funit", None), Sniffed::PlainText);
        let mut page = b"<html><body>some words here\0 and there\0 and everywhere".repeat(4);
        assert_eq!(sniff(&page, None), Sniffed::Html);
        page.extend_from_slice(&[0; 400]);
        assert_eq!(sniff(&page, HTML), Sniffed::Binary);
    }

    #[test]
    fn utf_16_is_text() {
        let page = "<html><body><p>Grüße</p>".repeat(3);
        let little: Vec<u8> = page.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = page.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked: Vec<u8> = [0xff, 0xfe].into_iter().chain(little.iter().copied()).collect();
        for body in [&little, &big, &marked] {
            assert_eq!(sniff(body, None), Sniffed::Html);
        }
        // Without Latin letters only the label tells.
        let chinese: Vec<u8> = "一二三四、五六七八。".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(sniff(&chinese, Some("text/html; charset=UTF-16LE")).is_text());
    }
}

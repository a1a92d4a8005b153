//! The charset that a page declares in its own markup: a `meta` element or the XML declaration.
//!
//! Follows the prescan of the HTML standard, over more bytes than the 1,024 that it asks for, because
//! browsers also obey a `meta` that comes later. Comments, scripts and styles are skipped: they may quote a
//! declaration.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

use crate::content_type::encoding_for_label;

/// How many bytes of the page are searched.
const PRESCAN_BYTES: usize = 16 * 1024;

/// Finds the declared encoding, if there is one that a decoder exists for.
pub(crate) fn find(body: &[u8]) -> Option<&'static Encoding> {
    let head = &body[..body.len().min(PRESCAN_BYTES)];
    let encoding = match xml_declaration(head) {
        Some(encoding) => encoding,
        None => meta(head)?,
    };
    // The declaration was read as ASCII, so the page cannot be UTF-16.
    if encoding == UTF_16LE || encoding == UTF_16BE {
        Some(UTF_8)
    } else if encoding == X_USER_DEFINED {
        Some(WINDOWS_1252)
    } else {
        Some(encoding)
    }
}

fn xml_declaration(head: &[u8]) -> Option<&'static Encoding> {
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let declaration = head[start..].strip_prefix(b"<?xml")?;
    let end = declaration.iter().position(|&byte| byte == b'>')?;
    let declaration = &declaration[..end];
    let name = declaration.windows(8).position(|window| window == b"encoding")?;
    let value = declaration[name + 8..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (&quote, value) = value.split_first()?;
    let end = value.iter().position(|&byte| byte == quote)?;
    encoding_for_label(&value[..end])
}

fn meta(head: &[u8]) -> Option<&'static Encoding> {
    let mut rest = head;
    while let Some(open) = rest.iter().position(|&byte| byte == b'<') {
        rest = &rest[open + 1..];
        if rest.starts_with(b"!--") {
            // From the dashes that open it: `<!-->` is a whole comment.
            rest = after(&rest[1..], b"-->")?;
            continue;
        }
        let name_bytes = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (name, attributes) = rest.split_at(name_bytes);
        if name.is_empty() {
            continue;
        }
        rest = attributes;
        if name.eq_ignore_ascii_case(b"meta") {
            let mut tag = Attributes { rest };
            if let Some(encoding) = meta_element(&mut tag) {
                return Some(encoding);
            }
            rest = tag.rest;
        } else if name.eq_ignore_ascii_case(b"script") || name.eq_ignore_ascii_case(b"style") {
            rest = after_end_tag(rest, name);
        } else {
            let mut tag = Attributes { rest };
            while tag.next().is_some() {}
            rest = tag.rest;
        }
    }
    None
}

fn meta_element(tag: &mut Attributes<'_>) -> Option<&'static Encoding> {
    let (mut is_content_type, mut charset, mut content_charset) = (false, None, None);
    for (name, value) in tag {
        if name.eq_ignore_ascii_case(b"http-equiv") {
            is_content_type = value.trim_ascii().eq_ignore_ascii_case(b"content-type");
        } else if name.eq_ignore_ascii_case(b"charset") {
            charset = charset.or_else(|| encoding_for_label(value));
        } else if name.eq_ignore_ascii_case(b"content") {
            content_charset = content_charset.or_else(|| charset_in_content(value));
        }
    }
    charset.or(content_charset.filter(|_| is_content_type))
}

/// The charset in `text/html; charset=…`.
fn charset_in_content(content: &[u8]) -> Option<&'static Encoding> {
    let mut rest = content;
    loop {
        let found = rest.windows(7).position(|window| window.eq_ignore_ascii_case(b"charset"))?;
        rest = rest[found + 7..].trim_ascii_start();
        let Some(value) = rest.strip_prefix(b"=") else { continue };
        let value = value.trim_ascii_start();
        let label = match value.first()? {
            quote @ (b'"' | b'\'') => value[1..].split(|byte| byte == quote).next()?,
            _ => value.split(|&byte| byte == b';' || byte.is_ascii_whitespace()).next()?,
        };
        return encoding_for_label(label);
    }
}

/// The attributes of one tag; afterwards `rest` is what follows the tag.
struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let is_gap = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'/';
        let start = self.rest.iter().position(|byte| !is_gap(byte)).unwrap_or(self.rest.len());
        self.rest = &self.rest[start..];
        match self.rest.first()? {
            b'>' => {
                self.rest = &self.rest[1..];
                return None;
            }
            b'<' => return None,
            _ => {}
        }
        // The first byte belongs to the name even if it is `=`.
        let name_bytes = 1 + self.rest[1..]
            .iter()
            .take_while(|byte| !is_gap(byte) && !matches!(byte, b'=' | b'>'))
            .count();
        let (name, rest) = self.rest.split_at(name_bytes);
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else {
            self.rest = rest;
            return Some((name, b""));
        };
        let value = value.trim_ascii_start();
        let (value, rest) = match value.first() {
            Some(quote @ (b'"' | b'\'')) => {
                let value = &value[1..];
                let end = value.iter().position(|byte| byte == quote).unwrap_or(value.len());
                (&value[..end], value.get(end + 1..).unwrap_or_default())
            }
            _ => {
                let end = value
                    .iter()
                    .position(|byte| byte.is_ascii_whitespace() || *byte == b'>')
                    .unwrap_or(value.len());
                value.split_at(end)
            }
        };
        self.rest = rest;
        Some((name, value))
    }
}

fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let found = text.windows(mark.len()).position(|window| window == mark)?;
    Some(&text[found + mark.len()..])
}

fn after_end_tag<'a>(text: &'a [u8], name: &[u8]) -> &'a [u8] {
    let bytes = name.len() + 2;
    let end = text
        .windows(bytes)
        .position(|window| window.starts_with(b"</") && window[2..].eq_ignore_ascii_case(name));
    end.map_or(&[], |end| &text[end + bytes..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::{EUC_KR, GBK, SHIFT_JIS};

    #[test]
    fn declarations_in_all_spellings() {
        let cases: &[(&str, Option<&'static Encoding>)] = &[
            ("<meta charset=euc-kr>", Some(EUC_KR)),
            ("<META CharSet = 'EUC-KR'/>", Some(EUC_KR)),
            ("<meta http-equiv=Content-Type content='text/html; charset=euc-kr'>", Some(EUC_KR)),
            ("<meta content=\"text/html; charset='euc-kr'\" http-equiv=\"content-type\">", Some(EUC_KR)),
            ("<meta content='charset; charset=euc-kr' http-equiv=content-type>", Some(EUC_KR)),
            ("<meta content='text/html; charset=euc-kr'>", None),
            ("<meta http-equiv=refresh content='text/html; charset=euc-kr'>", None),
            ("<!-- <meta charset=gbk> --><meta charset=euc-kr>", Some(EUC_KR)),
            ("<!--><meta charset=gbk><!-- -->", Some(GBK)),
            ("<script>'<meta charset=gbk>'</SCRIPT><meta charset=euc-kr>", Some(EUC_KR)),
            ("<a title='<meta charset=gbk>'><meta charset=euc-kr>", Some(EUC_KR)),
            ("<meta charset=nonsense><meta charset=gb2312>", Some(GBK)),
            ("<meta charset=utf-16>", Some(UTF_8)),
            ("<meta charset=x-user-defined>", Some(WINDOWS_1252)),
            ("<?xml version='1.0' encoding='Shift_JIS'?><html>", Some(SHIFT_JIS)),
            ("<?xml version='1.0'?><meta charset=gbk>", Some(GBK)),
            ("<meta charset", None),
            ("<meta charset='gbk", Some(GBK)),
            ("<meta =charset=gbk>", None),
            ("<metadata charset=gbk>", None),
            ("<", None),
            ("", None),
        ];
        for (page, encoding) in cases {
            assert_eq!(find(page.as_bytes()), *encoding, "{page}");
        }
    }

    #[test]
    fn a_late_declaration_is_found_but_not_a_very_late_one() {
        let page = |padding| format!("<title>{}</title><meta charset=gbk>", "x".repeat(padding));
        assert_eq!(find(page(8_000).as_bytes()), Some(GBK));
        assert_eq!(find(page(20_000).as_bytes()), None);
    }
}

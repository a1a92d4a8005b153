//! The parts of a `Content-Type` header that text work needs: the essence and the charset.

use encoding_rs::{Encoding, REPLACEMENT, UTF_16BE, UTF_16LE};

/// A `Content-Type` value, taken apart without copying. Never fails: what cannot be read is not there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContentType<'a> {
    essence: &'a str,
    charset: Option<&'a str>,
}

impl<'a> ContentType<'a> {
    pub(crate) fn parse(value: &'a str) -> Self {
        let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
        let charset = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            // Servers send both kinds of quotes, though only one is allowed.
            let value = value.trim().trim_matches(['"', '\'']).trim();
            (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then_some(value)
        });
        Self { essence: essence.trim(), charset }
    }

    /// The encoding that the header declares, if there is a decoder for it.
    pub(crate) fn encoding(&self) -> Option<&'static Encoding> {
        encoding_for_label(self.charset?.as_bytes())
    }

    pub(crate) fn declares_utf16(&self) -> bool {
        self.encoding().is_some_and(|encoding| encoding == UTF_16LE || encoding == UTF_16BE)
    }

    pub(crate) fn essence_is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence)
    }

    pub(crate) fn is_xml(&self) -> bool {
        let essence = self.essence.to_ascii_lowercase();
        essence.ends_with("/xml") || essence.ends_with("+xml")
    }

    /// Whether the label names a text format other than HTML.
    pub(crate) fn is_text(&self) -> bool {
        let essence = self.essence.to_ascii_lowercase();
        essence.starts_with("text/")
            || essence.ends_with("/json")
            || essence.ends_with("+json")
            || essence.ends_with("/javascript")
            || essence.ends_with("/x-ndjson")
    }
}

/// The encoding of a label, without the one that decodes everything to a single replacement character:
/// browsers use it against attacks on their users, and here it would lose the text.
pub(crate) fn encoding_for_label(label: &[u8]) -> Option<&'static Encoding> {
    Encoding::for_label(label).filter(|&encoding| encoding != REPLACEMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charset_is_found_in_any_spelling() {
        for value in [
            "text/html; charset=euc-kr",
            "text/html;CHARSET=EUC-KR",
            "text/html; foo=bar; charset=\"euc-kr\"",
            "text/html; charset = 'euc-kr' ; x",
            "; charset=ks_c_5601-1987",
        ] {
            let encoding = ContentType::parse(value).encoding();
            assert_eq!(encoding, Some(encoding_rs::EUC_KR), "{value}");
        }
        for value in [
            "",
            "text/html",
            "text/html; charset=",
            "text/html; charset=none",
            "charset=utf-8",
            "text/html; charset=iso-2022-kr",
        ] {
            assert_eq!(ContentType::parse(value).encoding(), None, "{value}");
        }
    }
}

//! The pages of `testdata/corpus`, compiled in, with the ground truth of its manifest.

/// One page of the corpus.
#[derive(Debug)]
pub struct Page {
    /// The path on the demo site, such as `/apache/en/install.html`: the file's path below `pages`.
    pub path: &'static str,
    /// The page, byte for byte.
    pub body: &'static [u8],
    /// The encoding of `body`, as a lower-case label.
    pub charset: &'static str,
    /// The language the page is published under, such as `en` or `zh-cn`.
    pub language: &'static str,
    /// The Debian package that the page is from.
    pub package: &'static str,
    /// The SPDX identifier of the page's licence.
    pub licence: &'static str,
    /// The SHA-256 of `body` in hexadecimal.
    pub sha256: &'static str,
}

static PAGES: &[Page] = &include!(concat!(env!("OUT_DIR"), "/corpus_pages.rs"));

/// All pages, in the order of the manifest.
pub fn pages() -> &'static [Page] {
    PAGES
}

impl Page {
    /// The `Content-Type` to serve the page with. As on the web, it names the encoding for some pages only; for the others
    /// (all Korean, Danish, German and LibreOffice pages) a client has to find out from the page.
    pub fn content_type(&self) -> &'static str {
        match (self.package, self.charset, self.language) {
            ("libreoffice-help-zh-cn", ..) | (_, "euc-kr", _) => "text/html",
            (_, "iso-8859-1", "es") => "text/html; charset=ISO-8859-1",
            (_, "iso-8859-1", _) => "text/html",
            ("postgresql-doc-15", ..) => "text/html; charset=utf-8",
            _ => "text/html;charset=UTF-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::fmt::Write as _;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn every_page_is_the_one_of_the_manifest() {
        for page in pages() {
            let mut digest = String::new();
            for byte in Sha256::digest(page.body) {
                write!(digest, "{byte:02x}").unwrap();
            }
            assert_eq!(digest, page.sha256, "{}", page.path);
        }
    }

    #[test]
    fn the_corpus_has_what_its_readme_says() {
        let mut charsets = BTreeMap::new();
        for page in pages() {
            *charsets.entry(page.charset).or_insert(0) += 1;
        }
        assert_eq!(charsets, BTreeMap::from([("euc-kr", 25), ("iso-8859-1", 31), ("utf-8", 204)]));
        assert_eq!(pages().iter().map(|page| page.language).collect::<HashSet<_>>().len(), 11);
        assert_eq!(pages().iter().map(|page| page.path).collect::<HashSet<_>>().len(), 260);
        assert_eq!(pages().iter().map(|page| page.sha256).collect::<HashSet<_>>().len(), 260);
    }

    #[test]
    fn content_types_never_contradict_the_pages() {
        for page in pages() {
            assert!(page.path.starts_with('/'), "{}", page.path);
            if let Some((_, charset)) = page.content_type().split_once("charset=") {
                assert_eq!(charset.to_ascii_lowercase(), page.charset, "{}", page.path);
            }
        }
        assert!(pages().iter().filter(|page| !page.content_type().contains("charset")).count() > 50);
    }
}

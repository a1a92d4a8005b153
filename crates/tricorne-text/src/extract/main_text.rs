//! The main text of a page, by the rules of a browser's reader view.

use std::cell::Cell;

use dom_query::{Document, NodeRef};
use dom_smoothie::{Config, Readability, TextMode};

use super::render::render;
use super::shape::Shape;
use super::strip::strip;
use super::{ExtractError, ExtractMethod, Extracted, Extractor, boilerplate, oversize};

/// Finds the main text of a page, and falls back to all of its text where there is no main text.
///
/// ```
/// use tricorne_text::{ExtractMethod, Extractor, MainText};
///
/// let page = "<title>A page</title><nav>Home</nav><p>Short, but not lost.</p>";
/// let extracted = MainText::new().extract(page, None)?;
/// assert_eq!(extracted.title.as_deref(), Some("A page"));
/// assert_eq!(extracted.text, "Short, but not lost.");
/// # Ok::<(), tricorne_text::ExtractError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MainText {
    max_page_bytes: usize,
}

impl Default for MainText {
    fn default() -> Self {
        Self::new()
    }
}

impl MainText {
    /// The default rules, for pages of up to 64 MiB.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_page_bytes: 64 << 20 }
    }

    /// Refuses pages that are larger than this. The memory in use is several times the size of the page.
    #[must_use]
    pub const fn max_page_bytes(mut self, max_page_bytes: usize) -> Self {
        self.max_page_bytes = max_page_bytes;
        self
    }
}

impl Extractor for MainText {
    fn extract(&self, html: &str, _url: Option<&str>) -> Result<Extracted, ExtractError> {
        if html.len() > self.max_page_bytes {
            return Err(ExtractError::TooLarge {
                page_bytes: html.len(),
                max_page_bytes: self.max_page_bytes,
            });
        }
        let (shape, slim_html) = Shape::survey(html);
        if !shape.is_safe() {
            let (title, text) = strip(html);
            return Ok(Extracted { title, text, method: ExtractMethod::Stripped });
        }
        let document = Document::from(&*slim_html);
        // The search for the article takes the document apart. On small pages it often finds too little, and
        // writing their text costs less than parsing them again.
        let small_body = (slim_html.len() <= SMALL_PAGE_BYTES).then(|| body(&document));
        let (title, article) = article(document);
        let article = article.unwrap_or_default();
        let article_prose = prose_weight(&article);
        if article_prose >= PROSE_OF_AN_ARTICLE {
            return Ok(Extracted { title, text: article, method: ExtractMethod::Article });
        }
        let body = small_body.unwrap_or_else(|| body(&Document::from(&*slim_html)));
        if is_plausible(&article, article_prose, &body) {
            Ok(Extracted { title, text: article, method: ExtractMethod::Article })
        } else {
            Ok(Extracted { title, text: body, method: ExtractMethod::Body })
        }
    }
}

/// A third of the pages up to this size need the text of their body.
const SMALL_PAGE_BYTES: usize = 16 * 1024;

/// This much prose is an article, whatever else is on the page.
const PROSE_OF_AN_ARTICLE: usize = 800;

/// Whether a text with little prose is what the page is about. On an index or a page of many small parts, the
/// search for an article comes up with an introduction or a copyright notice; a short article on a page full
/// of teasers looks much the same, but has prose.
fn is_plausible(article: &str, article_prose: usize, body: &str) -> bool {
    let percent = article.len() * 100 / body.len().max(1);
    match percent {
        ..6 => false,
        6..15 => article_prose >= 400,
        15..50 => article_prose >= 100,
        _ => !article.is_empty(),
    }
}

/// The length of the lines that are long enough to be sentences. An East Asian character counts as three
/// letters.
fn prose_weight(text: &str) -> usize {
    const MIN_LINE_WEIGHT: usize = 60;
    let weight = |line: &str| line.chars().map(|ch| if ch >= '\u{2e80}' { 3 } else { 1 }).sum::<usize>();
    text.lines().map(weight).filter(|&weight| weight >= MIN_LINE_WEIGHT).sum()
}

/// The title, and the article if there is one.
fn article(document: Document) -> (Option<String>, Option<String>) {
    boilerplate::remove(&document);
    oversize::cut(&document);
    let config = Config { text_mode: TextMode::Raw, disable_json_ld: true, ..Config::default() };
    let mut readability =
        Readability::with_document(document, None, Some(config)).expect("only a page address can be refused");
    let Ok(article) = readability.parse() else {
        return (None, None);
    };
    let title = Some(article.title).filter(|title| !title.is_empty());
    let text = readability
        .doc
        .select_single("#readability-page-1")
        .nodes()
        .first()
        .map(|node| render(node, |_| false));
    (title, text)
}

/// The text of the whole page.
fn body(document: &Document) -> String {
    let Some(body) = document.body() else { return String::new() };
    let something_is_hidden = Cell::new(false);
    let mut text = render(&body, |node| {
        is_navigation(node)
            || (is_hidden(node) && {
                something_is_hidden.set(true);
                true
            })
    });
    if something_is_hidden.get() {
        // Some pages keep all of their text hidden until a script shows the variant for the reader's system.
        let all_text = render(&body, is_navigation);
        if text.len() * 4 < all_text.len() {
            text = all_text;
        }
    }
    if text.is_empty() { render(&body, |_| false) } else { text }
}

fn is_navigation(node: &NodeRef<'_>) -> bool {
    node.qual_name_ref().is_some_and(|name| matches!(&*name.local, "nav" | "footer" | "aside" | "form"))
}

fn is_hidden(node: &NodeRef<'_>) -> bool {
    let Some(element) = node.element_ref() else { return false };
    element.attrs.iter().any(|attribute| match &*attribute.name.local {
        "hidden" => true,
        "style" => attribute
            .value
            .split_once("display")
            .is_some_and(|(_, value)| value.trim_start_matches([' ', ':']).starts_with("none")),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(html: &str) -> Extracted {
        MainText::new().extract(html, None).unwrap()
    }

    const PARAGRAPH: &str = "<p>Once upon a time, in a land of rivers, there lived a miller, his three sons, and a cat that \
        could speak, which was thought odd even there, and more so the further one went from the mill.</p>";

    #[test]
    fn an_article_is_told_from_what_surrounds_it() {
        let page = format!(
            "<title>The cat</title><nav><ul><li><a href=/>Home</a></ul></nav><div class=share>Share this!</div>\
             <article><h2>Part one</h2>{}<figure><img src=x><figcaption>A cat, drawn.</figcaption></figure>{PARAGRAPH}</article>\
             <div class='newsletter box'>Subscribe to our newsletter today.</div><footer>All rights reserved</footer>",
            PARAGRAPH.repeat(6)
        );
        let Extracted { title, text, method } = extract(&page);
        assert_eq!((title.as_deref(), method), (Some("The cat"), ExtractMethod::Article));
        assert!(text.starts_with("Part one\n\nOnce upon a time"), "{text}");
        assert!(text.ends_with("further one went from the mill."), "{text}");
        assert_eq!(text.matches("\n\n").count(), 7);
        for noise in ["Home", "Share", "drawn", "newsletter", "rights"] {
            assert!(!text.contains(noise), "{noise} in {text}");
        }
    }

    #[test]
    fn a_notice_is_no_article() {
        let notice = "Copyright 2000 by the authors, the editors, and the translators of this documentation.";
        let index = "Module\n".repeat(200);
        assert!(!is_plausible(notice, prose_weight(notice), &index));
        // A short news item beside many teasers.
        let news = format!("{}\n", notice.repeat(2)).repeat(3);
        assert!(is_plausible(&news, prose_weight(&news), &"Read more\n".repeat(500)));
        // A short page.
        assert!(is_plausible("Not found.", 0, "Home\nNot found."));
        assert!(!is_plausible("", 0, ""));
    }

    #[test]
    fn prose_is_in_long_lines() {
        assert_eq!(prose_weight("one\ntwo\nthree"), 0);
        assert_eq!(prose_weight(&format!("short\n{}\n{}", "x".repeat(70), "字".repeat(20))), 130);
    }

    #[test]
    fn no_text_becomes_empty_silently() {
        for (html, text) in [
            ("plain words", "plain words"),
            ("<p>one</p>", "one"),
            ("<nav>only a menu</nav>", "only a menu"),
            ("<div class=comments>only comments</div>", "only comments"),
            ("<div style='display: none'>hidden</div>shown", "shown"),
            ("", ""),
            ("<html></html>", ""),
        ] {
            assert_eq!(extract(html).text, text, "{html}");
        }
        assert_eq!(extract("<p>x").title, None);
    }

    #[test]
    fn too_large_a_page_is_refused() {
        let error = MainText::new().max_page_bytes(3).extract("<p>x", None).unwrap_err();
        assert_eq!(error.to_string(), "page of `4` bytes is larger than the limit of `3` bytes");
    }
}

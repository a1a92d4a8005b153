//! The main text of a page, by the rules of a browser's reader view.

use dom_query::{Document, NodeRef};
use dom_smoothie::{Config, Readability, TextMode};

use super::render::render;
use super::shape::Shape;
use super::strip::strip;
use super::{ExtractError, ExtractMethod, Extracted, Extractor, boilerplate};

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
        let (title, article) = article(&slim_html);
        let (text, method) = match article.filter(|text| !text.is_empty()) {
            Some(text) => (text, ExtractMethod::Article),
            None => (body(&slim_html), ExtractMethod::Body),
        };
        Ok(Extracted { title, text, method })
    }
}

/// The title, and the article if there is one.
fn article(html: &str) -> (Option<String>, Option<String>) {
    let document = Document::from(html);
    boilerplate::remove(&document);
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
fn body(html: &str) -> String {
    let document = Document::from(html);
    let Some(body) = document.body() else { return String::new() };
    let text = render(&body, is_navigation);
    if text.is_empty() { render(&body, |_| false) } else { text }
}

fn is_navigation(node: &NodeRef<'_>) -> bool {
    node.qual_name_ref().is_some_and(|name| matches!(&*name.local, "nav" | "footer" | "aside" | "form"))
}

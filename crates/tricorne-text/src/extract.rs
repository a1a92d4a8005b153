//! From a page to its main text.
//!
//! [`Extractor`] is what the pipeline knows; [`MainText`] is the implementation here. It looks for the main
//! text as a browser's reader view does, with rules of its own for what surrounds articles on real sites, and
//! never answers with silence: a page without an article gives the text of its body, a page that is too deep
//! or too tangled for a parser gives its text without the tags.

mod boilerplate;
mod main_text;
mod oversize;
mod render;
mod shape;
mod strip;

pub use main_text::MainText;

/// Gets the text that a reader came for out of an HTML page. One extractor serves many threads.
pub trait Extractor: Send + Sync {
    /// Extracts the main text of `html`, the decoded page. `url` is the page's own address, for extractors
    /// whose rules depend on it.
    ///
    /// # Errors
    ///
    /// If the extractor refuses the page. A page without any text is not an error: its text is empty.
    fn extract(&self, html: &str, url: Option<&str>) -> Result<Extracted, ExtractError>;
}

/// The main text of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// The title that the page declares, without white space around it; nothing if there is none.
    pub title: Option<String>,
    /// The text. Paragraphs are separated by a blank line, items and rows by a line end. Not yet
    /// [cleaned](crate::clean).
    pub text: String,
    /// How the text was found.
    pub method: ExtractMethod,
}

/// How the text of a page was found, from the best way to the last resort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExtractMethod {
    /// The page has an article.
    Article,
    /// No article stands out: the text of the whole body, without navigation where that leaves any.
    Body,
    /// The page is nested or tangled beyond what is safe to parse: its text without tags.
    Stripped,
}

impl ExtractMethod {
    /// A stable name for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Body => "body",
            Self::Stripped => "stripped",
        }
    }
}

/// Why a page was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The page is larger than the extractor accepts.
    #[error("page of `{page_bytes}` bytes is larger than the limit of `{max_page_bytes}` bytes")]
    TooLarge {
        /// The size of the decoded page.
        page_bytes: usize,
        /// The limit that it exceeds.
        max_page_bytes: usize,
    },
}

impl ExtractError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "raise `MainText::max_page_bytes`, or keep such pages out by their size",
        }
    }
}

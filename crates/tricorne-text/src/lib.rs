//! From the bytes of a page to clean, measured text: pure functions without I/O, for one page at a time.
//!
//! A page goes through them in this order, and each step says how it came to its answer:
//!
//! | step | answers |
//! | --- | --- |
//! | [`sniff`] | Is it a page at all, whatever the server said? |
//! | [`decode`] | In which charset is it, and what does it say? |
//! | [`Extractor::extract`] | Which part of it did the reader come for? [`MainText`] is the implementation here. |
//! | [`clean`] | The same text in one normal form. |
//! | [`Counter::count`] | How many words, different words and characters? Equal to Python's. |
//! | [`language`] | In which language? |
//!
//! Nothing here fails for lack of quality of the input: noise is named, broken bytes are replaced and
//! reported, a page that would break a parser gives its text in a simpler way. All steps are linear in the
//! length of the page, use a bounded amount of stack, and give the same answer each time.
//!
//! ```
//! use tricorne_text::{Counter, Extractor, MainText, clean, decode, language, sniff};
//!
//! let content_type = Some("text/html");
//! let body = b"<meta charset=iso-8859-1><title>Caf\xe9</title><nav>Menu</nav>\
//!     <p>The caf\xe9 at the corner is open from six in the morning.</p>";
//!
//! assert!(sniff(body, content_type).is_page());
//! let decoded = decode(body, content_type);
//! assert_eq!(decoded.charset, "windows-1252");
//! let page = MainText::new().extract(&decoded.text, None)?;
//! assert_eq!(page.title.as_deref(), Some("Café"));
//! let text = clean(&page.text);
//! assert_eq!(text, "The café at the corner is open from six in the morning.");
//! let counts = Counter::new().count(&text);
//! assert_eq!((counts.word_count, counts.unique_words), (12, 10));
//! assert_eq!(language(&text).map(|language| language.code), Some("en"));
//! # Ok::<(), tricorne_text::ExtractError>(())
//! ```

mod clean;
mod content_type;
mod counts;
mod decode;
mod extract;
mod language;
mod markup_charset;
mod sniff;
mod utf16;

pub use clean::clean;
pub use counts::{Counter, Counts, UNICODE_VERSION, counts};
pub use decode::{CharsetSource, Decoded, decode};
pub use extract::{ExtractError, ExtractMethod, Extracted, Extractor, MainText};
pub use language::{Language, language};
pub use sniff::{Sniffed, sniff};

//! From the bytes of a page to clean, measured text.
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

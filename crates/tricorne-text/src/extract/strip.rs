//! The text of a page without building a document: for pages that are not safe to parse.
//!
//! One pass, no nesting, no memory but the output. Navigation and footers stay in, as telling them apart
//! needs the tree; scripts and styles go.

use dom_query::Document;

use super::render::{Edge, Layout, Writer};
use super::shape::Tags;

/// The title and the text of the page.
pub(super) fn strip(html: &str) -> (Option<String>, String) {
    let mut writer = Writer::default();
    let mut title = None;
    let mut at = 0;
    for tag in Tags::new(html) {
        writer.text(&html[at..tag.start]);
        at = tag.end;
        let layout = match Layout::of(&tag.name.to_ascii_lowercase()) {
            // Tags need not be balanced here, so nothing that lasts may begin.
            Layout::Preformatted => Layout::Paragraph,
            layout => layout,
        };
        writer.edge(layout, if tag.is_end { Edge::End } else { Edge::Start });
        if title.is_none() && tag.is("title") {
            title = Some(decode_entities(tag.raw_text));
        }
    }
    writer.text(&html[at..]);
    let title = title.map(|title| title.split_whitespace().collect::<Vec<_>>().join(" "));
    (title.filter(|title| !title.is_empty()), decode_entities(&writer.text))
}

/// Decodes character references with the tables of the HTML parser: text without tags is no danger to it.
fn decode_entities(text: &str) -> String {
    if !text.contains('&') {
        return text.replace('\0', "");
    }
    Document::fragment(text.replace('<', "&lt;")).text().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_and_structure_stays() {
        let (title, text) = strip(
            "<!doctype html><title> A &amp;\n B </title><style>p {}</style><p>one<br>t&eacute;o &lt; 3 &unheardof;</p>\
             <script>if (a < b) '<p>'</script><!-- <p> --><div>three</div",
        );
        assert_eq!(title.as_deref(), Some("A & B"));
        assert_eq!(text, "one\ntéo < 3 &unheardof;\n\nthree");
    }
}

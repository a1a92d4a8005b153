//! Cuts single values that are far longer than in pages made for readers.
//!
//! Writing a text or an attribute as HTML, which the search for the article does at its end, takes time that
//! grows with the square of its length if it is full of characters to escape. Long texts are therefore split,
//! which changes nothing for a reader, and long attributes (mostly images in the page itself, which no rule
//! here looks at) are dropped.

use dom_query::{Document, NodeData, NodeRef};

const MAX_TEXT_BYTES: usize = 4096;
const MAX_ATTRIBUTE_BYTES: usize = 4096;

/// Splits long texts and drops long attributes.
pub(super) fn cut(document: &Document) {
    let is_oversize = |node: &NodeRef<'_>| {
        node.query_or(false, |node| match &node.data {
            NodeData::Text { contents } => contents.len() > MAX_TEXT_BYTES,
            NodeData::Element(element) => {
                element.attrs.iter().any(|attribute| attribute.value.len() > MAX_ATTRIBUTE_BYTES)
            }
            _ => false,
        })
    };
    let oversize: Vec<NodeRef<'_>> = document.root().descendants_it().filter(is_oversize).collect();
    for node in oversize {
        if node.is_text() {
            split(&node);
        } else {
            node.update(|node| {
                if let NodeData::Element(element) = &mut node.data {
                    element.attrs.retain(|attribute| attribute.value.len() <= MAX_ATTRIBUTE_BYTES);
                }
            });
        }
    }
}

fn split(node: &NodeRef<'_>) {
    let text = node.text();
    let mut rest = &*text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(MAX_TEXT_BYTES));
        node.insert_before(&node.tree.new_text(piece));
        rest = after;
    }
    node.remove_from_parent();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_stays_the_same() {
        let long = "é&".repeat(10_000);
        let page = format!("<p title='{long}' class=x>a<b>{long}</b>c</p>");
        let document = Document::from(page.as_str());
        let before = document.text();
        cut(&document);
        assert_eq!(document.text(), before);
        assert_eq!(document.select("b").nodes()[0].children().len(), 30_000_usize.div_ceil(MAX_TEXT_BYTES));
        assert_eq!(document.select("p").nodes()[0].attrs().len(), 1);
    }
}

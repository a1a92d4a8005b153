//! Removes what surrounds articles on real sites: captions, credits, share buttons, newsletter boxes, links
//! to other articles.
//!
//! The rules look at element names and at the words in `class` and `id`, which sites choose much alike in all
//! languages. They run before the search for the article, as some of these parts are full of prose and
//! mislead it. An element that holds a large part of the page's text is never removed, whatever it is called.

use dom_query::{Document, NodeRef};

/// Removes boilerplate from the body of the document.
pub(super) fn remove(document: &Document) {
    let Some(body) = document.body() else { return };
    let mut doubtful = Vec::new();
    let mut next = body.first_element_child();
    while let Some(node) = next {
        let verdict = Verdict::of(&node);
        next = match node.first_element_child() {
            Some(child) if verdict == Verdict::Keep => Some(child),
            _ => after(node, &body),
        };
        match verdict {
            Verdict::Keep => {}
            Verdict::Remove => node.remove_from_parent(),
            Verdict::RemoveIfSmall => doubtful.push(node),
        }
    }
    if doubtful.is_empty() {
        return;
    }
    let body_chars = body.normalized_char_count();
    for node in doubtful {
        if node.normalized_char_count() * MIN_BODY_SHARE < body_chars {
            node.remove_from_parent();
        }
    }
}

/// What makes up a third of the text is no boilerplate.
const MIN_BODY_SHARE: usize = 3;

fn after<'a>(mut node: NodeRef<'a>, root: &NodeRef<'a>) -> Option<NodeRef<'a>> {
    loop {
        if let Some(sibling) = node.next_element_sibling() {
            return Some(sibling);
        }
        node = node.parent().filter(|parent| parent.id != root.id)?;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Remove,
    RemoveIfSmall,
}

impl Verdict {
    fn of(node: &NodeRef<'_>) -> Self {
        let Some(element) = node.element_ref() else { return Self::Keep };
        match &*element.name.local {
            "iframe" | "noscript" | "template" | "svg" | "button" | "select" => return Self::Remove,
            "figcaption" | "nav" | "time" => return Self::RemoveIfSmall,
            // These may carry such a word for another reason, and hold prose.
            "main" | "article" | "p" | "h1" | "td" | "th" | "tr" | "tbody" | "table" | "code" | "pre" => {
                return Self::Keep;
            }
            _ => {}
        }
        let is_named = element.attrs.iter().any(|attribute| {
            matches!(&*attribute.name.local, "class" | "id") && names_boilerplate(&attribute.value)
        });
        if is_named { Self::RemoveIfSmall } else { Self::Keep }
    }
}

/// Words of class names and ids that mark boilerplate wherever they stand.
const WORDS: &[&str] = &[
    "caption",
    "credit",
    "credits",
    "byline",
    "breadcrumb",
    "breadcrumbs",
    "newsletter",
    "subscribe",
    "subscription",
    "signup",
    "related",
    "recommended",
    "recommendations",
    "recirc",
    "share",
    "sharing",
    "sharebar",
    "social",
    "comments",
    "disqus",
    "slideshow",
    "gallery",
    "carousel",
    "timestamp",
    "dateline",
    "promo",
    "sponsored",
    "advert",
    "advertisement",
    "ads",
    "paywall",
    "trending",
    "bio",
    "copyright",
    "cookie",
    "cookies",
];

/// Whether one of the words of a `class` or `id` value is one of those. Words are parted by anything but
/// letters, and by a capital after a small letter.
fn names_boilerplate(value: &str) -> bool {
    let bytes = value.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let rest = &bytes[start..];
        let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word_bytes = 1 + rest
            .windows(2)
            .take(letters.saturating_sub(1))
            .take_while(|pair| !(pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()))
            .count();
        if letters > 0 {
            let word = &value[start..start + word_bytes];
            if WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
                return true;
            }
        }
        start += word_bytes;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_class_names() {
        for value in
            ["caption", "wp-caption-text", "articleShare", "post_related box", "SHARE", "a b newsletter2"]
        {
            assert!(names_boilerplate(value), "{value}");
        }
        for value in ["", "captions-on", "shared", "content", "éshares", "unrelated", "-"] {
            assert!(!names_boilerplate(value), "{value}");
        }
    }
}

//! A first look at a page, in one linear pass: its tags, whether parsing it is safe, and the page without
//! what a parser need not see.
//!
//! An HTML parser does work that grows with the depth of the tree at each tag, repeats unclosed formatting in
//! each paragraph, and compares each attribute of a tag with all others: a hostile page of a few megabytes
//! can cost minutes or gigabytes that way. What a tag may cost is therefore added up here first, from bounds
//! that are never too low by much.

use std::ops::Range;

/// What a page would cost a parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// Tags, start and end, without those that `survey` leaves out.
    pub(super) tags: usize,
    /// An upper bound of the depth of the tree.
    pub(super) depth: usize,
    /// The sum of open elements over all tags, counting those that are opened again, in each block, by
    /// formatting left open.
    pub(super) work: usize,
    /// The most attributes on one tag.
    pub(super) attributes: usize,
}

impl Shape {
    /// Measures a page and copies it without what no rule looks at: scripts, styles, comments, drawings,
    /// attributes that nobody reads, and NULs. They are more than half of the bytes of many pages.
    pub(super) fn survey(html: &str) -> (Self, String) {
        let mut shape = Self::default();
        let mut slim = Slim { html, copied: 0, text: String::with_capacity(html.len()), drawing: None };
        let (mut depth, mut formatting, mut foreign) = (0usize, 0usize, 0usize);
        let mut tags = Tags::new(html);
        while let Some(tag) = tags.next() {
            slim.take(&tag, &tags.idle_attributes);
            if is_left_out(&tag) {
                continue;
            }
            shape.tags += 1;
            shape.attributes = shape.attributes.max(tag.attributes);
            if tag.is("svg") || tag.is("math") {
                foreign = if tag.is_end { foreign.saturating_sub(1) } else { foreign + 1 };
            }
            match Nesting::of(tag.name) {
                Nesting::Formatting if tag.is_end => formatting = formatting.saturating_sub(1),
                Nesting::Formatting => formatting += 1,
                Nesting::None => {}
                Nesting::Foreign if foreign == 0 => {}
                Nesting::Foreign | Nesting::Block if tag.is_end => depth = depth.saturating_sub(1),
                Nesting::Foreign | Nesting::Block => depth += 1,
            }
            // Within drawings and formulas, a parser sees markup in some of what is raw text elsewhere.
            let raw_tags = tag.raw_text.matches('<').count();
            shape.depth = shape.depth.max(depth + formatting + raw_tags);
            shape.work = shape.work.saturating_add((depth + formatting + raw_tags) * (1 + raw_tags));
        }
        (shape, slim.finish())
    }

    /// Whether a parser, and rules that look at each element's ancestors, can take the page.
    pub(super) fn is_safe(self) -> bool {
        self.tags <= MAX_TAGS
            && self.depth <= MAX_DEPTH
            && self.work <= FREE_WORK + self.tags * MAX_MEAN_DEPTH
            && self.attributes <= MAX_ATTRIBUTES
    }
}

/// Real pages of several megabytes have about 100,000 tags.
const MAX_TAGS: usize = 400_000;
/// Browsers cut the tree at a depth of 512 too.
const MAX_DEPTH: usize = 512;
/// Work that any page may cause.
const FREE_WORK: usize = 1_000_000;
/// Real pages have a mean depth of 10 to 30.
const MAX_MEAN_DEPTH: usize = 64;
const MAX_ATTRIBUTES: usize = 512;

/// What a tag does to the nesting.
enum Nesting {
    /// It nests nothing, or the parser closes it before the next of its kind.
    None,
    /// The same, but not within a drawing or a formula, where the rules of HTML do not hold.
    Foreign,
    /// Formatting: left open, it is opened again in each block that follows.
    Formatting,
    Block,
}

impl Nesting {
    fn of(name: &str) -> Self {
        let mut lower = [0; 12];
        let Some(lower) = lower.get_mut(..name.len()) else { return Self::Block };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        match &*lower {
            // These cannot stand in a drawing: they end it.
            b"br" | b"embed" | b"hr" | b"img" | b"meta" | b"p" | b"li" | b"dt" | b"dd" | b"head"
            | b"body" => Self::None,
            b"a" | b"nobr" | b"area" | b"base" | b"col" | b"input" | b"link" | b"param" | b"source"
            | b"track" | b"wbr" | b"tr" | b"td" | b"th" | b"thead" | b"tbody" | b"tfoot" | b"option"
            | b"optgroup" | b"html" => Self::Foreign,
            b"b" | b"big" | b"code" | b"em" | b"font" | b"i" | b"s" | b"small" | b"strike" | b"strong"
            | b"tt" | b"u" => Self::Formatting,
            _ => Self::Block,
        }
    }
}

/// Whether a parser gets to see the tag.
fn is_left_out(tag: &Tag<'_>) -> bool {
    tag.is_comment || tag.is("script") || tag.is("style")
}

/// The copy that a parser gets.
struct Slim<'a> {
    html: &'a str,
    /// Up to here the page is copied, or left out.
    copied: usize,
    text: String,
    /// Where in the copy a drawing begins that has had only the elements of one so far.
    drawing: Option<usize>,
}

impl Slim<'_> {
    /// Copies what comes before the tag, and looks at what of the tag to leave out.
    fn take(&mut self, tag: &Tag<'_>, idle_attributes: &[Range<usize>]) {
        if is_left_out(tag) {
            self.copy_to(tag.start);
            self.copied = tag.end;
            return;
        }
        if tag.is("svg") && !tag.is_end && self.drawing.is_none() {
            self.copy_to(tag.start);
            self.drawing = Some(self.text.len());
        } else if tag.is("svg") && tag.is_end {
            if let Some(drawing) = self.drawing.take() {
                self.text.truncate(drawing);
                self.copied = tag.end;
            }
        } else if self.drawing.is_some() && !DRAWING_ELEMENTS.iter().any(|name| tag.is(name)) {
            // Something else begins where the drawing was left open.
            self.drawing = None;
        }
        for attribute in idle_attributes {
            self.copy_to(attribute.start);
            self.copied = attribute.end;
        }
    }

    fn copy_to(&mut self, end: usize) {
        self.text.push_str(&self.html[self.copied..end]);
        self.copied = end;
    }

    fn finish(mut self) -> String {
        self.copy_to(self.html.len());
        // A parser drops them from text, one by one and slowly.
        if self.text.contains('\0') {
            self.text.retain(|ch| ch != '\0');
        }
        self.text
    }
}

/// What drawings consist of. One with other elements, or with another drawing in it, is left to the parser.
const DRAWING_ELEMENTS: &[&str] = &[
    "path",
    "g",
    "use",
    "circle",
    "rect",
    "polygon",
    "polyline",
    "line",
    "ellipse",
    "defs",
    "symbol",
    "title",
    "desc",
    "stop",
    "linearGradient",
    "radialGradient",
    "clipPath",
    "mask",
    "text",
    "tspan",
];

/// One tag of a page, with its content if that is not markup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// The name as written; empty for comments and declarations.
    pub(super) name: &'a str,
    pub(super) is_end: bool,
    pub(super) is_comment: bool,
    /// How many attributes there are, at most.
    pub(super) attributes: usize,
    /// Where the tag begins, and with it the text before it ends.
    pub(super) start: usize,
    /// Where the text after the tag begins: for elements with `raw_text` after the element.
    pub(super) end: usize,
    /// What stands in a script, style, title or the like.
    pub(super) raw_text: &'a str,
}

impl Tag<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The tags of a page, in order. Linear: no byte is read more than a few times.
pub(super) struct Tags<'a> {
    html: &'a str,
    at: usize,
    /// Where in the page the attributes of the last tag are that no rule looks at.
    idle_attributes: Vec<Range<usize>>,
}

impl<'a> Tags<'a> {
    pub(super) fn new(html: &'a str) -> Self {
        Self { html, at: 0, idle_attributes: Vec::new() }
    }

    fn after(&self, from: usize, mark: &str) -> usize {
        self.html[from..].find(mark).map_or(self.html.len(), |found| from + found + mark.len())
    }

    /// The end of what stands in an element without markup, which its end tag or the page ends.
    fn raw_text_end(&self, from: usize, name: &str) -> usize {
        let bytes = self.html.as_bytes();
        let is_script = name.eq_ignore_ascii_case("script");
        // In a comment within a script, a script may write another.
        let (mut in_comment, mut in_inner_script) = (false, false);
        let mut at = from;
        while let Some(found) = self.html[at..].find(['<', '>']) {
            let mark = at + found;
            at = mark + 1;
            let rest = &bytes[at..];
            if bytes[mark] == b'>' {
                if bytes[from..mark].ends_with(b"--") {
                    (in_comment, in_inner_script) = (false, false);
                }
            } else if let Some(rest) = rest.strip_prefix(b"/") {
                if starts_with_name(rest, name) {
                    if !in_inner_script {
                        return mark;
                    }
                    in_inner_script = false;
                }
            } else if is_script {
                in_comment |= rest.starts_with(b"!--");
                in_inner_script |= in_comment && starts_with_name(rest, name);
            }
        }
        self.html.len()
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        let bytes = self.html.as_bytes();
        self.idle_attributes.clear();
        loop {
            let start = self.at + self.html[self.at..].find('<')?;
            let is_end = bytes.get(start + 1) == Some(&b'/');
            let name_start = start + 1 + usize::from(is_end);
            match bytes.get(name_start) {
                Some(b'!' | b'?') => {
                    let is_comment = self.html[name_start..].starts_with("!--");
                    // From the dashes that open it: `<!-->` is a whole comment.
                    let end = if is_comment {
                        self.after(name_start + 1, "-->")
                    } else {
                        self.after(name_start, ">")
                    };
                    self.at = end;
                    return Some(Tag {
                        name: "",
                        is_end,
                        is_comment,
                        attributes: 0,
                        start,
                        end,
                        raw_text: "",
                    });
                }
                Some(byte) if byte.is_ascii_alphabetic() => {}
                // A bare `<` is text.
                _ => {
                    self.at = name_start;
                    continue;
                }
            }
            let name_bytes = bytes[name_start..]
                .iter()
                .take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>'))
                .count();
            let name = &self.html[name_start..name_start + name_bytes];
            let (attributes, mut end) =
                skip_attributes(bytes, name, name_start + name_bytes, &mut self.idle_attributes);
            let mut raw_text = "";
            if !is_end && RAW_TEXT_ELEMENTS.iter().any(|raw| name.eq_ignore_ascii_case(raw)) {
                let raw_text_end = self.raw_text_end(end, name);
                raw_text = &self.html[end..raw_text_end];
                end = self.after(raw_text_end, ">");
            }
            self.at = end;
            return Some(Tag { name, is_end, is_comment: false, attributes, start, end, raw_text });
        }
    }
}

const RAW_TEXT_ELEMENTS: &[&str] =
    &["script", "style", "title", "textarea", "iframe", "noembed", "noframes", "xmp"];

fn starts_with_name(text: &[u8], name: &str) -> bool {
    text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        && text.get(name.len()).is_none_or(|&byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'))
}

/// Goes from the end of a tag's name to after its `>`; gives the number of attributes and the place, and adds
/// the attributes that no rule looks at.
fn skip_attributes(
    bytes: &[u8],
    tag: &str,
    from: usize,
    idle_attributes: &mut Vec<Range<usize>>,
) -> (usize, usize) {
    let is_plain = PLAIN_ELEMENTS.iter().any(|element| tag.eq_ignore_ascii_case(element));
    let (mut at, mut attributes) = (from, 0);
    let mut name_start = None;
    while let Some(&byte) = bytes.get(at) {
        match (byte, name_start) {
            (b'>', _) => return (attributes, at + 1),
            (b'=', Some(start)) => {
                let name = bytes[start..at].trim_ascii_end();
                let value = at + 1;
                at = value_end(bytes, value);
                if is_for_scripts(name) || (is_plain && !is_looked_at(name, &bytes[value..at])) {
                    idle_attributes.push(start..at);
                }
                name_start = None;
                continue;
            }
            (b'/', _) => name_start = None,
            _ if byte.is_ascii_whitespace() => {
                // `name = value` is one attribute.
                let rest = bytes[at..].trim_ascii_start();
                if rest.first() != Some(&b'=') {
                    name_start = None;
                }
                at = bytes.len() - rest.len();
                continue;
            }
            (_, None) => {
                attributes += 1;
                name_start = Some(at);
            }
            (_, Some(_)) => {}
        }
        at += 1;
    }
    (attributes, bytes.len())
}

/// Where an attribute's value ends, quotes included, that begins at `from` or after white space there.
fn value_end(bytes: &[u8], from: usize) -> usize {
    let value = bytes[from..].trim_ascii_start();
    let start = bytes.len() - value.len();
    let value_bytes = match value.first() {
        Some(quote @ (b'"' | b'\'')) => {
            value[1..].iter().position(|byte| byte == quote).map_or(value.len(), |end| end + 2)
        }
        _ => value.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>').unwrap_or(value.len()),
    };
    start + value_bytes
}

/// Whether only scripts look at an attribute of this name. Images may have their address in one (`data-src`).
fn is_for_scripts(name: &[u8]) -> bool {
    let starts_with =
        |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    (starts_with(b"data-") && !starts_with(b"data-src")) || starts_with(b"on")
}

/// Elements whose attributes mean nothing to a parser, and little to the rules. Of others, such as inputs and
/// formatting, a parser may look at any.
const PLAIN_ELEMENTS: &[&str] = &[
    "a", "div", "span", "p", "li", "ul", "td", "tr", "th", "h1", "h2", "h3", "h4", "section", "article",
    "button",
];

/// Whether a rule looks at an attribute of a plain element. Links within the page (`href="#…"`) count less than
/// others; nothing else of an address matters.
fn is_looked_at(name: &[u8], value: &[u8]) -> bool {
    const NAMES: &[&[u8]] = &[
        b"class",
        b"id",
        b"style",
        b"role",
        b"rel",
        b"hidden",
        b"dir",
        b"lang",
        b"itemprop",
        b"aria-hidden",
        b"aria-modal",
        b"colspan",
        b"rowspan",
    ];
    if name.eq_ignore_ascii_case(b"href") {
        return matches!(value.trim_ascii_start(), [b'#', ..] | [b'"' | b'\'', b'#', ..]);
    }
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(html: &str) -> Vec<(&str, bool, usize)> {
        Tags::new(html).map(|tag| (tag.name, tag.is_end, tag.attributes)).collect()
    }

    #[test]
    fn tags_are_found_as_a_browser_finds_them() {
        assert_eq!(
            names("<p class='a > b' id=x hidden>1 < 2</P ><br/>"),
            [("p", false, 3), ("P", true, 0), ("br", false, 0)]
        );
        assert_eq!(
            names("<!DOCTYPE html><!-- <p> --><!--><p>"),
            [("", false, 0), ("", false, 0), ("", false, 0), ("p", false, 0)]
        );
        assert_eq!(
            names("<script>'<p>'</script x><a\nhref = 'b' c>"),
            [("script", false, 0), ("a", false, 2)]
        );
        assert_eq!(names("<style>"), [("style", false, 0)]);
        assert_eq!(names("<title>a <p></title><p>"), [("title", false, 0), ("p", false, 0)]);
        assert_eq!(names("<p title='never closed <p>"), [("p", false, 1)]);
        assert_eq!(names("a < b <3 </ <"), []);
        assert_eq!(names("<ä>"), []);
    }

    #[test]
    fn scripts_styles_and_comments_are_left_out() {
        let cases = [
            ("a<script>b</script>c<STYLE>d</STYLE>e<!-- f -->g", "aceg"),
            ("a<script><!-- write('<script>b</script>') --></script>c", "ac"),
            ("a<script><!-- write('<script>b</script>')</script>c", "ac"),
            ("a<script>'<!--' + '<script>' + '-->'</script>b", "ab"),
            ("a<script>x</scripts></script >b", "ab"),
            ("a<title><!-- b --></title>", "a<title><!-- b --></title>"),
            ("a<script>b", "a"),
            ("<b title='<!-- a -->'>b", "<b title='<!-- a -->'>b"),
            ("a<svg x=1><path d=z /><title>t</title></svg>b", "ab"),
            ("a<svg><path><p>b</p></svg>c", "a<svg><path><p>b</p></svg>c"),
            ("a<svg><svg></svg></svg>b", "a<svg><svg></svg></svg>b"),
            ("a<svg>b", "a<svg>b"),
            ("<p data-x='1' class=c ONCLICK=f()>a", "<p  class=c >a"),
            ("<img data-src=a data-x = \"b\"data-y=c/>", "<img data-src=a >"),
            ("<a data-x href=#b>", "<a data-x href=#b>"),
            ("<a href='b' title=x class=c>a</a>", "<a   class=c>a</a>"),
            ("<a href = \"#b\" href=''>", "<a href = \"#b\" >"),
            ("<div style=s onclick=x align=center hidden>", "<div style=s   hidden>"),
            (
                "<input type=hidden><font color=red><b title=x>",
                "<input type=hidden><font color=red><b title=x>",
            ),
            ("a\0b", "ab"),
        ];
        for (html, slim) in cases {
            assert_eq!(Shape::survey(html).1, slim, "{html}");
        }
    }

    fn shape(html: &str) -> Shape {
        Shape::survey(html).0
    }

    #[test]
    fn shapes_of_good_and_bad_pages() {
        let row = "<tr><td><a href='x'><b>cell</b></a><p>text<br><img src=x><li>item";
        assert!(shape(&format!("<table>{}</table>", row.repeat(10_000))).is_safe());
        for bad in ["<div>", "<b>", "<font size=1><p>", "<custom-element>", "<ul><li>", "<noscript><i>"] {
            assert!(!shape(&bad.repeat(5_000)).is_safe(), "{bad}");
        }
        for start in
            ["<svg>", "<svg><foreignObject><p></p></foreignObject>", "<svg><title>", "<math><iframe>"]
        {
            assert!(!shape(&format!("{start}{}", "<td>".repeat(5_000))).is_safe(), "{start}");
        }
        let anchors = "<a name=x>anchor ".repeat(5_000);
        assert!(shape(&anchors).is_safe());
        assert!(!shape(&format!("<p {}>", "a=1 ".repeat(1_000))).is_safe());
        assert_eq!(shape("<div><p><b>x</b></div>"), Shape { tags: 5, depth: 2, work: 5, attributes: 0 });
    }
}

//! Writes a part of a document as text, keeping paragraphs, lines and cells apart.

use dom_query::{NodeData, NodeRef};

/// The text below `root`. Elements for which `is_skipped` holds are left out; so is all that no browser
/// shows.
///
/// Walks by links between nodes, so depth costs no stack.
pub(super) fn render(root: &NodeRef<'_>, is_skipped: impl Fn(&NodeRef<'_>) -> bool) -> String {
    let mut writer = Writer::default();
    let mut next = root.first_child();
    while let Some(node) = next {
        let layout = node.query_or(Layout::Hidden, |data| match &data.data {
            NodeData::Text { contents } => {
                writer.text(contents);
                Layout::Hidden
            }
            NodeData::Element(element) => Layout::of(&element.name.local),
            _ => Layout::Hidden,
        });
        if layout != Layout::Hidden && !is_skipped(&node) {
            writer.edge(layout, Edge::Start);
            if let Some(child) = node.first_child() {
                next = Some(child);
                continue;
            }
            writer.edge(layout, Edge::End);
        }
        next = after(node, root, &mut writer);
    }
    writer.text
}

/// The node after `node` and all below it, closing what ends there.
fn after<'a>(mut node: NodeRef<'a>, root: &NodeRef<'a>, writer: &mut Writer) -> Option<NodeRef<'a>> {
    loop {
        if let Some(sibling) = node.next_sibling() {
            return Some(sibling);
        }
        node = node.parent().filter(|parent| parent.id != root.id)?;
        writer.edge(node.qual_name_ref().map_or(Layout::Inline, |name| Layout::of(&name.local)), Edge::End);
    }
}

/// How an element stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Part of a line.
    Inline,
    /// A cell: parted by a space.
    Cell,
    /// On lines of its own.
    Line,
    /// On lines of its own with blank lines around.
    Paragraph,
    /// A line end.
    Break,
    /// On lines of its own, with the white space as it is.
    Preformatted,
    /// Not shown.
    Hidden,
}

impl Layout {
    pub(super) fn of(element: &str) -> Self {
        match element {
            "br" => Self::Break,
            "td" | "th" | "option" | "button" | "label" | "rt" => Self::Cell,
            "li" | "tr" | "dt" | "dd" | "caption" | "figcaption" | "summary" | "legend" | "optgroup" => {
                Self::Line
            }
            "p" | "div" | "section" | "article" | "main" | "aside" | "header" | "footer" | "nav"
            | "blockquote" | "ul" | "ol" | "dl" | "table" | "thead" | "tbody" | "tfoot" | "h1" | "h2"
            | "h3" | "h4" | "h5" | "h6" | "hr" | "figure" | "form" | "fieldset" | "address" | "details"
            | "center" | "dialog" | "body" | "hgroup" | "search" | "menu" | "dir" | "frameset" => {
                Self::Paragraph
            }
            "pre" | "listing" | "textarea" => Self::Preformatted,
            "script" | "style" | "template" | "noscript" | "svg" | "math-annotation" | "head" | "iframe"
            | "object" | "embed" | "audio" | "video" | "canvas" | "map" | "select" | "datalist"
            | "noframes" | "rp" | "title" => Self::Hidden,
            _ => Self::Inline,
        }
    }
}

/// A side of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Start,
    End,
}

/// Text in the making: white space is collapsed, and what parts two pieces is written only when the second
/// comes.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) text: String,
    has_space: bool,
    /// Line ends before the next piece, at most two.
    lines: u8,
    /// How many preformatted elements are open.
    preformatted: usize,
}

impl Writer {
    pub(super) fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            let (start, rest) = text.split_at(text.len() - text.trim_start_matches(['\n', '\r']).len());
            if !start.is_empty() {
                self.lines = self.lines.max(1);
            }
            if !rest.is_empty() {
                self.part();
                self.text.push_str(rest);
            }
            return;
        }
        self.has_space |= text.starts_with(char::is_whitespace);
        for word in text.split_whitespace() {
            self.part();
            self.text.push_str(word);
            self.has_space = true;
        }
        self.has_space &= text.ends_with(char::is_whitespace);
    }

    pub(super) fn edge(&mut self, layout: Layout, edge: Edge) {
        match layout {
            Layout::Inline | Layout::Hidden => {}
            Layout::Cell => self.has_space = true,
            Layout::Line => self.lines = self.lines.max(1),
            Layout::Paragraph => self.lines = 2,
            Layout::Break if edge == Edge::Start => self.lines = (self.lines + 1).min(2),
            Layout::Break => {}
            Layout::Preformatted => {
                self.lines = 2;
                match edge {
                    Edge::Start => self.preformatted += 1,
                    Edge::End => self.preformatted -= 1,
                }
            }
        }
    }

    /// Writes what parts the last piece from the next.
    fn part(&mut self) {
        if !self.text.is_empty() {
            match self.lines {
                0 if self.has_space => self.text.push(' '),
                0 => {}
                1 => self.text.push('\n'),
                _ => self.text.push_str("\n\n"),
            }
        }
        (self.has_space, self.lines) = (false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dom_query::Document;

    fn rendered(html: &str) -> String {
        let document = Document::from(html);
        render(&document.body().unwrap(), |node| node.has_name("nav"))
    }

    #[test]
    fn structure_becomes_white_space() {
        let cases = [
            ("<p>a</p><p>b</p>", "a\n\nb"),
            ("<p>a <b>b</b>c\n d</p>", "a bc d"),
            ("a<br>b<br><br><br>c", "a\nb\n\nc"),
            ("<ul><li>a</li><li>b<ul><li>c</ul></ul>d", "a\nb\n\nc\n\nd"),
            ("<dl><dt>a<dd>b<dt>c<dd>d</dl>", "a\nb\nc\nd"),
            ("<table><tr><td>a</td><td>b</td></tr><tr><th>c</table>", "a b\nc"),
            ("x<pre>\n one\n   two\n</pre>y", "x\n\n one\n   two\n\n\ny"),
            ("<nav>menu</nav>a<script>b</script><style>c</style><!-- d -->e", "ae"),
            ("<div><div> <span> a </span> </div></div>", "a"),
            ("", ""),
        ];
        for (html, text) in cases {
            assert_eq!(rendered(html), text, "{html}");
        }
    }
}

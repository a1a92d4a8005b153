//! Pages made to break a parser: each is finished in bounded time on a small stack, with its text where it
//! has any.
//!
//! The time bounds are far above what an unloaded machine needs and far below what quadratic work would take:
//! at these sizes minutes to hours.

use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tricorne_text::{Counter, ExtractMethod, Extracted, Extractor, MainText, clean, decode, language, sniff};

/// Wall time, on a machine that may be busy: what is not linear takes many minutes.
const MAX_TIME: Duration = Duration::from_secs(90);
const STACK_BYTES: usize = 2 << 20;

/// Runs the whole way from bytes to counts on a thread with a small stack.
fn process(page: String) -> Extracted {
    let work = move || {
        let start = Instant::now();
        let _ = sniff(page.as_bytes(), Some("text/html"));
        let decoded = decode(page.as_bytes(), None);
        let extracted = MainText::new().extract(&decoded.text, None).unwrap();
        let text = clean(&extracted.text);
        Counter::new().count(&text);
        let _ = language(&text);
        let elapsed = start.elapsed();
        assert!(elapsed < MAX_TIME, "took {elapsed:?}");
        extracted
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap().join().unwrap()
}

fn repeated(unit: &str, bytes: usize) -> String {
    unit.repeat(bytes / unit.len())
}

const MB: usize = 1 << 20;

#[test]
fn deep_nesting() {
    for tag in
        ["div", "b", "span", "ul><li", "table><tr><td", "custom-element", "svg", "blockquote><p", "button"]
    {
        let page = format!("<body>{}some words", format!("<{tag}>").repeat(200_000));
        let extracted = process(page);
        assert_eq!(extracted.method, ExtractMethod::Stripped, "{tag}");
        // `svg` hides its text.
        assert!(tag == "svg" || extracted.text == "some words", "{tag}: {:?}", extracted.text);
    }
}

#[test]
fn nesting_where_other_rules_hold() {
    for start in
        ["<noscript>", "<svg>", "<math>", "<svg><title>", "<svg><desc><p></desc>", "<template>", "<select>"]
    {
        for tag in ["div", "td", "g", "option", "html"] {
            process(format!("<body>words{start}{}", format!("<{tag}>").repeat(100_000)));
        }
    }
    for raw in ["title", "textarea", "iframe", "noframes", "xmp", "style", "script"] {
        let page = format!("<body>words<svg><{raw}>{}</{raw}></svg>", "<g>".repeat(100_000));
        assert!(process(page).text.contains("words"), "{raw}");
    }
}

#[test]
fn nesting_that_is_closed_again() {
    let page = format!("{}some words{}", "<div>".repeat(200_000), "</div>".repeat(200_000));
    assert_eq!(process(page).text, "some words");
}

#[test]
fn nesting_just_below_the_limit() {
    let page = format!("{}some words{}", "<div><p>x</p>".repeat(500), "</div>".repeat(500)).repeat(20);
    assert!(process(page).text.contains("some words"));
}

#[test]
fn unclosed_formatting_in_many_paragraphs() {
    let fonts: String = (0..400).map(|n| format!("<font size={n}>")).collect();
    assert!(process(format!("{fonts}{}", "<p>x".repeat(200_000))).text.contains('x'));
    assert!(process("<b><i><a href=x>y".repeat(100_000)).text.contains('y'));
}

#[test]
fn megabytes_of_brackets() {
    process(repeated("<", 5 * MB));
    for unit in [
        ">",
        "</",
        "<!",
        "<!--",
        "<a",
        "<a ",
        "<a b='",
        "<a b=\"",
        "<script>",
        "<title>",
        "<![CDATA[",
        "<?",
        "&lt;",
        "</p>",
    ] {
        process(repeated(unit, MB / 2));
    }
}

#[test]
fn unclosed_tags_and_attributes() {
    assert_eq!(process("<p>words<p title='never closed".to_owned()).text, "words");
    assert!(process(format!("<p>words<a href='{}", "x".repeat(5 * MB))).text.contains("words"));
    assert!(process(format!("<p>words<!-- {}", "x".repeat(5 * MB))).text.contains("words"));
}

#[test]
fn giant_attributes() {
    let names: String = (0..200_000).map(|n| format!(" a{n}=1")).collect();
    assert_eq!(process(format!("<p{names}>words")).text, "words");
    let value = repeated("share caption comment ", 5 * MB);
    assert_eq!(process(format!("<div class='{value}'>words</div>")).text, "words");
    let many = repeated("<p class='a b c d e f g h' style='color: red' onclick='x()'>w ", 5 * MB);
    assert!(process(many).text.starts_with('w'));
}

#[test]
fn zeros_and_control_characters() {
    assert_eq!(process("<p>wo\0rds\0</p>".repeat(3)).text.replace('\0', "").matches("words").count(), 3);
    process(repeated("\0", 5 * MB));
    process(repeated("<p>\0\x01\x1b", 5 * MB));
}

#[test]
fn millions_of_entities() {
    for unit in
        ["&amp;", "&", "&#x41;", "&#99999999999;", "&nbsp;", "&CounterClockwiseContourIntegral;", "&a"]
    {
        process(format!("<p>{}", repeated(unit, MB / 2)));
        process(format!("{}{}", "<div>".repeat(1_000), repeated(unit, MB / 2)));
    }
}

#[test]
fn many_flat_elements() {
    for unit in [
        "<p>a, b</p>",
        "<br>",
        "<br> ",
        "a<br>",
        "<li>x",
        "<td>x",
        "<div></div>",
        "<a href=x>y</a>",
        "<div class=share>x</div>",
        "<img>",
        "<table>",
        "</div>",
        "<option>x",
        "<h1>x</h1>",
        "<form>",
        "<p><b></p>",
        "<a><p></a>",
        "<noscript><img></noscript>",
        "<table><p>x</table>",
        "<object>",
        "<select><option>",
    ] {
        process(repeated(unit, MB / 2));
    }
}

#[test]
fn combining_marks_without_end() {
    process(format!("<p>a{}", repeated("\u{301}\u{323}", 5 * MB)));
    process(format!("<p>a{}", repeated("\u{1161}", 5 * MB)));
    process(format!("<p>{}", repeated("Σ", 5 * MB)));
}

#[test]
fn words_without_end() {
    process(format!("<p>{}", "x".repeat(5 * MB)));
    process(format!("<p>{}", repeated("ABCDEFGHIJKLMNOPQRSTUVWXYZÄ", 5 * MB)));
    process(format!("<p>{}", (0..500_000).map(|n| format!("{n:x} ")).collect::<String>()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Neither the parser nor the rules panic on tags in any order, no page with text gives none, and the same
    /// page gives the same text.
    #[test]
    fn tag_soup(pieces in prop::collection::vec(piece(), 0..120)) {
        let page = format!("<body><p>words</p>{}", pieces.concat());
        let extracted = MainText::new().extract(&page, None).unwrap();
        prop_assert!(!extracted.text.trim().is_empty());
        prop_assert_eq!(MainText::new().extract(&page, None).unwrap(), extracted);
    }
}

fn piece() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "div", "p", "span", "a", "b", "table", "tr", "td", "ul", "li", "br", "img", "form", "input",
        "select", "option", "svg", "math", "template", "noscript", "script", "style", "title", "body",
        "html", "head", "h1", "pre", "article", "figure", "object", "iframe", "section", "font", "textarea",
        "frameset", "caption", "button", "video",
    ];
    const ATTRIBUTES: &[&str] = &[
        "",
        " class=caption",
        " class='article-body content'",
        " id=comments",
        " href=x",
        " src='data:image/gif;base64,AA=='",
        " style='display:none'",
        " hidden",
        " role=dialog",
        " class='share",
        " =\"",
        " colspan=0",
        " itemprop=author",
    ];
    const TEXTS: &[&str] = &[
        "words",
        " ",
        "\n",
        "&amp;",
        "&",
        "<",
        ">",
        "<!--",
        "-->",
        "\0",
        "é, 世界.",
        "<![CDATA[",
        "A sentence, with a comma or two, that is long enough to count as prose for the rules, and then some. ",
    ];
    let name = prop::sample::select(NAMES);
    let attribute = prop::sample::select(ATTRIBUTES);
    prop_oneof![
        4 => (name.clone(), attribute).prop_map(|(name, attribute)| format!("<{name}{attribute}>")),
        2 => name.prop_map(|name| format!("</{name}>")),
        4 => prop::sample::select(TEXTS).prop_map(str::to_owned),
    ]
}

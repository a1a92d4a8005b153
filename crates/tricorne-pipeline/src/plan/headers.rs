//! Checks the request headers that a plan asks for.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::error::PlanErrorKind;
use super::reader::{Reader, Section};

/// Headers that the client writes itself; a second copy would contradict it.
const OWN_HEADERS: [&str; 9] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers that say who asks, not what is asked for.
pub(super) const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// The headers in `[fetch.headers]`, by lower-case name.
pub(super) fn headers(reader: &mut Reader<'_>, fetch: &Section<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let Some(value) = fetch.table.get("headers") else {
        return headers;
    };
    let DeValue::Table(table) = value.get_ref() else {
        reader.wrong_type("headers", value, "a section that starts with `[fetch.headers]`");
        return headers;
    };
    let mut entries: Vec<_> = table.iter().collect();
    // The table is sorted by name; of a header that is there twice the later one is the mistake.
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name = key.get_ref().to_ascii_lowercase();
        let DeValue::String(text) = value.get_ref() else {
            reader.wrong_type(key.get_ref(), value, "a string");
            continue;
        };
        if !is_header_name(&name) {
            let message = format!("{} is not the name of a header", reader.written(&key.span()));
            let hint = "names have letters, digits and `-`";
            reader.error(key.span(), PlanErrorKind::BadValue, message, hint.to_owned());
        } else if OWN_HEADERS.contains(&name.as_str()) {
            let message = format!("the header `{name}` cannot be set");
            reader.error(
                key.span(),
                PlanErrorKind::Conflict,
                message,
                "leave it out: the client sets it".to_owned(),
            );
        } else if name == "user-agent" {
            let message = "the header `user-agent` has its own key";
            reader.error(
                key.span(),
                PlanErrorKind::Conflict,
                message,
                "write `user_agent` in `[fetch]`".to_owned(),
            );
        } else if !is_header_value(text) {
            bad_value(reader, &name, value.span());
        } else if headers.insert(name.clone(), text.to_string()).is_some() {
            let message = format!("the header `{name}` is there twice");
            let hint = "leave one out: case does not tell headers apart";
            reader.error(key.span(), PlanErrorKind::Duplicate, message, hint.to_owned());
        }
    }
    headers
}

/// The `User-Agent`, if the plan has one.
pub(super) fn user_agent<'a>(reader: &mut Reader<'a>, fetch: &Section<'a>) -> Option<String> {
    let found = reader.string(fetch, "user_agent")?;
    if !is_header_value(found.value) {
        bad_value(reader, "user_agent", found.span);
        return None;
    }
    Some(found.value.to_owned())
}

fn bad_value(reader: &mut Reader<'_>, name: &str, span: std::ops::Range<usize>) {
    let message = format!("`{name}` is {}, which a header cannot carry", reader.written(&span));
    let hint = "use printable ASCII without space at either end";
    reader.error(span, PlanErrorKind::BadValue, message, hint.to_owned());
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_header_value(value: &str) -> bool {
    value.bytes().all(|b| matches!(b, b' '..=b'~')) && value.trim() == value
}

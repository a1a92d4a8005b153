//! Says in words how two plan shapes differ.

use serde_json::{Map, Value};

/// What changed from one [`Plan::shape`](super::Plan::shape) to another, a sentence each; empty if they are
/// equal.
///
/// Stages are matched by what they use, so that one stage more or less is told as such.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    compare("", old, new, &mut changes);
    changes
}

fn compare(key: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => compare_objects(key, old, new, changes),
        (Value::Array(old), Value::Array(new)) if key == "stages" => compare_stages(old, new, changes),
        _ => changes.push(format!("`{key}` was {}, is now {}", written(old), written(new))),
    }
}

fn compare_objects(key: &str, old: &Map<String, Value>, new: &Map<String, Value>, changes: &mut Vec<String>) {
    let path = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    for (name, old_value) in old {
        match new.get(name) {
            Some(new_value) => compare(&path(name), old_value, new_value, changes),
            None => changes.push(format!("`{}` was {}, is now not set", path(name), written(old_value))),
        }
    }
    for (name, new_value) in new {
        if !old.contains_key(name) {
            changes.push(format!("`{}` was not set, is now {}", path(name), written(new_value)));
        }
    }
}

/// Compares the stages between what both lists start with and what both end with.
fn compare_stages(old: &[Value], new: &[Value], changes: &mut Vec<String>) {
    let before = changes.len();
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    let mut unmatched: Vec<&Value> = new.iter().collect();
    for stage in old {
        match unmatched.iter().position(|other| other["use"] == stage["use"]) {
            Some(place) => {
                compare(stage["use"].as_str().unwrap_or("stage"), stage, unmatched.remove(place), changes);
            }
            None => changes.push(format!("the stage {} is gone", stage_in_words(stage))),
        }
    }
    changes.extend(unmatched.into_iter().map(|stage| format!("the stage {} is new", stage_in_words(stage))));
    if changes.len() == before {
        changes.push("the stages have another order".into());
    }
}

/// The stage as "`filter` with `where` = `word_count >= 20`".
fn stage_in_words(stage: &Value) -> String {
    let options = stage.as_object().into_iter().flatten().filter(|(key, _)| *key != "use");
    let options: Vec<String> = options.map(|(key, value)| format!("`{key}` = {}", written(value))).collect();
    let name = written(&stage["use"]);
    if options.is_empty() { name } else { format!("{name} with {}", options.join(" and ")) }
}

/// A value in backticks: text and lists without quotes, as people say them.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect();
            format!("`{}`", items.join(", "))
        }
        other => format!("`{other}`"),
    }
}

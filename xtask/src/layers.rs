//! Which crate may use which: dependencies point to lower layers only, and only `tricorne-py` knows PyO3.

use serde_json::Value;

/// The crates and their layers. `tricorne-loopback` is a fake server without any workspace dependency, so everybody may test against it.
const LAYERS: &[(&str, u32)] = &[
    ("tricorne-sync", 0),
    ("tricorne-text", 0),
    ("tricorne-loopback", 0),
    ("tricorne-exec", 1),
    ("tricorne-http", 2),
    ("tricorne-pipeline", 3),
    ("tricorne", 4),
    ("tricorne-py", 5),
];

/// Crates that are not part of the product: they may use anything, and nothing may use them.
const OUTSIDE: &[&str] = &["tricorne-benches", "xtask"];

const PYTHON_CRATE: &str = "tricorne-py";

/// Checks the edges of every workspace crate, given what `cargo metadata` printed.
pub(crate) fn check(metadata: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    if packages.is_empty() {
        findings.push("`cargo metadata` lists no packages".to_owned());
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        for dependency in dependencies {
            let used = dependency["name"].as_str().unwrap_or_default();
            findings.extend(check_edge(name, used, dependency["path"].is_string()));
        }
        if layer_of(name).is_none() && !OUTSIDE.contains(&name) {
            findings.push(format!("`{name}` has no layer; give it one in xtask/src/layers.rs"));
        }
    }
    findings
}

fn layer_of(name: &str) -> Option<u32> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

fn check_edge(name: &str, used: &str, local: bool) -> Option<String> {
    if used.starts_with("pyo3") && name != PYTHON_CRATE {
        return Some(format!("`{name}` uses `{used}`; only `{PYTHON_CRATE}` knows PyO3"));
    }
    let own = layer_of(name)?;
    if OUTSIDE.contains(&used) {
        return Some(format!("`{name}` uses `{used}`, which is not part of the product"));
    }
    match layer_of(used) {
        Some(other) if other >= own => Some(format!(
            "`{name}` (layer {own}) uses `{used}` (layer {other}); a crate uses lower layers only"
        )),
        None if local => Some(format!("`{name}` uses the local crate `{used}`, which has no layer")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(edges: &[(&str, &str, bool)]) -> Value {
        let packages: Vec<Value> = edges
            .iter()
            .map(|(name, used, local)| {
                let path = if *local { json!("somewhere") } else { Value::Null };
                json!({ "name": name, "dependencies": [{ "name": used, "path": path, "kind": "dev" }] })
            })
            .collect();
        json!({ "packages": packages })
    }

    #[test]
    fn edges_downwards_pass() {
        let good = [
            ("tricorne-http", "tricorne-exec", true),
            ("tricorne-exec", "tricorne-loopback", true),
            ("tricorne-py", "pyo3", false),
            ("tricorne-benches", "tricorne-py", true),
            ("tricorne-sync", "loom", false),
        ];
        assert_eq!(check(&workspace(&good)), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_edge_is_found() {
        for (name, used, local, said) in [
            ("tricorne-sync", "tricorne-exec", true, "layer 1"),
            ("tricorne-text", "tricorne-sync", true, "lower layers only"),
            ("tricorne-exec", "tricorne", true, "layer 4"),
            ("tricorne", "pyo3", false, "only `tricorne-py` knows PyO3"),
            ("xtask", "pyo3-ffi", false, "only `tricorne-py` knows PyO3"),
            ("tricorne", "xtask", true, "not part of the product"),
            ("tricorne", "tricorne-new", true, "no layer"),
            ("tricorne-new", "serde", false, "`tricorne-new` has no layer"),
        ] {
            let findings = check(&workspace(&[(name, used, local)]));
            assert_eq!(findings.len(), 1, "{name} -> {used}: {findings:?}");
            assert!(findings[0].contains(said), "{findings:?}");
        }
    }

    #[test]
    fn an_empty_workspace_is_not_a_pass() {
        assert_eq!(check(&json!({})).len(), 1);
    }
}

//! What no file of the project may contain: paths of somebody's machine, and addresses of package indexes, which the
//! ordinary clients know by themselves.

/// Beginnings of paths that exist on one machine only. Written in pieces, so that this file passes its own check.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("../sha", "red/"),
];

/// Settings and addresses of package indexes.
const INDEXES: &[&str] = &[
    concat!("index", "-url"),
    concat!("find", "-links"),
    concat!("pypi.org", "/simple"),
    concat!("files.python", "hosted"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
];

/// Checks one text file, named by its path from the root. Real pages and golden data are not ours to rewrite.
pub(crate) fn check(name: &str, content: &str) -> Vec<String> {
    let data = [".html", ".htm", ".warc", ".jsonl"].iter().any(|end| name.ends_with(end));
    if data || name.starts_with("testdata/") || name.contains("/fixture/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let place = format!("{name}:{}", index + 1);
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            findings.push(format!("{place}: a path of somebody's machine (`{path}…`)"));
        }
        for address in INDEXES.iter().filter(|address| line.contains(**address)) {
            findings.push(format!(
                "{place}: `{address}` names a package index; the ordinary clients know theirs"
            ));
        }
    }
    findings
}

/// Whether a path begins in this line. Inside a longer word, such as a URL, the same letters mean something else.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "-_./~}".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_are_found_with_their_line() {
        for path in MACHINE_PATHS {
            let findings = check("docs/a.md", &format!("fine\nsee `{path}x`\n"));
            assert_eq!(findings.len(), 1, "{path}: {findings:?}");
            assert!(findings[0].starts_with("docs/a.md:2: "), "{findings:?}");
            assert_eq!(check("a.py", &format!("{path}x")).len(), 1, "{path} at the beginning of a line");
        }
    }

    #[test]
    fn package_indexes_are_found() {
        for address in INDEXES {
            assert_eq!(check("a.toml", &format!("x = \"{address}\"")).len(), 1, "{address}");
        }
    }

    #[test]
    fn urls_and_pages_are_left_alone() {
        let url = format!("https://example.org{}page and target{}x", MACHINE_PATHS[0], MACHINE_PATHS[3]);
        assert_eq!(check("a.rs", &url), Vec::<String>::new());
        let page = format!("<a href=\"{}x\">", MACHINE_PATHS[0]);
        assert_eq!(check("testdata/page.html", &page), Vec::<String>::new());
        assert_eq!(check("crates/tricorne/fixture/list.txt", &page), Vec::<String>::new());
    }
}

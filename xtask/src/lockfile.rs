//! What may never enter `Cargo.lock`: crates that need more than Rust and a C compiler, and sources other than crates.io.
//! `deny.toml` states the same policy, and the licences, for those who have cargo-deny.

/// OpenSSL, cmake, and C++ (directly, or through what links it).
const BANNED: &[&str] =
    &["openssl-sys", "aws-lc-sys", "cmake", "cxx", "link-cplusplus", "bindgen", "clang-sys", "native-tls"];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the text of a lock file, which cargo writes with one `key = "value"` a line.
pub(crate) fn check(lock: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut package = "";
    let mut packages = 0;
    for line in lock.lines() {
        let value = |key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
        if let Some(name) = value("name") {
            package = name;
            packages += 1;
            if BANNED.contains(&name) {
                findings
                    .push(format!("`{name}` is in Cargo.lock; `cargo tree -i {name}` shows who brings it"));
            }
        }
        if let Some(source) = value("source").filter(|source| *source != CRATES_IO) {
            findings.push(format!("`{package}` comes from `{source}`; crates.io is the only source"));
        }
    }
    if packages == 0 {
        findings.push("Cargo.lock lists no packages".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_crates_and_foreign_sources_are_found() {
        for name in BANNED {
            let findings = check(&format!(
                "[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"{CRATES_IO}\"\n"
            ));
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].contains(name), "{findings:?}");
        }
        let findings = check("[[package]]\nname = \"a\"\nsource = \"git+https://example.org/a\"\n");
        assert_eq!(findings, ["`a` comes from `git+https://example.org/a`; crates.io is the only source"]);
        assert_eq!(check("").len(), 1);
    }

    #[test]
    fn a_clean_lock_passes() {
        let lock = format!(
            "[[package]]\nname = \"ring\"\nsource = \"{CRATES_IO}\"\n\n[[package]]\nname = \"tricorne\"\n"
        );
        assert_eq!(check(&lock), Vec::<String>::new());
    }
}

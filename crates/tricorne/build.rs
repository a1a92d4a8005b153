//! Compiles the fixture corpus into the command: writes `corpus_pages.rs` with one entry per line of the manifest.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use serde_json::Value;

/// Where the corpus is, seen from this package.
const CORPUS: &str = "../../testdata/corpus";

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(CORPUS);
    let manifest = corpus.join("manifest.jsonl");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", manifest.display());

    let mut pages = String::from("[\n");
    for (number, line) in fs::read_to_string(&manifest)?.lines().enumerate() {
        let place = || format!("line {} of `{}`", number + 1, manifest.display());
        let entry: Value = serde_json::from_str(line).map_err(|error| format!("{}: {error}", place()))?;
        let text =
            |key: &str| entry[key].as_str().ok_or_else(|| format!("{}: `{key}` is no string", place()));
        let file = text("path")?;
        let path = file.strip_prefix("pages").ok_or_else(|| format!("{}: `{file}` is no page", place()))?;
        let (charset, language, package) = (text("charset")?, text("lang")?, text("package")?);
        let (licence, sha256) = (text("licence")?, text("sha256")?);
        writeln!(
            pages,
            "    Page {{ path: {path:?}, charset: {charset:?}, language: {language:?}, package: {package:?}, \
             licence: {licence:?}, sha256: {sha256:?}, \
             body: include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?})) }},",
            format!("/{CORPUS}/{file}"),
        )?;
    }
    pages.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("corpus_pages.rs"), pages)?;
    Ok(())
}

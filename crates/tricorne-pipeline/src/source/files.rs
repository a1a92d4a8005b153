//! Local files by pattern, and the pages in them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use globset::{GlobBuilder, GlobMatcher};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::unpack::Unpack;
use crate::error::RunError;
use crate::record::{Failure, Input, Record, StoredPage};
use crate::runner::{Load, Source};

pub(super) struct Globs {
    base_dir: PathBuf,
    patterns: Vec<Pattern>,
    current: usize,
    walk: Option<walkdir::IntoIter>,
    next_id: u64,
}

struct Pattern {
    text: String,
    /// The folder to walk: the pattern up to its first special character.
    root: PathBuf,
    matcher: GlobMatcher,
}

impl Globs {
    pub(super) fn new(patterns: &[String], base_dir: &Path) -> Result<Self, RunError> {
        let patterns = patterns.iter().map(|text| Pattern::new(text, base_dir)).collect::<Result<_, _>>()?;
        Ok(Globs { base_dir: base_dir.to_path_buf(), patterns, current: 0, walk: None, next_id: 0 })
    }
}

impl Pattern {
    fn new(text: &str, base_dir: &Path) -> Result<Self, RunError> {
        let whole = base_dir.join(text);
        let pattern = whole.to_string_lossy().into_owned();
        // A file that exists under this very name is meant, even if the name has special characters.
        let literal = whole.is_file();
        let glob = if literal { globset::escape(&pattern) } else { pattern.clone() };
        let matcher = GlobBuilder::new(&glob)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| RunError::Input {
                input: text.into(),
                message: error.kind().to_string(),
                hint: Some("`*` stands for any part of a name, `**` for any folders, `[ab]` for one of these letters".into()),
            })?
            .compile_matcher();
        let root = if literal {
            whole
        } else {
            whole.iter().take_while(|part| !part.to_string_lossy().contains(['*', '?', '[', '{'])).collect()
        };
        let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
        Ok(Pattern { text: text.into(), root, matcher })
    }

    fn matches(&self, path: &Path) -> bool {
        self.matcher.is_match(path) || path.strip_prefix(".").is_ok_and(|path| self.matcher.is_match(path))
    }
}

impl Source for Globs {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        loop {
            let Some(pattern) = self.patterns.get(self.current) else { return Ok(None) };
            if self.walk.is_none() {
                if !pattern.root.exists() {
                    let start = match self.base_dir.as_os_str().is_empty() {
                        true => "the current folder".into(),
                        false => format!("the folder of the plan, `{}`", self.base_dir.display()),
                    };
                    return Err(RunError::Input {
                        input: pattern.text.clone(),
                        message: format!("there is no `{}`", pattern.root.display()),
                        hint: Some(format!("relative names start from {start}")),
                    });
                }
                self.walk =
                    Some(WalkDir::new(&pattern.root).follow_links(true).sort_by_file_name().into_iter());
            }
            let Some(entry) = self.walk.as_mut().and_then(Iterator::next) else {
                self.walk = None;
                self.current += 1;
                continue;
            };
            let entry = entry.map_err(|error| RunError::Input {
                input: pattern.text.clone(),
                message: error.to_string(),
                hint: None,
            })?;
            let path = entry.path();
            let earlier = &self.patterns[..self.current];
            if !entry.file_type().is_file()
                || !pattern.matches(path)
                || earlier.iter().any(|earlier| path.starts_with(&earlier.root) && earlier.matches(path))
            {
                continue;
            }
            let shown = path.strip_prefix(&self.base_dir).unwrap_or(path);
            let shown = shown.strip_prefix(".").unwrap_or(shown);
            let record =
                Record { id: self.next_id, url: shown.to_string_lossy().replace('\\', "/"), extra: None };
            self.next_id += 1;
            return Ok(Some(Input { record, problem: None }));
        }
    }

    fn name(&self) -> String {
        self.patterns.iter().map(|pattern| pattern.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// Reads local files, relative to the plan's folder; those that are compressed with gzip or zstd as what is in them.
pub(crate) struct LocalFiles {
    pub(crate) base_dir: PathBuf,
    pub(crate) max_bytes: u64,
}

impl Load for LocalFiles {
    fn load(&self, record: &Record) -> Result<StoredPage, Failure> {
        let path = self.base_dir.join(&record.url);
        let failure = |kind: &str, message: String| Failure {
            stage: "source".into(),
            kind: kind.into(),
            message,
            attempts: 0,
        };
        let read = || -> io::Result<Vec<u8>> {
            let mut body = Vec::new();
            let content = Unpack::new(BufReader::new(File::open(&path)?));
            content.take(self.max_bytes + 1).read_to_end(&mut body)?;
            Ok(body)
        };
        let body =
            read().map_err(|error| failure("io", format!("cannot read `{}`: {error}", path.display())))?;
        if body.len() as u64 > self.max_bytes {
            return Err(failure(
                "too_large",
                format!("`{}` is larger than {} bytes", path.display(), self.max_bytes),
            ));
        }
        Ok(StoredPage {
            final_url: None,
            status: None,
            content_type: content_type_of(&path).map(str::to_owned),
            sha256: Sha256::digest(&body).into(),
            body: Bytes::from(body),
            attempts: 0,
        })
    }
}

/// What the name of a local file says about its content.
fn content_type_of(path: &Path) -> Option<&'static str> {
    let path = match path.extension()?.to_str()? {
        "gz" | "zst" => Path::new(path.file_stem()?),
        _ => path,
    };
    Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html",
        "xhtml" => "application/xhtml+xml",
        "txt" | "text" | "md" => "text/plain",
        "xml" => "application/xml",
        _ => return None,
    })
}

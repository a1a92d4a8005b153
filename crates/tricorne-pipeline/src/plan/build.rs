//! Plans for the command's shortcuts, built without a plan file.

use std::path::{Path, PathBuf};

use super::{Feature, Fetch, Plan, Run, Sink, Source, Stage};

/// The files that a folder given to [`Plan::for_prep`] stands for.
const PAGES_IN_FOLDER: &str = "**/*.{html,htm,xhtml,txt}";

impl Plan {
    /// Downloads these URLs to the folder `out`, keeps the pages as files and does nothing else with them.
    pub fn for_fetch(urls: impl IntoIterator<Item = String>, out: impl Into<PathBuf>) -> Plan {
        Plan {
            path: "<fetch>".into(),
            base_dir: PathBuf::new(),
            source: Source::UrlList(urls.into_iter().collect()),
            fetch: Some(Fetch::default()),
            stages: Vec::new(),
            sink: Sink { keep_pages: true, ..Sink::new(out) },
            run: Run::default(),
        }
    }

    /// Extracts, cleans and measures local pages into the folder `out`.
    ///
    /// Each of `files` is a file, a folder (its HTML and text files, at any depth) or a glob. What exists is
    /// taken by its name, also if the name looks like a glob. Files named twice are taken once.
    pub fn for_prep(files: impl IntoIterator<Item = String>, out: impl Into<PathBuf>) -> Plan {
        let mut patterns: Vec<String> = Vec::new();
        for name in files {
            let path = Path::new(&name);
            let pattern = if path.is_dir() {
                format!("{}/{PAGES_IN_FOLDER}", globset::escape(name.trim_end_matches('/')))
            } else if path.exists() {
                globset::escape(&name)
            } else {
                name
            };
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        Plan {
            path: "<prep>".into(),
            base_dir: PathBuf::new(),
            source: Source::Files { patterns },
            fetch: None,
            stages: vec![Stage::Extract, Stage::Clean, Stage::Features { columns: Feature::ALL.into() }],
            sink: Sink::new(out),
            run: Run::default(),
        }
    }
}

//! The corpus of the benchmarks: about 9,600 real pages, collected from Debian packages and served by nginx on the loopback address.
//!
//! `corpus/make_corpus.sh` makes it, in `tricorne-corpus` below the folder for temporary files. It needs Debian or Ubuntu (`apt-get
//! download`, `dpkg`), and about 1 GB; nothing is installed. Pages that are there already are used as they are.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where nginx serves the pages.
const PORT: u16 = 8600;

/// The corpus while it is served.
pub(crate) struct Corpus {
    folder: PathBuf,
    /// A file with the URL of every page, one a line.
    pub(crate) urls_file: PathBuf,
    /// The SHA-256 of every page by its URL, in hex.
    pub(crate) sha256_by_url: HashMap<String, String>,
    /// Bytes of all pages.
    pub(crate) bytes: u64,
    /// Whether the server was started here, and so has to be stopped here.
    started: bool,
}

impl Corpus {
    /// Collects the pages unless they are there, and serves them unless somebody does.
    ///
    /// # Errors
    /// The script failed; what it needs is said.
    pub(crate) fn serve() -> Result<Corpus, String> {
        let folder = std::env::temp_dir().join("tricorne-corpus");
        let server = SocketAddr::from(([127, 0, 0, 1], PORT));
        let served = folder.join(format!("run-bench-{PORT}/nginx.pid")).exists()
            && TcpStream::connect_timeout(&server, Duration::from_secs(1)).is_ok();
        if !served {
            eprintln!("collecting and serving the corpus in `{}`", folder.display());
            script("all", &folder).map_err(|error| {
                format!(
                    "{error}; it needs `apt-get download`, `dpkg` and the port {PORT}: a Debian or Ubuntu \
                     whose package lists are fresh (`apt-get update`)"
                )
            })?;
        }
        // From here on the server is stopped when this value goes.
        let mut corpus = Corpus {
            urls_file: folder.join("urls.txt"),
            sha256_by_url: HashMap::new(),
            bytes: 0,
            started: !served,
            folder,
        };
        corpus.read()?;
        Ok(corpus)
    }

    fn read(&mut self) -> Result<(), String> {
        let urls = read(&self.urls_file)?;
        let manifest = read(&self.folder.join("bench.manifest.tsv"))?;
        if urls.lines().count() != manifest.lines().count() {
            return Err(format!("list and manifest in `{}` do not agree", self.folder.display()));
        }
        for (url, line) in urls.lines().zip(manifest.lines()) {
            let mut fields = line.split('\t');
            let (Some(sha256), Some(bytes)) =
                (fields.next(), fields.next().and_then(|bytes| bytes.parse::<u64>().ok()))
            else {
                return Err(format!("`{line}` is no line of a manifest"));
            };
            self.bytes += bytes;
            self.sha256_by_url.insert(url.to_owned(), sha256.to_owned());
        }
        eprintln!("{} pages, {:.1} MB", self.len(), self.bytes as f64 / 1e6);
        Ok(())
    }

    /// How many pages there are.
    pub(crate) fn len(&self) -> usize {
        self.sha256_by_url.len()
    }

    /// An empty folder for a run, below that of the corpus.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, String> {
        let scratch = self.folder.join("scratch").join(name);
        if scratch.exists() {
            fs::remove_dir_all(&scratch)
                .map_err(|error| format!("cannot remove `{}`: {error}", scratch.display()))?;
        }
        fs::create_dir_all(&scratch)
            .map_err(|error| format!("cannot create `{}`: {error}", scratch.display()))?;
        Ok(scratch)
    }
}

impl Drop for Corpus {
    fn drop(&mut self) {
        if self.started
            && let Err(error) = script("stop", &self.folder)
        {
            eprintln!("the server of the corpus may still run: {error}");
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

fn script(command: &str, folder: &Path) -> Result<(), String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/make_corpus.sh");
    // Its server lives on: it must not hold a pipe that somebody reads to the end.
    let status = Command::new("bash")
        .args([script, command, "--port", &PORT.to_string(), "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot start `bash`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`make_corpus.sh {command}` failed ({status})")) }
}

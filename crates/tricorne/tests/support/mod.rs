//! What the whole tests of the command share: starting it, waiting for it, reading what it wrote, and a
//! site of real pages on the loopback address.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tricorne::demo::corpus::{Page, pages};
use tricorne_loopback::{Reply, Request, Server};

/// No command of these tests takes longer, on a busy machine either.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The program as it is when the test begins. A build beside the test may put another one in its place, which may make
/// other data of the same plan; so the file is kept open, and started by that, where the system can.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_tricorne"));
    #[cfg(target_os = "linux")]
    let path = {
        use std::os::fd::IntoRawFd;
        let file = std::fs::File::open(&path).expect("the command is built");
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.into_raw_fd()))
    };
    path
});

/// The command, without what the surroundings may say about colours.
pub(crate) fn tricorne<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(args: I) -> Command {
    let mut command = Command::new(&*PROGRAM);
    #[cfg(target_os = "linux")]
    std::os::unix::process::CommandExt::arg0(&mut command, env!("CARGO_BIN_EXE_tricorne"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "HTTP_PROXY", "http_proxy"] {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ran {
    /// Fails the test, with all that was printed, unless the command ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless stderr has this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Ran {
        assert!(self.stderr.contains(text), "`{text}` is missing in stderr:\n{}", self.stderr);
        self
    }
}

/// Runs a command to its end, with nothing on its standard input.
#[track_caller]
pub(crate) fn run(command: Command) -> Ran {
    Running::start(command).wait()
}

/// Runs a command to its end, with this standard input.
#[track_caller]
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().expect("piped");
    stdin.write_all(input).expect("the command reads its input");
    drop(stdin);
    running.wait()
}

/// A command that is running; killed if the test fails meanwhile.
pub(crate) struct Running {
    pub(crate) child: Child,
    started: Instant,
    output: [Receiver<Vec<u8>>; 2],
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = piped.spawn().expect("the command starts");
        let output =
            [collect(child.stdout.take().expect("piped")), collect(child.stderr.take().expect("piped"))];
        Running { child, started, output }
    }

    /// Since the command was started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// SIGKILL: the command has no chance to tidy up. False if it had ended by itself.
    pub(crate) fn kill(mut self) -> bool {
        let ran_on = self.child.try_wait().expect("a child of ours").is_none();
        let _ = self.child.kill();
        let status = self.child.wait().expect("a child of ours");
        ran_on && status.code().is_none()
    }

    /// Sends a signal by name, such as `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("`kill` is there");
        assert!(status.success());
    }

    #[track_caller]
    pub(crate) fn wait(mut self) -> Ran {
        let [stdout, stderr] = [0, 1].map(|n| {
            let left = LIMIT.saturating_sub(self.started.elapsed());
            let Ok(bytes) = self.output[n].recv_timeout(left) else {
                panic!("the command did not end within {LIMIT:?}");
            };
            String::from_utf8(bytes).expect("the command prints UTF-8")
        });
        let status = self.child.wait().expect("a child of ours");
        Ran { code: status.code(), stdout, stderr, took: self.started.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits until something is there; fails the test if it does not come.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "{what} did not come within {LIMIT:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

// ---- folders ------------------------------------------------------------------------------------

/// A folder for one test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(TempDir::new().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        std::fs::write(&path, content).expect("the file is written");
        path
    }

    /// The text without the folder's own path.
    pub(crate) fn hide(&self, text: &str) -> String {
        text.replace(&self.0.path().display().to_string(), "DIR")
    }
}

/// The data set in an output folder: shards, manifest and failures, by name.
pub(crate) fn data_set(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(out).expect("the output folder is there") {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().expect("a type").is_file() && name != "run.json" {
            files.insert(name, std::fs::read(entry.path()).expect("a readable file"));
        }
    }
    files
}

/// Fails the test unless both data sets are equal, byte for byte.
#[track_caller]
pub(crate) fn assert_same_data(
    left: &BTreeMap<String, Vec<u8>>,
    right: &BTreeMap<String, Vec<u8>>,
    when: &str,
) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(left), names(right), "{when}: the files differ");
    let differ: Vec<&String> = left.keys().filter(|name| left[*name] != right[*name]).collect();
    // The last is a shard if any shard differs; the manifest differs with each of them.
    if let Some(&name) = differ.last() {
        let texts = [left, right].map(|files| String::from_utf8_lossy(&files[name]).into_owned());
        let lines = texts[0].lines().zip(texts[1].lines()).find(|(left, right)| left != right);
        panic!("{when}: {differ:?} differ, `{name}` first in {lines:#?}");
    }
}

pub(crate) fn json_file(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("the file is JSON")
}

pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// All rows of a data set in JSONL, in the order of the shards.
pub(crate) fn rows(out: &Path) -> Vec<Value> {
    let shards = data_set(out).into_keys().filter(|name| name.starts_with("shard-"));
    shards.flat_map(|name| json_lines(&out.join(name))).collect()
}

// ---- a site -------------------------------------------------------------------------------------

/// The page at `/page/17`, with any query: the corpus over and over again.
pub(crate) fn page_at(path: &str) -> Option<&'static Page> {
    let number = path.split('?').next()?.strip_prefix("/page/")?.parse::<usize>().ok()?;
    Some(&pages()[number % pages().len()])
}

pub(crate) fn answer(page: &'static Page) -> Reply {
    Reply::ok(page.content_type(), page.body)
}

/// Real pages without faults; each answer takes `latency`.
pub(crate) fn calm_site(latency: Duration) -> Server {
    Server::start(move |request: &Request| match page_at(&request.path) {
        Some(page) => answer(page).delay(latency),
        None => Reply::new(404),
    })
    .expect("a free port")
}

/// A list of `count` URLs of [`calm_site`], one a line.
pub(crate) fn url_list(server: &Server, count: usize) -> String {
    let mut list = String::new();
    for number in 0..count {
        let _ = writeln!(list, "{}", server.url(&format!("/page/{number}")));
    }
    list
}

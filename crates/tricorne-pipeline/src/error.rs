//! Why a run could not start or go on. What happens to a single record is no error but data
//! ([`Failure`](crate::record::Failure)).

use std::io;
use std::path::{Path, PathBuf};

/// Why a run could not start or go on. Progress that was safe on disk stays there: the same command
/// goes on from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried: `write`, `rename`, …
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The output folder, or a folder that it should be in, is a file.
    #[error("{}", not_a_folder(path, file))]
    NotAFolder {
        /// The path of the sink.
        path: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// The output folder holds results that no run of ours left there.
    #[error("the output folder `{}` already holds `{found}`, which no run that can be continued has left", path.display())]
    ForeignOutput {
        /// The path of the sink.
        path: PathBuf,
        /// The file that would be overwritten.
        found: String,
    },
    /// The output folder belongs to a run of another plan.
    #[error("the output folder `{}` belongs to another plan: {}", path.display(), changes.join("; "))]
    OtherPlan {
        /// The path of the sink.
        path: PathBuf,
        /// What changed, in words.
        changes: Vec<String>,
    },
    /// Another process runs in this output folder.
    #[error("another run is using the output folder `{}`", path.display())]
    Locked {
        /// The path of the sink.
        path: PathBuf,
    },
    /// The input is not what it was when the run began.
    #[error("the input has changed since this run began: {what}")]
    InputChanged {
        /// Which part, with ids.
        what: String,
    },
    /// The input cannot be read at all.
    #[error("cannot read the input `{input}`: {message}")]
    Input {
        /// The file, pattern or `-`.
        input: String,
        /// What is wrong with it.
        message: String,
        /// What to do, if there is something.
        hint: Option<String>,
    },
    /// There is no record in the input.
    #[error("the input `{input}` holds no records")]
    EmptyInput {
        /// The file, pattern or `-`.
        input: String,
    },
    /// A file of the work folder is damaged.
    #[error("`{}` is damaged: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        message: String,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client could not be set up")]
    Client {
        /// What the client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The threads of the run could not be started.
    #[error("the threads of the run could not be started")]
    Threads {
        /// What the executor said.
        source: tricorne_exec::ExecError,
    },
    /// A bug: an engine thread panicked. The progress that is on disk is intact.
    #[error("an engine thread panicked: {message}")]
    Panicked {
        /// The panic's message and place.
        message: String,
    },
}

fn not_a_folder(path: &Path, file: &Path) -> String {
    let path = path.display();
    match file.display() {
        file if path.to_string() == file.to_string() => format!("the output folder `{path}` is a file"),
        file => format!("there can be no output folder `{path}`: `{file}` is a file"),
    }
}

impl RunError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
        let path = path.to_path_buf();
        move |source| RunError::Io { action, path, source }
    }

    /// True if the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, RunError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            error if error.is_no_space() => {
                "make room on the disk and run the same command again: it goes on from where it stopped".into()
            }
            RunError::Io { action: "create", source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "choose a folder that you may write to".into()
            }
            RunError::NotAFolder { .. } => "name a folder that does not exist yet, or move the file away".into(),
            RunError::ForeignOutput { .. } => "name another folder, or move these files away".into(),
            RunError::OtherPlan { .. } => {
                "name another output folder for the changed plan, or change the plan back to continue this one".into()
            }
            RunError::Locked { .. } => "wait for it to end, or name another output folder".into(),
            RunError::InputChanged { .. } => {
                "give the same input to continue this run, or name another output folder for the new one".into()
            }
            RunError::EmptyInput { .. } => "an input needs at least one line or file that is not blank".into(),
            RunError::Input { hint, .. } => return hint.clone(),
            RunError::Client { .. } => "check `ca_file`, `user_agent` and `headers` of the plan".into(),
            RunError::Damaged { .. } => "move the output folder away and run again".into(),
            _ => return None,
        })
    }
}

//! Opening an output folder: is it ours, is it this plan's, is nobody else in it, what is done already.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::error::RunError;
use crate::files::{Files, LockGuard};
use crate::journal::HEADER_LEN;
use crate::layout::{CommitRecord, Layout, read_commits, read_json, write_json};

pub(super) struct Opened {
    pub(super) commits: BTreeMap<u64, CommitRecord>,
    pub(super) open_shards: u64,
    pub(super) lock: LockGuard,
}

/// `plan.json`: whose folder this is.
#[derive(Serialize, Deserialize)]
struct Owner {
    plan_hash: String,
    shape: serde_json::Value,
}

pub(super) fn open_output(engine: &Engine, layout: &Layout) -> Result<Opened, RunError> {
    let files = &*engine.files;
    let out = layout.out();
    let owned = files.exists(&layout.plan()).map_err(|error| not_a_folder(files, out, "look for", error))?;
    if !owned {
        let names = files.list(out).map_err(|error| not_a_folder(files, out, "list", error))?;
        if let Some(found) = names.into_iter().find(|name| Layout::is_result(name)) {
            return Err(RunError::ForeignOutput { path: out.to_path_buf(), found });
        }
    }
    for dir in [out.to_path_buf(), layout.work(), layout.journals(), layout.shards()] {
        files.create_dir_all(&dir).map_err(|error| not_a_folder(files, &dir, "create", error))?;
    }
    let lock = layout.lock();
    let guard = files.lock(&lock).map_err(RunError::io("lock", &lock))?;
    let lock = guard.ok_or_else(|| RunError::Locked { path: out.to_path_buf() })?;

    let commits = read_commits(files, layout)?;
    let journals = begun_journals(engine, layout)?;
    let owner = read_json::<Owner>(files, &layout.plan())?;
    if owner.as_ref().is_none_or(|owner| owner.plan_hash != engine.plan_hash) {
        // A run that failed before it had anything to keep does not own the folder.
        if let Some(owner) = owner.filter(|_| !commits.is_empty() || !journals.is_empty()) {
            let mut changes = crate::plan::diff(&owner.shape, &engine.shape);
            if changes.is_empty() {
                changes.push("it was made by another version of the engine".into());
            }
            return Err(RunError::OtherPlan { path: out.to_path_buf(), changes });
        }
        let owner = Owner { plan_hash: engine.plan_hash.clone(), shape: engine.shape.clone() };
        write_json(files, &layout.plan(), &owner)?;
    }

    let mut open_shards = 0;
    for shard in journals {
        // A commit removes its journal last; one that is still there is left over, unless it is a
        // retry's, which `--retry-failed` goes on with.
        match commits.get(&shard) {
            Some(record) if record.failed == 0 => {
                let path = layout.journal(shard);
                files.remove(&path).map_err(RunError::io("remove", &path))?;
            }
            Some(_) => {}
            None => open_shards += 1,
        }
    }
    Ok(Opened { commits, open_shards, lock })
}

/// The shards whose journal holds something. Empty ones are removed.
fn begun_journals(engine: &Engine, layout: &Layout) -> Result<Vec<u64>, RunError> {
    let files = &*engine.files;
    let dir = layout.journals();
    let mut begun = Vec::new();
    for name in files.list(&dir).map_err(RunError::io("list", &dir))? {
        let Ok(shard) = name.parse::<u64>() else { continue };
        let path = layout.journal(shard);
        let len = files.open(&path).and_then(|file| file.len()).map_err(RunError::io("open", &path))?;
        if len > HEADER_LEN {
            begun.push(shard);
        } else {
            files.remove(&path).map_err(RunError::io("remove", &path))?;
        }
    }
    Ok(begun)
}

fn not_a_folder(files: &dyn Files, path: &Path, action: &'static str, error: io::Error) -> RunError {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            // Nothing below a file exists, so it is the longest part of the path that does.
            let file = path.ancestors().find(|part| files.exists(part).is_ok_and(|exists| exists));
            RunError::NotAFolder { path: path.to_path_buf(), file: file.unwrap_or(path).to_path_buf() }
        }
        _ => RunError::io(action, path)(error),
    }
}

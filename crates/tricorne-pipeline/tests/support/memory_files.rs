//! A file layer in memory that can be killed at any step, run out of space, lose power, and that knows
//! in which order things have to be made durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tricorne_pipeline::files::{File, Files, LockGuard};

/// A file: what was written, and what of it has been synced.
#[derive(Debug, Default)]
struct Node {
    data: Vec<u8>,
    durable: Vec<u8>,
    dirty: bool,
}

type NodeRef = Arc<Mutex<Node>>;

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, NodeRef>,
    durable_names: BTreeMap<PathBuf, NodeRef>,
    dirs: BTreeSet<PathBuf>,
    steps: u64,
    die_at: Option<u64>,
    dead: bool,
    room: Option<u64>,
    violations: Vec<String>,
    locked: bool,
}

/// The file layer; cloning gives another handle to the same files.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryFiles {
    state: Arc<Mutex<State>>,
}

impl MemoryFiles {
    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on, the step with this number (from 0) and all after it fail, as if the process had been
    /// killed just before it; an append may leave a part behind.
    pub(crate) fn die_at(&self, step: u64) {
        let mut state = self.held();
        state.die_at = Some(state.steps + step);
    }

    /// The process is started again: what was written is there.
    pub(crate) fn revive(&self) {
        let mut state = self.held();
        state.dead = false;
        state.die_at = None;
        state.locked = false;
    }

    /// The power fails: only what was synced is there, under names that were synced.
    pub(crate) fn power_loss(&self) {
        let mut state = self.held();
        state.names = state.durable_names.clone();
        for node in state.names.values() {
            let mut node = node.lock().unwrap();
            node.data = node.durable.clone();
            node.dirty = false;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.held().dead
    }

    /// Bytes that can still be written before the disk is full.
    pub(crate) fn set_room(&self, bytes: Option<u64>) {
        self.held().room = bytes;
    }

    /// Steps taken so far.
    pub(crate) fn steps(&self) -> u64 {
        self.held().steps
    }

    /// Everything that was done in an unsafe order.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.held().violations.clone()
    }

    /// The files directly in a folder, by name.
    pub(crate) fn files_in(&self, dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let state = self.held();
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        inside
            .map(|(path, node)| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, node.lock().unwrap().data.clone())
            })
            .collect()
    }
}

impl State {
    /// A step that changes something: it may be the last one.
    fn step(&mut self) -> io::Result<()> {
        if self.dead || self.die_at.is_some_and(|at| self.steps >= at) {
            self.dead = true;
            return Err(io::Error::other("killed"));
        }
        self.steps += 1;
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("killed")) } else { Ok(()) }
    }

    fn is_durable(&self, path: &Path) -> bool {
        self.durable_names
            .get(path)
            .zip(self.names.get(path))
            .is_some_and(|(durable, now)| Arc::ptr_eq(durable, now) && !now.lock().unwrap().dirty)
    }

    /// The rules of the commit protocol, checked at the moment a name appears.
    fn check_rename(&mut self, from: &Path, to: &Path) {
        if self.names[from].lock().unwrap().dirty {
            self.violations.push(format!("{} was renamed before it was synced", from.display()));
        }
        let name = to.file_name().unwrap().to_string_lossy().into_owned();
        let must_be_durable: Vec<PathBuf> = if name == "manifest.json" {
            let shards = self.names.keys().filter(|path| {
                path.parent() == to.parent()
                    && path.file_name().unwrap().to_string_lossy().starts_with("shard-")
            });
            shards.cloned().collect()
        } else if to.parent().is_some_and(|dir| dir.ends_with(".tricorne/shards"))
            && !name.contains("published")
        {
            // A commit record: the newest generation of its shard must be safe.
            let shard = name.trim_end_matches(".json");
            let content: serde_json::Value =
                serde_json::from_slice(&self.names[from].lock().unwrap().data).unwrap();
            let generation = format!("{shard}.g{}.", content["generation"]);
            let parts = self.names.keys().filter(|path| {
                path.parent() == to.parent()
                    && path.file_name().unwrap().to_string_lossy().starts_with(&generation)
            });
            parts.cloned().collect()
        } else {
            Vec::new()
        };
        for path in must_be_durable {
            if !path.to_string_lossy().ends_with(".tmp") && !self.is_durable(&path) {
                self.violations.push(format!(
                    "{} appeared before {} was durable",
                    to.display(),
                    path.display()
                ));
            }
        }
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    node: NodeRef,
}

impl File for MemoryFile {
    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let bytes: Vec<u8> = parts.concat();
        let was_dead = state.dead;
        let mut node = self.node.lock().unwrap();
        if let Err(error) = state.step() {
            if !was_dead {
                // Killed in the middle of a write: how much is there depends on the bytes, so on nothing
                // that a test could get used to.
                let torn = bytes.iter().map(|&byte| byte as usize).sum::<usize>() % (bytes.len() + 1);
                node.data.extend_from_slice(&bytes[..torn]);
                node.dirty = true;
            }
            return Err(error);
        }
        let mut fits = bytes.len() as u64;
        if let Some(room) = &mut state.room {
            fits = fits.min(*room);
            *room -= fits;
        }
        node.data.extend_from_slice(&bytes[..fits as usize]);
        node.dirty = true;
        if fits < bytes.len() as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.state.lock().unwrap().alive()?;
        let node = self.node.lock().unwrap();
        let from = offset as usize;
        let data = node.data.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(data);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.state.lock().unwrap().alive()?;
        Ok(self.node.lock().unwrap().data.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.state.lock().unwrap().step()?;
        let mut node = self.node.lock().unwrap();
        node.data.truncate(len as usize);
        node.dirty = true;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().unwrap().step()?;
        let mut node = self.node.lock().unwrap();
        node.durable = node.data.clone();
        node.dirty = false;
        Ok(())
    }
}

impl Files for MemoryFiles {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.held();
        state.alive()?;
        state.dirs.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.held();
        state.step()?;
        if !state.dirs.contains(path.parent().unwrap()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let node = NodeRef::default();
        state.names.insert(path.to_path_buf(), Arc::clone(&node));
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.held();
        state.alive()?;
        let node = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), node: Arc::clone(node) }))
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let state = self.held();
        state.alive()?;
        Ok(state.names.get(path).map(|node| node.lock().unwrap().data.clone()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.held();
        state.step()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.check_rename(from, to);
        let node = state.names.remove(from).unwrap();
        state.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.held();
        state.step()?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.held();
        state.step()?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|name, _| name.parent() != Some(path));
        let inside = names.iter().filter(|(name, _)| name.parent() == Some(path));
        durable_names.extend(inside.map(|(name, node)| (name.clone(), Arc::clone(node))));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.held().alive()?;
        Ok(self.files_in(path).into_keys().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.held();
        state.alive()?;
        Ok(state.names.contains_key(path) || state.dirs.contains(path))
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<LockGuard>> {
        struct Unlock(Arc<Mutex<State>>);
        impl Drop for Unlock {
            fn drop(&mut self) {
                self.0.lock().unwrap().locked = false;
            }
        }
        let mut state = self.held();
        state.alive()?;
        if std::mem::replace(&mut state.locked, true) {
            return Ok(None);
        }
        Ok(Some(LockGuard(Box::new(Unlock(Arc::clone(&self.state))))))
    }
}

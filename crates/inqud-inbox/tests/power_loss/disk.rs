//! A disk that records what is written and synced, that fails when asked to, and that can lie.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use inqud_inbox::rusqlite::ffi;
use tempfile::TempDir;

/// What happened on a disk, in order. Nodes are files, whatever their names.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create {
        node: usize,
        name: String,
    },
    Delete {
        name: String,
    },
    Write {
        node: usize,
        at: usize,
        data: Vec<u8>,
    },
    Truncate {
        node: usize,
        len: usize,
    },
    Sync {
        node: usize,
    },
    /// The system reports an error once, and forgets what was to be written.
    FailedSync {
        node: usize,
    },
    SyncFolder,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    Open,
    Delete,
    Write,
    Truncate,
    Sync,
    Map,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Errno {
    Io,
    NoSpace,
}

/// The calls that fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) errno: Errno,
    /// How many calls still work.
    pub(crate) after: usize,
    /// How many fail then.
    pub(crate) count: usize,
    /// Only calls of this kind count.
    pub(crate) only: Option<Call>,
}

/// A bug that is planted below the store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Lie {
    #[default]
    None,
    /// No sync of the log happens.
    Log,
    /// One sync of the log in ten does not happen.
    SomeOfLog,
    /// No sync of the file happens, which a checkpoint needs.
    File,
    /// No folder is synced.
    Folder,
    /// After the first claim, `synchronous` stays at `NORMAL`.
    Normal,
}

#[derive(Debug, Default)]
struct State {
    ops: Vec<Op>,
    /// The node and its name, also of those that were deleted.
    names: Vec<String>,
    files: BTreeMap<String, usize>,
    fault: Option<Fault>,
    /// How many calls could have failed, and how many did.
    calls: usize,
    failed: Vec<Call>,
    lie: Lie,
    syncs: usize,
}

#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// Nothing is recorded or synced on it.
    is_scratch: bool,
    state: Mutex<State>,
    _folder: TempDir,
}

static DISKS: Mutex<Vec<Arc<Disk>>> = Mutex::new(Vec::new());

impl Disk {
    pub(crate) fn new(lie: Lie) -> Arc<Self> {
        Self::add(State { lie, ..State::default() }, false, &BTreeMap::new())
    }

    /// A disk that has these files.
    pub(crate) fn scratch(files: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        Self::add(State::default(), true, files)
    }

    fn add(state: State, is_scratch: bool, files: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        // In memory, because no test depends on what really reaches a disk.
        let shm = Path::new("/dev/shm");
        let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        let temporary = folder.unwrap();
        let folder = fs::canonicalize(temporary.path()).unwrap();
        for (name, data) in files {
            fs::write(folder.join(name), data).unwrap();
        }
        let disk = Self { folder, is_scratch, state: Mutex::new(state), _folder: temporary };
        let disk = Arc::new(disk);
        // From now on it notices what happens.
        DISKS.lock().unwrap().push(Arc::clone(&disk));
        disk
    }

    /// The disk after `cut` operations, when the process was killed and the system still had these `files`. What a failed
    /// sync lost is still lost.
    pub(crate) fn killed(&self, cut: usize, files: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let state = self.state();
        let ops = state.ops[..cut].to_vec();
        let names = state.names.clone();
        drop(state);
        // The last one that was created under each name.
        let mut nodes = BTreeMap::new();
        for op in &ops {
            if let Op::Create { node, name } = op {
                nodes.insert(name.clone(), *node);
            }
        }
        nodes.retain(|name, _| files.contains_key(name));
        Self::add(State { ops, names, files: nodes, ..State::default() }, false, files)
    }

    /// After how many operations the last sync that failed had failed.
    pub(crate) fn last_failed_sync(&self) -> Option<usize> {
        let failed = |op: &Op| matches!(op, Op::FailedSync { .. });
        self.state().ops.iter().rposition(failed).map(|at| at + 1)
    }

    /// The disk of a path.
    pub(crate) fn of(path: &Path) -> Option<Arc<Self>> {
        let disks = DISKS.lock().unwrap();
        disks.iter().find(|disk| path.parent() == Some(&disk.folder)).cloned()
    }

    /// Removes its files.
    pub(crate) fn remove(self: Arc<Self>) {
        DISKS.lock().unwrap().retain(|disk| !Arc::ptr_eq(disk, &self));
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("inbox.db")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How much has happened.
    pub(crate) fn now(&self) -> usize {
        self.state().ops.len()
    }

    pub(crate) fn with_ops<R>(&self, look: impl FnOnce(&[Op]) -> R) -> R {
        look(&self.state().ops)
    }

    // ------------------------------------------------------------------- failures

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.fault, state.calls) = (fault, 0);
        state.failed.clear();
    }

    /// The disk works again.
    pub(crate) fn set_fault_over(&self) {
        if let Some(fault) = &mut self.state().fault {
            fault.count = 0;
        }
    }

    /// How many calls could have failed since the fault was set, and those that did.
    pub(crate) fn calls(&self) -> (usize, Vec<Call>) {
        let state = self.state();
        (state.calls, state.failed.clone())
    }

    /// The code of a call that has to fail.
    pub(crate) fn failure(&self, call: Call) -> Option<c_int> {
        let mut state = self.state();
        let Fault { errno, after, count, only } = state.fault?;
        if only.is_some_and(|only| only != call) {
            return None;
        }
        state.calls += 1;
        if state.calls <= after || state.calls > after.saturating_add(count) {
            return None;
        }
        state.failed.push(call);
        Some(match (call, errno) {
            (Call::Open, _) => ffi::SQLITE_CANTOPEN,
            (Call::Delete, _) => ffi::SQLITE_IOERR_DELETE,
            (Call::Write, Errno::Io) => ffi::SQLITE_IOERR_WRITE,
            (Call::Write, Errno::NoSpace) => ffi::SQLITE_FULL,
            (Call::Truncate, _) => ffi::SQLITE_IOERR_TRUNCATE,
            (Call::Sync, _) => ffi::SQLITE_IOERR_FSYNC,
            (Call::Map, _) => ffi::SQLITE_IOERR_SHMMAP,
        })
    }

    /// Whether the sync of a file must not happen.
    pub(crate) fn lies_about(&self, node: usize) -> bool {
        if self.is_scratch {
            return true;
        }
        let mut state = self.state();
        state.syncs += 1;
        let is_log = state.names[node].ends_with("-wal");
        match state.lie {
            Lie::None | Lie::Folder | Lie::Normal => false,
            Lie::Log => is_log,
            Lie::SomeOfLog => is_log && state.syncs.is_multiple_of(10),
            Lie::File => state.names[node].ends_with(".db"),
        }
    }

    /// Whether SQLite must not see a pragma.
    pub(crate) fn ignores_pragma(&self, name: &str, value: &str) -> bool {
        let is = |its: &str, be: &str| name == its && value == be;
        // The default of 1,000 pages has a short workload make checkpoints.
        is("wal_autocheckpoint", "16000")
            || self.state().lie == Lie::Normal && is("synchronous", "FULL") && self.has_log()
    }

    fn has_log(&self) -> bool {
        self.folder.join("inbox.db-wal").exists()
    }

    // ------------------------------------------------------------------ recording

    fn record(&self, op: impl FnOnce(&mut State) -> Option<Op>) {
        if !self.is_scratch {
            let mut state = self.state();
            let op = op(&mut state);
            state.ops.extend(op);
        }
    }

    /// Returns the node of a file that exists.
    pub(crate) fn opened(&self, path: &Path) -> usize {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut state = self.state();
        if let Some(node) = state.files.get(name) {
            return *node;
        }
        let node = state.names.len();
        state.names.push(name.to_owned());
        state.files.insert(name.to_owned(), node);
        state.ops.push(Op::Create { node, name: name.to_owned() });
        node
    }

    pub(crate) fn deleted(&self, path: &Path, is_synced: bool) {
        let name = path.file_name().unwrap().to_str().unwrap();
        self.record(|state| {
            state.files.remove(name);
            Some(Op::Delete { name: name.to_owned() })
        });
        self.folder_synced(is_synced);
    }

    fn folder_synced(&self, is_synced: bool) {
        self.record(|it| (is_synced && it.lie != Lie::Folder).then_some(Op::SyncFolder));
    }

    pub(crate) fn wrote(&self, node: usize, at: usize, data: &[u8]) {
        self.record(|_| Some(Op::Write { node, at, data: data.to_owned() }));
    }

    pub(crate) fn truncated(&self, node: usize, len: usize) {
        self.record(|_| Some(Op::Truncate { node, len }));
    }

    pub(crate) fn synced(&self, node: usize, is_folder_synced: bool) {
        self.record(|_| Some(Op::Sync { node }));
        self.folder_synced(is_folder_synced);
    }

    pub(crate) fn failed_to_sync(&self, node: usize) {
        self.record(|_| Some(Op::FailedSync { node }));
    }
}

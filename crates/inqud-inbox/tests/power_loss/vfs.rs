//! A file system for SQLite that tells a [`Disk`] what SQLite asks of the system's.
//!
//! It becomes the default one of this program. Files outside the folder of a disk are left alone. Syncs of folders are
//! not part of this interface of SQLite, so the system call that opens a folder is replaced, too: SQLite opens one only
//! to sync it.
#![allow(unsafe_code, reason = "SQLite calls it through function pointers")]

use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, Once, OnceLock};

use inqud_inbox::rusqlite::ffi::{
    SQLITE_FCNTL_PRAGMA, SQLITE_OK, sqlite3_file, sqlite3_io_methods, sqlite3_syscall_ptr,
    sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

use crate::disk::{Call, Disk};
use crate::system::as_sqlite;

/// SQLite allocates it, and behind it the file of the system's VFS.
#[repr(C)]
struct File {
    base: sqlite3_file,
    /// A box, from the opening to the closing.
    on: *mut On,
}

/// A file that is on a disk.
struct On {
    disk: Arc<Disk>,
    node: usize,
}

type OpenFolder = unsafe extern "C" fn(*const c_char, *mut c_int) -> c_int;

static OPEN_FOLDER: OnceLock<OpenFolder> = OnceLock::new();

thread_local! {
    /// Whether a folder was opened, to be synced, since this was last reset.
    static IS_FOLDER_SYNCED: Cell<bool> = const { Cell::new(false) };
}

/// Makes it the default.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the system's VFS exists, and lives as long as the program. What is registered does too.
        unsafe {
            let real = sqlite3_vfs_find(ptr::null());
            let (set, get) = ((*real).xSetSystemCall.unwrap(), (*real).xGetSystemCall.unwrap());
            let name = c"openDirectory".as_ptr();
            let system = get(real, name);
            // SAFETY: SQLite documents the type of this call in its source.
            let system = std::mem::transmute::<sqlite3_syscall_ptr, Option<OpenFolder>>(system);
            OPEN_FOLDER.set(system.unwrap()).unwrap();
            let ours = Some(open_folder as OpenFolder);
            let ours = std::mem::transmute::<Option<OpenFolder>, sqlite3_syscall_ptr>(ours);
            assert_eq!(set(real, name, ours), SQLITE_OK);
            let vfs = Box::leak(Box::new(sqlite3_vfs {
                szOsFile: (*real).szOsFile + c_int::try_from(size_of::<File>()).unwrap(),
                zName: c"inqud-recorder".as_ptr(),
                pNext: ptr::null_mut(),
                pAppData: real.cast(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..*real
            }));
            assert_eq!(sqlite3_vfs_register(vfs, 1), SQLITE_OK);
        }
    });
}

unsafe extern "C" fn open_folder(name: *const c_char, descriptor: *mut c_int) -> c_int {
    let code = unsafe { OPEN_FOLDER.get().unwrap()(name, descriptor) };
    IS_FOLDER_SYNCED.set(code == SQLITE_OK);
    code
}

unsafe fn path(name: *const c_char) -> Option<PathBuf> {
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })?;
    Some(OsStr::from_bytes(name.to_bytes()).into())
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    unsafe {
        (*file).pMethods = ptr::null();
        let path = path(name);
        let disk = path.as_deref().and_then(Disk::of);
        if let Some(code) = disk.as_ref().and_then(|disk| disk.failure(Call::Open)) {
            return code;
        }
        let system: *mut sqlite3_vfs = (*vfs).pAppData.cast();
        let code = (*system).xOpen.unwrap()(system, name, real(file), flags, out);
        if code == SQLITE_OK {
            let on = disk.zip(path).map(|(disk, path)| {
                let node = disk.opened(&path);
                Box::into_raw(Box::new(On { disk, node }))
            });
            (*file.cast::<File>()).on = on.unwrap_or(ptr::null_mut());
            (*file).pMethods = &raw const METHODS;
        }
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    unsafe {
        let path = path(name);
        let disk = path.as_deref().and_then(Disk::of);
        if let Some(code) = disk.as_ref().and_then(|disk| disk.failure(Call::Delete)) {
            return code;
        }
        IS_FOLDER_SYNCED.set(false);
        let system: *mut sqlite3_vfs = (*vfs).pAppData.cast();
        let code = (*system).xDelete.unwrap()(system, name, sync);
        if let (SQLITE_OK, Some((disk, path))) = (code, disk.zip(path)) {
            disk.deleted(&path, IS_FOLDER_SYNCED.get());
        }
        code
    }
}

/// The file of the system's VFS.
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    unsafe { file.byte_add(size_of::<File>()) }
}

unsafe fn methods(file: *mut sqlite3_file) -> &'static sqlite3_io_methods {
    unsafe { &*(*real(file)).pMethods }
}

unsafe fn on<'f>(file: *mut sqlite3_file) -> Option<&'f On> {
    unsafe { (*file.cast::<File>()).on.as_ref() }
}

/// The failure of a call that is to fail.
unsafe fn failure(file: *mut sqlite3_file, call: Call) -> Option<c_int> {
    unsafe { on(file) }?.disk.failure(call)
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    unsafe {
        let on = (*file.cast::<File>()).on;
        let code = methods(file).xClose.unwrap()(real(file));
        if !on.is_null() {
            drop(Box::from_raw(on));
        }
        code
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    data: *const c_void,
    len: c_int,
    at: i64,
) -> c_int {
    unsafe {
        let failure = failure(file, Call::Write);
        // What fails has written a part.
        let written = if failure.is_some() { len / 2 } else { len };
        let code = as_sqlite(|| methods(file).xWrite.unwrap()(real(file), data, written, at));
        if let (SQLITE_OK, Some(on)) = (code, on(file)) {
            let data =
                std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(written).unwrap());
            on.disk.wrote(on.node, usize::try_from(at).unwrap(), data);
        }
        failure.unwrap_or(code)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: i64) -> c_int {
    unsafe {
        if let Some(code) = failure(file, Call::Truncate) {
            return code;
        }
        let code = methods(file).xTruncate.unwrap()(real(file), len);
        if let (SQLITE_OK, Some(on)) = (code, on(file)) {
            on.disk.truncated(on.node, usize::try_from(len).unwrap());
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    unsafe {
        let Some(on) = on(file) else { return methods(file).xSync.unwrap()(real(file), flags) };
        if let Some(code) = on.disk.failure(Call::Sync) {
            on.disk.failed_to_sync(on.node);
            return code;
        }
        if on.disk.lies_about(on.node) {
            return SQLITE_OK;
        }
        IS_FOLDER_SYNCED.set(false);
        let code = as_sqlite(|| methods(file).xSync.unwrap()(real(file), flags));
        if code == SQLITE_OK {
            on.disk.synced(on.node, IS_FOLDER_SYNCED.get());
        }
        code
    }
}

unsafe extern "C" fn control(file: *mut sqlite3_file, what: c_int, about: *mut c_void) -> c_int {
    unsafe {
        if let (SQLITE_FCNTL_PRAGMA, Some(on)) = (what, on(file)) {
            let words: *mut *const c_char = about.cast();
            let [name, value] = [*words.add(1), *words.add(2)].map(|it| path(it));
            let text = |it: Option<PathBuf>| it.unwrap_or_default().display().to_string();
            if on.disk.ignores_pragma(&text(name), &text(value)) {
                return SQLITE_OK;
            }
        }
        methods(file).xFileControl.unwrap()(real(file), what, about)
    }
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    len: c_int,
    is_extended: c_int,
    map: *mut *mut c_void,
) -> c_int {
    unsafe {
        if let Some(code) = failure(file, Call::Map) {
            return code;
        }
        methods(file).xShmMap.unwrap()(real(file), page, len, is_extended, map)
    }
}

/// Methods that are those of the system's VFS.
macro_rules! same {
    ($($name:ident = $method:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $kind),*) -> $result {
            unsafe { methods(file).$method.unwrap()(real(file), $($argument),*) }
        })*
    };
}

same! {
    read = xRead(data: *mut c_void, len: c_int, at: i64) -> c_int;
    file_size = xFileSize(len: *mut i64) -> c_int;
    lock = xLock(level: c_int) -> c_int;
    unlock = xUnlock(level: c_int) -> c_int;
    check_lock = xCheckReservedLock(is_locked: *mut c_int) -> c_int;
    sector_size = xSectorSize() -> c_int;
    characteristics = xDeviceCharacteristics() -> c_int;
    shm_lock = xShmLock(at: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier = xShmBarrier() -> ();
    shm_unmap = xShmUnmap(is_deleted: c_int) -> c_int;
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

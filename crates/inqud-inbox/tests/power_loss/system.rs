//! System calls of the store itself, which do not go through SQLite.
//!
//! The functions of the C library that the standard library calls are replaced by those of this program.
#![allow(unsafe_code, reason = "it replaces functions of the C library")]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fs;
use std::sync::Arc;

use crate::disk::{Call, Disk};

const SEEK_CUR: c_int = 1;
const EIO: c_int = 5;

#[repr(C)]
struct Part {
    data: *const c_void,
    len: usize,
}

unsafe extern "C" {
    fn writev(file: c_int, parts: *const Part, count: c_int) -> isize;
    fn fdatasync(file: c_int) -> c_int;
    fn lseek(file: c_int, at: i64, from: c_int) -> i64;
    fn __errno_location() -> *mut c_int;
}

thread_local! {
    static IS_SQLITE: Cell<bool> = const { Cell::new(false) };
}

/// Calls the system on behalf of SQLite, which is recorded elsewhere.
pub(crate) fn as_sqlite<R>(call: impl FnOnce() -> R) -> R {
    IS_SQLITE.set(true);
    let done = call();
    IS_SQLITE.set(false);
    done
}

/// The disk that the file is on, and its node.
fn on(file: c_int) -> Option<(Arc<Disk>, usize)> {
    if IS_SQLITE.get() {
        return None;
    }
    let path = fs::read_link(format!("/proc/self/fd/{file}")).ok()?;
    let disk = Disk::of(&path)?;
    let node = disk.opened(&path);
    Some((disk, node))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, data: *const c_void, len: usize) -> isize {
    let on = on(file);
    unsafe {
        if let Some((disk, _)) = &on
            && disk.failure(Call::Write).is_some()
        {
            *__errno_location() = EIO;
            return -1;
        }
        let at = if on.is_some() { lseek(file, 0, SEEK_CUR) } else { 0 };
        let written = writev(file, &Part { data, len }, 1);
        if let (Some((disk, node)), Ok(written)) = (on, usize::try_from(written)) {
            let data = std::slice::from_raw_parts(data.cast::<u8>(), written);
            disk.wrote(node, usize::try_from(at).unwrap(), data);
        }
        written
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(file: c_int) -> c_int {
    let Some((disk, node)) = on(file) else { return unsafe { fdatasync(file) } };
    if disk.failure(Call::Sync).is_some() {
        disk.failed_to_sync(node);
        unsafe { *__errno_location() = EIO };
        return -1;
    }
    // The folder of a disk is in memory, so nothing has to be synced.
    disk.synced(node, false);
    0
}

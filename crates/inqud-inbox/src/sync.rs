//! What threads share. The workspace's `tests/loom` compiles the file that uses it with loom's types instead.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

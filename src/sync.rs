//! What threads share. `tests/loom` compiles the files that use it with loom's types instead.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{PoisonError, RwLock};

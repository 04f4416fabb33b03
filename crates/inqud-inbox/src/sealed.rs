//! What keeps [`Store`](crate::Store) and [`Admin`](crate::Admin) to the types of this crate.

/// Sealed: every method that is added to an open trait would break its implementers.
pub trait Sealed {}

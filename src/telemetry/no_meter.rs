//! Feature `metrics` off.

pub(crate) fn describe() {}

#[cfg(feature = "tracing")]
pub(super) fn received(_: usize) {}

#[cfg(feature = "tracing")]
pub(super) fn ended(_: &super::call::End, _: Option<&std::sync::Arc<str>>) {}

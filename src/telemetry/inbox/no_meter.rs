//! Feature `metrics` off.

use std::time::Duration;

use crate::inbox::{KindStats, Stats};

pub(crate) fn describe() {}

pub(super) fn received(_: &'static str, _: &'static str) {}

pub(super) fn committed(_: &'static str, _: Duration) {}

pub(super) fn processed(_: &'static str, _: &'static str, _: &'static str) {}

pub(super) fn handled(_: &'static str, _: Duration) {}

pub(super) fn done(_: &'static str, _: Duration) {}

pub(super) fn looked(_: &Stats, _: Vec<KindStats>) {}

//! The error of everything that can fail here.

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

//! What a request needs to know, as one immutable value.

pub mod matcher;
pub mod snapshot;

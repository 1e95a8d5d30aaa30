//! HTTP/1.1 towards upstreams, as bytes (RFC 9112): the request's head written, the answer's head
//! and body read. No IO here; every bound is a constant beside its rule.
//!
//! Stricter than it must be with answers: an upstream that can be read in two ways is a broken one,
//! and its answer an error here rather than somebody else's request later.

pub mod answer;
pub mod body;
pub mod encode;

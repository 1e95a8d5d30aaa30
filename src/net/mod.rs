//! Bytes below HTTP, used by both planes so that a probe travels exactly as traffic does.

pub mod activation;
pub mod bind;
pub mod dial;
pub mod handover;
pub mod notify;
pub mod preamble;
pub mod tls_client;
pub mod tls_server;

//! Pure rules about one request: used by the real proxy and by replay alike. No IO, no state.

pub mod classify;
pub mod frames;
pub mod framing;
pub mod gate;
pub mod headers;
pub mod marker;
pub mod proxy_status;
pub mod retry;
pub mod rewrite;
pub mod sticky;
pub mod switch;
#[cfg(feature = "otlp")]
pub mod trace_context;
pub mod trailers;
pub mod witness;

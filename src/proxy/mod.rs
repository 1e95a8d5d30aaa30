//! The data plane: bytes of clients in, bytes of upstreams out. It records what happened and obeys
//! the current snapshot; it holds no health logic and knows neither configuration nor detector.
//!
//! One worker is one thread with its own runtime, its own listening sockets and its own upstream
//! connections. Nothing on the request path is shared between workers but the snapshot and counters.

mod activity;
mod answer;
mod attempt;
mod attend;
mod bidder;
mod by_serial;
mod client;
mod connection;
mod connections;
mod course;
mod early;
mod gather;
mod held;
mod http1;
mod judge;
mod lent;
mod listener;
mod permit;
mod reject;
mod request_body;
mod service;
mod stall;
mod stay;
mod story;
#[cfg(test)]
mod tests;
#[cfg(feature = "otlp")]
pub mod trace;
mod transaction;
mod tunnel;
mod waiting;
mod watched;
pub mod worker;

#[cfg(fuzzing)]
pub use http1::{Answered, answered};

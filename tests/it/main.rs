//! The only integration binary: one link step. What the proxy promises on the wire, shown on the
//! real binary, and what the sources promise of themselves.

#![expect(clippy::panic, reason = "a test says no by panicking")]

mod harness;

mod access_log;
mod ai;
mod alerts;
mod answers;
mod architecture;
mod capacity;
mod check;
mod clients;
mod common_cause;
mod drain;
mod drill;
mod failover;
mod grpc_health;
mod limits;
mod live;
mod log;
mod marker;
mod memory;
mod mutants;
mod mutated;
mod names;
mod operator;
mod origin;
mod parity;
mod providers;
mod refused;
mod reload;
mod residency;
mod retry;
mod route;
mod scenario;
mod series;
mod sovereign;
mod spoofed;
mod start;
mod sticky;
mod swarm;
mod threads;
mod tls;
#[cfg(feature = "otlp")]
mod traces;
mod upgrade;
mod verbs;
mod websocket;

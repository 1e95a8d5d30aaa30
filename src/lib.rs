//! bascule: a reverse proxy that reaches each service through several edge providers and leaves
//! the failing one by itself.
//!
//! Read from the bottom up: words ([`model`]), decisions ([`decide`], [`request`]), what a request
//! needs to know ([`config`], [`routing`]), what the planes share ([`exchange`], [`telemetry`]),
//! the bytes ([`net`]), the three planes ([`proxy`], [`control`], [`admin`]), and the wiring.
//! `docs/ARCHITECTURE.md` has the map; `tests/it/architecture.rs` holds the code to it.

pub mod model;

pub mod decide;
pub mod request;

pub mod config;
pub mod routing;

pub mod exchange;
pub mod telemetry;

pub mod clock;
pub mod net;

pub mod admin;
pub mod control;
pub mod proxy;

pub mod app;
pub mod cli;
pub mod rehearse;

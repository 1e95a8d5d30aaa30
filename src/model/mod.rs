//! Words with values: the vocabulary every other floor speaks. No behaviour beyond constructors,
//! `Display` and arithmetic on one value; no IO, no clock, no serialisation.

pub mod access_log;
pub mod allowance;
pub mod cell;
pub mod client;
pub mod control_target;
pub mod drill;
#[cfg(test)]
pub(crate) mod example;
pub mod habit;
pub mod health;
pub mod id;
pub mod instance;
pub mod limits;
pub mod listening;
pub mod marker;
pub mod memory;
pub mod name_server;
pub mod operator;
pub mod outcome;
pub mod place;
pub mod plan;
pub mod reading;
pub mod realm;
pub mod refusal;
pub mod signal;
pub mod topology;
#[cfg(feature = "otlp")]
pub mod trace;
pub mod unit;
pub mod ways;

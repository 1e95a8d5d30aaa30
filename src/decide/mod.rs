//! The pure core: evidence and time in, verdicts and plans out. No IO, clock, randomness, async,
//! logging or locks.

pub mod admission;
pub mod attribution;
pub mod baseline;
pub mod breaker;
pub mod case;
pub mod cells;
pub mod common_cause;
pub mod course;
pub mod cusum;
pub mod detector;
pub mod distinct;
pub mod drill;
pub mod hold;
pub mod intake;
pub mod origin;
pub mod plan;
pub mod pool;
pub mod probes;
pub mod provider;
pub mod rank;
pub mod scores;
pub mod share;
pub mod watch;
pub mod window;

#[cfg(test)]
mod world;

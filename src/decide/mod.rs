//! The pure core: evidence and time in, verdicts and plans out. No IO, clock, randomness, async,
//! logging or locks.

pub mod detector;

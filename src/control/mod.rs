//! The control plane: one loop decides, the others bring it evidence or carry out what it wants.

pub mod announce;
pub mod dns;
pub mod drain;
pub mod drills;
pub mod incidents;
pub mod inspection;
pub mod journal;
pub mod keeper;
pub mod memory;
pub mod names;
pub mod orders;
pub mod parity;
pub mod probe;
pub mod prober;
pub mod reload;
pub mod schedule;
pub mod state_dir;
pub mod steering;
pub mod targets;
#[cfg(feature = "otlp")]
pub mod traces;
pub mod watch;

//! Outages rehearsed: as files, in virtual time, and on loopback.
//!
//! [`scenario`] reads an outage, [`world`] and [`traffic`] act it out, [`replay`] runs the real
//! detector, request rules and plans through it under a virtual clock, [`expect`], [`report`] and [`page`]
//! say what came of it, and [`compare`] puts it beside other rules. [`demo`] tells the story with the real proxy instead.

pub mod compare;
pub mod crew;
pub mod demo;
pub mod expect;
pub mod library;
pub mod page;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod tally;
pub mod traffic;
pub mod world;

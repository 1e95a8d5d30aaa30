//! Everything that is shared *and* mutable in the process, so that the list of possible races fits
//! on one screen. Each value has one writer; counters have one writer per worker.
//!
//! | value | written by | read by | when full or stale |
//! |---|---|---|---|
//! | [`snapshot`]: routing and the states beside it | steering | proxy, prober, admin | the old one serves until replaced |
//! | [`ledger`]: counters per upstream and pool | each worker, its own row | steering, scrape | they only grow |
//! | [`commands`]: what to do, with its reply | reload, admin | steering | reload waits, admin says so |
//! | [`reload`]: wishes that the file be loaded, with their replies | admin | control | admin says so |
//! | [`evidence`]: notes, pairs, probe reports | proxy, prober | steering | newest dropped and counted |
//! | [`budget`]: retries of the last 10 s | each worker, its own row | proxy | no retry, counted |
//! | [`lately`]: clients and host names that had a good answer | every worker, a word each | proxy | a stranger, whose failures say nothing |
//! | [`addresses`]: upstream name → addresses, and which failed lately | dns; proxy, prober | proxy, prober | last good answer kept; the oldest failure forgotten |
//! | [`certificates`]: server name → key | reload | net::tls_server | last good one kept |
//! | [`settings`]: limits, trusted proxies | reload | proxy | last good ones kept |
//! | [`board`]: what the detector thinks | steering | admin | as of the last drain |
//! | [`pulse`]: signs of life for a watchdog | each thread, its own count | the pinging thread | a count that stands still is a ping that is not sent |
//! | `traces`: traced requests, in builds with `otlp` | each worker | its own thread | newest dropped and counted |
//! | [`edge`]: connections and refusals | each worker, its own row | scrape | over the limit: refused, counted |

pub mod addresses;
pub mod board;
pub mod budget;
pub mod certificates;
pub mod clients;
pub mod commands;
pub mod edge;
pub mod evidence;
pub mod forwarded;
pub mod lately;
pub mod ledger;
pub mod pulse;
pub mod reload;
pub mod settings;
pub mod snapshot;
pub mod state;
#[cfg(feature = "otlp")]
pub mod traces;

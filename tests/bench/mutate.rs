//! Mutated client streams against the real binary: `tests/it/mutated` says what must hold.
//!
//! `cargo bench --bench mutate -- --streams 1000000 --seed N` sends so many, begins with that seed (a new
//! one each time without it) and ends with 1 if anything broke. `--streams 1 --seed N` sends one again
//! that was shown.

#![expect(clippy::panic, reason = "a test says no by panicking")]

#[path = "../it/harness/mod.rs"]
#[allow(dead_code, reason = "most of the stage is for other tests")]
mod harness;
#[path = "../it/mutated/mod.rs"]
mod mutated;

use std::process::ExitCode;

use mutated::{Campaign, Tally, run};

/// Without `--streams`: a minute or less.
const STREAMS: u64 = 100_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let place = arguments.iter().position(|word| word == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    let seed = number("--seed").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let campaign = Campaign { seed, streams: number("--streams").unwrap_or(STREAMS) };
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tally = runtime.expect("a runtime").block_on(run(campaign, progress));
    say(&tally);
    for broken in &tally.breaks {
        println!("{broken}");
    }
    if tally.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn progress(tally: &Tally) {
    if tally.streams.is_multiple_of(50_000) {
        say(tally);
    }
}

fn say(tally: &Tally) {
    let Tally { streams, passed, requests, answers, waited, took, broken, .. } = tally;
    let rate = *streams as f64 / took.as_secs_f64().max(0.001);
    println!(
        "{streams} streams, {rate:.0} a second: {passed} with {requests} requests at the upstream, \
         {answers} answers, {waited} waited, {broken} broken"
    );
}

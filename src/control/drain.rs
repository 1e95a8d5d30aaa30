//! Counters to evidence: what the workers counted since the last drain, one sample an upstream.

use std::collections::{HashMap, HashSet};

use crate::exchange::ledger::{DurationCounts, HostLedger, UpstreamRow};
use crate::exchange::state::{States, UpstreamState};
use crate::model::cell::{Cell, HostId};
use crate::model::id::UpstreamId;
use crate::model::outcome::{FailureKind, MethodClass, Outcome};
use crate::model::signal::{Counts, DURATION_BUCKETS, HostCounts, HostSample, Sample};

/// Remembers every upstream's counters as of the last drain.
#[derive(Debug, Default)]
pub struct LedgerReader {
    /// By place in the topology, with the serial number of whose they are.
    seen: Vec<Seen>,
    /// By the ledger's serial number: of each cell, by index.
    hosts: HashMap<u64, Vec<[u64; 3]>>,
}

/// One upstream as of the last drain.
#[derive(Clone, Copy, Debug)]
struct Seen {
    serial: u64,
    stamps: u64,
    totals: Totals,
}

impl Seen {
    const fn nothing_of(serial: u64) -> Self {
        Self { serial, stamps: 0, totals: Totals::NOTHING }
    }
}

/// Sums over the workers' rows; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Totals {
    successes: [u64; 2],
    origin_errors: [u64; 2],
    failures: [u64; 2],
    marked: u64,
    markable: u64,
    durations: [u64; DURATION_BUCKETS],
}

impl LedgerReader {
    /// What was counted since the last drain; upstreams of which nothing was counted are left out.
    pub fn drain(&mut self, states: &States) -> Vec<Sample> {
        let serials = states.upstreams.iter().map(|state| state.serial);
        if !self.seen.iter().map(|seen| seen.serial).eq(serials) {
            self.retain(states);
        }
        let mut samples = Vec::new();
        for (index, (state, seen)) in states.upstreams.iter().zip(&mut self.seen).enumerate() {
            // First, so that what is counted meanwhile is looked at again.
            let stamps = state.rows.iter().map(UpstreamRow::stamps).sum();
            if stamps == seen.stamps {
                continue;
            }
            let now = Totals::of(state);
            samples.push(now.since(&seen.totals, UpstreamId::new(index)));
            *seen = Seen { serial: state.serial, stamps, totals: now };
        }
        samples
    }

    /// The same by host, of pools that have several.
    pub fn drain_hosts(&mut self, states: &States) -> Vec<HostSample> {
        let mut samples = Vec::new();
        for (index, ledger) in states.hosts.iter().enumerate() {
            let Some(ledger) = ledger else { continue };
            let cells = ledger.hosts() * 2;
            let seen = self.hosts.entry(ledger.serial).or_insert_with(|| vec![[0; 3]; cells]);
            for host in 0..ledger.hosts() {
                let host = HostId::new(host);
                let counts = host_counts(ledger, host, seen);
                if counts != HostCounts::default() {
                    samples.push(HostSample { upstream: UpstreamId::new(index), host, counts });
                }
            }
        }
        samples
    }

    /// Takes up what is new, and forgets upstreams that are gone.
    pub fn retain(&mut self, states: &States) {
        let known: HashMap<u64, Seen> =
            self.seen.drain(..).map(|seen| (seen.serial, seen)).collect();
        let serials = states.upstreams.iter().map(|state| state.serial);
        let seen = |serial| known.get(&serial).copied().unwrap_or(Seen::nothing_of(serial));
        self.seen = serials.map(seen).collect();
        let ledgers: HashSet<u64> = states.hosts.iter().flatten().map(|it| it.serial).collect();
        self.hosts.retain(|serial, _| ledgers.contains(serial));
    }
}

impl Totals {
    const NOTHING: Self = Self {
        successes: [0; 2],
        origin_errors: [0; 2],
        failures: [0; 2],
        marked: 0,
        markable: 0,
        durations: [0; DURATION_BUCKETS],
    };

    fn of(state: &UpstreamState) -> Self {
        let mut totals = Self::default();
        let mut durations = DurationCounts::default();
        for row in &state.rows {
            for class in MethodClass::ALL {
                let place = class.index();
                totals.successes[place] += row.outcome(class, Outcome::Success);
                totals.origin_errors[place] += row.outcome(class, Outcome::OriginError);
                totals.failures[place] += failures(row, class);
            }
            totals.marked += row.marked.get();
            totals.markable += row.markable.get();
            row.durations.add_to(&mut durations);
        }
        Self { durations: durations.buckets, ..totals }
    }

    fn since(&self, before: &Self, upstream: UpstreamId) -> Sample {
        let mut durations = [0; DURATION_BUCKETS];
        for (place, grown) in durations.iter_mut().enumerate() {
            *grown = difference(self.durations[place], before.durations[place]);
        }
        let both = |now: [u64; 2], then: [u64; 2]| {
            [difference(now[0], then[0]), difference(now[1], then[1])]
        };
        let counts = Counts {
            successes: both(self.successes, before.successes),
            origin_errors: both(self.origin_errors, before.origin_errors),
            failures: both(self.failures, before.failures),
            marked: difference(self.marked, before.marked),
            markable: difference(self.markable, before.markable),
        };
        Sample { upstream, counts, durations }
    }
}

/// What was counted for a host since the sums in `seen`.
fn host_counts(ledger: &HostLedger, host: HostId, seen: &mut [[u64; 3]]) -> HostCounts {
    let mut counts = HostCounts::default();
    for class in MethodClass::ALL {
        let cell = Cell { class, host };
        let now = ledger.sum(cell);
        let before = std::mem::replace(&mut seen[cell.index()], now);
        let [successes, origin_errors, failures] =
            std::array::from_fn(|place| difference(now[place], before[place]));
        counts.successes[class.index()] = successes;
        counts.origin_errors[class.index()] = origin_errors;
        counts.failures[class.index()] = failures;
    }
    counts
}

fn failures(row: &UpstreamRow, class: MethodClass) -> u64 {
    FailureKind::ALL.into_iter().map(|kind| row.outcome(class, Outcome::Failure(kind))).sum()
}

/// Counters only grow; four billion in one drain would be a bug, and is no reason to wrap.
fn difference(now: u64, before: u64) -> u32 {
    u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::exchange::state::Seed;
    use crate::model::id::{Label, UpstreamKey};
    use crate::model::topology::EndpointHost;

    fn states() -> States {
        let mut seed = Seed {
            workers: 2,
            serial: 0,
            instance: crate::model::instance::Instance::default(),
            now: clock::now(),
        };
        let label = |text| Label::new(text).expect("label");
        let key = UpstreamKey {
            service: label("portal"),
            provider: label("bunny"),
            endpoint: "http://a:80".into(),
        };
        let host = EndpointHost::Address([127, 0, 0, 1].into());
        let upstream = Arc::new(UpstreamState::new(key, &host, 80, &mut seed));
        States { upstreams: vec![upstream], ..States::default() }
    }

    #[test]
    fn a_drain_tells_what_all_workers_counted_since_the_one_before() {
        let states = states();
        let mut reader = LedgerReader::default();
        let [first, second] = &*states.upstreams[0].rows else { panic!("two workers") };
        first.count(MethodClass::Safe, Outcome::Success);
        assert_eq!(reader.drain(&states).len(), 1);

        first.count(MethodClass::Safe, Outcome::Success);
        second.count(MethodClass::Safe, Outcome::Success);
        second.count(MethodClass::Unsafe, Outcome::Failure(FailureKind::Connect));
        second.count(MethodClass::Unsafe, Outcome::Failure(FailureKind::Late));
        second.count(MethodClass::Safe, Outcome::OriginError);
        second.durations.observe(Duration::from_millis(1));
        second.markable.add(2);
        second.marked.add(1);
        let samples = reader.drain(&states);
        let [sample] = &*samples else { panic!("one upstream: {samples:?}") };
        let expected = Counts {
            successes: [2, 0],
            origin_errors: [1, 0],
            failures: [0, 2],
            marked: 1,
            markable: 2,
        };
        assert_eq!(sample.counts, expected);
        assert_eq!(sample.durations.iter().sum::<u32>(), 1);
        assert_eq!(sample.durations[0], 1);
    }

    #[test]
    fn where_nothing_was_counted_there_is_no_sample() {
        let states = states();
        let mut reader = LedgerReader::default();
        assert!(reader.drain(&states).is_empty());
        states.upstreams[0].rows[0].count(MethodClass::Safe, Outcome::Success);
        assert_eq!(reader.drain(&states).len(), 1);
        assert!(reader.drain(&states).is_empty());
    }
}

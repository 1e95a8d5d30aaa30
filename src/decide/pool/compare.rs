//! What members of a pool did with the same requests, and what each did by itself since another
//! began to fail: the evidence of blame, taken in.

use std::time::Duration;

use super::super::attribution::SETTLING;
use super::super::case::Member;
use super::super::scores::tier_index;
use super::super::watch::Watch;
use super::{Context, PoolWatch};
use crate::model::health::Tier;
use crate::model::id::UpstreamId;
use crate::model::signal::PairEnd;

/// Probes of two upstreams within this time are compared; twice the longest usual interval.
const PROBE_LAG: Duration = Duration::from_secs(10);

impl PoolWatch {
    /// What each member is compared by, under its present number.
    pub(super) fn gather(&mut self, upstreams: &[UpstreamId]) {
        let member = |(watch, upstream): (&Watch, &UpstreamId)| Member {
            upstream: *upstream,
            traffic: watch.traffic,
        };
        self.members.clear();
        self.members.extend(self.watches.iter().zip(upstreams).map(member));
    }

    pub(super) fn compare_pairs(&mut self, context: &Context) {
        let upstreams = &context.pool().upstreams;
        let place = |id: UpstreamId| upstreams.iter().position(|upstream| *upstream == id);
        for pair in std::mem::take(&mut self.pairs) {
            let (Some(first), Some(second)) = (place(pair.first), place(pair.second)) else {
                continue;
            };
            let mut compare = |here: usize, there: usize| {
                for case in &mut self.watches[here].cases {
                    case.compare(there, pair.second_went);
                }
            };
            compare(first, second);
            if pair.second_went == PairEnd::FailedToo {
                // The same two failures, seen from the other one.
                compare(second, first);
            }
        }
    }

    /// Each failed probe is a pair with the last probe of each sibling, if that is recent and was
    /// asked after the fault began.
    pub(super) fn compare_probes(&mut self) {
        let probes: Vec<_> = self.watches.iter().map(|watch| watch.probes.last).collect();
        for (place, watch) in self.watches.iter_mut().enumerate() {
            let Some(failed) = watch.probes.uncompared.take() else { continue };
            let Some(began) = watch.fault_began(Tier::Gray) else { continue };
            if watch.probes.failing_since.is_some_and(|since| since + PROBE_LAG < began) {
                // These probes failed while requests did not: they ask for something else.
                continue;
            }
            for (sibling, probe) in probes.iter().enumerate().filter(|(other, _)| *other != place) {
                let Some((at, passed)) = *probe else { continue };
                if at >= began + SETTLING && at + PROBE_LAG >= failed {
                    let went = if passed { PairEnd::Succeeded } else { PairEnd::FailedToo };
                    watch.cases.iter_mut().for_each(|case| case.compare_probe(sibling, went));
                }
            }
        }
    }

    /// Evidence belongs to one fault: where nothing fails, what was compared is forgotten.
    pub(super) fn keep_cases(&mut self, context: &Context) {
        let now = context.now;
        for watch in &mut self.watches {
            for tier in Tier::ALL {
                let began = watch.fault_began(tier);
                let case = &mut watch.cases[tier_index(tier)];
                match began {
                    None => case.reopen(&self.members, now),
                    Some(began) if now < began + SETTLING => case.compare_from(&self.members),
                    Some(_) => {}
                }
            }
        }
    }
}

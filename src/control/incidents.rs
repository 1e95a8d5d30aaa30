//! What an incident cost: a service's own counters at its beginning and at its end, told as a line
//! of the journal.
//!
//! In: at every look, what the detector says of each pool and what the workers counted. Out: a line
//! when something begins to fail, when it has not failed for a minute, and when a service is back at
//! its first choice after having been elsewhere. Counters are remembered for a minute and a half, so
//! that an account begins at the first failure and not at the first suspicion.
//!
//! Not here: whose fault it was; the lines of the transitions in between say that.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::orders::Moment;
use crate::exchange::snapshot::View;
use crate::model::health::PoolStanding;
use crate::model::id::{Label, PoolId, UpstreamId};
use crate::model::outcome::{FailureKind, MethodClass, Outcome};
use crate::model::place::Jurisdiction;
use crate::telemetry::journal::{CostLine, Event, Line, rfc3339, seconds};

/// Between two samples of a pool's counters.
const EVERY: Duration = Duration::from_secs(1);
/// Samples kept: longer than the minute of quiet that ends an incident.
const SAMPLES: usize = 90;
/// Nothing has failed for so long when the detector ends an incident.
const QUIET: Duration = Duration::from_secs(60);

/// Sums over everything that one pool's workers counted; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Totals {
    requests: u64,
    errors: u64,
    broken: u64,
    retries: u64,
    attempts: u64,
    failed_attempts: u64,
    outside_attempts: u64,
    /// While the first candidate was outside the EU.
    outside: Duration,
}

/// Counters as of one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    totals: Totals,
}

/// The books of one pool.
#[derive(Debug, Default)]
struct Account {
    samples: VecDeque<Sample>,
    outside: Duration,
    /// When it was last looked at, and what was so from then on.
    looked: Option<(Instant, Outside)>,
    incident: Option<Sample>,
    /// Since another than the first choice is first.
    away: Option<Sample>,
}

/// The books of all pools.
#[derive(Debug, Default)]
pub struct Incidents {
    accounts: HashMap<Label, Account>,
}

impl Incidents {
    /// Looks at every pool; what is to be told. `standings` are by [`PoolId`].
    pub fn look(&mut self, view: &View, standings: &[PoolStanding], at: Moment) -> Vec<Line> {
        let topology = &view.routing.topology;
        let mut told = Vec::new();
        for ((id, pool), standing) in topology.pools().zip(standings) {
            if !self.accounts.contains_key(&pool.service) {
                self.accounts.insert(pool.service.clone(), Account::default());
            }
            let Some(account) = self.accounts.get_mut(&pool.service) else { continue };
            account.integrate(is_outside(view, id), at.now);
            if account.is_due(standing, is_away(view, id), at.now) {
                let totals = Totals { outside: account.outside, ..Totals::of(view, id) };
                account.take(Sample { at: at.now, totals });
                let lines = account.turn(standing, is_away(view, id), at);
                told.extend(lines.into_iter().map(|line| Line {
                    service: Some(pool.service.to_string()),
                    generation: view.routing.generation.get(),
                    ..line
                }));
            }
        }
        // Each pool has an account by now; more than that are of pools that are gone.
        if self.accounts.len() > topology.pools.len() {
            let names: HashSet<&Label> = topology.pools.iter().map(|pool| &pool.service).collect();
            self.accounts.retain(|name, _| names.contains(name));
        }
        told
    }
}

impl Account {
    fn integrate(&mut self, outside: Outside, now: Instant) {
        match self.looked.replace((now, outside)) {
            Some((since, Outside::Yes)) => self.outside += now.saturating_duration_since(since),
            Some((_, Outside::No)) | None => {}
        }
    }

    fn is_due(&self, standing: &PoolStanding, away: Away, now: Instant) -> bool {
        let turned = standing.incident.is_some() != self.incident.is_some()
            || (away == Away::Yes) != self.away.is_some();
        turned || self.samples.back().is_none_or(|last| now >= last.at + EVERY)
    }

    /// While nothing is counted, the first and the last sample say it all.
    fn take(&mut self, sample: Sample) {
        let mut last = self.samples.iter_mut().rev();
        if let (Some(last), Some(one_before)) = (last.next(), last.next())
            && [last.totals, one_before.totals] == [sample.totals; 2]
        {
            last.at = sample.at;
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The last sample that is no younger than this, or the oldest one.
    fn as_of(&self, at: Instant) -> Option<Sample> {
        let before = self.samples.iter().rev().find(|sample| sample.at <= at);
        before.or(self.samples.front()).copied()
    }

    /// When it last failed, with the counters a moment later: answers that were under way are its own.
    fn end(&self, begin: &Sample, now: Instant) -> Option<Sample> {
        let end = now.checked_sub(QUIET).unwrap_or(now).max(begin.at);
        let after = self.samples.iter().find(|sample| sample.at >= end + EVERY);
        Some(Sample { at: end, ..*after? })
    }

    fn turn(&mut self, standing: &PoolStanding, away: Away, at: Moment) -> Vec<Line> {
        let mut told = Vec::new();
        let began = standing.failing_since.or(standing.incident).unwrap_or(at.now);
        match (standing.incident, self.incident) {
            (Some(_), None) => {
                self.incident = self.as_of(began).map(|sample| Sample { at: began, ..sample });
                told.push(line(Event::IncidentBegan, "incident began".to_owned(), None, at));
            }
            (None, Some(begin)) => {
                self.incident = None;
                let cost = cost(&begin, &self.end(&begin, at.now), at);
                let text = format!(
                    "incident ended lost={} requests={} seconds={} outside_eu_seconds={}",
                    cost.lost, cost.requests, cost.seconds, cost.outside_eu_seconds
                );
                told.push(line(Event::IncidentEnded, text, Some(cost), at));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        match (away, self.away) {
            (Away::Yes, None) => self.away = self.samples.back().copied(),
            (Away::No, Some(left)) => {
                self.away = None;
                let cost = cost(&left, &self.samples.back().copied(), at);
                let text = format!(
                    "back at the first choice seconds={} outside_eu_seconds={}",
                    cost.seconds, cost.outside_eu_seconds
                );
                told.push(line(Event::Returned, text, Some(cost), at));
            }
            (Away::Yes, Some(_)) | (Away::No, None) => {}
        }
        told
    }
}

fn line(event: Event, text: String, cost: Option<CostLine>, at: Moment) -> Line {
    Line { at: rfc3339(at.wall), event, text, cost, ..Line::default() }
}

/// From one sample to the other, or nothing where there is no other.
fn cost(begin: &Sample, end: &Option<Sample>, at: Moment) -> CostLine {
    let end = end.unwrap_or(*begin);
    let (from, to) = (begin.totals, end.totals);
    let since = |pick: fn(&Totals) -> u64| pick(&to).saturating_sub(pick(&from));
    let span = end.at.saturating_duration_since(begin.at);
    let ago = at.now.saturating_duration_since(begin.at);
    CostLine {
        began: rfc3339(at.wall.checked_sub(ago).unwrap_or(at.wall)),
        seconds: seconds(span),
        requests: since(|totals| totals.requests),
        lost: since(|totals| totals.errors) + since(|totals| totals.broken),
        failed_attempts: since(|totals| totals.failed_attempts),
        retries: since(|totals| totals.retries),
        // Samples are a second apart: it was never outside for longer than it lasted.
        outside_eu_seconds: seconds(to.outside.saturating_sub(from.outside).min(span)),
        outside_eu_attempts: since(|totals| totals.outside_attempts),
        attempts: since(|totals| totals.attempts),
    }
}

impl Totals {
    fn of(view: &View, id: PoolId) -> Self {
        let topology = &view.routing.topology;
        let mut totals = Self::default();
        for row in &view.states.pool(id).rows {
            totals.requests += row.answers.iter().map(|count| count.get()).sum::<u64>();
            totals.errors += row.answers[4].get();
            totals.retries += row.retries.get();
        }
        for upstream in &topology.pool(id).upstreams {
            totals.add(view, *upstream);
        }
        totals
    }

    fn add(&mut self, view: &View, upstream: UpstreamId) {
        let rows = &view.states.upstream(upstream).rows;
        let count = |outcome: Outcome| -> u64 {
            let by_class = |class| rows.iter().map(move |row| row.outcome(class, outcome));
            MethodClass::ALL.into_iter().flat_map(by_class).sum()
        };
        let failed: u64 = FailureKind::ALL.into_iter().map(|k| count(Outcome::Failure(k))).sum();
        let all = failed + count(Outcome::Success) + count(Outcome::OriginError);
        self.attempts += all;
        self.failed_attempts += failed;
        // The client had its head already: no retry could mask these.
        self.broken += count(Outcome::Failure(FailureKind::BodyCut))
            + count(Outcome::Failure(FailureKind::BodyStall));
        match view.routing.topology.provider_of(upstream).jurisdiction {
            Jurisdiction::NonEu => self.outside_attempts += all,
            Jurisdiction::Eu => {}
        }
    }
}

/// Whether the first candidate is outside the EU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outside {
    Yes,
    No,
}

fn is_outside(view: &View, id: PoolId) -> Outside {
    let first = view.routing.plan(id).first();
    match first.map(|first| view.routing.topology.provider_of(first).jurisdiction) {
        Some(Jurisdiction::NonEu) => Outside::Yes,
        Some(Jurisdiction::Eu) | None => Outside::No,
    }
}

/// Whether another than the operator's first choice is first, or nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Away {
    Yes,
    No,
}

fn is_away(view: &View, id: PoolId) -> Away {
    let topology = &view.routing.topology;
    let choice = |upstream: UpstreamId| topology.upstream(upstream).preference;
    let best = topology.pool(id).upstreams.iter().map(|upstream| choice(*upstream)).min();
    let first = view.routing.plan(id).first().map(choice);
    if best == first { Away::No } else { Away::Yes }
}

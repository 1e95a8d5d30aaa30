//! What an incident cost: a service's own counters at its beginning and at its end, told as a line
//! of the journal.
//!
//! In: at every look, what the detector says of each pool and what the workers counted. Out: a line
//! when something begins to fail, when it has not failed for a minute, and when a service is back at
//! its first choice after having been elsewhere. Counters are remembered for a minute and a half, so
//! that an account begins at the first failure and not at the first suspicion.
//!
//! What is open outlives a restart: the next process counts on from where this one was. After more than
//! a minute without a process it does not, since nobody knows what happened meanwhile; the journal then
//! has the start of a process in the middle of an incident, and no end.
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
pub(super) const QUIET: Duration = Duration::from_secs(60);

/// Sums over everything that one pool's workers counted; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) broken: u64,
    pub(super) retries: u64,
    pub(super) attempts: u64,
    pub(super) failed_attempts: u64,
    pub(super) outside_attempts: u64,
    /// While the first candidate was outside the EU.
    pub(super) outside: Duration,
}

/// Counters as of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub(super) at: Instant,
    pub(super) totals: Totals,
}

/// A sample of a pool's counters, and whether time from then on was outside the EU.
#[derive(Clone, Copy, Debug)]
struct Taken {
    sample: Sample,
    from_then_on: Outside,
}

/// What is open in the books of one pool, for the process after this one.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Whose.
    pub service: Label,
    /// What its counters stand at; those of the next process begin there.
    pub totals: Totals,
    /// As an incident began, if one is open.
    pub incident: Option<Sample>,
    /// As the first choice was left, if it was.
    pub away: Option<Sample>,
}

/// The books of one pool.
#[derive(Debug, Default)]
struct Account {
    samples: VecDeque<Taken>,
    /// What processes before this one counted.
    before: Totals,
    outside: Duration,
    /// When it was last looked at, and what was so from then on.
    looked: Option<(Instant, Outside)>,
    incident: Option<Sample>,
    /// Until when the incident of a process before this one waits for a failure that this one sees.
    awaited: Option<Instant>,
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
            let outside = is_outside(view, id);
            account.integrate(outside, at.now);
            if account.is_due(standing, (is_away(view, id), outside), at.now) {
                let sample = Sample { at: at.now, totals: account.totals(view, id) };
                account.take(Taken { sample, from_then_on: outside });
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

    /// What is open now.
    pub fn open(&self, view: &View) -> Vec<Open> {
        let pools = view.routing.topology.pools();
        let open = pools.filter_map(|(id, pool)| {
            let account = self.accounts.get(&pool.service)?;
            let Account { incident, away, .. } = *account;
            let (service, totals) = (pool.service.clone(), account.totals(view, id));
            (incident.is_some() || away.is_some()).then_some(Open {
                service,
                totals,
                incident,
                away,
            })
        });
        open.collect()
    }

    /// Goes on with what a process before this one left open; what is to be told of it.
    pub fn resume(&mut self, open: &[Open], view: &View, at: Moment) -> Vec<Line> {
        let mut told = Vec::new();
        let is_there = |open: &&Open| {
            view.routing.topology.pools.iter().any(|pool| pool.service == open.service)
        };
        for open in open.iter().filter(is_there) {
            let Open { service, totals, incident, away } = open.clone();
            let (to, what) = match (incident, away) {
                (Some(_), Some(_)) => ("incident", "an incident, away from the first choice"),
                (Some(_), None) => ("incident", "an incident"),
                (None, _) => ("away", "away from the first choice"),
            };
            told.push(Line {
                service: Some(service.to_string()),
                generation: view.routing.generation.get(),
                to: Some(to.to_owned()),
                ..line(Event::Resumed, format!("goes on after a restart: {what}"), None, at)
            });
            let (outside, awaited) = (totals.outside, incident.map(|_| at.now + QUIET));
            let account =
                Account { before: totals, outside, incident, awaited, away, ..Account::default() };
            self.accounts.insert(service, account);
        }
        told
    }
}

impl Account {
    fn totals(&self, view: &View, id: PoolId) -> Totals {
        Totals { outside: self.outside, ..Totals::of(view, id).after(&self.before) }
    }

    /// Whether an incident that is open may end. One of the process before has a minute in which to
    /// be seen again: this one has to find out first what fails.
    fn may_end(&self, now: Instant) -> bool {
        self.awaited.is_none_or(|until| now >= until)
    }

    fn integrate(&mut self, outside: Outside, now: Instant) {
        match self.looked.replace((now, outside)) {
            Some((since, Outside::Yes)) => {
                let more = now.saturating_duration_since(since);
                self.outside = self.outside.saturating_add(more);
            }
            Some((_, Outside::No)) | None => {}
        }
    }

    fn is_due(
        &self,
        standing: &PoolStanding,
        (away, outside): (Away, Outside),
        now: Instant,
    ) -> bool {
        let turned = match (standing.incident, self.incident) {
            (None, Some(_)) => self.may_end(now),
            (Some(_), None) => true,
            (Some(_), Some(_)) | (None, None) => false,
        } || (away == Away::Yes) != self.away.is_some();
        let is_old = |last: &Taken| now >= last.sample.at + EVERY || last.from_then_on != outside;
        turned || self.samples.back().is_none_or(is_old)
    }

    /// While nothing is counted, the first and the last sample say it all.
    fn take(&mut self, taken: Taken) {
        let mut last = self.samples.iter_mut().rev();
        if let (Some(last), Some(one_before)) = (last.next(), last.next())
            && [last.sample.totals, one_before.sample.totals] == [taken.sample.totals; 2]
            && last.from_then_on == taken.from_then_on
        {
            last.sample.at = taken.sample.at;
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(taken);
    }

    /// As of this moment: counters of the last sample that is no younger, or of the oldest one; time
    /// outside the EU to the moment itself, since there is a sample wherever that began or ended.
    fn as_of(&self, at: Instant) -> Option<Sample> {
        let before = self.samples.iter().rev().find(|taken| taken.sample.at <= at);
        let Taken { sample, from_then_on } = *before.or(self.samples.front())?;
        let since = match from_then_on {
            Outside::Yes => at.saturating_duration_since(sample.at),
            Outside::No => Duration::ZERO,
        };
        let outside = sample.totals.outside.saturating_add(since);
        Some(Sample { at, totals: Totals { outside, ..sample.totals } })
    }

    /// When it last failed, with the counters a moment later: answers that were under way are its own.
    fn end(&self, begin: &Sample, now: Instant) -> Option<Sample> {
        let end = now.checked_sub(QUIET).unwrap_or(now).max(begin.at);
        let after = self.samples.iter().find(|taken| taken.sample.at >= end + EVERY)?;
        let outside = self.as_of(end)?.totals.outside;
        Some(Sample { at: end, totals: Totals { outside, ..after.sample.totals } })
    }

    fn turn(&mut self, standing: &PoolStanding, away: Away, at: Moment) -> Vec<Line> {
        let mut told = Vec::new();
        let began = standing.failing_since.or(standing.incident).unwrap_or(at.now);
        match (standing.incident, self.incident) {
            (Some(_), None) => {
                self.incident = self.as_of(began);
                told.push(line(Event::IncidentBegan, "incident began".to_owned(), None, at));
            }
            (None, Some(begin)) if self.may_end(at.now) => {
                (self.incident, self.awaited) = (None, None);
                let cost = cost(&begin, &self.end(&begin, at.now), at);
                let text = format!(
                    "incident ended lost={} requests={} seconds={} outside_eu_seconds={}",
                    cost.lost, cost.requests, cost.seconds, cost.outside_eu_seconds
                );
                told.push(line(Event::IncidentEnded, text, Some(cost), at));
            }
            (Some(_), Some(_)) => self.awaited = None,
            (None, _) => {}
        }
        match (away, self.away) {
            (Away::Yes, None) => self.away = self.as_of(at.now),
            (Away::No, Some(left)) => {
                self.away = None;
                let cost = cost(&left, &self.as_of(at.now), at);
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
        lost: since(|totals| totals.errors).saturating_add(since(|totals| totals.broken)),
        failed_attempts: since(|totals| totals.failed_attempts),
        retries: since(|totals| totals.retries),
        outside_eu_seconds: seconds(to.outside.saturating_sub(from.outside)),
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

    /// Counted after these. Saturating, since they were read from a file.
    fn after(self, before: &Self) -> Self {
        let Self { requests, errors, broken, retries, .. } = self;
        let Self { attempts, failed_attempts, outside_attempts, outside, .. } = self;
        Self {
            requests: requests.saturating_add(before.requests),
            errors: errors.saturating_add(before.errors),
            broken: broken.saturating_add(before.broken),
            retries: retries.saturating_add(before.retries),
            attempts: attempts.saturating_add(before.attempts),
            failed_attempts: failed_attempts.saturating_add(before.failed_attempts),
            outside_attempts: outside_attempts.saturating_add(before.outside_attempts),
            outside: outside.saturating_add(before.outside),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn time_outside_the_eu_is_counted_from_the_first_failure_to_the_last_and_not_a_moment_more() {
        // Failing from 2.6 s to 5 s, found at 3.3 s, when the service left a first choice outside the EU.
        let (mut account, mut told) = (Account::default(), Vec::new());
        let (begin, wall) = (clock::now(), clock::wall());
        let of = |ms| begin + Duration::from_millis(ms);
        for ms in (0..=70_000).step_by(100) {
            let at = Moment { now: of(ms), wall: wall + Duration::from_millis(ms) };
            let fails = (3300..65_000).contains(&ms);
            let standing = PoolStanding {
                incident: fails.then(|| of(3300)),
                failing_since: fails.then(|| of(2600)),
                attribution: None,
                origin_incident: false,
                common_cause: false,
                intended: None,
            };
            let is_away = (3300..68_000).contains(&ms);
            let (away, outside) =
                if is_away { (Away::Yes, Outside::No) } else { (Away::No, Outside::Yes) };
            account.integrate(outside, at.now);
            if account.is_due(&standing, (away, outside), at.now) {
                let totals = Totals { outside: account.outside, ..Totals::default() };
                let sample = Sample { at: at.now, totals };
                account.take(Taken { sample, from_then_on: outside });
                told.extend(account.turn(&standing, away, at));
            }
        }
        let of = |event| told.iter().find(|line| line.event == event).and_then(|l| l.cost.as_ref());
        let ended = of(Event::IncidentEnded).expect("it ended");
        assert_eq!((ended.seconds, ended.outside_eu_seconds), (2.4, 0.7), "{ended:?}");
        let returned = of(Event::Returned).expect("it is back");
        assert_eq!((returned.seconds, returned.outside_eu_seconds), (64.7, 0.0), "{returned:?}");
    }
}

//! A recorded access log through a candidate configuration: when would it have switched?
//!
//! In: a topology and the lines of a log, in the order of time. Out: [`Found`]. The detector is told
//! what the log says of each attempt, as the proxy would have told it; what it decides moves nothing
//! in a recording, so a request that would have gone elsewhere is counted and its upstream goes on
//! being judged by it. A log holds no probes: standbys nobody asked stay as they are.
//!
//! Constant memory: one line at a time, a bounded one, and a bounded list of what happened.

mod combined;
mod line;
mod lines;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

pub use self::line::BadLine;
use self::line::{Tried, Visit};
use self::lines::Next;
use super::cast::Setup;
use super::steer::Steer;
use crate::model::cell::{Cell, HostId};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::outcome::{FailureKind, Ignored, Marker, MethodClass, Outcome};
use crate::model::signal::{Note, Pair, PairEnd, Signal, Subject};
use crate::model::topology::{EndpointHost, Topology};
use crate::rehearse::report;
use crate::request::classify::{self, Acquaintance};
use crate::request::witness::witness;
use crate::routing::matcher::Matcher;

/// Most happenings kept; more are counted.
const MOST_HAPPENINGS: usize = 10_000;
/// The client went away before an answer, as nginx logs it.
const CLIENT_GONE: u16 = 499;
/// Drains of one silence of the log, besides deadlines.
const DRAINS_OF_A_GAP: u32 = 100;

/// What a log says of a configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// Lines read, those that were not understood included.
    pub lines: u64,
    /// Lines that were not understood: how many, and the number of the first, by reason.
    pub not_understood: BTreeMap<String, (u64, u64)>,
    /// Requests of the services of the file.
    pub requests: u64,
    /// Of them, failed in the record.
    pub failed: u64,
    /// Requests whose first attempt would have gone elsewhere; a share counts as a part.
    pub elsewhere: f64,
    /// Of them, failed in the record.
    pub elsewhere_failed: f64,
    /// Time of the first and last request.
    pub span: Option<(Stamp, Stamp)>,
    /// What would have happened, in order.
    pub happenings: Vec<Happening>,
    /// What happened after the list was full.
    pub more: u64,
}

/// Something that would have happened.
#[derive(Clone, Debug, Serialize)]
pub struct Happening {
    /// When.
    pub at: Stamp,
    /// What.
    pub text: String,
}

/// A time, in RFC 3339 to the millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(Timestamp);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a log to its end.
///
/// # Errors
/// When the log cannot be read on; lines that are not understood are counted.
pub fn replay(topology: &Arc<Topology>, mut log: impl BufRead, seed: u64) -> io::Result<Found> {
    let mut rerun = Rerun::new(topology, seed);
    let mut line = Vec::new();
    loop {
        let visit = match lines::next(&mut log, &mut line)? {
            Next::End => break,
            Next::TooLong => Err(BadLine::TooLong),
            // Logs end with an empty line as often as not.
            Next::Line if line.is_empty() => continue,
            Next::Line => {
                std::str::from_utf8(&line).map_err(|_| BadLine::NotText).and_then(line::read)
            }
        };
        rerun.found.lines += 1;
        if let Err(why) = visit.and_then(|visit| rerun.visit(&visit)) {
            let number = rerun.found.lines;
            let entry = rerun.found.not_understood.entry(why.to_string());
            entry.or_insert((0, number)).0 += 1;
        }
    }
    rerun.advance(rerun.now + Duration::from_secs(1));
    Ok(rerun.found)
}

struct Rerun {
    topology: Arc<Topology>,
    matcher: Matcher,
    /// By service, provider or host of the upstream.
    names: HashMap<(PoolId, String), UpstreamId>,
    steer: Steer,
    began: Instant,
    now: Duration,
    pace: Pace,
    found: Found,
}

impl Rerun {
    fn new(topology: &Arc<Topology>, seed: u64) -> Self {
        let began = crate::clock::now();
        Self {
            matcher: Matcher::new(topology),
            names: names(topology),
            steer: Steer::new(topology, &Setup::default(), (seed, began)),
            topology: Arc::clone(topology),
            began,
            now: Duration::ZERO,
            pace: Pace::default(),
            found: Found::default(),
        }
    }

    fn visit(&mut self, visit: &Visit) -> Result<(), BadLine> {
        let pool = self.pool(visit).ok_or(BadLine::Route)?;
        let tried: Option<Vec<UpstreamId>> =
            visit.tried.iter().map(|tried| self.upstream(pool, tried)).collect();
        let tried = tried.ok_or(BadLine::Upstream)?;
        let first = self.found.span.map_or(visit.at, |(Stamp(first), _)| first);
        let last = self.found.span.map_or(visit.at, |(_, Stamp(last))| last.max(visit.at));
        self.found.span = Some((Stamp(first), Stamp(last)));
        let since = Duration::try_from(visit.at.duration_since(first)).unwrap_or_default();
        let now = self.pace.place(since);
        self.advance(now);
        self.found.requests += 1;
        let mut failed_at = None;
        let mut outcome = Outcome::Success;
        for (upstream, tried) in tried.iter().zip(&visit.tried) {
            outcome = self.attempt(*upstream, tried, visit);
            self.pair(failed_at, *upstream, (outcome, visit));
            if matches!(outcome, Outcome::Failure(_)) {
                failed_at = Some(*upstream);
            }
        }
        let failed = matches!(outcome, Outcome::Failure(_));
        self.found.failed += u64::from(failed);
        let elsewhere = tried.first().map_or(0.0, |first| self.elsewhere(pool, *first, visit));
        self.found.elsewhere += elsewhere;
        self.found.elsewhere_failed += if failed { elsewhere } else { 0.0 };
        Ok(())
    }

    /// Whose request it is. A log without hosts is the only service's.
    fn pool(&self, visit: &Visit) -> Option<PoolId> {
        match (visit.host.is_empty(), self.topology.pools.len()) {
            (true, 1) => Some(PoolId::new(0)),
            _ => self.matcher.find(&visit.host, &visit.url_path).map(|found| found.pool),
        }
    }

    /// Which of the service's cells it belongs to.
    fn cell(&self, visit: &Visit) -> Cell {
        let found = self.matcher.find(&visit.host, &visit.url_path);
        let host = found.map_or_else(HostId::default, |found| found.host);
        Cell { class: MethodClass::of(&visit.method), host }
    }

    /// A log that does not say which upstream means the first.
    fn upstream(&self, pool: PoolId, tried: &Tried) -> Option<UpstreamId> {
        if tried.upstream.is_empty() {
            return self.topology.pool(pool).upstreams.first().copied();
        }
        self.names.get(&(pool, tried.upstream.clone())).copied()
    }

    /// Lets time pass up to `to`.
    fn advance(&mut self, to: Duration) {
        let to = to.max(self.now);
        let calm = ((to - self.now) / DRAINS_OF_A_GAP).max(Duration::from_millis(100));
        while self.steer.due() <= to {
            let due = self.steer.due();
            let is_calm = !self.steer.in_doubt() && !self.steer.has_evidence();
            let wait = if is_calm { calm } else { Duration::ZERO };
            let deadline = self.steer.deadline().filter(|deadline| *deadline > due);
            let at = due.max((self.now + wait).min(deadline.unwrap_or(to)).min(to));
            self.now = at;
            self.drain();
        }
        self.now = to;
    }

    fn drain(&mut self) {
        let first = self.found.span.map_or(Timestamp::UNIX_EPOCH, |(Stamp(first), _)| first);
        for transition in self.steer.drain(self.now).transitions {
            let Some(text) = report::transition_text(&self.topology, &transition) else { continue };
            if self.found.happenings.len() == MOST_HAPPENINGS {
                self.found.more += 1;
                continue;
            }
            let at = Stamp(first.checked_add(self.now).unwrap_or(Timestamp::MAX));
            self.found.happenings.push(Happening { at, text });
        }
    }

    /// Tells the detector of one attempt.
    fn attempt(&mut self, upstream: UpstreamId, tried: &Tried, visit: &Visit) -> Outcome {
        let marker = match tried.marked {
            None => Marker::Unconfigured,
            Some(true) => Marker::Present,
            Some(false) => Marker::Absent,
        };
        let index = upstream.index();
        let flags = self.steer.flags(index);
        let code = tried.status.and_then(|status| http::StatusCode::from_u16(status).ok());
        let outcome = match code {
            _ if visit.status == CLIENT_GONE => Outcome::Ignored(Ignored::ClientGone),
            None => Outcome::Failure(FailureKind::BrokeOff),
            Some(_) if tried.head_took.is_some_and(|took| took > flags.late_after) => {
                Outcome::Failure(FailureKind::Late)
            }
            Some(code) => classify::head(code, marker, flags.trust, || Acquaintance::Stranger),
        };
        let habits = &self.topology.provider_of(upstream).habits;
        // The log says nothing of fields: its statuses alone are looked at.
        let (outcome, judged) = match code {
            Some(code) => classify::with_habits((outcome, marker), code, &HeaderMap::new(), habits),
            None => (outcome, marker),
        };
        if let (Some(code), Some(took)) = (code, tried.head_took) {
            let expected = classify::is_markable(code).then_some(marker);
            self.steer.head(index, took, expected);
        }
        let cell = self.cell(visit);
        self.steer.count(self.now, index, (cell, outcome));
        let subject = match outcome {
            Outcome::Failure(kind) => Subject::Failure(kind),
            Outcome::OriginError => Subject::OriginError,
            Outcome::Success | Outcome::Ignored(_) => return outcome,
        };
        let witness = witness(visit.client, &visit.method, &visit.url_path);
        let at = self.began + self.now;
        let marker = judged;
        self.steer.tell(Signal::Note(Note { upstream, at, subject, witness, cell, marker }));
        outcome
    }

    /// The second half of a pair: the same request, known at two upstreams.
    fn pair(
        &mut self,
        first: Option<UpstreamId>,
        second: UpstreamId,
        (outcome, visit): (Outcome, &Visit),
    ) {
        let Some(first) = first.filter(|first| *first != second) else { return };
        let second_went = match outcome {
            Outcome::Success => PairEnd::Succeeded,
            Outcome::OriginError | Outcome::Failure(_) => PairEnd::FailedToo,
            Outcome::Ignored(_) => return,
        };
        let (at, cell) = (self.began + self.now, self.cell(visit));
        self.steer.tell(Signal::Pair(Pair { first, second, second_went, at, cell }));
    }

    /// The share of such a request that the plan gives to others than the one it went to.
    fn elsewhere(&self, pool: PoolId, went: UpstreamId, visit: &Visit) -> f64 {
        let plan = self.steer.plan(pool.index()).of_cell(self.cell(visit));
        let share = plan.candidate(went).map(|it| match MethodClass::of(&visit.method) {
            MethodClass::Safe => it.safe,
            MethodClass::Unsafe => it.unsafe_,
        });
        1.0 - share.map_or(0.0, |share| share.fraction())
    }
}

/// Every way in which a log may name an upstream.
fn names(topology: &Topology) -> HashMap<(PoolId, String), UpstreamId> {
    let mut names = HashMap::new();
    for (id, upstream) in topology.upstreams() {
        let host = match &upstream.endpoint.host {
            EndpointHost::Name(name) => name.to_string(),
            EndpointHost::Address(address) => address.to_string(),
        };
        let with_port = format!("{host}:{}", upstream.endpoint.port);
        let provider = topology.provider(upstream.provider).name.to_string();
        for name in [provider, host, with_port, upstream.endpoint.authority()] {
            names.entry((upstream.pool, name)).or_insert(id);
        }
    }
    names
}

/// Most logs tell time in whole seconds. Requests of one second are spread over it, as many as there
/// were in the second before being taken for its length; nothing has to be kept for that.
#[derive(Debug, Default)]
struct Pace {
    second: u64,
    /// Requests of this second so far, and of the one before.
    counts: [u32; 2],
}

impl Pace {
    fn place(&mut self, at: Duration) -> Duration {
        if at.as_secs() != self.second {
            self.second = at.as_secs();
            self.counts = [0, self.counts[0]];
        }
        self.counts[0] = self.counts[0].saturating_add(1);
        if at.subsec_nanos() != 0 {
            return at;
        }
        let part = f64::from(self.counts[0] - 1) / f64::from(self.counts[1].max(1));
        at + Duration::from_secs_f64(part.min(0.999))
    }
}

#[cfg(test)]
mod tests;

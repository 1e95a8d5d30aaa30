//! Parts of a pool's requests that are judged by themselves.
//!
//! Where one slice of an upstream's requests fails while the rest goes well ([`super::super::cells`]),
//! a part splits off: a pool of the same upstreams, which begins with all that the pool knows, gets the
//! slice's evidence from then on, and has its own scores, blame, holds and plan. The pool itself goes
//! on with the rest. So nothing has to be said twice: a slice is left, tried and brought back by the
//! same rules as everything else.
//!
//! What is out for the pool is out for its parts. A part ends once nothing of it has been amiss for
//! [`ENDS_AFTER`]; a change of the service's hosts or upstreams ends it too.
//!
//! Not here: which slice ([`super::super::cells`]), which plan a request goes by
//! ([`PoolPlan::of_cell`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Context, PoolWatch};
use crate::decide::admission::is_overload;
use crate::decide::cusum::Failure;
use crate::model::cell::{Cell, HostId, Slice};
use crate::model::health::{Health, HealthTag, IncidentEdge, Transition};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::operator::Override;
use crate::model::plan::PoolPlan;
use crate::model::realm::Realms;
use crate::model::signal::{
    Counts, DURATION_BUCKETS, HostCounts, HostSample, Note, OriginReport, Pair, ProbeReport,
    Sample, Subject,
};
use crate::model::topology::Pool;

/// Parts of one pool, at most. A further slice is judged with the rest.
const MOST: usize = 4;
/// As long as an ejection counts towards the next hold.
const ENDS_AFTER: Duration = Duration::from_secs(30 * 60);

/// A part of a pool's requests that is judged by itself.
#[derive(Clone, Debug)]
pub struct Part {
    slice: Slice,
    watch: PoolWatch,
    /// By place in the pool: what was counted of the slice since the last sample.
    counted: Vec<Counts>,
    calm_since: Option<Instant>,
}

impl Part {
    /// When something is due even if nothing is heard.
    pub(super) fn deadline(&self, context: &Context) -> Option<Instant> {
        self.watch.deadline(context)
    }
}

impl PoolWatch {
    fn part_of(&mut self, cell: Cell) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.slice.holds(cell))
    }

    /// What was counted for one host; before the sample that it is a part of.
    pub fn host_sample(&mut self, place: usize, sample: &HostSample) {
        for class in crate::model::outcome::MethodClass::ALL {
            let (cell, class) = (Cell { class, host: sample.host }, class.index());
            let HostCounts { successes, origin_errors, failures } = sample.counts;
            if let Some(part) = self.part_of(cell) {
                let counts = &mut part.counted[place];
                counts.successes[class] += successes[class];
                counts.origin_errors[class] += origin_errors[class];
                counts.failures[class] += failures[class];
            } else {
                let good = successes[class].saturating_add(origin_errors[class]);
                self.watches[place].cells.count(cell, good, failures[class]);
            }
        }
    }

    /// Counters since the last drain: each part's own go to it.
    pub fn sample(&mut self, place: usize, sample: &Sample, now: Instant) {
        if self.hosts.len() < 2 {
            let Counts { successes, origin_errors, failures, .. } = sample.counts;
            let counts = HostCounts { successes, origin_errors, failures };
            let (upstream, host) = (sample.upstream, HostId::default());
            self.host_sample(place, &HostSample { upstream, host, counts });
        }
        let mut rest = *sample;
        for part in &mut self.parts {
            let counts = std::mem::take(&mut part.counted[place]);
            if counts != Counts::default() {
                rest.counts = without(&rest.counts, &counts);
                let durations = [0; DURATION_BUCKETS];
                let own = Sample { upstream: sample.upstream, counts, durations };
                part.watch.watches[place].sample(&own, now);
            }
        }
        self.watches[place].sample(&rest, now);
        if let Some(drill) = &mut self.drill {
            drill.sample(sample);
        }
        self.origin.sample(sample, now);
    }

    /// One failure, or one error of the origin's.
    pub fn note(&mut self, place: usize, note: &Note) {
        self.origin.note(note);
        if let Some(part) = self.part_of(note.cell) {
            part.watch.watches[place].note(note);
            return;
        }
        let watch = &mut self.watches[place];
        watch.note(note);
        let excused = |kind| watch.is_limited() && is_overload(kind);
        if let Subject::Failure(kind) = note.subject
            && !excused(kind)
        {
            watch.cells.note(note.cell, Failure { at: note.at, kind, witness: note.witness });
        }
    }

    /// One retried request, weighed at the next conclusion.
    pub fn pair(&mut self, pair: &Pair) {
        match self.part_of(pair.cell) {
            Some(part) => part.watch.keep_pair(pair),
            None => self.keep_pair(pair),
        }
    }

    /// One probe, which is about every part.
    pub fn probe(&mut self, place: usize, report: &ProbeReport) {
        self.watches[place].probe(report);
        for part in &mut self.parts {
            part.watch.watches[place].probe(report);
        }
    }

    /// One probe of the origin.
    pub fn report(&mut self, report: &OriginReport) {
        self.origin.report(report);
        for part in &mut self.parts {
            part.watch.origin.report(report);
        }
    }

    /// Splits off what fails by itself.
    pub(super) fn split(&mut self) {
        for place in 0..self.watches.len() {
            let watch = &mut self.watches[place];
            let is_able = matches!(watch.health, Health::Healthy | Health::Suspect);
            if !is_able || watch.admin.is_out() || self.parts.len() == MOST {
                continue;
            }
            let Some((slice, scores)) = watch.culprit() else { continue };
            let counted = vec![Counts::default(); self.watches.len()];
            let mut part = self.clone();
            part.parts.clear();
            (part.drill, part.drilled) = (None, None);
            part.watches[place].begin_with(scores);
            for watch in &mut part.watches {
                watch.cells.reset();
                watch.admission = None;
            }
            self.watches[place].forget_scores();
            self.watches.iter_mut().for_each(|watch| watch.cells.reset());
            self.parts.push(Part { slice, watch: part, counted, calm_since: None });
        }
    }

    /// Draws conclusions about every part.
    pub(super) fn decide_parts(&mut self, context: &Context, out: &mut Vec<Transition>) {
        let ceiling: Vec<Health> = self.watches.iter().map(|watch| watch.health).collect();
        for part in &mut self.parts {
            part.watch.ceiling.clone_from(&ceiling);
            let mut said = Vec::new();
            part.watch.decide(context, &mut said);
            let slice = part.slice;
            out.extend(said.into_iter().filter_map(|it| of_part(it, slice, context.id)));
            part.calm_since = part.calm_since.filter(|_| part.watch.is_calm());
            if part.watch.is_calm() {
                part.calm_since.get_or_insert(context.now);
            }
        }
        let lasts = |part: &Part| part.calm_since.is_none_or(|at| context.now < at + ENDS_AFTER);
        self.parts.retain(lasts);
    }

    fn is_calm(&self) -> bool {
        self.incident.is_none() && self.watches.iter().all(|watch| watch.health == Health::Healthy)
    }

    /// Parts obey the operator too; the pool tells of it.
    pub(super) fn obey_parts(&mut self, overrides: &[Override], context: &Context) {
        for part in &mut self.parts {
            part.watch.obey(overrides, context, &mut Vec::new());
        }
    }

    /// After a reload: the same upstreams under their new numbers.
    pub fn renumber(&mut self, realms: &Realms, to: &impl Fn(UpstreamId) -> Option<UpstreamId>) {
        self.course.renumber(realms, to);
        for part in &mut self.parts {
            part.watch.course.renumber(realms, to);
        }
    }

    /// After a reload: parts go on where the service's hosts and upstreams are as they were.
    pub(super) fn adopt_parts(&mut self, pool: &Pool, now: Instant, same_hosts: bool) {
        let order: Vec<_> = self.watches.iter().map(|watch| watch.key.clone()).collect();
        let is_same = |part: &Part| {
            same_hosts && part.watch.watches.iter().map(|watch| &watch.key).eq(&order)
        };
        self.parts.retain(is_same);
        for part in &mut self.parts {
            let mut watches = std::mem::take(&mut part.watch.watches);
            watches.iter_mut().for_each(|watch| watch.adopt(&pool.rules.failover));
            part.watch.adopt(watches, pool, now);
        }
    }

    /// What routing goes by, with the plans of the parts that differ. An unchanged plan is the same
    /// `Arc` as before.
    pub fn publish(&mut self) {
        let own = &self.course.plan;
        let differs = |part: &&Part| *part.watch.course.plan != **own;
        let parts: Vec<(Slice, PoolPlan)> = (self.parts.iter().filter(differs))
            .map(|part| (part.slice, PoolPlan::clone(&part.watch.course.plan)))
            .collect();
        if parts.is_empty() {
            if !Arc::ptr_eq(&self.published, own) {
                self.published = Arc::clone(own);
            }
            return;
        }
        let whole = PoolPlan::clone(own).with_parts(self.course.realms(), parts);
        if *self.published != whole {
            self.published = Arc::new(whole);
        }
    }

    /// This pool and its parts.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.parts.iter().map(|part| &part.watch))
    }
}

/// What a part says, as the pool says it: that a slice left an upstream, or is back there. Whose
/// fault it is concerns everybody.
fn of_part(said: Transition, slice: Slice, pool: PoolId) -> Option<Transition> {
    let moved = |upstream, edge, at, reason| {
        Some(Transition::Slice { pool, slice, edge, upstream, at, reason })
    };
    match said {
        Transition::Health { upstream, to: HealthTag::Ejected, at, reason, .. } => {
            moved(upstream, IncidentEdge::Raised, at, reason)
        }
        Transition::Health {
            upstream,
            from: HealthTag::Ramping,
            to: HealthTag::Healthy,
            at,
            reason,
            ..
        } => moved(upstream, IncidentEdge::Ended, at, reason),
        Transition::Withheld { .. } | Transition::OriginIncident { .. } => Some(said),
        Transition::Health { .. }
        | Transition::Failover { .. }
        | Transition::Failback { .. }
        | Transition::Mode { .. }
        | Transition::Ordered { .. }
        | Transition::GrayAlert { .. }
        | Transition::Slice { .. }
        | Transition::Provider { .. }
        | Transition::CommonCause { .. }
        | Transition::Limit { .. } => None,
    }
}

fn without(all: &Counts, part: &Counts) -> Counts {
    let less = |all: [u32; 2], part: [u32; 2]| {
        [all[0].saturating_sub(part[0]), all[1].saturating_sub(part[1])]
    };
    Counts {
        successes: less(all.successes, part.successes),
        origin_errors: less(all.origin_errors, part.origin_errors),
        failures: less(all.failures, part.failures),
        ..*all
    }
}

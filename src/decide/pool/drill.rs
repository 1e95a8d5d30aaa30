//! A pool's drill: begun only while all is well, ended by the first thing that is not.

use std::time::{Duration, Instant};

use super::{Context, PoolWatch};
use crate::decide::course::Occasion;
use crate::decide::drill::Drill;
use crate::decide::plan;
use crate::model::drill::{DrillEnd, DrillStanding, Trouble};
use crate::model::health::{Health, Transition};
use crate::model::id::UpstreamId;
use crate::model::operator::AdminState;
use crate::model::topology::FailoverMode;
use crate::model::unit::Permille;

impl PoolWatch {
    /// Begins one with whoever would be first if the first were left.
    ///
    /// # Errors
    /// What stands against it.
    pub fn begin_drill(
        &mut self,
        (share, lasts): (Permille, Duration),
        context: &Context,
        out: &mut Vec<Transition>,
    ) -> Result<DrillStanding, Trouble> {
        self.wake();
        let (from, to) = self.rehearsed(context)?;
        let drill = Drill::begin(from, to, share, context.now + lasts);
        self.drill = Some(drill);
        self.drilled = None;
        self.replan(Occasion::Decision, context, out);
        Ok(drill.standing(None))
    }

    /// Ends it so, if one is on.
    pub fn end_drill(&mut self, end: DrillEnd, context: &Context, out: &mut Vec<Transition>) {
        if let Some(drill) = self.drill.take() {
            self.wake();
            self.drilled = Some(drill.standing(Some(end)));
            self.replan(Occasion::Decision, context, out);
        }
    }

    /// One that a new configuration ended: under other numbers nobody can go on.
    pub(super) fn drop_drill(&mut self) {
        if let Some(drill) = self.drill.take() {
            self.drilled = Some(drill.standing(Some(DrillEnd::Trouble(Trouble::Reload))));
        }
    }

    /// Ends it if anything speaks against it; a replan follows.
    pub(super) fn judge_drill(&mut self, context: &Context) {
        let Some(drill) = &self.drill else { return };
        let trouble = match self.rehearsed(context) {
            Err(trouble) => Some(trouble),
            Ok(pair) if pair != (drill.from, drill.to) => Some(Trouble::Moved),
            Ok(_) => None,
        };
        let end = match (drill.end(context.now), trouble) {
            // What it was for comes first: a fallback in doubt because it fails is its result.
            (Some(end @ (DrillEnd::Failures | DrillEnd::Latency)), _) => end,
            (_, Some(trouble)) => DrillEnd::Trouble(trouble),
            (Some(end), None) => end,
            (None, None) => return,
        };
        self.drilled = Some(drill.standing(Some(end)));
        self.drill = None;
    }

    /// For people: the one that is on.
    pub fn drill(&self) -> Option<(DrillStanding, Instant)> {
        self.drill.as_ref().map(|drill| (drill.standing(None), drill.until))
    }

    /// Who is first, and who would be if that one were left; what stands against a drill, if
    /// anything does.
    fn rehearsed(&self, context: &Context) -> Result<(UpstreamId, UpstreamId), Trouble> {
        let rules = &context.pool().rules;
        let admins = || self.watches.iter().map(|watch| watch.admin);
        if rules.failover.mode == FailoverMode::Observe {
            return Err(Trouble::Observed);
        } else if self.frozen.is_some() {
            return Err(Trouble::CommonCause);
        } else if admins().any(|admin| admin != AdminState::Auto) {
            return Err(Trouble::Ordered);
        } else if self.incident.is_some() || self.origin.is_at_fault() || !self.parts.is_empty() {
            return Err(Trouble::Incident);
        } else if !self.watches.iter().all(|watch| watch.health == Health::Healthy) {
            return Err(Trouble::Unhealthy);
        } else if self.watches.iter().any(|watch| watch.is_limited()) {
            return Err(Trouble::Limited);
        }
        let from = self.course.intended.first().ok_or(Trouble::NoFallback)?;
        let left = plan::compile(&self.course.layout().without(from));
        Ok((from, left.first().ok_or(Trouble::NoFallback)?))
    }
}

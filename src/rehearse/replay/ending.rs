//! How a simulated request ends for its client, and what would have become of it without failover.

use std::time::Duration;

use super::Replay;
use crate::model::id::UpstreamId;
use crate::model::outcome::MethodClass;
use crate::rehearse::tally::Ending;
use crate::rehearse::traffic::Request;
use crate::rehearse::world::Cause;

impl Replay {
    /// The client has its answer, by whom and for better or worse.
    pub(super) fn end_of(
        &mut self,
        request: &Request,
        began: Duration,
        (by, cause): (Option<usize>, Cause),
    ) {
        let ending = match cause {
            Cause::Nobody => Ending::Well,
            Cause::Overload => Ending::Lost,
            Cause::Upstream if self.anyone_else_could(by, request) => Ending::Lost,
            Cause::Upstream | Cause::Origin => Ending::Hopeless,
        };
        let is_safe = MethodClass::of(request.method()) == MethodClass::Safe;
        match ending {
            Ending::Well => {}
            Ending::Lost => {
                self.tally.lose(began);
                self.tally.lost_safe += u64::from(is_safe);
            }
            Ending::Hopeless => self.tally.hopeless += 1,
        }
        if ending != Ending::Well && !request.origin_fails {
            self.tally.last_bad = Some(self.now);
        }
        if let Some(cell) = self.tally.series.at(began) {
            cell.lost += f32::from(u8::from(ending == Ending::Lost));
            by.into_iter().for_each(|by| cell.served[self.places[by]] += 1.0);
        }
        if let Some(by) = by {
            self.tally.served_by[by] += 1;
            self.count_middle(began, by, 1);
        }
        if (self.trigger.0..self.trigger.1).contains(&began) {
            self.tally.during.0 += 1;
            self.tally.during.1 += u64::from(ending == Ending::Well);
        }
    }

    /// Whether a permitted upstream stood ready that would have served this request.
    fn anyone_else_could(&self, by: Option<usize>, request: &Request) -> bool {
        let could =
            |upstream: usize| self.world.harm(self.places[upstream], self.now, Some(request)) < 0.5;
        let pool = &self.topology.pools[request.service()];
        let mut others = pool.upstreams.iter().map(|upstream| upstream.index());
        others.any(|upstream| Some(upstream) != by && could(upstream))
    }

    /// What one more request would have lost, had everything gone to the first upstream.
    pub(super) fn lost_without(&self) -> f64 {
        let harm =
            |upstream: &UpstreamId| self.world.harm(self.places[upstream.index()], self.now, None);
        // Every service has the same providers in the same order.
        match self.topology.pools.first().and_then(|pool| pool.upstreams.split_first()) {
            Some((first, others)) => {
                let harmed = harm(first);
                // Nothing is lost that nobody could have served.
                if harmed > 0.0 && others.iter().any(|other| harm(other) < 0.5) {
                    harmed
                } else {
                    0.0
                }
            }
            None => 0.0,
        }
    }
}

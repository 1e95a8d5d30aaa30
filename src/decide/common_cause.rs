//! Does everything fail at once, so that it must be ourselves?
//!
//! In: failed and successful contacts with every upstream, look-ups of their names, and connections
//! to control targets, which have nothing to do with any provider. Out: whether our own network or
//! resolver is at fault, and by what.
//!
//! **Connections**: upstreams that share nothing fail at their front doors within 5 s, no upstream
//! answers anything meanwhile, and every control target fails too. One that answers vetoes.
//!
//! **Names**: look-ups fail for upstreams that share nothing, and for at least half of all names.
//! Attempts may well succeed meanwhile, at addresses that were kept.
//!
//! What follows is a frozen plan ([`super::pool`]): leaving would help nobody, and returning would
//! be by chance.

use std::time::{Duration, Instant};

use crate::model::health::Ground;
use crate::model::id::UpstreamId;
use crate::model::signal::Reply;
use crate::model::topology::Topology;

/// Front doors that fail within this time fail together.
const TOGETHER: Duration = Duration::from_secs(5);
/// A look-up says something for this long: twice the longest time between two that fail.
const NAME_LASTS: Duration = Duration::from_secs(60);
/// What was found lasts until so long after it was last seen.
const LASTS: Duration = Duration::from_secs(10);

/// What speaks for and against a common cause.
#[derive(Debug, Default)]
pub struct CommonCause {
    /// By `UpstreamId`.
    contacts: Vec<Contact>,
    control: Option<(Instant, Reply)>,
    control_answered: Option<Instant>,
    /// When any upstream was heard of last.
    heard: Option<Instant>,
    found: Option<Found>,
}

/// The last word of one upstream.
#[derive(Clone, Copy, Debug, Default)]
struct Contact {
    /// Its front door failed, and nothing was heard of it since.
    shut: Option<Instant>,
    name: Option<(Instant, Reply)>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    ground: Ground,
    last: Instant,
}

impl CommonCause {
    /// For so many upstreams; what was found stays, what was seen of each upstream is forgotten.
    pub fn adopt(&mut self, upstreams: usize) {
        self.contacts.clear();
        self.contacts.resize(upstreams, Contact::default());
    }

    /// An upstream's front door failed.
    pub fn shut(&mut self, upstream: UpstreamId, at: Instant) {
        if let Some(contact) = self.contacts.get_mut(upstream.index()) {
            contact.shut = Some(at);
        }
    }

    /// Something was heard of an upstream, good or bad.
    pub fn heard(&mut self, upstream: UpstreamId, at: Instant) {
        self.heard = self.heard.max(Some(at));
        if let Some(contact) = self.contacts.get_mut(upstream.index()) {
            contact.shut = None;
        }
    }

    /// Its name was looked up.
    pub fn looked_up(&mut self, upstream: UpstreamId, at: Instant, reply: Reply) {
        if let Some(contact) = self.contacts.get_mut(upstream.index()) {
            contact.name = Some((at, reply));
        }
    }

    /// A control target was asked.
    pub fn control(&mut self, at: Instant, reply: Reply) {
        self.control = Some((at, reply));
        if reply == Reply::Came {
            self.control_answered = Some(at);
        }
    }

    /// Whether it is ourselves, as of now.
    pub fn decide(&mut self, topology: &Topology, now: Instant) -> Option<Ground> {
        let ground = if self.connections_fail(topology, now) {
            Some(Ground::Connections)
        } else if self.names_fail(topology, now) {
            Some(Ground::Names)
        } else {
            None
        };
        match ground {
            Some(ground) => self.found = Some(Found { ground, last: now }),
            // A control target that answers proves at once that the network is there.
            None if self.is_refuted() => self.found = None,
            None => self.found = self.found.filter(|found| now < found.last + LASTS),
        }
        self.ground()
    }

    /// What was found last.
    pub fn ground(&self) -> Option<Ground> {
        self.found.map(|found| found.ground)
    }

    /// When something is due even if nothing is heard.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.found.map(|found| found.last + LASTS).filter(|at| *at > now)
    }

    fn is_refuted(&self) -> bool {
        self.found.is_some_and(|found| {
            found.ground == Ground::Connections
                && self.control_answered.is_some_and(|answered| answered > found.last)
        })
    }

    fn connections_fail(&self, topology: &Topology, now: Instant) -> bool {
        let shut = |contact: &Contact| contact.shut.filter(|at| now < *at + TOGETHER);
        let Some(first) = self.contacts.iter().filter_map(shut).min() else { return false };
        let control_fails = self.control.is_some_and(|(at, reply)| {
            reply == Reply::Missing && at >= first && now < at + TOGETHER
        });
        // An upstream that is not under suspicion is a control target too.
        let answered = self.control_answered.max(self.heard);
        let vetoed = answered.is_some_and(|answered| answered >= first);
        control_fails
            && !vetoed
            && are_independent(topology, &self.those(|contact| shut(contact).is_some()))
    }

    fn names_fail(&self, topology: &Topology, now: Instant) -> bool {
        let recent = |contact: &Contact| contact.name.filter(|(at, _)| now < *at + NAME_LASTS);
        let asked = self.contacts.iter().filter(|contact| recent(contact).is_some()).count();
        let failed =
            self.those(|contact| recent(contact).is_some_and(|(_, it)| it == Reply::Missing));
        failed.len() * 2 >= asked && are_independent(topology, &failed)
    }

    fn those(&self, are: impl Fn(&Contact) -> bool) -> Vec<UpstreamId> {
        let all = self.contacts.iter().enumerate();
        all.filter(|(_, contact)| are(contact)).map(|(index, _)| UpstreamId::new(index)).collect()
    }
}

/// Whether at least two of them share nothing. The first one is enough to ask: if it shares fate
/// with all others, so that nothing can be said, a false "no" only delays the conclusion.
fn are_independent(topology: &Topology, upstreams: &[UpstreamId]) -> bool {
    upstreams.split_first().is_some_and(|(first, others)| {
        others.iter().any(|other| !topology.share_fate(*first, *other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::{start, three, topology};
    use crate::model::place::Residency;
    use crate::model::topology::Rules;

    const FIRST: UpstreamId = UpstreamId::new(0);
    const SECOND: UpstreamId = UpstreamId::new(1);
    const THIRD: UpstreamId = UpstreamId::new(2);

    fn of(topology: &Topology) -> CommonCause {
        let mut cause = CommonCause::default();
        cause.adopt(topology.upstreams.len());
        cause
    }

    #[test]
    fn two_front_doors_and_every_control_target_make_it_ours() {
        let (topology, now) = (three(), start());
        let second = Duration::from_secs(1);
        let mut cause = of(&topology);
        cause.shut(FIRST, now);
        cause.shut(SECOND, now + second);
        assert_eq!(cause.decide(&topology, now + second), None, "no control target was asked");
        cause.control(now + second, Reply::Missing);
        assert_eq!(cause.decide(&topology, now + second), Some(Ground::Connections));
        cause.control(now + 2 * second, Reply::Came);
        assert_eq!(cause.decide(&topology, now + 2 * second), None, "one that answers vetoes");
    }

    #[test]
    fn one_front_door_or_two_of_one_substrate_are_not_ours() {
        let shared = topology(
            &[("bunny", "SI", &["white"]), ("stackit", "DE", &["white"])],
            Residency::Any,
            Rules::default(),
        );
        let now = start();
        for (topology, shut) in [(three(), vec![FIRST]), (shared, vec![FIRST, SECOND])] {
            let mut cause = of(&topology);
            shut.iter().for_each(|upstream| cause.shut(*upstream, now));
            cause.control(now, Reply::Missing);
            assert_eq!(cause.decide(&topology, now), None, "{shut:?}");
        }
    }

    #[test]
    fn whoever_is_heard_again_is_not_cut_off() {
        let (topology, now) = (three(), start());
        let mut cause = of(&topology);
        cause.shut(FIRST, now);
        cause.shut(SECOND, now);
        cause.control(now, Reply::Missing);
        cause.heard(SECOND, now);
        assert_eq!(cause.decide(&topology, now), None);
    }

    #[test]
    fn an_upstream_that_still_answers_vetoes_as_a_control_target_does() {
        let (topology, now) = (three(), start());
        let second = Duration::from_secs(1);
        let mut cause = of(&topology);
        cause.heard(THIRD, now);
        cause.shut(FIRST, now + second);
        cause.shut(SECOND, now + second);
        cause.control(now + second, Reply::Missing);
        cause.heard(THIRD, now + 2 * second);
        assert_eq!(cause.decide(&topology, now + 2 * second), None);
        cause.shut(FIRST, now + 3 * second);
        cause.shut(SECOND, now + 3 * second);
        cause.control(now + 3 * second, Reply::Missing);
        let found = cause.decide(&topology, now + 3 * second);
        assert_eq!(found, Some(Ground::Connections), "what was heard before proves nothing");
    }

    #[test]
    fn half_of_all_names_must_fail_and_share_nothing() {
        let (topology, now) = (three(), start());
        let mut cause = of(&topology);
        cause.looked_up(FIRST, now, Reply::Missing);
        assert_eq!(cause.decide(&topology, now), None, "one name is its owner's business");
        cause.looked_up(SECOND, now, Reply::Came);
        cause.looked_up(THIRD, now, Reply::Missing);
        assert_eq!(cause.decide(&topology, now), Some(Ground::Names), "two of three");
        cause.looked_up(THIRD, now, Reply::Came);
        assert_eq!(cause.decide(&topology, now + LASTS / 2), Some(Ground::Names), "for a while");
        assert_eq!(cause.decide(&topology, now + LASTS), None);
        assert_eq!(cause.deadline(now + LASTS), None);
    }
}

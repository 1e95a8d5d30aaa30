//! In which order are a pool's upstreams asked?
//!
//! The operator's first choice, while it serves. Then: those not in doubt; under `prefer-eu` every
//! EU upstream before any other; those that share nothing with what failed; then preference and the
//! position in the file.
//!
//! What policy forbids does not exist ([`crate::model::topology`]), so no order can bring it back.

use crate::model::id::UpstreamId;
use crate::model::place::{Jurisdiction, Residency};

/// One upstream, by what its order depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contender {
    /// Who.
    pub upstream: UpstreamId,
    /// Under which law.
    pub jurisdiction: Jurisdiction,
    /// Lower goes first.
    pub preference: u16,
    /// Among those of the same rank.
    pub weight: u16,
    /// What is held against it.
    pub doubt: Doubt,
    /// Whether it shares something with an upstream that failed.
    pub fate: Fate,
}

/// What is held against an upstream that may serve.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Doubt {
    /// Nothing.
    None,
    /// It takes no requests of its own, and a trip stands or its probes fail. Whoever does take
    /// requests is never doubted here: what moves nobody by a verdict must not do so by the order.
    Standing,
}

/// Whether an upstream shares a provider or a substrate with one that failed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fate {
    /// It does not.
    Own,
    /// It does.
    Shared,
}

/// What the order goes by; smaller stands first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Rank {
    left: Left,
    doubt: Doubt,
    law: Law,
    fate: Fate,
    preference: u16,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Left {
    FirstChoice,
    Other,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Law {
    Wanted,
    Unwanted,
}

/// By what a pool orders its upstreams.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The service's rule.
    pub residency: Residency,
    /// The preference of the operator's first choice: the lowest in the pool.
    pub first_choice: u16,
}

impl Order {
    /// The rank of one upstream. Equal ranks share by weight, if they lead.
    pub fn rank(&self, contender: &Contender) -> Rank {
        let preference = contender.preference;
        if self.is_first_choice(contender) {
            let (left, law) = (Left::FirstChoice, Law::Wanted);
            return Rank { left, doubt: Doubt::None, law, fate: Fate::Own, preference };
        }
        let law = match (self.residency, contender.jurisdiction) {
            (Residency::PreferEu, Jurisdiction::NonEu) => Law::Unwanted,
            (Residency::PreferEu, Jurisdiction::Eu) | (Residency::Any | Residency::EuOnly, _) => {
                Law::Wanted
            }
        };
        let Contender { doubt, fate, .. } = *contender;
        Rank { left: Left::Other, doubt, law, fate, preference }
    }

    /// Whether the operator put it first.
    pub fn is_first_choice(&self, contender: &Contender) -> bool {
        contender.preference == self.first_choice
    }

    /// The rank that the upstream would have if all were well: the operator's wish, by which a
    /// change of the first candidate is a failover or a failback.
    pub fn wish(&self, contender: &Contender) -> Rank {
        self.rank(&Contender { doubt: Doubt::None, fate: Fate::Own, ..*contender })
    }
}

//! Evidence: what the detector is told, each with the instant it happened.

use std::time::{Duration, Instant};

use super::cell::{Cell, HostId};
use super::id::{PoolId, UpstreamId};
use super::outcome::{FailureKind, Marker};

/// Upper bounds of the duration buckets, in seconds; the last bucket has none.
pub const DURATION_BOUNDS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.175, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// Places in a table of durations.
pub const DURATION_BUCKETS: usize = DURATION_BOUNDS.len() + 1;

/// Counts of what attempts at one upstream came to since the last drain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Successes, by [`MethodClass`](super::outcome::MethodClass).
    pub successes: [u32; 2],
    /// 5xx with the origin marker, by method class.
    pub origin_errors: [u32; 2],
    /// Failures, by method class. Each usually has a [`Note`] too; those that found the evidence
    /// ring full do not.
    pub failures: [u32; 2],
    /// Answers that carried the marker, of those below.
    pub marked: u32,
    /// Answers whose marker could be expected (1xx, 3xx, 206 and 416 are left out).
    pub markable: u32,
}

/// [`Counts`] of one upstream over the time since the previous drain.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whose.
    pub upstream: UpstreamId,
    /// What.
    pub counts: Counts,
    /// Heads that arrived, by how long they took: the buckets of [`DURATION_BOUNDS`], then one more.
    pub durations: [u32; DURATION_BUCKETS],
}

/// What of a [`Sample`] was for one host, where the pool has several. It comes before the sample it is
/// a part of.
#[derive(Clone, Copy, Debug)]
pub struct HostSample {
    /// Whose.
    pub upstream: UpstreamId,
    /// For which host.
    pub host: HostId,
    /// What.
    pub counts: HostCounts,
}

/// What attempts for one host came to, by method class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HostCounts {
    /// As in [`Counts`].
    pub successes: [u32; 2],
    /// As in [`Counts`].
    pub origin_errors: [u32; 2],
    /// As in [`Counts`].
    pub failures: [u32; 2],
}

/// One independent observer of a failure: client prefix (/24 or /48) and URL template, hashed.
/// Two failures with the same witness may have one cause that is nobody else's.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Witness(pub u32);

/// One failure, or one 5xx of the origin's, with what makes it a distinct witness.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// Where it happened.
    pub upstream: UpstreamId,
    /// When it was counted.
    pub at: Instant,
    /// What it was.
    pub subject: Subject,
    /// Who saw it.
    pub witness: Witness,
    /// Of the request.
    pub cell: Cell,
    /// What the answer said of the origin marker; [`Marker::Unconfigured`] where there was none.
    pub marker: Marker,
}

/// What a note is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A failure of the upstream.
    Failure(FailureKind),
    /// A 5xx with the marker: the origin's own.
    OriginError,
}

/// One request's two outcomes at two providers: it failed at `first`, then was tried at `second`.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Where the request failed first.
    pub first: UpstreamId,
    /// Where it was tried next.
    pub second: UpstreamId,
    /// How the second attempt went.
    pub second_went: PairEnd,
    /// When the second attempt was known.
    pub at: Instant,
    /// Of the request.
    pub cell: Cell,
}

/// How the second half of a pair went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PairEnd {
    /// Well: the request itself is not to blame, and neither is the origin.
    Succeeded,
    /// It failed there too (a marked 5xx included: the origin fails through both).
    FailedToo,
}

/// What one probe came to.
#[derive(Clone, Copy, Debug)]
pub struct ProbeReport {
    /// Which upstream was asked.
    pub upstream: UpstreamId,
    /// When the answer was known.
    pub at: Instant,
    /// What it was.
    pub result: ProbeResult,
    /// From the first packet to the verdict.
    pub took: Duration,
}

/// Verdict on one probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbeResult {
    /// As `probe.expect` wants it.
    Passed,
    /// The origin answered with an error and its marker: the provider did its work.
    OriginError,
    /// By the kind of failure; an answer outside `probe.expect` is [`FailureKind::ServerError`].
    Failed(FailureKind),
}

impl ProbeResult {
    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::OriginError => "origin_error",
            Self::Failed(kind) => kind.as_str(),
        }
    }
}

/// What asking the origin itself came to (`probe.origin`).
#[derive(Clone, Copy, Debug)]
pub struct OriginReport {
    /// Whose origin.
    pub pool: PoolId,
    /// When it was known.
    pub at: Instant,
    /// What it was; [`ProbeResult::OriginError`] does not occur: the origin was asked directly.
    pub result: ProbeResult,
}

/// Everything the detector can be told.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// Counters since the last drain.
    Sample(Sample),
    /// The same of one host.
    Host(HostSample),
    /// One failure.
    Note(Note),
    /// One retried request.
    Pair(Pair),
    /// One probe.
    Probe(ProbeReport),
    /// One probe of the origin itself.
    Origin(OriginReport),
    /// One look-up of an upstream's name.
    Resolution(ResolutionReport),
    /// One connection to a control target.
    Control(ControlReport),
}

/// Whether something that was asked for came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// It did.
    Came,
    /// It did not, or was useless.
    Missing,
}

/// What looking up an upstream's name came to.
#[derive(Clone, Copy, Debug)]
pub struct ResolutionReport {
    /// Whose name.
    pub upstream: UpstreamId,
    /// When it was known.
    pub at: Instant,
    /// Whether addresses came.
    pub reply: Reply,
}

/// What connecting to something that has nothing to do with any provider came to: one that answers
/// proves that our own network works.
#[derive(Clone, Copy, Debug)]
pub struct ControlReport {
    /// When it was known.
    pub at: Instant,
    /// Whether a connection came.
    pub reply: Reply,
}

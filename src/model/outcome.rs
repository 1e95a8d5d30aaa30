//! What one attempt at one upstream came to, in closed lists that serve as metric labels.

/// How an attempt failed. *Local* kinds are what we saw ourselves; *remote* ones are what the
/// other side said.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FailureKind {
    /// No address left to dial (local).
    Dns,
    /// Refused, unreachable or timed out while connecting (local).
    Connect,
    /// TLS handshake or certificate (local).
    Tls,
    /// The head is later than max(1 s, 4 × the upstream's p99); counted the moment it is late (local).
    Late,
    /// Reset, GOAWAY or a protocol error before the head was whole (local).
    BrokeOff,
    /// The body ended short or was reset (local).
    BodyCut,
    /// The body stalled or fell under the least rate (local).
    BodyStall,
    /// 500, 502 and other 5xx without the origin marker (remote).
    ServerError,
    /// 503 without the origin marker: perhaps more than it can hold (remote).
    Overloaded,
    /// 504, 521 to 526 and 530: the leg between edge and origin, whoever's fault that is (remote).
    EdgeLeg,
    /// A 2xx without the marker of an upstream whose marker is armed (remote).
    MarkerMissing,
    /// A 403 or 429 without the marker of an upstream whose marker is armed, towards a client that
    /// had a good answer lately (remote).
    Blocked,
}

impl FailureKind {
    /// Every kind, in the order of [`FailureKind::index`].
    pub const ALL: [Self; 12] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Late,
        Self::BrokeOff,
        Self::BodyCut,
        Self::BodyStall,
        Self::ServerError,
        Self::Overloaded,
        Self::EdgeLeg,
        Self::MarkerMissing,
        Self::Blocked,
    ];

    /// Place in [`FailureKind::ALL`], for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As a metric label and in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Late => "late",
            Self::BrokeOff => "broke_off",
            Self::BodyCut => "body_cut",
            Self::BodyStall => "body_stall",
            Self::ServerError => "5xx",
            Self::Overloaded => "503",
            Self::EdgeLeg => "edge_leg",
            Self::MarkerMissing => "marker_missing",
            Self::Blocked => "blocked",
        }
    }

    /// Whether it can only happen on the way to the upstream's own front door, which an origin
    /// behind an edge cannot cause.
    pub const fn is_front_door(self) -> bool {
        matches!(self, Self::Connect | Self::Tls)
    }

    /// Whether it is a 5xx status, whose marker says who spoke.
    pub const fn is_status(self) -> bool {
        matches!(self, Self::ServerError | Self::Overloaded | Self::EdgeLeg)
    }
}

/// Why an attempt says nothing about its upstream.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ignored {
    /// The client went away first.
    ClientGone,
    /// One of our own limits ended it: body too large, total deadline with a prompt upstream.
    OwnLimit,
    /// A reused connection ended before the first byte: the everyday keep-alive race.
    StaleConnection,
    /// A rescue or an ejection made it pointless and we cancelled it.
    Cancelled,
    /// For a host name that only a wildcard covers and that this upstream has not answered well
    /// lately: the client may have made it up.
    UnknownName,
}

impl Ignored {
    /// Every reason, in the order of its discriminant.
    pub const ALL: [Self; 5] = [
        Self::ClientGone,
        Self::OwnLimit,
        Self::StaleConnection,
        Self::Cancelled,
        Self::UnknownName,
    ];

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::OwnLimit => "own_limit",
            Self::StaleConnection => "stale_connection",
            Self::Cancelled => "cancelled",
            Self::UnknownName => "unknown_name",
        }
    }
}

/// What one attempt at one upstream came to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// Everything that is not one of the others; 4xx, 501 and 505 included.
    Success,
    /// A 5xx that carries the origin marker: the provider did its work, the origin failed. Counts
    /// as a success of the upstream and feeds the service's origin score.
    OriginError,
    /// Counts against the upstream.
    Failure(FailureKind),
    /// Says nothing.
    Ignored(Ignored),
}

impl Outcome {
    /// How many distinct outcomes there are, for tables of counters.
    pub const COUNT: usize = 2 + FailureKind::ALL.len() + Ignored::ALL.len();

    /// Place in a table of [`Outcome::COUNT`] counters.
    pub const fn index(self) -> usize {
        match self {
            Self::Success => 0,
            Self::OriginError => 1,
            Self::Failure(kind) => 2 + kind.index(),
            Self::Ignored(why) => 2 + FailureKind::ALL.len() + why as usize,
        }
    }

    /// Every outcome, in the order of [`Outcome::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Success, Self::OriginError]
            .into_iter()
            .chain(FailureKind::ALL.into_iter().map(Self::Failure))
            .chain(Ignored::ALL.into_iter().map(Self::Ignored))
    }

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::OriginError => "origin_error",
            Self::Failure(kind) => kind.as_str(),
            Self::Ignored(why) => why.as_str(),
        }
    }
}

/// Whether an upstream may have begun to act on a request. Decides if a POST may be retried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Not one byte of it can have been acted on: no connection, TLS failed, refused stream.
    Never,
    /// Some of it may have been.
    Perhaps,
}

/// What an answer says about the origin marker.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Marker {
    /// The service has no marker configured: silence means nothing.
    Unconfigured,
    /// The answer carries it: the origin spoke.
    Present,
    /// The origin signed it, but not of now: proves nothing of an error, and is held against nobody.
    Old,
    /// The answer lacks it. What that means depends on whether the marker is armed.
    Absent,
    /// The answer lacks it, and its provider is known to put a page of its own in place of the
    /// origin's under this status: silence means nothing.
    Replaced,
    /// By the provider's own word the page is its own, and not about the origin.
    Own,
}

/// Methods by what a second execution would do (RFC 9110, section 9.2.1).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MethodClass {
    /// GET, HEAD, OPTIONS, TRACE: reading.
    Safe,
    /// All others.
    Unsafe,
}

impl MethodClass {
    /// Both, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::Safe, Self::Unsafe];

    /// By RFC 9110, section 9.2.1.
    pub fn of(method: &http::Method) -> Self {
        if method.is_safe() { Self::Safe } else { Self::Unsafe }
    }

    /// For tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_place_in_the_table() {
        let places: Vec<usize> = Outcome::all().map(Outcome::index).collect();
        assert_eq!(places, (0..Outcome::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn every_failure_kind_stands_at_its_index() {
        for (place, kind) in FailureKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place, "{}", kind.as_str());
        }
    }
}

//! One answer while faults are laid over it.

use std::time::Duration;

use super::{Answer, Bearing, Body, Cause, FAMILY_DELAY, RATE_WINDOW, Seen};
use crate::rehearse::scenario::{Family, Fault, MarkerFate, Mode};
use crate::rehearse::traffic::Request;

/// An answer while faults are laid over it. What strikes first stays: an upstream's own faults
/// hide the origin's.
#[derive(Debug)]
pub(super) struct Draft {
    after: Duration,
    spoilt: Option<(Spoilt, Cause)>,
}

/// How an answer is spoilt.
#[derive(Clone, Copy, Debug)]
enum Spoilt {
    Nothing,
    HandshakeFailed,
    BrokenOff,
    Status(u16, MarkerFate),
    Body(Body),
}

impl Draft {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, spoilt: None }
    }

    pub(super) fn strike(&mut self, fault: &Fault, bearing: Bearing) {
        // Happy eyeballs: the other family answers.
        match fault.only_family() {
            Some(Family::V6) if fault.mode.is_front_door() => return self.after += FAMILY_DELAY,
            Some(Family::V4) => return,
            Some(Family::V6) | None => {}
        }
        let cause = match (bearing, fault.mode) {
            (Bearing::Own, _) => Cause::Upstream,
            (Bearing::IsOrigin | Bearing::BehindEdge, Mode::Capacity(..)) => Cause::Overload,
            (Bearing::IsOrigin | Bearing::BehindEdge, _) => Cause::Origin,
        };
        let spoilt = match (fault.mode, bearing) {
            (Mode::Latency(more), _) => return self.after += more,
            (Mode::Dns(_) | Mode::ControlPlane, _) => return,
            // An edge turns what it meets behind itself into a status of its own.
            (Mode::Timeout, Bearing::BehindEdge) => Spoilt::Status(504, MarkerFate::Absent),
            (Mode::Reset | Mode::Tls, Bearing::BehindEdge) => {
                Spoilt::Status(502, MarkerFate::Absent)
            }
            (Mode::Timeout, Bearing::Own | Bearing::IsOrigin) => Spoilt::Nothing,
            (Mode::Tls, Bearing::Own | Bearing::IsOrigin) => Spoilt::HandshakeFailed,
            (Mode::Reset, Bearing::Own | Bearing::IsOrigin) => Spoilt::BrokenOff,
            (Mode::Status(status) | Mode::WrongContent(status), _) => {
                Spoilt::Status(status, fault.marker)
            }
            (Mode::Truncate, _) => Spoilt::Body(Body::Cut),
            // A short body is over before anybody can call it slow.
            (Mode::Slowloris(long), _) if long <= RATE_WINDOW => return,
            (Mode::Slowloris(_), _) => Spoilt::Body(Body::Trickles),
            (Mode::Capacity(status, more), _) => {
                self.after += more;
                Spoilt::Status(status, fault.marker)
            }
        };
        self.spoilt.get_or_insert((spoilt, cause));
    }

    pub(super) fn finish(self, request: &Request) -> Answer {
        let after = self.after;
        let head = |status, marker, body| Seen::Head { after, status, marker, body };
        let (seen, cause) = match self.spoilt {
            None if request.origin_fails => {
                (head(500, MarkerFate::Kept, Body::Whole), Cause::Origin)
            }
            None => (head(200, MarkerFate::Kept, Body::Whole), Cause::Nobody),
            Some((Spoilt::Nothing, cause)) => (Seen::Nothing, cause),
            Some((Spoilt::HandshakeFailed, cause)) => (Seen::HandshakeFailed { after }, cause),
            Some((Spoilt::BrokenOff, cause)) => (Seen::BrokenOff { after }, cause),
            Some((Spoilt::Status(status, marker), cause)) => {
                (head(status, marker, Body::Whole), cause)
            }
            Some((Spoilt::Body(body), cause)) => (head(200, MarkerFate::Kept, body), cause),
        };
        Answer { seen, cause }
    }
}

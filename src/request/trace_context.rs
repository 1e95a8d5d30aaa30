//! `traceparent` and `tracestate` (W3C Trace Context): which trace a request belongs to, and what its
//! upstream is told of it.
//!
//! Read strictly: what breaks the grammar in one digit is nobody's word. A trusted proxy's is followed. A
//! stranger's goes on as it came, but decides nothing: whoever may have requests recorded at will may fill a
//! disk, and whoever may choose the trace may write into somebody else's.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::Trust;
use crate::model::trace::{MOST_STATE, SpanContext, SpanId, TraceFlags, TraceId};

/// Says which trace a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What those who trace add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// The trace that a request says it belongs to; `None` without one valid line.
pub fn read(headers: &HeaderMap) -> Option<SpanContext> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let line = lines.next()?;
    // With two of them nobody knows which one counts (section 3.2.1 has one).
    if lines.next().is_some() { None } else { parse(line.as_bytes()) }
}

/// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`. Of a later version the same fields are
/// read, and what follows them is not (section 4.3).
fn parse(line: &[u8]) -> Option<SpanContext> {
    let (front, rest) = line.split_at_checked(LENGTH)?;
    let version = number(&front[..2])?;
    let fits = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest[0] == b'-',
    };
    if !fits || [2, 35, 52].iter().any(|place| front[*place] != b'-') {
        return None;
    }
    let flags = u8::try_from(number(&front[53..])?).ok()?;
    Some(SpanContext {
        trace: TraceId::new(number(&front[3..35])?)?,
        span: SpanId::new(u64::try_from(number(&front[36..52])?).ok()?)?,
        flags: TraceFlags::new(flags),
    })
}

/// Small hexadecimal digits, 32 at most; std would take capitals and a sign too.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It is not traced, and what it says of traces goes on as it came.
    Pass,
    /// It goes on in this trace.
    Follow(SpanContext),
    /// A trace of our own begins; a stranger's, if it named one, is pointed at.
    Begin(Option<SpanContext>),
}

/// Decides at the head, for all attempts. `is_drawn`: whether it is among the share that is traced of our
/// own accord; not asked where a trusted proxy has decided.
pub fn decide(said: Option<SpanContext>, trust: Trust, is_drawn: impl Fn() -> bool) -> Decision {
    match (said, trust) {
        (Some(parent), Trust::TrustedProxy) if parent.flags.is_sampled() => {
            Decision::Follow(parent)
        }
        // Half a trace helps nobody: who was not to be recorded before is not recorded here.
        (Some(_), Trust::TrustedProxy) => Decision::Pass,
        (said, Trust::Stranger) if is_drawn() => Decision::Begin(said),
        (None, Trust::TrustedProxy) if is_drawn() => Decision::Begin(None),
        (_, Trust::Stranger | Trust::TrustedProxy) => Decision::Pass,
    }
}

/// All of `tracestate`, where it can be recorded; else nothing of it, since half an entry would be
/// somebody else's.
pub fn state(headers: &HeaderMap) -> Box<str> {
    let mut whole = String::new();
    for line in headers.get_all(TRACESTATE) {
        let Ok(text) = line.to_str() else { return Box::default() };
        if whole.len() + text.len() >= MOST_STATE {
            return Box::default();
        }
        if !whole.is_empty() {
            whole.push(',');
        }
        whole.push_str(text);
    }
    whole.into()
}

/// What one attempt of a traced request tells its upstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// The attempt's own span.
    pub context: SpanContext,
    /// What becomes of the client's `tracestate`.
    pub state: State,
}

/// What becomes of the client's `tracestate`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It belongs to the same trace.
    GoesOn,
    /// It belongs to another one, or to none.
    Ends,
}

impl Told {
    /// Puts it in place of what the client said.
    pub fn apply(&self, headers: &mut HeaderMap) {
        // Hexadecimal digits are always fit for a field.
        if let Ok(line) = HeaderValue::try_from(self.context.to_string()) {
            headers.insert(TRACEPARENT, line);
            if self.state == State::Ends {
                headers.remove(TRACESTATE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn said(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| (TRACEPARENT, HeaderValue::from_str(line).expect("a value"));
        lines.iter().map(value).fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    }

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let line = format!("00-{TRACE}-{SPAN}-01");
        let context = read(&said(&[&line])).expect("valid");
        assert_eq!(context.to_string(), line);
        assert!(context.flags.is_sampled());
        let unsampled = read(&said(&[&format!("00-{TRACE}-{SPAN}-00")])).expect("valid");
        assert!(!unsampled.flags.is_sampled());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let line = format!("cc-{TRACE}-{SPAN}-ff-what-comes-later");
        let context = read(&said(&[&line])).expect("valid");
        assert_eq!(context.to_string(), format!("00-{TRACE}-{SPAN}-03"), "ours is version 00");
        assert!(read(&said(&[&format!("cc-{TRACE}-{SPAN}-01")])).is_some());
    }

    #[test]
    fn what_breaks_the_grammar_is_nobodys_word() {
        let zeros = "0".repeat(32);
        let capital = TRACE.to_uppercase();
        for line in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{capital}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}g-01", &TRACE[1..]),
        ] {
            assert_eq!(read(&said(&[&line])), None, "{line}");
        }
        let good = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(read(&said(&[&good, &good])), None, "two lines");
        assert_eq!(read(&HeaderMap::new()), None);
        let mut bytes = HeaderMap::new();
        bytes.insert(TRACEPARENT, HeaderValue::from_bytes(&[0xe9; 55]).expect("obs-text"));
        assert_eq!(read(&bytes), None, "no text at all");
    }

    #[test]
    fn a_trusted_proxys_word_is_followed_and_a_strangers_decides_nothing() {
        use Decision::{Begin, Follow, Pass};
        use Trust::{Stranger, TrustedProxy};
        let with = |flags: &str| read(&said(&[&format!("00-{TRACE}-{SPAN}-{flags}")]));
        let (recorded, unrecorded) = (with("01"), with("00"));
        let parent = recorded.expect("valid");
        #[rustfmt::skip]
        let table = [
            // said       by            drawn  becomes
            (recorded,    TrustedProxy, false, Follow(parent)),
            (recorded,    TrustedProxy, true,  Follow(parent)),
            (unrecorded,  TrustedProxy, true,  Pass),
            (None,        TrustedProxy, true,  Begin(None)),
            (None,        TrustedProxy, false, Pass),
            (recorded,    Stranger,     false, Pass),
            (recorded,    Stranger,     true,  Begin(recorded)),
            (unrecorded,  Stranger,     true,  Begin(unrecorded)),
            (None,        Stranger,     true,  Begin(None)),
            (None,        Stranger,     false, Pass),
        ];
        for (said, by, drawn, becomes) in table {
            assert_eq!(decide(said, by, || drawn), becomes, "{said:?} by {by:?}, {drawn}");
        }
    }

    #[test]
    fn a_tracestate_is_recorded_whole_or_not_at_all() {
        let with = |lines: &[String]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRACESTATE, HeaderValue::from_str(line).expect("a value"));
            }
            state(&headers)
        };
        assert_eq!(&*with(&[]), "");
        assert_eq!(&*with(&["a=1".to_owned(), "b=2".to_owned()]), "a=1,b=2");
        assert_eq!(&*with(&["a=1".to_owned(), format!("b={}", "x".repeat(510))]), "");
        assert_eq!(with(&["x".repeat(511)]).len(), 511);
    }

    #[test]
    fn an_upstream_is_told_of_the_attempt_and_of_a_state_that_belongs_to_it() {
        let mut context = read(&said(&[&format!("00-{TRACE}-{SPAN}-01")])).expect("valid");
        context.span = SpanId::new(7).expect("not zero");
        for (state, left) in [(State::GoesOn, Some("a=1")), (State::Ends, None)] {
            let mut headers = said(&[&format!("00-{TRACE}-{SPAN}-01")]);
            headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
            Told { context, state }.apply(&mut headers);
            assert_eq!(headers[TRACEPARENT], format!("00-{TRACE}-0000000000000007-01"));
            let now = headers.get(TRACESTATE).map(HeaderValue::as_bytes);
            assert_eq!(now, left.map(str::as_bytes), "{state:?}");
        }
    }
}

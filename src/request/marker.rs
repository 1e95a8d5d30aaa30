//! Did the origin speak? Reads the marker of an answer, and writes a signed one.
//!
//! ```text
//!  v1.1795701600.9f2c…e1        what stands in the header: version, time, signature
//!  v1.1795701600.www.example    what is signed: the same with the host where the signature stands
//! ```
//! Time in seconds of Unix, signature HMAC-SHA-256 in hexadecimal. Hexadecimal because every server and
//! language writes it without help; no name of the key, because trying the few there are costs less
//! than a field that somebody has to keep right; neither status nor path, because then nothing but the
//! application itself could write it, and a value that a timer makes would do nowhere.
//!
//! In: a rule, an answer's head, the host that was asked for, the time where it matters. Pure.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, hmac};
use http::header::AGE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::gate;
use crate::model::marker::{MarkerKey, MarkerKeys};
use crate::model::outcome::Marker;
use crate::model::topology::{MarkerProof, MarkerRule, SignedMarker};

/// How far the origin's clock may be ahead of ours.
pub const AHEAD: Duration = Duration::from_secs(60);
/// Lines of the header that are looked at: an edge may add its own under the same name, but an answer
/// full of them must not cost more than an answer.
const MOST_LINES: usize = 4;
/// Bytes of a signature.
const MAC: usize = 32;

/// The part of an answer that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status: of an error the marker has to be of now.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// What the client asked for: host, with or without port.
    pub authority: &'a str,
}

/// What an answer says of the origin. `now` is asked only where a signature is right.
pub fn read(
    rule: Option<&MarkerRule>,
    answer: Answer<'_>,
    now: impl FnOnce() -> SystemTime,
) -> Marker {
    let Some(rule) = rule else { return Marker::Unconfigured };
    match &rule.proof {
        // Any of several lines: an edge may add its own under the same name.
        MarkerProof::Value(value) => {
            match answer.headers.get_all(&rule.header).iter().any(|line| line == value) {
                true => Marker::Present,
                false => Marker::Absent,
            }
        }
        MarkerProof::Signed(signed) => match signed_at(&rule.header, signed, answer) {
            None => Marker::Absent,
            Some(at) => timely(at, now(), signed.max_age, answer),
        },
    }
}

/// The header's value for this host and moment, signed by the first key.
pub fn sign(keys: &MarkerKeys, host: &str, at: Duration) -> String {
    let said = format!("v1.{}.", at.as_secs());
    let mac = mac(keys.first(), said.as_bytes(), host.as_bytes());
    mac.as_ref().iter().fold(said, |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
        text
    })
}

/// As it is signed: in lower case, without port and the root's dot. `None`: it is no host.
pub fn signed_host(authority: &str) -> Option<Cow<'_, str>> {
    gate::host_of(authority).map(gate::lower)
}

/// The latest moment that any line names with a right signature.
fn signed_at(header: &HeaderName, rule: &SignedMarker, answer: Answer<'_>) -> Option<Duration> {
    let mut lines = answer.headers.get_all(header).iter().take(MOST_LINES).peekable();
    lines.peek()?;
    let host = match &rule.host {
        Some(host) => Cow::Borrowed(&**host),
        None => signed_host(answer.authority)?,
    };
    lines.filter_map(|line| verified(&rule.keys, line.as_bytes(), host.as_bytes())).max()
}

/// The time that a marker names, if a key has signed it for this host.
fn verified(keys: &MarkerKeys, line: &[u8], host: &[u8]) -> Option<Duration> {
    let dot = line.len().checked_sub(2 * MAC)?;
    let (said, digits) = line.split_at(dot);
    let time = said.strip_prefix(b"v1.")?.strip_suffix(b".")?;
    if !(1..=12).contains(&time.len()) || !time.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let found = hexadecimal(digits)?;
    let seconds = time.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let is_right = |key| {
        // In constant time: how much of it is right must not be told by how long it takes.
        constant_time::verify_slices_are_equal(mac(key, said, host).as_ref(), &found).is_ok()
    };
    keys.iter().any(is_right).then(|| Duration::from_secs(seconds))
}

fn mac(key: &MarkerKey, said: &[u8], host: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key.hmac());
    context.update(said);
    context.update(host);
    context.sign()
}

/// In either case: HAProxy writes capitals.
fn hexadecimal(digits: &[u8]) -> Option<[u8; MAC]> {
    let mut bytes = [0; MAC];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |place: usize| char::from(pair[place]).to_digit(16);
        // Two digits are less than 256.
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

/// What a right signature of that moment is worth now.
///
/// An error has to bear a marker of now, whatever else it says: an old one can be had by whoever saw
/// any answer once, and would make a provider's error look like the origin's. Any other answer may
/// come from a cache, with the marker of the day on which it was put there, and nothing is won by an
/// old one: where the answer says that it does, the signature is enough.
fn timely(at: Duration, now: SystemTime, max_age: Duration, answer: Answer<'_>) -> Marker {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if at <= now + AHEAD && now <= at + max_age {
        return Marker::Present;
    }
    let may_be_old = !is_refusal(answer.status) && at <= now && is_from_cache(answer.headers);
    if may_be_old { Marker::Present } else { Marker::Old }
}

/// Whether the marker could acquit a provider of this status, see [`super::classify::head`].
pub fn is_refusal(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::FORBIDDEN
        || status == StatusCode::TOO_MANY_REQUESTS
}

/// Whether an answer says that a cache had it: by `Age` (RFC 9111, section 5.1), by `Cache-Status`
/// (RFC 9211), or in the words of those who have neither.
fn is_from_cache(headers: &HeaderMap) -> bool {
    const NAMES: [&str; 6] =
        ["x-cache", "x-cache-status", "cf-cache-status", "cdn-cache", "x-proxy-cache", "cache"];
    const WORDS: [&str; 4] = ["hit", "stale", "updating", "revalidated"];
    let says = |name: &str| {
        let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let mut words = lines.flat_map(|line| line.split(|byte| b" ,_-;".contains(byte)));
        words.any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
    };
    let is_hit = |line: &HeaderValue| {
        let mut parts = line.as_bytes().split(|byte| b",;".contains(byte));
        parts.any(|part| matches!(part.trim_ascii(), b"hit" | b"hit=?1"))
    };
    headers.contains_key(AGE)
        || headers.get_all("cache-status").iter().any(is_hit)
        || NAMES.iter().any(|name| says(name))
}

#[cfg(test)]
mod tests;

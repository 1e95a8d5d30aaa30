//! Whether the upstreams of a service answer the probed page alike, so that the fallback is known to
//! work before it is needed: a standing comparison of what probes bring anyway, at no further request.
//!
//! In: what an answer looked like that passed its probe. Out: whether an upstream differs from the
//! first choice of its service, and in what. Pure: no clock, no IO.
//!
//! Status, media type and `Location` must be equal. Bodies are compared only where that means
//! something: pages with a token or a time in them differ each time, and each edge keeps its own copy
//! of them. So a body counts once both have shown the same one [`AGREEMENTS`] times in a row, and only
//! while the first choice shows one and the same. What that cannot see, a fallback that was wrong
//! from the beginning under a good status, is for `probe.expect`.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, StatusCode};

/// Equal bodies in a row until a differing one means something.
const AGREEMENTS: u8 = 3;
/// Differing looks in a row until an upstream is said to differ: a new version of a page reaches one
/// edge before the other.
const DIFFERENCES: u8 = 3;

/// What of an answer is compared, hashed: pages are not kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Look {
    status: StatusCode,
    media_type: u64,
    location: u64,
    body: u64,
}

impl Look {
    /// Of an answer; `body` is as much of it as was read.
    pub fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let field = |name: HeaderName| headers.get(name).map_or(&[][..], |value| value.as_bytes());
        let media_type = field(CONTENT_TYPE).split(|byte| *byte == b';').next().unwrap_or_default();
        Self {
            status,
            media_type: hashed(&media_type.trim_ascii().to_ascii_lowercase()),
            location: hashed(field(LOCATION)),
            body: hashed(body),
        }
    }
}

fn hashed(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// In what two answers differ: the first of these that does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Difference {
    /// The status code.
    Status,
    /// The media type.
    MediaType,
    /// Where a redirect leads.
    Location,
    /// The bytes.
    Body,
}

impl Difference {
    /// As a log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::MediaType => "media_type",
            Self::Location => "location",
            Self::Body => "body",
        }
    }
}

/// What the comparison with the first choice came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parity {
    /// They answer alike.
    Equal,
    /// They do not, several times in a row.
    Differs(Difference),
}

/// What is known of one upstream.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The last answer; `None` where it did not pass its probe.
    look: Option<Look>,
    /// Whom it was compared with.
    first: u64,
    /// Whether the answer before it had the same body.
    is_still: bool,
    /// Bodies equal to the first choice's, in a row; stays once it has reached [`AGREEMENTS`].
    agreements: u8,
    /// Looks unlike the first choice's, in a row.
    differences: u8,
    /// What was found last.
    found: Option<Parity>,
}

/// Every comparison, by serial number of the upstream, so that it outlives a reload.
#[derive(Debug, Default)]
pub struct Comparisons(BTreeMap<u64, Known>);

impl Comparisons {
    /// Forgets the upstreams that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.0.retain(|serial, _| wanted(*serial));
    }

    /// What was found last, where the two could be compared.
    pub fn found(&self, serial: u64) -> Option<Parity> {
        self.0.get(&serial)?.found
    }

    /// Takes a probe's answer of the upstream `serial`, `None` where it did not pass; `first` is the first
    /// choice of the same service. Returns what is found, where that is something new. What was found
    /// last stands while either of them fails its probes: that is for health to say, and pages change
    /// meanwhile.
    pub fn take(&mut self, serial: u64, first: u64, look: Option<Look>) -> Option<Parity> {
        let known = self.0.entry(serial).or_default();
        if known.first != first {
            *known = Known { look: known.look, first, found: known.found, ..Known::default() };
        }
        known.is_still = known.look.zip(look).is_some_and(|(old, new)| old.body == new.body);
        known.look = look;
        let (look, mut known) = (look?, *known);
        let reference = if serial == first { known } else { self.0.get(&first).copied()? };
        let news = known.compare(look, &reference);
        self.0.insert(serial, known);
        news
    }
}

impl Known {
    fn compare(&mut self, look: Look, reference: &Self) -> Option<Parity> {
        let wanted = reference.look?;
        if look.body == wanted.body {
            self.agreements = self.agreements.saturating_add(1).min(AGREEMENTS);
        } else if self.agreements < AGREEMENTS {
            self.agreements = 0;
        }
        let has_body_to_match = self.agreements == AGREEMENTS && reference.is_still;
        let difference = if look.status != wanted.status {
            Some(Difference::Status)
        } else if look.media_type != wanted.media_type {
            Some(Difference::MediaType)
        } else if look.location != wanted.location {
            Some(Difference::Location)
        } else if look.body != wanted.body && has_body_to_match {
            Some(Difference::Body)
        } else {
            None
        };
        self.differences = difference.map_or(0, |_| self.differences.saturating_add(1));
        let found = match difference {
            None => Parity::Equal,
            Some(difference) if self.differences >= DIFFERENCES => Parity::Differs(difference),
            Some(_) => return None,
        };
        (self.found.replace(found) != Some(found)).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1;
    const OTHER: u64 = 2;

    fn look(status: u16, media_type: &'static str, body: &str) -> Look {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(media_type));
        Look::of(StatusCode::from_u16(status).expect("a status"), &headers, body.as_bytes())
    }

    fn page(body: &str) -> Look {
        look(200, "text/html", body)
    }

    /// A round: the first choice answers so, then the other one.
    fn round(comparisons: &mut Comparisons, first: Look, other: Look) -> Option<Parity> {
        comparisons.take(FIRST, FIRST, Some(first));
        comparisons.take(OTHER, FIRST, Some(other))
    }

    /// The last news of so many rounds.
    fn rounds(
        comparisons: &mut Comparisons,
        count: u8,
        first: Look,
        other: Look,
    ) -> Option<Parity> {
        (0..count).fold(None, |news, _| round(comparisons, first, other).or(news))
    }

    #[test]
    fn another_status_type_or_redirect_is_said_after_three_looks_and_taken_back_at_once() {
        let html = page("a");
        let elsewhere = Look { location: 7, ..html };
        for (other, difference) in [
            (look(206, "text/html", "a"), Difference::Status),
            (look(200, "text/plain", "a"), Difference::MediaType),
            (elsewhere, Difference::Location),
        ] {
            let mut comparisons = Comparisons::default();
            assert_eq!(rounds(&mut comparisons, 2, html, other), None, "{difference:?}");
            let said = Some(Parity::Differs(difference));
            assert_eq!(round(&mut comparisons, html, other), said);
            assert_eq!(round(&mut comparisons, html, other), None, "said once");
            assert_eq!(round(&mut comparisons, html, html), Some(Parity::Equal));
        }
    }

    #[test]
    fn parameters_and_capitals_of_a_media_type_are_no_difference() {
        let plain = look(200, "text/html", "a");
        let other = look(200, "Text/HTML ; charset=utf-8", "a");
        assert_eq!(round(&mut Comparisons::default(), plain, other), Some(Parity::Equal));
    }

    #[test]
    fn a_body_counts_once_both_have_shown_the_same_one_three_times() {
        let mut comparisons = Comparisons::default();
        assert_eq!(rounds(&mut comparisons, 3, page("a"), page("a")), Some(Parity::Equal));
        let news = rounds(&mut comparisons, 3, page("a"), page("b"));
        assert_eq!(news, Some(Parity::Differs(Difference::Body)));

        let mut comparisons = Comparisons::default();
        let news = rounds(&mut comparisons, 9, page("a"), page("b"));
        assert_eq!(news, Some(Parity::Equal), "two copies of a page that is made anew each time");
    }

    #[test]
    fn a_page_that_changes_each_time_is_never_a_difference() {
        let mut comparisons = Comparisons::default();
        rounds(&mut comparisons, 5, page("a"), page("a"));
        for number in 0..20 {
            let (first, other) = (page(&format!("1 {number}")), page(&format!("2 {number}")));
            assert_eq!(round(&mut comparisons, first, other), None, "round {number}");
        }
    }

    #[test]
    fn a_new_version_that_reaches_one_edge_two_probes_later_is_no_difference() {
        let mut comparisons = Comparisons::default();
        rounds(&mut comparisons, 5, page("a"), page("a"));
        assert_eq!(rounds(&mut comparisons, 3, page("b"), page("a")), None);
        assert_eq!(rounds(&mut comparisons, 3, page("b"), page("b")), None);
    }

    #[test]
    fn nothing_is_said_before_the_first_choice_has_answered() {
        assert_eq!(Comparisons::default().take(OTHER, FIRST, Some(page("a"))), None);
    }

    #[test]
    fn what_was_found_stands_while_the_first_choice_is_out_however_the_page_changes() {
        let mut comparisons = Comparisons::default();
        rounds(&mut comparisons, 5, page("a"), page("a"));
        assert_eq!(comparisons.take(FIRST, FIRST, None), None);
        for _ in 0..9 {
            assert_eq!(comparisons.take(OTHER, FIRST, Some(page("b"))), None);
        }
        assert_eq!(comparisons.found(OTHER), Some(Parity::Equal));
    }

    #[test]
    fn another_first_choice_has_to_agree_on_a_body_anew() {
        let mut comparisons = Comparisons::default();
        rounds(&mut comparisons, 5, page("a"), page("a"));
        for _ in 0..9 {
            comparisons.take(3, 3, Some(page("b")));
            assert_eq!(comparisons.take(OTHER, 3, Some(page("a"))), None);
        }
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut comparisons = Comparisons::default();
        rounds(&mut comparisons, 3, page("a"), page("a"));
        comparisons.retain(|serial| serial == FIRST);
        assert_eq!(comparisons.0.len(), 1);
    }
}

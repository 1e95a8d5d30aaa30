//! Which clients are let in, how often, and whether they stay where they are.

use super::context::{Bounds, Context};
use crate::config::raw::{RawAccess, RawFrequency, RawRateLimit, RawSticky};
use crate::config::tree::At;
use crate::config::values::{self, Flaw};
use crate::model::allowance::Allowance;
use crate::model::client::Networks;
use crate::model::topology::{Access, Sticky};

/// Networks of one list.
const MAX_NETWORKS: usize = 20_000;

pub(super) fn access(context: &Context<'_>, raw: At<RawAccess>, base: &Access) -> Access {
    let Some(RawAccess { allow, deny, rate }) = raw.value else { return base.clone() };
    let allow = allow.map(|at| networks(context, "allow", at));
    Access {
        // An empty list says nothing: whoever means "nobody" writes no route.
        allow: allow.map_or_else(|| base.allow.clone(), |set| (!set.is_empty()).then_some(set)),
        deny: deny.map_or_else(|| base.deny.clone(), |at| networks(context, "deny", at)),
        rate: rate.map_or(base.rate, |at| self::rate(context, at)),
    }
}

fn networks(context: &Context<'_>, key: &'static str, raw: At<Vec<At<String>>>) -> Networks {
    let entries = raw.value.unwrap_or_default();
    if entries.len() > MAX_NETWORKS {
        let mend = format!("at most {MAX_NETWORKS} are kept; join some, or filter before bascule");
        let what = format!("`{key}` holds {} networks", entries.len());
        context.complaints.error(raw.place, what, &mend);
    }
    Networks::new(entries.iter().filter_map(|at| context.parsed(key, at, values::network)))
}

fn rate(context: &Context<'_>, raw: At<RawRateLimit>) -> Option<Allowance> {
    let place = raw.place;
    let RawRateLimit { per_client, burst } = raw.value?;
    let at = context.needed("per_client", per_client, place)?;
    let RawFrequency(text) = at.value.as_ref()?;
    let (count, time) = context.sound("per_client", &at, values::frequency(text))?;
    let why = "without a burst not even the first request could pass, and a long one is no limit";
    let bounds = Bounds { least: 1, most: 10_000_000, why };
    let burst = context.number("burst", burst, bounds, count);
    Some(Allowance::new(time / count, burst))
}

pub(super) fn sticky(context: &Context<'_>, raw: At<RawSticky>, base: &Sticky) -> Sticky {
    match raw.value {
        None => base.clone(),
        Some(RawSticky::None) => Sticky::None,
        Some(RawSticky::ClientIp) => Sticky::ClientIp,
        Some(RawSticky::Cookie(at)) => {
            context.parsed("cookie", &at, cookie_name).map_or_else(|| base.clone(), Sticky::Cookie)
        }
    }
}

/// A token (RFC 6265, section 4.1.1).
fn cookie_name(text: &str) -> Result<Box<str>, Flaw> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(is_token) {
        true => Ok(text.into()),
        false => Err(Flaw::new("write letters, digits, `-` and `_`, as in `edge`; up to 64")),
    }
}

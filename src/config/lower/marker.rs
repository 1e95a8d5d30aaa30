//! How the origin says that it spoke: a header with a fixed value, or a signed one.

use http::{HeaderName, HeaderValue};

use super::context::{Bounds, Context};
use super::evidence::{header_name, header_value};
use crate::config::complaint::Place;
use crate::config::raw::{RawDuration, RawMarker};
use crate::config::tree::At;
use crate::config::values::{self, Flaw};
use crate::model::marker::MarkerKeys;
use crate::model::topology::{HostPattern, MarkerProof, MarkerRule, SignedMarker};

/// How old the marker of an error may be unless the file says otherwise: a timer that writes one every
/// minute may fail four times.
const MAX_AGE: std::time::Duration = std::time::Duration::from_secs(300);

pub(super) fn marker(context: &Context<'_>, raw: At<RawMarker>) -> Option<MarkerRule> {
    let place = raw.place;
    let RawMarker { header, value, key_file, host, max_age } = raw.value?;
    let header = context.needed("header", header, place);
    let header = header.and_then(|at| context.parsed("header", &at, marker_header));
    let proof = match (value, key_file) {
        (Some(value), None) => {
            refuse_beside_value(context, "host", host.as_ref().map(|at| at.place));
            refuse_beside_value(context, "max_age", max_age.as_ref().map(|at| at.place));
            self::value(context, &value).map(MarkerProof::Value)
        }
        (None, Some(file)) => signed(context, &file, host, max_age).map(MarkerProof::Signed),
        (Some(_), Some(file)) => {
            let what = "`key_file` stands beside `value`";
            let mend = "a marker is either signed or a fixed text; leave one of them out";
            context.complaints.error(file.place, what, mend);
            None
        }
        (None, None) => {
            let what = "`value` and `key_file` are missing";
            let mend = "there is no default for it; add one of them";
            context.complaints.error(place, what, mend);
            None
        }
    };
    Some(MarkerRule { header: header?, proof: proof? })
}

fn value(context: &Context<'_>, at: &At<String>) -> Option<HeaderValue> {
    match header_value(at.value.as_deref()?) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(Flaw(mend)) => {
            // Unlike everywhere else what was typed is not repeated: it may be a secret.
            context.complaints.error(at.place, "this `value` cannot be used", &mend);
            None
        }
    }
}

fn signed(
    context: &Context<'_>,
    file: &At<String>,
    host: Option<At<String>>,
    max_age: Option<At<RawDuration>>,
) -> Option<SignedMarker> {
    let host = host.and_then(|at| context.parsed("host", &at, signed_host)).flatten();
    let bounds = Bounds {
        least: "10s",
        most: "24h",
        why: "an answer needs some time and clocks differ, and one who saw a marker once may show it for as long",
    };
    let max_age = context.duration("max_age", max_age, bounds, MAX_AGE);
    let (_, text) = context.file("key_file", file, MarkerKeys::MAX_FILE)?;
    let keys = MarkerKeys::parse(&text).map_err(|flaw| Flaw::new(flaw.to_string()));
    Some(SignedMarker { keys: context.sound("key_file", file, keys)?, host, max_age })
}

/// `None`: what the client asked for.
fn signed_host(text: &str) -> Result<Option<Box<str>>, Flaw> {
    match (text, values::host_pattern(text)) {
        ("public", _) => Ok(None),
        // A word without a dot is far more likely a misspelt rule than a host.
        (word, _) if !word.contains(['.', ':']) && word != "localhost" => {
            Err(Flaw::new("write `public` (what the client asked for) or a full name"))
        }
        (_, Ok(HostPattern::Exact(host))) => Ok(Some(host)),
        (_, Ok(HostPattern::Wildcard(_) | HostPattern::Any)) => {
            Err(Flaw::new("one name is signed and no pattern; write `public` or a full name"))
        }
        (_, Err(flaw)) => Err(flaw),
    }
}

fn refuse_beside_value(context: &Context<'_>, key: &str, place: Option<Place>) {
    let Some(place) = place else { return };
    let what = format!("`{key}` stands beside `value`");
    let mend = "only a signed marker has it; write `key_file` in place of `value`, or leave it out";
    context.complaints.error(place, what, mend);
}

/// A header that survives the way through a provider.
fn marker_header(text: &str) -> Result<HeaderName, Flaw> {
    const LOST: [&str; 12] = [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "content-length",
        "date",
        "via",
        "server",
        "host",
    ];
    let name = header_name(text)?;
    if LOST.contains(&name.as_str()) {
        return Err(Flaw::new(
            "providers remove or rewrite it on the way; choose a name of your own, as in `X-Origin-Id`",
        ));
    }
    Ok(name)
}

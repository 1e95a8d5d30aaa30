//! Who we are to an upstream: the certificate that we show, and the header fields of its requests.

use std::sync::Arc;

use http::HeaderName;

use super::context::Context;
use super::evidence::{header_name, header_value};
use crate::config::certificate::{self, Chain, MAX_PEM};
use crate::config::raw::{RawCertificate, RawHeaders};
use crate::config::tree::{At, Named};
use crate::config::values::{Flaw, Url};
use crate::model::topology::{HeaderRule, Identity, Scheme};

/// Fields that one upstream's requests have or have not.
const MAX_HEADERS: usize = 64;

/// Fields of one connection, and those that say where a message ends or whom it is for.
const OURS: [&str; 15] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "via",
    "http2-settings",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-accept",
];

pub(super) fn identity(
    context: &Context<'_>,
    raw: At<RawCertificate>,
    url: Option<&Url>,
) -> Option<Arc<Identity>> {
    let place = raw.place;
    let RawCertificate { certificate, key } = raw.value?;
    let chain_at = context.needed("certificate", certificate, place)?;
    let key_at = context.needed("key", key, place)?;
    let (_, chain) = context.file("certificate", &chain_at, MAX_PEM)?;
    let (_, key) = context.file("key", &key_at, MAX_PEM)?;
    let parsed = context.sound("certificate", &chain_at, Chain::parse(&chain))?;
    let private = context.sound("key", &key_at, certificate::private_key(&key))?;
    context.sound("key", &key_at, parsed.with_key(private, &chain_at.shown))?;
    if url.is_some_and(|url| url.scheme == Scheme::Http) {
        context.complaints.error(
            place,
            "`client_certificate` stands beside an `http://` url",
            "nobody asks for it without TLS; write `https://` or leave it out",
        );
    }
    Some(Arc::new(Identity { chain: chain.into(), key: key.into() }))
}

pub(super) fn headers(context: &Context<'_>, raw: At<RawHeaders>) -> HeaderRule {
    let place = raw.place;
    let Some(RawHeaders { set, remove }) = raw.value else { return HeaderRule::default() };
    let set = set.and_then(|at| at.value).map_or_else(Vec::new, |Named(entries)| entries);
    let remove = remove.and_then(|at| at.value).unwrap_or_default();
    if set.len() + remove.len() > MAX_HEADERS {
        let mend = format!("each request carries them; at most {MAX_HEADERS}");
        context.complaints.error(place, "too many `headers`", &mend);
    }
    let set = set.into_iter().filter_map(|(name, value)| {
        let header = context.parsed("set", &name, may_change);
        match header_value(value.value.as_deref()?) {
            Ok(mut text) => {
                text.set_sensitive(true);
                Some((header?, text))
            }
            Err(Flaw(mend)) => {
                // What was typed is not repeated: it may be a secret.
                let what = format!("the value of `{}` cannot be used", name.shown);
                context.complaints.error(value.place, what, &mend);
                None
            }
        }
    });
    HeaderRule {
        set: set.collect(),
        remove: remove.iter().filter_map(|at| context.parsed("remove", at, may_change)).collect(),
    }
}

fn may_change(text: &str) -> Result<HeaderName, Flaw> {
    let name = header_name(text)?;
    if OURS.contains(&name.as_str()) {
        return Err(Flaw::new(match name.as_str() {
            "host" => "the key `host` of the upstream says which one is sent; use that",
            _ => {
                "it says how a message is framed or passed on, which is decided here; leave it out"
            }
        }));
    }
    Ok(name)
}

//! Where spans go, in builds that send them; in others, that they do not.

#[cfg(feature = "otlp")]
pub(super) use obeyed::traces;

#[cfg(feature = "otlp")]
mod obeyed {
    use std::time::Duration;

    use crate::config::lower::context::{Bounds, Context};
    use crate::config::lower::{identity, upstream};
    use crate::config::raw::{RawShare, RawTraces};
    use crate::config::tree::At;
    use crate::config::values;
    use crate::model::topology::{Endpoint, HeaderRule, HostRule, HttpRule, PathRule, Scheme};
    use crate::model::trace::{Collector, Traces};
    use crate::model::unit::Permille;

    /// Where collectors take spans, below their own URL.
    const TARGET: &str = "/v1/traces";
    /// One in a hundred.
    const SAMPLE: u16 = 10;
    const TIMEOUT: Bounds<&str> = Bounds {
        least: "100ms",
        most: "1m",
        why: "a collector needs some time, and a dead one must not be waited for",
    };

    /// `None`: nothing is traced.
    pub(in crate::config::lower) fn traces(
        context: &Context<'_>,
        raw: Option<At<RawTraces>>,
    ) -> Option<Traces> {
        let raw = raw?;
        let place = raw.place;
        let RawTraces { endpoint, sample, headers, ca_file, timeout } = raw.value?;
        let sample = sample.and_then(|at| {
            let RawShare(text) = at.value.as_ref()?;
            context.sound("sample", &at, values::share(text))
        });
        let headers = headers.map_or_else(HeaderRule::default, |at| identity::headers(context, at));
        let ca = ca_file.and_then(|at| upstream::ca(context, &at));
        let timeout = context.duration("timeout", timeout, TIMEOUT, Duration::from_secs(10));
        let at = context.needed("endpoint", endpoint, place)?;
        let url = context.parsed("endpoint", &at, values::url)?;
        if ca.is_some() && url.scheme == Scheme::Http {
            context.complaints.error(
                at.place,
                "`ca_file` stands beside an `http://` endpoint",
                "there is no certificate to check without TLS; write `https://` or leave it out",
            );
        }
        let endpoint = Endpoint {
            scheme: url.scheme,
            host: url.host,
            port: url.port,
            host_rule: HostRule::Upstream,
            http: HttpRule::Http1,
            // Each batch has a connection of its own.
            idle_timeout: Duration::ZERO,
            ca,
            identity: None,
            path: PathRule::default(),
            headers,
        };
        let target = url.rest.unwrap_or_else(|| TARGET.into());
        let collector = Collector { endpoint, target, timeout };
        let sample = sample.or(Permille::new(SAMPLE)).unwrap_or(Permille::ZERO);
        Some(Traces { collector, sample })
    }
}

/// A file that wants spans is not one that this build can serve as it is meant.
#[cfg(not(feature = "otlp"))]
pub(super) fn refuse(
    context: &super::Context<'_>,
    raw: Option<crate::config::tree::At<crate::config::raw::RawTraces>>,
) {
    if let Some(raw) = raw {
        context.complaints.error(
            raw.place,
            "`traces` cannot be obeyed: this build sends none",
            "build with `cargo build --release --features otlp`, or leave the key out",
        );
    }
}

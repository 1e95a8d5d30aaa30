//! The mirror of `traces`: a key that every build reads, and that only builds with `otlp` obey.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawDuration, RawHeaders, RawShare};
use crate::config::tree::At;

/// Spans of requests, sent to a collector of OpenTelemetry over OTLP.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "refused whole"))]
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traces")]
pub(in crate::config) struct RawTraces {
    /// The collector's URL, as `http://127.0.0.1:4318`; spans go to `/v1/traces` of it, or to the path
    /// that it has.
    #[schemars(required)]
    pub(in crate::config) endpoint: Option<At<String>>,
    /// Share of the requests that are traced; what a trusted proxy traces is traced besides. Default: 1%.
    pub(in crate::config) sample: Option<At<RawShare>>,
    /// What the collector is told besides, as a token: `{ set: { Authorization: "${file:…}" } }`.
    pub(in crate::config) headers: Option<At<RawHeaders>>,
    /// PEM file of the authorities that may sign its certificate. Default: the system's.
    pub(in crate::config) ca_file: Option<At<String>>,
    /// For one batch, from dialling on. Default: 10s.
    pub(in crate::config) timeout: Option<At<RawDuration>>,
}

//! Numbers with a unit, as typed; what they mean is told by `values`.

use schemars::JsonSchema;
use serde::Deserialize;

/// A duration: `250ms`, `5s`, `15m` or `24h`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+(ms|s|m|h)$"))]
pub(in crate::config) struct RawDuration(pub(in crate::config) String);

/// A size: `512B`, `64KiB`, `10MiB` or `1GiB`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
pub(in crate::config) struct RawSize(pub(in crate::config) String);

/// Bytes a second: `240B/s` or `1KiB/s`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB)/s$"))]
pub(in crate::config) struct RawRate(pub(in crate::config) String);

/// Requests in a time: `100/s`, `30/m` or `500/h`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+/(s|m|h)$"))]
pub(in crate::config) struct RawFrequency(pub(in crate::config) String);

/// A share: `20%`, `0.5%` or `0`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^(0|[0-9]+([.][0-9])?%)$"))]
pub(in crate::config) struct RawShare(pub(in crate::config) String);

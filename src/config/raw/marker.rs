//! The mirror of what tells one upstream's answers and paths from another's.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawDuration;
use crate::config::tree::At;

/// A header that only the origin adds, on errors too: with a fixed `value`, or signed with a key of
/// `key_file`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Marker")]
pub(in crate::config) struct RawMarker {
    /// Its name.
    #[schemars(required)]
    pub(in crate::config) header: Option<At<String>>,
    /// Its exact value; `${file:…}` keeps it out of this file.
    pub(in crate::config) value: Option<At<String>>,
    /// Instead of `value`: file with the keys that may sign it, one a line; the first signs, each is
    /// believed. `bascule sign` and docs/MARKER.md say how the origin writes it.
    pub(in crate::config) key_file: Option<At<String>>,
    /// Which host is signed, with `key_file`: `public` (what the client asked for), or a name. Default:
    /// public.
    pub(in crate::config) host: Option<At<String>>,
    /// How old the marker of an error may be, with `key_file`, 10s to 24h. Default: 5m.
    pub(in crate::config) max_age: Option<At<RawDuration>>,
}

/// How the paths of clients become an upstream's: with `strip: /v1` and `add: /openai/v1`, `/v1/models`
/// is asked for as `/openai/v1/models`. Paths of redirects and cookies are turned back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Path")]
pub(in crate::config) struct RawPath {
    /// What is taken away from their beginning; every route of the service has to begin so. Default:
    /// nothing.
    pub(in crate::config) strip: Option<At<String>>,
    /// What is put before the rest. Default: nothing.
    pub(in crate::config) add: Option<At<String>>,
}

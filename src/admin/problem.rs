//! Errors of the admin API as problem documents (RFC 9457).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::body::AdminBody;

/// What went wrong, for programs and people.
#[derive(Debug, JsonSchema, Serialize)]
#[schemars(rename = "Problem")]
pub struct Problem<'a> {
    /// `about:blank`: the title says it all (section 4.2.1).
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    /// Every reason, where there can be several.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    reasons: &'a [&'a str],
}

/// An answer with one detail.
pub fn answer(status: StatusCode, detail: &str) -> Response<AdminBody> {
    with_reasons(status, detail, &[])
}

/// An answer with every reason.
pub fn with_reasons(status: StatusCode, detail: &str, reasons: &[&str]) -> Response<AdminBody> {
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        reasons,
    };
    // A struct of strings and numbers always serialises.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(AdminBody::from(body));
    *response.status_mut() = status;
    let media = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

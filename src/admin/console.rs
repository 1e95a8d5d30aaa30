//! The console: one page with its style and its script, as they stand in `console/`. It holds
//! nothing about the system, so that whoever has no token yet can load it and be asked for one.

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue, Response};

use super::body::AdminBody;
use super::router;

/// Nothing from elsewhere, nothing inline, nobody around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum File {
    /// `/`
    Page,
    /// `/console.css`
    Style,
    /// `/console.js`
    Script,
    /// `/icon.svg`
    Icon,
}

impl File {
    const fn media(self) -> &'static str {
        match self {
            Self::Page => "text/html; charset=utf-8",
            Self::Style => "text/css; charset=utf-8",
            Self::Script => "text/javascript; charset=utf-8",
            Self::Icon => "image/svg+xml",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Page => include_str!("console/index.html"),
            Self::Style => include_str!("console/console.css"),
            Self::Script => include_str!("console/console.js"),
            Self::Icon => include_str!("console/icon.svg"),
        }
    }
}

/// The file.
pub fn file(file: File) -> Response<AdminBody> {
    let mut response = router::with_type(file.text(), file.media());
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (opener, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

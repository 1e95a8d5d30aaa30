//! What a provider is known to do with errors: which of them are its own, which are about the way to
//! the origin, and which stand in place of what the origin said.
//!
//! Only where it differs from what a status says anyway. Nothing known is the default, and means that
//! the status is taken at its word.

use http::{HeaderName, StatusCode};

/// A provider's habits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Habits {
    /// Its page says that it could not reach the origin, or got no usable answer.
    pub leg: Vec<StatusCode>,
    /// Its page says that it failed itself, whatever the status means elsewhere.
    pub own: Vec<StatusCode>,
    /// Its page stands in place of the origin's, and the origin marker is lost with that.
    pub replaced: Vec<StatusCode>,
    /// What only pages of its own carry.
    pub own_page: Option<OwnPage>,
}

/// A field by which a provider owns up to an error page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnPage {
    /// Its name.
    pub header: HeaderName,
    /// Values that begin so are about the way to the origin.
    pub leg: Vec<Box<str>>,
}

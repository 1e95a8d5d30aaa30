//! (being written by the config helper)

/// One mistake or one lint, with its place.
#[derive(Clone, Debug)]
pub struct Complaint {}

//! Whether a listener serves, or only says where the service is.

/// What a listener does with requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Redirect {
    /// Serves them.
    #[default]
    No,
    /// 308 to the same host and path over TLS, at its usual port.
    Https,
}

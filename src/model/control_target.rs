//! Who tells our own network's fault from that of others.

use super::topology::EndpointHost;

/// A host that has nothing to do with any provider, by a port that takes connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControlTarget {
    /// Where it is.
    pub host: EndpointHost,
    /// TCP port.
    pub port: u16,
}

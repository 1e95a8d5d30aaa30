//! Bounds on what clients can take, as the file sets them.

use std::net::IpAddr;
use std::time::Duration;

/// Bounds on what a client can take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Client connections of the whole process; over it new ones are closed at once and counted.
    pub max_connections: usize,
    /// Client connections of one client; over it new ones are closed at once and counted.
    pub max_connections_per_client: PerClient,
    /// From the first byte of a request's head to its last.
    pub header_read_timeout: Duration,
    /// Whole head, in bytes.
    pub max_header_bytes: usize,
    /// Whole request body, in bytes; over it 413.
    pub max_request_body: u64,
    /// Longest silence of a keep-alive connection between two requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to finish at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_connections_per_client: PerClient::Default,
            header_read_timeout: Duration::from_secs(10),
            max_header_bytes: 64 * 1024,
            max_request_body: 1024 * 1024 * 1024,
            idle_timeout: Duration::from_secs(75),
            drain: Duration::from_secs(30),
        }
    }
}

/// Connections of one client, at most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PerClient {
    /// 200; what runs on this machine itself (a balancer, a tunnel, a test) is no client and may have
    /// more.
    #[default]
    Default,
    /// This many, whoever it is.
    Most(u32),
}

impl PerClient {
    /// For connections from this address; `None`: no limit.
    pub fn of(self, address: IpAddr) -> Option<u32> {
        match self {
            Self::Default => (!address.is_loopback()).then_some(200),
            Self::Most(most) => Some(most),
        }
    }
}

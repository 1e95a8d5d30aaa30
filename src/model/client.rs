//! Who a client is, as far as limits for each client go; and sets of addresses.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, since whoever has one
/// address of it has them all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClientKey(u128);

impl ClientKey {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        let bits = mapped(address);
        match address.to_canonical() {
            IpAddr::V4(_) => Self(bits),
            IpAddr::V6(_) => Self(bits >> 64 << 64),
        }
    }
}

impl ClientKey {
    /// All of it, as a number.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

/// One number for both families: IPv4 where RFC 4291, section 2.5.5.2, maps it.
fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A set of addresses, asked in logarithmic time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Networks {
    /// First and last of each range: in order, apart from each other.
    ranges: Box<[(u128, u128)]>,
}

impl Networks {
    /// All addresses of some networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut all: Vec<(u128, u128)> = networks
            .into_iter()
            .map(|network| (mapped(network.network()), mapped(network.broadcast())))
            .collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                Some(_) | None => ranges.push((first, last)),
            }
        }
        Self { ranges: ranges.into() }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether it holds this one.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = mapped(address);
        let after = self.ranges.partition_point(|(first, _)| *first <= bits);
        after.checked_sub(1).is_some_and(|at| bits <= self.ranges[at].1)
    }
}

/// The network of one client that messages to people name: the first 24 or 48 bits.
pub fn prefix(address: IpAddr) -> IpNet {
    let (address, length) = match address.to_canonical() {
        IpAddr::V4(v4) => (IpAddr::V4(v4), 24),
        IpAddr::V6(v6) => (IpAddr::V6(v6), 48),
    };
    let network = IpNet::new(address, length).map(|network| network.trunc());
    // Both lengths are within their families.
    network.unwrap_or_else(|_| IpNet::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let key = |text: &str| ClientKey::of(address(text));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::9"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    }

    #[test]
    fn a_set_holds_exactly_the_addresses_of_its_networks() {
        let networks = ["192.0.2.0/25", "192.0.2.64/26", "10.0.0.1/32", "2001:db8::/32"];
        let set = Networks::new(networks.map(|text| text.parse().expect("a network")));
        for (text, held) in [
            ("192.0.1.255", false),
            ("192.0.2.0", true),
            ("192.0.2.127", true),
            ("192.0.2.128", false),
            ("::ffff:192.0.2.1", true),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::", false),
        ] {
            assert_eq!(set.contains(address(text)), held, "{text}");
        }
        assert!(!Networks::default().contains(address("192.0.2.1")));
    }

    #[test]
    fn a_prefix_is_what_people_put_into_a_file() {
        assert_eq!(prefix(address("192.0.2.77")).to_string(), "192.0.2.0/24");
        assert_eq!(prefix(address("2001:db8:1:2::3")).to_string(), "2001:db8:1::/48");
    }
}

//! Texts of the file to values: durations, sizes, rates, shares, status ranges, addresses, URLs.
//!
//! Each function is pure and answers with the value or with what is wrong and how to mend it. Bounds
//! are not theirs: the same duration is fine for one key and absurd for another.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use ipnet::IpNet;

use crate::model::control_target::ControlTarget;
use crate::model::topology::{EndpointHost, HostPattern, Scheme};
use crate::model::unit::Permille;

/// What is wrong with a text, and how to mend it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Flaw(pub(super) String);

impl Flaw {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// `250ms`, `5s`, `15m`, `24h`.
pub(super) fn duration(text: &str) -> Result<Duration, Flaw> {
    const MEND: &str = "write a whole number and one of ms, s, m, h, as in `5s`";
    let (number, unit) = number_and_unit(text, MEND)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(Flaw::new(MEND)),
    };
    let milliseconds = number.checked_mul(milliseconds).ok_or_else(too_large)?;
    Ok(Duration::from_millis(milliseconds))
}

/// A duration as it would be typed.
pub(super) fn spelled(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if milliseconds >= size && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    format!("{milliseconds}ms")
}

/// `512B`, `64KiB`, `10MiB`, `1GiB`, in bytes.
pub(super) fn size(text: &str) -> Result<u64, Flaw> {
    const MEND: &str = "write a whole number and one of B, KiB, MiB, GiB, TiB, as in `64KiB`";
    let (number, unit) = number_and_unit(text, MEND)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "K" | "KB" | "kB" | "k" | "M" | "MB" | "G" | "GB" | "T" | "TB" => {
            return Err(Flaw::new(format!(
                "`{unit}` means 1000 to some and 1024 to others; {MEND}"
            )));
        }
        _ => return Err(Flaw::new(MEND)),
    };
    number.checked_mul(bytes).ok_or_else(too_large)
}

/// `240B/s`, in bytes a second.
pub(super) fn rate(text: &str) -> Result<u64, Flaw> {
    const MEND: &str = "write a size a second, as in `240B/s`";
    size(text.strip_suffix("/s").ok_or_else(|| Flaw::new(MEND))?)
}

/// `100/s`, `30/m`, `500/h`: how many, and in what time.
pub(super) fn frequency(text: &str) -> Result<(u32, Duration), Flaw> {
    const MEND: &str =
        "write requests in a time, from 1 to 1000000, as in `100/s`, `30/m` or `500/h`";
    let parsed = || {
        let (count, unit) = text.split_once('/')?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|count| (1..=1_000_000).contains(count));
        Some((count.filter(|_| is_number)?, Duration::from_secs(seconds)))
    };
    parsed().ok_or_else(|| Flaw::new(MEND))
}

/// `20%`, `0.5%`.
pub(super) fn share(text: &str) -> Result<Permille, Flaw> {
    const MEND: &str = "write a share from 0% to 100%, with at most one decimal, as in `20%`";
    let parsed = || {
        if text == "0" {
            return Some(Permille::ZERO);
        }
        let (whole, tenths) = match text.strip_suffix('%')?.split_once('.') {
            Some((whole, tenths)) => (whole, tenths),
            None => (text.strip_suffix('%')?, "0"),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(tenths) || tenths.len() != 1 {
            return None;
        }
        let whole: u16 = whole.parse().ok()?;
        Permille::new(whole.checked_mul(10)?.checked_add(tenths.parse().ok()?)?)
    };
    parsed().ok_or_else(|| Flaw::new(MEND))
}

fn number_and_unit<'a>(text: &'a str, mend: &str) -> Result<(u64, &'a str), Flaw> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        let why = if text.starts_with('-') { "it cannot be negative; " } else { "" };
        return Err(Flaw::new(format!("{why}{mend}")));
    }
    if unit.is_empty() {
        return Err(Flaw::new(format!("its unit is missing; {mend}")));
    }
    Ok((digits.parse().map_err(|_| too_large())?, unit))
}

fn too_large() -> Flaw {
    Flaw::new("it is too large; write a smaller number")
}

/// `200`, `200-399`.
pub(super) fn statuses(text: &str) -> Result<RangeInclusive<u16>, Flaw> {
    const MEND: &str = "write a status code from 100 to 599 or a range of them, as in `200-399`";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| {
        let code = text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        code.ok_or_else(|| Flaw::new(MEND))
    };
    let (first, last) = (code(first)?, code(last)?);
    if first > last {
        return Err(Flaw::new(format!("it ends before it begins; write `{last}-{first}`")));
    }
    Ok(first..=last)
}

/// `0.0.0.0:8080`, `[::]:8080`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Flaw> {
    const MEND: &str = "write an IP address and a port, as in `0.0.0.0:8080` or `[::]:8080`";
    text.parse().map_err(|_| {
        if text.starts_with(':') {
            Flaw::new(format!("the address before the port is missing; {MEND}"))
        } else if text.parse::<IpAddr>().is_ok() {
            Flaw::new(format!("its port is missing; {MEND}"))
        } else if text.contains(|c: char| c.is_ascii_alphabetic()) && !text.starts_with('[') {
            Flaw::new(format!("a name could stand for several addresses; {MEND}"))
        } else {
            Flaw::new(MEND)
        }
    })
}

/// `192.0.2.0/24`, `192.0.2.7`.
pub(super) fn network(text: &str) -> Result<IpNet, Flaw> {
    const MEND: &str = "write a network or an address, as in `192.0.2.0/24`";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| Flaw::new(MEND))?;
    if network.addr() != network.network() {
        let meant = network.trunc();
        return Err(Flaw::new(format!(
            "bits are set behind its length; write `{meant}` for all of it"
        )));
    }
    Ok(network)
}

/// An URL's parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    pub(super) host: EndpointHost,
    pub(super) port: u16,
    /// Path and query; `None` for no path or a bare `/`.
    pub(super) rest: Option<Box<str>>,
}

/// `https://edge.example:8443/page?x`. No user, no fragment.
pub(super) fn url(text: &str) -> Result<Url, Flaw> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
        Some(_) | None => {
            return Err(Flaw::new("it has to begin with `https://` or `http://`"));
        }
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Flaw::new(
            "a user or password before the host would be sent to nobody; leave it out",
        ));
    }
    if rest.contains('#') {
        return Err(Flaw::new("a fragment (`#…`) is never sent; leave it out"));
    }
    let (host, port) = host_and_port(authority)?;
    let default_port = match scheme {
        Scheme::Https => 443,
        Scheme::Http => 80,
    };
    let rest = if rest == "/" || rest.is_empty() { None } else { Some(url_path(rest)?) };
    Ok(Url { scheme, host, port: port.unwrap_or(default_port), rest })
}

/// `192.0.2.53:53`, `www.example:443`.
pub(super) fn control_target(text: &str) -> Result<ControlTarget, Flaw> {
    const MEND: &str = "write a host and a TCP port, as in `192.0.2.53:53` or `www.example:443`";
    if text.contains('/') {
        return Err(Flaw::new(format!("nothing is asked but a connection; {MEND}")));
    }
    // An IPv6 address without brackets ends in what looks like a port.
    if text.parse::<IpAddr>().is_ok() {
        return Err(Flaw::new(format!("its port is missing; {MEND}")));
    }
    match host_and_port(text)? {
        (EndpointHost::Address(address), Some(_)) if address.is_unspecified() => {
            Err(Flaw::new(format!("that is nobody's address; {MEND}")))
        }
        (host, Some(port)) => Ok(ControlTarget { host, port }),
        (_, None) => Err(Flaw::new(format!("its port is missing; {MEND}"))),
    }
}

fn host_and_port(authority: &str) -> Result<(EndpointHost, Option<u16>), Flaw> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => (v6, rest.strip_prefix(':').or((!rest.is_empty()).then_some("?"))),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map(|port| {
        let port = port.parse::<u16>().ok().filter(|port| *port != 0);
        port.ok_or_else(|| Flaw::new("its port is not a number from 1 to 65535"))
    });
    let host = match host.parse::<IpAddr>() {
        Ok(address) => EndpointHost::Address(address),
        Err(_) => EndpointHost::Name(host_name(host)?),
    };
    Ok((host, port.transpose()?))
}

/// A path with or without query, as it would stand in a request.
pub(super) fn url_path(text: &str) -> Result<Box<str>, Flaw> {
    if !text.starts_with('/') {
        return Err(Flaw::new("it has to begin with `/`"));
    }
    let clean =
        text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>'));
    match PathAndQuery::try_from(text) {
        Ok(parsed) if clean => Ok(parsed.as_str().into()),
        Ok(_) | Err(_) => Err(Flaw::new(
            "spaces, quotes, `#` and letters beyond ASCII cannot stand in a request; write them as %XX",
        )),
    }
}

/// The beginning of an URL path.
pub(super) fn prefix(text: &str) -> Result<Box<str>, Flaw> {
    let prefix = url_path(text)?;
    if prefix.contains('?') {
        return Err(Flaw::new("the query is not looked at; leave out `?` and what follows"));
    }
    if prefix.contains('*') {
        return Err(Flaw::new("everything below a prefix belongs to it; leave out the `*`"));
    }
    if prefix.split('/').any(|segment| matches!(segment, "." | "..")) || prefix.contains("//") {
        return Err(Flaw::new(
            "no request has such a path; write it without `//`, `/./` and `/../`",
        ));
    }
    Ok(prefix)
}

/// A DNS name, in lower case: labels of letters, digits, `-` and `_`.
pub(super) fn host_name(text: &str) -> Result<Box<str>, Flaw> {
    if text.is_empty() {
        return Err(Flaw::new("the host is missing"));
    }
    if !text.is_ascii() {
        return Err(Flaw::new("letters beyond ASCII are sent in their `xn--` form; write that"));
    }
    let good = |label: &str| {
        let edges = !label.starts_with('-') && !label.ends_with('-');
        let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        (1..=63).contains(&label.len()) && edges && letters
    };
    if text.len() > 253 || !text.split('.').all(good) {
        return Err(Flaw::new(
            "a host is made of labels of 1 to 63 letters, digits and `-`, with dots between them",
        ));
    }
    Ok(text.to_ascii_lowercase().into())
}

/// `www.portal.example`, `*.portal.example`, `*`, an IP address.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, Flaw> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        let suffix = host_name(suffix)?;
        return Ok(HostPattern::Wildcard(format!(".{suffix}").into()));
    }
    if text.contains('*') {
        return Err(Flaw::new("`*` stands for the whole first label, as in `*.portal.example`"));
    }
    if text.contains("://") || text.contains('/') {
        return Err(Flaw::new("only the host stands here; a path goes under `prefix`"));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.is_some_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Ok(HostPattern::Exact(text.to_ascii_lowercase().into()));
    }
    if text.contains(':') {
        return Err(Flaw::new("a route holds for every port; leave the port out"));
    }
    Ok(HostPattern::Exact(host_name(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_their_unit_and_never_without() {
        for (text, seconds) in
            [("250ms", 0.25), ("5s", 5.0), ("15m", 900.0), ("24h", 86_400.0), ("90s", 90.0)]
        {
            assert_eq!(duration(text).expect(text).as_secs_f64(), seconds);
            assert_eq!(spelled(duration(text).expect(text)), text);
        }
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "5 s",
            "1.5s",
            "5d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        for (text, bytes) in [("0B", 0), ("64KiB", 65_536), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for bad in ["64", "64KB", "64kib", "KiB", "-1B", "20000000TiB"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
        assert_eq!(rate("240B/s"), Ok(240));
        assert!(rate("240B").is_err());
    }

    #[test]
    fn a_share_is_between_nothing_and_all() {
        let shares = [("0%", 0), ("0.5%", 5), ("20%", 200), ("100%", 1000)];
        for (text, permille) in shares {
            assert_eq!(share(text).expect(text).get(), permille);
        }
        for bad in ["", "%", "20", "101%", "100.1%", "-1%", ".5%", "1.%", "1.25%", "+1%", "99999%"]
        {
            assert!(share(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn status_codes_stand_alone_or_in_ranges() {
        assert_eq!(statuses("200"), Ok(200..=200));
        assert_eq!(statuses("200-399"), Ok(200..=399));
        for bad in ["", "99", "600", "399-200", "2xx", "200-", "-200", "200-300-400"] {
            assert!(statuses(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_of_ours_has_a_port_and_no_name() {
        assert!(socket_address("0.0.0.0:8080").is_ok());
        assert!(socket_address("[::]:8443").is_ok());
        for (bad, says) in [
            (":8080", "address before the port is missing"),
            ("127.0.0.1", "port is missing"),
            ("::1", "port is missing"),
            ("localhost:8080", "a name could stand for several"),
            ("0.0.0.0:99999", "write an IP address"),
        ] {
            assert!(socket_address(bad).expect_err(bad).0.contains(says), "{bad}");
        }
    }

    #[test]
    fn an_url_is_taken_apart_or_refused_with_the_reason() {
        let good = url("HTTPS://Edge.Example:8443/").expect("good");
        assert_eq!(good.host, EndpointHost::Name("edge.example".into()));
        assert_eq!((good.port, good.rest), (8443, None));
        assert_eq!(url("http://[::1]").expect("v6").port, 80);
        assert_eq!(url("https://a.example/x?y").expect("path").rest.as_deref(), Some("/x?y"));
        for (bad, says) in [
            ("edge.example", "begin with"),
            ("ftp://edge.example", "begin with"),
            ("https://u:p@edge.example", "user or password"),
            ("https://edge.example/#top", "fragment"),
            ("https://", "host is missing"),
            ("https://edge.example:0", "port"),
            ("https://edge.example:", "port"),
            ("https://[::1]x", "port"),
            ("https://é.example", "xn--"),
            ("https://a b.example", "labels"),
            ("https://-a.example", "labels"),
            ("https://a..example", "labels"),
        ] {
            let flaw = url(bad).expect_err(bad);
            assert!(flaw.0.contains(says), "{bad}: {flaw:?}");
        }
    }

    #[test]
    fn a_host_pattern_is_exact_one_label_or_any() {
        assert_eq!(host_pattern("*"), Ok(HostPattern::Any));
        assert_eq!(host_pattern("WWW.a.example"), Ok(HostPattern::Exact("www.a.example".into())));
        assert_eq!(host_pattern("*.a.example"), Ok(HostPattern::Wildcard(".a.example".into())));
        assert_eq!(host_pattern("127.0.0.1"), Ok(HostPattern::Exact("127.0.0.1".into())));
        assert_eq!(host_pattern("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
        for bad in [
            "",
            "a.*",
            "*a.example",
            "a.example:80",
            "a.example/x",
            "https://a",
            "a.example.",
            "*.*.a",
        ] {
            assert!(host_pattern(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_is_a_path_and_nothing_else() {
        for good in ["/", "/api", "/api/", "/a%20b", "/~x"] {
            assert_eq!(prefix(good).as_deref(), Ok(good));
        }
        for bad in ["", "api", "/a?b", "/a#b", "/a b", "/*", "/a//b", "/../a", "/\u{e9}"] {
            assert!(prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_network_is_written_without_surplus_bits() {
        assert_eq!(network("192.0.2.7").expect("address").to_string(), "192.0.2.7/32");
        assert!(network("10.0.0.0/8").is_ok());
        let surplus = network("192.0.2.7/24").expect_err("surplus");
        assert!(surplus.0.contains("`192.0.2.0/24`"), "{surplus:?}");
        assert!(network("example.org").is_err());
    }
}

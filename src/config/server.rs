//! Servers of names, as typed.

use std::net::{IpAddr, SocketAddr};

use super::values::{Flaw, host_name};
use crate::model::name_server::{NameServer, ServerHost, Speech};

const MEND: &str =
    "write `system`, `udp://192.0.2.53`, `tls://192.0.2.53#name` or `https://name/dns-query`";

/// One server; `system` is none, see the caller.
pub(super) fn name_server(text: &str) -> Result<NameServer, Flaw> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| Flaw::new(MEND))?;
    let (rest, name) = match rest.split_once('#') {
        None => (rest, None),
        Some((rest, name)) => (rest, Some(host_name(name)?)),
    };
    match scheme {
        "udp" if name.is_none() => {
            let (ip, port) = address(rest, 53)?;
            Ok(NameServer { host: ServerHost::Address(ip), port, speech: Speech::Plain })
        }
        "udp" => Err(Flaw::new("nobody shows a certificate there; leave the `#name` out")),
        "tls" => {
            let (ip, port) = address(rest, 853)?;
            let name = name.unwrap_or_else(|| ip.to_string().into());
            Ok(NameServer { host: ServerHost::Address(ip), port, speech: Speech::Tls(name) })
        }
        "https" => https(rest, name),
        _ => Err(Flaw::new(MEND)),
    }
}

fn https(rest: &str, name: Option<Box<str>>) -> Result<NameServer, Flaw> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/dns-query"),
    };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Flaw::new("its path can only hold printable ASCII"));
    }
    let (host, port, own) = match address(authority, 443) {
        Ok((ip, port)) => (ServerHost::Address(ip), port, ip.to_string().into()),
        Err(_) => {
            let (host, port) = match authority.rsplit_once(':') {
                None => (authority, 443),
                Some((host, port)) => (host, port.parse().map_err(|_| Flaw::new(MEND))?),
            };
            let host = host_name(host)?;
            (ServerHost::Name(host.clone()), port, host)
        }
    };
    let speech = Speech::Https { name: name.unwrap_or(own), path: path.into() };
    Ok(NameServer { host, port, speech })
}

/// `192.0.2.53`, `[2001:db8::1]:5353`.
fn address(text: &str, port: u16) -> Result<(IpAddr, u16), Flaw> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((address, port));
    }
    let both: Result<SocketAddr, _> = text.parse();
    both.map(|both| (both.ip(), both.port()))
        .map_err(|_| Flaw::new(format!("a server is named by its address; {MEND}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<String>, u16, Speech) {
        let server = name_server(text).expect(text);
        let address = server.address().map(|address| address.to_string());
        (address, server.port, server.speech)
    }

    #[test]
    fn each_way_to_ask_has_its_form_and_port() {
        let plain = |address: &str, port| (Some(address.to_owned()), port, Speech::Plain);
        assert_eq!(read("udp://192.0.2.53"), plain("192.0.2.53:53", 53));
        assert_eq!(read("udp://[2001:db8::1]:5353"), plain("[2001:db8::1]:5353", 5353));
        let tls = Speech::Tls("dns.example".into());
        assert_eq!(read("tls://192.0.2.53#dns.example"), (Some("192.0.2.53:853".into()), 853, tls));
        let https = |name: &str, path: &str| Speech::Https { name: name.into(), path: path.into() };
        let by_name = (None, 443, https("dns.example", "/dns-query"));
        assert_eq!(read("https://dns.example/dns-query"), by_name);
        assert_eq!(read("https://dns.example"), by_name);
        let by_address = (Some("192.0.2.53:8443".into()), 8443, https("dns.example", "/q"));
        assert_eq!(read("https://192.0.2.53:8443/q#dns.example"), by_address);
    }

    #[test]
    fn what_nobody_could_ask_is_refused() {
        for text in [
            "192.0.2.53",
            "udp://ns.example",
            "udp://",
            "udp://192.0.2.53#name.example",
            "tls://ns.example",
            "tls://192.0.2.53#",
            "https://",
            "https://dns.example:x/",
            "https://dns.example/a b",
            "quic://192.0.2.53",
        ] {
            assert!(name_server(text).is_err(), "{text}");
        }
    }
}

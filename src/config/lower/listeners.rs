//! Where clients connect, where the operator connects, and the certificates between.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use x509_parser::asn1_rs::{Any, Enumerated, FromDer, Sequence};

use super::Places;
use super::context::Context;
use crate::config::certificate::{self, Chain, MAX_PEM};
use crate::config::complaint::Place;
use crate::config::files::ReadError;
use crate::config::raw::{
    RawAdmin, RawCertificate, RawListener, RawListenerTls, RawProxyProtocol, RawRedirect,
    RawTlsVersion,
};
use crate::config::tree::At;
use crate::config::values;
use crate::config::{Admin, Certificate, Listener, ListenerTls, Secret, TlsVersion};
use crate::model::listening::{Manner, ProxyHeader, Redirect};

/// Addresses to listen on; each is a socket per worker.
const MAX_LISTENERS: usize = 64;
/// Certificates of one listener.
const MAX_CERTIFICATES: usize = 1_000;
/// Longest OCSP answer, in bytes; usual ones have one or two thousand.
const MAX_STAPLE: u64 = 64 * 1024;
/// Longest token, in bytes: it has to fit a request's head.
const MAX_TOKEN: u64 = 4 * 1024;

pub(super) fn listeners(
    context: &Context<'_>,
    raw: Option<At<Vec<At<RawListener>>>>,
    trusts_nobody: bool,
    places: &mut Vec<Place>,
) -> Vec<Listener> {
    let Some(raw) = raw else {
        context.complaints.error(
            Place::whole(0),
            "`listeners` is missing",
            "no client could connect; add `listeners: [{ address: 0.0.0.0:8080 }]`",
        );
        return Vec::new();
    };
    let Some(entries) = raw.value else { return Vec::new() };
    if entries.is_empty() {
        let mend = "no client could connect; add `- address: 0.0.0.0:8080`";
        context.complaints.error(raw.place, "`listeners` is empty", mend);
    }
    if entries.len() > MAX_LISTENERS {
        let mend = format!("each is a socket for every worker; at most {MAX_LISTENERS}");
        context.complaints.error(raw.place, "too many listeners", &mend);
    }
    let mut listeners = Vec::with_capacity(entries.len());
    for entry in entries {
        let place = entry.place;
        let Some(RawListener { address, tls, redirect, proxy_protocol }) = entry.value else {
            continue;
        };
        let address = context.needed("address", address, place);
        let manner = Manner {
            redirect: self::redirect(context, redirect.as_ref(), tls.is_some()),
            proxy_header: proxy_header(context, proxy_protocol, trusts_nobody),
        };
        let tls = tls.map(|tls| self::tls(context, tls));
        let Some(at) = address else { continue };
        if let Some(address) = context.parsed("address", &at, values::socket_address) {
            listeners.push(Listener { address, tls, manner });
            places.push(at.place);
        }
    }
    listeners
}

fn redirect(context: &Context<'_>, raw: Option<&At<RawRedirect>>, is_tls: bool) -> Redirect {
    match raw.and_then(|at| at.value) {
        None => Redirect::No,
        Some(RawRedirect::Https) => {
            if is_tls && let Some(at) = raw {
                let mend = "clients would be sent here again; remove `redirect`, or `tls`";
                context.complaints.error(at.place, "`redirect: https` where TLS is spoken", mend);
            }
            Redirect::Https
        }
    }
}

fn proxy_header(
    context: &Context<'_>,
    raw: Option<At<RawProxyProtocol>>,
    trusts_nobody: bool,
) -> ProxyHeader {
    let Some(at) = raw else { return ProxyHeader::Off };
    match at.value {
        None | Some(RawProxyProtocol::Off) => ProxyHeader::Off,
        Some(RawProxyProtocol::Required) => {
            if trusts_nobody {
                let mend = "every connection would be closed, since the header is believed from those alone; \
                            name your balancers";
                let what = "`proxy_protocol: required` without `trusted_proxies`";
                context.complaints.error(at.place, what, mend);
            }
            ProxyHeader::Required
        }
    }
}

fn tls(context: &Context<'_>, raw: At<RawListenerTls>) -> ListenerTls {
    let place = raw.place;
    let empty = ListenerTls { certificates: Vec::new(), min_version: TlsVersion::default() };
    let Some(RawListenerTls { certificates, min_version }) = raw.value else { return empty };
    let min_version = match min_version.and_then(|at| at.value) {
        None => TlsVersion::default(),
        Some(RawTlsVersion::V1_2) => TlsVersion::V1_2,
        Some(RawTlsVersion::V1_3) => TlsVersion::V1_3,
    };
    let Some(certificates) = context.needed("certificates", certificates, place) else {
        return ListenerTls { min_version, ..empty };
    };
    let Some(entries) = certificates.value else { return ListenerTls { min_version, ..empty } };
    if entries.is_empty() || entries.len() > MAX_CERTIFICATES {
        let mend = format!("TLS needs one, and more than {MAX_CERTIFICATES} are not kept");
        let what = format!("`certificates` holds {}", entries.len());
        context.complaints.error(certificates.place, what, &mend);
        return ListenerTls { min_version, ..empty };
    }
    let certificates =
        entries.into_iter().filter_map(|entry| certificate(context, entry)).collect();
    ListenerTls { certificates, min_version }
}

fn certificate(context: &Context<'_>, raw: At<RawCertificate>) -> Option<Certificate> {
    let place = raw.place;
    let RawCertificate { certificate, key } = raw.value?;
    let certificate = context.needed("certificate", certificate, place);
    let key = context.needed("key", key, place);
    let read = certificate.and_then(|at| {
        let (file, pem) = context.file("certificate", &at, MAX_PEM)?;
        Some((context.sound("certificate", &at, Chain::parse(&pem))?, (at, file)))
    });
    let (chain, staple) = read.unzip();
    let key = key.and_then(|at| {
        let (_, pem) = context.file("key", &at, MAX_PEM)?;
        let key = context.sound("key", &at, certificate::private_key(&pem))?;
        Some((at, key))
    });
    let (at, key) = key?;
    let (staple_at, file) = staple?;
    let mut whole = context.sound("key", &at, chain?.with_key(key, &staple_at.shown))?;
    whole.staple(staple_of(context, &staple_at, &file)?);
    Some(whole)
}

/// What its authority last said of a certificate (OCSP): in a file beside it, where there is one.
/// `None` after a complaint.
fn staple_of(context: &Context<'_>, at: &At<String>, certificate: &Path) -> Option<Vec<u8>> {
    let mut name = certificate.as_os_str().to_owned();
    name.push(".ocsp");
    match context.files.bytes(Path::new(&name), MAX_STAPLE) {
        Ok(staple) if is_ocsp_response(&staple) => Some(staple),
        Ok(staple) if staple.is_empty() => Some(staple),
        Ok(_) => {
            let mend = "it would break every handshake; write the DER answer of the authority, or remove it";
            let what = format!("`{}.ocsp` is no OCSP answer", at.shown);
            context.complaints.error(at.place, what, mend);
            None
        }
        Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => Some(Vec::new()),
        Err(error) => {
            let what = format!("`{}.ocsp` cannot be read: {error}", at.shown);
            context.complaints.error(at.place, what, "mend or remove it");
            None
        }
    }
}

/// Whether bytes are one OCSP response and nothing else (RFC 6960, section 4.2.1): anything else would
/// break handshakes. Whether it is a good one is for clients to say.
fn is_ocsp_response(der: &[u8]) -> bool {
    let Ok((after, response)) = Sequence::from_der(der) else { return false };
    let Ok((bytes, _status)) = Enumerated::from_der(&response.content) else { return false };
    let is_one = |rest: &[u8]| Any::from_der(rest).is_ok_and(|(after, _)| after.is_empty());
    after.is_empty() && (bytes.is_empty() || is_one(bytes))
}

pub(super) fn admin(context: &Context<'_>, raw: Option<At<RawAdmin>>) -> Option<Admin> {
    let raw = raw?;
    let RawAdmin { address, token_file } = raw.value?;
    let address = context.needed("address", address, raw.place);
    let has_token = token_file.is_some();
    let token = token_file.and_then(|at| token(context, &at));
    let at = address?;
    let address: SocketAddr = context.parsed("address", &at, values::socket_address)?;
    if !address.ip().is_loopback() && !has_token {
        context.complaints.error(
            at.place,
            format_args!("`address: {}` is not loopback and there is no `token_file`", at.shown),
            "anybody who reaches it could read and steer; add `token_file`, or listen on 127.0.0.1",
        );
    }
    Some(Admin { address, token })
}

fn token(context: &Context<'_>, at: &At<String>) -> Option<Secret> {
    let (_, bytes) = context.file("token_file", at, MAX_TOKEN)?;
    let token = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        context.complaints.error(
            at.place,
            format_args!("`token_file: {}` holds no token", at.shown),
            "a token is one word of printable ASCII; `openssl rand -hex 32` makes a good one",
        );
        return None;
    }
    Some(Secret::new(token))
}

/// Two listeners on one address would share its connections, or the second would not start.
pub(super) fn refuse_shared_addresses(
    context: &Context<'_>,
    listeners: &[Listener],
    admin: Option<&Admin>,
    places: &Places,
) {
    let clients = listeners.iter().map(|listener| listener.address);
    let mut taken: Vec<(SocketAddr, Place)> = Vec::new();
    let admin = admin.map(|admin| admin.address).into_iter();
    let all = clients.zip(places.listeners.iter().copied()).chain(admin.zip(places.admin));
    for (address, place) in all {
        if let Some((other, first)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
            let name = context.files.name(first.file).unwrap_or(std::path::Path::new(""));
            let mend = format!(
                "it takes connections of `{other}` ({}:{}); choose another port",
                name.display(),
                first.line
            );
            context.complaints.error(place, format_args!("`{address}` is taken"), &mend);
        }
        taken.push((address, place));
    }
}

/// Whether one address takes connections meant for the other. `[::]` takes IPv4 too; port 0 is a
/// free one each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| {
        a.ip() == b.ip() || (a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4()))
    };
    a.port() != 0 && a.port() == b.port() && (covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_der_of_the_right_shape_is_an_ocsp_response() {
        for whole in [&[0x30, 3, 0x0a, 1, 0][..], &[0x30, 7, 0x0a, 1, 0, 0xa0, 2, 0x30, 0]] {
            assert!(is_ocsp_response(whole), "{whole:x?}");
        }
        for other in [
            &b""[..],
            b"\x30garbage",
            &[0x30, 3, 0x0a, 1, 0, 0],
            &[0x30, 3, 0x02, 1, 0],
            &[0x30, 6, 0x0a, 1, 0, 0xa0, 2, 0x30],
        ] {
            assert!(!is_ocsp_response(other), "{other:x?}");
        }
    }

    #[test]
    fn addresses_overlap_where_a_connection_could_be_meant_for_both() {
        #[rustfmt::skip]
        let table = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80",   "127.0.0.1:80", true),
            ("[::]:80",      "127.0.0.1:80", true),
            ("[::]:80",      "0.0.0.0:80",   true),
            ("0.0.0.0:80",   "[::1]:80",     false),
            ("127.0.0.1:0",  "127.0.0.1:0",  false),
        ];
        for (a, b, expected) in table {
            let (first, second) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!(overlap(first, second), expected, "{a} {b}");
            assert_eq!(overlap(second, first), expected, "{b} {a}");
        }
    }
}

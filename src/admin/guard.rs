//! Who may ask at all: whoever shows the token, and no page of another origin.
//!
//! A page in an operator's browser can send requests here that the operator never meant. A browser
//! says so: by `Sec-Fetch-Site`, and by an `Origin` that is not ours. Where no token is set, the host
//! asked for has to be an address or `localhost` besides, so that no page can lead a name of its own
//! here and be taken for ours (DNS rebinding). Programs send neither field and name an address.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use super::token::Token;

/// Why a request is not looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stranger {
    /// The token is not shown.
    NoToken,
    /// A page of another origin asks.
    ForeignPage,
    /// No token is set, and the name asked for may be anybody's.
    ForeignName,
}

/// Whether the request may be looked at.
///
/// # Errors
/// When not.
pub fn admit(token: Option<&Token>, headers: &HeaderMap) -> Result<(), Stranger> {
    if token.is_some_and(|token| !token.is_shown_in(headers)) {
        return Err(Stranger::NoToken);
    }
    if !is_of_our_page(headers) {
        return Err(Stranger::ForeignPage);
    }
    if token.is_none() && !names_this_machine(headers) {
        return Err(Stranger::ForeignName);
    }
    Ok(())
}

/// Whether no browser says that another origin's page asks.
fn is_of_our_page(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let ours = |origin: &HeaderValue| {
        let authority = origin.as_bytes().splitn(2, |byte| *byte == b'/').nth(1);
        authority
            .and_then(|rest| rest.strip_prefix(b"/"))
            .is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    let near = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    headers.get_all(ORIGIN).iter().all(ours) && headers.get_all("sec-fetch-site").iter().all(near)
}

/// Whether the request names us by an address or as `localhost`: names can lead anywhere.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(Ok(authority)) = host.map(str::parse::<Authority>) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it shows, whether a token is set, the fields, and what comes of it.
    type Row = (&'static str, bool, &'static [(&'static str, &'static str)], Result<(), Stranger>);

    #[test]
    fn who_may_ask_is_told_from_who_may_not() {
        use Stranger::{ForeignName, ForeignPage, NoToken};
        let token = Token::new("s3cret").expect("a token");
        const SHOWN: &str = "Bearer s3cret";
        #[rustfmt::skip]
        let table: &[Row] = &[
            // what it shows                    token  headers                                                              is
            ("a program at an address",         false, &[("host", "127.0.0.1:9180")],                                        Ok(())),
            ("at IPv6",                         false, &[("host", "[::1]:9180")],                                            Ok(())),
            ("at localhost",                    false, &[("host", "LocalHost")],                                             Ok(())),
            ("at a name",                       false, &[("host", "evil.example:9180")],                                     Err(ForeignName)),
            ("at nothing",                      false, &[],                                                                  Err(ForeignName)),
            ("at a name, with the token",       true,  &[("host", "admin.example"), ("authorization", SHOWN)],               Ok(())),
            ("without the token",               true,  &[("host", "127.0.0.1")],                                             Err(NoToken)),
            ("our page",                        false, &[("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:1"), ("sec-fetch-site", "same-origin")], Ok(())),
            ("our page behind TLS",             true,  &[("host", "a.example"), ("origin", "https://a.example"), ("authorization", SHOWN)], Ok(())),
            ("typed into the address bar",      false, &[("host", "localhost"), ("sec-fetch-site", "none")],                 Ok(())),
            ("another port is another origin",  false, &[("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:2")],         Err(ForeignPage)),
            ("another name",                    false, &[("host", "localhost"), ("origin", "https://evil.example")],         Err(ForeignPage)),
            ("our name as a user's",            false, &[("host", "localhost"), ("origin", "http://localhost@evil.example")], Err(ForeignPage)),
            ("a page without an origin",        false, &[("host", "localhost"), ("origin", "null")],                         Err(ForeignPage)),
            ("an empty origin",                 false, &[("host", "localhost"), ("origin", "")],                             Err(ForeignPage)),
            ("one of two origins",              false, &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://b.example")], Err(ForeignPage)),
            ("a page of the same site",         false, &[("host", "localhost"), ("sec-fetch-site", "same-site")],            Err(ForeignPage)),
            ("a page of another site",          true,  &[("host", "localhost"), ("sec-fetch-site", "cross-site"), ("authorization", SHOWN)], Err(ForeignPage)),
        ];
        for (shows, wants_token, fields, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in *fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let admitted = admit(wants_token.then_some(&token), &headers);
            assert_eq!(admitted, *expected, "{shows}");
        }
    }
}

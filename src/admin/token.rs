//! The operator's bearer token (RFC 6750).

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// What must be shown for anything but `/livez` and `/readyz`. Never printed.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// `None` for an empty one, which everybody could guess.
    pub fn new(value: &str) -> Option<Self> {
        let value = value.trim();
        (!value.is_empty()).then(|| Self(value.into()))
    }

    /// Whether a request shows it. The time this takes depends on the lengths only.
    pub fn is_shown_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, shown)) = value.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && same(shown, self.0.as_bytes())
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Looks at every byte whatever the ones before were. `black_box` keeps the compiler from leaving
/// the loop early.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    a.len() == b.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_whole_token_is_taken() {
        let token = Token::new("s3cret\n").expect("a token");
        #[rustfmt::skip]
        let table: [(&str, &[&'static str], bool); 7] = [
            ("the token",                 &["Bearer s3cret"],                  true),
            ("the scheme has no case",    &["bearer s3cret"],                  true),
            ("a part of it",              &["Bearer s3cre"],                   false),
            ("more than it",              &["Bearer s3cret2"],                 false),
            ("another scheme",            &["Basic s3cret"],                   false),
            ("nothing",                   &[],                                 false),
            ("two, one of them right",    &["Bearer wrong", "Bearer s3cret"],  false),
        ];
        for (shows, values, taken) in table {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert_eq!(token.is_shown_in(&headers), taken, "{shows}");
        }
    }

    #[test]
    fn a_token_is_neither_empty_nor_printed() {
        assert!(Token::new(" \n").is_none());
        let token = Token::new("s3cret").expect("a token");
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}

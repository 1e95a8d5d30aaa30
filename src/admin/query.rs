//! Parameters of a query string (`application/x-www-form-urlencoded`, URL Standard section 5).

use http::Uri;

/// The first value under this name, decoded; `None` when it is absent or no UTF-8.
pub fn value(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut named = pairs.filter(|(key, _)| *key == name);
    named.next().and_then(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (*first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h * 16 + l),
            _ => None,
        };
        rest = if escaped.is_some() { &after[2..] } else { after };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The same text as a value in a query string.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_decoded_and_encoded_again() {
        let uri: Uri = "/x?a=1&url=https%3A%2F%2Fw.example%2Fa+b%3Fc%3D%C3%A9&url=2&bad=%FF&p=50%"
            .parse()
            .expect("a URI");
        assert_eq!(value(&uri, "url").as_deref(), Some("https://w.example/a b?c=é"));
        assert_eq!(value(&uri, "p").as_deref(), Some("50%"), "what is no escape stays");
        assert_eq!(value(&uri, "bad"), None);
        assert_eq!(value(&uri, "none"), None);
        let text = "https://w.example/a b?c=é&d";
        let uri: Uri = format!("/x?url={}", encoded(text)).parse().expect("a URI");
        assert_eq!(value(&uri, "url").as_deref(), Some(text));
    }
}

//! Whether a path can be read in one way only. Asked where another reading could belong to another route
//! that lets others carry it (`Found::is_ambiguous` of the matcher).
//!
//! Nothing is cleaned: what could be taken for another path is refused, since nobody here knows how its
//! origin reads it. Capitals cannot be judged so: that `/Page` and `/page` are two is usual.

/// Whether no server can take a path for another one: it has no empty segment, no dot segment, no
/// parameter, and nothing that is written as `%XX` without need, or twice.
pub fn is_plain(url_path: &str) -> bool {
    let is_dot = |segment: &str| matches!(segment, "." | "..");
    !url_path.contains([';', '\\'])
        && !url_path.contains("//")
        && !url_path.split('/').any(is_dot)
        && url_path.split('%').skip(1).all(is_needed)
}

/// Whether what stands behind a `%` is the code of a byte that a path cannot have as it is, and that no server
/// takes for a border or an end.
fn is_needed(code: &str) -> bool {
    let Some(byte) = byte_of(code) else { return false };
    match byte {
        b'%' => byte_of(code.get(2..).unwrap_or_default()).is_none(),
        b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b';' => false,
        _ => !byte.is_ascii_alphanumeric() && !byte.is_ascii_control(),
    }
}

fn byte_of(code: &str) -> Option<u8> {
    let digits = code.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_another_path_is_not_plain() {
        for bad in [
            "/%70atients/1",
            "/patients%2F1",
            "/patients%5c1",
            "//patients/1",
            "/patients//1",
            "/x/../patients/1",
            "/./patients/1",
            "/patients/..",
            "/%2e%2E/patients",
            "/.%2e/patients",
            "/patients;x/1",
            "/patients%3bx/1",
            "/%2570atients/1",
            "/patients%00/1",
            "/patients%0a",
            "/patients%7f",
            "/%u0070atients/1",
            "/patients/%",
            "/patients/%4",
            "/patients/%é0",
            "/patients\\1",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
        for good in [
            "/",
            "*",
            "/patients/1",
            "/Patients/1",
            "/patients/",
            "/a%20b",
            "/caf%C3%A9",
            "/100%25",
            "/100%25%20off",
            "/x%40y,z=1",
            "/...",
            "/a..b/.well-known",
            "/a:b@c!$&'()*+",
            "/é",
        ] {
            assert!(is_plain(good), "{good}");
        }
    }
}

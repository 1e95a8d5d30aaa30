//! The combined log format, cut into named fields.

use serde_json::{Map, Value};

/// One word of a line.
enum Word<'a> {
    /// Bare.
    Plain(&'a str),
    /// In brackets.
    Bracketed(&'a str),
    /// In quotation marks; what it escapes stays escaped.
    Quoted(&'a str),
    /// `name=value`, the value with or without quotation marks.
    Named(&'a str, &'a str),
}

/// The fields of a line: those of the format by their usual names, then whatever is named. `None`
/// where it is not of this format.
pub(super) fn fields(line: &str) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    let mut add = |name: &str, value: &str| {
        found.insert(name.to_owned(), Value::String(value.to_owned()));
    };
    let mut rest = line;
    let mut plain = 0;
    let mut quoted = 0;
    while let Some((word, after)) = word(rest) {
        match word {
            Word::Plain(text) if plain == 0 => {
                add("remote_addr", text);
                plain = 1;
            }
            // The status stands behind the request.
            Word::Plain(text) if quoted == 1 && plain < 10 => {
                add("status", text);
                plain = 10;
            }
            Word::Plain(_) => {}
            Word::Bracketed(text) => add("time_local", text),
            Word::Quoted(text) => {
                if quoted == 0 {
                    add("request", text);
                }
                quoted += 1;
            }
            Word::Named(name, value) => add(name, value),
        }
        rest = after;
    }
    (found.contains_key("time_local") && quoted > 0).then_some(found)
}

/// The next word, and what follows it.
fn word(text: &str) -> Option<(Word<'_>, &str)> {
    let text = text.trim_start_matches(' ');
    if let Some(inner) = text.strip_prefix('[') {
        let (inside, after) = inner.split_once(']')?;
        return Some((Word::Bracketed(inside), after));
    }
    if let Some(inner) = text.strip_prefix('"') {
        let (inside, after) = quoted(inner)?;
        return Some((Word::Quoted(inside), after));
    }
    let end = text.find(' ').unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    match text.split_once('=').filter(|(name, _)| name.len() < end && is_name(name)) {
        Some((name, value)) => match value.strip_prefix('"') {
            Some(inner) => {
                let (inside, after) = quoted(inner)?;
                Some((Word::Named(name, inside), after))
            }
            None => {
                let (value, after) = value.split_at(value.find(' ').unwrap_or(value.len()));
                Some((Word::Named(name, value), after))
            }
        },
        None => Some((Word::Plain(&text[..end]), &text[end..])),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-@.".contains(&b))
}

/// Up to the closing quotation mark, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return Some((&text[..place], &text[place + 1..])),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, name: &str) -> Option<String> {
        fields(line)?.get(name)?.as_str().map(str::to_owned)
    }

    #[test]
    fn fields_are_found_by_name_whatever_stands_between() {
        let line = r#"::1 - user [18/Nov/2025:11:28:03 +0100] "GET /\"x HTTP/1.1" 200 5 "-" "a=b \" c" x upstream="one, two" request_time=0.1"#;
        #[rustfmt::skip]
        let table = [
            ("remote_addr",  "::1"),
            ("time_local",   "18/Nov/2025:11:28:03 +0100"),
            ("request",      r#"GET /\"x HTTP/1.1"#),
            ("status",       "200"),
            ("upstream",     "one, two"),
            ("request_time", "0.1"),
        ];
        for (name, wanted) in table {
            assert_eq!(found(line, name).as_deref(), Some(wanted), "{name}");
        }
    }

    #[test]
    fn a_line_without_time_or_request_is_not_of_this_format() {
        for line in ["", "one two three", "1.2.3.4 - - [now]", r#"a "GET / HTTP/1.1" 200"#] {
            assert!(fields(line).is_none(), "{line}");
        }
    }
}

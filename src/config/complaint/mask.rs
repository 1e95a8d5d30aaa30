//! What of a source line could be a secret, and is shown as stars.

/// The key whose fields are sent to an upstream: keys of it, often.
pub(super) const SET: &str = "set:";

/// Whose block a line is one of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Within {
    /// Of `set:`.
    Set,
    /// Of any other key.
    Anything,
}

/// The characters of a source line, one for one, without what could be a secret (the password of an
/// URL, what follows `value:`, fields of `set:`) and without what a terminal would obey.
pub(super) fn masked_as(within: Within, line: &str) -> Vec<char> {
    let mut characters: Vec<char> =
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match within {
        Within::Set => mask_fields(&mut characters),
        Within::Anything => {
            let plain: String = characters.iter().collect();
            if let Some(at) = plain.find(SET) {
                let from = plain[..at].chars().count() + SET.len();
                mask_fields(&mut characters[from..]);
            }
        }
    }
    mask_values(&mut characters);
    mask_credentials(&mut characters);
    characters
}

/// `X-Key: secret` → `X-Key: ******`, each of them, up to the brace that closes what was open before.
fn mask_fields(characters: &mut [char]) {
    let (mut at, mut depth) = (0, 0_i32);
    while at < characters.len() && depth >= 0 {
        match characters[at] {
            '{' => depth += 1,
            '}' => depth -= 1,
            ':' => {
                let blank = |c: &&char| **c == ' ';
                let start = at + 1 + characters[at + 1..].iter().take_while(blank).count();
                if characters.get(start).is_some_and(|first| *first != '{') {
                    at = mask_scalar(characters, start);
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
        if depth == 0 && characters[at - 1] == '}' {
            return;
        }
    }
}

/// Masks the scalar that begins here, unless it is a reference; where it ends.
fn mask_scalar(characters: &mut [char], start: usize) -> usize {
    let end = scalar_end(characters, start);
    if !characters[start..end].iter().collect::<String>().contains("${") {
        characters[start..end].fill(MASK);
    }
    end
}

/// What stands in for one character of a secret.
const MASK: char = '*';

/// `value: secret` → `value: ******`, also in `{ header: a, value: "secret" }`. What was typed as
/// `${…}` names a secret without being one, and stays.
fn mask_values(characters: &mut [char]) {
    let key: Vec<char> = "value".chars().collect();
    for at in 0..characters.len().saturating_sub(key.len()) {
        let starts_word =
            at == 0 || !(characters[at - 1].is_alphanumeric() || characters[at - 1] == '_');
        if !starts_word || characters[at..at + key.len()] != key[..] {
            continue;
        }
        let mut start = at + key.len();
        while matches!(characters.get(start), Some('"' | '\'' | ' ')) {
            start += 1;
        }
        if characters.get(start) != Some(&':') {
            continue;
        }
        start += 1;
        while characters.get(start) == Some(&' ') {
            start += 1;
        }
        mask_scalar(characters, start);
    }
}

/// Where the scalar that begins here ends, within the line.
fn scalar_end(characters: &[char], start: usize) -> usize {
    let rest = &characters[start.min(characters.len())..];
    let length = match rest.first() {
        Some(quote @ ('"' | '\'')) => rest[1..].iter().rposition(|c| c == quote).map(|end| end + 2),
        Some(_) => rest.iter().position(|c| matches!(c, ',' | '}')),
        None => None,
    };
    start + length.unwrap_or(rest.len())
}

/// `https://user:password@host` → `https://*************@host`.
pub(super) fn mask_credentials(characters: &mut [char]) {
    let mut at = 0;
    while at + 3 <= characters.len() {
        if characters[at..at + 3] != [':', '/', '/'] {
            at += 1;
            continue;
        }
        let start = at + 3;
        let ends = |c: &char| matches!(c, '/' | ' ' | '"' | '\'' | ',' | '}');
        let end = characters[start..].iter().position(ends).map_or(characters.len(), |n| start + n);
        if let Some(sign) = characters[start..end].iter().rposition(|c| *c == '@') {
            characters[start..start + sign].fill(MASK);
        }
        at = end;
    }
}

//! The lines of `tests/golden/refused.txt`: requests that nobody should serve.

use std::fs;
use std::path::Path;

use super::PORTAL;

/// One line of `tests/golden/refused.txt`.
pub struct Case {
    /// Which section of which RFC.
    pub rule: String,
    pub bytes: Vec<u8>,
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/refused.txt");
    let text = fs::read_to_string(file).expect("a file of the project");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let case = |line: &str| {
        let (rule, bytes) = line.split_once(' ').expect("a rule and bytes");
        Case { rule: rule.to_owned(), bytes: unescaped(bytes) }
    };
    lines.map(case).collect()
}

/// `{host}`, `{N*BYTES}`, `\r`, `\n`, `\t`, `\\` and `\xNN`; everything else stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '{' {
            let (inside, after) = rest[1..].split_once('}').expect("a closing brace");
            match inside.split_once('*') {
                None => bytes.extend(PORTAL.as_bytes()),
                Some((times, what)) => {
                    bytes.extend(unescaped(what).repeat(times.parse().expect("a number")));
                }
            }
            rest = after;
        } else if first == '\\' {
            let (byte, length) = match &rest[1..2] {
                "r" => (b'\r', 2),
                "n" => (b'\n', 2),
                "t" => (b'\t', 2),
                "x" => (u8::from_str_radix(&rest[2..4], 16).expect("two digits"), 4),
                _ => (b'\\', 2),
            };
            bytes.push(byte);
            rest = &rest[length..];
        } else {
            bytes.push(first as u8);
            rest = &rest[1..];
        }
    }
    bytes
}

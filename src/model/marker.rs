//! The keys of a signed origin marker, as their file holds them. What is signed and how it is read
//! stands in `request::marker`.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;

/// One key, ready to sign: HMAC's two first blocks are computed once, not for every answer.
#[derive(Clone)]
pub struct MarkerKey(hmac::Key);

impl MarkerKey {
    /// To sign and to compare with.
    pub fn hmac(&self) -> &hmac::Key {
        &self.0
    }
}

/// The keys of one service, never empty: the first signs, each of them is believed.
#[derive(Clone)]
pub struct MarkerKeys(Arc<[MarkerKey]>);

impl MarkerKeys {
    /// Keys of one file: two while one is exchanged for the next, and some to spare. A forged marker
    /// is compared with all of them.
    pub const MOST: usize = 8;
    /// Shortest key, in characters.
    pub const SHORTEST: usize = 32;
    /// Longest key, in characters.
    pub const LONGEST: usize = 512;
    /// Largest file, in bytes.
    pub const MAX_FILE: u64 = 16 * 1024;

    /// Reads a file: a key a line, as it stands there (nothing is decoded, so that every language
    /// signs with the same bytes). Empty lines and those that begin with `#` are left out, blanks
    /// around a key too.
    ///
    /// # Errors
    /// What is wrong with it, without any part of a key.
    pub fn parse(file: &[u8]) -> Result<Self, KeyFlaw> {
        let mut keys = Vec::new();
        for (line, number) in file.split(|byte| *byte == b'\n').zip(1..) {
            let key = line.trim_ascii();
            if key.is_empty() || key.starts_with(b"#") {
                continue;
            }
            if !key.iter().all(u8::is_ascii_graphic) {
                return Err(KeyFlaw::NotOneWord { line: number });
            }
            if key.len() < Self::SHORTEST {
                return Err(KeyFlaw::Short { line: number });
            }
            if key.len() > Self::LONGEST {
                return Err(KeyFlaw::Long { line: number });
            }
            keys.push(MarkerKey(hmac::Key::new(hmac::HMAC_SHA256, key)));
        }
        match keys.len() {
            0 => Err(KeyFlaw::Empty),
            1..=Self::MOST => Ok(Self(keys.into())),
            _ => Err(KeyFlaw::TooMany),
        }
    }

    /// The one that signs.
    pub fn first(&self) -> &MarkerKey {
        // `parse` makes no empty one.
        &self.0[0]
    }

    /// Each that is believed.
    pub fn iter(&self) -> impl Iterator<Item = &MarkerKey> {
        self.0.iter()
    }
}

impl fmt::Debug for MarkerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MarkerKeys({})", self.0.len())
    }
}

/// What is wrong with a file of keys. Lines are counted from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyFlaw {
    /// It holds none.
    Empty,
    /// It holds more than [`MarkerKeys::MOST`].
    TooMany,
    /// A key could be guessed.
    Short {
        /// Where.
        line: usize,
    },
    /// A key is longer than [`MarkerKeys::LONGEST`].
    Long {
        /// Where.
        line: usize,
    },
    /// A key holds a blank or what is not printable ASCII: some language would read it differently.
    NotOneWord {
        /// Where.
        line: usize,
    },
}

impl fmt::Display for KeyFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (MarkerKeys::SHORTEST, MarkerKeys::LONGEST);
        match self {
            Self::Empty => f.write_str("the file holds no key")?,
            Self::TooMany => write!(f, "the file holds more than {} keys", MarkerKeys::MOST)?,
            Self::Short { line } => {
                write!(f, "the key in line {line} is shorter than {least} characters")?;
            }
            Self::Long { line } => {
                write!(f, "the key in line {line} is longer than {most} characters")?;
            }
            Self::NotOneWord { line } => {
                write!(f, "the key in line {line} holds a blank or what is not printable ASCII")?;
            }
        }
        f.write_str("; write one a line, as `openssl rand -hex 32` makes them")
    }
}

impl std::error::Error for KeyFlaw {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_key_a_line_and_says_what_is_wrong_without_showing_it() {
        let key = "0123456789abcdef0123456789abcdef";
        let many = format!("{key}\n").repeat(9);
        let long = "x".repeat(513);
        #[rustfmt::skip]
        let table = [
            ("one is enough",                 key.to_owned(),                        Ok(1)),
            ("editors end lines as they like", format!("{key}\r\n{key}\r\n"),         Ok(2)),
            ("notes are no keys",             format!("# of 2026\n\n  {key} \n"),    Ok(1)),
            ("nothing signs nothing",         "# none\n".to_owned(),                 Err(KeyFlaw::Empty)),
            ("there is a bound",              many,                                  Err(KeyFlaw::TooMany)),
            ("what can be guessed is none",   format!("{key}\n{}", &key[..31]),      Err(KeyFlaw::Short { line: 2 })),
            ("nor what is a text",            long,                                  Err(KeyFlaw::Long { line: 1 })),
            ("nor two words",                 format!("#\n{key} {key}"),             Err(KeyFlaw::NotOneWord { line: 2 })),
            ("nor other letters",             format!("{key}é"),                     Err(KeyFlaw::NotOneWord { line: 1 })),
        ];
        for (shows, file, expected) in table {
            let parsed = MarkerKeys::parse(file.as_bytes());
            assert_eq!(
                parsed.as_ref().map(|keys| keys.iter().count()),
                expected.as_ref().copied(),
                "{shows}"
            );
            let said = parsed.map_or_else(|flaw| flaw.to_string(), |keys| format!("{keys:?}"));
            assert!(!said.contains("0123"), "{shows}: {said}");
        }
    }
}

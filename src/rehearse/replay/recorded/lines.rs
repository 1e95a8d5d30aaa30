//! Lines of any reader, each within a bound: a log of gigabytes takes the memory of one line.

use std::io::{self, BufRead};

/// Longest line, in bytes.
const LONGEST: usize = 64 * 1024;

/// What came next.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// A line, without its end.
    Line,
    /// A line that was longer than allowed; it has been skipped.
    TooLong,
    /// Nothing more.
    End,
}

/// Reads the next line into `line`.
pub(super) fn next(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Next> {
    line.clear();
    let mut too_long = false;
    loop {
        let read = from.fill_buf()?;
        if read.is_empty() {
            return Ok(match (too_long, line.is_empty()) {
                (true, _) => Next::TooLong,
                (false, true) => Next::End,
                (false, false) => Next::Line,
            });
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        too_long |= line.len() + part.len() > LONGEST;
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return Ok(if too_long { Next::TooLong } else { Next::Line });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn an_endless_line_is_skipped_and_the_next_one_read() {
        let mut text = vec![b'x'; LONGEST + 1];
        text.extend_from_slice(b"\nshort\n\nlast");
        // A small buffer, so that lines come in pieces.
        let mut from = BufReader::with_capacity(7, &text[..]);
        let mut line = Vec::new();
        let mut read = || {
            let next = next(&mut from, &mut line).expect("a slice is always readable");
            (next, String::from_utf8_lossy(&line).into_owned())
        };
        assert_eq!(read().0, Next::TooLong);
        assert_eq!(read(), (Next::Line, "short".to_owned()));
        assert_eq!(read(), (Next::Line, String::new()));
        assert_eq!(read(), (Next::Line, "last".to_owned()));
        assert_eq!(read().0, Next::End);
    }
}

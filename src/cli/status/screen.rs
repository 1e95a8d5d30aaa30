//! What a terminal shows of a text that is longer or wider than it: cut to its size, coloured by
//! its words, drawn over what was there. Pure: text and size in, bytes out.

/// How large the terminal is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Size {
    /// In lines.
    pub(super) rows: usize,
    /// In characters.
    pub(super) columns: usize,
}

/// Whether words are coloured (`NO_COLOR`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Paint {
    /// They are.
    Coloured,
    /// They are not.
    Plain,
}

/// Words that stand for something, with their colour (SGR). Whoever sees no colours reads them.
const COLOURS: [(&str, &str); 12] = [
    ("ejected", "1;31"),
    ("fail-open", "1;31"),
    ("fail-closed", "1;31"),
    ("the origin itself fails", "1;31"),
    ("incident", "1;31"),
    ("suspect", "33"),
    ("draining", "33"),
    ("forced out", "33"),
    ("half-open", "36"),
    ("ramping", "36"),
    ("healthy", "32"),
    ("barred", "2"),
];

/// One frame: `head` in the first line, then the text from line `top` on, then `foot` in the last
/// line. Drawn from the upper left corner, each line to its end: nothing is cleared first, so
/// that nothing flickers.
pub(super) fn frame([head, text, foot]: [&str; 3], top: usize, size: Size, paint: Paint) -> String {
    let room = room(size);
    let mut out = String::from("\x1b[?2026h\x1b[H");
    line(&mut out, head, size, Paint::Plain);
    let mut lines = text.lines().skip(top.min(last_top(text, size)));
    for _ in 0..room {
        out.push_str("\r\n");
        line(&mut out, lines.next().unwrap_or_default(), size, paint);
    }
    if size.rows > 1 {
        out.push_str("\r\n");
        line(&mut out, foot, size, Paint::Plain);
    }
    out.push_str("\x1b[J\x1b[?2026l");
    out
}

/// Lines of the text that fit between head and foot.
const fn room(size: Size) -> usize {
    size.rows.saturating_sub(2)
}

/// The last line that is worth beginning with.
pub(super) fn last_top(text: &str, size: Size) -> usize {
    text.lines().count().saturating_sub(room(size))
}

fn line(out: &mut String, text: &str, size: Size, paint: Paint) {
    let shown: String = if text.chars().count() > size.columns {
        text.chars().take(size.columns.saturating_sub(1)).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    match paint {
        Paint::Plain => out.push_str(&shown),
        Paint::Coloured => out.push_str(&coloured(&shown)),
    }
    out.push_str("\x1b[K");
}

fn coloured(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    // The first word that begins nearest; none twice.
    let next = |rest: &str| {
        let found = COLOURS.iter().filter_map(|(word, sgr)| Some((rest.find(word)?, *word, *sgr)));
        found.min_by_key(|(at, word, _)| (*at, usize::MAX - word.len()))
    };
    while let Some((at, word, sgr)) = next(rest) {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        out.push_str("\x1b[");
        out.push_str(sgr);
        out.push('m');
        out.push_str(word);
        out.push_str("\x1b[0m");
        rest = &after[word.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 4, columns: 8 };

    #[test]
    fn a_frame_is_as_large_as_the_terminal_and_clears_nothing_first() {
        let drawn = frame(["head", "one\ntwo is longer\nthree", "foot"], 0, SIZE, Paint::Plain);
        assert_eq!(
            drawn,
            "\x1b[?2026h\x1b[Hhead\x1b[K\r\none\x1b[K\r\ntwo is …\x1b[K\r\nfoot\x1b[K\x1b[J\x1b[?2026l"
        );
    }

    #[test]
    fn it_scrolls_to_the_last_line_and_no_further() {
        for (top, first) in [(0, "one"), (1, "two"), (99, "two")] {
            let drawn = frame(["", "one\ntwo\nthree", ""], top, SIZE, Paint::Plain);
            assert!(drawn.contains(&format!("\r\n{first}\x1b[K")), "{top}: {drawn:?}");
        }
        assert_eq!(last_top("one\ntwo\nthree", SIZE), 1);
        assert_eq!(last_top("one", SIZE), 0);
    }

    #[test]
    fn a_terminal_of_one_line_or_none_is_no_trouble() {
        for (rows, columns) in [(0, 0), (1, 1), (2, 1), (1, 200)] {
            let drawn = frame(["head", "text", "foot"], 0, Size { rows, columns }, Paint::Coloured);
            assert!(!drawn.contains("text"), "{drawn:?}");
        }
    }

    #[test]
    fn words_of_state_are_coloured_and_no_letter_is_lost() {
        let text = "portal: fail-open, cloudflare ejected, bunny healthy";
        let drawn = coloured(text);
        assert!(drawn.contains("\x1b[1;31mfail-open\x1b[0m"), "{drawn:?}");
        assert!(drawn.contains("\x1b[32mhealthy\x1b[0m"), "{drawn:?}");
        let bare = drawn.replace("\x1b[1;31m", "").replace("\x1b[32m", "").replace("\x1b[0m", "");
        assert_eq!(bare, text);
    }
}

//! Follows the bytes of one HTTP/1.1 connection from head to head and spoils a head that frames its
//! body twice, or whose lines end without a carriage return.
//!
//! hyper settles `Transfer-Encoding` beside `Content-Length`, and a repeated `Content-Length`, before
//! any handler sees the head; section 6.1 of RFC 9112 calls both an attempt at smuggling. So the bytes
//! are looked at on their way in: the colon of a second framing field becomes a NUL, which no name
//! may hold, and hyper refuses the head in its turn, after the answers that are owed before it. So does
//! a bare line feed, which hyper would take for a line end (section 2.2): other readers do not. And so do a
//! fragment in a target, which hyper's types drop without a word, and a control in a chunk's extension.
//!
//! In: bytes as they come, cut anywhere. Out: the same bytes, or spoiled ones. What hyper refuses by
//! itself need not be understood here, since nothing after it is ever read; what hyper accepts must
//! be read as hyper reads it, or a body could pass for a head.
//!
//! Not here: everything that a handler can see ([`super::gate`]).

/// Where a connection's bytes have come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Framing {
    place: Place,
    announced: Announced,
    /// The last byte that came.
    last: u8,
}

/// How the head being read frames its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Announced {
    Nothing,
    Length(u64),
    Chunks,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    ContentLength,
    TransferEncoding,
}

impl Field {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::ContentLength => b"content-length",
            Self::TransferEncoding => b"transfer-encoding",
        }
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// A request line, or an empty line before one.
    Start,
    /// A request line, to the blank after its method.
    Method,
    /// Its target, to the blank after it.
    Target,
    /// A line of a head that says nothing about framing, to its line feed.
    Text,
    /// The beginning of a field line, or the empty line that ends the head.
    Line,
    /// A name of which so many bytes are those of this field.
    Name(Field, usize),
    /// The value of `Content-Length`.
    Digits,
    /// A body of which so much is to come.
    Body(u64),
    /// A chunk's size, as far as it came.
    Size(u64),
    /// Blanks after the size of a chunk, which only an extension may follow.
    Blank(u64),
    /// The rest of the line of a chunk of this size.
    Extension(u64),
    /// The line feed after it.
    SizeEnd(u64),
    /// A chunk of which so much is to come, its own line end included.
    Chunk(u64),
    /// The beginning of a trailer, or the empty line after the last.
    TrailerStart,
    Trailer,
    /// The line feed of a trailer.
    TrailerEnd,
    /// The last line feed of a chunked body.
    BodyEnd,
    /// After a trailer that was spoiled.
    Spoilt,
    /// Nothing is looked at any more.
    Beyond,
}

enum Sight {
    Clear,
    Ambiguous,
}

impl Framing {
    /// Of a connection that begins with a request.
    pub const fn of_requests() -> Self {
        Self { place: Place::Start, announced: Announced::Nothing, last: 0 }
    }

    /// Whether all that came were whole requests.
    pub fn is_between(&self) -> bool {
        self.place == Place::Start && self.announced == Announced::Nothing
    }

    /// Whether nothing that comes can be read: hyper would wait for the end of trailers that have been spoiled.
    pub fn is_over(&self) -> bool {
        self.place == Place::Spoilt
    }

    /// Follows the next bytes; a second framing field in one head is spoiled, and
    /// a line that ends with a bare line feed.
    pub fn follow(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let passed = self.stretch(&bytes[at..]);
            at += passed;
            if passed > 0 {
                // A body's last byte begins no line end.
                let is_over = self.place == Place::Start;
                self.last = if is_over { b'\n' } else { bytes[at - 1] };
            }
            let Some(byte) = bytes.get_mut(at) else { return };
            at += 1;
            let sight = self.step(*byte);
            self.last = *byte;
            match sight {
                Sight::Clear => {}
                Sight::Ambiguous => {
                    (*byte, self.place) = match self.place {
                        // hyper passes by all of an extension but its line feed,
                        Place::Extension(_) => (b'\n', Place::Beyond),
                        // and all of a trailer but a carriage return without one.
                        Place::TrailerStart | Place::Trailer => (b'\r', Place::Spoilt),
                        _ => (0, Place::Beyond),
                    };
                }
            }
        }
    }

    /// How many bytes can be passed by unseen.
    fn stretch(&mut self, bytes: &[u8]) -> usize {
        match &mut self.place {
            Place::Text => lines(bytes, self.last),
            Place::Method => memchr::memchr2(b' ', b'\n', bytes).unwrap_or(bytes.len()),
            Place::Target => memchr::memchr3(b' ', b'#', b'\n', bytes).unwrap_or(bytes.len()),
            Place::Extension(_) => bytes.iter().position(is_control).unwrap_or(bytes.len()),
            Place::Trailer => memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len()),
            Place::Body(left) => {
                let passed = pass(left, bytes);
                if *left == 0 {
                    self.place = Place::Start;
                }
                passed
            }
            Place::Chunk(left) => {
                let passed = pass(left, bytes);
                if *left == 0 {
                    self.place = Place::Size(0);
                }
                passed
            }
            Place::Beyond => bytes.len(),
            Place::Start
            | Place::Line
            | Place::Name(..)
            | Place::Digits
            | Place::Size(_)
            | Place::Blank(_)
            | Place::SizeEnd(_)
            | Place::TrailerStart
            | Place::TrailerEnd
            | Place::BodyEnd
            | Place::Spoilt => 0,
        }
    }

    fn step(&mut self, byte: u8) -> Sight {
        let in_head = matches!(
            self.place,
            Place::Start
                | Place::Method
                | Place::Target
                | Place::Text
                | Place::Line
                | Place::Name(..)
                | Place::Digits
        );
        if byte == b'\n' && self.last != b'\r' && in_head {
            return Sight::Ambiguous;
        }
        self.place = match (self.place, byte) {
            (Place::Start, b'\r' | b'\n') => Place::Start,
            (Place::Start, _) => Place::Method,
            (Place::Method, b' ') => Place::Target,
            (Place::Target, b' ') => Place::Text,
            (Place::Target, b'#') => return Sight::Ambiguous,
            (Place::Method | Place::Target | Place::Text, _)
            | (Place::Digits | Place::Name(..), b'\n') => Place::Line,
            (Place::Line, b'\n') => self.body(),
            (Place::Line, b'\r') => Place::Line,
            (Place::Line, b'c' | b'C') => Place::Name(Field::ContentLength, 1),
            (Place::Line, b't' | b'T') => Place::Name(Field::TransferEncoding, 1),
            (Place::Line, _) => Place::Text,
            (Place::Name(field, matched), _) => match field.name().get(matched) {
                Some(next) if byte.eq_ignore_ascii_case(next) => Place::Name(field, matched + 1),
                None if byte == b':' => match self.announce(field) {
                    Some(value) => value,
                    None => return Sight::Ambiguous,
                },
                Some(_) | None => Place::Text,
            },
            (Place::Digits, _) => {
                if let Announced::Length(length) = &mut self.announced {
                    *length = with_digit(*length, byte, 10);
                }
                Place::Digits
            }
            (Place::Size(size), b'\r') => Place::SizeEnd(size),
            (Place::Size(size) | Place::Blank(size), b';') => Place::Extension(size),
            (Place::Size(size) | Place::Blank(size), b' ' | b'\t') => Place::Blank(size),
            (Place::Blank(_), _) => return Sight::Ambiguous,
            (Place::Size(size), _) => Place::Size(with_digit(size, byte, 16)),
            (Place::Extension(size), b'\r') => Place::SizeEnd(size),
            (Place::Extension(_), _) => return Sight::Ambiguous,
            (Place::SizeEnd(0), _) | (Place::TrailerEnd, _) => Place::TrailerStart,
            (Place::SizeEnd(size), _) => Place::Chunk(size.saturating_add(2)),
            (Place::TrailerStart | Place::Trailer, b'\n') | (Place::Spoilt, _) => {
                return Sight::Ambiguous;
            }
            (Place::TrailerStart, b'\r') => Place::BodyEnd,
            (Place::TrailerStart, _) => Place::Trailer,
            (Place::Trailer, _) => Place::TrailerEnd,
            (Place::BodyEnd, _) => Place::Start,
            (Place::Body(_) | Place::Chunk(_) | Place::Beyond, _) => self.place,
        };
        Sight::Clear
    }

    /// Where the value of a framing field is read; `None` when it is not the head's first.
    fn announce(&mut self, field: Field) -> Option<Place> {
        let (announced, value) = match (self.announced, field) {
            (Announced::Length(_) | Announced::Chunks, _) => return None,
            (Announced::Nothing, Field::ContentLength) => (Announced::Length(0), Place::Digits),
            (Announced::Nothing, Field::TransferEncoding) => (Announced::Chunks, Place::Text),
        };
        self.announced = announced;
        Some(value)
    }

    /// What follows a head.
    fn body(&mut self) -> Place {
        match std::mem::replace(&mut self.announced, Announced::Nothing) {
            Announced::Nothing | Announced::Length(0) => Place::Start,
            Announced::Length(length) => Place::Body(length),
            Announced::Chunks => Place::Size(0),
        }
    }
}

/// How many bytes there are before the line feed after which one of our names may begin, or the head
/// end, or which stands alone. Nearly all lines are passed by here. `last` came before the first byte.
fn lines(bytes: &[u8], last: u8) -> usize {
    let is_bare = |feed: usize| feed.checked_sub(1).map_or(last, |at| bytes[at]) != b'\r';
    let deserves_a_look = |feed: &usize| match &bytes[feed + 1..] {
        _ if is_bare(*feed) => true,
        [] | [b'\r' | b'\n', ..] => true,
        line @ [b'c' | b'C', ..] => may_begin_with(line, Field::ContentLength),
        line @ [b't' | b'T', ..] => may_begin_with(line, Field::TransferEncoding),
        _ => false,
    };
    memchr::memchr_iter(b'\n', bytes).find(deserves_a_look).unwrap_or(bytes.len())
}

/// As far as the line has come.
fn may_begin_with(line: &[u8], field: Field) -> bool {
    let name = field.name();
    line.get(..name.len()).is_none_or(|start| start.eq_ignore_ascii_case(name))
}

/// Controls that no line holds (RFC 9110, section 5.5), a carriage return among them.
fn is_control(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}

/// How many of these bytes belong to what is left.
fn pass(left: &mut u64, bytes: &[u8]) -> usize {
    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= passed as u64;
    passed
}

/// A number with one more digit. Blanks and what is no digit leave it as it is: hyper trims the first
/// and refuses the second, as it refuses what is too large.
fn with_digit(number: u64, byte: u8, radix: u32) -> u64 {
    match char::from(byte).to_digit(radix) {
        Some(digit) => number.saturating_mul(u64::from(radix)).saturating_add(u64::from(digit)),
        None => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nCookie: c=1\r\nTE: trailers\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a.example\r\n";

    /// The bytes after they were followed in pieces of this size.
    fn followed(text: &str, piece: usize) -> String {
        let mut framing = Framing::of_requests();
        let mut bytes = text.as_bytes().to_vec();
        bytes.chunks_mut(piece).for_each(|piece| framing.follow(piece));
        String::from_utf8(bytes).expect("ASCII in, ASCII out")
    }

    #[test]
    fn a_second_framing_field_is_spoiled_wherever_the_bytes_are_cut() {
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        #[rustfmt::skip]
        let table = [
            ("a length, then a coding",   format!("{POST}{both}"),                                               "Transfer-Encoding:"),
            ("a coding, then a length",   format!("{POST}transfer-encoding:chunked\r\ncontent-length:3\r\n\r\n"), "content-length:3"),
            ("the same length twice",     format!("{POST}Content-Length: 3\r\nCONTENT-LENGTH: 3\r\n\r\n"),       "CONTENT-LENGTH:"),
            ("two codings",               format!("{POST}Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n"), "Transfer-encoding:"),
            ("after another request",     format!("{GET}{POST}{both}"),                                          "Transfer-Encoding:"),
            ("after a body",              format!("{POST}Content-Length:\t5 \r\n\r\n\r\n\r\nx{POST}{both}"),        "Transfer-Encoding:"),
            ("after chunks",              format!("{POST}{chunked}A;x=y\r\n0123456789\r\n1 ;\r\nx\r\n0\r\n\r\n{POST}Content-Length: 0\r\nTRANSFER-ENCODING: chunked\r\n\r\n"), "TRANSFER-ENCODING:"),
            ("after trailers",            format!("{POST}{chunked}0\r\nContent-Length: 3\r\nX:\t\r\n\r\n{POST}Content-Length: 0\r\nTRANSFER-ENCODING: chunked\r\n\r\n"), "TRANSFER-ENCODING:"),
        ];
        for (shows, text, last) in table {
            let at = text.rfind(last).expect("the second field") + last.find(':').expect("a colon");
            let spoiled = format!("{}\0{}", &text[..at], &text[at + 1..]);
            for piece in 1..=text.len() {
                assert_eq!(followed(&text, piece), spoiled, "{shows}, in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_line_that_ends_without_a_carriage_return_is_spoiled() {
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        #[rustfmt::skip]
        let table = [
            ("the first line",       "GET / HTTP/1.1".to_owned(),                               "\nHost: a.example\r\n\r\n"),
            ("a field",              "GET / HTTP/1.1\r\nX: y".to_owned(),                       "\nHost: a.example\r\n\r\n"),
            ("a framing field",      "POST / HTTP/1.1\r\nContent-Length: 3".to_owned(),         "\n\r\nabc"),
            ("the end of the head",  "GET / HTTP/1.1\r\nHost: a.example\r\n".to_owned(),        "\nGET"),
            ("before a request",     String::new(),                                             "\nGET / HTTP/1.1\r\n\r\n"),
            ("after a body's CR",    "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\r".to_owned(), "\nGET / HTTP/1.1\r\n\r\n"),
            ("a blank after a size", format!("{chunked}5 "),                                    "\r\nhello\r\n0\r\n\r\n"),
        ];
        for (shows, before, after) in table {
            let spoiled = format!("{before}\0{}", &after[1..]);
            let text = format!("{before}{after}");
            for piece in 1..=text.len() {
                assert_eq!(followed(&text, piece), spoiled, "{shows}, in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_trailer_that_ends_without_a_carriage_return_ends_all_that_is_read() {
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        for (before, after) in
            [("", "\nX: y\r\n\r\n"), ("X: y", "\n\r\n"), ("", "\n\n"), ("", "\n")]
        {
            let text = format!("{chunked}{before}{after}");
            let spoiled = match &after[1..] {
                "" => format!("{chunked}{before}\r"),
                rest => format!("{chunked}{before}\r\0{}", &rest[1..]),
            };
            for piece in 1..=text.len() {
                assert_eq!(followed(&text, piece), spoiled, "{text:?}, in pieces of {piece}");
            }
            let mut framing = Framing::of_requests();
            framing.follow(&mut format!("{chunked}{before}\n").into_bytes());
            assert!(framing.is_over(), "hyper would wait for more");
        }
    }

    #[test]
    fn a_fragment_in_a_target_is_spoiled() {
        for (before, after) in
            [("GET /a", "#b HTTP/1.1\r\n\r\n"), ("G#T http://a/?b", "# HTTP/1.1\r\n")]
        {
            let text = format!("{GET}{before}{after}");
            let spoiled = format!("{GET}{before}\0{}", &after[1..]);
            for piece in 1..=text.len() {
                assert_eq!(followed(&text, piece), spoiled, "{before}, in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_control_in_the_extension_of_a_chunk_is_spoiled_as_hyper_sees_it() {
        for control in ["\x7f", "\0", "\n", "\x0b"] {
            let front = format!("{POST}Transfer-Encoding: chunked\r\n\r\n1;a=");
            let text = format!("{front}{control}b\r\nx\r\n0\r\n\r\n");
            for piece in 1..=text.len() {
                let spoiled = format!("{front}\nb\r\nx\r\n0\r\n\r\n");
                assert_eq!(followed(&text, piece), spoiled, "{control:?}, in pieces of {piece}");
            }
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        let twice = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        let table = [
            ("requests without a body", format!("{GET}\r\n{GET}")),
            ("a sign elsewhere", "G#T / HTTP/1.1\r\nX: #\r\n\r\n".to_owned()),
            ("a body that looks like a head", {
                let body = format!("{POST}{twice}");
                format!("{POST}Content-Length: {}\r\n\r\n{body}{GET}", body.len())
            }),
            ("a chunk that looks like one", {
                let body = format!("{POST}{twice}");
                let size = body.len();
                let head = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
                format!("{head}{size:x};x=\"Content-Length: 3\"\r\n{body}\r\n0\r\n{twice}{GET}")
            }),
            ("names that only begin so", {
                let names = "Content-Length-X: 1\r\nContent-Type: 2\r\nTransfer-Encodin: 3\r\n";
                format!("{POST}Content-Length: 0\r\n{names}X-Content-Length: 4\r\n\r\n{GET}")
            }),
        ];
        for (shows, text) in table {
            for piece in 1..=text.len() {
                assert_eq!(followed(&text, piece), text, "{shows}, in pieces of {piece}");
            }
        }
    }
}

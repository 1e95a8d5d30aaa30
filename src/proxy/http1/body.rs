//! An answer's body, taken out of its framing as it comes.

use bytes::{Buf, Bytes, BytesMut};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::answer::Brings;
use crate::request::trailers;

/// The longest line of a chunk's size, extensions and all.
const MAX_SIZE_LINE: usize = 1024;
/// Hexadecimal digits of a chunk's size: what fits 64 bits.
const MAX_SIZE_DIGITS: usize = 16;
/// The largest trailer section.
const MAX_TRAILERS: usize = 8 * 1024;
/// The most fields of one.
const MAX_TRAILER_FIELDS: usize = 32;

/// Reads one body.
#[derive(Debug)]
pub(super) struct Decoder(State);

#[derive(Debug)]
enum State {
    Exactly(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// What a look at the input brought.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Bytes of the body.
    Data(Bytes),
    /// Its trailer section, then nothing more.
    Trailers(HeaderMap),
    /// Nothing before more has come.
    More,
    /// The body is over.
    End,
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::proxy) enum DecodeError {
    /// A size that is no hexadecimal number, too large or without its end.
    #[error("a chunk's size is malformed")]
    Size,
    /// A chunk longer than it said.
    #[error("a chunk does not end where it should")]
    ChunkEnd,
    /// A trailer section that is none, or too large.
    #[error("the trailer section is malformed")]
    Trailers,
    /// The connection ended inside it.
    #[error("the body ended short")]
    Short,
}

impl Decoder {
    /// Of a body framed like this.
    pub(super) const fn new(brings: Brings) -> Self {
        Self(match brings {
            Brings::Nothing | Brings::Exactly(0) => State::Done,
            Brings::Exactly(length) => State::Exactly(length),
            Brings::Chunked => State::ChunkSize,
            Brings::UntilClose => State::UntilClose,
        })
    }

    /// Whether all of the body was taken.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Bytes still to come, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self.0 {
            State::Done => Some(0),
            State::Exactly(left) => Some(left),
            State::UntilClose
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers => None,
        }
    }

    /// Takes the next piece out of `input`.
    ///
    /// # Errors
    /// When the framing is broken; the connection is of no further use.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Piece, DecodeError> {
        loop {
            match &mut self.0 {
                State::Done => return Ok(Piece::End),
                _ if input.is_empty() => return Ok(Piece::More),
                State::UntilClose => return Ok(Piece::Data(input.split().freeze())),
                State::Exactly(left) => {
                    let data = up_to(input, left);
                    if *left == 0 {
                        self.0 = State::Done;
                    }
                    return Ok(Piece::Data(data));
                }
                State::ChunkData(left) => {
                    let data = up_to(input, left);
                    if *left == 0 {
                        self.0 = State::ChunkEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                State::ChunkEnd => match input.as_ref() {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.0 = State::ChunkSize;
                    }
                    [b'\r'] => return Ok(Piece::More),
                    _ => return Err(DecodeError::ChunkEnd),
                },
                State::ChunkSize => match chunk_size(input)? {
                    None => return Ok(Piece::More),
                    Some(0) => self.0 = State::Trailers,
                    Some(size) => self.0 = State::ChunkData(size),
                },
                State::Trailers => return self.trailers(input),
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When the body had not.
    pub(super) fn end(&mut self) -> Result<(), DecodeError> {
        match self.0 {
            State::Done | State::UntilClose => {
                self.0 = State::Done;
                Ok(())
            }
            State::Exactly(_)
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers => Err(DecodeError::Short),
        }
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Piece, DecodeError> {
        if input.starts_with(b"\r\n") {
            input.advance(2);
            self.0 = State::Done;
            return Ok(Piece::End);
        }
        let Some(length) = memchr::memmem::find(input, b"\r\n\r\n").map(|at| at + 4) else {
            let is_too_large = input.len() > MAX_TRAILERS;
            return if is_too_large { Err(DecodeError::Trailers) } else { Ok(Piece::More) };
        };
        if length > MAX_TRAILERS {
            return Err(DecodeError::Trailers);
        }
        let section = input.split_to(length).freeze();
        self.0 = State::Done;
        let trailers = fields(&section).ok_or(DecodeError::Trailers)?;
        Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) })
    }
}

fn up_to(input: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= length as u64;
    if length == input.len() { input.split().freeze() } else { input.split_to(length).freeze() }
}

/// `chunk-size [ chunk-ext ] CRLF` (RFC 9112, section 7.1); extensions are dropped.
fn chunk_size(input: &mut BytesMut) -> Result<Option<u64>, DecodeError> {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(MAX_SIZE_LINE)]) else {
        let is_too_long = input.len() >= MAX_SIZE_LINE;
        return if is_too_long { Err(DecodeError::Size) } else { Ok(None) };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(DecodeError::Size)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_ended = match line[digits..].trim_ascii_start() {
        [] => line.len() == digits,
        [b';', extension @ ..] => !extension.iter().any(|b| b.is_ascii_control() && *b != b'\t'),
        _ => false,
    };
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| DecodeError::Size)?;
    if !is_ended || digits > MAX_SIZE_DIGITS {
        return Err(DecodeError::Size);
    }
    let size = u64::from_str_radix(text, 16).map_err(|_| DecodeError::Size)?;
    input.advance(end + 1);
    Ok(Some(size))
}

/// The fields of a trailer section, without those that only a head may have. All of it has to be one.
fn fields(section: &Bytes) -> Option<HeaderMap> {
    let mut feeds = memchr::memchr_iter(b'\n', section);
    if feeds.any(|at| at == 0 || section[at - 1] != b'\r') {
        return None;
    }
    let mut parsed = [const { httparse::EMPTY_HEADER }; MAX_TRAILER_FIELDS];
    let httparse::Status::Complete((_, fields)) =
        httparse::parse_headers(section, &mut parsed).ok()?
    else {
        return None;
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value)).ok()?;
        trailers.append(name, value);
    }
    trailers::clean(&mut trailers);
    Some(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Body, trailers, and what followed.
    type Taken = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Everything there is in `text`, coming in steps of `step` bytes.
    fn read(brings: Brings, text: &[u8], step: usize) -> Result<Taken, DecodeError> {
        let (mut decoder, mut input) = (Decoder::new(brings), BytesMut::new());
        let (mut body, mut trailers) = (Vec::new(), None);
        let mut parts = text.chunks(step);
        loop {
            match decoder.take(&mut input)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(fields) => trailers = Some(fields),
                Piece::End => break,
                Piece::More => match parts.next() {
                    Some(part) => input.extend_from_slice(part),
                    None => {
                        decoder.end()?;
                        break;
                    }
                },
            }
        }
        Ok((body, trailers, input.to_vec()))
    }

    #[test]
    fn a_body_is_the_same_however_its_bytes_come() {
        let chunks = b"4;x=\"y\"\r\nWiki\r\n5 ;z\r\npedia\r\n0\r\nX-Sum: 6\r\n\r\n";
        for step in 1..=chunks.len() {
            let (body, trailers, _) = read(Brings::Chunked, chunks, step).expect("well-formed");
            assert_eq!(body, b"Wikipedia");
            assert_eq!(trailers.expect("a trailer section")["x-sum"], "6");
        }
    }

    #[test]
    fn what_follows_a_body_is_left_alone() {
        for (brings, text) in [
            (Brings::Exactly(2), b"okHTTP/1.1 200 OK".as_slice()),
            (Brings::Chunked, b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK"),
        ] {
            let (body, _, rest) = read(brings, text, text.len()).expect("well-formed");
            assert_eq!(
                (body.as_slice(), rest.as_slice()),
                (b"ok".as_slice(), b"HTTP/1.1 200 OK".as_slice())
            );
        }
        let (body, ..) = read(Brings::UntilClose, b"all of it", 2).expect("well-formed");
        assert_eq!(body, b"all of it");
    }

    #[test]
    fn a_body_that_ends_early_is_short() {
        for (brings, text) in [
            (Brings::Exactly(50), b"short".as_slice()),
            (Brings::Chunked, b"5\r\nsho"),
            (Brings::Chunked, b"5\r\nshort\r\n"),
            (Brings::Chunked, b"0\r\n"),
        ] {
            assert_eq!(read(brings, text, 3).expect_err("short"), DecodeError::Short);
        }
    }

    #[test]
    fn broken_framing_is_refused() {
        let long = [b"1;".as_slice(), &[b'x'; MAX_SIZE_LINE], b"\r\nx\r\n"].concat();
        let many =
            [b"0\r\n".as_slice(), &b"a: 1\r\n".repeat(MAX_TRAILER_FIELDS + 1), b"\r\n"].concat();
        let large = [b"0\r\na: ".as_slice(), &[b'x'; 2 * MAX_TRAILERS]].concat();
        for (text, error) in [
            (b"zz\r\nok\r\n".as_slice(), DecodeError::Size),
            (b"\r\nok\r\n", DecodeError::Size),
            (b"2\nok\r\n", DecodeError::Size),
            (b"2 \r\nok\r\n", DecodeError::Size),
            (b"+2\r\nok\r\n", DecodeError::Size),
            (b"0x2\r\nok\r\n", DecodeError::Size),
            (b"10000000000000000\r\n", DecodeError::Size),
            (&long, DecodeError::Size),
            (b"2\r\nokay\r\n", DecodeError::ChunkEnd),
            (b"2\r\nok\rx", DecodeError::ChunkEnd),
            (b"2;\0\r\nok\r\n", DecodeError::Size),
            (b"0\r\nno field\r\n\r\n", DecodeError::Trailers),
            (b"0\r\nx: y\nz: y\r\n\r\n", DecodeError::Trailers),
            (b"0\r\nx: y\n\nHTTP/1.1 200 OK\r\n\r\n", DecodeError::Trailers),
            (&many, DecodeError::Trailers),
            (&large, DecodeError::Trailers),
        ] {
            let said = String::from_utf8_lossy(&text[..text.len().min(20)]);
            assert_eq!(read(Brings::Chunked, text, 7).expect_err(&said), error, "{said}");
        }
    }

    #[test]
    fn a_trailer_section_cannot_change_the_framing() {
        let text = b"0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: y\r\nX-Sum: 6\r\n\r\n";
        let (_, trailers, _) = read(Brings::Chunked, text, text.len()).expect("well-formed");
        assert_eq!(trailers.expect("a trailer section").keys().collect::<Vec<_>>(), ["x-sum"]);
    }
}

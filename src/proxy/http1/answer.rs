//! An answer's head: found in what has come, parsed, its body's framing decided.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::request::headers::connection_says;

/// The largest head that is read; a larger one is an error.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// The most fields of a head.
const MAX_FIELDS: usize = 128;

/// How an answer's body is delimited (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::proxy) enum Brings {
    /// There is none.
    Nothing,
    /// So many bytes.
    Exactly(u64),
    /// In chunks.
    Chunked,
    /// All until the connection ends.
    UntilClose,
}

/// Whether the connection can carry another request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::proxy) enum Afterwards {
    /// It stays open.
    Kept,
    /// The upstream closes it.
    Closed,
}

/// An answer's head.
#[derive(Debug)]
pub(in crate::proxy) struct AnswerHead {
    /// Its status.
    pub(in crate::proxy) status: StatusCode,
    /// Its fields.
    pub(in crate::proxy) headers: HeaderMap,
    /// Its body's framing.
    pub(in crate::proxy) brings: Brings,
    /// What becomes of the connection.
    pub(in crate::proxy) afterwards: Afterwards,
}

/// Why a head cannot be understood in one way only.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::proxy) enum HeadError {
    /// Not HTTP/1.x, or a field that is none.
    #[error("the answer's head is malformed: {0}")]
    Malformed(httparse::Error),
    /// Not even the beginning of one.
    #[error("the answer does not begin like one of HTTP/1")]
    NotHttp,
    /// A line that ends without a carriage return.
    #[error("a line of the answer's head ends in a bare line feed")]
    BareLineFeed,
    /// A status, a name or a value outside its range.
    #[error("the answer's head holds a field that is not allowed")]
    Field,
    /// More than [`MAX_HEAD`].
    #[error("the answer's head is larger than {MAX_HEAD} bytes")]
    TooLarge,
    /// Lengths that differ, or one that is no number.
    #[error("the answer's Content-Length is not a number")]
    Length,
    /// Anything but chunked, or chunked beside a length.
    #[error("the answer's Transfer-Encoding is not chunked alone")]
    Encoding,
}

/// Finds the end of a head; looks at each byte once, however they come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finder {
    looked_at: usize,
    line: usize,
}

impl Finder {
    /// Length of the head that `input` begins with, if all of it has come.
    ///
    /// # Errors
    /// When what has come can be no head.
    pub(super) fn find(&mut self, input: &[u8]) -> Result<Option<usize>, HeadError> {
        let begins = b"HTTP/1.";
        if !input.iter().zip(begins).all(|(came, wanted)| came == wanted) {
            return Err(HeadError::NotHttp);
        }
        while let Some(next) = memchr::memchr(b'\n', &input[self.looked_at..]) {
            let end = self.looked_at + next;
            if end == 0 || input[end - 1] != b'\r' {
                return Err(HeadError::BareLineFeed);
            }
            let is_empty = end == self.line + 1;
            self.looked_at = end + 1;
            self.line = end + 1;
            if self.line > MAX_HEAD {
                return Err(HeadError::TooLarge);
            }
            if is_empty {
                return Ok(Some(self.line));
            }
        }
        self.looked_at = input.len();
        if input.len() > MAX_HEAD { Err(HeadError::TooLarge) } else { Ok(None) }
    }
}

/// Takes the head of `length` bytes from `input`; `asked` is the request's method.
///
/// # Errors
/// When it can be read in no way, or in two.
pub(super) fn take(
    input: &mut BytesMut,
    length: usize,
    asked: &Method,
) -> Result<AnswerHead, HeadError> {
    let bytes = input.split_to(length.min(input.len())).freeze();
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, &bytes, &mut fields)
        .map_err(HeadError::Malformed)?;
    let (httparse::Status::Complete(_), Some(code), Some(version)) =
        (status, parsed.code, parsed.version)
    else {
        return Err(HeadError::Field);
    };
    let status = StatusCode::from_u16(code).map_err(|_| HeadError::Field)?;
    let headers = fields_of(&bytes, parsed.headers)?;
    let brings = brings(status, version, &headers, asked)?;
    let stays = version == 1;
    let said = |word| connection_says(&headers, word);
    let afterwards = match stays && !said("close") || !stays && said("keep-alive") {
        true if brings != Brings::UntilClose => Afterwards::Kept,
        true | false => Afterwards::Closed,
    };
    Ok(AnswerHead { status, headers, brings, afterwards })
}

fn fields_of(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Field)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
            .map_err(|_| HeadError::Field)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// RFC 9112, section 6.3, without its leniencies.
fn brings(
    status: StatusCode,
    version: u8,
    headers: &HeaderMap,
    asked: &Method,
) -> Result<Brings, HeadError> {
    let length = content_length(headers)?;
    let is_chunked = match headers.get(TRANSFER_ENCODING) {
        None => false,
        Some(coding) => {
            let alone = headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_none();
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !alone || !chunked || length.is_some() || version != 1 {
                return Err(HeadError::Encoding);
            }
            true
        }
    };
    let bodiless = *asked == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match length {
        _ if bodiless => Brings::Nothing,
        _ if is_chunked => Brings::Chunked,
        Some(0) => Brings::Nothing,
        Some(length) => Brings::Exactly(length),
        None => Brings::UntilClose,
    })
}

/// One number, however often it is said.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(HeadError::Length);
        }
        let text = value.to_str().map_err(|_| HeadError::Length)?;
        let number = text.parse::<u64>().map_err(|_| HeadError::Length)?;
        if length.is_some_and(|length| length != number) {
            return Err(HeadError::Length);
        }
        length = Some(number);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AnswerHead, HeadError> {
        read_bytes(text.as_bytes(), &Method::GET)
    }

    fn read_bytes(bytes: &[u8], asked: &Method) -> Result<AnswerHead, HeadError> {
        let mut input = BytesMut::from(bytes);
        let length = Finder::default().find(&input)?.expect("a whole head");
        take(&mut input, length, asked)
    }

    #[test]
    fn a_head_is_found_however_its_bytes_come() {
        let text = b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\nrest";
        for step in 1..=text.len() {
            let mut finder = Finder::default();
            let found = (step..)
                .step_by(step)
                .find_map(|came| finder.find(&text[..came.min(text.len())]).expect("well-formed"));
            assert_eq!(found, Some(text.len() - 4), "in steps of {step}");
        }
    }

    #[test]
    fn the_framing_of_a_body_follows_its_head() {
        let (get, head) = (Method::GET, Method::HEAD);
        for (asked, text, expected) in [
            (&get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Brings::Exactly(2)),
            (
                &get,
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
                Brings::Exactly(2),
            ),
            (&get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Brings::Nothing),
            (&get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Brings::Chunked),
            (&get, "HTTP/1.1 200 OK\r\n\r\n", Brings::UntilClose),
            (&get, "HTTP/1.0 200 OK\r\n\r\n", Brings::UntilClose),
            (&head, "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n", Brings::Nothing),
            (&get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n", Brings::Nothing),
            (&get, "HTTP/1.1 204 No Content\r\n\r\n", Brings::Nothing),
        ] {
            let head = read_bytes(text.as_bytes(), asked).expect(text);
            assert_eq!(head.brings, expected, "{text}");
        }
    }

    #[test]
    fn an_answer_that_can_be_read_in_two_ways_is_refused() {
        let fields = "a: 1\r\n".repeat(MAX_FIELDS);
        for (text, error) in [
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n",
                HeadError::Encoding,
            ),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Encoding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HeadError::Encoding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HeadError::Encoding),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n",
                HeadError::Length,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n", HeadError::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n", HeadError::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", HeadError::Length),
            ("HTTP/1.1 200 OK\nContent-Length: 2\n\n", HeadError::BareLineFeed),
            ("just bytes without a status line\n", HeadError::NotHttp),
            ("HTTP/1.1 abc OK\r\n\r\n", HeadError::Malformed(httparse::Error::Status)),
            ("HTTP/1.1 1000 High\r\n\r\n", HeadError::Malformed(httparse::Error::Status)),
            ("HTTP/1.1 099 Low\r\n\r\n", HeadError::Field),
            (
                "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=1\r\n\r\n",
                HeadError::Malformed(httparse::Error::HeaderValue),
            ),
            (
                "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
                HeadError::Malformed(httparse::Error::HeaderValue),
            ),
            (
                "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
                HeadError::Malformed(httparse::Error::HeaderName),
            ),
            (
                "HTTP/1.1 200 OK\r\nFoo : a\r\n\r\n",
                HeadError::Malformed(httparse::Error::HeaderName),
            ),
            (
                &format!("HTTP/1.1 200 OK\r\n{fields}b: 2\r\n\r\n"),
                HeadError::Malformed(httparse::Error::TooManyHeaders),
            ),
            (
                &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(MAX_HEAD)),
                HeadError::TooLarge,
            ),
        ] {
            assert_eq!(read(text).expect_err(text), error, "{text}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused_at_its_bound() {
        let mut finder = Finder::default();
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
        assert_eq!(finder.find(&endless), Err(HeadError::TooLarge));
    }

    #[test]
    fn connections_are_kept_as_their_version_and_words_say() {
        for (text, expected) in [
            ("HTTP/1.1 304 OK\r\n\r\n", Afterwards::Kept),
            ("HTTP/1.1 304 OK\r\nConnection: foo, Close\r\n\r\n", Afterwards::Closed),
            ("HTTP/1.1 304 OK\r\nConnection: caf\u{e9}, close\r\n\r\n", Afterwards::Closed),
            ("HTTP/1.0 304 OK\r\n\r\n", Afterwards::Closed),
            ("HTTP/1.0 304 OK\r\nConnection: keep-alive\r\n\r\n", Afterwards::Kept),
            ("HTTP/1.1 200 OK\r\n\r\n", Afterwards::Closed),
        ] {
            assert_eq!(read(text).expect(text).afterwards, expected, "{text}");
        }
    }

    #[test]
    fn fields_of_one_name_stay_apart() {
        let head =
            read("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n").expect("a head");
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
    }
}

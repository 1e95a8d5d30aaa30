//! HTTP/1.1 as its RFC has it and nothing beside it: what a client's bytes, an upstream's bytes and an
//! answer's bytes say when nothing is forgiven.
//!
//! Shares no code with the proxy, on purpose. Not here: which hosts and targets are fit to be served.

/// How far something could be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parsed<T> {
    /// To its end, in so many bytes.
    Whole(T, usize),
    /// The bytes end first.
    Short(T),
    /// It is none.
    Wrong(&'static str),
}

/// A start line with its fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    pub start: Vec<u8>,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    Nothing,
    Length(u64),
    Chunks,
}

impl Head {
    /// All values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |(n, _): &&(Vec<u8>, Vec<u8>)| n.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(|(_, value)| &value[..])
    }

    /// Whether a list field holds this word.
    pub fn says(&self, name: &str, word: &str) -> bool {
        let words = self.all(name).flat_map(|value| value.split(|b| *b == b','));
        words.map(<[u8]>::trim_ascii).any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The words of the start line, with exactly one blank between them.
    pub fn words(&self) -> Vec<&[u8]> {
        self.start.split(|b| *b == b' ').collect()
    }

    /// One framing, or why there is none.
    pub fn framing(&self) -> Result<Framing, &'static str> {
        let (mut codings, mut lengths) =
            (self.all("transfer-encoding"), self.all("content-length"));
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Framing::Nothing),
            (Some(_), Some(_)) => Err("a length beside a coding"),
            (Some(coding), None) => match codings.next() {
                Some(_) => Err("two codings"),
                None if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunks),
                None => Err("an unknown coding"),
            },
            (None, Some(_)) if lengths.next().is_some() => Err("two lengths"),
            (None, Some(length)) => number(length, 10).map(Framing::Length).ok_or("no length"),
        }
    }
}

/// Digits and nothing else.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|b| char::from(b).is_digit(radix)).then_some(())?;
    u64::from_str_radix(text, radix).ok()
}

pub fn is_token(name: &[u8]) -> bool {
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !name.is_empty() && name.iter().all(is_tchar)
}

/// A line without its CRLF; nothing inside it may end a line or be a control, blanks apart.
fn line(bytes: &[u8]) -> Parsed<&[u8]> {
    let Some(feed) = bytes.iter().position(|b| *b == b'\n') else { return Parsed::Short(bytes) };
    match bytes[..feed].strip_suffix(b"\r") {
        None => Parsed::Wrong("a bare line feed"),
        Some(inside) if inside.iter().any(|b| b.is_ascii_control() && *b != b'\t') => {
            Parsed::Wrong("a control byte")
        }
        Some(inside) => Parsed::Whole(inside, feed + 1),
    }
}

/// `name: value`, without a blank before the colon or at the beginning.
fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let colon = line.iter().position(|b| *b == b':').ok_or("a line without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err("a name that is none");
    }
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !blank(b)).map_or(start, |at| at + 1);
    Ok((name.to_vec(), value[start..end].to_vec()))
}

/// Fields to the empty line after them.
fn fields(bytes: &[u8]) -> Parsed<Vec<(Vec<u8>, Vec<u8>)>> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let (inside, length) = match line(&bytes[at..]) {
            Parsed::Wrong(why) => return Parsed::Wrong(why),
            Parsed::Short(_) => return Parsed::Short(found),
            Parsed::Whole(inside, length) => (inside, length),
        };
        at += length;
        if inside.is_empty() {
            return Parsed::Whole(found, at);
        }
        match field(inside) {
            Ok(field) => found.push(field),
            Err(why) => return Parsed::Wrong(why),
        }
    }
}

/// A start line and its fields.
pub fn head(bytes: &[u8]) -> Parsed<Head> {
    let (start, after) = match line(bytes) {
        Parsed::Wrong(why) => return Parsed::Wrong(why),
        Parsed::Short(_) => return Parsed::Short(Head::default()),
        Parsed::Whole(start, after) => (start.to_vec(), after),
    };
    if start.contains(&b'\t') {
        return Parsed::Wrong("a tab in the start line");
    }
    match fields(&bytes[after..]) {
        Parsed::Wrong(why) => Parsed::Wrong(why),
        Parsed::Short(fields) => Parsed::Short(Head { start, fields }),
        Parsed::Whole(fields, length) => Parsed::Whole(Head { start, fields }, after + length),
    }
}

/// A body that is framed so, decoded as far as it can be read.
pub fn body(framing: Framing, bytes: &[u8]) -> (Vec<u8>, Parsed<()>) {
    let mut decoded = Vec::new();
    let parsed = match framing {
        Framing::Nothing => Parsed::Whole((), 0),
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            decoded.extend_from_slice(&bytes[..length.min(bytes.len())]);
            if decoded.len() == length { Parsed::Whole((), length) } else { Parsed::Short(()) }
        }
        Framing::Chunks => chunks(bytes, &mut decoded),
    };
    (decoded, parsed)
}

fn chunks(bytes: &[u8], body: &mut Vec<u8>) -> Parsed<()> {
    let mut at = 0;
    loop {
        let (size, length) = match line(&bytes[at..]) {
            Parsed::Wrong(why) => return Parsed::Wrong(why),
            Parsed::Short(_) => return Parsed::Short(()),
            Parsed::Whole(line, length) => match chunk_size(line) {
                Some(size) => (size, length),
                None => return Parsed::Wrong("a chunk's size that is none"),
            },
        };
        at += length;
        if size == 0 {
            return match fields(&bytes[at..]) {
                Parsed::Wrong(why) => Parsed::Wrong(why),
                Parsed::Short(_) => Parsed::Short(()),
                Parsed::Whole(_, length) => Parsed::Whole((), at + length),
            };
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let data = &bytes[at..at.saturating_add(size).min(bytes.len())];
        body.extend_from_slice(data);
        at += data.len();
        match &bytes[at..] {
            [] | [b'\r'] => return Parsed::Short(()),
            [b'\r', b'\n', ..] => at += 2,
            _ => return Parsed::Wrong("a chunk that is longer than its size"),
        }
    }
}

/// Digits, then an extension or nothing; blanks may stand before the semicolon (RFC 9112, 7.1.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = match line.iter().position(|b| *b == b';') {
        Some(semicolon) => line[..semicolon].trim_ascii_end(),
        None => line,
    };
    (!digits.is_empty()).then(|| number(digits, 16)).flatten()
}

/// One request of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    pub method: Vec<u8>,
    /// In origin form, whatever form it had.
    pub target: Vec<u8>,
    pub is_old: bool,
    /// As far as it came.
    pub body: Vec<u8>,
    pub is_whole: bool,
}

/// Where a client's bytes end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Between requests or within one: more could come.
    Open,
    /// The connection has to end: it was asked to, or what comes next is no request.
    Over,
}

/// All requests in a client's bytes, and how they end.
pub fn requests(bytes: &[u8]) -> (Vec<Request>, End) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        while bytes[at..].starts_with(b"\r\n") {
            at += 2;
        }
        let (head, length) = match head(&bytes[at..]) {
            Parsed::Wrong(_) => return (found, End::Over),
            Parsed::Short(_) => return (found, End::Open),
            Parsed::Whole(head, length) => (head, length),
        };
        at += length;
        let [method, target, version] = head.words()[..] else { return (found, End::Over) };
        let (is_old, framing) = (version == b"HTTP/1.0", head.framing());
        let Ok(framing) = framing else { return (found, End::Over) };
        let is_known = is_old || version == b"HTTP/1.1";
        if !is_token(method) || !is_known || (is_old && framing == Framing::Chunks) {
            return (found, End::Over);
        }
        let (method, target) = (method.to_vec(), origin_form(target));
        let stays =
            !head.says("connection", "close") && (!is_old || head.says("connection", "keep-alive"));
        let mut request = Request { method, target, is_old, body: Vec::new(), is_whole: false };
        let (decoded, parsed) = body(framing, &bytes[at..]);
        (request.body, request.is_whole) = (decoded, matches!(parsed, Parsed::Whole(..)));
        found.push(request);
        match parsed {
            Parsed::Wrong(_) => return (found, End::Over),
            Parsed::Short(()) => return (found, End::Open),
            Parsed::Whole((), length) => at += length,
        }
        if !stays {
            return (found, End::Over);
        }
    }
}

/// `http://host/x` is `/x`.
fn origin_form(target: &[u8]) -> Vec<u8> {
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let scheme = schemes.iter().find(|scheme| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    let Some(scheme) = scheme else { return target.to_vec() };
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    match &rest[end..] {
        [b'/', ..] => rest[end..].to_vec(),
        query => [b"/", query].concat(),
    }
}

/// The answers to these requests, and how many of them; `Err` says what is wrong with them.
pub fn answers(bytes: &[u8], asked: &[Request]) -> Result<Vec<Head>, &'static str> {
    let (mut found, mut at) = (Vec::<Head>::new(), 0);
    while at < bytes.len() {
        let (head, length) = match head(&bytes[at..]) {
            Parsed::Whole(head, length) => (head, length),
            Parsed::Short(_) => return Err("a head that is cut"),
            Parsed::Wrong(why) => return Err(why),
        };
        at += length;
        let status = status(&head).ok_or("a start line that is none")?;
        let framing = head.framing()?;
        if status < 200 {
            if framing != Framing::Nothing || status == 101 {
                return Err("an interim answer with a body, or a switch");
            }
            continue;
        }
        let question = asked.get(found.len());
        let is_head = question.is_some_and(|request| request.method == b"HEAD");
        if question.is_some_and(|r| r.is_old) && framing == Framing::Chunks {
            return Err("chunks towards HTTP/1.0");
        }
        let bare = is_head || status == 204 || status == 304;
        match body(if bare { Framing::Nothing } else { framing }, &bytes[at..]).1 {
            // Without a length it goes on to the end of the connection.
            Parsed::Whole(..) if !bare && framing == Framing::Nothing => at = bytes.len(),
            Parsed::Whole(_, length) => at += length,
            Parsed::Short(_) => return Err("a body that is cut"),
            Parsed::Wrong(why) => return Err(why),
        }
        found.push(head);
    }
    Ok(found)
}

fn status(head: &Head) -> Option<u16> {
    let line = head.start.strip_prefix(b"HTTP/1.1 ").or(head.start.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, reason) = line.split_at_checked(3)?;
    let status = u16::try_from(number(digits, 10)?).ok()?;
    (reason.first() == Some(&b' ') && (100..600).contains(&status)).then_some(status)
}

//! One line of the access log. `bascule replay` reads both formats.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::model::access_log::LineFormat;

/// How the combined format writes a time.
const TIME: &str = "%d/%b/%Y:%H:%M:%S %z";

/// A request that has ended. Nothing of it that a client may hold secret: no query, no header but the
/// names of the request and its trace.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When its head had come.
    pub began: SystemTime,
    /// Who asked, behind the trusted proxies.
    pub client: IpAddr,
    /// As it came; empty where no head was read.
    pub method: &'a str,
    /// `http` or `https`, towards the client.
    pub scheme: &'a str,
    /// As the client wrote it; empty where there was none.
    pub host: &'a str,
    /// Without the query; empty where no head was read.
    pub url_path: &'a str,
    /// As in `HTTP/1.1`; where no head was read, what the connection speaks.
    pub protocol: &'a str,
    /// What the client got; 499 where it did not wait for it.
    pub status: u16,
    /// Where a route took it.
    pub service: Option<&'a str>,
    /// The snapshot it went by.
    pub generation: u64,
    /// In order.
    pub attempts: &'a [Attempt<'a>],
    /// What it came to, as [`Attempt::outcome`] or a reason to refuse it.
    pub outcome: &'a str,
    /// Until the head of the answer went to the client.
    pub head_took: Duration,
    /// Until its last byte did.
    pub took: Duration,
    /// Of the request's body.
    pub bytes_in: u64,
    /// Of the answer's body.
    pub bytes_out: u64,
    /// `X-Request-Id`, as the upstream got it.
    pub request_id: &'a str,
    /// Of `traceparent`; empty without one.
    pub trace_id: &'a str,
}

/// One attempt at an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Through whom.
    pub provider: &'a str,
    /// Of the provider: `eu` or `non_eu`.
    pub jurisdiction: &'a str,
    /// `None`: no head came.
    pub status: Option<u16>,
    /// To the head.
    pub head_took: Option<Duration>,
    /// As in `bascule_attempts_total`.
    pub outcome: &'a str,
    /// Whether the origin signed it, where it is asked to.
    pub marked: Option<bool>,
}

#[derive(Serialize)]
struct Fields<'a> {
    #[serde(serialize_with = "as_text")]
    time: Timestamp,
    client: IpAddr,
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: &'a str,
    status: u16,
    service: Option<&'a str>,
    generation: u64,
    attempts: usize,
    upstream: &'a str,
    jurisdiction: &'a str,
    upstream_status: &'a str,
    upstream_header_time: &'a str,
    upstream_outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_marker: Option<bool>,
    outcome: &'a str,
    head_time: f64,
    duration: f64,
    bytes_in: u64,
    bytes_out: u64,
    request_id: &'a str,
    trace_id: &'a str,
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// Writes the line and its end.
pub fn write(line: &Line<'_>, format: LineFormat, out: &mut Vec<u8>) {
    let time = Timestamp::try_from(line.began).unwrap_or_default();
    let listed = |show: &dyn Fn(&Attempt<'_>) -> String| match line.attempts {
        [] => String::new(),
        [one] => show(one),
        all => all.iter().map(show).collect::<Vec<_>>().join(", "),
    };
    let fields = Fields {
        time,
        client: line.client,
        method: line.method,
        scheme: line.scheme,
        host: line.host,
        path: line.url_path,
        protocol: line.protocol,
        status: line.status,
        service: line.service,
        generation: line.generation,
        attempts: line.attempts.len(),
        upstream: &listed(&|attempt| attempt.provider.to_owned()),
        jurisdiction: &listed(&|attempt| attempt.jurisdiction.to_owned()),
        upstream_status: &listed(&|attempt| {
            attempt.status.map_or_else(|| "-".to_owned(), |status| status.to_string())
        }),
        upstream_header_time: &listed(&|attempt| {
            let seconds = |took: Duration| format!("{:.3}", took.as_secs_f64());
            attempt.head_took.map_or_else(|| "-".to_owned(), seconds)
        }),
        upstream_outcome: &listed(&|attempt| attempt.outcome.to_owned()),
        origin_marker: line.attempts.last().and_then(|attempt| attempt.marked),
        outcome: line.outcome,
        head_time: rounded(line.head_took),
        duration: rounded(line.took),
        bytes_in: line.bytes_in,
        bytes_out: line.bytes_out,
        request_id: line.request_id,
        trace_id: line.trace_id,
    };
    match format {
        LineFormat::Json => json(&fields, out),
        LineFormat::Text => text(&fields, out),
    }
    out.push(b'\n');
}

/// Seconds to the microsecond.
fn rounded(took: Duration) -> f64 {
    took.as_micros() as f64 / 1e6
}

fn json(fields: &Fields<'_>, out: &mut Vec<u8>) {
    let before = out.len();
    // Every field can be written as JSON, and memory takes what it is given.
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Escaping);
    if fields.serialize(&mut serializer).is_err() {
        out.truncate(before);
    }
}

/// Compact JSON in which no control character stands as itself: JSON asks that of those below U+0020 only,
/// and a terminal obeys U+0080 to U+009F too.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        // DEL, and the first byte of those from U+0080 on: mostly there is neither.
        if !fragment.bytes().any(|byte| matches!(byte, 0x7f | 0xc2)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut plain = 0;
        for (at, control) in fragment.match_indices(char::is_control) {
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            plain = at + control.len();
            for c in control.chars() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

fn text(fields: &Fields<'_>, out: &mut Vec<u8>) {
    let mut rest = String::new();
    let named = [
        ("scheme", fields.scheme),
        ("host", fields.host),
        ("service", fields.service.unwrap_or_default()),
        ("upstream", fields.upstream),
        ("jurisdiction", fields.jurisdiction),
        ("upstream_status", fields.upstream_status),
        ("upstream_header_time", fields.upstream_header_time),
        ("upstream_outcome", fields.upstream_outcome),
        ("outcome", fields.outcome),
        ("request_id", fields.request_id),
        ("trace_id", fields.trace_id),
    ];
    let numbers = [
        ("generation", fields.generation.to_string()),
        ("attempts", fields.attempts.to_string()),
        ("head_time", fields.head_time.to_string()),
        ("duration", fields.duration.to_string()),
        ("bytes_in", fields.bytes_in.to_string()),
    ];
    let marked = fields.origin_marker.map(|marked| ("origin_marker", marked.to_string()));
    let named = named.into_iter().filter(|(_, value)| !value.is_empty());
    for (name, value) in named {
        // A String takes whatever is written to it.
        write!(rest, " {name}=\"{}\"", Quoted(value)).unwrap_or_default();
    }
    for (name, value) in numbers.into_iter().chain(marked) {
        write!(rest, " {name}={value}").unwrap_or_default();
    }
    let Fields { client, method, path, protocol, status, bytes_out, .. } = fields;
    let time = fields.time.strftime(TIME);
    let path = Quoted(path);
    let request = match method.is_empty() {
        true => "-".to_owned(),
        false => format!("{method} {path} {protocol}"),
    };
    // So does a Vec.
    write!(out, "{client} - - [{time}] \"{request}\" {status} {bytes_out} \"-\" \"-\"{rest}")
        .unwrap_or_default();
}

/// Fit to stand between quotation marks on one line.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\x{:02X}", u32::from(c))?,
                c if c.is_control() => write!(f, "\\x{:02X}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Attempt<'_> = Attempt {
        provider: "cloudflare",
        jurisdiction: "non_eu",
        status: None,
        head_took: None,
        outcome: "broke_off",
        marked: None,
    };
    const GOOD: Attempt<'_> = Attempt {
        provider: "bunny",
        jurisdiction: "eu",
        status: Some(200),
        head_took: Some(Duration::from_millis(40)),
        outcome: "success",
        marked: Some(true),
    };

    fn line(url_path: &str, format: LineFormat) -> String {
        let line = Line {
            began: SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_465_283_201),
            client: "192.0.2.1".parse().expect("an address"),
            method: "GET",
            scheme: "https",
            host: "www.example",
            url_path,
            protocol: "HTTP/2.0",
            status: 200,
            service: Some("portal"),
            generation: 7,
            attempts: &[LATE, GOOD],
            outcome: "success",
            head_took: Duration::from_micros(1_040_200),
            took: Duration::from_millis(1050),
            bytes_in: 0,
            bytes_out: 512,
            request_id: "abc",
            trace_id: "0af7651916cd43dd8448eb211c80319c",
        };
        let mut out = Vec::new();
        write(&line, format, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_json_line_says_all_of_it() {
        let expected = concat!(
            r#"{"time":"2025-11-18T11:28:03.201Z","client":"192.0.2.1","method":"GET","scheme":"https","#,
            r#""host":"www.example","path":"/a","protocol":"HTTP/2.0","status":200,"service":"portal","#,
            r#""generation":7,"attempts":2,"upstream":"cloudflare, bunny","jurisdiction":"non_eu, eu","#,
            r#""upstream_status":"-, 200","upstream_header_time":"-, 0.040","#,
            r#""upstream_outcome":"broke_off, success","origin_marker":true,"outcome":"success","#,
            r#""head_time":1.0402,"duration":1.05,"bytes_in":0,"bytes_out":512,"request_id":"abc","#,
            r#""trace_id":"0af7651916cd43dd8448eb211c80319c"}"#,
            "\n"
        );
        assert_eq!(line("/a", LineFormat::Json), expected);
    }

    #[test]
    fn a_text_line_begins_as_the_combined_format() {
        let text = line("/a", LineFormat::Text);
        let front =
            r#"192.0.2.1 - - [18/Nov/2025:11:28:03 +0000] "GET /a HTTP/2.0" 200 512 "-" "-" "#;
        assert!(text.starts_with(front), "{text}");
        assert!(text.contains(r#" upstream="cloudflare, bunny" "#), "{text}");
    }

    #[test]
    fn no_control_character_of_a_client_reaches_a_terminal() {
        let sent = "/a\u{1b}b\u{7f}c\u{80}\u{9b}d\u{9f}é";
        let said = line(sent, LineFormat::Json);
        assert!(said.contains(r#""path":"/a\u001bb\u007fc\u0080\u009bd\u009fé""#), "{said}");
        let read: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(read["path"], sent);
        for format in [LineFormat::Json, LineFormat::Text] {
            let said = line(sent, format);
            assert!(!said.trim_end().contains(char::is_control), "{said:?}");
        }
    }

    #[test]
    fn nothing_a_client_sends_makes_a_second_line_or_field() {
        for format in [LineFormat::Json, LineFormat::Text] {
            let text = line("/a\" 200 1 \"-\" \\ host=\"x\ny", format);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let quotes = text.matches('"').count();
            assert_eq!(
                quotes,
                line("/a", format).matches('"').count() + text.matches("\\\"").count()
            );
        }
    }
}

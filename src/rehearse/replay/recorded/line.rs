//! One line of an access log: a finished request with every upstream that was tried for it.
//!
//! | kind | looks like |
//! |---|---|
//! | combined | `192.0.2.1 - - [18/Nov/2025:11:28:03 +0000] "GET /a HTTP/1.1" 502 157 "-" "agent" host=www.example upstream=cloudflare upstream_header_time=0.120` |
//! | JSON | `{"time":"2025-11-18T11:28:03.201Z","client":"192.0.2.1","method":"GET","host":"www.example","path":"/a","status":502,"upstream":"cloudflare","upstream_header_time":0.12}` |
//!
//! What follows the combined part is any number of `name=value` or `name="value"` fields with the
//! names of the JSON form. A request that was tried at several upstreams lists them, separated by
//! commas, and so their statuses and times: `upstream="cloudflare, bunny" upstream_status="502, 200"`.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use jiff::fmt::strtime;
use serde_json::{Map, Value};

use super::combined;

/// How the combined format writes a time.
const TIME: &str = "%d/%b/%Y:%H:%M:%S %z";
/// Most upstreams tried for one request.
const MOST_TRIED: usize = 8;
/// What is not known of a client.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// A finished request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Visit {
    pub(super) at: Timestamp,
    pub(super) client: IpAddr,
    pub(super) method: Method,
    /// In lower case, without a port; empty where the log does not say.
    pub(super) host: String,
    pub(super) url_path: String,
    /// What the client got.
    pub(super) status: u16,
    /// In order; at least one.
    pub(super) tried: Vec<Tried>,
}

/// One attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tried {
    /// A provider, or the host of an upstream's URL; empty where the log does not say.
    pub(super) upstream: String,
    /// `None`: no answer came.
    pub(super) status: Option<u16>,
    /// To the answer's head.
    pub(super) head_took: Option<Duration>,
    /// Whether the answer carried the origin's marker, where the log says so.
    pub(super) marked: Option<bool>,
}

/// Why a line is no visit.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum BadLine {
    /// Longer than any line may be.
    #[error("longer than 64 KiB")]
    TooLong,
    /// It is not UTF-8.
    #[error("not UTF-8")]
    NotText,
    /// Neither one JSON object nor the combined format.
    #[error("neither JSON nor the combined format")]
    Shape,
    /// No time, or none that can be read.
    #[error("no time")]
    Time,
    /// No request line, or none with a method and a path.
    #[error("no method and path")]
    Request,
    /// No status between 100 and 599.
    #[error("no status")]
    Status,
    /// An upstream that the service does not have.
    #[error("an upstream that the file does not have")]
    Upstream,
    /// A host or path that no route of the file takes.
    #[error("no route of the file")]
    Route,
}

/// Reads one line.
pub(super) fn read(line: &str) -> Result<Visit, BadLine> {
    let line = line.trim();
    let fields = if line.starts_with('{') {
        serde_json::from_str(line).map_err(|_| BadLine::Shape)?
    } else {
        combined::fields(line).ok_or(BadLine::Shape)?
    };
    Fields(fields).visit()
}

/// A line's fields by name.
struct Fields(Map<String, Value>);

impl Fields {
    fn visit(&self) -> Result<Visit, BadLine> {
        let at = ["time", "ts", "timestamp", "@timestamp", "time_local", "time_iso8601"];
        let at = at.iter().find_map(|name| self.0.get(*name)).and_then(timestamp);
        let at = at.ok_or(BadLine::Time)?;
        let (method, url_path) = self.request().ok_or(BadLine::Request)?;
        let status = self.text(&["status"]).and_then(|text| status(&text));
        let status = status.ok_or(BadLine::Status)?;
        let client = self.text(&["client", "remote_addr", "remote_ip", "client_ip"]);
        let client = client.and_then(|text| text.parse().ok()).unwrap_or(NOBODY);
        let host = host(&self.text(&["host", "http_host"]).unwrap_or_default());
        Ok(Visit { at, client, method, host, url_path, status, tried: self.tried(status) })
    }

    /// A field as text, whether it was written as text or not; `-` is nothing.
    fn text(&self, names: &[&str]) -> Option<String> {
        match names.iter().find_map(|name| self.0.get(*name))? {
            Value::String(text) if text != "-" => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Method and path, from fields of their own or from the request line.
    fn request(&self) -> Option<(Method, String)> {
        let line = self.text(&["request"]).unwrap_or_default();
        let mut words = line.split(' ').map(str::to_owned);
        let (first, second) = (words.next(), words.next());
        let method = self.text(&["method", "request_method"]).or(first)?;
        let target = self.text(&["path", "url_path", "uri", "request_uri", "url"]).or(second)?;
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        let url_path = target.split(['?', '#']).next().unwrap_or_default();
        url_path.starts_with('/').then(|| (method, url_path.to_owned()))
    }

    /// Every attempt; one that the log says nothing of had the answer that the client got.
    fn tried(&self, answered: u16) -> Vec<Tried> {
        let names = self.list(&["upstream", "provider", "upstream_name", "upstream_addr"]);
        let statuses = self.list(&["upstream_status"]);
        let times = self.list(&["upstream_header_time"]);
        let marked = self.text(&["origin_marker"]).map(|text| matches!(&*text, "true" | "1"));
        let count = names.len().clamp(1, MOST_TRIED);
        let tried = |n: usize| Tried {
            upstream: names.get(n).cloned().unwrap_or_default(),
            status: match statuses.get(n) {
                Some(text) => status(text),
                // What the client got came from the last one; that of others is not known.
                None if n + 1 == count => Some(answered),
                None => None,
            },
            head_took: times.get(n).and_then(|text| seconds(text)),
            marked: marked.filter(|_| n + 1 == count),
        };
        (0..count).map(tried).collect()
    }

    /// A field that names one thing for each attempt.
    fn list(&self, names: &[&str]) -> Vec<String> {
        let text = self.text(names).unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.take(MOST_TRIED).map(str::to_owned).collect()
    }
}

/// RFC 3339, the combined format's own, or seconds since 1970 (milliseconds from 10^11 on).
fn timestamp(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => match text.parse() {
            Ok(at) => Some(at),
            Err(_) => strtime::parse(TIME, text).ok()?.to_timestamp().ok(),
        },
        Value::Number(number) => {
            let number = number.as_f64()?;
            let seconds = if number.abs() >= 1e11 { number / 1000.0 } else { number };
            Timestamp::from_nanosecond((seconds * 1e9) as i128).ok()
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (100..600).contains(status))
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// In lower case, without a port.
fn host(text: &str) -> String {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let name = match text.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) | None => text,
    };
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMBINED: &str = r#"192.0.2.1 - - [18/Nov/2025:11:28:03 +0000] "GET /a?b=c HTTP/1.1" 502 157 "-" "an agent""#;
    const JSON: &str = r#"{"time":"2025-11-18T11:28:03Z","client":"192.0.2.1","method":"GET","host":"Www.Example:443","path":"/a?b=c","status":502,"upstream":"cloudflare"}"#;

    #[test]
    fn both_formats_say_the_same() {
        let combined = format!("{COMBINED} host=www.example upstream=cloudflare");
        let combined = read(&combined).expect("a combined line");
        assert_eq!(combined, read(JSON).expect("a JSON line"));
        assert_eq!((combined.url_path.as_str(), combined.host.as_str()), ("/a", "www.example"));
        assert_eq!(combined.tried[0].status, Some(502));
    }

    #[test]
    fn several_upstreams_are_several_attempts() {
        let line = format!(
            r#"{COMBINED} upstream="cloudflare, bunny" upstream_status="-, 200" upstream_header_time="1.000, 0.040""#
        );
        let tried = read(&line).expect("a line").tried;
        let names: Vec<&str> = tried.iter().map(|one| one.upstream.as_str()).collect();
        assert_eq!(names, ["cloudflare", "bunny"]);
        assert_eq!(tried[0].status, None, "no answer came");
        assert_eq!(tried[1].status, Some(200));
        assert_eq!(tried[1].head_took, Some(Duration::from_millis(40)));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        #[rustfmt::skip]
        let table = [
            ("",                                                               BadLine::Shape),
            ("plain words",                                                    BadLine::Shape),
            (r#"{"time": "#,                                                   BadLine::Shape),
            (r#"{"status":200,"method":"GET","path":"/"}"#,                    BadLine::Time),
            (r#"{"time":"yesterday","status":200,"method":"GET","path":"/"}"#, BadLine::Time),
            (r#"{"time":1763465283,"status":200,"method":"GET"}"#,             BadLine::Request),
            (r#"{"time":1763465283,"status":200,"request":"CONNECT x:443"}"#,  BadLine::Request),
            (r#"{"time":1763465283,"status":9000,"request":"GET / HTTP/2"}"#,  BadLine::Status),
        ];
        for (line, why) in table {
            assert_eq!(read(line).expect_err(line), why, "{line}");
        }
    }

    #[test]
    fn a_time_may_be_a_number_of_seconds_or_milliseconds() {
        let at = |time: &str| {
            let line = format!(r#"{{"time":{time},"status":200,"request":"GET / HTTP/2"}}"#);
            read(&line).expect("a line").at
        };
        assert_eq!(at("1763465283"), at("1763465283000"));
        assert_eq!(at("1763465283"), at(r#""2025-11-18T12:28:03+01:00""#));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = fastrand::Rng::with_seed(7);
        let bases = [COMBINED, JSON];
        for n in 0..20_000_usize {
            let mut bytes = bases[n % 2].as_bytes().to_vec();
            for _ in 0..rng.usize(1..6) {
                let place = rng.usize(0..bytes.len());
                bytes[place] = rng.u8(..);
            }
            bytes.truncate(rng.usize(0..=bytes.len()));
            if let Ok(visit) = read(&String::from_utf8_lossy(&bytes)) {
                assert!((1..=MOST_TRIED).contains(&visit.tried.len()));
            }
        }
    }
}

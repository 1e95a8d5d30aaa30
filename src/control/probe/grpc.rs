//! The standard health check of gRPC (`grpc.health.v1.Health/Check`, unary): what is sent, and what the
//! answer says.
//!
//! In: the name of a service, and what came back. Out: bytes to send; serving, or why not. The two messages
//! hold one field each, so they are written and read by hand. Pure.
//!
//! Not here: the connection, its deadline, and what a verdict means for an upstream ([`super`]).

use std::fmt;

use http::HeaderMap;

/// Before each message: whether it is compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
const PREFIX: usize = 5;
/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Why a server does not say that it serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unwell {
    /// It says that the service does not serve.
    NotServing,
    /// It has no health service.
    NoHealthService,
    /// Its health service does not know the name.
    UnknownService,
    /// Another status of gRPC.
    Status(u16),
    /// No answer of gRPC.
    NotGrpc,
}

/// What it is, and how to mend it.
impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServing => f.write_str("the server says that it is not serving"),
            Self::NoHealthService => f.write_str(
                "the server has no health service (UNIMPLEMENTED); register grpc.health.v1.Health there, or \
                 write `grpc: off` and a `path` that it answers",
            ),
            Self::UnknownService => f.write_str(
                "the server's health service does not know the service (NOT_FOUND); set its status there, or \
                 write `grpc: server`",
            ),
            Self::Status(status) => write!(f, "the server answers with gRPC status {status}"),
            Self::NotGrpc => f.write_str(
                "the answer is not one of gRPC; ask the gRPC server itself, or write `grpc: off`",
            ),
        }
    }
}

/// `HealthCheckRequest { service }` as the body of a call; the whole server where the name is empty.
pub fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 3);
    if !service.is_empty() {
        message.push(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut body = vec![0];
    body.extend_from_slice(&length.to_be_bytes());
    body.append(&mut message);
    body
}

/// What an answer says whose HTTP status is 200: its header fields, body and trailers.
pub fn answer(
    headers: &HeaderMap,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> Result<(), Unwell> {
    // An error without a message ends with its header fields (Trailers-Only).
    let status = trailers.and_then(status).or_else(|| self::status(headers));
    match status {
        Some(0) if serving_status(body) == Some(SERVING) => Ok(()),
        Some(0) if serving_status(body).is_some() => Err(Unwell::NotServing),
        Some(0) | None => Err(Unwell::NotGrpc),
        Some(5) => Err(Unwell::UnknownService),
        Some(12) => Err(Unwell::NoHealthService),
        Some(other) => Err(Unwell::Status(other)),
    }
}

fn status(fields: &HeaderMap) -> Option<u16> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `HealthCheckResponse.status` of a body; 0 where the message leaves it out, `None` where there is none.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (prefix, rest) = body.split_at_checked(PREFIX)?;
    let [0, length @ ..] = prefix else { return None };
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    let mut found = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => found = varint(&mut message)?,
            // What a later version adds is stepped over.
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(found)
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(status: &str) -> HeaderMap {
        [(http::HeaderName::from_static("grpc-status"), status.parse().expect("a value"))]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_request_names_its_service_in_one_field() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = request(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_serving_under_status_0_is_well() {
        let well: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
        #[rustfmt::skip]
        let table: [(&str, &str, &[u8], Option<Unwell>); 12] = [
            ("serving",                     "0",  well,                               None),
            ("with fields of a later time", "0",  &[0, 0, 0, 0, 6, 0x12, 2, 0, 0, 8, 1], None),
            ("not serving",                 "0",  &[0, 0, 0, 0, 2, 8, 2],             Some(Unwell::NotServing)),
            ("unknown, which is left out",  "0",  &[0, 0, 0, 0, 0],                   Some(Unwell::NotServing)),
            ("no message",                  "0",  b"",                                Some(Unwell::NotGrpc)),
            ("compressed, unasked",         "0",  &[1, 0, 0, 0, 2, 8, 1],             Some(Unwell::NotGrpc)),
            ("shorter than it says",        "0",  &[0, 0, 0, 0, 3, 8, 1],             Some(Unwell::NotGrpc)),
            ("a number without an end",     "0",  &[0, 0, 0, 0, 2, 8, 0x81],          Some(Unwell::NotGrpc)),
            ("an error in spite of it",     "14", well,                               Some(Unwell::Status(14))),
            ("no such service",             "5",  b"",                                Some(Unwell::UnknownService)),
            ("no health service",           "12", b"",                                Some(Unwell::NoHealthService)),
            ("a page",                      "",   b"<html>",                          Some(Unwell::NotGrpc)),
        ];
        for (shows, status, body, verdict) in table {
            let none = HeaderMap::new();
            assert_eq!(answer(&none, body, Some(&fields(status))).err(), verdict, "{shows}");
            assert_eq!(
                answer(&fields(status), body, None).err(),
                verdict,
                "{shows}, without trailers"
            );
        }
    }
}

//! The line of what was refused before a head of it was read, over HTTP/1.1: too large, too slow, or no
//! HTTP. All that is known is who sent it.

use std::sync::Arc;
use std::time::Duration;

use http::Version;

use crate::clock;
use crate::model::refusal::Refusal;
use crate::proxy::client::Client;
use crate::telemetry::line::{self, Line};

/// Writes down, where that is wanted, what was refused before a head of it was read.
pub(in crate::proxy) fn tell(client: &Client, refusal: Refusal) {
    let settings = Arc::clone(&client.settings.borrow());
    let Some(log) = settings.access_log.as_ref() else { return };
    let line = Line {
        began: clock::wall(),
        client: client.peer,
        method: "",
        scheme: client.proto.as_str(),
        host: "",
        url_path: "",
        protocol: super::protocol(Version::HTTP_11),
        status: refusal.status().as_u16(),
        service: None,
        generation: 0,
        attempts: &[],
        outcome: refusal.as_str(),
        head_took: Duration::ZERO,
        took: Duration::ZERO,
        bytes_in: 0,
        bytes_out: 0,
        request_id: "",
        trace_id: "",
    };
    client.worker.access_log.gather(|out| line::write(&line, log.format, out));
}

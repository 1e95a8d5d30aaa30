//! What the demo's proxy says about itself, asked over its admin address as anyone would.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::admin::view::{ServiceView, Status};

/// What the metrics say of moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moves {
    /// Away from a bad first candidate.
    pub failovers: u64,
    /// Back.
    pub failbacks: u64,
    /// From the first failure to the decision, summed over failovers, in seconds.
    pub detection: f64,
    /// From the decision to the first request that obeys it, likewise.
    pub switch: f64,
}

/// The demo's one service.
pub async fn service(admin: SocketAddr) -> Option<ServiceView> {
    let status: Status = serde_json::from_slice(&get(admin, "/v1/status").await?).ok()?;
    status.services.into_iter().next()
}

/// What was moved so far.
pub async fn moves(admin: SocketAddr) -> Option<Moves> {
    let page = get(admin, "/metrics").await?;
    let page = std::str::from_utf8(&page).ok()?;
    Some(Moves {
        failovers: sum(page, "bascule_failovers_total") as u64,
        failbacks: sum(page, "bascule_failbacks_total") as u64,
        detection: sum(page, "bascule_failover_detection_seconds_sum"),
        switch: sum(page, "bascule_failover_switch_seconds_sum"),
    })
}

/// Of all series of one name.
fn sum(page: &str, name: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with('{') || rest.starts_with(' ');
        is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    };
    page.lines().filter_map(value).sum()
}

/// `None` while it cannot be had; the next look is soon.
async fn get(admin: SocketAddr, url_path: &'static str) -> Option<Bytes> {
    let stream = TcpStream::connect(admin).await.ok()?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // Ends with the one answer: the connection is dropped below.
    spawn_local(async move {
        if let Err(error) = driver.await {
            tracing::trace!(%error, "the admin connection ended");
        }
    });
    let host = admin.to_string();
    let request = Request::get(url_path).header(HOST, host).body(Empty::<Bytes>::new()).ok()?;
    let answer = connection.send_request(request).await.ok()?;
    Some(answer.into_body().collect().await.ok()?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_series_and_no_other() {
        let page = "# HELP x y\nx{a=\"1\"} 2\nx{a=\"2\"} 3\nx_sum{a=\"1\"} 9\nxy 7\n";
        assert_eq!(sum(page, "x"), 5.0);
        assert_eq!(sum(page, "xy"), 7.0);
        assert_eq!(sum(page, "z"), 0.0);
    }
}

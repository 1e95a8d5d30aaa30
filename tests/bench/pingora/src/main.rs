//! Pingora as a plain reverse proxy: one thread, one origin.
//!
//! Usage: bascule-bench-pingora HTTP_PORT TLS_PORT ORIGIN_PORT CERTIFICATE KEY

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct ToOrigin(String);

#[async_trait]
impl ProxyHttp for ToOrigin {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0.as_str(), false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        (): &mut (),
    ) -> pingora::Result<()> {
        let client = session.client_addr().and_then(|address| address.as_inet());
        if let Some(client) = client {
            request.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [http, tls, origin, certificate, key] = arguments.as_slice() else {
        panic!("five arguments are needed");
    };
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let to_origin = ToOrigin(format!("127.0.0.1:{origin}"));
    let mut service = http_proxy_service(&server.configuration, to_origin);
    service.add_tcp(&format!("127.0.0.1:{http}"));
    let mut secure = TlsSettings::intermediate(certificate, key).expect("a certificate and its key");
    secure.enable_h2();
    service.add_tls_with_settings(&format!("127.0.0.1:{tls}"), None, secure);
    server.add_service(service);
    server.run_forever();
}

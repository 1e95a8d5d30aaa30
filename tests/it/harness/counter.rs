//! A stand-in that must not be reached: counts what its bare TCP socket sees, whatever it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Alive and well, and eager: answers 200 to anything.
pub struct Counter {
    shared: Arc<Shared>,
    address: SocketAddr,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    bytes: AtomicUsize,
    said: Mutex<String>,
}

impl Counter {
    /// Listens on loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        task.spawn(accept(Arc::clone(&shared), listener));
        Self { shared, address, _task: task }
    }

    /// As the file names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// TCP connections that were taken, and bytes that came through them.
    pub fn seen(&self) -> (usize, usize) {
        let Shared { connections, bytes, .. } = &*self.shared;
        (connections.load(Ordering::SeqCst), bytes.load(Ordering::SeqCst))
    }

    /// All of it, as text.
    pub fn said(&self) -> String {
        self.shared.said.lock().expect("no panic while held").clone()
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut all = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        all.spawn(listen(Arc::clone(&shared), stream));
    }
}

async fn listen(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = stream.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        shared.bytes.fetch_add(length, Ordering::SeqCst);
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        shared.said.lock().expect("no panic while held").push_str(&text);
        let answer = "HTTP/1.1 200 OK\r\nx-served-by: outside\r\ncontent-length: 2\r\n\r\nok";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

//! HTTP/1.1 by hand, for both ends: exactly the bytes a test wants, nothing repaired.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection, in cleartext or not, whose TCP socket can still be reached.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// For resetting it.
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for tokio_rustls::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A start line with its headers, as they came.
#[derive(Clone, Debug)]
pub struct Head {
    pub start: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Self { start, headers }
    }

    /// The `n`-th word of the start line.
    pub fn word(&self, n: usize) -> &str {
        self.start.split(' ').nth(n).unwrap_or_default()
    }

    /// The status of an answer; 0 when there is none.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    fn framing(&self) -> Framing {
        let chunked = self.get("transfer-encoding").is_some_and(|v| v.contains("chunked"));
        match self.get("content-length").and_then(|v| v.parse().ok()) {
            _ if chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        }
    }
}

/// The first value under a header name, in any case.
pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Reply {
    pub head: Head,
    pub body: Vec<u8>,
}

/// One end of a connection, and what has arrived of it without being asked for.
pub struct Wire {
    io: Box<dyn Io>,
    arrived: Vec<u8>,
}

impl Wire {
    /// Around a connection of which nothing was read.
    pub fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), arrived: Vec::new() }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref()).await?;
        self.io.flush().await
    }

    /// The next head; `None` when the peer ended first.
    pub async fn head(&mut self) -> Option<Head> {
        let end = self.position(b"\r\n\r\n").await.ok()? + 4;
        let bytes: Vec<u8> = self.arrived.drain(..end).collect();
        Some(Head::parse(&bytes))
    }

    /// The body that a request with this head announces.
    pub async fn request_body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        match head.framing() {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => self.take(length).await,
            Framing::Chunked => self.chunks().await,
        }
    }

    /// The next answer, body included; 1xx heads are skipped. An error when it is cut short.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            let head = self.head().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.status();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let body = match head.framing() {
                _ if status == 204 || status == 304 => Vec::new(),
                Framing::Length(length) => self.take(length).await?,
                Framing::Chunked => self.chunks().await?,
                Framing::None => self.rest().await?,
            };
            return Ok(Reply { head, body });
        }
    }

    /// Exactly this many bytes.
    pub async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.arrived.len() < count {
            self.more().await?;
        }
        Ok(self.arrived.drain(..count).collect())
    }

    /// Waits until these bytes came; drops them and all before them.
    pub async fn until(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.position(bytes).await? + bytes.len();
        self.arrived.drain(..end);
        Ok(())
    }

    /// Everything to the end of the connection.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.arrived));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the peer to end the connection, in whatever way; `false` if it sends instead.
    pub async fn is_ended(&mut self) -> bool {
        self.arrived.is_empty() && self.more().await.is_err()
    }

    /// Ends it with a TCP reset.
    pub fn reset(self) {
        // Best effort: a socket that is already gone needs no reset.
        self.io.tcp().set_zero_linger().ok();
    }

    /// The connection itself; nothing that arrived may be left over.
    pub fn into_io(self) -> Box<dyn Io> {
        assert!(self.arrived.is_empty(), "bytes would be lost");
        self.io
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.position(b"\r\n").await?;
            let line: Vec<u8> = self.arrived.drain(..end + 2).collect();
            let digits = String::from_utf8_lossy(&line[..end]).into_owned();
            let size = usize::from_str_radix(digits.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                self.trailers().await?;
                return Ok(body);
            }
            body.extend(self.take(size).await?);
            self.take(2).await?;
        }
    }

    async fn trailers(&mut self) -> io::Result<()> {
        loop {
            let end = self.position(b"\r\n").await?;
            self.arrived.drain(..end + 2);
            if end == 0 {
                return Ok(());
            }
        }
    }

    async fn position(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(at) = self.arrived.windows(bytes.len()).position(|w| w == bytes) {
                return Ok(at);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        let before = self.arrived.len();
        self.io.read_buf(&mut self.arrived).await?;
        if self.arrived.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

//! The real binary, started on a file of its own and ended with the test.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::certificates::authority;
use super::client::{Answer, Ask, Session, Speak};
use super::log::{Line, Log};
use super::metrics::Metrics;
use super::recipe::Recipe;
use super::wire::Wire;
use super::{PORTAL, within};

/// How often something that cannot be waited for is looked at again.
const LOOK: Duration = Duration::from_millis(10);

/// A folder with certificates, and the binary running on a file in it. Killed on drop.
pub struct RunningProxy {
    child: Child,
    /// Those that took over since, the serving one last.
    successors: Vec<u32>,
    folder: TempDir,
    pub log: Log,
    /// Clients in cleartext.
    pub plain: SocketAddr,
    /// Clients over TLS.
    pub tls: SocketAddr,
    pub admin: SocketAddr,
}

/// Both ends of a pipe that the binary has as its standard error.
pub struct StandardError {
    pub reader: PipeReader,
    pub writer: PipeWriter,
}

impl StandardError {
    /// Reads until the binary listens; with the addresses.
    fn read(reader: PipeReader) -> (PipeReader, Vec<SocketAddr>) {
        let (mut lines, mut found) = (BufReader::new(reader), Vec::new());
        while found.len() < 3 {
            let mut text = String::new();
            lines.read_line(&mut text).expect("a log is text");
            let line = Line::new(text);
            if line.message() == "listening" {
                let address = line.field("address").expect("it says which");
                found.push(address.parse().expect("an address with its port"));
            }
        }
        (lines.into_inner(), found)
    }
}

/// How a run of the binary ended that was not meant to go on.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub output: String,
}

/// A folder with the authority's certificate, and one certificate each for the portal and its API.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).expect("the folder is ours");
    };
    write("ca.pem", &authority().pem());
    for (name, hosts) in
        [("portal", &[PORTAL, "portal.example"][..]), ("api", &["api.portal.example"])]
    {
        let leaf = authority().leaf(hosts);
        write(&format!("{name}.pem"), &leaf.certificate);
        write(&format!("{name}.key"), &leaf.key);
    }
    folder
}

/// The binary on `bascule.yaml` of a folder, not started yet.
pub fn command(folder: &TempDir, verb: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bascule"));
    command
        .args(verb)
        .args(["-c", "bascule.yaml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl RunningProxy {
    /// Starts on a recipe and waits until it listens.
    pub async fn start(recipe: &Recipe) -> Self {
        Self::start_with(folder(), &recipe.yaml()).await
    }

    /// Starts on this text, in a folder that may hold more files.
    pub async fn start_with(folder: TempDir, yaml: &str) -> Self {
        fs::write(folder.path().join("bascule.yaml"), yaml).expect("the folder is ours");
        let mut child = command(&folder, &["run", "--log-format", "json"]).spawn().expect("spawn");
        let log = Log::new();
        log.follow(child.stdout.take().expect("piped"));
        log.follow(child.stderr.take().expect("piped"));
        let unset = SocketAddr::from(([0, 0, 0, 0], 0));
        let successors = Vec::new();
        let mut proxy =
            Self { child, successors, folder, log, plain: unset, tls: unset, admin: unset };
        proxy.plain = proxy.listening("127.0.0.1:").await;
        proxy.tls = proxy.listening("127.0.0.2:").await;
        proxy.admin = proxy.listening("127.0.0.3:").await;
        proxy
    }

    /// Starts on a recipe. Once it listens, nobody reads its log any more.
    pub async fn start_unread(recipe: &Recipe) -> (Self, StandardError) {
        let (folder, log, successors) = (folder(), Log::new(), Vec::new());
        fs::write(folder.path().join("bascule.yaml"), recipe.yaml()).expect("the folder is ours");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = command(&folder, &["run", "--log-format", "json"]);
        command.stderr(writer.try_clone().expect("a descriptor"));
        let mut child = command.spawn().expect("spawn");
        log.follow(child.stdout.take().expect("piped"));
        let (tell, told) = tokio::sync::oneshot::channel();
        // No task: a runtime would wait for it at the end of a failed test.
        std::thread::spawn(move || drop(tell.send(StandardError::read(reader))));
        let (reader, addresses) = within("the proxy to listen", told).await.expect("no panic");
        let at = |front: &str| {
            let found = addresses.iter().find(|address| address.to_string().starts_with(front));
            *found.expect("each listener has its own")
        };
        let (plain, tls, admin) = (at("127.0.0.1:"), at("127.0.0.2:"), at("127.0.0.3:"));
        let proxy = Self { child, successors, folder, log, plain, tls, admin };
        (proxy, StandardError { reader, writer })
    }

    /// Each listener of a recipe has a loopback address of its own, so the log tells which is which.
    async fn listening(&mut self, front: &str) -> SocketAddr {
        let wanted = |line: &Line| {
            line.message() == "listening"
                && line.field("address").is_some_and(|address| address.starts_with(front))
        };
        let listens = async {
            while self.log.select(wanted).is_empty() {
                if let Some(status) = self.child.try_wait().expect("our own child") {
                    panic!("the proxy ended with {status} instead of listening on {front}…");
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        within(&format!("the proxy to listen on {front}…"), listens).await;
        let lines = self.log.select(wanted);
        lines[0].field("address").expect("checked").parse().expect("an address with its port")
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the configuration as editors do: a new file renamed over the old one.
    pub fn rename_over(&self, yaml: &str) {
        fs::write(self.file("bascule.yaml.new"), yaml).expect("the folder is ours");
        fs::rename(self.file("bascule.yaml.new"), self.file("bascule.yaml")).expect("same folder");
    }

    /// Sends a signal by name: `HUP`, `TERM`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}");
    }

    /// The process that serves.
    fn process(&self) -> u32 {
        self.successors.last().copied().unwrap_or(self.child.id())
    }

    /// Starts the program anew and waits until it serves in place of the old one.
    pub async fn upgrade(&mut self) {
        const TAKEN: &str = "a new process serves in place of this one";
        self.signal("USR2");
        let lines = self.log.wait(TAKEN, self.successors.len() + 1, |l| l.message() == TAKEN).await;
        let process = lines.last().and_then(|line| line.field("process"));
        self.successors.push(process.and_then(|id| id.parse().ok()).expect("a process id"));
    }

    /// Bounds the descriptors it may open from now on; those it has stay.
    pub fn allow_descriptors(&self, most: u32) {
        let limit = format!("prlimit --pid {} --nofile={most}:", self.child.id());
        let status = Command::new("sh").args(["-c", &limit]).status().expect("a shell");
        assert!(status.success(), "{limit}");
    }

    /// Ends it as a power cut would, and gives its folder for another one.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our own child");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a scratch folder"))
    }

    /// Waits for it to end by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("our own child") {
                    return status;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        within("the proxy to end", ended).await
    }

    /// A connection that speaks so, to the portal.
    pub async fn session(&self, speak: Speak) -> Session {
        let address = if speak.is_tls() { self.tls } else { self.plain };
        within("a connection", Session::open(speak, address, PORTAL)).await.expect("a connection")
    }

    /// One request on a connection of its own.
    pub async fn send(&self, speak: Speak, ask: &Ask) -> Answer {
        let mut session = self.session(speak).await;
        within("an answer", session.send(ask)).await.expect("a whole answer")
    }

    /// One GET in cleartext HTTP/1.1.
    pub async fn get(&self, target: &str) -> Answer {
        self.send(Speak::Http1, &Ask::get(target)).await
    }

    /// A bare cleartext connection.
    pub async fn wire(&self) -> Wire {
        Wire::new(TcpStream::connect(self.plain).await.expect("a connection"))
    }

    /// One GET at the admin listener.
    pub async fn admin(&self, target: &str) -> Answer {
        let session = Session::open(Speak::Http1, self.admin, PORTAL);
        let mut session = within("the admin listener", session).await.expect("a connection");
        let ask = Ask::get(target).host(&self.admin.to_string());
        within("an admin answer", session.send(&ask)).await.expect("a whole answer")
    }

    /// One request with a body at the admin listener.
    pub async fn tell(&self, method: Method, target: &str, body: &Value) -> Answer {
        let session = Session::open(Speak::Http1, self.admin, PORTAL);
        let mut session = within("the admin listener", session).await.expect("a connection");
        let ask = Ask { body: body.to_string().into(), ..Ask::new(method, target) };
        let ask = ask.host(&self.admin.to_string()).header("Content-Type", "application/json");
        within("an admin answer", session.send(&ask)).await.expect("a whole answer")
    }

    /// Runs a verb against the admin listener: whether it went well, and what it said.
    pub async fn verb(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bascule"));
        command.args(arguments).arg("--admin").arg(format!("http://{}", self.admin));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = within(&format!("{arguments:?}"), run).await.expect("no panic");
        let output = output.expect("the binary starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// One scrape.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin("/metrics").await.text())
    }

    /// `/v1/status`.
    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.admin("/v1/status").await.text()).expect("JSON")
    }

    /// Scrapes until this holds.
    pub async fn metrics_when(&self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        let reached = async {
            loop {
                let metrics = self.metrics().await;
                if holds(&metrics) {
                    return metrics;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        within(&format!("the metrics to show {what}"), reached).await
    }
}

impl Drop for RunningProxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
        for process in &self.successors {
            let kill = format!("kill -KILL {process} 2>/dev/null");
            Command::new("sh").args(["-c", &kill]).status().ok();
        }
        let said = self.log.text();
        if std::thread::panicking() {
            eprintln!("the proxy's last lines:\n{}", self.log.tail());
        } else {
            assert!(!said.contains("panicked at"), "the proxy panicked:\n{said}");
        }
    }
}

/// Runs the binary to its end on a file that should not start it.
pub async fn run_to_end(folder: &TempDir, verb: &[&str]) -> Ended {
    let mut child = command(folder, verb).spawn().expect("spawn");
    let log = Log::new();
    let readers = [
        log.follow(child.stdout.take().expect("piped")),
        log.follow(child.stderr.take().expect("piped")),
    ];
    let ended = async {
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let status = tokio::time::timeout(super::PATIENCE, ended).await;
    let Ok(status) = status else {
        child.kill().ok();
        child.wait().ok();
        panic!("{verb:?} goes on where it should have ended:\n{}", log.tail());
    };
    for reader in readers {
        reader.join().expect("a reader does not panic");
    }
    Ended { code: status.code(), output: log.text() }
}

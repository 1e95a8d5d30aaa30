//! `bascule status --watch`: the table again each second, in place, until q or Ctrl-C; a line for
//! each change where no terminal is.
//!
//! The terminal is given back as it was found however this ends, but for SIGKILL. A proxy that does
//! not answer leaves the last table standing, and the first line says since when.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Method;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::screen::{Paint, Size, frame, last_top};
use super::{flags, mode, percent, table};
use crate::admin::view::{ServiceView, Status};
use crate::cli::api::{self, Where, plain};
use crate::clock;

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(1);
/// Where the terminal does not say.
const USUAL: Size = Size { rows: 24, columns: 80 };
/// Alternate screen, no cursor, no wrapping of long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The same, back.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Shows until somebody has seen enough.
pub(super) fn run(at: &Where) -> anyhow::Result<ExitCode> {
    let runtime = api::runtime()?;
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        let given = Terminal::take().context("taking the terminal")?;
        let ended = runtime.block_on(show(at));
        drop(given);
        ended?;
    } else {
        runtime.block_on(tell(at))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(at: &Where) -> anyhow::Result<Status> {
    at.read(&at.ask(Method::GET, "/v1/status", Bytes::new()).await?)
}

/// The terminal as it was; drop gives it back.
struct Terminal(Termios);

impl Terminal {
    /// Keys come at once and unseen, Ctrl-C as a key: whoever presses it gets the terminal back.
    fn take() -> std::io::Result<Self> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        let taken = Self(before);
        write(ENTER)?;
        Ok(taken)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody is left to be told when the terminal is gone.
        write(LEAVE).ok();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

fn size() -> Size {
    match termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            Size { rows: size.ws_row.into(), columns: size.ws_col.into() }
        }
        Ok(_) | Err(_) => USUAL,
    }
}

/// What a reader wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    End,
    Up(usize),
    Down(usize),
}

/// Of what a terminal sent in one piece.
fn wish(keys: &[u8]) -> Option<Wish> {
    const PAGE: usize = 10;
    match keys {
        // Ctrl-C, Ctrl-D, and q.
        [b'q' | b'Q' | 3 | 4, ..] => Some(Wish::End),
        b"k" | b"\x1b[A" | b"\x1bOA" => Some(Wish::Up(1)),
        b"j" | b"\x1b[B" | b"\x1bOB" => Some(Wish::Down(1)),
        b"\x1b[5~" | b"b" => Some(Wish::Up(PAGE)),
        b"\x1b[6~" | b" " => Some(Wish::Down(PAGE)),
        b"g" | b"\x1b[H" => Some(Wish::Up(usize::MAX)),
        b"G" | b"\x1b[F" => Some(Wish::Down(usize::MAX)),
        _ => None,
    }
}

/// What the keyboard sends. A thread, since a terminal cannot be waited for without changing it for
/// every other process on it; it ends with the process.
fn keyboard() -> std::io::Result<mpsc::Receiver<Wish>> {
    let (sender, wishes) = mpsc::channel(16);
    let listen = move || {
        let mut keys = [0; 64];
        while let Ok(read @ 1..) = std::io::stdin().lock().read(&mut keys) {
            let wish = wish(&keys[..read]);
            if wish.is_some_and(|wish| sender.blocking_send(wish).is_err()) {
                return;
            }
        }
        // The terminal is gone.
        sender.blocking_send(Wish::End).ok();
    };
    std::thread::Builder::new().name("keyboard".to_owned()).spawn(listen)?;
    Ok(wishes)
}

async fn show(at: &Where) -> anyhow::Result<()> {
    let mut wishes = keyboard().context("listening to the keyboard")?;
    let mut resized = signal(SignalKind::window_change()).context("watching the window")?;
    let mut told = signal(SignalKind::terminate()).context("watching for the end")?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let paint = if no_color { Paint::Plain } else { Paint::Coloured };
    let (mut text, mut trouble, mut heard) = (String::new(), None::<String>, clock::now());
    let (mut top, mut drawn) = (0_usize, String::new());
    let mut periods = tokio::time::interval(PERIOD);
    periods.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Dropping an arm half-way loses a question at most, and the next one is due in a second.
        tokio::select! {
            status = async { periods.tick().await; ask(at).await } => match status {
                Ok(status) => (text, trouble, heard) = (table(&status), None, clock::now()),
                Err(error) => trouble = Some(plain(&format!("{error:#}"))),
            },
            wish = wishes.recv() => match wish {
                None | Some(Wish::End) => return Ok(()),
                Some(Wish::Up(lines)) => top = top.saturating_sub(lines),
                Some(Wish::Down(lines)) => top = top.saturating_add(lines),
            },
            _ = resized.recv() => drawn.clear(),
            _ = told.recv() => return Ok(()),
        }
        let size = size();
        top = top.min(last_top(&text, size));
        let head = match &trouble {
            None => format!("{}, each second", at.admin),
            Some(trouble) => {
                let age = clock::now().saturating_duration_since(heard).as_secs();
                format!("NO ANSWER FOR {age} s: {trouble}")
            }
        };
        let more = last_top(&text, size) - top;
        let foot = if more > 0 {
            format!("q ends, j and k scroll, {more} lines below")
        } else {
            "q ends".to_owned()
        };
        let next = frame([&head, &text, &foot], top, size, paint);
        if next != drawn {
            write(&next).context("drawing")?;
            drawn = next;
        }
    }
}

/// A line for each service whenever it reads otherwise, and for each transition.
async fn tell(at: &Where) -> anyhow::Result<()> {
    let mut before: Option<Status> = None;
    let mut trouble = String::new();
    let mut periods = tokio::time::interval(PERIOD);
    loop {
        periods.tick().await;
        let lines = match ask(at).await {
            Ok(status) => {
                trouble.clear();
                let lines = changes(before.as_ref(), &status);
                before = Some(status);
                lines
            }
            // The first question has to be answered: an address is easily mistyped.
            Err(error) if before.is_none() => return Err(error),
            Err(error) => {
                let said = plain(&format!("no answer: {error:#}")) + "\n";
                if said == trouble {
                    String::new()
                } else {
                    trouble.clone_from(&said);
                    said
                }
            }
        };
        if !lines.is_empty() {
            write(&lines).context("printing")?;
        }
    }
}

fn changes(before: Option<&Status>, now: &Status) -> String {
    let mut out = String::new();
    let known = before.and_then(|before| before.recent.first());
    let known = known.map(|entry| (entry.at.as_str(), entry.text.as_str()));
    let new = now
        .recent
        .iter()
        .take_while(|entry| Some((entry.at.as_str(), entry.text.as_str())) != known);
    let new: Vec<_> = if before.is_some() { new.collect() } else { Vec::new() };
    for entry in new.iter().rev() {
        append(&mut out, &format!("{}  {}  {}", entry.at, entry.service, entry.text));
    }
    for service in &now.services {
        let same = |other: &&ServiceView| other.name == service.name;
        let line = service_line(service);
        if before.and_then(|before| before.services.iter().find(same)).map(service_line).as_ref()
            != Some(&line)
        {
            append(&mut out, &format!("{}  {line}", now.at));
        }
    }
    out
}

fn append(out: &mut String, line: &str) {
    writeln!(out, "{}", plain(line)).expect("a String takes everything");
}

/// Without figures that move all the time.
fn service_line(service: &ServiceView) -> String {
    let first = service.first.as_deref().unwrap_or("nobody");
    let mut line = format!("{}: served through {first}{}", service.name, mode(service));
    for words in flags(service) {
        line = format!("{line}, {words}");
    }
    for upstream in &service.upstreams {
        let health = upstream.health.replace('_', "-");
        line = format!("{line}; {} {health} {}", upstream.provider, percent(upstream.share));
        if upstream.admin != "auto" {
            line = format!("{line} {} by order", upstream.admin.replace('_', " "));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Status {
        serde_json::from_str(include_str!("../../../tests/golden/status.json")).expect("golden")
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = golden();
        let first = changes(None, &before);
        assert_eq!(
            first,
            "2025-11-18T12:00:00.000Z  portal: served through bunny; cloudflare ejected 0%; \
             bunny healthy 100%\n"
        );
        let mut now = golden();
        now.services[0].upstreams[0].rate = 1.0;
        assert_eq!(changes(Some(&before), &now), "", "figures move all the time");
        now.services[0].upstreams[0].health = "half_open".to_owned();
        now.services[0].origin_incident = true;
        let mut entry = now.recent[0].clone();
        entry.text = "upstream half-open\u{1b}[2J".to_owned();
        now.recent.insert(0, entry);
        assert_eq!(
            changes(Some(&before), &now),
            "2025-11-18T11:59:55.000Z  portal  upstream half-open[2J\n\
             2025-11-18T12:00:00.000Z  portal: served through bunny, the origin itself fails; \
             cloudflare half-open 0%; bunny healthy 100%\n"
        );
    }

    #[test]
    fn keys_are_what_they_are_everywhere() {
        for (keys, expected) in [
            (&b"q"[..], Some(Wish::End)),
            (b"\x03", Some(Wish::End)),
            (b"j", Some(Wish::Down(1))),
            (b"\x1b[A", Some(Wish::Up(1))),
            (b"\x1b[6~", Some(Wish::Down(10))),
            (b"x", None),
            (b"", None),
        ] {
            assert_eq!(wish(keys), expected, "{keys:?}");
        }
    }
}

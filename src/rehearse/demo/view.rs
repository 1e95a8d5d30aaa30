//! The demo on a screen: lines as things happen, or a small table that is redrawn.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::load::Seen;
use super::script::ROLES;
use crate::admin::view::{ServiceView, UpstreamView};
use crate::rehearse::report::By;

/// Events shown below the table.
const LATEST: usize = 8;
/// Between two lines of figures where nothing is redrawn.
const FIGURES_EVERY: Duration = Duration::from_secs(5);

/// Something to tell.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the demo began.
    pub at: Duration,
    /// The outage's doing, or ours.
    pub by: By,
    /// In words.
    pub text: String,
}

/// Everything at one moment.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Since the demo began.
    pub at: Duration,
    /// As the admin address tells it.
    pub service: &'a ServiceView,
    /// By role: what is wrong with it in truth.
    pub truth: &'a [Option<String>],
    /// Through the proxy.
    pub with: Seen,
    /// Without it.
    pub without: Seen,
}

/// Where the demo is shown.
#[derive(Debug)]
pub enum View {
    /// Lines only.
    Lines {
        /// When figures were last shown.
        figures: Duration,
    },
    /// A table, drawn over itself.
    Table {
        /// Lines of the last drawing.
        drawn: usize,
        /// What was told.
        events: Vec<Event>,
    },
}

impl View {
    /// A table on a terminal, lines elsewhere.
    pub fn new() -> Self {
        if std::io::stdout().is_terminal() {
            Self::Table { drawn: 0, events: Vec::new() }
        } else {
            Self::Lines { figures: Duration::ZERO }
        }
    }

    /// Tells an event.
    pub fn tell(&mut self, event: Event) {
        match self {
            Self::Lines { .. } => println!("{event}"),
            Self::Table { events, .. } => events.push(event),
        }
    }

    /// Shows how things stand.
    pub fn show(&mut self, scene: &Scene<'_>) {
        match self {
            Self::Lines { figures } => {
                if scene.at >= *figures + FIGURES_EVERY {
                    *figures = scene.at;
                    println!("{:>6.1} s    {}", scene.at.as_secs_f64(), figures_of(scene));
                }
            }
            Self::Table { drawn, events } => {
                let table = table(scene, events);
                // Up to where the last one began, and away with it.
                let back = if *drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
                *drawn = table.lines().count();
                print!("{back}{table}");
                // A screen that cannot be written to is no reason to end a demo.
                drop(std::io::stdout().flush());
            }
        }
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = if self.by == By::Outage { '×' } else { '→' };
        write!(f, "{:>6.1} s  {mark} {}", self.at.as_secs_f64(), self.text)
    }
}

fn figures_of(scene: &Scene<'_>) -> String {
    let Seen { sent, errors, .. } = scene.with;
    let first = scene.service.first.as_deref().unwrap_or("nobody");
    let without = scene.without.errors;
    format!("{first} serves; {sent} requests, {errors} failed with bascule, {without} without")
}

fn table(scene: &Scene<'_>, events: &[Event]) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("  provider   in  health      share   in truth"));
    for (role, truth) in ROLES.iter().zip(scene.truth) {
        let upstream = scene.service.upstreams.iter().find(|up| up.provider == role.name);
        let Some(UpstreamView { health, share, unsafe_share, .. }) = upstream else { continue };
        let truth = truth.as_deref().unwrap_or("well");
        let (name, seat) = (role.name, role.seat);
        let shares = 85.0 * share + 15.0 * unsafe_share;
        line(&mut out, format_args!("  {name:<10} {seat}  {health:<10} {shares:>4.0} %   {truth}"));
    }
    line(&mut out, format_args!("  {:.0} s: {}", scene.at.as_secs_f64(), figures_of(scene)));
    for event in events.iter().skip(events.len().saturating_sub(LATEST)) {
        line(&mut out, format_args!("{event}"));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes everything");
}

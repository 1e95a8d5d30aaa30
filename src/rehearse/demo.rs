//! The whole story on loopback, no file and no network: stand-in providers, the real proxy, a
//! steady load through it and the same load without it, and an outage with a quick clock.
//!
//! The times of a return (`hold`, `max_hold`, `min_stay`, `ramp`, the probes' interval) are set as
//! short as the demo; detection is not touched: thresholds and dwells are those of the defaults.

mod desk;
mod load;
mod script;
mod setting;
mod stand_in;
mod view;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::LocalOptions;
use tokio::task::spawn_local;

use self::desk::Moves;
use self::load::{Clients, Seen};
pub use self::script::Timing;
use self::script::{ROLES, compress};
use self::stand_in::StandIns;
use self::view::{Event, Scene, View};
use super::expect::percent;
use super::report::By;
use super::scenario::Scenario;
use super::traffic::Demand;
use super::world::{LEAD, World};
use crate::admin::view::ServiceView;
use crate::app::{self, Given, Running, Source, StartError};
use crate::clock;
use crate::model::topology::FailoverRule;

/// Requests a second, of each of the two streams.
const RATE: f64 = 200.0;
/// Of a hundred requests: GET, POST, PUT, by turns. A POST that met the fault before it was detected
/// is lost by right: nobody may send it twice. In a demo of seconds, more of them would be all there
/// is, and a handful that came at once by chance could be more than a thousandth of its requests.
const METHOD_SHARES: [u8; 3] = [95, 4, 1];
/// Between two looks at the proxy.
const LOOK: Duration = Duration::from_millis(100);
/// Share of requests that may fail with bascule.
pub const MOST_ERRORS: f64 = 0.001;
/// The last requests' time to be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Why there was no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No ports, threads or runtime.
    #[error("the stage cannot be set up on loopback")]
    Stage(#[from] io::Error),
    /// The proxy.
    #[error("the proxy does not start")]
    Proxy(#[from] StartError),
    /// A bug: the demo's configuration has both.
    #[error("the proxy listens nowhere")]
    Nowhere,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    with: Seen,
    without: Seen,
    moves: Moves,
    /// Of the first failover.
    first: Option<Moves>,
    lasted: Duration,
}

/// Plays an outage before the reader's eyes.
///
/// # Errors
/// When loopback, threads or the proxy cannot be had.
pub fn play(scenario: &Scenario, total: Duration) -> Result<Summary, DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(stage(scenario, &Timing::new(total)))
}

/// What clients ask for in a demo.
fn demand(script: &Scenario) -> Demand {
    Demand::new(script.named_paths(), "/", script.audience).of(RATE, METHOD_SHARES)
}

async fn stage(scenario: &Scenario, timing: &Timing) -> Result<Summary, DemoError> {
    let script = Arc::new(compress(scenario, timing));
    let began = clock::now();
    let zero = began + timing.calm;
    let stand_ins = StandIns::start(Arc::clone(&script), demand, zero)?;
    let running =
        app::start(setting::config(&stand_ins.for_proxy, timing), Source::Fixed, Given::default())?;
    let (Some(proxy), Some(admin)) = (running.listeners.first(), running.admin()) else {
        return Err(DemoError::Nowhere);
    };
    print!("{}", Opening { scenario, timing, proxy: *proxy, admin });
    let mut story = Story {
        began,
        zero,
        admin,
        truth: World::new(&script, &demand(&script)),
        told: vec![None; ROLES.len()],
        known: None,
        with: Clients::new(*proxy),
        without: Clients::new(stand_ins.for_control[0]),
        first: None,
        view: View::new(),
    };
    let streams = [story.with.clone(), story.without.clone()];
    let load = spawn_local(load::send(demand(&script), streams));
    let summary = story.tell(timing.total, || load.abort()).await;
    end(running, stand_ins).await;
    Ok(summary)
}

async fn end(running: Running, stand_ins: StandIns) {
    running.shut_down(std::future::pending()).await;
    stand_ins.end();
}

/// What is told, and to whom it is compared.
struct Story {
    began: Instant,
    /// When the outage begins.
    zero: Instant,
    admin: SocketAddr,
    /// What the stand-ins do, in truth.
    truth: World,
    /// By role: what was last told of that.
    told: Vec<Option<String>>,
    /// What the proxy last said.
    known: Option<ServiceView>,
    with: std::rc::Rc<Clients>,
    without: std::rc::Rc<Clients>,
    /// The first failover.
    first: Option<Moves>,
    view: View,
}

impl Story {
    async fn tell(&mut self, total: Duration, stop_load: impl Fn()) -> Summary {
        let mut looks = tokio::time::interval(LOOK);
        while self.at() < total {
            looks.tick().await;
            self.look().await;
        }
        stop_load();
        let patience = self.at() + LAST_ANSWERS;
        while self.with.seen().waiting > 0 && self.at() < patience {
            looks.tick().await;
        }
        Summary {
            with: self.with.seen(),
            without: self.without.seen(),
            moves: desk::moves(self.admin).await.unwrap_or_default(),
            first: self.first,
            lasted: self.at(),
        }
    }

    fn at(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }

    async fn look(&mut self) {
        self.look_at_the_truth();
        if let Some(service) = desk::service(self.admin).await {
            self.look_at_the_proxy(&service).await;
            let scene = Scene {
                at: self.at(),
                service: &service,
                truth: &self.told,
                with: self.with.seen(),
                without: self.without.seen(),
            };
            self.view.show(&scene);
            self.known = Some(service);
        }
    }

    fn event(&mut self, by: By, text: String) {
        let at = self.at();
        self.view.tell(Event { at, by, text });
    }

    /// Tells what changed about the stand-ins.
    fn look_at_the_truth(&mut self) {
        let now = clock::now();
        let world_time = (LEAD + now.saturating_duration_since(self.zero))
            .saturating_sub(self.zero.saturating_duration_since(now));
        for (place, role) in ROLES.iter().enumerate() {
            let words = self.truth.words(place, world_time);
            if words == self.told[place] {
                continue;
            }
            let text = match &words {
                Some(words) => format!("{}: {words}", role.name),
                None => format!("{}: answers well again", role.name),
            };
            self.told[place] = words;
            self.event(By::Outage, text);
        }
    }

    /// Tells what changed about the proxy.
    async fn look_at_the_proxy(&mut self, service: &ServiceView) {
        let Some(known) = self.known.take() else { return };
        for (before, now) in known.upstreams.iter().zip(&service.upstreams) {
            if before.health == now.health || now.health == "suspect" {
                continue;
            }
            if before.health == "suspect" && now.health == "healthy" {
                continue;
            }
            let reason = now
                .last
                .as_ref()
                .map(|last| last.detail.clone().unwrap_or_else(|| last.reason.replace('_', " ")));
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            let health = now.health.replace('_', "-");
            self.event(By::Bascule, format!("{} is {health}{reason}", now.provider));
        }
        if known.first != service.first {
            let name = |first: &Option<String>| {
                first.as_deref().map_or_else(|| "nobody".to_owned(), with_seat)
            };
            let (from, to) = (name(&known.first), name(&service.first));
            let moves = desk::moves(self.admin).await.unwrap_or_default();
            let after = match self.first {
                None if moves.failovers == 1 => {
                    self.first = Some(moves);
                    format!(", {:.2} s after the first failure", moves.detection)
                }
                Some(_) | None => String::new(),
            };
            self.event(By::Bascule, format!("all traffic moves from {from} to {to}{after}"));
        }
    }
}

fn with_seat(name: &str) -> String {
    match ROLES.iter().find(|role| role.name == name) {
        Some(role) => format!("{name} ({})", role.seat),
        None => name.to_owned(),
    }
}

/// What a reader must know before it begins.
struct Opening<'a> {
    scenario: &'a Scenario,
    timing: &'a Timing,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl fmt::Display for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, timing, proxy, admin } = self;
        let roles = ROLES.map(|role| with_seat(role.name));
        let [first, second, third, direct] = &roles;
        let when =
            scenario.start_utc.as_ref().map_or_else(String::new, |at| format!(" of {at} UTC"));
        let speed = timing.speed(scenario);
        let unsafe_share = 100 - METHOD_SHARES[0];
        let FailoverRule { hold, max_hold, min_stay, ramp, .. } = setting::failover(timing);
        writeln!(f, "bascule stands in front of a portal that it reaches through {first},")?;
        writeln!(f, "{second} and {third}, or {direct}: stand-ins, all on loopback.")?;
        writeln!(f, "The outage{when} ({})", scenario.name)?;
        writeln!(
            f,
            "is about to hit, {speed:.0} times as fast, spells of minutes a little less so."
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "  clients   {RATE} requests a second, {unsafe_share} in a hundred of them POST or PUT, to http://{proxy}"
        )?;
        writeln!(f, "  compared  with the same requests straight to {first}")?;
        writeln!(f, "  look      http://{admin}/ in a browser, /v1/status, /metrics")?;
        writeln!(
            f,
            "  scaled    the way back: hold {hold:.0?}, max_hold {max_hold:.0?}, min_stay {min_stay:.0?}, ramp {ramp:.0?}"
        )?;
        writeln!(f, "            (by default 30s, 15m, 10m and 2m); detection is at its defaults")?;
        writeln!(f)
    }
}

impl Summary {
    /// Whether few enough failed.
    pub fn holds(&self) -> bool {
        self.with.errors as f64 <= self.with.sent as f64 * MOST_ERRORS && self.with.sent > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { with, without, moves, first, lasted } = self;
        let share = |seen: &Seen| percent(seen.errors as f64 / seen.sent.max(1) as f64);
        let failed = |seen: &Seen| format!("{} ({})", seen.errors, share(seen));
        writeln!(f)?;
        writeln!(f, "After {:.0} s{:>27}{:>20}", lasted.as_secs_f64(), "with bascule", "without")?;
        writeln!(f, "  requests        {:>20}{:>20}", with.sent, without.sent)?;
        writeln!(f, "  failed          {:>20}{:>20}", failed(with), failed(without))?;
        writeln!(f, "    of them GET   {:>20}{:>20}", with.errors_safe, without.errors_safe)?;
        let seconds = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3} s"))
        };
        let millis = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} ms", value * 1000.0))
        };
        writeln!(f, "  time to detect  {:>20}", seconds(first.map(|first| first.detection)))?;
        writeln!(f, "  time to switch  {:>20}", millis(first.map(|first| first.switch)))?;
        writeln!(f, "  failovers       {:>20}", moves.failovers)?;
        writeln!(f, "  failbacks       {:>20}", moves.failbacks)?;
        writeln!(f, "  flips           {:>20}", moves.failovers + moves.failbacks)?;
        let most = percent(MOST_ERRORS);
        let verdict = if self.holds() { "as promised" } else { "MORE THAN PROMISED" };
        writeln!(f, "At most {most} of the requests may fail with bascule: {verdict}.")
    }
}

//! The loop with the real detector under paused time: counters and evidence in, snapshots out.

use super::*;
use crate::control::keeper::Restored;
use crate::control::memory;
use crate::control::orders::Moment;
use crate::exchange::commands::{Disobeyed, DrillWord, Word};
use crate::exchange::evidence::{self, EvidenceSender};
use crate::exchange::state::UpstreamState;
use crate::model::cell::{Cell, HostId};
use crate::model::drill::NoDrill;
use crate::model::example::{self, Example};
use crate::model::health::HealthTag;
use crate::model::id::{PoolId, UpstreamId};
use crate::model::operator::{AdminState, Order, Target};
use crate::model::outcome::{FailureKind, Marker, MethodClass, Outcome};
use crate::model::signal::{PairEnd, ProbeResult, Subject, Witness};
use crate::model::unit::Permille;
use crate::telemetry::journal::{Event, Line};

const US: Example<'static> =
    Example { service: "portal", provider: "cloudflare", seat: "US", host: "192.0.2.1", port: 80 };
const EU: Example<'static> = Example { provider: "bunny", seat: "SI", host: "192.0.2.2", ..US };
const OTHER: Example<'static> = Example { provider: "gcore", seat: "LU", host: "192.0.2.3", ..US };

struct World {
    handles: Handles,
    evidence: EvidenceSender,
    metrics: Metrics,
    shutdown: watch::Sender<bool>,
    witness: u32,
}

fn steering(upstreams: &[Example<'_>], keeping: Option<Keeping>) -> (Steering, World) {
    let topology = Arc::new(example::topology(upstreams));
    let (sender, receiver) = evidence::channel();
    let metrics = Metrics::new();
    let (steering, handles) = Steering::new(Beginning {
        tls: topology.upstreams.iter().map(|_| None).collect(),
        topology,
        workers: 2,
        seed: 7,
        evidence: receiver,
        metrics: metrics.clone(),
        keeping,
    });
    let (shutdown, _) = watch::channel(false);
    (steering, World { handles, evidence: sender, metrics, shutdown, witness: 0 })
}

fn run(upstreams: &[Example<'_>]) -> World {
    run_after(upstreams, None)
}

fn run_after(upstreams: &[Example<'_>], keeping: Option<Keeping>) -> World {
    let (steering, world) = steering(upstreams, keeping);
    tokio::task::spawn_local(steering.run(world.shutdown.subscribe()));
    world
}

impl World {
    fn state(&self, index: usize) -> Arc<UpstreamState> {
        Arc::clone(&self.handles.snapshots.current().states.upstreams[index])
    }

    fn first(&self) -> Option<UpstreamId> {
        self.handles.snapshots.current().routing.plan(PoolId::new(0)).first()
    }

    fn generation(&self) -> u64 {
        self.handles.snapshots.current().routing.generation.get()
    }

    fn health(&self, index: usize) -> HealthTag {
        self.handles.board.current().upstreams[index].health.tag()
    }

    /// One request fails at the first upstream and succeeds at the second, as a worker records it.
    fn fail_over_once(&mut self) {
        let (first, second) = (self.state(0), self.state(1));
        self.witness += 1;
        let (at, class) = (clock::now(), MethodClass::Safe);
        first.rows[1].count(class, Outcome::Failure(FailureKind::ServerError));
        self.evidence.send(Evidence::Note {
            serial: first.serial,
            at,
            subject: Subject::Failure(FailureKind::ServerError),
            witness: Witness(self.witness),
            cell: Cell { class, host: HostId::default() },
            marker: Marker::Unconfigured,
        });
        second.rows[0].count(class, Outcome::Success);
        self.evidence.send(Evidence::Pair {
            first: first.serial,
            second: second.serial,
            second_went: PairEnd::Succeeded,
            at,
            cell: Cell { class, host: HostId::default() },
        });
    }

    /// A hundred requests a second fail there until the first candidate is another one; for how long.
    async fn outage(&mut self) -> Duration {
        let (began, before) = (clock::now(), self.first());
        while self.first() == before {
            assert!(clock::now() - began < Duration::from_secs(60), "nothing moved in a minute");
            self.fail_over_once();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        clock::now() - began
    }

    async fn adopt(&self, upstreams: &[Example<'_>]) -> Generation {
        let topology = Arc::new(example::topology(upstreams));
        let tls = topology.upstreams.iter().map(|_| None).collect();
        self.handles.commands.adopt(topology, tls).await.expect("it runs")
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_outage_moves_the_snapshot_within_half_a_second() {
    let mut world = run(&[US, EU]);
    assert_eq!(world.generation(), 1);
    let took = world.outage().await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_eq!(world.first(), Some(UpstreamId::new(1)));
    assert!(world.generation() > 1);
    assert!(world.state(0).is_avoided() && !world.state(1).is_avoided());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_failover_is_told_on_the_board_and_counted() {
    let mut world = run(&[US, EU]);
    world.outage().await;
    let board = world.handles.board.current();
    assert_eq!(board.upstreams[0].health.tag(), HealthTag::Ejected);
    let told = |part: &str| board.recent.iter().any(|entry| entry.text.starts_with(part));
    assert!(told("upstream ejected provider=cloudflare"), "{:?}", board.recent);
    assert!(told("failover from=cloudflare to=bunny reason=cascade"), "{:?}", board.recent);
    let entry = board.recent.back().expect("the failover");
    assert_eq!((entry.service.as_str(), entry.generation.get()), ("portal", world.generation()));
    let counted = world.metrics.gather();
    for family in ["bascule_failovers_total", "bascule_failover_detection_seconds"] {
        assert!(counted.iter().any(|have| have.name() == family), "{family}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whoever_sees_the_new_snapshot_sees_the_old_upstream_avoided() {
    let mut world = run(&[US, EU]);
    let (mut snapshots, first) = (world.handles.snapshots.clone(), world.state(0));
    let watching = tokio::task::spawn_local(async move {
        loop {
            assert!(snapshots.changed().await, "steering runs");
            let view = snapshots.current();
            if view.routing.plan(PoolId::new(0)).first() == Some(UpstreamId::new(1)) {
                return first.is_avoided();
            }
        }
    });
    world.outage().await;
    assert!(watching.await.expect("a failover"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_all_is_well_nothing_is_published_but_the_board() {
    let world = run(&[US, EU]);
    let mut drawn = 0;
    for _ in 0..50 {
        world.state(0).rows[0].count(MethodClass::Safe, Outcome::Success);
        let board = world.handles.board.current();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drawn += u32::from(!Arc::ptr_eq(&board, &world.handles.board.current()));
    }
    assert_eq!(world.generation(), 1);
    assert!(drawn >= 45, "drawn {drawn} times in 50 × 100 ms");
    assert!(world.handles.board.current().upstreams[0].rate > 1.0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_first_note_is_taken_at_once_and_the_next_ten_milliseconds_later() {
    let (mut steering, world) = steering(&[US, EU], None);
    let mut shutdown = world.shutdown.subscribe();
    let probe = || Evidence::Probe {
        serial: 1,
        at: clock::now(),
        result: ProbeResult::Passed,
        took: Duration::from_millis(1),
    };
    tokio::time::advance(Duration::from_millis(50)).await;
    world.evidence.send(probe());
    let began = clock::now();
    let Woken::Evidence(first) = steering.wait(&mut shutdown).await else {
        panic!("not woken by evidence")
    };
    assert_eq!(clock::now(), began, "at once");

    steering.drain(Some(first));
    world.evidence.send(probe());
    assert!(matches!(steering.wait(&mut shutdown).await, Woken::Evidence(_)));
    let waited = clock::now() - began;
    assert!((DOUBT..DOUBT * 2).contains(&waited), "{waited:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_forgets_no_ejection_and_no_counter() {
    let mut world = run(&[US, EU]);
    world.outage().await;
    let (ejected, generation) = (world.state(0), world.generation());
    let adopted = world.adopt(&[OTHER, US, EU]).await;
    assert_eq!((adopted.get(), world.generation()), (generation + 1, generation + 1));
    assert!(Arc::ptr_eq(&ejected, &world.state(1)), "the same counters");
    assert!(world.state(1).is_avoided());
    assert_eq!(world.health(1), HealthTag::Ejected);
    let serials: Vec<u64> = (0..3).map(|index| world.state(index).serial).collect();
    assert_eq!(serials, [3, 1, 2]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_of_an_old_file_go_no_more_to_what_the_new_one_leaves_out() {
    let world = run(&[US, EU]);
    let (us, eu) = (world.state(0), world.state(1));
    world.adopt(&[EU]).await;
    assert!(us.is_out() && us.is_avoided());
    assert!(!eu.is_out() && !eu.is_avoided());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn evidence_about_what_is_gone_is_let_go() {
    let mut world = run(&[US, EU]);
    world.fail_over_once();
    let gone = world.state(0).serial;
    world.adopt(&[EU]).await;
    for _ in 0..100 {
        world.evidence.send(Evidence::Note {
            serial: gone,
            at: clock::now(),
            subject: Subject::Failure(FailureKind::Connect),
            witness: Witness(0),
            cell: Cell { class: MethodClass::Safe, host: HostId::default() },
            marker: Marker::Unconfigured,
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.health(0), HealthTag::Healthy);
    assert_eq!(world.first(), Some(UpstreamId::new(0)));
    assert_eq!(world.evidence.dropped(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn after_shutdown_nobody_is_answered() {
    let world = run(&[US]);
    world.shutdown.send_replace(true);
    let topology = Arc::new(example::topology(&[US]));
    let adopted = world.handles.commands.adopt(topology, Arc::new([None])).await;
    assert!(adopted.is_err());
}

fn target(provider: &str) -> Target {
    Target::Provider(example::label(provider))
}

fn order(order: Order, seconds: u64) -> Word {
    Word::Order { order, lasts: Some(Duration::from_secs(seconds)), reason: "a test".into() }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_order_is_in_force_when_it_is_answered_and_lapses_by_itself() {
    let world = run(&[US, EU]);
    let commands = world.handles.commands.clone();
    let began = clock::now();
    let obeyed = commands.instruct(target("cloudflare"), order(Order::ForceOut, 60)).await;
    let obeyed = obeyed.expect("it runs").expect("it makes sense");
    assert!(clock::now() - began < Duration::from_millis(100));
    assert_eq!(obeyed.upstreams, ["portal/cloudflare"]);
    assert_eq!((obeyed.generation.get(), world.generation()), (2, 2));
    assert_eq!(world.first(), Some(UpstreamId::new(1)));
    assert!(world.state(0).is_avoided() && world.state(0).is_out());
    assert_eq!(world.health(0), HealthTag::Healthy, "an order moves no belief");

    tokio::time::sleep(Duration::from_millis(60_100)).await;
    assert_eq!(world.first(), Some(UpstreamId::new(0)));
    assert!(!world.state(0).is_avoided() && !world.state(0).is_out());
    let board = world.handles.board.current();
    assert!(board.orders.is_empty());
    let told: Vec<&str> = board.recent.iter().map(|entry| entry.text.as_str()).collect();
    assert!(told[0].ends_with("started"), "{told:?}");
    let told = &told[1..];
    assert_eq!(told.len(), 7, "{told:?}");
    assert!(told[0].starts_with("order given: force_out cloudflare until "), "{told:?}");
    assert_eq!(told[1], "upstream forced out by order provider=cloudflare from=auto to=forced_out");
    assert_eq!(told[2], "failover from=cloudflare to=bunny reason=ordered");
    assert_eq!(told[3], "order lapsed: force_out cloudflare: a test");
    let counted = world.metrics.gather();
    let has = |family: &str| counted.iter().any(|have| have.name() == family);
    assert!(has("bascule_failovers_total"), "it moved everybody");
    assert!(!has("bascule_failover_detection_seconds"), "nothing was detected");
    assert_eq!(told[5], "failback from=bunny to=cloudflare reason=ordered");
    assert_eq!(told[6], "back at the first choice seconds=60 outside_eu_seconds=0");
    let generations: Vec<u64> = board.recent.iter().map(|entry| entry.generation.get()).collect();
    assert_eq!(generations, [1, 2, 2, 2, 3, 3, 3, 3], "each with the snapshot that it led to");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_waits_at_a_draining_upstream_may_finish() {
    let world = run(&[US, EU]);
    let drained = world.handles.commands.instruct(target("cloudflare"), order(Order::Drain, 60));
    drained.await.expect("it runs").expect("it makes sense");
    assert_eq!(world.first(), Some(UpstreamId::new(1)));
    assert!(world.state(0).is_out() && !world.state(0).is_avoided());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_another_process_takes_over_no_drill_begins_and_orders_stay_refused() {
    let world = run(&[US, EU]);
    let commands = world.handles.commands.clone();
    let drill = |word| commands.rehearse(example::label("portal"), word);
    let begin = || DrillWord::Begin {
        share: Permille::new(50).expect("a share"),
        lasts: Duration::from_secs(60),
        reason: "a test".into(),
    };
    let begun = drill(begin()).await.expect("it runs");
    begun.expect("all is well");
    drop(commands.hand_over().await.expect("it runs"));
    for word in [begin(), DrillWord::Stop] {
        let refused = drill(word).await.expect("it runs").expect_err("too late");
        assert_eq!(refused, NoDrill::HandingOver);
        let ordered = commands.instruct(target("cloudflare"), order(Order::Drain, 60)).await;
        let refused = ordered.expect("it runs").expect_err("too late");
        assert!(matches!(refused, Disobeyed::HandingOver), "{refused}");
    }
    commands.resume().await.expect("it runs");
    drill(DrillWord::Stop).await.expect("it runs").expect("nobody took over");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_order_outlives_a_reload_that_takes_its_target_away_and_brings_it_back() {
    let world = run(&[US, EU]);
    let ordered = world.handles.commands.instruct(target("cloudflare"), order(Order::Drain, 600));
    ordered.await.expect("it runs").expect("it makes sense");
    world.adopt(&[EU]).await;
    world.adopt(&[US, EU, OTHER]).await;
    assert_eq!(world.first(), Some(UpstreamId::new(1)));
    assert_eq!(world.handles.board.current().upstreams[0].admin, AdminState::Draining);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn forced_in_it_serves_whatever_is_observed_and_left_to_itself_it_does_not() {
    let mut world = run(&[US, EU]);
    world.outage().await;
    let commands = world.handles.commands.clone();
    let forced = commands.instruct(target("cloudflare"), order(Order::ForceIn, 600)).await;
    forced.expect("it runs").expect("it makes sense");
    assert_eq!(world.first(), Some(UpstreamId::new(0)));
    assert!(!world.state(0).is_avoided());
    assert_eq!(world.health(0), HealthTag::Ejected, "shown beside the order, not merged");
    let back = commands.instruct(target("cloudflare"), Word::Auto).await;
    assert!(back.expect("it runs").expect("it stands").changed);
    assert_eq!(world.first(), Some(UpstreamId::new(1)));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_orders_everybody_out_is_told_that_nobody_is_left() {
    let world = run(&[US, EU]);
    let commands = world.handles.commands.clone();
    for (provider, closed) in [("cloudflare", &[][..]), ("bunny", &[example::label("portal")])] {
        let ordered = commands.instruct(target(provider), order(Order::ForceOut, 60)).await;
        assert_eq!(ordered.expect("it runs").expect("sense").closed, closed);
    }
    assert_eq!(world.first(), None);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_incident_is_told_with_what_it_cost() {
    let mut world = run(&[US, EU]);
    let answers = |world: &World, class: usize, count: u64| {
        world.handles.snapshots.current().states.pools[0].rows[0].answers[class].add(count);
    };
    for _ in 0..5 {
        answers(&world, 1, 100);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.outage().await;
    answers(&world, 1, 90);
    answers(&world, 4, 10);
    tokio::time::sleep(Duration::from_secs(30)).await;
    answers(&world, 1, 900);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let board = world.handles.board.current();
    let lines = board.recent.iter().filter_map(|entry| Line::from_json(&entry.json));
    let lines: Vec<Line> = lines.collect();
    let place = |event: Event| lines.iter().position(|line| line.event == event);
    let (began, ended) = (place(Event::IncidentBegan), place(Event::IncidentEnded));
    assert!(place(Event::Started) < began && began < ended && began.is_some(), "{lines:?}");
    let cost = lines[ended.expect("it ended")].cost.clone().expect("it cost");
    assert_eq!((cost.lost, cost.requests >= 100), (10, true), "{cost:?}");
    assert!(
        cost.requests < 1000,
        "what came long after the last failure is no part of it: {cost:?}"
    );
    assert!(cost.seconds < 5.0 && cost.outside_eu_seconds < 2.0, "{cost:?}");
    assert!(cost.failed_attempts > 3 && cost.attempts >= 2 * cost.failed_attempts, "{cost:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_incident_and_what_it_cost_go_on_in_the_next_process() {
    let mut world = run(&[EU, US]);
    world.outage().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let handed = world.handles.commands.hand_over().await.expect("it runs");
    let at = Moment { now: clock::now(), wall: clock::wall() };
    let remembered = memory::read(&handed.memory, at).expect("ours");
    let restored = Restored { remembered, journal: Vec::new() };
    let stale = Duration::from_secs(3600);
    let next = run_after(&[EU, US], Some(Keeping { keeper: None, restored, stale }));
    tokio::time::sleep(Duration::from_secs(50)).await;
    let lines = |world: &World| -> Vec<Line> {
        let recent = world.handles.board.current().recent.clone();
        recent.iter().filter_map(|entry| Line::from_json(&entry.json)).collect()
    };
    let told = lines(&next);
    let texts: Vec<&str> = told.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts[1], "goes on after a restart: an incident, away from the first choice");
    let of = |event: Event, lines: &[Line]| lines.iter().filter(|l| l.event == event).count();
    let began = Event::IncidentBegan;
    assert_eq!((of(began, &told), of(Event::IncidentEnded, &told)), (0, 0), "{texts:?}");

    // Nothing fails any more, which takes a minute to say.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let told = lines(&next);
    assert_eq!(of(began, &told), 0, "{told:?}");
    let ended = told.iter().find(|line| line.event == Event::IncidentEnded).expect("it ended");
    let cost = ended.cost.clone().expect("it cost");
    assert!(cost.failed_attempts > 3, "counted by the process before: {cost:?}");
    assert!((9.0..12.0).contains(&cost.seconds), "from its first failure to the restart: {cost:?}");
    assert!((9.0..12.0).contains(&cost.outside_eu_seconds), "{cost:?}");
}

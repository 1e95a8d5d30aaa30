//! The keeper on a real folder: what is kept comes back, what is not ours is set aside, and a folder
//! that cannot be written costs a log line and a number.

use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use super::*;
use crate::control::incidents::{Open, Sample, Totals};
use crate::control::memory::KnownAddresses;
use crate::model::example::label;
use crate::model::health::Health;
use crate::model::id::UpstreamKey;
use crate::model::memory::{
    BaselineMemory, HourMemory, Memory, PoolMemory, RecordMemory, UpstreamMemory,
};
use crate::model::operator::{Order, Override, StandingOrder, Target};
use crate::telemetry::journal::{Event, Line};

fn moment() -> Moment {
    Moment { now: clock::now(), wall: clock::wall() }
}

fn key() -> UpstreamKey {
    UpstreamKey {
        service: label("portal"),
        provider: label("bunny"),
        endpoint: "https://bunny.example:443".into(),
    }
}

/// One of everything, as of a moment, in whole milliseconds.
fn remembered(at: Moment) -> Remembered {
    let Moment { now, wall } = at;
    let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).expect("not that long ago");
    let hence = |seconds| now + Duration::from_secs(seconds);
    let health = Health::Ejected { since: ago(5), until: hence(25), ejections: 2 };
    let record = RecordMemory {
        ejections: 2,
        healthy_since: None,
        longest_good: Duration::from_secs(300),
        least_good: Duration::from_secs(30),
    };
    let mut hour = HourMemory { covered: Duration::from_secs(900), ..HourMemory::default() };
    (hour.successes, hour.marked, hour.markable, hour.durations[3]) = (1000, 990, 995, 1000);
    let baseline = BaselineMemory { attempts: 86_400.5, failures: 86.25 };
    let word = Override {
        target: Target::Upstream { service: label("portal"), provider: label("bunny") },
        order: Order::Drain,
        until: Some(hence(60)),
    };
    let lapses = Some(wall + Duration::from_secs(60));
    let address = SocketAddr::from(([192, 0, 2, 1], 443));
    let (requests, outside) = (1000, Duration::from_millis(1250));
    let totals = Totals { requests, outside, ..Totals::default() };
    let began = Sample { at: ago(9), totals: Totals { requests: 900, ..Totals::default() } };
    Remembered {
        memory: Memory {
            upstreams: vec![UpstreamMemory { key: key(), health, record, hour, baseline }],
            pools: vec![PoolMemory { service: label("portal"), stay_until: Some(hence(600)) }],
        },
        orders: vec![StandingOrder { word, since: wall, lapses, reason: "why".into() }],
        addresses: vec![(key(), KnownAddresses { addresses: vec![address], at: ago(7) })],
        open: vec![Open { service: label("portal"), totals, incident: Some(began), away: None }],
    }
}

/// To the millisecond, which is what the file holds.
fn near(a: Instant, b: Instant) -> bool {
    a.max(b) - a.min(b) <= Duration::from_millis(2)
}

#[test]
fn what_is_remembered_comes_back_as_it_was_on_another_clock() {
    let at = moment();
    let bytes = memory::write(&remembered(at), at).expect("it can be written");
    // The process that reads it was started three seconds later.
    let wall = at.wall + Duration::from_secs(3);
    let later = Moment { now: at.now + Duration::from_secs(3), wall };
    let (was, is) = (remembered(at), memory::read(&bytes, later).expect("ours"));

    let (known, before) = (&is.memory.upstreams[0], &was.memory.upstreams[0]);
    assert_eq!((&known.key, known.record, known.hour), (&before.key, before.record, before.hour));
    assert_eq!(known.baseline, before.baseline);
    let (
        Health::Ejected { since, until, ejections: 2 },
        Health::Ejected { since: s, until: u, .. },
    ) = (known.health, before.health)
    else {
        panic!("{:?}", known.health)
    };
    assert!(near(since, s) && near(until, u));
    let stay = |remembered: &Remembered| remembered.memory.pools[0].stay_until.expect("it stays");
    assert!(near(stay(&is), stay(&was)));
    assert_eq!(is.orders[0].word.target, was.orders[0].word.target);
    assert_eq!(is.orders[0].reason, was.orders[0].reason);
    let until = |remembered: &Remembered| remembered.orders[0].word.until.expect("it lapses");
    assert!(near(until(&is), until(&was)));
    assert_eq!(is.addresses[0].1.addresses, was.addresses[0].1.addresses);
    assert!(near(is.addresses[0].1.at, was.addresses[0].1.at));
    assert_eq!((&is.open[0].totals, is.open[0].away), (&was.open[0].totals, None));
    let began = |remembered: &Remembered| remembered.open[0].incident.expect("one is open");
    assert_eq!(began(&is).totals, began(&was).totals);
    assert!(near(began(&is).at, began(&was).at));
}

#[test]
fn an_incident_that_nobody_watched_for_a_minute_does_not_go_on() {
    let at = moment();
    let bytes = memory::write(&remembered(at), at).expect("it can be written");
    for (seconds, goes_on) in [(59, true), (60, false)] {
        let gone = Duration::from_secs(seconds);
        let later = Moment { now: at.now + gone, wall: at.wall + gone };
        let is = memory::read(&bytes, later).expect("ours");
        assert_eq!(is.open.len() == 1, goes_on, "{seconds} s");
        assert!(!is.memory.upstreams.is_empty(), "beliefs live longer");
    }
}

#[test]
fn beliefs_of_yesterday_are_forgotten_and_orders_are_not() {
    let at = moment();
    let bytes = memory::write(&remembered(at), at).expect("it can be written");
    let day = Duration::from_secs(24 * 60 * 60);
    let later = Moment { now: at.now + day, wall: at.wall + day };
    let is = memory::read(&bytes, later).expect("ours");
    assert!(is.memory.upstreams.is_empty() && is.memory.pools.is_empty());
    assert!(!is.orders[0].word.stands(later.now), "it lapsed meanwhile, which will be told");
}

#[test]
fn a_clock_that_jumped_breaks_nothing() {
    let at = moment();
    let bytes = memory::write(&remembered(at), at).expect("it can be written");
    for wall in [std::time::UNIX_EPOCH, at.wall + Duration::from_secs(1 << 34)] {
        memory::read(&bytes, Moment { now: at.now, wall }).expect("ours");
    }
}

#[test]
fn what_is_damaged_or_foreign_is_set_aside_and_said() {
    let at = moment();
    let good = memory::write(&remembered(at), at).expect("it can be written");
    let text = String::from_utf8(good).expect("JSON");
    let table = [
        ("cut short", text[..text.len() / 2].to_owned()),
        ("never ours", "{}".to_owned()),
        ("of a later version", text.replace("\"version\":1", "\"version\":2")),
        ("no text", "\u{0}\u{1}".to_owned()),
        ("empty", String::new()),
        ("a wrong type", text.replace("\"upstreams\":[", "\"upstreams\":[7,")),
    ];
    for (shows, content) in table {
        let folder = tempfile::tempdir().expect("a scratch folder");
        fs::write(folder.path().join(MEMORY), &content).expect("ours");
        let (keeper, last, restored) = start(folder.path(), &Metrics::new(), ()).expect("a thread");
        assert!(restored.remembered.memory.upstreams.is_empty(), "{shows}");
        let aside = fs::read(folder.path().join("memory.json.set-aside"));
        assert_eq!(aside.expect(shows), content.as_bytes(), "{shows}");
        keeper.remember(Box::new(remembered(at)), at).expect("room");
        drop(keeper);
        last.wait();
        let again = fs::read_to_string(folder.path().join(MEMORY)).expect(shows);
        assert_eq!(again, text, "{shows}: what comes next is kept");
    }
}

#[test]
fn everything_handed_over_is_kept_before_the_end() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let at = moment();
    let (keeper, last, _) = start(folder.path(), &Metrics::new(), ()).expect("a thread");
    for number in 0..500 {
        let line = Line { event: Event::Health, text: number.to_string(), ..Line::default() };
        keeper.record(&line.to_json().expect("JSON"));
    }
    keeper.remember(Box::new(remembered(at)), at).expect("room");
    drop(keeper);
    last.wait();
    let (_, _, restored) = start(folder.path(), &Metrics::new(), ()).expect("a thread");
    assert_eq!(restored.remembered.memory.upstreams.len(), 1);
    let texts: Vec<_> = restored.journal.iter().filter_map(|l| Line::from_json(l)).collect();
    assert_eq!(texts.len(), 500);
    assert_eq!((texts[0].text.as_str(), texts[499].text.as_str()), ("0", "499"));
}

#[test]
fn a_folder_that_cannot_be_written_is_counted_and_tried_again() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folder = scratch.path().join("state");
    fs::write(&folder, "a file where the folder should be").expect("ours");
    let (metrics, at) = (Metrics::new(), moment());
    let (keeper, last, _) = start(&folder, &metrics, ()).expect("a thread");
    let failed = |metrics: &Metrics| {
        let families = metrics.gather();
        let family = families.iter().find(|f| f.name() == "bascule_state_write_failed");
        let rows = family.expect("declared").get_metric().iter();
        rows.map(|row| row.get_gauge().get_value()).sum::<f64>()
    };
    keeper.remember(Box::new(remembered(at)), at).expect("room");
    keeper.record("{}");
    while failed(&metrics) < 2.0 {
        std::thread::yield_now();
    }
    fs::remove_file(&folder).expect("ours");
    keeper.remember(Box::new(remembered(at)), at).expect("room");
    keeper.record("{}");
    drop(keeper);
    last.wait();
    assert_eq!(failed(&metrics), 0.0);
    assert!(folder.join(MEMORY).exists() && folder.join("journal.jsonl").exists());
}

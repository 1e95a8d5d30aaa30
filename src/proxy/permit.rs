//! Whether what is under way at an upstream may go on there: not for long once a newer file forbids that
//! upstream's provider to carry it, whatever it is and whoever else could.
//!
//! In: the request, the provider it went to, the newest view. Out: an end, after the grace that whatever
//! goes on at a left upstream has. A reload that merely takes the upstream away, or the route, ends
//! nothing: what decides is the charter of the route that would take the request by now.
//!
//! Not here: who is asked for a *new* attempt ([`super::transaction`]), and streams at an upstream that is
//! out while another one serves ([`super::connections`]).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::attempt::Head;
use super::transaction::Transaction;
use super::worker::Worker;
use crate::clock;
use crate::exchange::state::UpstreamState;
use crate::model::id::Label;
use crate::model::realm::Realm;
use crate::model::unit::Generation;
use crate::request::gate;
use crate::routing::snapshot::RoutingSnapshot;

/// Which file is in force, as far as its worker has seen.
#[derive(Default)]
pub(super) struct Adopted {
    since: Cell<Generation>,
    changed: Notify,
}

impl Adopted {
    /// Another one is, in this snapshot.
    pub(super) fn now(&self, generation: Generation) {
        self.since.set(generation);
        self.changed.notify_waiters();
    }

    /// Whoever began under an older snapshot began under another file, or may have.
    fn since(&self) -> Generation {
        self.since.get()
    }

    /// Ends when another one is in force.
    async fn next(&self) {
        self.changed.notified().await;
    }
}

/// Of one attempt. Costs a comparison each time it is asked, until a new file comes.
#[derive(Clone)]
pub(super) struct Permit {
    head: Rc<Head>,
    /// The snapshot that was looked at last.
    seen: Cell<Generation>,
    /// When it was found to be forbidden.
    forbidden: Cell<Option<Instant>>,
}

impl Permit {
    /// As its transaction's own snapshot gives it.
    pub(super) fn new(transaction: &Transaction) -> Self {
        Self {
            head: Rc::clone(&transaction.head),
            seen: Cell::new(transaction.view.routing.generation),
            forbidden: Cell::new(None),
        }
    }

    /// Whether it has been forbidden for longer than the grace.
    pub(super) fn is_over(&self, worker: &Worker, upstream: &UpstreamState) -> bool {
        let end = self.end(worker, upstream);
        end.is_some_and(|end| end <= clock::now())
    }

    /// Ends when it is over.
    pub(super) async fn run_out(self, worker: Rc<Worker>, upstream: Arc<UpstreamState>) {
        loop {
            match self.end(&worker, &upstream) {
                // Nothing else runs on this thread between the look and the wait.
                None => worker.adopted.next().await,
                Some(end) if end <= clock::now() => return,
                // A newer file may permit it again: looked at anew.
                Some(end) => tokio::time::sleep_until(end.into()).await,
            }
        }
    }

    /// When what is forbidden has to end; `None`: it may go on.
    fn end(&self, worker: &Worker, upstream: &UpstreamState) -> Option<Instant> {
        if self.seen.get() < worker.adopted.since() {
            let now = worker.snapshots.current();
            self.seen.set(now.routing.generation);
            let goes_on = may_carry(&now.routing, &self.head, &upstream.key.provider);
            let since = self.forbidden.get().unwrap_or_else(clock::now);
            self.forbidden.set((!goes_on).then_some(since));
        }
        Some(self.forbidden.get()? + worker.grace())
    }
}

/// What the newest file says of a request.
pub(super) enum Belongs<'a> {
    /// No route takes it.
    Nowhere,
    /// It would be refused: nobody can say which route its path means.
    Refused,
    /// To this realm.
    To(&'a Realm),
}

/// Where a request belongs by now.
pub(super) fn belongs<'a>(now: &'a RoutingSnapshot, head: &Head) -> Belongs<'a> {
    let found = || {
        let host = gate::host_of(head.authority.to_str().ok()?)?.to_ascii_lowercase();
        let found = now.matcher.find(&host, head.path_and_query.path())?;
        Some((found, now.topology.pool(found.pool).realms.find(found.realm)?))
    };
    match found() {
        None => Belongs::Nowhere,
        Some((found, _)) if found.is_ambiguous => Belongs::Refused,
        Some((_, realm)) => Belongs::To(realm),
    }
}

/// Whether a provider may carry a request by now. For one that the file knows no more nobody vouches.
fn may_carry(now: &RoutingSnapshot, head: &Head, provider: &Label) -> bool {
    let realm = match belongs(now, head) {
        Belongs::Nowhere => return true,
        Belongs::Refused => return false,
        Belongs::To(realm) => realm,
    };
    let mut known = now.topology.providers.iter();
    match known.find(|known| known.name == *provider) {
        Some(provider) => realm.charter().bar(provider).is_none(),
        None => realm.charter().is_open(),
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue};
    use http::uri::PathAndQuery;
    use http::{Method, Version};

    use super::*;
    use crate::model::cell::{Cell, HostId};
    use crate::model::example::{self, Example, label};
    use crate::model::outcome::MethodClass;
    use crate::model::place::Residency;
    use crate::model::realm::{Charter, Charters};
    use crate::model::topology::Route;
    use crate::request::switch::Switch;
    use crate::routing::matcher::{Matcher, Spelling};

    fn head(url: &'static str) -> Head {
        let (host, path) = url.split_at(url.find('/').expect("a path"));
        Head {
            method: Method::GET,
            path_and_query: PathAndQuery::from_static(path),
            headers: HeaderMap::new(),
            authority: HeaderValue::from_static(host),
            spelling: Spelling::Ours,
            cell: Cell { class: MethodClass::Safe, host: HostId::default() },
            repeatable: true,
            takes_trailers: false,
            came_in: Version::HTTP_11,
            switch: Switch::No,
        }
    }

    /// The portal through `eu` alone, `/open/` of it for anybody; `us` is listed beside it and has no upstream.
    fn now(charter: &Charter) -> RoutingSnapshot {
        let of = |provider, seat| Example {
            service: "portal",
            provider,
            seat,
            host: "192.0.2.1",
            port: 80,
        };
        let mut topology = example::topology(&[of("eu", "SI"), of("us", "US")]);
        topology.upstreams.pop();
        topology.pools[0].upstreams.pop();
        let mut charters = Charters::default();
        let [own, open] = [charter, &Charter::of(Residency::Any)].map(|it| charters.add(it));
        let realm = |place: Option<usize>| charters.realm(place.expect("two at most"));
        topology.routes[0].realm = realm(own);
        let open =
            Route { prefix: "/open/".into(), realm: realm(open), ..topology.routes[0].clone() };
        topology.routes.push(open);
        topology.settle(charter, &charters);
        let matcher = Arc::new(Matcher::new(&topology));
        let topology = Arc::new(topology);
        RoutingSnapshot { generation: Generation::ZERO, topology, matcher, plans: Vec::new() }
    }

    #[test]
    fn what_a_newer_file_forbids_is_told_from_what_it_only_leaves_out() {
        let any = Charter::of(Residency::Any);
        let prefer = Charter::of(Residency::PreferEu);
        let eu_only = Charter::of(Residency::EuOnly);
        let require = Charter { require: vec![label("SecNumCloud")], ..any.clone() };
        let chat = "portal.example/chat?room=1";
        let table = [
            ("listed, and anybody may", chat, &any, "us", true),
            ("listed, and a preference forbids nobody", chat, &prefer, "us", true),
            ("listed, outside", chat, &eu_only, "us", false),
            ("however the host is written", "Portal.Example:8443/chat", &eu_only, "us", false),
            ("by another route than the host's", "portal.example/open/x", &eu_only, "us", true),
            ("listed, inside", chat, &eu_only, "eu", true),
            ("nobody can say which route it means", "portal.example//chat", &eu_only, "eu", false),
            ("and need not, where all are alike", "portal.example//chat", &any, "us", true),
            ("it lacks something", chat, &require, "eu", false),
            ("known no more, and anybody may", chat, &any, "gone", true),
            ("known no more: nobody vouches", chat, &eu_only, "gone", false),
            ("known no more: nobody vouches", chat, &require, "gone", false),
            ("no route says anything", "other.example/chat", &eu_only, "us", true),
        ];
        for (shows, url, charter, provider, goes_on) in table {
            let told = may_carry(&now(charter), &head(url), &label(provider));
            assert_eq!(told, goes_on, "{shows}: {provider} for {url} under {charter:?}");
        }
    }
}

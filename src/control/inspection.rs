//! `check --live`: is every upstream set up as this configuration needs it?
//!
//! In: a configuration. Out: for each service and upstream what is wrong, why, how to mend it. Each is
//! asked as a client would be served through it, over the same dialer and TLS as traffic:
//!
//! | asked | to see |
//! |---|---|
//! | the probe's page, under each whole host of the service at which the upstream may carry it | certificate, right host, marker, a cache before the page |
//! | a made-up path, twice | whether errors keep the marker, and are not kept |
//! | another one, as if it had come through [`TOO_MANY`] proxies | whether the way leads back to a bascule, which refuses that (508) |
//!
//! A bascule refuses such a request whoever asks it and whoever else would serve, so that a loop is seen
//! behind a fallback too; no other server counts them. The running process is neither asked nor told:
//! nothing here is evidence.
//!
//! Bounded: [`AT_ONCE`] upstreams at a time, [`MOST_HOSTS`] hosts each, [`VISIT`] a request, [`ALL`]
//! the whole. What policy bars has no upstream, and is not asked.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;

use self::judge::{Subject, Visits};
use self::visit::Unreached;
use super::names::Names;
use super::probe::{self, Question};
use crate::config::catalogue;
use crate::config::complaint::Severity;
use crate::model::id::{PoolId, UpstreamId};
use crate::model::signal::ProbeResult;
use crate::model::topology::{
    Asks, Endpoint, EndpointHost, HostPattern, HostRule, ProviderKind, Topology,
};
use crate::request::rewrite;
use crate::routing::matcher::Matcher;

mod judge;
mod visit;

/// Upstreams asked at the same time.
const AT_ONCE: usize = 8;
/// Hosts of one service that are asked for.
const MOST_HOSTS: usize = 8;
/// For one request, from dialling on.
const VISIT: Duration = Duration::from_secs(10);
/// For everything.
const ALL: Duration = Duration::from_secs(300);
/// Proxies that the request has come through by its own word: one more than a bascule lets pass.
const TOO_MANY: usize = 33;
/// How a made-up path begins.
const MADE_UP: &str = "/bascule-check-";

/// Whom a finding is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Whom {
    /// The origin of a service, asked itself.
    Origin(PoolId),
    /// One upstream.
    Upstream(UpstreamId),
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Whether traffic would suffer.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// Why that matters, and how to mend it.
    pub mend: String,
}

impl Finding {
    fn error(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), mend: mend.into() }
    }

    fn warning(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), mend: mend.into() }
    }
}

/// TLS towards each upstream, and towards each service's origin, index for index.
#[derive(Clone, Debug)]
pub struct Trust {
    /// By upstream; `None` in cleartext.
    pub upstreams: Arc<[Option<Arc<rustls::ClientConfig>>]>,
    /// By pool; `None` in cleartext, and where there is no origin to be asked.
    pub origins: Vec<Option<Arc<rustls::ClientConfig>>>,
}

/// Asks everybody. The findings come by whom they are about; nobody who is left out of them has any.
pub async fn inspect(
    topology: Arc<Topology>,
    trust: Trust,
    names: Names,
    now: SystemTime,
) -> Vec<(Whom, Vec<Finding>)> {
    let matcher = Matcher::new(&topology);
    let work = Rc::new(Work { topology, matcher, trust, names, now });
    let origins = work.topology.pools().filter(|(_, pool)| pool.rules.probe.origin.is_some());
    let mut waiting: Vec<Whom> = origins.map(|(id, _)| Whom::Origin(id)).collect();
    waiting.extend(work.topology.upstreams().map(|(id, _)| Whom::Upstream(id)));
    let everybody = waiting.clone();
    waiting.reverse();
    let mut running = JoinSet::new();
    let mut found = Vec::new();
    let all = async {
        loop {
            while running.len() < AT_ONCE
                && let Some(whom) = waiting.pop()
            {
                let work = Rc::clone(&work);
                running.spawn_local(async move { (whom, work.inspect(whom).await) });
            }
            match running.join_next().await {
                Some(Ok(done)) => found.push(done),
                Some(Err(error)) => tracing::error!(%error, "an upstream could not be looked at"),
                None => return,
            }
        }
    };
    let in_time = tokio::time::timeout(ALL, all).await.is_ok();
    for whom in everybody.into_iter().filter(|_| !in_time) {
        if !found.iter().any(|(done, _)| *done == whom) {
            let what = format!("it was not asked within {} s, with all the others", ALL.as_secs());
            let mend = "nothing is known of it; look at those that did not answer first";
            found.push((whom, vec![Finding::error(what, mend)]));
        }
    }
    found.sort_by_key(|(whom, _)| *whom);
    found
}

/// What all share.
struct Work {
    topology: Arc<Topology>,
    matcher: Matcher,
    trust: Trust,
    names: Names,
    now: SystemTime,
}

impl Work {
    async fn inspect(&self, whom: Whom) -> Vec<Finding> {
        match whom {
            Whom::Upstream(id) => self.upstream(id).await,
            Whom::Origin(id) => self.origin(id).await,
        }
    }

    async fn upstream(&self, id: UpstreamId) -> Vec<Finding> {
        let upstream = self.topology.upstream(id);
        let addresses = match self.addresses(&upstream.endpoint).await {
            Ok(addresses) => addresses,
            Err(finding) => return vec![finding],
        };
        let question = self.question_to(id);
        if question.asks != Asks::Page {
            return self.health(&question, &addresses).await;
        }
        let provider = self.topology.provider_of(id);
        let is_edge = provider.kind == ProviderKind::Edge;
        let known = catalogue::known(provider.name.as_str()).filter(|_| is_edge);
        let hosts = match upstream.endpoint.host_rule {
            HostRule::Public => self.hosts(id),
            HostRule::Upstream | HostRule::Literal(_) => Vec::new(),
        };
        let mut findings = Vec::new();
        // Without a whole host the question goes by the upstream's own, as probes do.
        let of_its_own = hosts.is_empty().then_some(None);
        for host in hosts.into_iter().map(Some).chain(of_its_own) {
            let public_host = host.or_else(|| question.public_host.clone());
            let made_up = self.made_up(id, public_host.as_deref());
            let question = Question { public_host, ..question.clone() };
            let visits = self.visits(&question, made_up, &addresses).await;
            let host = question.name();
            let provider = provider.name.as_str();
            let routes = &self.topology.routes;
            let subject = Subject { question: &question, host, provider, routes, known };
            for finding in judge::upstream(&subject, &visits, self.now) {
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
    }

    /// Where a path can be made up that the upstream may carry at a host: at the root, else below the
    /// page itself, which nothing but the page's own route takes.
    fn made_up(&self, id: UpstreamId, host: Option<&str>) -> String {
        let upstream = self.topology.upstream(id);
        let (rule, probe) =
            (&upstream.endpoint.path, &self.topology.pool(upstream.pool).rules.probe);
        let at_root = format!("{}{MADE_UP}", rule.strip);
        if host.is_none_or(|host| self.may_ask(id, host, &at_root)) {
            return format!("{}{MADE_UP}", rule.add);
        }
        let page = probe.page().trim_end_matches('/');
        format!("{}{MADE_UP}", rewrite::towards(rule, page))
    }

    async fn visits(
        &self,
        question: &Question,
        made_up: String,
        addresses: &[SocketAddr],
    ) -> Visits {
        let page = visit::page(question, addresses, 0).await;
        let made_up = || format!("{made_up}{:016x}", fastrand::u64(..));
        if !matches!(&page, Ok(seen) if !seen.is_loop()) {
            return Visits { page, errors: None, through_many: None };
        }
        let missing = Question { target: made_up().into(), ..question.clone() };
        let errors =
            [visit::page(&missing, addresses, 0).await, visit::page(&missing, addresses, 0).await];
        // A page of its own: what comes of it is kept by nobody under a name that matters.
        let other = Question { target: made_up().into(), ..question.clone() };
        let through_many = visit::page(&other, addresses, TOO_MANY).await;
        Visits { page, errors: Some(errors), through_many: Some(through_many) }
    }

    /// A gRPC server has no pages: it is asked for its health, as its probes do.
    async fn health(&self, question: &Question, addresses: &[SocketAddr]) -> Vec<Finding> {
        let asked = probe::ask(question, addresses).await;
        let mut findings = Vec::new();
        findings.extend(asked.certificate_end.and_then(|end| judge::ending(end, self.now)));
        if let Some(ProbeResult::OriginError | ProbeResult::Failed(_)) = asked.result {
            let why = asked.unwell.map_or_else(
                || asked.result.map_or("", |result| result.as_str()).to_owned(),
                |unwell| unwell.to_string(),
            );
            let mend = "probes ask the same, and would take it out; see `probe` of the service";
            findings
                .push(Finding::error(format!("the gRPC health check does not pass ({why})"), mend));
        }
        findings
    }

    async fn origin(&self, pool: PoolId) -> Vec<Finding> {
        let rules = &self.topology.pool(pool).rules;
        let Some(origin) = &rules.probe.origin else { return Vec::new() };
        let addresses = match self.addresses(&origin.endpoint).await {
            Ok(addresses) => addresses,
            Err(finding) => return vec![finding],
        };
        let tls = self.trust.origins.get(pool.index()).cloned().flatten();
        let question = self.question(pool, origin.endpoint.clone(), tls);
        if question.asks != Asks::Page {
            return self.health(&question, &addresses).await;
        }
        let question = Question { target: origin.path.clone(), ..question };
        let seen = visit::page(&question, &addresses, 0).await;
        judge::origin(&question, &seen, self.now)
    }

    /// As its probes ask it.
    fn question_to(&self, id: UpstreamId) -> Question {
        let upstream = self.topology.upstream(id);
        let tls = self.trust.upstreams.get(id.index()).cloned().flatten();
        let probe = &self.topology.pool(upstream.pool).rules.probe;
        let public_host = probe.host_for(id).map(Into::into);
        let question = self.question(upstream.pool, upstream.endpoint.clone(), tls);
        Question { public_host, ..question }
    }

    fn question(
        &self,
        pool: PoolId,
        endpoint: Endpoint,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Question {
        let rules = &self.topology.pool(pool).rules;
        let target = rewrite::towards(&endpoint.path, &rules.probe.path).into();
        Question {
            endpoint,
            tls,
            public_host: rules.probe.host.clone(),
            asks: rules.probe.asks.clone(),
            target,
            expect: rules.probe.expect.clone(),
            marker: rules.marker.clone(),
            timeout: VISIT,
        }
    }

    /// The whole hosts that an upstream's service is published under, and whose page it may carry.
    fn hosts(&self, id: UpstreamId) -> Vec<Box<str>> {
        let pool = self.topology.upstream(id).pool;
        let page = self.topology.pool(pool).rules.probe.page();
        let mut hosts: Vec<Box<str>> = Vec::new();
        for route in self.topology.routes.iter().filter(|route| route.pool == pool) {
            match &route.host {
                HostPattern::Exact(host)
                    if hosts.len() < MOST_HOSTS
                        && !hosts.contains(host)
                        && self.may_ask(id, host, page) =>
                {
                    hosts.push(host.clone());
                }
                HostPattern::Exact(_) | HostPattern::Wildcard(_) | HostPattern::Any => {}
            }
        }
        hosts
    }

    /// Whether an upstream may carry what a host has under a path, by whichever service that is
    /// published. What no route takes is nobody's; what could be another route's is not asked for.
    fn may_ask(&self, id: UpstreamId, host: &str, url_path: &str) -> bool {
        let Some(found) = self.matcher.find(host, url_path) else { return true };
        let realm = self.topology.pool(found.pool).realms.find(found.realm);
        let provider = self.topology.provider_of(id);
        !found.is_ambiguous && realm.is_some_and(|realm| realm.charter().bar(provider).is_none())
    }

    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Finding> {
        let name = match &endpoint.host {
            EndpointHost::Address(ip) => return Ok(vec![SocketAddr::new(*ip, endpoint.port)]),
            EndpointHost::Name(name) => name,
        };
        match self.names.look_up(name).await {
            Ok(found) => Ok(found
                .addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, endpoint.port))
                .collect()),
            Err(error) => Err(judge::unreached(name, &Unreached::Name(error))),
        }
    }
}

#[cfg(test)]
mod tests;

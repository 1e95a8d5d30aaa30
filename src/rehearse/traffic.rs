//! The demand that a rehearsed service meets: who asks what, how often, and how quickly a healthy
//! upstream answers. Figures are a model; faults are [`super::world`]'s business.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fastrand::Rng;
use http::Method;

use super::scenario::{Audience, Family, Match};
use crate::model::cell::{Cell, HostId};
use crate::model::outcome::MethodClass;

/// Requests a second of a service whose file says nothing else.
pub const RATE: f64 = 100.0;
/// What clients do.
static METHODS: [Method; 3] = [Method::GET, Method::POST, Method::PUT];
/// How often each, in per cent.
const METHOD_SHARES: [u8; 3] = [85, 12, 3];
/// From one request's place among a hundred to the next one's. 81 is prime to 100 and its inverse is
/// 21, so that neighbouring places are met 21 requests apart.
const TURN: u64 = 81;
/// Share of requests with a safe method.
pub const SAFE_SHARE: f64 = 0.85;
/// Share of safe requests without cookie and authorization.
pub const NOBODYS: f64 = 0.5;
/// Public hosts, half of the requests each.
pub const HOSTS: [&str; 2] = ["a.example.eu", "b.example.eu"];
/// What a URL path that a scenario names gets, in thousandths.
const NAMED_SHARE: usize = 10;
/// Share of bodies that are big.
const BIG_BODIES: f64 = 0.03;
/// Bytes of a small and of a big body.
const BODY_SIZES: [u64; 2] = [16 << 10, 2 << 20];
/// Share of requests that the origin itself fails at rest, with its marker.
pub const ORIGIN_ERRORS: f64 = 0.001;

/// Quantiles of a healthy upstream's latency, in milliseconds; logarithmic in between.
const LATENCY: [(f64, f64); 5] =
    [(0.0, 12.0), (0.5, 40.0), (0.9, 110.0), (0.99, 250.0), (1.0, 600.0)];
/// Entries of the table of latencies.
const LATENCIES: usize = 1000;

/// One client request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    method: u8,
    host: u8,
    page: u8,
    client: u8,
    size: u8,
    service: u8,
    /// Whether the origin fails this one, whoever asks it.
    pub origin_fails: bool,
}

/// The distribution of requests.
#[derive(Debug)]
pub struct Demand {
    url_paths: Vec<String>,
    /// The page of each thousandth of the requests.
    pages: Vec<u8>,
    latencies: Vec<Duration>,
    probe_page: u8,
    clients: u8,
    /// Requests a second.
    rate: f64,
    /// Of each method, in per cent.
    method_shares: [u8; 3],
    /// Share of the requests of each service and of all before it.
    services: Vec<f64>,
}

/// A [`Match`], looked up once.
#[derive(Clone, Debug)]
pub struct Filter {
    methods: [bool; METHODS.len()],
    hosts: [bool; HOSTS.len()],
    pages: Vec<bool>,
    sizes: [bool; BODY_SIZES.len()],
    /// Only addresses of this family.
    pub family: Option<Family>,
    /// Share of the demand that matches, families aside.
    pub share: f64,
}

impl Demand {
    /// With 1 % for each of the `named` URL paths, and a place for the path that probes ask; the
    /// audience's own pages in a Zipf distribution.
    pub fn new<'a>(
        named: impl IntoIterator<Item = &'a str>,
        probe_path: &str,
        audience: Audience,
    ) -> Self {
        let mut url_paths: Vec<String> = named.into_iter().map(str::to_owned).collect();
        let mut pages: Vec<u8> =
            (0..url_paths.len()).flat_map(|page| [page as u8; NAMED_SHARE]).collect();
        let first = url_paths.len();
        let templates = usize::from(audience.pages);
        url_paths.extend((0..templates).map(template));
        fill_by_zipf(&mut pages, first, templates);
        let probe_page = url_paths.iter().position(|known| known == probe_path);
        let probe_page = probe_page.unwrap_or_else(|| {
            url_paths.push(probe_path.to_owned());
            url_paths.len() - 1
        }) as u8;
        let latencies = (0..LATENCIES).map(|n| latency((n as f64 + 0.5) / LATENCIES as f64));
        Self {
            latencies: latencies.collect(),
            url_paths,
            pages,
            probe_page,
            clients: audience.clients,
            rate: RATE,
            method_shares: METHOD_SHARES,
            services: vec![1.0],
        }
    }

    /// At so many requests a second, with so many GET, POST and PUT among a hundred.
    #[must_use]
    pub fn of(self, rate: f64, method_shares: [u8; 3]) -> Self {
        Self { rate, method_shares, ..self }
    }

    /// Of services with these requests a second.
    #[must_use]
    pub fn for_services(self, rates: impl Iterator<Item = f64>) -> Self {
        let mut rate = 0.0;
        let mut services: Vec<f64> = rates
            .map(|of_this| {
                rate += of_this;
                rate
            })
            .collect();
        services.iter_mut().for_each(|up_to| *up_to /= rate);
        Self { rate, services, ..self }
    }

    /// Requests a second, of all services.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Share of the requests that is for one service.
    pub fn share_of(&self, service: usize) -> f64 {
        let before = service.checked_sub(1).map_or(0.0, |before| self.services[before]);
        self.services[service] - before
    }

    /// One request.
    pub fn draw(&self, rng: &mut Rng) -> Request {
        let hundredth = rng.u8(0..100);
        self.draw_of(hundredth, rng)
    }

    /// One request of a steady stream: its methods are not drawn but come by turns, the rare ones as
    /// far apart as they can, so that each stretch of the stream holds its share of them.
    pub fn draw_in_turn(&self, number: u64, rng: &mut Rng) -> Request {
        let hundredth = number.wrapping_mul(TURN) % 100;
        self.draw_of(hundredth as u8, rng)
    }

    fn draw_of(&self, hundredth: u8, rng: &mut Rng) -> Request {
        let mut left = hundredth;
        let method = self.method_shares.iter().position(|share| {
            let found = left < *share;
            left = left.saturating_sub(*share);
            found
        });
        Request {
            method: method.unwrap_or_default() as u8,
            host: rng.u8(0..HOSTS.len() as u8),
            page: self.pages[rng.usize(0..self.pages.len())],
            client: rng.u8(0..self.clients),
            size: u8::from(rng.f64() < BIG_BODIES),
            origin_fails: rng.f64() < ORIGIN_ERRORS,
            service: self.service(rng),
        }
    }

    fn service(&self, rng: &mut Rng) -> u8 {
        match self.services[..] {
            [_] => 0,
            _ => {
                let luck = rng.f64();
                self.services.partition_point(|up_to| *up_to <= luck) as u8
            }
        }
    }

    /// What a probe asks.
    pub fn probe(&self) -> Request {
        Request {
            method: 0,
            host: 0,
            page: self.probe_page,
            client: 0,
            size: 0,
            service: 0,
            origin_fails: false,
        }
    }

    /// A request as it is seen on the wire; what is not seen is taken as the first of its kind.
    pub fn recognise(&self, method: &Method, host: &str, url_path: &str) -> Request {
        let place = |found: Option<usize>| found.unwrap_or_default() as u8;
        Request {
            method: place(METHODS.iter().position(|known| known == method)),
            host: place(HOSTS.iter().position(|known| *known == host)),
            page: place(self.url_paths.iter().position(|known| known == url_path)),
            ..self.probe()
        }
    }

    /// From one request to the next: exponential, as independent clients make it.
    pub fn gap(&self, rng: &mut Rng) -> Duration {
        Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / self.rate)
    }

    /// How long a healthy upstream takes to the head.
    pub fn latency(&self, rng: &mut Rng) -> Duration {
        self.latencies[rng.usize(0..LATENCIES)]
    }

    /// Share of heads in each bucket, as `bucket` sorts them, while some answers are slower.
    pub fn latency_shares<const N: usize>(
        &self,
        slower: &[(f64, Duration)],
        bucket: fn(Duration) -> usize,
    ) -> [f64; N] {
        let mut shares = [0.0; N];
        // Every combination of slow and not slow, as they are drawn independently.
        for combination in 0..1_u32 << slower.len() {
            let mut weight = 1.0 / LATENCIES as f64;
            let mut more = Duration::ZERO;
            for (place, (share, by)) in slower.iter().enumerate() {
                let is_slow = combination >> place & 1 == 1;
                weight *= if is_slow { *share } else { 1.0 - share };
                more += if is_slow { *by } else { Duration::ZERO };
            }
            for latency in &self.latencies {
                shares[bucket(*latency + more)] += weight;
            }
        }
        shares
    }

    /// The slowest answer of a healthy upstream.
    pub fn slowest(&self) -> Duration {
        self.latencies.last().copied().unwrap_or_default()
    }

    /// Every client.
    pub fn clients(&self) -> impl Iterator<Item = IpAddr> + use<> {
        (0..self.clients).map(address)
    }

    /// The URL path of a request.
    pub fn url_path(&self, request: &Request) -> &str {
        &self.url_paths[usize::from(request.page)]
    }

    /// Looks a match up.
    pub fn filter(&self, only: &Match) -> Filter {
        let listed =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|l| l == name);
        let page = |name: &String| {
            listed(&only.url_paths, name) && !only.url_paths_not.iter().any(|not| not == name)
        };
        let methods = METHODS.each_ref().map(|method| listed(&only.methods, method.as_str()));
        let hosts = HOSTS.map(|host| listed(&only.hosts, host));
        let pages: Vec<bool> = self.url_paths.iter().map(page).collect();
        let sizes = BODY_SIZES.map(|size| size >= only.body_min);
        let by_method = self.method_shares.iter().zip(methods).filter(|(_, ok)| *ok);
        let by_page = self.pages.iter().filter(|page| pages[usize::from(**page)]).count();
        let by_size = [1.0 - BIG_BODIES, BIG_BODIES].into_iter().zip(sizes).filter(|(_, ok)| *ok);
        let share = by_method.map(|(share, _)| f64::from(*share) / 100.0).sum::<f64>()
            * hosts.iter().filter(|ok| **ok).count() as f64
            / HOSTS.len() as f64
            * by_page as f64
            / self.pages.len() as f64
            * by_size.map(|(share, _)| share).sum::<f64>();
        Filter { methods, hosts, pages, sizes, family: only.family, share }
    }
}

/// The URL of the n-th template; the first is the front page.
fn template(n: usize) -> String {
    if n == 0 { "/".to_owned() } else { format!("/{}", char::from(b'a' + n as u8)) }
}

/// Fills what is left of a thousand with the templates from page `first` on, the n-th one n times
/// more rarely than the first.
fn fill_by_zipf(pages: &mut Vec<u8>, first: usize, templates: usize) {
    let weight = |n: usize| 1.0 / (n + 1) as f64;
    let total: f64 = (0..templates).map(weight).sum();
    let room = 1000 - pages.len();
    let mut reached = 0.0;
    for n in 0..templates {
        reached += weight(n) / total * room as f64;
        pages.resize((1000 - room) + reached.round() as usize, (first + n) as u8);
    }
}

fn address(client: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, client, 1))
}

fn latency(quantile: f64) -> Duration {
    let knots = LATENCY.windows(2).find(|knots| quantile <= knots[1].0);
    let [(from, low), (to, high)] = knots.map_or([LATENCY[0], LATENCY[1]], |k| [k[0], k[1]]);
    let millis = low * (high / low).powf((quantile - from) / (to - from));
    Duration::from_secs_f64(millis / 1000.0)
}

impl Filter {
    /// Whether it lets any request of a cell through.
    pub fn touches(&self, cell: Cell) -> bool {
        let class = |method: &Method| MethodClass::of(method) == cell.class;
        let mut methods = METHODS.iter().zip(self.methods);
        self.hosts[cell.host.index()] && methods.any(|(method, passes)| passes && class(method))
    }

    /// Whether it lets every request through.
    pub fn is_everything(&self) -> bool {
        self.family.is_none() && self.share > 1.0 - 1e-9
    }
}

impl Request {
    /// Its method.
    pub fn method(&self) -> &'static Method {
        &METHODS[usize::from(self.method)]
    }

    /// Where it comes from.
    pub fn client(&self) -> IpAddr {
        address(self.client)
    }

    /// Which service it is for.
    pub fn service(&self) -> usize {
        usize::from(self.service)
    }

    /// Whether it is safe and carries neither cookie nor authorization: half of the clients are
    /// never logged in.
    pub fn is_nobodys(&self) -> bool {
        self.method().is_safe() && self.client.is_multiple_of(2)
    }

    /// Which cell of its service it belongs to.
    pub fn cell(&self) -> Cell {
        Cell { class: MethodClass::of(self.method()), host: HostId::new(self.host()) }
    }

    /// Which of [`HOSTS`] it asks for.
    pub fn host(&self) -> usize {
        usize::from(self.host)
    }

    /// What requests of one URL path have in common.
    pub fn page_key(&self) -> u64 {
        u64::from(self.page)
    }

    /// What requests of one client have in common.
    pub fn client_key(&self) -> u64 {
        u64::from(self.client)
    }

    /// Whether the filter is about this request, families aside.
    pub fn is_matched(&self, filter: &Filter) -> bool {
        filter.methods[usize::from(self.method)]
            && filter.hosts[usize::from(self.host)]
            && filter.pages[usize::from(self.page)]
            && filter.sizes[usize::from(self.size)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share_of(demand: &Demand, only: &Match) -> (f64, f64) {
        let filter = demand.filter(only);
        let mut rng = Rng::with_seed(7);
        let drawn = 40_000;
        let hits = (0..drawn).filter(|_| demand.draw(&mut rng).is_matched(&filter)).count();
        (filter.share, hits as f64 / f64::from(drawn))
    }

    #[test]
    fn a_steady_stream_spreads_its_rare_methods() {
        let demand = Demand::new([], "/", Audience::default()).of(200.0, [95, 4, 1]);
        let mut rng = Rng::with_seed(1);
        let drawn: Vec<bool> =
            (0..1000).map(|n| *demand.draw_in_turn(n, &mut rng).method() != Method::GET).collect();
        assert_eq!(drawn.iter().filter(|rare| **rare).count(), 50);
        for stretch in drawn.windows(60) {
            let rare = stretch.iter().filter(|rare| **rare).count();
            assert!((2..=4).contains(&rare), "{rare} among sixty");
        }
    }

    #[test]
    fn a_filter_takes_its_share_of_what_is_drawn() {
        let demand = Demand::new(["/crash"], "/", Audience::default());
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        #[rustfmt::skip]
        let table = [
            ("no limit",        Match::default(), 1.0),
            ("a method",        Match { methods: strings(&["POST"]), ..Match::default() }, 0.12),
            ("a host",          Match { hosts: strings(&["a.example.eu"]), ..Match::default() }, 0.5),
            ("a named path",    Match { url_paths: strings(&["/crash"]), ..Match::default() }, 0.01),
            ("all but a path",  Match { url_paths_not: strings(&["/crash"]), ..Match::default() }, 0.99),
            ("big bodies",      Match { body_min: 1 << 20, ..Match::default() }, 0.03),
            ("a method and a host", Match { methods: strings(&["GET"]), hosts: strings(&["a.example.eu"]), ..Match::default() }, 0.425),
        ];
        for (shows, only, wanted) in table {
            let (said, drawn) = share_of(&demand, &only);
            assert!((said - wanted).abs() < 1e-9, "{shows}: {said}");
            assert!((drawn - wanted).abs() < 0.01, "{shows}: {drawn}");
        }
    }

    #[test]
    fn a_healthy_upstream_answers_as_the_model_says() {
        let demand = Demand::new([], "/", Audience::default());
        let at = |n: usize| demand.latencies[n].as_millis();
        assert!((39..=41).contains(&at(499)), "{}", at(499));
        assert!((240..=260).contains(&at(989)), "{}", at(989));
        assert!(at(999) < 1000, "no answer at rest is late");
    }

    #[test]
    fn the_page_that_probes_ask_has_a_place_without_traffic() {
        let demand = Demand::new([], "/never-asked", Audience::default());
        assert_eq!(demand.url_path(&demand.probe()), "/never-asked");
        let mut rng = Rng::with_seed(1);
        assert!((0..10_000).all(|_| demand.url_path(&demand.draw(&mut rng)) != "/never-asked"));
    }
}

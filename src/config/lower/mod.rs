//! The mirror of the file to what is meant: `Raw*` → [`Config`], by full destructuring, so that a
//! new key does not compile until it is used.
//!
//! Every mistake is noted and nothing stops at the first: a value that is wrong is replaced by its
//! default, the rest is read on, and whoever called looks at the complaints before the result.

mod access;
mod context;
mod evidence;
mod hosts;
mod identity;
mod listeners;
mod marker;
mod path;
mod provenance;
mod providers;
mod rules;
mod services;
mod settings;
mod traces;
mod upstream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::complaint::{Place, Spot};
use super::raw::{RawFile, RawIncluded, RawProvider, RawService};
use super::tree::{At, Named};
use super::{Admin, Config, Listener, Spots, lint};
pub(super) use context::Context;

/// A file and those that it includes, as read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) main: At<RawFile>,
    pub(super) included: Vec<At<RawIncluded>>,
}

/// Where things stand in the file, for lints: index for index with the configuration.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) listeners: Vec<Place>,
    pub(super) admin: Option<Place>,
    pub(super) trusted_proxies: Vec<Place>,
    pub(super) control_targets: Vec<Place>,
    pub(super) providers: Vec<ProviderPlaces>,
    pub(super) services: Vec<ServicePlaces>,
}

/// Where the parts of a provider stand; `None` where the file does not say it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProviderPlaces {
    pub(super) seat: Option<Place>,
    pub(super) subject_to: Option<Place>,
    pub(super) substrate: Option<Place>,
}

/// Where the parts of a service stand.
#[derive(Debug)]
pub(super) struct ServicePlaces {
    /// Its name.
    pub(super) name: Place,
    /// By upstream, as in the pool.
    pub(super) upstreams: Vec<Place>,
    pub(super) probe: Option<Place>,
    pub(super) failover: Option<Place>,
    pub(super) methods: Option<Place>,
}

fn spots(services: &[ServicePlaces], context: &Context<'_>) -> Spots {
    // One name for all that stands in a file.
    let mut names: HashMap<u32, Arc<Path>> = HashMap::new();
    let mut spot = |place: &Place| {
        let name = names
            .entry(place.file)
            .or_insert_with(|| context.files.name(place.file).unwrap_or(Path::new("")).into());
        Spot::new(Arc::clone(name), *place)
    };
    Spots {
        services: services.iter().map(|service| spot(&service.name)).collect(),
        upstreams: services.iter().flat_map(|service| &service.upstreams).map(spot).collect(),
    }
}

/// What is said of providers and services: by a file, then by those that it includes.
struct Said {
    providers: Vec<At<Named<RawProvider>>>,
    services: Vec<At<Named<RawService>>>,
}

impl Said {
    fn join(main: RawIncluded, included: Vec<At<RawIncluded>>) -> Self {
        let mut said = Self { providers: Vec::new(), services: Vec::new() };
        let included = included.into_iter().filter_map(|file| file.value);
        for RawIncluded { providers, services } in [main].into_iter().chain(included) {
            said.providers.extend(providers);
            said.services.extend(services);
        }
        said
    }
}

/// Where we listen ourselves.
fn own_addresses(listeners: &[Listener], admin: Option<&Admin>) -> Vec<SocketAddr> {
    let of_clients = listeners.iter().map(|listener| listener.address);
    of_clients.chain(admin.map(|admin| admin.address)).collect()
}

/// What a document means. Meaningless where the context holds errors afterwards.
pub(super) fn lower(document: Document, context: &Context<'_>, cores: usize) -> Option<Config> {
    let Document { main, included } = document;
    let whole = Place::whole(main.place.file);
    let RawFile {
        listeners,
        trusted_proxies,
        admin,
        state_dir,
        include: _, // Followed before: `included` is what it led to.
        resolver,
        control_targets,
        limits,
        access_log,
        traces,
        workers,
        providers,
        eu_also,
        defaults,
        services,
    } = main.value?;

    let mut places = Places::default();
    let trusted_proxies = settings::trusted(context, trusted_proxies, &mut places.trusted_proxies);
    let nobody = trusted_proxies.is_empty();
    let listeners = listeners::listeners(context, listeners, nobody, &mut places.listeners);
    places.admin = admin.as_ref().map(|admin| admin.place);
    let admin = listeners::admin(context, admin);
    places.admin = places.admin.filter(|_| admin.is_some());
    listeners::refuse_shared_addresses(context, &listeners, admin.as_ref(), &places);

    let said = Said::join(RawIncluded { providers, services }, included);
    let area = provenance::area(context, eu_also);
    let providers = providers::providers(context, said.providers, &area, whole);
    places.providers.clone_from(&providers.places);
    let addresses = own_addresses(&listeners, admin.as_ref());
    let published = services::Published { defaults, services: said.services, providers, addresses };
    let topology = services::topology(context, published, &mut places.services, whole);

    #[cfg(not(feature = "otlp"))]
    traces::refuse(context, traces);
    let resolver = settings::resolver(context, resolver);
    let targets = &mut places.control_targets;
    let control_targets = settings::control_targets(context, control_targets, &resolver, targets);
    let config = Config {
        topology: topology.into(),
        listeners,
        admin,
        state_dir: settings::state_dir(context, state_dir),
        resolver,
        control_targets,
        limits: settings::limits(context, limits),
        trusted_proxies,
        access_log: settings::access_log(context, access_log),
        #[cfg(feature = "otlp")]
        traces: traces::traces(context, traces),
        workers: settings::workers(context, workers, cores),
        files: Vec::new(),
        lints: Vec::new(),
        spots: spots(&places.services, context),
    };
    if !context.complaints.has_errors() {
        lint::lint(&config, &places, context.complaints);
    }
    Some(config)
}

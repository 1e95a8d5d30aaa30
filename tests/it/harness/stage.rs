//! The stage of most tests: a first choice outside the EU, a fallback inside, the proxy before both.

use super::proxy::RunningProxy;
use super::recipe::Recipe;
use super::upstream::{FakeUpstream, Transport};

/// Two stand-ins and the proxy.
pub struct Stage {
    /// The first choice, of a provider with its seat in the US.
    pub us: FakeUpstream,
    /// The second, of one with its seat in Slovenia.
    pub eu: FakeUpstream,
    pub proxy: RunningProxy,
}

impl Stage {
    /// With both upstreams spoken to so, and whatever `more` adds to the file.
    pub async fn start(transport: Transport, more: impl FnOnce(Recipe) -> Recipe) -> Self {
        let us = FakeUpstream::start("us", transport).await;
        let eu = FakeUpstream::start("eu", transport).await;
        let recipe = more(Recipe::portal().upstream(&us, "US").upstream(&eu, "SI"));
        let proxy = RunningProxy::start(&recipe).await;
        Self { us, eu, proxy }
    }

    /// In cleartext, nothing added.
    pub async fn plain() -> Self {
        Self::start(Transport::Plain, |recipe| recipe).await
    }
}

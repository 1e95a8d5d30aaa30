//! A story as a trace.

use super::{Story, Told};
use crate::clock;
use crate::model::outcome::Outcome;
use crate::model::trace::{AttemptSpan, MOST_HOST, MOST_PATH, Trace};
use crate::proxy::trace::{Mark, Traced, beginning, method};
use crate::request::gate;

impl Story {
    /// Hands it over, to be sent.
    pub(super) fn hand_over(&self, traced: &Traced) {
        if let Some(tracer) = &self.worker.traces {
            tracer.hand_over(self.trace(traced));
        }
    }

    fn trace(&self, traced: &Traced) -> Trace {
        let named = self.host.get().and_then(|host| host.to_str().ok());
        let named = named.or_else(|| self.uri.authority().map(|authority| authority.as_str()));
        let host = named.and_then(gate::host_of).unwrap_or_default();
        let service = self.service.get();
        let (told, marks) = (self.attempts.borrow(), traced.attempts.borrow());
        let attempts = told.iter().zip(marks.iter());
        Trace {
            context: traced.context,
            before: traced.before,
            state: traced.state.clone(),
            began: self.began.1,
            took: self.elapsed(),
            method: method(&self.method),
            scheme: self.proto.as_str(),
            host: beginning(host, MOST_HOST),
            url_path: beginning(self.uri.path(), MOST_PATH),
            version: match super::protocol(self.version) {
                "HTTP/2.0" => "2",
                "HTTP/1.0" => "1.0",
                _ => "1.1",
            },
            status: self.status.get().map(|status| status.as_u16()),
            service: service.map(|(state, generation)| (state.service.clone(), generation.get())),
            outcome: self.outcome(),
            attempts: attempts.map(|(told, mark)| self.span(told, mark)).collect(),
        }
    }

    fn span(&self, told: &Told, mark: &Mark) -> AttemptSpan {
        let ended = mark.ended.unwrap_or_else(clock::now);
        AttemptSpan {
            span: mark.span,
            after: mark.began.saturating_duration_since(self.began.0),
            took: ended.saturating_duration_since(mark.began),
            provider: told.upstream.key.provider.clone(),
            jurisdiction: told.jurisdiction.as_str(),
            endpoint: told.upstream.key.endpoint.clone(),
            status: told.status.map(|status| status.as_u16()),
            outcome: told.outcome(),
            // What was cancelled, or left by its client, went wrong at nobody's.
            failed: matches!(told.outcome, Some(Outcome::Failure(_) | Outcome::OriginError)),
        }
    }
}

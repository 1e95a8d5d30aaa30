//! What there is: each path and method with what it takes and how it can answer. The router goes by
//! this table and `/openapi.json` is written from it, so that neither can know more than the other;
//! that each answer is as told is held by `tests/told.rs`.

use http::Method;
use schemars::{Schema, SchemaGenerator};

use super::command::{ObeyedView, OrderBody};
use super::console::File;
use super::explain::Explanation;
use super::history::JournalPage;
use super::reload::LoadedView;
use super::view::{OrderView, Status};

mod drills;

/// What is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// A file of the console.
    Console(File),
    /// Is it alive?
    Live,
    /// Does it take traffic?
    Ready,
    /// The figures.
    Metrics,
    /// This table, as OpenAPI.
    Document,
    /// What is thought.
    Status,
    /// Why one URL goes where it goes.
    Explain,
    /// What happened.
    Journal,
    /// Both, as they come.
    Events,
    /// What is ordered.
    Orders,
    /// An order.
    GiveOrder,
    /// An order taken back.
    TakeBack,
    /// What is, or was, rehearsed.
    Drills,
    /// A rehearsal.
    BeginDrill,
    /// The end of one.
    StopDrill,
    /// The file, now.
    Reload,
}

/// By which method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// `GET`, and `HEAD` too.
    Get,
    /// `POST`
    Post,
    /// `DELETE`
    Delete,
}

impl Verb {
    /// As an `Allow` header says it.
    pub const fn allowed(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }

    /// As OpenAPI says it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }
}

/// Who may do it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Anybody: it says nothing about the system but that it runs.
    Anybody,
    /// Whoever `guard` admits.
    Admitted,
}

/// One method of one path.
#[derive(Debug)]
pub struct Operation {
    /// By which method.
    pub verb: Verb,
    /// With names of its segments in braces.
    pub url_path: &'static str,
    /// What is done.
    pub action: Action,
    /// Who may.
    pub access: Access,
    /// In a sentence.
    pub summary: &'static str,
    /// Of the query.
    pub query: &'static [Parameter],
    /// What has to be sent, as JSON.
    pub takes: Option<Shape>,
    /// How it can answer, besides how every one can.
    pub answers: &'static [Answer],
}

/// A parameter of a query.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// What it says.
    pub means: &'static str,
    /// A regular expression of ECMA-262.
    pub pattern: &'static str,
    /// One that works.
    pub example: &'static str,
}

/// The schema of a JSON body.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A way to answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// When it is given.
    pub means: &'static str,
    /// Its body.
    pub body: Media,
}

/// What a body is.
#[derive(Clone, Copy, Debug)]
pub enum Media {
    /// JSON of this shape.
    Json(Shape),
    /// A problem document.
    Problem,
    /// Text of this media type.
    Text(&'static str),
}

const fn says(status: u16, means: &'static str, body: Media) -> Answer {
    Answer { status, means, body }
}

const fn problem(status: u16, means: &'static str) -> Answer {
    says(status, means, Media::Problem)
}

/// How whoever is not admitted is answered.
pub const STRANGERS: &[Answer] = &[
    problem(401, "A token is set and not shown."),
    problem(403, "A page of another origin asks."),
    problem(421, "No token is set, and the host asked for is neither an address nor localhost."),
];

const PLAIN: Media = Media::Text("text/plain");

const fn open(url_path: &'static str, action: Action, summary: &'static str) -> Operation {
    Operation {
        verb: Verb::Get,
        url_path,
        action,
        access: Access::Anybody,
        summary,
        query: &[],
        takes: None,
        answers: &[],
    }
}

const fn get(url_path: &'static str, action: Action, summary: &'static str) -> Operation {
    Operation { access: Access::Admitted, ..open(url_path, action, summary) }
}

/// All of it, by path.
pub static OPERATIONS: &[Operation] = &[
    Operation {
        answers: &[says(200, "The page.", Media::Text("text/html"))],
        ..open("/", Action::Console(File::Page), "The console.")
    },
    Operation {
        answers: &[says(200, "Its style.", Media::Text("text/css"))],
        ..open("/console.css", Action::Console(File::Style), "The console's style.")
    },
    Operation {
        answers: &[says(200, "Its script.", Media::Text("text/javascript"))],
        ..open("/console.js", Action::Console(File::Script), "The console's script.")
    },
    Operation {
        answers: &[says(200, "Its icon.", Media::Text("image/svg+xml"))],
        ..open("/icon.svg", Action::Console(File::Icon), "The console's icon.")
    },
    Operation {
        answers: &[says(200, "It is alive.", PLAIN)],
        ..open("/livez", Action::Live, "Whether the process is alive.")
    },
    Operation {
        answers: &[
            says(200, "It is ready.", PLAIN),
            problem(503, "It starts or drains; `reasons` says which."),
        ],
        ..open("/readyz", Action::Ready, "Whether traffic should be sent here now.")
    },
    Operation {
        answers: &[says(200, "Prometheus' text exposition.", PLAIN)],
        ..get("/metrics", Action::Metrics, "Every figure.")
    },
    Operation {
        answers: &[says(200, "An OpenAPI 3.1 document.", Media::Json(any_object))],
        ..get("/openapi.json", Action::Document, "This document.")
    },
    Operation {
        answers: &[says(200, "As of the last drain.", Media::Json(shape::<Status>))],
        ..get("/v1/status", Action::Status, "Providers, services, upstreams, orders, transitions.")
    },
    Operation {
        query: &[
            Parameter {
                name: "url",
                required: true,
                means: "A whole URL.",
                pattern: r"^https?://[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[1-9][0-9]{0,3})?/[-a-zA-Z0-9/._~]*$",
                example: "https://www.portal.example/page",
            },
            Parameter {
                name: "method",
                required: false,
                means: "A method; `GET` where none is named.",
                pattern: "^[A-Z]{1,20}$",
                example: "POST",
            },
        ],
        answers: &[
            says(
                200,
                "Who would be asked, in which order, and why.",
                Media::Json(shape::<Explanation>),
            ),
            problem(400, "No whole URL, or no method."),
            problem(404, "No route takes the URL: clients get 404."),
        ],
        ..get("/v1/explain", Action::Explain, "Why an URL goes where it goes.")
    },
    Operation {
        query: &[Parameter {
            name: "since",
            required: false,
            means: "A span as `24h`, or a moment as `2025-11-18T11:00:00Z`; `24h` where none is named.",
            pattern: r"^([1-9][0-9]{0,4}[smh]|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$",
            example: "24h",
        }],
        answers: &[
            says(
                200,
                "The last 4,096 entries, as far as they are as new.",
                Media::Json(shape::<JournalPage>),
            ),
            problem(400, "`since` is neither a span nor a moment."),
        ],
        ..get("/v1/journal", Action::Journal, "Why each transition happened.")
    },
    Operation {
        answers: &[
            says(200, EVENTS, Media::Text("text/event-stream")),
            problem(503, "As many read as are served."),
        ],
        ..get("/v1/events", Action::Events, "Status and transitions as they come.")
    },
    Operation {
        answers: &[says(
            200,
            "In the order in which they were given.",
            Media::Json(shape::<Vec<OrderView>>),
        )],
        ..get("/v1/overrides", Action::Orders, "The operator's orders that stand.")
    },
    Operation {
        verb: Verb::Post,
        takes: Some(shape::<OrderBody>),
        answers: &[
            says(200, "It is in force.", Media::Json(shape::<ObeyedView>)),
            problem(400, "The body is no order."),
            problem(404, "There is no such provider or service, or not through that provider."),
            problem(408, "The body did not come."),
            problem(409, "Residency keeps the provider out, or too many orders stand."),
            problem(413, "The body is too long, or broke off."),
            problem(415, "The body is not application/json."),
            problem(503, "Too many orders wait, or the process ends."),
        ],
        ..get(
            "/v1/overrides",
            Action::GiveOrder,
            "Gives an order, in place of any other for its target.",
        )
    },
    TAKE_BACK,
    Operation { url_path: "/v1/overrides/{provider}/{service}", ..TAKE_BACK },
    drills::ALL,
    drills::BEGIN,
    drills::STOP,
    Operation {
        verb: Verb::Post,
        answers: &[
            says(200, "It is in force.", Media::Json(shape::<LoadedView>)),
            problem(409, "There is no file: the program made this configuration itself."),
            problem(422, "The old configuration serves on; `reasons` says why."),
            problem(503, "Too many wait, it takes long, or the process ends."),
        ],
        ..get("/v1/reload", Action::Reload, "Loads the file now, whether or not it has changed.")
    },
];

const TAKE_BACK: Operation = Operation {
    verb: Verb::Delete,
    answers: &[
        says(200, "It is taken back, or none stood.", Media::Json(shape::<ObeyedView>)),
        problem(404, "There is no such provider or service, or not through that provider."),
        problem(409, "Residency keeps the provider out."),
        problem(503, "Too many orders wait, or the process ends."),
    ],
    ..get(
        "/v1/overrides/{provider}",
        Action::TakeBack,
        "Takes the order for exactly this target back.",
    )
};

const EVENTS: &str = "Server-sent events: `status` with a body of `/v1/status` every second and at \
    each change, `transition` with an entry of `/v1/journal`. Who reads too slowly is cut off.";

fn shape<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

/// Everything that can be done at a path of a request.
pub fn at(url_path: &str) -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(move |operation| fits(operation.url_path, url_path))
}

/// Segment by segment; one in braces takes any that is not empty.
fn fits(template: &str, url_path: &str) -> bool {
    let (mut names, mut segments) = (template.split('/'), url_path.split('/'));
    loop {
        match (names.next(), segments.next()) {
            (None, None) => return true,
            (Some(name), Some(segment)) if name == segment => {}
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => {}
            _ => return false,
        }
    }
}

impl Operation {
    /// Whether it answers this method.
    pub fn takes_method(&self, method: &Method) -> bool {
        self.verb.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// Every way in which it can answer, besides 405 and 500.
    pub fn all_answers(&self) -> impl Iterator<Item = &'static Answer> {
        let strangers = match self.access {
            Access::Anybody => &[][..],
            Access::Admitted => STRANGERS,
        };
        self.answers.iter().chain(strangers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_what_has_its_shape() {
        for (template, url_path, taken) in [
            ("/", "/", true),
            ("/v1/status", "/v1/status", true),
            ("/v1/status", "/v1/status/", false),
            ("/v1/overrides/{provider}", "/v1/overrides/bunny", true),
            ("/v1/overrides/{provider}", "/v1/overrides/", false),
            ("/v1/overrides/{provider}", "/v1/overrides/bunny/portal", false),
            ("/v1/overrides/{provider}/{service}", "/v1/overrides/bunny/portal", true),
        ] {
            assert_eq!(fits(template, url_path), taken, "{template} {url_path}");
        }
    }
}

//! Drills, as the table of operations has them.

use super::{Action, Media, Operation, Verb, get, problem, says, shape};
use crate::admin::drill::{DrillBody, DrillView};

/// Those that are on and the last that ended.
pub(super) const ALL: Operation = Operation {
    answers: &[says(
        200,
        "Those that are on, then the last that ended, latest first.",
        Media::Json(shape::<Vec<DrillView>>),
    )],
    ..get("/v1/drills", Action::Drills, "Failovers that are, or were, rehearsed.")
};

/// A new one.
pub(super) const BEGIN: Operation = Operation {
    verb: Verb::Post,
    takes: Some(shape::<DrillBody>),
    answers: &[
        says(200, "It has begun.", Media::Json(shape::<DrillView>)),
        problem(400, "The body asks for no drill."),
        problem(404, "There is no such service."),
        problem(408, "The body did not come."),
        problem(409, "One is on, or all is not well."),
        problem(413, "The body is too long, or broke off."),
        problem(415, "The body is not application/json."),
        problem(503, "Too many orders wait, or the process ends or is replaced."),
    ],
    ..get("/v1/drills", Action::BeginDrill, "Rehearses a failover on live traffic.")
};

/// An end to one.
pub(super) const STOP: Operation = Operation {
    verb: Verb::Delete,
    answers: &[
        says(200, "It has ended.", Media::Json(shape::<DrillView>)),
        problem(404, "None is on."),
        problem(503, "Too many orders wait, or the process ends or is replaced."),
    ],
    ..get("/v1/drills/{service}", Action::StopDrill, "Ends a drill.")
};

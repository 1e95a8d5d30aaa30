//! `bascule drain`, `force-out`, `force-in`, `auto`: the operator's word, in force when the verb ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use http::Method;

use super::api::{Where, plain};
use crate::admin::command::{ObeyedView, OrderBody, OrderName};

/// Arguments of the verbs that order something.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// PROVIDER or SERVICE/PROVIDER.
    #[arg(value_name = "TARGET")]
    target: String,
    /// How long it stands, as 30m; without it, until `bascule auto`.
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    at: Where,
}

/// Arguments of `auto`.
#[derive(Debug, clap::Args)]
pub(super) struct AutoArguments {
    /// PROVIDER or SERVICE/PROVIDER.
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    at: Where,
}

/// Orders.
pub(super) fn run(arguments: Arguments, order: OrderName) -> anyhow::Result<ExitCode> {
    let Arguments { target, lasts, reason, at } = arguments;
    let body = serde_json::to_vec(&OrderBody { target, order, lasts, reason })?;
    told(&at, Method::POST, "/v1/overrides", body.into())
}

/// Takes an order back.
pub(super) fn auto(arguments: AutoArguments) -> anyhow::Result<ExitCode> {
    let AutoArguments { target, at } = arguments;
    let target = match target.split_once('/') {
        None => format!("/v1/overrides/{target}"),
        Some((service, provider)) => format!("/v1/overrides/{provider}/{service}"),
    };
    told(&at, Method::DELETE, &target, Bytes::new())
}

fn told(at: &Where, method: Method, target: &str, body: Bytes) -> anyhow::Result<ExitCode> {
    let obeyed: ObeyedView = at.read(&at.call(method, target, body)?)?;
    let mut out = std::io::stdout().lock();
    out.write_all(words(&obeyed).as_bytes()).and_then(|()| out.flush()).context("printing")?;
    Ok(ExitCode::SUCCESS)
}

fn words(obeyed: &ObeyedView) -> String {
    let ObeyedView { target, order, generation, changed, upstreams, .. } = obeyed;
    let ObeyedView { barred, closed, closed_routes, others, .. } = obeyed;
    let order = order.replace('_', "-");
    let mut out = if *changed {
        let about =
            if upstreams.is_empty() { "no upstream".to_owned() } else { upstreams.join(", ") };
        format!("{target}: {order}, in force in snapshot {generation} for {about}\n")
    } else {
        format!("{target}: no order stood, nothing to take back\n")
    };
    let mut add = |line: String| out.write_str(&line).expect("a String takes everything");
    if !others.is_empty() {
        add(format!("an order of its own stands for {}\n", others.join(", ")));
    }
    for service in barred {
        add(format!("{service}: policy keeps this provider out, whatever is ordered\n"));
    }
    for service in closed {
        add(format!("warning: {service} has no upstream left, clients get its page\n"));
    }
    for routes in closed_routes {
        let (service, words) = (&routes.service, routes.words());
        add(format!(
            "warning: {service} has no upstream left for {words}, clients get its page there\n"
        ));
    }
    out.lines().map(|line| plain(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::command::ClosedRoutesView;

    #[test]
    fn what_an_order_did_and_did_not_do_is_said() {
        let obeyed = ObeyedView {
            target: "bunny".to_owned(),
            order: "force_out".to_owned(),
            generation: 7,
            changed: true,
            upstreams: vec!["portal/bunny".to_owned(), "forms/bunny".to_owned()],
            barred: vec!["secret".to_owned()],
            closed: vec!["forms".to_owned()],
            closed_routes: vec![ClosedRoutesView {
                service: "portal".to_owned(),
                residency: "eu-only".to_owned(),
                require: vec!["SecNumCloud".to_owned()],
            }],
            others: vec!["portal/bunny".to_owned()],
        };
        assert_eq!(
            words(&obeyed),
            "bunny: force-out, in force in snapshot 7 for portal/bunny, forms/bunny\n\
             an order of its own stands for portal/bunny\n\
             secret: policy keeps this provider out, whatever is ordered\n\
             warning: forms has no upstream left, clients get its page\n\
             warning: portal has no upstream left for eu-only, require SecNumCloud, clients get its page there\n"
        );
    }
}

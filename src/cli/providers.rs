//! `bascule providers`: whom the catalogue knows, as a table, or one of them whole; each fact with what
//! it rests on.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::config::catalogue::{self, Fact, Fingerprint, Known, Origin, Reach, ReachKind, Sure};
use crate::config::nearest;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One provider, whole.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Prints it as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(Arguments { name, json }: Arguments) -> anyhow::Result<ExitCode> {
    let text = match (name, json) {
        (None, false) => table(),
        (None, true) => {
            let sheets: Vec<_> = catalogue::all().iter().map(|known| &known.sheet).collect();
            serde_json::to_string_pretty(&sheets)? + "\n"
        }
        (Some(name), json) => {
            let known = find(&name)?;
            if json { serde_json::to_string_pretty(&known.sheet)? + "\n" } else { whole(known) }
        }
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("printing")?;
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> anyhow::Result<&'static Known> {
    if let Some(known) = catalogue::known(name) {
        return Ok(known);
    }
    let names = catalogue::all().iter().map(|known| known.sheet.id.as_str());
    match nearest(name, names) {
        Some(near) => bail!("the catalogue does not know `{name}`; the nearest name is `{near}`"),
        None => {
            bail!("the catalogue does not know `{name}`; `bascule providers` lists whom it knows")
        }
    }
}

/// One line each.
fn table() -> String {
    let head = ["PROVIDER", "SEAT", "EU", "LAW FROM OUTSIDE", "SHARES", "ORIGIN", "NAME"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(catalogue::all().iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out.push_str(
        "\n? is unverified. `bascule providers NAME` shows one whole, with what each fact rests on. No legal \
         advice: what your file says wins.\n",
    );
    out
}

fn row(known: &Known) -> [String; 7] {
    let sheet = &known.sheet;
    let marked = |text: &str, sure: Sure| match sure {
        Sure::Unverified => format!("{text}?"),
        Sure::Verified | Sure::Source => text.to_owned(),
    };
    let mut shares: Vec<String> = known.substrates.iter().map(ToString::to_string).collect();
    shares.extend(sheet.perhaps_on.iter().map(|name| format!("{name}?")));
    let eu = if known.seat.is_eu_member() { "yes" } else { "no" };
    [
        sheet.id.clone(),
        marked(known.seat.as_str(), sheet.seat.sure),
        eu.to_owned(),
        marked(&reach(&sheet.reach), sheet.reach.sure),
        shares.join(", "),
        marked(origin(sheet.origin.is), sheet.origin.sure),
        sheet.name.clone(),
    ]
}

fn reach(reach: &Reach) -> String {
    let by = reach.by.join(", ");
    match reach.is {
        ReachKind::Direct => by,
        ReachKind::Disputed => format!("disputed: {by}"),
        ReachKind::NoneKnown => "none known".to_owned(),
    }
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Any => "any server",
        Origin::OwnProducts => "its own products",
    }
}

/// Everything of one, a line a fact.
fn whole(known: &Known) -> String {
    let sheet = &known.sheet;
    let mut out = format!("{} ({})\n", sheet.id, sheet.name);
    let mut add = |what: &str, is: &str, sure: Sure, from: Option<&String>| {
        let from = from.map(|url| format!(", {url}")).unwrap_or_default();
        let line = format!("  {what:<12}{is}  [{}{from}]\n", sure.as_str());
        out.write_str(&line).expect("a String takes everything");
    };
    let listed = |fact: &Fact<Vec<String>>| fact.is.join(", ");
    add("entity", &sheet.entity.is, sheet.entity.sure, sheet.entity.from.as_ref());
    let eu = if known.seat.is_eu_member() { "in the EU" } else { "outside the EU" };
    let seat = format!("{} ({eu})", known.seat);
    add("seat", &seat, sheet.seat.sure, sheet.seat.from.as_ref());
    add("law", &reach(&sheet.reach), sheet.reach.sure, sheet.reach.from.as_ref());
    if let Some(fact) = &sheet.substrate {
        add("substrate", &listed(fact), fact.sure, fact.from.as_ref());
    }
    if !sheet.perhaps_on.is_empty() {
        add("perhaps on", &sheet.perhaps_on.join(", "), Sure::Unverified, None);
    }
    add("origin", origin(sheet.origin.is), sheet.origin.sure, sheet.origin.from.as_ref());
    if let Some(fact) = &sheet.names {
        add("names", &listed(fact), fact.sure, fact.from.as_ref());
    }
    for fingerprint in &sheet.fingerprints {
        add("answers", &looks(fingerprint), fingerprint.sure, fingerprint.from.as_ref());
    }
    if let Some(errors) = &sheet.errors {
        for line in habits(errors) {
            add("errors", &line, errors.sure, errors.from.as_ref());
        }
    }
    if let Some(fact) = &sheet.status {
        add("status page", &fact.is, fact.sure, fact.from.as_ref());
    }
    if let Some(notes) = &sheet.notes {
        writeln!(out, "  {:<12}{notes}", "notes").expect("a String takes everything");
    }
    out
}

fn looks(fingerprint: &Fingerprint) -> String {
    match (&fingerprint.begins, &fingerprint.contains) {
        (Some(text), _) => format!("{}: {text}…", fingerprint.header),
        (None, Some(text)) => format!("{}: …{text}…", fingerprint.header),
        (None, None) => fingerprint.header.clone(),
    }
}

fn habits(errors: &catalogue::Errors) -> Vec<String> {
    let codes = |codes: &[u16]| codes.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    for (list, means) in [
        (&errors.leg, "it could not reach the origin, or got no usable answer"),
        (&errors.own, "its own failure"),
        (&errors.replaced, "its page stands in place of the origin's, the marker is lost"),
    ] {
        if !list.is_empty() {
            lines.push(format!("{}: {means}", codes(list)));
        }
    }
    lines.extend(errors.own_page.as_ref().map(|page| {
        let leg = page.leg.join("…, ");
        format!("only its own pages carry {} ({leg}…: the way to the origin)", page.header)
    }));
    lines
}

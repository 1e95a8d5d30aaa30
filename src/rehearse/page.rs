//! Replayed outages as one page of HTML: no script, nothing loaded from anywhere, light or dark as
//! the reader's system is, readable on a phone.
//!
//! Everything that comes from a file is escaped; a link is one only when it is plain http(s).

mod drawing;
pub mod picture;

use std::fmt::{self, Write};

use super::expect::percent;
use super::report::{By, Check, Line, Report, clock};
use crate::model::place::Jurisdiction;

const STYLE: &str = include_str!("page/style.css");
/// A page needs its own style and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page.
pub fn html(reports: &[Report]) -> String {
    let mut out = String::new();
    write_page(reports, &mut out).expect("a String takes everything");
    out
}

/// Text as it may stand in an element or a quoted attribute.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters are no text (HTML, section 13.1.4).
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

fn write_page(reports: &[Report], out: &mut String) -> fmt::Result {
    let title = match reports {
        [one] => format!("Replay of {}", one.scenario),
        many => format!("Replay of {} outages", many.len()),
    };
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <title>{0}</title>\n<style>\n{STYLE}</style></head><body>\n<h1>{0}</h1>",
        escape(&title)
    )?;
    writeln!(
        out,
        "<p class=\"soft\">What this configuration would have done, decided in virtual time by the \
         code that runs in production. Lost are requests that a healthy permitted upstream could \
         have served; saved are those that would have been lost through the first provider \
         alone.</p>"
    )?;
    if reports.len() > 1 {
        write_overview(reports, out)?;
    }
    for report in reports {
        write_outage(report, out)?;
    }
    writeln!(out, "</body></html>")
}

fn write_overview(reports: &[Report], out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "<section><div class=\"scroll\"><table class=\"overview\"><tr><th>outage</th><th class=\"number\">lost</th>\
         <th class=\"number\">without failover</th><th class=\"number\">detected after</th>\
         <th class=\"number\">flips</th><th>as expected</th></tr>"
    )?;
    for report in reports {
        let name = escape(&report.scenario);
        let (class, holds) = if report.holds { ("holds", "yes") } else { ("broken", "no") };
        writeln!(
            out,
            "<tr><td><a href=\"#{name}\">{name}</a></td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"{class}\">{holds}</td></tr>",
            grouped(report.errors),
            grouped(report.errors_without_failover),
            detected(report),
            report.flips,
        )?;
    }
    writeln!(out, "</table></div></section>")
}

fn write_outage(report: &Report, out: &mut String) -> fmt::Result {
    let name = escape(&report.scenario);
    let (class, verdict) =
        if report.holds { ("holds", "as expected") } else { ("broken", "not as expected") };
    writeln!(
        out,
        "<section id=\"{name}\"><header><h2>{name}</h2>\
         <span class=\"verdict {class}\">{verdict}</span></header>"
    )?;
    for text in [&report.about, &report.note].into_iter().flatten() {
        writeln!(out, "<p>{}</p>", escape(text))?;
    }
    write_source(report, out)?;
    write_figures(report, out)?;
    let title = format!(
        "Faults, share of each provider and lost requests over time: {} flips, {} of {} requests \
         lost, {} without failover.",
        report.flips, report.errors, report.requests, report.errors_without_failover
    );
    out.push_str(&drawing::svg(&report.picture, &title));
    write_legend(report, out)?;
    write_checks(&report.expect, out)?;
    write_timeline(&report.timeline, out)?;
    writeln!(out, "</section>")
}

fn write_source(report: &Report, out: &mut String) -> fmt::Result {
    let mut parts = Vec::new();
    parts.extend(report.start_utc.as_ref().map(|start| format!("Began {} UTC.", escape(start))));
    parts.extend(report.source.as_ref().map(|source| {
        let text = escape(source);
        let is_link = source.starts_with("https://") || source.starts_with("http://");
        if is_link {
            format!("Source: <a href=\"{text}\" rel=\"noreferrer\">{text}</a>")
        } else {
            text
        }
    }));
    parts.extend(report.basis.as_ref().map(|basis| format!("Basis: {}.", escape(basis))));
    if parts.is_empty() {
        Ok(())
    } else {
        writeln!(out, "<p class=\"soft\">{}</p>", parts.join(" "))
    }
}

fn write_figures(report: &Report, out: &mut String) -> fmt::Result {
    let share = |part: u64| percent(part as f64 / report.requests.max(1) as f64);
    let figures = [
        ("lost", grouped(report.errors), share(report.errors)),
        (
            "lost without failover",
            grouped(report.errors_without_failover),
            share(report.errors_without_failover),
        ),
        ("detected after", detected(report), "from the first faulty answer".to_owned()),
        ("flips", report.flips.to_string(), "of the first candidate".to_owned()),
        ("retries", grouped(report.retries), format!("of {} requests", grouped(report.requests))),
        ("outside the EU", percent(report.share_outside_eu), "of the requests".to_owned()),
    ];
    writeln!(out, "<dl class=\"figures\">")?;
    for (what, figure, more) in figures {
        writeln!(out, "<div><dt>{what}</dt><dd>{figure}<small>{more}</small></dd></div>")?;
    }
    writeln!(out, "</dl>")
}

fn write_legend(report: &Report, out: &mut String) -> fmt::Result {
    let picture = &report.picture;
    writeln!(out, "<ul class=\"legend\">")?;
    for (lane, provider) in picture.providers.iter().enumerate() {
        let law = match provider.jurisdiction {
            Some(Jurisdiction::Eu) => "EU",
            Some(Jurisdiction::NonEu) => "outside the EU",
            None => "barred by policy",
        };
        let class = drawing::provider_class(lane);
        writeln!(out, "<li><i class=\"{class}\"></i>{} ({law})</li>", escape(&provider.name))?;
    }
    writeln!(
        out,
        "<li><i class=\"is-saved\"></i>saved</li><li><i class=\"is-lost\"></i>lost, drawn at least \
         a hair high</li></ul>"
    )?;
    if picture.flips.is_empty() {
        return Ok(());
    }
    writeln!(out, "<details><summary>{} flips</summary><ol>", picture.flips.len())?;
    for flip in &picture.flips {
        writeln!(out, "<li>{} {}</li>", clock(flip.at), escape(&flip.words))?;
    }
    writeln!(out, "</ol></details>")
}

fn write_checks(checks: &[Check], out: &mut String) -> fmt::Result {
    if checks.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<div class=\"scroll\"><table><tr><th>expected</th><th>wanted</th><th>found</th><th></th></tr>"
    )?;
    for Check { key, wanted, found, holds } in checks {
        let (class, verdict) =
            if *holds { ("holds", "holds") } else { ("broken", "does not hold") };
        let (wanted, found) = (escape(wanted), escape(found));
        writeln!(
            out,
            "<tr><td>{key}</td><td>{wanted}</td><td>{found}</td><td class=\"{class}\">{verdict}</td></tr>"
        )?;
    }
    writeln!(out, "</table></div>")
}

fn write_timeline(timeline: &[Line], out: &mut String) -> fmt::Result {
    writeln!(out, "<details><summary>What happened, {} lines</summary>", timeline.len())?;
    writeln!(out, "<div class=\"scroll\"><table>")?;
    for line in timeline {
        let class = if line.by == By::Outage { " class=\"outage\"" } else { "" };
        let (at, text) = (clock(line.t_s), escape(&line.text));
        writeln!(out, "<tr{class}><td class=\"time\">{at}</td><td>{text}</td></tr>")?;
    }
    writeln!(out, "</table></div></details>")
}

fn detected(report: &Report) -> String {
    report.detected_after_s.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.2} s"))
}

/// `1 234 567`, with narrow blanks that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::replay::{self, Setup};
    use crate::rehearse::scenario::Scenario;

    fn page_of(text: &str) -> String {
        let scenario = Scenario::read(text).expect("a scenario");
        html(&[Report::new(&scenario, &replay::play(&scenario, &Setup::default(), 1))])
    }

    #[test]
    fn nothing_of_a_file_becomes_markup() {
        let page = page_of(
            "name: '<script>alert(1)</script>'\nabout: 'a \" onload=x & <b>'\n\
             source: 'javascript:alert(2)'\nupstreams: [one, two]\ntimeline:\n\
             - {t_s: 0, provider: one, mode: reset, match: {path: '/<i>'}}\n\
             - {t_s: 5, provider: one, mode: ok}\n",
        );
        for tag in ["<script", "<b>", "<i>", "href=\"javascript"] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn a_page_loads_nothing() {
        let page = page_of(
            "name: x\nsource: https://status.example/1\nupstreams: [one, two]\ntimeline:\n\
             - {t_s: 0, provider: one, mode: reset}\n- {t_s: 5, provider: one, mode: ok}\n",
        );
        for loading in ["src=", "@import", "url(", "<link", "<script", "<img"] {
            assert!(!page.contains(loading), "{loading}");
        }
        assert!(page.contains("<svg") && page.contains("href=\"https://status.example/1\""));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(999), "999");
    }
}

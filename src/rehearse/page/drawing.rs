//! A [`Picture`] as SVG: places across are per cent and heights are points, so that it fits any
//! width while its text stays readable.

use std::fmt::{self, Write};

use super::escape;
use super::picture::Picture;
use crate::rehearse::tally::series::Cell;

/// Heights, in points.
const FAULT: u32 = 34;
const SHARES: u32 = 120;
const LOSSES: u32 = 90;
const TITLE: u32 = 20;
const AXIS: u32 = 22;
/// Room above everything for the flips' numbers.
const FLIPS: u32 = 20;
/// Any loss is at least so high, in per cent of its plot.
const LEAST_LOSS: f64 = 2.5;
/// Flips closer than this to the one before have no number, in per cent of the width.
const CROWDED: f64 = 3.0;
/// Most marks on the axis of time.
const MARKS: f64 = 6.0;
/// Between two marks, in seconds.
const STEPS: [u32; 17] = [
    5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400,
    172_800,
];
/// Full scales of the losses.
const SCALES: [f64; 7] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// The drawing.
pub(super) fn svg(picture: &Picture, title: &str) -> String {
    let mut out = String::new();
    Drawing { picture, out: &mut out }.draw(title).expect("a String takes everything");
    out
}

struct Drawing<'a> {
    picture: &'a Picture,
    out: &'a mut String,
}

impl Drawing<'_> {
    fn draw(&mut self, title: &str) -> fmt::Result {
        let faults_end = FLIPS + FAULT * self.picture.faults.len() as u32;
        let shares = faults_end + TITLE;
        let losses = shares + SHARES + TITLE;
        let bottom = losses + LOSSES;
        let height = bottom + AXIS;
        writeln!(
            self.out,
            r#"<svg class="plot" height="{height}" role="img" aria-label="{}">"#,
            escape(title)
        )?;
        self.marks(faults_end, bottom)?;
        self.shares(shares)?;
        self.losses(losses)?;
        self.flips(bottom)?;
        for place in 0..self.picture.faults.len() {
            self.fault(place, FLIPS + FAULT * place as u32)?;
        }
        writeln!(self.out, "</svg>")
    }

    /// A time as a place across, in per cent.
    fn across(&self, at: f64) -> f64 {
        let Picture { from, to, .. } = self.picture;
        ((at - from) / (to - from) * 100.0).clamp(0.0, 100.0)
    }

    /// One fault: its words, and below them a bar as strong as it is.
    fn fault(&mut self, place: usize, top: u32) -> fmt::Result {
        let band = &self.picture.faults[place];
        let class = if band.is_felt { "fault" } else { "unfelt" };
        let (text, bar) = (top + 13, top + 18);
        writeln!(self.out, r#"<text class="name" y="{text}">{}</text>"#, escape(&band.words))?;
        writeln!(self.out, r#"<rect class="bed" y="{bar}" width="100%" height="10"/>"#)?;
        let wide = 100.0 / band.shares.len().max(1) as f64;
        for (first, length, share) in runs(&band.shares) {
            let (x, width) = (first as f64 * wide, length as f64 * wide);
            // A faint fault is still seen.
            let strength = 0.25 + 0.75 * share;
            writeln!(
                self.out,
                r#"<rect class="{class}" x="{x:.2}%" y="{bar}" width="{width:.2}%" height="10" fill-opacity="{strength:.2}"/>"#
            )?;
        }
        Ok(())
    }

    /// The axis of time, with lines through both plots.
    fn marks(&mut self, top: u32, bottom: u32) -> fmt::Result {
        let Picture { from, to, .. } = self.picture;
        let wanted = (to - from) / MARKS;
        let step = STEPS.into_iter().find(|step| f64::from(*step) >= wanted);
        let step = f64::from(step.unwrap_or(STEPS[STEPS.len() - 1]));
        let mut at = (from / step).ceil() * step;
        while at <= *to {
            let x = self.across(at);
            let anchor = if x > 94.0 {
                "end"
            } else if x < 4.0 {
                "start"
            } else {
                "middle"
            };
            let text = bottom + 15;
            writeln!(
                self.out,
                r#"<line class="grid" x1="{x:.2}%" x2="{x:.2}%" y1="{top}" y2="{bottom}"/><text x="{x:.2}%" y="{text}" text-anchor="{anchor}">{}</text>"#,
                mark(at, step)
            )?;
            at += step;
        }
        Ok(())
    }

    /// Who served: a stack of shares.
    fn shares(&mut self, top: u32) -> fmt::Result {
        let columns = &self.picture.columns;
        self.plot("who answered, of 100 %", top, SHARES)?;
        let all = |cell: &Cell| cell.served.iter().map(|n| f64::from(*n)).sum::<f64>();
        let up_to = |cell: &Cell, lane: usize| {
            let served: f64 = cell.served.iter().take(lane).map(|n| f64::from(*n)).sum();
            if all(cell) > 0.0 { served / all(cell) * 100.0 } else { 0.0 }
        };
        for lane in 0..self.picture.providers.len() {
            let edges = columns.iter().map(|cell| (up_to(cell, lane), up_to(cell, lane + 1)));
            let edges: Vec<(f64, f64)> = edges.collect();
            if edges.iter().any(|(low, high)| high > low) {
                let class = provider_class(lane);
                writeln!(self.out, r#"<path class="{class}" d="{}"/>"#, area(&edges))?;
            }
        }
        writeln!(self.out, "</svg>")
    }

    /// What was lost, before what would have been.
    fn losses(&mut self, top: u32) -> fmt::Result {
        let share = |part: f32, cell: &Cell| {
            let requests = cell.served.iter().sum::<f32>().max(part);
            if requests > 0.0 { f64::from(part / requests) } else { 0.0 }
        };
        let columns = &self.picture.columns;
        let losses: Vec<(f64, f64)> = columns
            .iter()
            .map(|cell| (share(cell.lost, cell), share(cell.lost_without, cell)))
            .collect();
        let most = losses.iter().map(|(lost, without)| lost.max(*without)).fold(0.0, f64::max);
        let scale = SCALES.into_iter().find(|scale| *scale >= most).unwrap_or(1.0);
        let title = format!("requests lost, of {} %", scale * 100.0);
        self.plot(&title, top, LOSSES)?;
        let high = |share: f64| (share / scale * 100.0).min(100.0);
        let saved: Vec<(f64, f64)> = losses.iter().map(|(_, w)| (0.0, high(*w))).collect();
        writeln!(self.out, r#"<path class="saved" d="{}"/>"#, area(&saved))?;
        let seen = |lost: f64| if lost > 0.0 { high(lost).max(LEAST_LOSS) } else { 0.0 };
        let lost: Vec<(f64, f64)> = losses.iter().map(|(lost, _)| (0.0, seen(*lost))).collect();
        writeln!(self.out, r#"<path class="lost" d="{}"/></svg>"#, area(&lost))
    }

    /// Begins a plot whose columns are one wide and whose height is a hundred.
    fn plot(&mut self, title: &str, top: u32, height: u32) -> fmt::Result {
        let columns = self.picture.columns.len().max(1);
        let (text, bottom) = (top - 6, top + height);
        writeln!(
            self.out,
            r#"<text y="{text}">{title}</text><line class="grid" x2="100%" y1="{bottom}" y2="{bottom}"/><svg y="{top}" width="100%" height="{height}" viewBox="0 0 {columns} 100" preserveAspectRatio="none">"#
        )
    }

    /// A line through everything for each flip, numbered where there is room.
    fn flips(&mut self, bottom: u32) -> fmt::Result {
        let mut numbered = -CROWDED;
        for (place, flip) in self.picture.flips.iter().enumerate() {
            let x = self.across(flip.at);
            write!(
                self.out,
                r#"<line class="flip" x1="{x:.2}%" x2="{x:.2}%" y1="{FLIPS}" y2="{bottom}"><title>{}</title></line>"#,
                escape(&flip.words)
            )?;
            if x - numbered >= CROWDED {
                numbered = x;
                let number = place + 1;
                write!(
                    self.out,
                    r#"<circle class="badge" cx="{x:.2}%" cy="10" r="9"/><text class="badge-text" x="{x:.2}%" y="14" text-anchor="middle">{number}</text>"#
                )?;
            }
            writeln!(self.out)?;
        }
        Ok(())
    }
}

/// The colour of a provider.
pub(super) fn provider_class(lane: usize) -> String {
    format!("p{}", lane.min(5))
}

/// Stretches of equal share, to a twentieth, that are not nothing: first column, length, share.
fn runs(shares: &[f32]) -> Vec<(usize, usize, f64)> {
    let mut found: Vec<(usize, usize, f64)> = Vec::new();
    for (place, share) in shares.iter().enumerate() {
        let level = (f64::from(*share) * 20.0).ceil() / 20.0;
        match found.last_mut() {
            Some((first, length, same)) if *first + *length == place && *same == level => {
                *length += 1;
            }
            _ if level > 0.0 => found.push((place, 1, level)),
            _ => {}
        }
    }
    found
}

/// The lower or the upper end of a step.
type Edge = fn(&(f64, f64)) -> f64;

/// Steps one wide, each from its low to its high edge, up being up.
fn area(edges: &[(f64, f64)]) -> String {
    let mut path = String::from("M0 100");
    let mut add = |x: usize, y: f64| {
        let y = 100.0 - y;
        write!(path, "L{x} {y:.2}").expect("a String takes everything");
    };
    let is_corner = |place: usize, edge: Edge, near: Option<usize>| {
        near.and_then(|near| edges.get(near)).is_none_or(|near| edge(near) != edge(&edges[place]))
    };
    let (low, high): (Edge, Edge) = (|edge| edge.0, |edge| edge.1);
    for (place, here) in edges.iter().enumerate() {
        if is_corner(place, high, place.checked_sub(1)) {
            add(place, high(here));
        }
        if is_corner(place, high, Some(place + 1)) {
            add(place + 1, high(here));
        }
    }
    for (place, here) in edges.iter().enumerate().rev() {
        if is_corner(place, low, Some(place + 1)) {
            add(place + 1, low(here));
        }
        if is_corner(place, low, place.checked_sub(1)) {
            add(place, low(here));
        }
    }
    path.push('Z');
    path
}

/// A time on the axis, as short as its step allows.
fn mark(at: f64, step: f64) -> String {
    let whole = at.abs() as u64;
    let sign = if at < 0.0 { "−" } else { "" };
    let (days, hours, minutes, seconds) =
        (whole / 86_400, whole / 3600, whole / 60 % 60, whole % 60);
    if step >= 86_400.0 {
        format!("{sign}{days} d")
    } else if step >= 60.0 {
        format!("{sign}{hours}:{minutes:02}")
    } else {
        format!("{sign}{hours}:{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_side_by_side_are_one_run() {
        assert_eq!(runs(&[0.0, 0.5, 0.5, 0.0, 1.0]), [(1, 2, 0.5), (4, 1, 1.0)]);
        assert_eq!(runs(&[0.001]), [(0, 1, 0.05)], "a faint one is not lost");
    }

    #[test]
    fn an_area_has_corners_only_where_it_turns() {
        assert_eq!(
            area(&[(0.0, 10.0), (0.0, 10.0), (0.0, 20.0)]),
            "M0 100L0 90.00L2 90.00L2 80.00L3 80.00L3 100.00L0 100.00Z"
        );
    }

    #[test]
    fn a_mark_is_as_short_as_its_step_allows() {
        assert_eq!(mark(5400.0, 1800.0), "1:30");
        assert_eq!(mark(-15.0, 15.0), "−0:00:15");
        assert_eq!(mark(172_800.0, 86_400.0), "2 d");
    }
}

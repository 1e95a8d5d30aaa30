//! What every part of lowering needs: where complaints go, files, and values within bounds.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::complaint::{Complaints, Place};
use crate::config::files::Files;
use crate::config::raw::{RawDuration, RawSize};
use crate::config::tree::At;
use crate::config::values::{self, Flaw};
use crate::model::id::Label;

/// Where complaints go, and where files come from.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Context<'a> {
    pub(in crate::config) complaints: &'a Complaints,
    pub(in crate::config) files: &'a Files,
}

/// What a number has to lie between, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<T> {
    pub(super) least: T,
    pub(super) most: T,
    /// Why not less, and why not more, as one sentence.
    pub(super) why: &'static str,
}

impl Context<'_> {
    /// A key that has to be there.
    pub(super) fn needed<T>(&self, key: &str, at: Option<At<T>>, place: Place) -> Option<At<T>> {
        if at.is_none() {
            let what = format!("`{key}` is missing");
            self.complaints.error(place, what, "there is no default for it; add it");
        }
        at
    }

    /// A text read by a function; `None` after a complaint.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        at: &At<String>,
        read: impl FnOnce(&str) -> Result<T, Flaw>,
    ) -> Option<T> {
        let text = at.value.as_deref()?;
        self.sound(key, at, read(text))
    }

    /// A result about a value of the file; `None` after a complaint.
    pub(super) fn sound<A, T>(&self, key: &str, at: &At<A>, result: Result<T, Flaw>) -> Option<T> {
        let complain = |Flaw(why)| {
            self.complaints.error(
                at.place,
                format_args!("`{key}: {}` cannot be used", at.shown),
                &why,
            );
        };
        result.map_err(complain).ok()
    }

    /// A duration within bounds; the default without one, and after a complaint.
    pub(super) fn duration(
        &self,
        key: &str,
        at: Option<At<RawDuration>>,
        bounds: Bounds<&str>,
        default: Duration,
    ) -> Duration {
        let Some(at) = at else { return default };
        let Some(RawDuration(text)) = &at.value else { return default };
        let limits = values::duration(bounds.least)
            .and_then(|least| values::duration(bounds.most).map(|most| least..=most));
        let result =
            values::duration(text).and_then(|duration| within(duration, &limits?, &bounds));
        self.sound(key, &at, result).unwrap_or(default)
    }

    /// A size in bytes within bounds; the default without one, and after a complaint.
    pub(super) fn size(
        &self,
        key: &str,
        at: Option<At<RawSize>>,
        bounds: Bounds<&str>,
        default: u64,
    ) -> u64 {
        let Some(at) = at else { return default };
        let Some(RawSize(text)) = &at.value else { return default };
        let limits = values::size(bounds.least)
            .and_then(|least| values::size(bounds.most).map(|m| least..=m));
        let result = values::size(text).and_then(|size| within(size, &limits?, &bounds));
        self.sound(key, &at, result).unwrap_or(default)
    }

    /// A number within bounds; the default without one, and after a complaint.
    pub(super) fn number<T: Copy + PartialOrd + std::fmt::Display>(
        &self,
        key: &str,
        at: Option<At<T>>,
        bounds: Bounds<T>,
        default: T,
    ) -> T {
        let Some(at) = at else { return default };
        let Some(number) = at.value else { return default };
        let result = within(number, &(bounds.least..=bounds.most), &bounds);
        self.sound(key, &at, result).unwrap_or(default)
    }

    /// What a file holds that is named in the configuration, with its place; `None` after a
    /// complaint.
    pub(super) fn file(
        &self,
        key: &str,
        at: &At<String>,
        limit: u64,
    ) -> Option<(PathBuf, Vec<u8>)> {
        let written = at.value.as_deref()?;
        let file = self.files.beside(at.place.file, written);
        let result = self.files.bytes(&file, limit).map_err(|error| {
            // The name is shown as typed: `shown` in the complaint, not the resolved one.
            Flaw::new(format!("{error}; names are seen from where the file that holds them is"))
        });
        Some((file, self.sound(key, at, result)?))
    }

    /// A name that is safe as a metric label; `None` after a complaint.
    pub(super) fn label(&self, what: &str, at: &At<String>) -> Option<Label> {
        let label = Label::new(at.value.as_deref()?);
        if label.is_none() {
            let mend = format!(
                "it becomes a metric label; write 1 to {} letters, digits, `-`, `_` and `.`, beginning with a \
                 letter or digit",
                Label::MAX_LEN
            );
            let what = format!("`{}` cannot be the name of a {what}", at.shown);
            self.complaints.error(at.place, what, &mend);
        }
        label
    }

    /// `FILE:LINE`, for naming a second place.
    pub(super) fn named(&self, place: Place) -> String {
        let name = self.files.name(place.file).map(|name| name.display().to_string());
        format!("{}:{}", name.unwrap_or_default(), place.line)
    }
}

fn within<T: PartialOrd, B: std::fmt::Display>(
    value: T,
    limits: &RangeInclusive<T>,
    bounds: &Bounds<B>,
) -> Result<T, Flaw> {
    if limits.contains(&value) {
        return Ok(value);
    }
    let Bounds { least, most, why } = bounds;
    Err(Flaw::new(format!("{why}; choose from {least} to {most}")))
}

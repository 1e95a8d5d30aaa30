//! Mistakes and lints: what is wrong, why it matters, how to mend it, and where it stands.
//!
//! In: a `Place` and three sentences. Out: `FILE:LINE:COLUMN: error: …` with the source line
//! underlined. A secret never appears: values that came from `${…}` are shown as typed, and what
//! could be a secret in a source line is masked.
//!
//! Not here: deciding what is a mistake (`lower`) or a lint (`lint`).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, ReadError};
use mask::{SET, Within, mask_credentials, masked_as};

mod mask;

/// Complaints kept of each severity, so that no number of lints hides a mistake; a file with more is not
/// read to its end by a person either.
const MAX_COMPLAINTS: usize = 200;
/// Longest piece of a source line that is shown, in characters.
const MAX_EXCERPT: usize = 120;
/// Longest account of what is wrong, in characters: it quotes what was found, and that may be the
/// whole of a file that was never meant to be included.
const MAX_WHAT: usize = 400;

/// Where something stands: which file, from which character, how many of them.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    /// In the order in which the files were read.
    pub(super) file: u32,
    /// From 1; 0 is the file as a whole.
    pub(super) line: u32,
    /// In characters, from 1.
    pub(super) column: u32,
    /// In characters, within the line.
    pub(super) length: u32,
}

impl Place {
    /// The file as a whole.
    pub(super) fn whole(file: u32) -> Self {
        Self { file, line: 1, column: 1, length: 0 }
    }
}

/// Whether the file can be used all the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but is probably not meant so.
    Warning,
}

/// One mistake or one lint, ready to be printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Complaint {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1; 0 when it concerns the file as a whole.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong, why, how to mend it.
    pub message: String,
    excerpt: Excerpt,
}

impl Complaint {
    /// About a file that cannot be read, and therefore has no lines.
    pub(super) fn unreadable(file: &Path, error: &ReadError) -> Self {
        let message = format!("cannot read the configuration: {error}");
        Self::of_file(Severity::Error, file, message)
    }

    fn of_file(severity: Severity, file: &Path, message: String) -> Self {
        Self {
            severity,
            file: file.to_path_buf(),
            line: 0,
            column: 0,
            message,
            excerpt: Excerpt { text: String::new(), offset: 0, length: 0 },
        }
    }

    /// Without the source line, for a log.
    pub fn one_line(&self) -> String {
        let Self { severity, file, line, column, message, excerpt: _ } = self;
        let (file, severity) = (file.display(), severity.as_str());
        if *line == 0 {
            return format!("{file}: {severity}: {message}");
        }
        format!("{file}:{line}:{column}: {severity}: {message}")
    }
}

impl Severity {
    /// As printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Where something stands in a configuration that was read, for what is found out about it later. Its
/// source line is not kept: it may hold a secret, and nearly nobody asks for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spot {
    file: Arc<Path>,
    place: Place,
}

impl Spot {
    pub(super) fn new(file: Arc<Path>, place: Place) -> Self {
        Self { file, place }
    }

    /// What is wrong with what stands here, with its source line as it is now.
    pub fn complaint(
        &self,
        severity: Severity,
        what: impl fmt::Display,
        why_and_mend: &str,
    ) -> Complaint {
        let Self { file, place } = self;
        let mut files = Files::default();
        let line = match files.open(file) {
            Ok(number) => shown(&files, Place { file: number, ..*place }),
            Err(_) => Vec::new(),
        };
        Complaint {
            severity,
            file: file.to_path_buf(),
            line: place.line,
            column: place.column,
            message: format!("{}: {}", bounded(what), bounded(why_and_mend)),
            excerpt: Excerpt::new(&line, *place),
        }
    }
}

/// A source line, cropped and masked, with the part that is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Excerpt {
    text: String,
    offset: usize,
    length: usize,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, excerpt, .. } = self;
        f.write_str(&self.one_line())?;
        if excerpt.text.trim().is_empty() {
            return Ok(());
        }
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let (indent, marks) = (" ".repeat(excerpt.offset), "^".repeat(excerpt.length.max(1)));
        write!(f, "\n  {number} | {}\n  {margin} | {indent}{marks}", excerpt.text)
    }
}

/// What is wrong, before it knows its source line.
#[derive(Debug)]
struct Draft {
    severity: Severity,
    place: Place,
    message: String,
}

/// Collects complaints while a file is read; nothing stops at the first.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    drafts: RefCell<Vec<Draft>>,
    errors: Cell<usize>,
    warnings: Cell<usize>,
}

impl Complaints {
    /// A mistake: the file cannot be used.
    pub(super) fn error(&self, place: Place, what: impl fmt::Display, why_and_mend: &str) {
        self.push(Severity::Error, place, format!("{}: {why_and_mend}", bounded(what)));
    }

    /// A lint: probably not meant so.
    pub(super) fn warning(&self, place: Place, what: impl fmt::Display, why_and_mend: &str) {
        self.push(Severity::Warning, place, format!("{}: {why_and_mend}", bounded(what)));
    }

    fn push(&self, severity: Severity, place: Place, message: String) {
        let count = self.count(severity);
        count.set(count.get() + 1);
        if count.get() <= MAX_COMPLAINTS {
            let mut message: Vec<char> = message.chars().collect();
            mask_credentials(&mut message);
            let message = message.into_iter().collect();
            self.drafts.borrow_mut().push(Draft { severity, place, message });
        }
    }

    fn count(&self, severity: Severity) -> &Cell<usize> {
        match severity {
            Severity::Error => &self.errors,
            Severity::Warning => &self.warnings,
        }
    }

    /// Whether there was any mistake.
    pub(super) fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }

    /// All of them, by file and line, each with its source line.
    pub(super) fn finish(self, files: &Files) -> Vec<Complaint> {
        let rest: Vec<Complaint> = [Severity::Error, Severity::Warning]
            .into_iter()
            .filter_map(|severity| {
                let dropped = self.count(severity).get().saturating_sub(MAX_COMPLAINTS);
                let message = format!("{dropped} more are not listed: mend these first");
                let file = files.name(0).filter(|_| dropped > 0)?;
                Some(Complaint::of_file(severity, file, message))
            })
            .collect();
        let mut drafts = self.drafts.into_inner();
        drafts.sort_by_key(|draft| draft.place);
        drafts.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        drafts.into_iter().map(|draft| finished(draft, files)).chain(rest).collect()
    }
}

/// Cut where it is too long; without characters that a terminal would obey.
fn bounded(what: impl fmt::Display) -> String {
    let what = what.to_string();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut bounded: String = what.chars().take(MAX_WHAT).map(plain).collect();
    if bounded.len() < what.len() {
        bounded.push('…');
    }
    bounded
}

fn finished(Draft { severity, place, message }: Draft, files: &Files) -> Complaint {
    let line = shown(files, place);
    Complaint {
        severity,
        file: files.name(place.file).map(Path::to_path_buf).unwrap_or_default(),
        line: place.line,
        column: place.column,
        message,
        excerpt: Excerpt::new(&line, place),
    }
}

/// The line of a place, masked.
fn shown(files: &Files, place: Place) -> Vec<char> {
    let line = files.line(place.file, place.line);
    let of_set = |head: &str| head.trim_start().trim_start_matches("- ").starts_with(SET);
    match files.head(place.file, place.line).is_some_and(of_set) {
        true => masked_as(Within::Set, &line),
        false => masked_as(Within::Anything, &line),
    }
}

impl Excerpt {
    /// Of a line that is masked already.
    fn new(characters: &[char], place: Place) -> Self {
        let start = (place.column.max(1) as usize - 1).min(characters.len());
        let end = (start + place.length as usize).min(characters.len());
        // A long line is shown from a little before the place that is meant.
        let from = if end > MAX_EXCERPT { start.saturating_sub(MAX_EXCERPT / 4) } else { 0 };
        let to = characters.len().min(from + MAX_EXCERPT);
        let text: String = characters[from..to].iter().collect();
        Self {
            text: text.trim_end().to_owned(),
            offset: start - from,
            length: end.min(to).saturating_sub(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        masked_as(Within::Anything, line).into_iter().collect()
    }

    #[test]
    fn a_source_line_is_shown_without_its_secrets() {
        #[rustfmt::skip]
        let table = [
            ("    value: s3cret", "    value: ******"),
            ("{ header: X, value: s3cret }", "{ header: X, value: *******}"),
            ("{ value: \"a, b\", header: X }", "{ value: ******, header: X }"),
            ("{ \"value\": 's' }", "{ \"value\": *** }"),
            ("  value: \"${env:MARK}\"", "  value: \"${env:MARK}\""),
            ("  default_value: plain", "  default_value: plain"),
            ("url: https://u:p@edge.example/x", "url: https://***@edge.example/x"),
            ("url: https://edge.example/@x", "url: https://edge.example/@x"),
            ("red \u{1b}[31m", "red  [31m"),
            ("{ set: { X-Key: s3cret, B: \"t\" }, url: x }", "{ set: { X-Key: ******, B: *** }, url: x }"),
            ("headers: { set: { X-Key: \"${file:k}\" } }", "headers: { set: { X-Key: \"${file:k}\" } }"),
            ("set: { X-Key: s3cret", "set: { X-Key: ******"),
            ("X-Key: s3cret", "X-Key: s3cret"),
        ];
        for (line, expected) in table {
            assert_eq!(shown(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_field_of_set_is_shown_without_its_value() {
        let shown: String = masked_as(Within::Set, "  X-Key: 's3cret'").into_iter().collect();
        assert_eq!(shown, "  X-Key: ********");
    }

    #[test]
    fn no_number_of_lints_hides_a_mistake() {
        let complaints = Complaints::default();
        let place = Place::whole(0);
        (0..=MAX_COMPLAINTS).for_each(|n| complaints.warning(place, n, "a lint"));
        assert!(!complaints.has_errors());
        complaints.error(place, "found", "a mistake");
        assert!(complaints.has_errors());
        let drafts = complaints.drafts.borrow();
        assert!(drafts.iter().any(|draft| draft.message == "found: a mistake"));
    }

    #[test]
    fn what_is_wrong_is_told_within_bounds_and_in_plain_characters() {
        assert_eq!(bounded("found `a\u{1b}[31m\nb`"), "found `a [31m b`");
        let long = bounded("é".repeat(1_000_000));
        assert_eq!((long.chars().count(), long.chars().last()), (MAX_WHAT + 1, Some('…')));
    }

    #[test]
    fn a_long_line_is_cropped_around_the_place_that_is_meant() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let place = Place { file: 0, line: 1, column: 501, length: 4 };
        let excerpt = Excerpt::new(&line.chars().collect::<Vec<_>>(), place);
        assert!(excerpt.text.chars().count() <= MAX_EXCERPT);
        let meant: String =
            excerpt.text.chars().skip(excerpt.offset).take(excerpt.length).collect();
        assert_eq!(meant, "HERE");
    }
}

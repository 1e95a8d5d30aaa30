//! One file and those that it includes, read into their mirrors.
//!
//! An included file cannot include others, so there is no cycle to get lost in; a file that would
//! be read twice is a mistake.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::complaint::{Complaints, Place};
use super::files::Files;
use super::interpolate::interpolate;
use super::lower::Document;
use super::raw::{RawFile, RawIncluded};
use super::reader;
use super::tree::{At, Node, Value};
use super::yaml;

/// Files that one configuration may include.
const MAX_FILES: usize = 500;
/// Entries of one folder that are compared with a pattern.
const MAX_ENTRIES: usize = 10_000;

/// Reads the main file, opened already, and what it includes.
pub(super) fn document(main: u32, files: &mut Files, complaints: &Complaints) -> Document {
    let raw: At<RawFile> = mirror(main, files, complaints);
    let patterns = raw.value.as_ref().and_then(|raw| raw.include.as_ref());
    let patterns = patterns.and_then(|at| at.value.clone()).unwrap_or_default();
    let mut including = Including { files, complaints, seen: BTreeMap::new() };
    let own = including.files.name(main).map(identity).unwrap_or_default();
    including.seen.insert(own, "the file itself".to_owned());
    let included = patterns.iter().flat_map(|pattern| including.pattern(pattern)).collect();
    Document { main: raw, included }
}

/// One opened file, as its mirror.
fn mirror<T: for<'de> Deserialize<'de>>(
    file: u32,
    files: &Files,
    complaints: &Complaints,
) -> At<T> {
    let whole = Place::whole(file);
    let empty = At { value: None, place: whole, shown: "".into() };
    let text = files.source(file);
    match yaml::tree(file, text) {
        Err(error) => {
            let place =
                Place { file, line: error.line.max(1), column: error.column.max(1), length: 1 };
            let mend = "nothing behind it can be read; mend it here or in the line before";
            complaints.error(place, error.message, mend);
            empty
        }
        Ok(Node { value: Value::Null, .. }) => {
            let mend = "there is nothing to serve; `bascule schema` describes what can stand here";
            complaints.error(whole, "the file is empty", mend);
            empty
        }
        Ok(mut root) => {
            interpolate(&mut root, files, complaints);
            reader::read(&root, complaints)
        }
    }
}

struct Including<'a> {
    files: &'a mut Files,
    complaints: &'a Complaints,
    /// Files that are read already, by what they really are, and through which entry.
    seen: BTreeMap<PathBuf, String>,
}

impl Including<'_> {
    fn pattern(&mut self, at: &At<String>) -> Vec<At<RawIncluded>> {
        let Some(written) = at.value.as_deref() else { return Vec::new() };
        let pattern = self.files.beside(at.place.file, written);
        let found = match self.matches(&pattern) {
            Ok(found) => found,
            Err(why) => {
                let what = format!("`include: {}` cannot be followed", at.shown);
                self.complaints.error(at.place, what, &why);
                return Vec::new();
            }
        };
        if found.is_empty() {
            let mend =
                "its services would be missing without a word; add the file or remove the entry";
            self.complaints.error(
                at.place,
                format_args!("`include: {}` matches no file", at.shown),
                mend,
            );
        }
        found.into_iter().filter_map(|file| self.file(&file, at)).collect()
    }

    /// In the order of their names.
    fn matches(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = pattern.parent().unwrap_or(Path::new(""));
        if folder.to_string_lossy().contains(['*', '?']) {
            return Err(
                "`*` and `?` stand for parts of a file's name, not of a folder's".to_owned()
            );
        }
        if !name.contains(['*', '?']) {
            return Ok(vec![pattern.to_path_buf()]);
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        self.files.searched(folder);
        let entries = fs::read_dir(folder)
            .map_err(|error| format!("the system says of its folder: {error}"))?;
        let mut found = Vec::new();
        for entry in entries.take(MAX_ENTRIES).flatten() {
            let entry_name = entry.file_name();
            let Some(candidate) = entry_name.to_str() else { continue };
            // As shells do: what begins with a dot is not meant (Kubernetes keeps `..data` there).
            let hidden = candidate.starts_with('.') && !name.starts_with('.');
            if !hidden && glob(name, candidate) && !entry.path().is_dir() {
                found.push(pattern.with_file_name(candidate));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn file(&mut self, file: &Path, at: &At<String>) -> Option<At<RawIncluded>> {
        let what = format!("cannot include {}", file.display());
        if self.seen.len() > MAX_FILES {
            let mend = format!("more than {MAX_FILES} files; join some");
            self.complaints.error(at.place, what, &mend);
            return None;
        }
        if let Some(first) = self.seen.insert(identity(file), format!("`{}`", at.shown)) {
            let mend = format!(
                "it is read already ({first}), and twice would double it; narrow one of the two"
            );
            self.complaints.error(at.place, what, &mend);
            return None;
        }
        match self.files.open(file) {
            Ok(number) => Some(mirror(number, self.files, self.complaints)),
            Err(error) => {
                self.complaints.error(at.place, what, &error.to_string());
                None
            }
        }
    }
}

/// What a name leads to, so that two names of one file are seen to be one.
fn identity(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf())
}

/// Whether a name fits a pattern: `*` is any run of characters, `?` is one. Linear in their product.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                // Let the last `*` take one character more.
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                p = star + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_names() {
        #[rustfmt::skip]
        let table = [
            ("*.yaml", "a.yaml", true),  ("*.yaml", "a.yml", false), ("*.yaml", ".yaml", true),
            ("a*b*c", "aXbYbZc", true),  ("a*b*c", "aXbYbZ", false), ("?.yaml", "ab.yaml", false),
            ("*", "", true),             ("a", "a", true),           ("a", "ab", false),
            ("**", "abc", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}

//! `${file:NAME}` and `${env:NAME}` in the scalars of a tree.
//!
//! After parsing, so that what they stand for is always one text and never YAML: a secret cannot
//! add a key. What was typed is kept beside it and is all that is ever shown. `$${` is a plain `${`.

use super::complaint::Complaints;
use super::files::Files;
use super::tree::{Node, Value};

/// Longest text that one reference may stand for, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
/// Bytes of all texts that references of one file stand for; references can be repeated by YAML's
/// own references.
const MAX_ALL: usize = 4 * 1024 * 1024;

/// Replaces every reference in the values (not in the keys) below a node.
pub(super) fn interpolate(root: &mut Node, files: &Files, complaints: &Complaints) {
    Interpolation { files, complaints, spent: 0 }.node(root);
}

struct Interpolation<'a> {
    files: &'a Files,
    complaints: &'a Complaints,
    spent: usize,
}

impl Interpolation<'_> {
    /// As deep as the tree, which the parser bounds.
    fn node(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Spoiled => {}
            Value::List(items) => items.iter_mut().for_each(|item| self.node(item)),
            Value::Table(entries) => entries.iter_mut().for_each(|(_, value)| self.node(value)),
            Value::Text(text) if text.contains("${") => {
                match self.replaced(node.place.file, text) {
                    Ok(replaced) => node.typed = Some(std::mem::replace(text, replaced.into())),
                    Err(Refused { what, mend }) => {
                        self.complaints.error(node.place, what, &mend);
                        node.value = Value::Spoiled;
                    }
                }
            }
            Value::Text(_) => {}
        }
    }

    fn replaced(&mut self, file: u32, text: &str) -> Result<String, Refused> {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let before = &rest[..at];
            if let Some(plain) = before.strip_suffix('$') {
                replaced.push_str(plain);
                replaced.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            replaced.push_str(before);
            let inside = &rest[at + 2..];
            let end = inside.find('}').ok_or_else(unclosed)?;
            let value = self.value(file, &inside[..end])?;
            self.spent += value.len();
            if self.spent > MAX_ALL {
                return Err(Refused::new(
                    "the references of this file stand for too much text",
                    format!(
                        "at most {MAX_ALL} bytes in all; name the file where it is used instead"
                    ),
                ));
            }
            replaced.push_str(&value);
            rest = &inside[end + 1..];
        }
        replaced.push_str(rest);
        Ok(replaced)
    }

    fn value(&self, file: u32, reference: &str) -> Result<String, Refused> {
        match reference.split_once(':') {
            Some(("file", name)) if !name.is_empty() => self.file(file, name),
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => env(name),
            Some(_) | None => Err(Refused::new(
                format!("`${{{reference}}}` is not known"),
                "write `${file:NAME}` or `${env:NAME}`; `$${` is a plain `${`",
            )),
        }
    }

    fn file(&self, file: u32, name: &str) -> Result<String, Refused> {
        let text =
            self.files.text(&self.files.beside(file, name), MAX_SECRET).map_err(|error| {
                Refused::new(
                    format!("cannot read what `${{file:{name}}}` names"),
                    format!("{error}; the name is seen from where this file is"),
                )
            })?;
        // Files end in a line feed because editors put it there.
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }
}

fn env(name: &str) -> Result<String, Refused> {
    std::env::var(name).map_err(|error| {
        let why = match error {
            std::env::VarError::NotPresent => "the variable is not set",
            std::env::VarError::NotUnicode(_) => "the variable is not UTF-8 text",
        };
        Refused::new(
            format!("nothing stands behind `${{env:{name}}}`"),
            format!("{why}; set it where bascule is started"),
        )
    })
}

fn unclosed() -> Refused {
    Refused::new("`${` without its `}`", "close it, or write `$${` for a plain `${`")
}

/// Why a reference stands for nothing.
struct Refused {
    what: String,
    mend: String,
}

impl Refused {
    fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::yaml;

    /// The text of the only value of `a: …`, or the first complaint.
    fn value_of(written: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("secret"), "a: [b]\n").expect("write");
        let file = folder.path().join("main.yaml");
        fs::write(&file, format!("a: {written}\n")).expect("write");
        let mut files = Files::default();
        let number = files.open(&file).expect("open");
        let mut root = yaml::tree(number, files.source(number)).expect("yaml");
        let complaints = Complaints::default();
        interpolate(&mut root, &files, &complaints);
        if let Some(complaint) = complaints.finish(&files).first() {
            return Err(complaint.message.clone());
        }
        let Value::Table(entries) = root.value else { panic!("a mapping") };
        match &entries[0].1.value {
            Value::Text(text) => Ok(text.to_string()),
            other => panic!("text, not {other:?}"),
        }
    }

    #[test]
    fn what_a_reference_stands_for_is_text_and_never_yaml() {
        assert_eq!(value_of("\"${file:secret}\"").as_deref(), Ok("a: [b]"));
        assert_eq!(value_of("x${file:secret}y").as_deref(), Ok("xa: [b]y"));
        assert_eq!(value_of("\"$${env:HOME}\"").as_deref(), Ok("${env:HOME}"));
        assert_eq!(value_of("$5").as_deref(), Ok("$5"));
    }

    #[test]
    fn a_reference_to_nothing_is_a_complaint() {
        for (written, says) in [
            ("\"${file:missing}\"", "cannot read what `${file:missing}` names"),
            ("\"${env:BASCULE_TEST_UNSET}\"", "the variable is not set"),
            ("\"${HOME}\"", "`${HOME}` is not known"),
            ("\"${file:}\"", "is not known"),
            ("\"${env:A\"", "without its `}`"),
            ("\"${file:/dev/zero}\"", "it is a device"),
        ] {
            let complaint = value_of(written).expect_err(written);
            assert!(complaint.contains(says), "{written}: {complaint}");
        }
    }
}

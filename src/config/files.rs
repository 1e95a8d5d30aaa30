//! Reads the files that a configuration names, each within a bound, and remembers them: for the
//! watcher, and for the source lines in complaints.
//!
//! Only regular files are read (symlinks are followed): a pipe could block for ever, a device never
//! ends, and neither could be read again at a reload.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest YAML file, in bytes; the largest real ones are a tenth of it.
pub(super) const MAX_YAML: u64 = 4 * 1024 * 1024;
/// Bytes of all files of one configuration together, read again ones counted again.
const MAX_TOTAL: u64 = 64 * 1024 * 1024;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// As the system says.
    #[error("the system says: {0}")]
    Io(#[from] io::Error),
    /// Not a regular file.
    #[error("it is {0}, and only a regular file can be read again at a reload")]
    NotAFile(&'static str),
    /// Longer than allowed.
    #[error("it is too large: at most {} are allowed here", spelled_size(*limit))]
    TooLong {
        /// In bytes.
        limit: u64,
    },
    /// All files together are too long.
    #[error(
        "with the files before it, it is too large: at most {} are allowed",
        spelled_size(MAX_TOTAL)
    )]
    TooMuch,
    /// Not text.
    #[error("it is not UTF-8 text (first at byte {at})")]
    NotText {
        /// From 0.
        at: usize,
    },
}

/// A YAML file that was read.
#[derive(Debug)]
struct Source {
    name: PathBuf,
    text: String,
}

/// Every file of one configuration.
#[derive(Debug, Default)]
pub(super) struct Files {
    sources: Vec<Source>,
    read: RefCell<BTreeSet<PathBuf>>,
    total: RefCell<u64>,
}

impl Files {
    /// Reads a YAML file and keeps its text; the number names it in every `Place`.
    pub(super) fn open(&mut self, file: &Path) -> Result<u32, ReadError> {
        let text = self.text(file, MAX_YAML)?;
        // Editors on some systems put one there; it is no part of the text.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        self.sources.push(Source { name: file.to_path_buf(), text });
        Ok((self.sources.len() - 1) as u32)
    }

    /// A YAML file that could not be read, so that a complaint can name it.
    pub(super) fn name(&self, file: u32) -> Option<&Path> {
        self.sources.get(file as usize).map(|source| source.name.as_path())
    }

    /// The whole text of an opened file.
    pub(super) fn source(&self, file: u32) -> &str {
        self.sources.get(file as usize).map_or("", |source| source.text.as_str())
    }

    /// One line, from 1; empty when there is none.
    pub(super) fn line(&self, file: u32, line: u32) -> String {
        let skip = line.max(1) as usize - 1;
        self.source(file).lines().nth(skip).unwrap_or_default().to_owned()
    }

    /// The line that the block of a line stands under: the nearest one before it that is indented less.
    pub(super) fn head(&self, file: u32, line: u32) -> Option<&str> {
        let indent = |text: &str| text.len() - text.trim_start().len();
        let mut before =
            self.source(file).lines().take(line as usize).collect::<Vec<_>>().into_iter();
        let own = indent(before.next_back()?);
        before.rfind(|text| !text.trim().is_empty() && indent(text) < own)
    }

    /// A name as written in one of the files, seen from where that file is.
    pub(super) fn beside(&self, file: u32, written: &str) -> PathBuf {
        let folder = self.name(file).and_then(Path::parent).unwrap_or(Path::new(""));
        folder.join(written)
    }

    /// Text of any other file.
    pub(super) fn text(&self, file: &Path, limit: u64) -> Result<String, ReadError> {
        let bytes = self.bytes(file, limit)?;
        String::from_utf8(bytes)
            .map_err(|error| ReadError::NotText { at: error.utf8_error().valid_up_to() })
    }

    /// Bytes of any other file.
    pub(super) fn bytes(&self, file: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        // Remembered before it is read: a file that is missing today may be there at the reload.
        self.read.borrow_mut().insert(file.to_path_buf());
        let bytes = read_bounded(file, limit)?;
        let mut total = self.total.borrow_mut();
        *total += bytes.len() as u64;
        if *total > MAX_TOTAL { Err(ReadError::TooMuch) } else { Ok(bytes) }
    }

    /// Remembers a folder whose entries were looked through.
    pub(super) fn searched(&self, folder: &Path) {
        self.read.borrow_mut().insert(folder.to_path_buf());
    }

    /// Every file that was read or should have been.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        self.read.borrow().iter().cloned().collect()
    }
}

/// Whole mebibytes or kibibytes: bounds are.
fn spelled_size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// A regular file of at most `limit` bytes.
///
/// # Errors
/// Why it was not read.
pub fn read_bounded(file: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    // Before opening: to open a pipe that nobody writes to would wait for ever.
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile(kind(&metadata)));
    }
    if metadata.len() > limit {
        return Err(ReadError::TooLong { limit });
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // It may grow while it is read, and some files of /proc say 0 and are not.
    File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(ReadError::TooLong { limit }) } else { Ok(bytes) }
}

fn kind(metadata: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_their_bound_are_read() {
        let folder = tempfile::tempdir().expect("folder");
        let files = Files::default();
        let long = folder.path().join("long");
        fs::write(&long, [b'x'; 11]).expect("write");
        assert!(matches!(files.bytes(&long, 10), Err(ReadError::TooLong { limit: 10 })));
        assert_eq!(files.bytes(&long, 11).expect("fits").len(), 11);
        assert!(matches!(files.bytes(folder.path(), 10), Err(ReadError::NotAFile("a folder"))));
        let device = files.bytes(Path::new("/dev/zero"), 10);
        assert!(matches!(device, Err(ReadError::NotAFile("a device"))));
        let missing = files.bytes(&folder.path().join("missing"), 10);
        assert!(matches!(missing, Err(ReadError::Io(_))));
        assert_eq!(files.all().len(), 4, "each is remembered for the watcher");
    }

    #[test]
    fn all_files_together_are_bounded_too() {
        let folder = tempfile::tempdir().expect("folder");
        let big = folder.path().join("big");
        File::create(&big).and_then(|f| f.set_len(30 * 1024 * 1024)).expect("sparse file");
        let files = Files::default();
        assert!(files.bytes(&big, MAX_TOTAL).is_ok());
        assert!(files.bytes(&big, MAX_TOTAL).is_ok());
        assert!(matches!(files.bytes(&big, MAX_TOTAL), Err(ReadError::TooMuch)));
    }
}

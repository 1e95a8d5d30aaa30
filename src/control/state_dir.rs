//! Files in `state_dir`: replaced whole or not at all, appended to within a bound, set aside when
//! they are not ours or damaged.
//!
//! Blocking, for a thread of its own ([`super::keeper`]). Not here: what the files say.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Written by nobody but the process that holds it.
const LOCK: &str = "lock";
/// One file of the journal, in bytes.
const MOST_JOURNAL: u64 = 8 * 1024 * 1024;
/// Files of the journal: one that is written and those before it.
const JOURNALS: u32 = 8;

/// The folder.
#[derive(Debug)]
pub struct StateDir {
    folder: PathBuf,
    /// Held while we write there.
    lock: Option<File>,
}

/// Why nothing was written or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// As the system says.
    #[error("{}", file.display())]
    Io {
        /// Where.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes there.
    #[error("{} is in use by another process", folder.display())]
    InUse {
        /// Which.
        folder: PathBuf,
    },
    /// Larger than anything of ours.
    #[error("{} is larger than {limit} bytes", file.display())]
    TooLarge {
        /// Which.
        file: PathBuf,
        /// In bytes.
        limit: u64,
    },
}

impl StateDir {
    /// Names it; nothing is touched yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), lock: None }
    }

    /// The whole of a file; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is longer than `limit` bytes.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StateError> {
        let file = self.folder.join(name);
        let failed = |source| StateError::Io { file: file.clone(), source };
        let opened = match File::open(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        opened.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limit {
            return Err(StateError::TooLarge { file, limit });
        }
        Ok(Some(bytes))
    }

    /// Replaces a file whole: a crash at any moment leaves the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written; the old one is still there then.
    pub fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        self.claim()?;
        let (file, fresh) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let write = || {
            let mut out = options().truncate(true).write(true).open(&fresh)?;
            out.write_all(bytes)?;
            out.sync_all()?;
            fs::rename(&fresh, &file)?;
            // The name is durable only once the folder is.
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| StateError::Io { file: file.clone(), source })
    }

    /// Appends lines to the journal, each with its end; begins a new file when this one is full, and
    /// lets the oldest go.
    ///
    /// # Errors
    /// When they cannot be written; some of them may have been.
    pub fn append(&mut self, lines: &[Box<str>]) -> Result<(), StateError> {
        self.claim()?;
        let file = self.folder.join(journal(0));
        let write = || {
            let mut out = options().read(true).append(true).open(&file)?;
            let mut text = String::new();
            let length = out.metadata()?.len();
            if length >= MOST_JOURNAL {
                self.rotate()?;
                out = options().read(true).append(true).open(&file)?;
            } else if length > 0 && !ends_with_a_line(&mut out)? {
                // A crash cut the last line; the next one must not be lost with it.
                text.push('\n');
            }
            for line in lines {
                text.push_str(line);
                text.push('\n');
            }
            out.write_all(text.as_bytes())?;
            out.sync_data()
        };
        write().map_err(|source| StateError::Io { file: file.clone(), source })
    }

    /// The last lines of the journal, oldest first: at most `most`, out of its last two files.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn last_lines(&self, most: usize) -> Result<Vec<String>, StateError> {
        let mut lines: Vec<String> = Vec::new();
        for number in [1, 0] {
            // A file is over its bound by at most one batch of lines.
            let bytes = self.read(&journal(number), 2 * MOST_JOURNAL)?.unwrap_or_default();
            lines.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
        }
        let skipped = lines.len().saturating_sub(most);
        Ok(lines.split_off(skipped))
    }

    /// Renames a file that is not ours or is damaged, so that it can be looked at; only the last one
    /// is kept. Its new name.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn set_aside(&self, name: &str) -> Result<PathBuf, StateError> {
        let (file, aside) = (self.folder.join(name), self.folder.join(format!("{name}.set-aside")));
        match fs::rename(&file, &aside) {
            Ok(()) => Ok(aside),
            Err(source) => Err(StateError::Io { file, source }),
        }
    }

    /// Lets another process write there.
    pub fn release(&mut self) {
        self.lock = None;
    }

    /// Makes the folder and takes its lock, unless that was done.
    fn claim(&mut self) -> Result<(), StateError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let failed = |source| StateError::Io { file: self.folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed)?;
        let lock = options().write(true).open(self.folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::InUse { folder: self.folder.clone() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        self.lock = Some(lock);
        Ok(())
    }

    /// Every file of the journal gets the next number; the last one goes.
    fn rotate(&self) -> io::Result<()> {
        for number in (0..JOURNALS - 1).rev() {
            let (from, to) = (journal(number), journal(number + 1));
            match fs::rename(self.folder.join(from), self.folder.join(to)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The journal's file of this number: 0 is written, higher ones are older.
fn journal(number: u32) -> String {
    match number {
        0 => "journal.jsonl".to_owned(),
        older => format!("journal.{older}.jsonl"),
    }
}

/// New files are nobody else's to read: they name people's reasons and our addresses.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Box<str>> {
        texts.iter().map(|text| (*text).into()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_read_again() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut state = StateDir::new(&scratch.path().join("deep/state"));
        assert!(matches!(state.read("memory.json", 10), Ok(None)));
        for text in [&b"first"[..], b"second"] {
            state.replace("memory.json", text).expect("it can be written");
            assert_eq!(state.read("memory.json", 10).expect("readable").as_deref(), Some(text));
        }
        assert!(matches!(state.read("memory.json", 5), Err(StateError::TooLarge { .. })));
        let left = fs::read_dir(scratch.path().join("deep/state")).expect("a folder").count();
        assert_eq!(left, 2, "the file and the lock, nothing half-written");
    }

    #[test]
    fn who_comes_second_does_not_write() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut first = StateDir::new(scratch.path());
        first.replace("memory.json", b"first").expect("it can be written");
        let mut second = StateDir::new(scratch.path());
        let refused = second.replace("memory.json", b"second");
        assert!(matches!(refused, Err(StateError::InUse { .. })), "{refused:?}");
        assert_eq!(
            second.read("memory.json", 10).expect("readable").as_deref(),
            Some(&b"first"[..])
        );
        first.release();
        second.replace("memory.json", b"second").expect("the lock is free again");
        assert!(matches!(first.replace("memory.json", b"x"), Err(StateError::InUse { .. })));
    }

    #[test]
    fn a_line_after_a_crash_stands_for_itself() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut state = StateDir::new(scratch.path());
        state.append(&lines(&["one", "two"])).expect("written");
        fs::write(scratch.path().join("journal.jsonl"), "one\ntwo\nthr").expect("ours");
        state.append(&lines(&["four"])).expect("written");
        assert_eq!(state.last_lines(10).expect("readable"), ["one", "two", "thr", "four"]);
        assert_eq!(state.last_lines(2).expect("readable"), ["thr", "four"]);
    }

    #[test]
    fn a_full_journal_goes_on_in_a_new_file_and_the_oldest_one_goes() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut state = StateDir::new(scratch.path());
        let full = File::create(scratch.path().join("journal.jsonl")).expect("ours");
        for round in 0..=u64::from(JOURNALS) {
            full.set_len(0).expect("ours");
            let file = options().write(true).open(scratch.path().join("journal.jsonl"));
            file.expect("ours").set_len(MOST_JOURNAL + round).expect("ours");
            state.append(&lines(&["next"])).expect("written");
        }
        let files = fs::read_dir(scratch.path()).expect("a folder");
        let names: Vec<_> = files.map(|file| file.expect("an entry").file_name()).collect();
        let kept = names.iter().filter(|name| name.to_string_lossy().starts_with("journal"));
        assert_eq!(kept.count(), JOURNALS as usize, "{names:?}");
        let now = fs::read(scratch.path().join("journal.jsonl")).expect("ours");
        assert_eq!(now, b"next\n");
    }

    #[test]
    fn where_nothing_can_be_written_it_is_said_and_nothing_is_lost() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let blocked = scratch.path().join("state");
        fs::write(&blocked, "a file").expect("ours");
        let mut state = StateDir::new(&blocked);
        assert!(matches!(state.replace("memory.json", b"x"), Err(StateError::Io { .. })));
        assert!(matches!(state.append(&lines(&["x"])), Err(StateError::Io { .. })));
        assert_eq!(fs::read(&blocked).expect("ours"), b"a file");
    }
}

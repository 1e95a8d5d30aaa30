//! When a file may have changed: a bell rung by the system's notifications, and a fingerprint that
//! says whether anything did.
//!
//! Folders are watched, not files: a watch on a file dies with the first atomic rename
//! (notify issue 531). For a file that is reached through symlinks the folders of those are watched
//! too, so that the swap of `..data`, as Kubernetes does it, is seen.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;
use crate::telemetry::setup::Chain;

/// Without an event for this long, whoever writes is done.
const QUIET: Duration = Duration::from_millis(250);
/// A folder where something is written all the time is not waited for longer than this.
const MOST_UNREST: Duration = Duration::from_secs(5);
/// Symlinks followed for one file, as the kernel does at most.
const MOST_LINKS: usize = 40;
/// Bytes of one file that enter the fingerprint; configuration refuses longer ones anyway.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Entries of one folder that enter the fingerprint; configuration looks at no more either.
const MOST_ENTRIES: usize = 10_000;

/// Watches the folders of some files.
#[derive(Debug)]
pub struct FileWatch {
    /// `None` where the system has no notifications to give: the caller's own poll remains.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    bell: Arc<Notify>,
}

impl FileWatch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may stand for lost events: better to look once too often.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            rung.notify_one();
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(error = %Chain(error), "files are polled only: no change notifications");
        });
        Self { watcher: watcher.ok(), folders: BTreeSet::new(), bell }
    }

    /// Watches what these files can change through, and nothing else, from now on. Folders that were
    /// watched before are watched anew: one of the same name may have taken their place. Rings the
    /// bell once, for what changed before the watch was set.
    pub fn follow(&mut self, files: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        self.bell.notify_one();
        for folder in std::mem::take(&mut self.folders) {
            if let Err(error) = watcher.unwatch(&folder) {
                tracing::debug!(folder = %folder.display(), error = %Chain(&error), "not unwatched");
            }
        }
        for folder in files.iter().flat_map(|file| folders(file)) {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder);
                }
                Err(error) => {
                    let folder = folder.display();
                    tracing::warn!(%folder, error = %Chain(&error), "folder is polled only");
                }
            }
        }
    }

    /// Ends when something happened in the folders and has come to rest. Cancel-safe but for the
    /// rest: dropped half-way, what happened may have to be noticed by the caller's poll.
    pub async fn changed(&self) {
        self.bell.notified().await;
        let latest = Instant::from_std(clock::now() + MOST_UNREST);
        while Instant::from_std(clock::now()) < latest
            && tokio::time::timeout(QUIET, self.bell.notified()).await.is_ok()
        {}
    }
}

impl Default for FileWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Our own reading is announced as well and would wake us for ever.
const fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

/// Every folder in which a change can change what a file path leads to.
fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut next = Some(file.to_path_buf());
    for _ in 0..MOST_LINKS {
        let Some(file_path) = next.take() else { break };
        folders.insert(parent(&file_path));
        for part in file_path.ancestors() {
            let Ok(target) = fs::read_link(part) else { continue };
            folders.insert(parent(part));
            let rest = file_path.strip_prefix(part).unwrap_or(Path::new(""));
            let led = parent(part).join(target);
            next = Some(if rest.as_os_str().is_empty() { led } else { led.join(rest) });
            break;
        }
    }
    folders
}

fn parent(file_path: &Path) -> PathBuf {
    match file_path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// What the files hold, as a number: equal contents, equal number. A file that cannot be read counts
/// as such, with the reason.
pub fn fingerprint(files: &BTreeSet<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        match contents(file) {
            Ok(bytes) => bytes.hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn contents(file: &Path) -> std::io::Result<Vec<u8>> {
    let metadata = fs::metadata(file)?;
    if metadata.is_dir() {
        return names(file);
    }
    // A pipe would be waited for.
    if !metadata.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names of a folder's entries: a folder that includes are searched in changes by them.
fn names(folder: &Path) -> std::io::Result<Vec<u8>> {
    let entries = fs::read_dir(folder)?.take(MOST_ENTRIES).flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_encoded_bytes()).collect();
    names.sort_unstable();
    Ok(names.join(&0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_behind_symlinks_is_watched_where_they_stand_and_where_they_lead() {
        let root = tempfile::tempdir().expect("scratch");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("etc/..2026")).expect("folder");
        fs::write(at("etc/..2026/bascule.yaml"), "a").expect("file");
        symlink("..2026", at("etc/..data")).expect("link");
        symlink("..data/bascule.yaml", at("etc/bascule.yaml")).expect("link");
        let expected = [at("etc"), at("etc/..2026"), at("etc/..data")];
        assert_eq!(folders(&at("etc/bascule.yaml")), expected.into());
    }

    #[test]
    fn a_circle_of_symlinks_ends() {
        let root = tempfile::tempdir().expect("scratch");
        let at = |name: &str| root.path().join(name);
        symlink("b", at("a")).expect("link");
        symlink("a", at("b")).expect("link");
        assert_eq!(folders(&at("a")), [root.path().to_path_buf()].into());
    }

    #[test]
    fn the_fingerprint_follows_contents_and_nothing_else() {
        let root = tempfile::tempdir().expect("scratch");
        let file = root.path().join("a");
        let files: BTreeSet<_> = [file.clone()].into();
        let missing = fingerprint(&files);
        fs::write(&file, "one").expect("write");
        let one = fingerprint(&files);
        fs::write(&file, "two").expect("write");
        let two = fingerprint(&files);
        assert!(missing != one && one != two);
        fs::write(root.path().join("b"), "one").expect("write");
        fs::rename(root.path().join("b"), &file).expect("rename");
        assert_eq!(fingerprint(&files), one);
    }
}

//! Where lines of the access log go, opened: a file is written at once, a pipe for no longer than somebody
//! reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};

/// For a reader to take anything; whoever does not read loses lines.
const STILL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// What a pipe that takes anything takes as a whole: PIPE_BUF on Linux.
const AT_ONCE: usize = 4096;

pub(super) struct Outlet {
    file: File,
    manner: Manner,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    /// A file: the disk takes it all, or fails.
    AtOnce,
    /// A pipe, a socket, a terminal: somebody reads at the other end, or does not.
    AsRead,
}

impl Outlet {
    pub(super) fn stdout() -> io::Result<Self> {
        Self::of(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// For appending; readable by the owner and the group, since it names clients. Of a pipe nobody has to
    /// read at this moment: that is an error, not a wait.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let unread = Some(Errno::NXIO.raw_os_error());
        let file = options.open(path).map_err(|error| match error.raw_os_error() == unread {
            true => io::Error::new(ErrorKind::BrokenPipe, "nobody reads the pipe"),
            false => error,
        })?;
        Self::of(file)
    }

    fn of(file: File) -> io::Result<Self> {
        let is_file = file.metadata()?.is_file();
        Ok(Self { file, manner: if is_file { Manner::AtOnce } else { Manner::AsRead } })
    }

    /// Writes all; how many bytes were written until it failed is added to `done`.
    pub(super) fn write(&mut self, bytes: &[u8], done: &mut usize) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let now = match self.manner {
                Manner::AtOnce => left.len(),
                Manner::AsRead => {
                    self.wait()?;
                    left.len().min(AT_ONCE)
                }
            };
            match self.file.write(&left[..now]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    *done += written;
                    left = &left[written..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process took the room that there was.
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && self.manner == Manner::AsRead => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Until it takes something, or has none who reads it.
    fn wait(&self) -> io::Result<()> {
        let ready =
            retry_on_intr(|| poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&STILL)))?;
        match ready {
            0 => Err(io::Error::new(ErrorKind::TimedOut, "nobody reads the other end")),
            _ => Ok(()),
        }
    }
}

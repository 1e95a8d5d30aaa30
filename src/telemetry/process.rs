//! The process's own figures, read from `/proc` at a scrape; what cannot be read is left out.

use std::fs;

/// Ticks a second of the times in `/proc/self/stat` (proc(5)): `USER_HZ`, 100 on every Linux
/// architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// As of now. `None`: not to be had on this system.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessFigures {
    /// Processor time, user and system, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<f64>,
    /// How many there may be.
    pub max_fds: Option<f64>,
    /// When it started, in seconds since 1970.
    pub started: Option<f64>,
}

/// Reads them.
pub fn figures() -> ProcessFigures {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let system = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = |place| field_of_stat(&stat, place).map(|ticks| ticks / TICKS_PER_SECOND);
    ProcessFigures {
        cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
        resident_bytes: number_after(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024.0),
        // One of them is the folder being listed.
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as f64 - 1.0),
        max_fds: number_after(&limits, "Max open files"),
        started: number_after(&system, "btime").zip(ticks(22)).map(|(boot, after)| boot + after),
    }
}

/// A field of `/proc/self/stat` by its number in proc(5), from 3 on: the second may hold anything,
/// spaces and parentheses included, so counting begins behind its last parenthesis.
fn field_of_stat(stat: &str, place: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(place.checked_sub(3)?)?.parse().ok()
}

fn number_after(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 9000 1 1";
        assert_eq!(field_of_stat(stat, 14), Some(250.0));
        assert_eq!(field_of_stat(stat, 15), Some(50.0));
        assert_eq!(field_of_stat(stat, 22), Some(9000.0));
        assert_eq!(field_of_stat("", 14), None);
    }

    #[test]
    fn a_running_process_has_memory_and_files() {
        let figures = figures();
        assert!(figures.resident_bytes.is_some_and(|bytes| bytes > 1024.0), "{figures:?}");
        assert!(figures.open_fds.is_some_and(|fds| fds >= 1.0), "{figures:?}");
        assert!(figures.started.is_some_and(|at| at > 1.6e9), "{figures:?}");
    }
}

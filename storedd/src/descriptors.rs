//! The files that this process may open, and who gets how many: a connection is one, and clients must never take those that the
//! log needs.

use crate::config::Config;
use crate::control::Limits;

/// Files that the store itself may have open at a time, with room to spare.
const FILES_OF_THE_STORE: u64 = 64;

/// A connection is a file: takes as many as the system allows this process; gives their number. Systems start it with
/// few, for programs that use select(2).
#[must_use]
pub(crate) fn allow_many() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }) {
        tracing::warn!(event = "few_files", error = %e, limit = now.current);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets fewer connections in than configured where the process may have only so many `files`: clients must never take
/// the files that the log needs.
fn leave_files(limits: &mut Limits, files: u64) {
    let room = files.saturating_sub(FILES_OF_THE_STORE).max(files / 4);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    limits.ungreeted = limits.ungreeted.min(room / 2).max(1);
    let connections = limits.connections.min(room.saturating_sub(limits.ungreeted)).max(1);
    if connections < limits.connections {
        tracing::warn!(event = "few_files", limit = files, connections, "fewer connections than configured");
    }
    limits.connections = connections;
}

/// A session of the door for mail: its connection, and the file of a long message.
const FILES_OF_A_SESSION: u64 = 2;

/// Sessions of the door for mail, with at most a quarter of the files, and the files that are left to others.
#[must_use]
pub(crate) fn share(config: &Config, files: u64) -> (usize, u64) {
    let wanted = u64::from(config.lmtp.max_sessions);
    let sessions = wanted.min(files / 4 / FILES_OF_A_SESSION);
    if sessions < wanted {
        tracing::warn!(event = "few_files", limit = files, sessions, "fewer LMTP sessions than configured");
    }
    (usize::try_from(sessions).unwrap_or(usize::MAX), files - sessions * FILES_OF_A_SESSION)
}

/// The limits of the control door, from the configuration and the `files` that are left to it.
#[must_use]
pub(crate) fn limits(config: &Config, files: u64) -> Limits {
    let control = &config.control;
    let mut limits = Limits {
        request_bytes: u32::try_from(control.max_frame).unwrap_or(u32::MAX),
        connections: control.max_connections as usize,
        in_flight: control.max_in_flight as usize,
        hello_timeout: control.hello_timeout,
        idle_timeout: control.idle_timeout,
        write_timeout: control.write_timeout,
        ..Limits::default()
    };
    leave_files(&mut limits, files);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn all_doors_together_leave_the_store_its_files() {
        let config = Config::in_dir(Path::new("/nonexistent"));
        for files in [256, 1024, 4096, 65_536] {
            let (sessions, left) = share(&config, files);
            let door = limits(&config, left);
            let taken = sessions as u64 * FILES_OF_A_SESSION + (door.connections + door.ungreeted) as u64;
            assert!(taken + FILES_OF_THE_STORE <= files, "{files}: {taken}");
            assert!(sessions > 0 && door.connections > 0);
        }
        assert_eq!(share(&config, 65_536).0, config.lmtp.max_sessions as usize);
    }
}

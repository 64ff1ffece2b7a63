//! Which socket to talk to, and the connection.
//!
//! What is typed wins over the environment, the environment over the configuration file, that over the usual place.

use crate::cli::Global;
use crate::exit::Outcome;
use crate::files;
use proto::{Client, ClientError, Request, Timeouts};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the daemon of a service listens.
pub const USUAL: &str = "/run/storedd/control.sock";
/// Name of the socket in a data directory.
const FILE: &str = "control.sock";
/// Longest wait for an answer unless told otherwise; long work has no limit.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest configuration file that is looked into.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// The environment's words: `STOREDD_SOCKET` and `STOREDD_CONFIG`.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `STOREDD_SOCKET`; an empty one counts as absent.
    pub socket: Option<OsString>,
    /// `STOREDD_CONFIG`; an empty one counts as absent.
    pub config: Option<OsString>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Environment {
        let word = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Environment { socket: word("STOREDD_SOCKET"), config: word("STOREDD_CONFIG") }
    }
}

/// The socket: `--socket`, `--data-dir`, `STOREDD_SOCKET`, the configuration file, the usual place.
///
/// # Errors
/// A configuration file that was named on the command line and cannot be read.
pub fn path(global: &Global, environment: &Environment) -> Outcome<PathBuf> {
    if let Some(socket) = &global.socket {
        return Ok(socket.clone());
    }
    if let Some(dir) = &global.data_dir {
        return Ok(dir.join(FILE));
    }
    if let Some(socket) = &environment.socket {
        return Ok(socket.into());
    }
    let configured = match (&global.config, &environment.config) {
        (Some(file), _) => configured(&files::read(file, CONFIG_BYTES_MAX)?),
        // One that this user may not read does not stand in the way of the usual place.
        (None, Some(file)) => files::read(Path::new(file), CONFIG_BYTES_MAX).ok().and_then(|bytes| configured(&bytes)),
        (None, None) => None,
    };
    Ok(configured.unwrap_or_else(|| USUAL.into()))
}

/// The socket that a configuration file names; `None` if it says nothing of it. The daemon is who checks the file.
fn configured(bytes: &[u8]) -> Option<PathBuf> {
    let file: toml::Table = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    let word = |section: &str, key: &str| file.get(section)?.get(key)?.as_str();
    let (data, runtime, socket) = (word("store", "data_dir"), word("store", "runtime_dir"), word("control", "socket"));
    if data.is_none() && runtime.is_none() && socket.is_none() {
        return None;
    }
    let data = Path::new(data.unwrap_or("/var/lib/storedd"));
    Some(data.join(runtime.unwrap_or(".")).join(socket.unwrap_or(FILE)))
}

/// How this program calls itself.
const NAME: &str = concat!("storectl ", env!("CARGO_PKG_VERSION"));

/// Connects; `long`: for work that may rightly say nothing for minutes.
///
/// # Errors
/// No daemon, not allowed, another protocol.
pub fn connect(path: &Path, timeout: Option<Duration>, long: bool) -> Result<Client, ClientError> {
    connect_as(NAME, path, timeout, long)
}

/// As [`connect`], for work that comes in numbers and may be refused first when a disk runs full.
///
/// # Errors
/// As [`connect`].
pub fn connect_bulk(path: &Path, timeout: Option<Duration>) -> Result<Client, ClientError> {
    connect_as(&format!("{NAME}{}", proto::BULK), path, timeout, true)
}

fn connect_as(name: &str, path: &Path, timeout: Option<Duration>, long: bool) -> Result<Client, ClientError> {
    let mut timeouts = Timeouts::default();
    timeouts.answer = match timeout {
        Some(Duration::ZERO) => None,
        Some(timeout) => {
            timeouts.hello = timeouts.hello.min(timeout);
            timeouts.send = timeouts.send.min(timeout);
            Some(timeout)
        }
        None if long => None,
        None => Some(PATIENCE),
    };
    let mut client = Client::connect(path, name, timeouts)?;
    if let Some(id) = lease(path, std::env::var_os(LEASE)) {
        client.call(&Request::LockJoin { id })?;
    }
    Ok(client)
}

/// Set for a command that runs under a lease: its number, `@`, and the socket of the daemon that granted it.
pub const LEASE: &str = "STOREDD_LEASE";

/// What stands in [`LEASE`].
#[must_use]
pub fn lease_word(id: u64, path: &Path) -> OsString {
    let mut word = OsString::from(format!("{id}@"));
    word.push(path.canonicalize().as_deref().unwrap_or(path));
    word
}

/// The lease that this process acts for at the daemon of this socket.
fn lease(path: &Path, word: Option<OsString>) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let word = word?;
    let at = word.as_bytes().iter().position(|byte| *byte == b'@')?;
    let id = std::str::from_utf8(&word.as_bytes()[..at]).ok()?.parse().ok()?;
    (word == lease_word(id, path)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(data_dir: Option<&str>, socket: Option<&str>) -> Global {
        Global { data_dir: data_dir.map(Into::into), socket: socket.map(Into::into), ..Global::default() }
    }

    #[test]
    fn what_is_typed_wins() {
        let none = Environment::default();
        let env = Environment { socket: Some("/env.sock".into()), config: None };
        let find = |global: &Global, env: &Environment| path(global, env).unwrap();
        assert_eq!(find(&global(Some("d"), Some("s")), &env), Path::new("s"));
        assert_eq!(find(&global(Some("d"), None), &env), Path::new("d/control.sock"));
        assert_eq!(find(&global(None, None), &env), Path::new("/env.sock"));
        assert_eq!(find(&global(None, None), &none), Path::new(USUAL));
    }

    #[test]
    fn a_lease_counts_at_the_daemon_that_granted_it() {
        let word = lease_word(7, Path::new("/no/such@place.sock"));
        assert_eq!(lease(Path::new("/no/such@place.sock"), Some(word.clone())), Some(7));
        assert_eq!(lease(Path::new("/no/other.sock"), Some(word)), None);
        assert_eq!(lease(Path::new("/s"), Some("x".into())), None);
        assert_eq!(lease(Path::new("/s"), None), None);
    }

    #[test]
    fn a_configuration_names_the_socket() {
        assert_eq!(configured(b"[log]\nsegment_size = 1"), None);
        assert_eq!(configured(b"not toml"), None);
        let found = |text: &str| configured(text.as_bytes()).unwrap();
        assert_eq!(found("[store]\ndata_dir = \"/d\""), Path::new("/d/./control.sock"));
        assert_eq!(found("[store]\nruntime_dir = \"/run/x\""), Path::new("/run/x/control.sock"));
        assert_eq!(found("[control]\nsocket = \"/s\""), Path::new("/s"));
    }
}

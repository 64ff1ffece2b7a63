//! Why a call did not give a reply; each as a [`Failure`] with code and hint, so that a program treats failures of the
//! connection and failures told by the daemon alike.

use crate::codec::PutError;
use crate::{Code, Failure};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Longest path of a Unix socket in bytes (`sun_path` is 108 with its closing zero).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a call did not give a reply. [`ClientError::failure`] has code, text and hint of each.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: no such socket, nobody listens, not allowed, path too long.
    #[error("{}", self.failure())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The connection broke. Whether a change that was sent and not answered was done is not known.
    #[error("{}", self.failure())]
    Lost {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The daemon did not go on for so long. Whether a change that was sent was done is not known.
    #[error("{}", self.failure())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// What was waited for: `greeting`, `answer`, `room to send`.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The other end speaks something else.
    #[error("{}", self.failure())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What was found and what was expected.
        cause: String,
    },
    /// The request cannot be sent: it is too long. The connection is as before.
    #[error("{}", self.failure())]
    Unsendable {
        /// Why.
        #[from]
        cause: PutError,
    },
    /// The daemon ended the connection, saying why: not permitted, too many connections, idle, stopping.
    #[error("{0}")]
    Dismissed(Failure),
    /// The daemon answered the request with a failure. The connection is as before.
    #[error("{0}")]
    Failed(Failure),
}

impl ClientError {
    /// Code, text and hint.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            ClientError::Unreachable { path, cause } => unreachable(path, cause),
            ClientError::Lost { path, cause } => {
                Failure::new(Code::Unavailable, format!("connection to {} lost: {cause}", path.display()))
                    .with_hint("a change that was not answered may have been done or not: look before repeating it")
            }
            ClientError::TimedOut { path, what, after } => Failure::new(
                Code::Unavailable,
                format!("no {what} from {} for {} s", path.display(), after.as_secs_f64()),
            )
            .with_hint("the daemon is stuck or overloaded; a change that was not answered may have been done or not"),
            ClientError::Protocol { path, cause } => {
                Failure::new(Code::Protocol, format!("{}: {cause}", path.display()))
                    .with_hint("use client and daemon of the same release, and the socket of a storedd")
            }
            ClientError::Unsendable { cause } => Failure::new(Code::BadInput, format!("request not sent: {cause}")),
            ClientError::Dismissed(failure) | ClientError::Failed(failure) => failure.clone(),
        }
    }

    /// False if the connection can be used on.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, ClientError::Failed(_) | ClientError::Unsendable { .. })
    }
}

fn unreachable(path: &std::path::Path, cause: &io::Error) -> Failure {
    let start =
        "start the daemon (systemctl start storedd, or storedd --data-dir DIR), or name its socket with --socket";
    let at = path.display();
    match cause.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Code::Unavailable, format!("storedd is not running here: no socket {at}")).with_hint(start)
        }
        io::ErrorKind::ConnectionRefused => {
            Failure::new(Code::Unavailable, format!("storedd is not running: nobody listens on {at}")).with_hint(start)
        }
        io::ErrorKind::PermissionDenied => Failure::new(Code::NotPermitted, format!("not allowed to connect to {at}"))
            .with_hint("run this as root or as the user the daemon runs as"),
        io::ErrorKind::InvalidInput => Failure::new(
            Code::Usage,
            format!(
                "socket path of {} bytes, at most {SOCKET_PATH_BYTES_MAX} are possible: {at}",
                path.as_os_str().len()
            ),
        )
        .with_hint("give a shorter one with --socket"),
        _ => Failure::new(Code::Unavailable, format!("cannot connect to {at}: {cause}")).with_hint(start),
    }
}

//! Names that the running store holds, for those who type: soon, few, or none. Completions and "did you mean" live of it.
//!
//! Everything here happens beside the work proper, so nothing here may fail or wait: a daemon that does not answer within
//! [`PATIENCE`] gives no names, whatever it hangs in.

use crate::cli::Global;
use crate::socket::{self, Environment};
use proto::{Reply, Request};
use std::ops::ControlFlow;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Longest wait for names, all in all.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// User ids.
    Users,
    /// Full names of mailboxes.
    Mailboxes,
    /// Partitions.
    Partitions,
    /// Jobs that have not ended.
    Jobs,
    /// Options of the configuration, as `section.key`.
    Options,
}

/// Names that begin with `prefix`, at most `most` of them, in order.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "somebody waits by the clock on the wall; nothing is decided by it")]
pub fn starting(global: &Global, environment: &Environment, kind: Kind, prefix: &str, most: usize) -> Vec<String> {
    // A pattern would match more than what is typed.
    if prefix.contains(['*', '%']) {
        return Vec::new();
    }
    let Ok(path) = socket::path(global, environment) else { return Vec::new() };
    let request = match kind {
        Kind::Users => Request::UserList { pattern: Some(format!("{prefix}*")) },
        Kind::Mailboxes => Request::MailboxList { pattern: format!("{prefix}*") },
        Kind::Partitions => Request::PartitionList,
        Kind::Jobs => Request::Jobs,
        Kind::Options => Request::ConfigShow { defaults: true },
    };
    let (found, names) = channel::<String>();
    // On a thread of its own: a connection to a daemon that is stopped can wait where no limit of the socket reaches.
    let asker = std::thread::Builder::new().spawn(move || ask(&path, &request, &found));
    let deadline = Instant::now() + PATIENCE;
    let mut out = Vec::new();
    while asker.is_ok() && out.len() < most {
        match names.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(name) if name.starts_with(prefix) => out.push(name),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    out
}

/// Sends the names of the answer, until nobody takes them any more.
fn ask(path: &std::path::Path, request: &Request, found: &Sender<String>) {
    let Ok(mut client) = socket::connect(path, Some(PATIENCE), false) else { return };
    // What came before a failure is as good as what comes without one.
    let _ = client.call_stream(request, |reply| match names(reply).into_iter().try_for_each(|name| found.send(name)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
}

fn names(reply: Reply) -> Vec<String> {
    match reply {
        Reply::Users(users) => users.into_iter().map(|user| user.user).collect(),
        Reply::Mailboxes(mailboxes) => mailboxes.into_iter().map(|mailbox| mailbox.name).collect(),
        Reply::Partitions(partitions) => partitions.into_iter().map(|partition| partition.name).collect(),
        Reply::Jobs(jobs) => jobs.into_iter().filter(|job| !job.is_over()).map(|job| job.id.to_string()).collect(),
        Reply::Config(options) => options.into_keys().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Act, Fake};

    fn user(user: &str) -> proto::User {
        proto::User { user: user.to_owned(), partition: String::new(), mailboxes: 1 }
    }

    fn ask_for(fake: &Fake, prefix: &str, most: usize) -> Vec<String> {
        let global = Global { data_dir: Some(fake.dir()), ..Global::default() };
        starting(&global, &Environment::default(), Kind::Users, prefix, most)
    }

    #[test]
    fn names_are_few_and_begin_as_asked() {
        let users = || Reply::Users(vec![user("jane"), user("bob"), user("joe")]);
        let fake = Fake::start(move |_| Act::Parts(vec![users(), users()]));
        assert_eq!(ask_for(&fake, "j", 3), ["jane", "joe", "jane"]);
        assert_eq!(fake.asked.recv().unwrap(), Request::UserList { pattern: Some("j*".to_owned()) });
        assert_eq!(ask_for(&fake, "j*", 3), [""; 0], "a pattern is no name");
    }

    /// The socket is there and takes connections, and nobody ever reads: a stopped daemon looks like this.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "what must not hang is measured")]
    fn nobody_waits_for_a_daemon_that_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let global = Global { data_dir: Some(dir.path().to_owned()), ..Global::default() };
        let begun = Instant::now();
        assert_eq!(starting(&global, &Environment::default(), Kind::Mailboxes, "", 10), [""; 0]);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

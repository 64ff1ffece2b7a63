//! One line for each change asked for (of a batch for each of the first [`LINES`], and one that says how many more): the tracing event `audit` (target `audit`, level info) with `uid`, `pid`, `verb`,
//! `outcome`, and where there is one `target` and `lsn`. It never holds message content, and what a client wrote stands in it escaped and cut.

use super::service::{Committed, Peer};
use crate::model::Outcome;
use proto::{Failure, Request};
use std::collections::BTreeMap;
use tracing::Level;

/// Bytes of a target that are shown.
const TARGET_BYTES: usize = 256;
/// Lines for the commands of one transaction. Its LSN stands in each, and `log dump` shows all of it.
const LINES: usize = 1000;

/// What a request asked to change, kept until its outcome is known.
#[derive(Debug)]
pub(super) struct Audit {
    /// Verb and target of each command, of the first [`LINES`].
    asked: Vec<(&'static str, String)>,
    /// How many further ones there are, by verb.
    more: BTreeMap<&'static str, u64>,
}

impl Audit {
    /// What to write of `request`; nothing if it changes nothing or nobody listens.
    pub(super) fn of(request: &Request) -> Option<Audit> {
        if !tracing::enabled!(target: "audit", Level::INFO) {
            return None;
        }
        let mut more = BTreeMap::new();
        let asked = match request {
            Request::JobStart { work, .. } => return Audit::of(&work.request()),
            Request::JobCancel { id } => vec![(request.verb(), id.to_string())],
            Request::Change { command, dry_run: false } => vec![(command.verb(), cut(command.target()))],
            Request::Atomic { commands } => {
                commands.iter().skip(LINES).for_each(|c| *more.entry(c.verb()).or_default() += 1);
                commands.iter().take(LINES).map(|c| (c.verb(), cut(c.target()))).collect()
            }
            Request::Shutdown { .. }
            | Request::Restart { .. }
            | Request::QuotaRecalc { dry_run: false }
            | Request::Maintenance { window: proto::Window::Start { .. } | proto::Window::Stop }
            | Request::SnapshotTake { .. }
            | Request::SnapshotPrune
            | Request::Drill
            | Request::Expire { dry_run: false }
            | Request::Purge { dry_run: false }
            | Request::Peruser
            | Request::UserMove { .. }
            | Request::ConfigReload { dry_run: false }
            | Request::Freeze { .. }
            | Request::Drain { .. }
            | Request::AcceptLoss
            | Request::ReadOnly { .. } => {
                vec![(request.verb(), String::new())]
            }
            Request::Reconstruct(wanted) if !wanted.dry_run && !wanted.list => {
                vec![(request.verb(), cut(&wanted.mailboxes.join(" ")))]
            }
            Request::Backup(proto::BackupAsk::Heal(heal)) => vec![("restore", cut(&heal.name))],
            Request::BackupDb { dir } | Request::BackupComplete { dir } => vec![(request.verb(), cut(dir))],
            Request::SnapshotDelete { id } => vec![(request.verb(), cut(id))],
            Request::LockTake { resource, .. } => vec![(request.verb(), cut(resource))],
            Request::LockBreak { id } => vec![(request.verb(), id.to_string())],
            _ => return None,
        };
        Some(Audit { asked, more })
    }

    /// Writes the lines of a change.
    pub(super) fn changed(&self, peer: &Peer, answer: &Result<Committed, Failure>) {
        match answer {
            Ok(Committed { outcome: Outcome::Each(each), lsn }) if each.len() >= self.asked.len() => {
                let lines = self.asked.iter().zip(each);
                lines.for_each(|((verb, target), outcome)| line(peer, verb, target, word(outcome), lsn.0));
                self.rest(peer, "done", lsn.0);
            }
            Ok(Committed { outcome, lsn }) => self.lines(peer, word(outcome), lsn.0),
            Err(failure) => self.failed(peer, failure),
        }
    }

    /// Writes the lines of something that was not done.
    pub(super) fn failed(&self, peer: &Peer, failure: &Failure) {
        self.lines(peer, failure.code.word(), 0);
    }

    /// Writes the lines of something that was done and has no LSN.
    pub(super) fn done(&self, peer: &Peer) {
        self.lines(peer, "done", 0);
    }

    fn lines(&self, peer: &Peer, outcome: &str, lsn: u64) {
        self.asked.iter().for_each(|(verb, target)| line(peer, verb, target, outcome, lsn));
        self.rest(peer, outcome, lsn);
    }

    /// One line for each verb of what has no line of its own.
    fn rest(&self, peer: &Peer, outcome: &str, lsn: u64) {
        self.more.iter().for_each(|(verb, count)| line(peer, verb, &format!("(and {count} more)"), outcome, lsn));
    }
}

/// A connection that was refused because of who made it.
pub(super) fn refused(peer: &Peer) {
    line(peer, "connect", "", "not_permitted", 0);
}

fn line(peer: &Peer, verb: &str, target: &str, outcome: &str, lsn: u64) {
    let Peer { uid, pid, .. } = peer;
    let target = (!target.is_empty()).then_some(target);
    let lsn = (lsn > 0).then_some(lsn);
    // As text: whoever writes the line quotes and escapes it.
    tracing::event!(name: "audit", target: "audit", Level::INFO, uid, pid, verb, target, outcome, lsn);
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::Recalculated(roots) if roots.is_empty() => "unchanged",
        Outcome::Recalculated(_)
        | Outcome::Done
        | Outcome::Created { .. }
        | Outcome::Returned(_)
        | Outcome::MailboxReturned { .. }
        | Outcome::Mailboxes(_)
        | Outcome::Delivered(_)
        | Outcome::Each(_) => "done",
    }
}

fn cut(text: &str) -> String {
    let end = (0..=TARGET_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

/// What is logged on this thread while `work` runs.
#[cfg(test)]
pub(super) fn logged(work: impl FnOnce()) -> String {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).without_time().finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use proto::{Code, Command};

    fn peer() -> Peer {
        Peer {
            connection: 1,
            late: false,
            uid: 1000,
            gid: 1000,
            pid: 42,
            client: "test".to_owned(),
            role: super::super::access::Role::Owner,
        }
    }

    fn delete(user: &str) -> Command {
        Command::UserDelete { user: user.to_owned() }
    }

    #[test]
    fn a_change_leaves_one_line() {
        let request = Request::Change { command: delete("joe"), dry_run: false };
        let committed = Ok(Committed { lsn: Lsn(7), outcome: Outcome::Mailboxes(3) });
        let text = logged(|| Audit::of(&request).unwrap().changed(&peer(), &committed));
        assert_eq!(text.trim(), r#"INFO audit: uid=1000 pid=42 verb="user delete" target="joe" outcome="done" lsn=7"#);
        let refused = Err(Failure::new(Code::NoUser, "no such user"));
        let text = logged(|| Audit::of(&request).unwrap().changed(&peer(), &refused));
        assert!(text.trim().ends_with(r#"outcome="no_user""#), "{text}");
    }

    #[test]
    fn a_transaction_leaves_a_line_for_each_command() {
        let request = Request::Atomic { commands: vec![delete("a"), delete("b")] };
        let each = Outcome::Each(vec![Outcome::Done, Outcome::Unchanged]);
        let text =
            logged(|| Audit::of(&request).unwrap().changed(&peer(), &Ok(Committed { lsn: Lsn(7), outcome: each })));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains(r#"target="a" outcome="done" lsn=7"#), "{text}");
        assert!(lines[1].contains(r#"target="b" outcome="unchanged" lsn=7"#), "{text}");
    }

    // A transaction of 16 MiB left hundreds of thousands of lines, written before anybody was answered.
    #[test]
    fn a_large_transaction_leaves_so_many_lines_and_says_how_many_more() {
        let commands: Vec<Command> = (0..LINES + 70_000).map(|n| delete(&n.to_string())).collect();
        let request = Request::Atomic { commands };
        let each = Outcome::Each(vec![Outcome::Done; LINES + 70_000]);
        let audit = Audit::of(&request);
        let text = logged(|| {
            let audit = audit.or_else(|| Audit::of(&request)).unwrap();
            audit.changed(&peer(), &Ok(Committed { lsn: Lsn(7), outcome: each }));
        });
        assert_eq!(text.lines().count(), LINES + 1);
        assert!(text.contains(r#"verb="user delete" target="(and 70000 more)" outcome="done" lsn=7"#), "{text}");
    }

    // S3, S17
    /// A name cannot forge a line, nor fill the log.
    #[test]
    fn hostile_targets_are_escaped_and_cut() {
        let user = format!("x\nINFO audit: uid=0\u{1b}[2J{}", "ä".repeat(10_000));
        let request = Request::Change { command: delete(&user), dry_run: false };
        let text = logged(|| Audit::of(&request).unwrap().failed(&peer(), &Failure::new(Code::BadInput, "bad name")));
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\u{1b}'));
        assert!(text.len() < 500, "{} bytes", text.len());
    }

    #[test]
    fn queries_and_dry_runs_leave_none() {
        let text = logged(|| {
            assert!(Audit::of(&Request::Status).is_none());
            assert!(Audit::of(&Request::Change { command: delete("joe"), dry_run: true }).is_none());
        });
        assert_eq!(text, "");
    }
}

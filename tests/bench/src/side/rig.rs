//! One of the three with its mail in a directory: started, looked at, harmed, repaired by what its operator would type.

use super::imap::{self, Imap};
use crate::daemon::{Daemon, Place};
use crate::engines::Failure;
use crate::lmtp::{self, Session};
use crate::servers::{self, Server, beside};
use proto::{Command, Reply, Request};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time until a server takes mail, or lets a user in.
const PATIENCE: Duration = Duration::from_secs(30);
/// Users of every experiment.
pub const USERS: u64 = 4;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// What is known of the messages of each mailbox.
    Index,
    /// What is known of mailboxes, or of where their messages lie.
    Database,
    /// Both.
    Both,
}

/// A message as a user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// UID.
    pub uid: u32,
    /// It is flagged.
    pub flagged: bool,
    /// Its bytes; `None`: refused.
    pub text: Option<Vec<u8>>,
}

/// A mailbox as a user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inbox {
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// In order.
    pub messages: Vec<Seen>,
}

enum Running {
    Store(Place, Daemon, u16),
    Peer(Server),
}

/// See the page.
pub struct Rig {
    /// `storedd`, `cyrus` or `dovecot`.
    pub name: &'static str,
    work: PathBuf,
    dir: PathBuf,
    running: Option<Running>,
}

impl Rig {
    /// With its mail below `dir`; started.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn new(name: &'static str, work: &Path, dir: &Path) -> Result<Rig, Failure> {
        fs::create_dir_all(dir)?;
        let mut rig = Rig { name, work: work.to_owned(), dir: dir.to_owned(), running: None };
        rig.start()?;
        // One session makes all mailboxes, see `Server::warm_up`.
        let mut session = rig.session()?;
        for n in 0..USERS {
            if let Some(Running::Store(place, ..)) = &rig.running {
                let user = lmtp::user(n);
                let command = Command::UserAdd { user, partition: None, quota_bytes: None, quota_messages: None };
                place.client()?.call(&Request::Change { command, dry_run: false })?;
            }
            session.deliver(&lmtp::user(n), b"Subject: first\r\n\r\nfirst\r\n.\r\n")?;
        }
        Ok(rig)
    }

    /// Starts it over what is there.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(&mut self) -> Result<(), Failure> {
        self.running = Some(match self.name {
            "storedd" => {
                let port = servers::free_port()?;
                let place = servers::store_place(self.dir.join("storedd"), port)?;
                let daemon = place.start()?;
                Running::Store(place, daemon, port)
            }
            name => Running::Peer(Server::restart_peer(name, &self.work, &self.dir, None)?),
        });
        Ok(())
    }

    /// Where it takes mail.
    pub fn port(&self) -> u16 {
        match &self.running {
            Some(Running::Store(_, _, port)) => *port,
            Some(Running::Peer(server)) => server.port,
            None => 0,
        }
    }

    /// A session for deliveries; a server that has just started may need a moment.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn session(&self) -> Result<Session, Failure> {
        let begun = Instant::now();
        loop {
            match Session::open(self.port()) {
                Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(200)),
                done => return done,
            }
        }
    }

    /// Ends it as an operator does; what was put off is done.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn stop(&mut self) -> Result<(), Failure> {
        match self.running.take() {
            Some(Running::Store(place, daemon, _)) => place.stop(daemon),
            // Dropped, it is asked to end.
            _ => Ok(()),
        }
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(Running::Store(_, daemon, _)) = &mut self.running {
            let _ = daemon.child.kill();
        }
        self.running = None;
    }

    fn imap(&self, user: &str) -> Result<Imap, Failure> {
        let Some(Running::Peer(server)) = &self.running else { return Err(Failure::new("it does not run")) };
        let user = if self.name == "dovecot" { format!("{user}@example.org") } else { user.to_owned() };
        let begun = Instant::now();
        loop {
            match Imap::login(server.imap, &user) {
                Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(200)),
                done => return done,
            }
        }
    }

    /// What a user sees in his INBOX; nothing if he has none.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn inbox(&self, user: &str) -> Result<Inbox, Failure> {
        match &self.running {
            Some(Running::Store(place, ..)) => store_inbox(place, user),
            _ => {
                let mut imap = self.imap(user)?;
                let Ok(selected) = imap.ask("SELECT INBOX") else { return Ok(Inbox::default()) };
                let uidvalidity = selected.iter().find_map(|line| imap::number(line, "UIDVALIDITY")).unwrap_or(0);
                let mut messages = Vec::new();
                for line in imap.ask("UID FETCH 1:* (UID FLAGS)")? {
                    let Some(uid) = imap::number(&line, "UID ") else { continue };
                    let flagged = String::from_utf8_lossy(&line).contains("\\Flagged");
                    let text = imap.ask(&format!("UID FETCH {uid} BODY.PEEK[]")).ok().and_then(|all| literal(&all));
                    messages.push(Seen { uid, flagged, text });
                }
                Ok(Inbox { uidvalidity, messages })
            }
        }
    }

    /// Flags some messages and expunges others.
    ///
    /// # Errors
    /// If it is refused.
    pub fn mark(&self, user: &str, flag: &[u32], expunge: &[u32]) -> Result<(), Failure> {
        let set = |uids: &[u32]| uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        match &self.running {
            Some(Running::Store(place, ..)) => {
                let inbox = format!("user/{user}/INBOX");
                place.ctl(&["message", "flags", &inbox, &set(flag), "--add", "\\Flagged"])?;
                place.ctl(&["message", "expunge", &inbox, &set(expunge)]).map(drop)
            }
            _ => {
                let mut imap = self.imap(user)?;
                imap.ask("SELECT INBOX")?;
                imap.ask(&format!("UID STORE {} +FLAGS (\\Flagged)", set(flag)))?;
                imap.ask(&format!("UID STORE {} +FLAGS (\\Deleted)", set(expunge)))?;
                imap.ask("EXPUNGE").map(drop)
            }
        }
    }

    /// The directory in which its messages lie.
    pub fn mail(&self) -> PathBuf {
        self.dir.join(match self.name {
            "storedd" => "storedd/data/partition",
            "cyrus" => "cyrus/spool",
            _ => "dovecot/mail",
        })
    }

    /// Takes something away of one that is stopped.
    ///
    /// # Errors
    /// If nothing was there.
    pub fn lose(&self, loss: Loss) -> Result<(), Failure> {
        let index: fn(&str) -> bool = match self.name {
            "storedd" => |name| name == "store.idx",
            "cyrus" => |name| name == "cyrus.index" || name == "cyrus.cache",
            _ => |name| name.starts_with("dovecot.index"),
        };
        let (root, database): (PathBuf, fn(&str) -> bool) = match self.name {
            "storedd" => (self.dir.join("storedd/data/mboxlist"), |name| {
                name == "mboxlist.redb" || name.starts_with("log.") || name.starts_with("spare.")
            }),
            "cyrus" => {
                (self.dir.join("cyrus/conf"), |name| name == "mailboxes.db" || name.starts_with("mailboxes.db."))
            }
            _ => (self.mail(), |name| name.starts_with("dovecot.map.index")),
        };
        let mut gone = 0;
        if loss != Loss::Database {
            gone += remove(&self.mail(), &index)?;
        }
        if loss != Loss::Index {
            gone += remove(&root, &database)?;
            let _ = fs::remove_dir_all(self.dir.join("storedd/data/dbdata/snapshots"));
        }
        if gone == 0 { Err(Failure::new(format!("{}: nothing was there to lose", self.name))) } else { Ok(()) }
    }

    /// Brings back what can be, as its documents say.
    ///
    /// # Errors
    /// If the command cannot be run.
    pub fn repair(&self, loss: Loss) -> Result<(), Failure> {
        let users = format!("seq -f bench%03g 0 {}", USERS - 1);
        match &self.running {
            Some(Running::Store(place, ..)) => place.ctl(&["reconstruct"]).map(drop),
            Some(Running::Peer(_)) if self.name == "cyrus" => {
                let run = "setpriv --reuid cyrus --regid mail --clear-groups xargs -r /usr/lib/cyrus/bin/reconstruct -C /srv/peer/imapd.conf";
                let paths = "find /srv/peer/spool -name cyrus.header -printf '%h\\n'";
                let command = match loss {
                    Loss::Index => format!("{users} | sed s:^:user/: | {run}"),
                    _ => format!("{paths} | {run} -P; {users} | sed s:^:user/: | {run}"),
                };
                beside(self.name, &self.work, &format!("{{ {command}; }} || true")).map(drop)
            }
            _ => {
                let each = "doveadm -c /srv/peer/dovecot.conf force-resync -u {}@example.org INBOX";
                beside(self.name, &self.work, &format!("{users} | xargs -I{{}} {each} || true")).map(drop)
            }
        }
    }
}

fn literal(answers: &[Vec<u8>]) -> Option<Vec<u8>> {
    let answer = answers.iter().find(|answer| answer.windows(5).any(|five| five == b"BODY["))?;
    let head = answer.split_inclusive(|b| *b == b'\n').next()?;
    let length: usize = String::from_utf8_lossy(head).trim_end().strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()?;
    answer.get(head.len()..head.len() + length).map(<[u8]>::to_vec)
}

fn store_inbox(place: &Place, user: &str) -> Result<Inbox, Failure> {
    let (inbox, mut client) = (format!("user/{user}/INBOX"), place.client()?);
    let Ok(detail) = place.ctl(&["mailbox", "show", &inbox]) else { return Ok(Inbox::default()) };
    let uidvalidity = detail["uidvalidity"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let mut messages = Vec::new();
    for message in place.ctl(&["message", "list", &inbox])?.as_array().map_or(&[][..], Vec::as_slice) {
        let uid = message["uid"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let flagged = message["flags"].to_string().contains("Flagged");
        let text = match client.call(&Request::MessageBytes { name: inbox.clone(), uid }) {
            Ok(Reply::MessageBytes(bytes)) => Some(bytes),
            _ => None,
        };
        messages.push(Seen { uid, flagged, text });
    }
    Ok(Inbox { uidvalidity, messages })
}

/// Removes files below a directory whose names are meant; how many.
fn remove(dir: &Path, is_meant: &dyn Fn(&str) -> bool) -> Result<u64, Failure> {
    let mut gone = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            gone += remove(&entry.path(), is_meant)?;
        } else if is_meant(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
            gone += 1;
        }
    }
    Ok(gone)
}

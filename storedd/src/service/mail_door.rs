//! The store as the door for mail sees it.

use super::adoption::Named;
use super::taking::{NotTaken, Taken};
use super::{Daemon, Handle};
use crate::config::{Config, OverQuota};
use crate::control::access::Role;
use crate::control::{Listener, Peer, State};
use crate::error::StoreError;
use crate::lmtp::address::{Address, Rules};
use crate::lmtp::reply::Refused;
use crate::lmtp::{Delivery, Done, Door, Limits, Message, Sockets, Staging, Stored, machine};
use crate::mail::{self, Intake};
use crate::model::command::{self, Delivered, Incoming, RefusalKind, Target};
use crate::model::message::Flags;
use crate::model::rights;
use crate::model::rows::MailboxView;
use crate::model::{MailboxName, Refusal, Rows, Table};
use crate::store::View;
use proto::{Code, Failure};
use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Sessions have numbers from here on, above those of all connections to the control socket.
const FIRST_SESSION: u64 = 1 << 63;
/// Messages up to this length are kept in memory while there is no store to ask.
const INLINE_LEAST: usize = 4 << 10;
/// The right to send mail to a mailbox.
const POST: char = 'p';
/// Who may connect: the owner and the group.
const SOCKET_MODE: u32 = 0o660;

impl Daemon {
    /// Opens the door for mail, for at most `sessions`, on the socket that the service manager has made, if it has; `None` if the
    /// configuration has no door. While the store recovers, every recipient is told to be tried again.
    ///
    /// # Errors
    /// [`StoreError`] if a socket cannot be had.
    pub fn open_mail_door(
        self: &Arc<Daemon>,
        runtime: &Runtime,
        sessions: usize,
        handed: Option<&UnixListener>,
    ) -> Result<Option<Door>, StoreError> {
        let config = self.config();
        let socket = &config.lmtp.socket;
        let unix = match handed {
            Some(handed) => Some(Listener::inherit(handed, socket)?),
            None if socket.as_os_str().is_empty() => None,
            None => Some(Listener::bind(socket, SOCKET_MODE)?),
        };
        let listen =
            |address| Sockets::tcp(address).map_err(|e| StoreError::io("listen", format!("lmtp.listen {address}"), e));
        let tcp = config.lmtp_address().map(listen).transpose()?;
        if unix.is_none() && tcp.is_none() {
            return Ok(None);
        }
        let port = tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
        let (delivery, counters) = (Arc::new(Handle(self.clone())), self.mail.clone());
        let limits = limits(&config, sessions);
        let _inside = runtime.enter();
        let door = Door::open(Sockets { unix, tcp }, delivery, limits, counters, FIRST_SESSION)
            .map_err(|e| StoreError::io("listen", "lmtp", e))?;
        let first = self.mail_closer.set(door.closer()).is_ok();
        assert!(first, "a daemon has one door for mail");
        let port = port.map(|port| port.to_string());
        tracing::info!(event = "lmtp.listening", socket = %socket.display(), port, handed_over = handed.is_some());
        Ok(Some(door))
    }

    /// Finds out which mailbox an address means.
    fn mailbox_of(&self, view: &View, to: &Address) -> Result<MailboxName, Refused> {
        let config = self.config();
        let rules = Rules::new(&config.lmtp.delimiter, &config.lmtp.local_domains);
        let is = |table, key: &[u8]| view.contains(table, key).map_err(|e| not_read(&e));
        for meaning in to.meanings(&rules) {
            let user = meaning.user.as_str();
            if !is(Table::Users, user.as_bytes())? {
                continue;
            }
            let folder = meaning.folder.and_then(|folder| MailboxName::parse(&format!("user/{user}/{folder}")).ok());
            if let Some(folder) = folder
                && self.may_post(view, user, &folder)?
            {
                return Ok(folder);
            }
            let inbox = MailboxName::inbox(user);
            return if is(Table::Mailboxes, inbox.key())? { Ok(inbox) } else { Err(Refused::NoInbox) };
        }
        Err(Refused::Unknown)
    }

    /// True if there is such a folder and its owner, or everybody, has the right to post to it (RFC 4314: `p`): who takes it from
    /// himself gets that mail into his INBOX.
    fn may_post(&self, view: &View, owner: &str, folder: &MailboxName) -> Result<bool, Refused> {
        let row = view.get(Table::Mailboxes, folder.key()).map_err(|e| not_read(&e))?;
        let Some(row) = row else { return Ok(false) };
        let row = MailboxView::decode(folder.key(), &row).map_err(|e| not_read(&e))?;
        Ok(rights::of_user(owner, Some(owner), row.acl.iter().copied()).has(POST))
    }
}

/// A row could not be read.
fn not_read(error: &StoreError) -> Refused {
    tracing::error!(event = "lmtp.lookup", %error);
    Refused::Failed
}

fn limits(config: &Config, sessions: usize) -> Limits {
    let lmtp = &config.lmtp;
    Limits {
        machine: machine::Limits { message_bytes: lmtp.max_message, recipients: lmtp.max_recipients as usize },
        sessions: sessions.max(1),
        idle_timeout: lmtp.idle_timeout,
        data_timeout: lmtp.data_timeout,
        over_quota_bounces: lmtp.over_quota == OverQuota::Bounce,
    }
}

/// Why no mail is taken now, if that is so. What was begun before a stop is finished.
fn not_now(state: State) -> Option<Refused> {
    match state {
        State::Ready | State::Draining => None,
        State::Recovering => Some(Refused::NotReady("the store recovers; try again later")),
        State::ReadOnly => Some(Refused::NotReady("the store takes no changes now")),
        State::Poisoned => Some(Refused::NotReady("the store restarts; try again later")),
    }
}

impl Delivery for Handle {
    fn begins(&self, session: u64) -> bool {
        self.0.modes.greeted(session)
    }

    fn ended(&self, session: u64) {
        self.0.modes.gone(session);
        self.0.leases.gone(session);
    }

    fn resolve(&self, to: &Address) -> Result<MailboxName, Refused> {
        not_now(self.0.inner_state()).map_or(Ok(()), Err)?;
        let adopting = Refused::NotReady("mailboxes are being brought back; try again later");
        let config = self.0.config();
        let rules = Rules::new(&config.lmtp.delimiter, &config.lmtp.local_domains);
        let meanings = to.meanings(&rules);
        let users: Vec<&str> = meanings.iter().map(|meaning| meaning.user.as_str()).collect();
        if let Err(e) = self.0.adopt_first(&Named::users(users.iter().copied())) {
            tracing::warn!(event = "lmtp.not_adopted", error = %e.message);
            return Err(adopting);
        }
        let view = self.0.view().map_err(|_| Refused::NotReady("the store recovers; try again later"))?;
        match self.0.mailbox_of(&view, to) {
            // The sender's queue keeps it until somebody can say that there is no such user.
            Err(Refused::Unknown) if self.0.may_come(&users) => Err(adopting),
            Err(Refused::NoInbox) if self.0.may_get_inbox() => Err(adopting),
            found => found,
        }
    }

    fn resolves_slowly(&self) -> bool {
        self.0.is_adopting()
    }

    fn expect(&self) -> Option<Box<dyn Send>> {
        self.0.store().ok().map(|store| Box::new(store.expect()) as Box<dyn Send>)
    }

    fn inline_limit(&self) -> usize {
        self.0.store().map_or(INLINE_LEAST, |store| store.inline_limit())
    }

    fn stage(&self, to: &MailboxName) -> Result<Box<dyn Staging>, Refused> {
        let store = self.0.store().map_err(|e| refused_by(&e))?;
        let partition = mail::partition_of(store, &store.view(), &to.to_string()).map_err(|e| failed(&e))?;
        Ok(Box::new(Staged(Intake::new(store, &partition))))
    }

    fn deliver(&self, session: u64, message: Message, to: Vec<MailboxName>, done: Done) {
        let count = to.len();
        let message = match incoming(message) {
            Ok(message) => message,
            Err(refused) => return done(vec![Err(refused); count]),
        };
        let delivery = command::Delivery {
            message,
            to: to.iter().map(target).collect(),
            flags: Flags::NONE,
            keywords: BTreeSet::new(),
            internal_us: None,
            each: true,
        };
        let told = move |answer: Result<Taken, NotTaken>| {
            done(match answer {
                Ok((lsn, each)) => {
                    let stored = |one: Delivered| Stored { uid: one.uid, lsn: lsn.0 };
                    each.into_iter().map(|one| one.map(stored).map_err(|e| refused_for(&e))).collect()
                }
                Err(NotTaken { full: true, .. }) => vec![Err(Refused::NoSpace); count],
                Err(NotTaken { failure, .. }) => vec![Err(refused_by(&failure)); count],
            });
        };
        self.0.take_in(&peer(session), delivery, Box::new(told));
    }
}

/// The message as the store takes it, with its digest.
fn incoming(message: Message) -> Result<Arc<Incoming>, Refused> {
    match message {
        Message::Inline(bytes) => Ok(Arc::new(mail::inline(bytes))),
        Message::Staged(staged) => match staged.into_any().downcast::<Staged>() {
            Ok(staged) => staged.0.finish().map_err(|e| failed(&e)),
            Err(_) => Err(Refused::Failed),
        },
    }
}

/// A long message on its way to a file of the store.
struct Staged(Intake);

impl Staging for Staged {
    fn add(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.0.add(bytes).map_err(|e| failed(&e))
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

/// The mailbox, or the INBOX of its owner should it be gone by then.
fn target(to: &MailboxName) -> Target {
    let inbox = to.owner().filter(|_| !to.is_inbox()).map(|owner| MailboxName::inbox(owner).to_string());
    Target { name: to.to_string(), or: inbox }
}

/// Who asks: whoever could connect delivers.
fn peer(session: u64) -> Peer {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Peer { connection: session, late: false, uid, gid, pid: 0, client: "lmtp".to_owned(), role: Role::Admin }
}

/// Why one recipient is refused.
fn refused_for(refusal: &Refusal) -> Refused {
    match refusal.kind {
        RefusalKind::NoUser => Refused::Unknown,
        // The user is there, and neither the folder nor the INBOX, as it may be when he is named.
        RefusalKind::NotFound => Refused::NoInbox,
        RefusalKind::OverQuota => Refused::OverQuota,
        RefusalKind::TooLarge => Refused::TooLarge,
        RefusalKind::Busy => Refused::Busy,
        RefusalKind::BadInput | RefusalKind::Exists | RefusalKind::NotPermitted => {
            tracing::error!(event = "lmtp.not_stored", error = %refusal);
            Refused::Failed
        }
    }
}

/// Why all are.
fn refused_by(failure: &Failure) -> Refused {
    match failure.code {
        Code::Busy => Refused::Busy,
        Code::OverQuota => Refused::OverQuota,
        Code::Unavailable | Code::LogFailed => Refused::Unclear,
        _ => {
            tracing::error!(event = "lmtp.not_stored", error = %failure.message);
            Refused::Failed
        }
    }
}

/// Why the store could not keep it.
fn failed(error: &StoreError) -> Refused {
    match error {
        StoreError::NoSpace { .. } => Refused::NoSpace,
        StoreError::Busy { .. } => Refused::Busy,
        _ => {
            tracing::error!(event = "lmtp.not_stored", %error);
            Refused::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A mailbox and the INBOX that were gone by the time of the message were refused for good, and before it for now.
    #[test]
    fn a_user_without_inbox_is_told_the_same_at_every_step() {
        let refused = |kind| refused_for(&Refusal { kind, message: String::new(), hint: None }).reply(false).code;
        assert_eq!(refused(RefusalKind::NotFound), Refused::NoInbox.reply(false).code);
        assert_eq!(refused(RefusalKind::NotFound) / 100, 4);
        assert_eq!(refused(RefusalKind::NoUser), 550);
    }
}

//! The store, as a restore sees it.

use crate::archive::content::Mailbox;
use crate::backup::save::joined;
use crate::errand;
use crate::exit::{Outcome, Stop};
use crate::keep::{self, Keeper, plain};
use proto::{
    BackupAsk, BackupBegun, BackupBygone, BackupChange, BackupHeal, BackupPart, BackupSick, BackupWork, Client, Code,
    Command, Failure, Limit, MailboxDetail, MailboxReturn, Message, MessageReturn, Reply, Request, ReturningBody,
    ReturningMessage,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use verbs::parse_duration;

/// A piece of a long message.
const PIECE: usize = 256 << 10;
/// Longest message that every store takes within a request.
const INLINE_LEAST: usize = 4 << 10;
/// The option that says how long one may be here.
const INLINE_OPTION: &str = "mail.inline_limit";
/// Longest lease on a mailbox in milliseconds.
const LEASE_MS: u64 = 3_600_000;

/// Messages of one command.
const UIDS_AT_ONCE: usize = 500;
/// Commands of one transaction.
const COMMANDS_AT_ONCE: usize = 64;

/// Flags to add, and flags to take away.
pub type Mark = (Vec<String>, Vec<String>);

/// Transactions of one mailbox that are under way at once.
const AT_ONCE: usize = 8;
/// Folders that backups leave out.
const EXCLUDE_OPTION: &str = "backup.exclude";
/// How long a connection may be idle.
const IDLE_OPTION: &str = "control.idle_timeout";

/// See the page.
#[derive(Debug)]
pub struct House {
    client: Arc<Mutex<Client>>,
    inline: usize,
    store: String,
    /// Folders of users that backups leave out, in lower case.
    excluded: Vec<String>,
    /// While an archive is read from a slow medium.
    _keeper: Keeper,
}

/// What belongs to a mailbox that is made, and is made with it or not at all.
#[derive(Debug, Default)]
pub struct Beside {
    /// Limits of quota roots.
    pub limits: Vec<(String, (Limit, Limit))>,
    /// The user who had subscribed to it.
    pub subscriber: Option<String>,
}

fn is_missing(stop: &Stop) -> bool {
    matches!(stop, Stop::Failed(failure) if matches!(failure.code, Code::NotFound | Code::NoUser))
}

fn unanswered() -> Stop {
    Stop::new(Code::Protocol, "the daemon did not answer")
}

fn unexpected(reply: &Reply) -> Stop {
    Stop::new(Code::Protocol, format!("the daemon gave an answer to something else: {reply:?}"))
}

fn lock(client: &Mutex<Client>) -> MutexGuard<'_, Client> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}

impl House {
    /// Over a connection that is there.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn new(client: Client) -> Outcome<House> {
        let mut client = client;
        let mut ask = |request| client.call(&request).map_err(|e| Stop::Failed(e.failure()));
        let Reply::Status(status) = ask(Request::Status)? else {
            return Err(Stop::new(Code::Protocol, "the daemon does not say which store it has"));
        };
        let (mut inline, mut idle, mut excluded) = (INLINE_LEAST, None, Vec::new());
        if let Reply::Config(values) = ask(Request::ConfigShow { defaults: false })? {
            let limit = values.get(INLINE_OPTION).and_then(|value| value.parse().ok());
            inline = limit.map_or(INLINE_LEAST, |limit: usize| limit.max(INLINE_LEAST));
            idle = values.get(IDLE_OPTION).and_then(|value| parse_duration(plain(value)).ok());
            let names = values.get(EXCLUDE_OPTION).map_or("", |value| plain(value)).split('%');
            excluded =
                names.map(|name| name.trim_matches('/').to_lowercase()).filter(|name| !name.is_empty()).collect();
        }
        let client = Arc::new(Mutex::new(client));
        let kept = client.clone();
        let ping = move || lock(&kept).ping().is_ok();
        let _keeper = Keeper::start(keep::every(idle), ping);
        Ok(House { client, inline, store: status.store_id, excluded, _keeper })
    }

    /// Whether a backup leaves a mailbox out that it is not asked for by name, as the daemon is configured now.
    pub fn is_left_out(&self, name: &str) -> bool {
        let folder =
            name.strip_prefix("user/").and_then(|rest| rest.split_once('/')).map(|(_, folder)| folder.to_lowercase());
        let is_below = |folder: &str, top: &str| {
            folder.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        folder.is_some_and(|folder| self.excluded.iter().any(|top| is_below(&folder, top)))
    }

    /// Longest message that goes within a request.
    pub fn inline(&self) -> usize {
        self.inline
    }

    fn ask(&mut self, request: Request) -> Outcome<Reply> {
        lock(&self.client).call(&request).map_err(|e| Stop::Failed(e.failure()))
    }

    fn change(&mut self, command: Command) -> Outcome<Reply> {
        self.ask(Request::Change { command, dry_run: false })
    }

    /// Id of the store.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Says how far it is.
    ///
    /// # Errors
    /// It is to end; those of the connection.
    pub fn tell(&mut self, work: BackupWork) -> Outcome<()> {
        if errand::is_told(&work)? {
            return Ok(());
        }
        self.ask(Request::Backup(BackupAsk::AtWork(work))).map(drop)
    }

    /// What changed behind an LSN of an epoch, up to a time: each change goes to `each`. Gives the moment that this leads to.
    ///
    /// # Errors
    /// The log does not lead there (65); those of the connection and of `each`.
    pub fn changes(
        &mut self,
        (lsn, epoch): (u64, u64),
        until_us: u64,
        mut each: impl FnMut(BackupChange) -> Outcome<()>,
    ) -> Outcome<BackupBegun> {
        let (mut reached, mut told) = (None, Ok(()));
        let ask = Request::Backup(BackupAsk::Changes { lsn, epoch, until_us });
        let asked = lock(&self.client).call_stream(&ask, |reply| {
            match reply {
                Reply::Backup(BackupPart::Changes(changes)) => told = changes.into_iter().try_for_each(&mut each),
                Reply::Backup(BackupPart::Begun(begun)) => reached = Some(begun),
                other => told = Err(unexpected(&other)),
            }
            if told.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        told?;
        asked.map_err(|e| Stop::Failed(e.failure()))?;
        reached.ok_or_else(|| Stop::new(Code::Protocol, "the daemon told changes without an end"))
    }

    /// The bytes of messages that may be gone, in the same order; why not, of those that cannot be had.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn bygone(&mut self, messages: Vec<BackupBygone>) -> Outcome<Vec<Result<Vec<u8>, String>>> {
        let uids: Vec<u32> = messages.iter().map(|message| message.uid).collect();
        match self.ask(Request::Backup(BackupAsk::Bygone { messages }))? {
            Reply::Backup(BackupPart::Pieces(pieces)) => {
                let mut pieces = pieces.into();
                uids.into_iter().map(|uid| joined(uid, &mut pieces)).collect()
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Whether there is such a user.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn has_user(&mut self, user: &str) -> Outcome<bool> {
        match self.ask(Request::UserShow { user: user.to_owned() }) {
            Err(stop) if is_missing(&stop) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// The mailbox with this name; `None` if there is none.
    ///
    /// # Errors
    /// A bad name; those of the connection.
    pub fn mailbox(&mut self, name: &str) -> Outcome<Option<MailboxDetail>> {
        match self.ask(Request::MailboxShow { name: name.to_owned() }) {
            Ok(Reply::MailboxDetail(found)) => Ok(Some(*found)),
            Ok(other) => Err(unexpected(&other)),
            Err(stop) if is_missing(&stop) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// The messages of a mailbox.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn messages(&mut self, name: &str) -> Outcome<Vec<Message>> {
        self.list(name, false)
    }

    /// Those that were expunged from it, and can be brought back.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn expunged(&mut self, name: &str) -> Outcome<Vec<Message>> {
        self.list(name, true)
    }

    fn list(&mut self, name: &str, expunged: bool) -> Outcome<Vec<Message>> {
        match self.ask(Request::MessageList { name: name.to_owned(), expunged })? {
            Reply::Messages(messages) => Ok(messages),
            other => Err(unexpected(&other)),
        }
    }

    /// The messages of a mailbox whose bytes are gone or damaged; `deep`: every byte is read for that.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn sick(&mut self, name: &str, deep: bool) -> Outcome<Vec<BackupSick>> {
        match self.ask(Request::Backup(BackupAsk::Sick { name: name.to_owned(), deep }))? {
            Reply::Backup(BackupPart::Sick(sick)) => Ok(sick),
            other => Err(unexpected(&other)),
        }
    }

    /// Messages that are there get their bytes, in this order. Gives for each why it has not got them.
    ///
    /// # Errors
    /// Those of the connection; what ends the whole run.
    pub fn heal(
        &mut self,
        name: &str,
        from: String,
        messages: Vec<(u32, ReturningBody)>,
    ) -> Outcome<Vec<Option<String>>> {
        let heal = BackupHeal { name: name.to_owned(), from, messages };
        match self.ask(Request::Backup(BackupAsk::Heal(heal)))? {
            Reply::Backup(BackupPart::Healed(all)) => Ok(all.into_iter().map(|one| one.failed).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// The digest of a message that is there with all its bytes, which the daemon compares with it; else `None`.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn digest(&mut self, name: &str, uid: u32) -> Outcome<Option<blake3::Hash>> {
        match self.ask(Request::MessageBytes { name: name.to_owned(), uid }) {
            Ok(Reply::MessageBytes(bytes)) => Ok(Some(blake3::hash(&bytes))),
            Ok(other) => Err(unexpected(&other)),
            Err(Stop::Failed(failure)) if failure.code == Code::Unavailable => Err(Stop::Failed(failure)),
            Err(Stop::Failed(_)) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Keeps deliveries to a mailbox waiting; gives the number of the lease.
    ///
    /// # Errors
    /// Somebody else holds it (75).
    pub fn lock(&mut self, name: &str) -> Outcome<u64> {
        let (resource, reason) = (name.to_owned(), "restore".to_owned());
        match self.ask(Request::LockTake { resource, for_ms: Some(LEASE_MS), wait_ms: None, reason })? {
            Reply::Lock(lock) => Ok(lock.id),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn release(&mut self, lease: u64) -> Outcome<()> {
        match self.ask(Request::LockRelease { id: lease }) {
            // It has ended by itself.
            Err(stop) if is_missing(&stop) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes a mailbox as the archive knew it, under this name, and what belongs to it, in one transaction; gives its UIDVALIDITY.
    ///
    /// # Errors
    /// A bad name, bad rights; those of the connection.
    pub fn make(
        &mut self,
        name: &str,
        of: &Mailbox,
        store: &str,
        acl: BTreeMap<String, String>,
        beside: Beside,
    ) -> Outcome<u32> {
        let back = MailboxReturn {
            name: name.to_owned(),
            partition: Some(of.partition.clone()),
            store: store.to_owned(),
            id: u64::from_str_radix(&of.id, 16).unwrap_or(0),
            uidvalidity: of.uidvalidity,
            uidnext: of.uidnext,
            highest_modseq: of.highest_modseq,
            acl,
        };
        let mut commands = vec![Command::MailboxReturn(back)];
        let limits = beside.limits.into_iter();
        commands.extend(limits.map(|(root, (storage, messages))| Command::QuotaSet { root, storage, messages }));
        commands.extend(beside.subscriber.map(|user| Command::Subscribe { user, name: name.to_owned() }));
        match self.ask(Request::Atomic { commands })? {
            Reply::Each(done) => Ok(done.first().and_then(|made| made.uidvalidity).unwrap_or(0)),
            other => Err(unexpected(&other)),
        }
    }

    /// A mailbox that is there, under this number and UIDVALIDITY, gives no UID more below this one.
    ///
    /// # Errors
    /// It is another by now; those of the connection.
    pub fn go_behind(&mut self, name: &str, id: u64, uidvalidity: u32, uidnext: u32) -> Outcome<()> {
        let back = MailboxReturn {
            name: name.to_owned(),
            partition: None,
            store: self.store.clone(),
            id,
            uidvalidity,
            uidnext,
            highest_modseq: 0,
            acl: BTreeMap::new(),
        };
        self.change(Command::MailboxReturn(back)).map(drop)
    }

    /// Makes an empty mailbox, and its owner if one is named.
    ///
    /// # Errors
    /// As `mailbox create`.
    pub fn create(&mut self, name: &str, owner: Option<&str>) -> Outcome<()> {
        let add = |user: &str| Command::UserAdd {
            user: user.to_owned(),
            partition: None,
            quota_bytes: None,
            quota_messages: None,
        };
        let mut commands: Vec<Command> = owner.map(add).into_iter().collect();
        commands.push(Command::MailboxCreate { name: name.to_owned(), partition: None });
        self.ask(Request::Atomic { commands }).map(drop)
    }

    /// Gives a mailbox another name.
    ///
    /// # Errors
    /// As `mailbox rename`.
    pub fn rename(&mut self, from: &str, to: &str) -> Outcome<()> {
        self.change(Command::MailboxRename { from: from.to_owned(), to: to.to_owned() }).map(drop)
    }

    /// Deletes a mailbox; it can be brought back.
    ///
    /// # Errors
    /// As `mailbox delete`.
    pub fn delete(&mut self, name: &str) -> Outcome<()> {
        self.change(Command::MailboxDelete { name: name.to_owned() }).map(drop)
    }

    /// Subscribes a user to a mailbox; false if there is no such one.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn subscribe(&mut self, user: &str, name: &str) -> Outcome<bool> {
        match self.change(Command::Subscribe { user: user.to_owned(), name: name.to_owned() }) {
            Err(stop) if is_missing(&stop) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Gives a long message to the daemon in pieces; its number there.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn send(&mut self, to: &str, bytes: &[u8]) -> Outcome<u64> {
        let mut number = None;
        let mut pieces = bytes.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            let request = Request::MessageSend { number, to: to.to_owned(), bytes: piece.to_vec(), last };
            match self.ask(request)? {
                Reply::MessageSent(sent) => number = Some(sent.number),
                other => return Err(unexpected(&other)),
            }
        }
        number.ok_or_else(|| Stop::new(Code::Bug, "an empty message in pieces"))
    }

    /// Messages come back, each group in a transaction of its own, in this order, and all of them at once: they share a sync. Gives for each
    /// group the UIDs, or the refusal: none of its messages is there then.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn put(
        &mut self,
        name: &str,
        groups: Vec<(String, Vec<ReturningMessage>)>,
    ) -> Outcome<Vec<Result<Vec<u32>, Failure>>> {
        let mut client = lock(&self.client);
        let failed = |e: proto::ClientError| Stop::Failed(e.failure());
        let (mut ids, mut answers) = (Vec::new(), BTreeMap::new());
        for (from, messages) in groups {
            let back = MessageReturn { name: name.to_owned(), from, messages };
            let request = Request::Change { command: Command::MessageReturn(back), dry_run: false };
            ids.push(client.send(&request).map_err(failed)?);
            if ids.len() - answers.len() >= AT_ONCE {
                let (id, answer) = client.receive().map_err(failed)?.ok_or_else(unanswered)?;
                answers.insert(id, answer);
            }
        }
        while answers.len() < ids.len() {
            let (id, answer) = client.receive().map_err(failed)?.ok_or_else(unanswered)?;
            answers.insert(id, answer);
        }
        let one = |id: u64| match answers.remove(&id).ok_or_else(unanswered)? {
            Ok(Reply::Delivered(all)) => Ok(Ok(all.into_iter().map(|one| one.uid).collect())),
            Ok(other) => Err(unexpected(&other)),
            Err(failure) => Ok(Err(failure)),
        };
        ids.into_iter().map(one).collect()
    }

    /// Messages get exactly their flags, and others are taken away, which can be brought back: all of it or nothing, as far as it is not very much.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn follow(&mut self, name: &str, marks: BTreeMap<Mark, Vec<u32>>, gone: &[u32]) -> Outcome<()> {
        let parts = |uids: &[u32]| uids.chunks(UIDS_AT_ONCE).map(<[u32]>::to_vec).collect::<Vec<_>>();
        let mut commands = Vec::new();
        for ((add, remove), uids) in marks {
            for uids in parts(&uids) {
                let (name, add, remove) = (name.to_owned(), add.clone(), remove.clone());
                commands.push(Command::MessageFlags { name, uids, add, remove });
            }
        }
        commands.extend(parts(gone).into_iter().map(|uids| Command::MessageExpunge { name: name.to_owned(), uids }));
        commands.chunks(COMMANDS_AT_ONCE).try_for_each(|some| {
            match self.ask(Request::Atomic { commands: some.to_vec() }) {
                // Too much for a transaction of this store.
                Err(Stop::Failed(failure)) if failure.code == Code::BadInput && some.len() > 1 => {
                    some.iter().cloned().try_for_each(|one| self.change(one).map(drop))
                }
                done => done.map(drop),
            }
        })
    }
}

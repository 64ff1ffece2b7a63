//! What a client knows of its mailboxes: what it was told, and the one thing that it asked for and got no answer to.

use proto::client::{Client, ClientError};
use proto::{Body, Command, Limit, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

/// Exit statuses of a store that cannot go on: unavailable, the log failed, an error of the disk.
const DISK: [u8; 3] = [69, 71, 74];

/// Bytes of one piece of a long message.
const PIECE: usize = 48 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub sum: u64,
    pub size: u64,
    pub flags: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub uidnext: u32,
    pub live: BTreeMap<u32, Letter>,
    pub expunged: BTreeMap<u32, Letter>,
}

impl Folder {
    pub fn new() -> Folder {
        Folder { uidnext: 1, live: BTreeMap::new(), expunged: BTreeMap::new() }
    }

    fn take(&mut self, letter: Letter) {
        self.live.insert(self.uidnext, letter);
        self.uidnext += 1;
    }
}

/// Mailboxes by full name.
pub type Account = BTreeMap<String, Folder>;

/// One thing that a client asks for.
#[derive(Debug, Clone)]
pub enum Op {
    Deliver {
        to: Vec<String>,
        bytes: Vec<u8>,
    },
    /// To the INBOX of each of these users.
    Lmtp {
        to: Vec<String>,
        bytes: Vec<u8>,
    },
    Flag {
        name: String,
        uid: u32,
        flag: &'static str,
        set: bool,
    },
    Expunge {
        name: String,
        uids: Vec<u32>,
    },
    Copy {
        name: String,
        uids: Vec<u32>,
        to: String,
        remove: bool,
    },
    Undelete {
        name: String,
        uids: Vec<u32>,
    },
    Rename {
        from: String,
        to: String,
    },
    Quota {
        user: String,
        messages: Limit,
    },
}

pub fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

pub fn inbox(user: &str) -> String {
    format!("user/{user}/INBOX")
}

/// As LMTP stores it.
pub fn with_sender(bytes: &[u8]) -> Vec<u8> {
    [b"Return-Path: <sender@example.net>\r\n", bytes].concat()
}

impl Op {
    /// The account when it is done.
    pub fn done(&self, account: &mut Account) {
        let letter = |bytes: &[u8]| Letter { sum: sum(bytes), size: bytes.len() as u64, flags: BTreeSet::new() };
        let folder = |account: &mut Account, name: &str, change: &mut dyn FnMut(&mut Folder)| {
            change(account.get_mut(name).unwrap());
        };
        match self {
            Op::Deliver { to, bytes } => {
                to.iter().for_each(|name| folder(account, name, &mut |f| f.take(letter(bytes))))
            }
            Op::Lmtp { to, bytes } => {
                let letter = letter(&with_sender(bytes));
                to.iter().for_each(|user| folder(account, &inbox(user), &mut |f| f.take(letter.clone())));
            }
            Op::Flag { name, uid, flag, set } => folder(account, name, &mut |f| {
                let flags = &mut f.live.get_mut(uid).unwrap().flags;
                let _ = if *set { flags.insert((*flag).to_owned()) } else { flags.remove(*flag) };
            }),
            Op::Expunge { name, uids } => folder(account, name, &mut |f| {
                for uid in uids {
                    let letter = f.live.remove(uid).unwrap();
                    f.expunged.insert(*uid, letter);
                }
            }),
            Op::Undelete { name, uids } => folder(account, name, &mut |f| {
                for uid in uids {
                    let letter = f.expunged.remove(uid).unwrap();
                    f.live.insert(*uid, letter);
                }
            }),
            Op::Copy { name, uids, to, remove } => {
                let letters: Vec<Letter> = uids.iter().map(|uid| account[name].live[uid].clone()).collect();
                if *remove {
                    Op::Expunge { name: name.clone(), uids: uids.clone() }.done(account);
                }
                folder(account, to, &mut |f| letters.iter().for_each(|letter| f.take(letter.clone())));
            }
            Op::Rename { from, to } => {
                let folder = account.remove(from).unwrap();
                account.insert(to.clone(), folder);
            }
            Op::Quota { .. } => {}
        }
    }

    /// Asks for it through the control socket. True: done; false: refused; an error: nobody knows.
    pub fn ask(&self, client: &mut Client) -> Result<bool, ClientError> {
        let (name, uids) = match self {
            Op::Deliver { to, bytes } => {
                let (to, flags) = (to.clone(), Vec::new());
                let body = match sent(client, &to[0], bytes)? {
                    Some(body) => body,
                    None => return Ok(false),
                };
                let command = Command::MessageDeliver { to, flags, internal_us: None, body };
                return changed(client, command);
            }
            Op::Lmtp { .. } => unreachable!("another door"),
            Op::Quota { user, messages } => {
                return changed(
                    client,
                    Command::QuotaSet { root: user.clone(), storage: Limit::Keep, messages: *messages },
                );
            }
            Op::Rename { from, to } => {
                return changed(client, Command::MailboxRename { from: from.clone(), to: to.clone() });
            }
            Op::Flag { name, uid, .. } => (name.clone(), vec![*uid]),
            Op::Expunge { name, uids } | Op::Copy { name, uids, .. } | Op::Undelete { name, uids } => {
                (name.clone(), uids.clone())
            }
        };
        let command = match self {
            Op::Flag { flag, set, .. } => {
                let (flag, none) = (vec![(*flag).to_owned()], Vec::new());
                let (add, remove) = if *set { (flag, none) } else { (none, flag) };
                Command::MessageFlags { name, uids, add, remove }
            }
            Op::Expunge { .. } => Command::MessageExpunge { name, uids },
            Op::Copy { to, remove, .. } => Command::MessageCopy { name, uids, to: to.clone(), remove: *remove },
            _ => Command::MailboxUndelete { name, uids },
        };
        changed(client, command)
    }
}

/// True: done; false: over a limit, or the store is busy, and nothing was done. Nobody knows where the disk or the log failed, or nobody
/// was there.
fn changed(client: &mut Client, command: Command) -> Result<bool, ClientError> {
    match client.call(&Request::Change { command: command.clone(), dry_run: false }) {
        Ok(_) => Ok(true),
        Err(ClientError::Failed(e)) if e.code.exit() == 75 => Ok(false),
        Err(ClientError::Failed(e)) if !DISK.contains(&e.code.exit()) => panic!("{command:.400?}: {e:?}"),
        Err(e) => Err(e),
    }
}

/// A message on its way in; a long one is sent in pieces before. `None`: refused.
fn sent(client: &mut Client, to: &str, bytes: &[u8]) -> Result<Option<Body>, ClientError> {
    if bytes.len() <= PIECE {
        return Ok(Some(Body::Inline(bytes.to_vec())));
    }
    let (mut number, count) = (None, bytes.chunks(PIECE).count());
    for (n, piece) in bytes.chunks(PIECE).enumerate() {
        let last = n + 1 == count;
        let piece = Request::MessageSend { number, to: to.to_owned(), bytes: piece.to_vec(), last };
        match client.call(&piece) {
            Ok(Reply::MessageSent(sent)) => number = Some(sent.number),
            Err(ClientError::Failed(e)) if e.code.exit() == 75 => return Ok(None),
            Err(ClientError::Failed(e)) if !DISK.contains(&e.code.exit()) => panic!("{e:?}"),
            Err(e) => return Err(e),
            Ok(other) => panic!("{other:?}"),
        }
    }
    Ok(number.map(Body::Sent))
}

/// What the daemon shows of these users, every byte read; and the number of each mailbox.
pub fn shown(client: &mut Client, users: &[String]) -> (Account, BTreeMap<String, u64>) {
    let (mut account, mut ids) = (Account::new(), BTreeMap::new());
    for user in users {
        let (mut bytes, mut count) = (0, 0);
        let Ok(Reply::Mailboxes(all)) = client.call(&Request::MailboxList { pattern: format!("user/{user}/*") }) else {
            panic!("no list of {user}")
        };
        for mailbox in all {
            let mut folder = Folder { uidnext: mailbox.uidnext, ..Folder::new() };
            for expunged in [false, true] {
                let name = mailbox.name.clone();
                let list = client.call(&Request::MessageList { name: name.clone(), expunged });
                let Ok(Reply::Messages(list)) = list else { panic!("{name}: {list:?}") };
                for message in list {
                    let read = client.call(&Request::MessageBytes { name: name.clone(), uid: message.uid });
                    let Ok(Reply::MessageBytes(found)) = read else { panic!("{name} {}: {read:?}", message.uid) };
                    assert_eq!(found.len() as u64, message.size, "{name} {}", message.uid);
                    let flags = message.flags.into_iter().collect();
                    let letter = Letter { sum: sum(&found), size: message.size, flags };
                    if !expunged {
                        (bytes, count) = (bytes + message.size, count + 1);
                    }
                    let side = if expunged { &mut folder.expunged } else { &mut folder.live };
                    side.insert(message.uid, letter);
                }
            }
            ids.insert(mailbox.name.clone(), mailbox.id);
            account.insert(mailbox.name, folder);
        }
        let quota = client.call(&Request::QuotaGet { root: user.clone() });
        let Ok(Reply::Quota(quota)) = quota else { panic!("{quota:?}") };
        assert_eq!((quota.storage.usage, quota.messages.usage), (bytes, count), "I9: {user}");
    }
    (account, ids)
}

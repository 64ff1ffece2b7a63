//! The public jobs that are measured, and how an engine without storedd's planner does them.
//!
//! # Purpose
//! Every engine does the same: *create* looks whether the user exists and the name is free and inserts the rows; *acl*
//! reads a mailbox, changes one entry of its rights and writes it back; *rename* looks whether the new name is free and
//! nothing lies below the old one, moves the row, and leaves a row that keeps the old name's UIDVALIDITY from repeating.
//! Keys and rows have the bytes storedd gives them. A peer does no more than that: name rules, refusal texts and id
//! counters are storedd's own load.
//!
//! # Operation
//! A [`World`] is the set of mailboxes one engine holds. Client `c` of `n` changes and renames only mailboxes whose number
//! leaves rest `c` when divided by `n`, so it always knows their present names and no operation is refused.

use crate::engines::Failure;
use crate::shape::Shape;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Mailboxes of one user, INBOX among them.
pub const PER_USER: u64 = 20;

/// The mailboxes one engine holds.
#[derive(Debug)]
pub struct World {
    /// How many were preloaded: a multiple of [`PER_USER`].
    pub rows: u64,
    /// Sizes and contents of rows.
    pub shape: Arc<Shape>,
    /// State of each: bit 0 which of its two names it has, bit 1 which rights [`IDENTIFIER`] has.
    states: Vec<AtomicU8>,
    /// How many were created since.
    created: AtomicU64,
}

/// One operation as a client asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A new mailbox with this number for this user.
    Create { user: u64, number: u64 },
    /// Rights of an identifier on a mailbox, which has its first or second name.
    Acl { mailbox: u64, name: u8, full: bool },
    /// A mailbox gets its other name.
    Rename { mailbox: u64, name: u8 },
}

/// How many of 10 operations are of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Name in reports.
    pub name: &'static str,
    /// Creates.
    pub create: u64,
    /// Changes of rights; the rest are renames.
    pub acl: u64,
}

impl Mix {
    /// 4 creates, 4 changes of rights, 2 renames: what the goals are measured on.
    pub const MIXED: Mix = Mix { name: "mix", create: 4, acl: 4 };
    /// Creates only.
    pub const CREATE: Mix = Mix { name: "create", create: 10, acl: 0 };
    /// Changes of rights only.
    pub const ACL: Mix = Mix { name: "acl", create: 0, acl: 10 };
    /// Renames only.
    pub const RENAME: Mix = Mix { name: "rename", create: 0, acl: 0 };
}

/// Id of a user.
pub fn user_id(user: u64) -> String {
    format!("u{user:07}@example.org")
}

/// Full name of a preloaded mailbox. The first of each user is INBOX, which keeps its name.
pub fn mailbox_name(mailbox: u64, name: u8) -> String {
    let (user, folder) = (mailbox / PER_USER, mailbox % PER_USER);
    match (folder, name) {
        (0, _) => format!("user/u{user:07}@example.org/INBOX"),
        (_, 0) => format!("user/u{user:07}@example.org/Folder{folder:02}"),
        _ => format!("user/u{user:07}@example.org/Moved{folder:02}"),
    }
}

/// Full name of a mailbox created during a measurement.
pub fn created_name(user: u64, number: u64) -> String {
    format!("user/u{user:07}@example.org/New{number:08}")
}

/// The identifier whose rights the acl job changes, and its two values.
pub const IDENTIFIER: &str = "team@example.org";

/// The two values that alternate.
pub fn rights(full: bool) -> &'static str {
    if full { "lrswi" } else { "lrs" }
}

/// Key of a mailbox: its name with 0x01 for `/`, so that a subtree is one range (see `storedd::model::name`).
pub fn key_of(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = 1);
    key
}

impl World {
    /// A world of `rows` preloaded mailboxes, rounded up to whole users.
    pub fn new(rows: u64, shape: Arc<Shape>) -> Arc<World> {
        let rows = rows.div_ceil(PER_USER).max(1) * PER_USER;
        let states = (0..rows).map(|_| AtomicU8::new(0)).collect();
        Arc::new(World { rows, shape, states, created: AtomicU64::new(0) })
    }

    /// How many users it has.
    pub fn users(&self) -> u64 {
        self.rows / PER_USER
    }

    /// Present key of a preloaded mailbox.
    pub fn key(&self, mailbox: u64) -> Vec<u8> {
        key_of(&self.name(mailbox))
    }

    /// Present name of a preloaded mailbox.
    pub fn name(&self, mailbox: u64) -> String {
        mailbox_name(mailbox, self.states[mailbox as usize].load(Ordering::Relaxed) & 1)
    }
}

/// Random numbers for choices (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

/// What one client does, operation after operation.
pub struct Script {
    world: Arc<World>,
    mix: Mix,
    client: u64,
    clients: u64,
    random: Random,
}

impl Script {
    /// The script of client `client` of `clients`.
    pub fn new(world: &Arc<World>, mix: Mix, client: usize, clients: usize) -> Script {
        let seed = world.created.load(Ordering::Relaxed) * 1000 + client as u64 + 1;
        Script {
            world: Arc::clone(world),
            mix,
            client: client as u64,
            clients: clients as u64,
            random: Random::new(seed),
        }
    }

    /// The next operation. The one before must have been answered.
    pub fn next_op(&mut self) -> Op {
        let kind = self.random.below(10);
        if kind < self.mix.create {
            let number = self.world.created.fetch_add(1, Ordering::Relaxed);
            return Op::Create { user: self.random.below(self.world.users()), number };
        }
        let mine = (self.world.rows - self.client).div_ceil(self.clients);
        let mut mailbox = self.random.below(mine) * self.clients + self.client;
        if kind < self.mix.create + self.mix.acl {
            // Always other rights than before: nothing is left unchanged.
            let before = self.world.states[mailbox as usize].fetch_xor(2, Ordering::Relaxed);
            return Op::Acl { mailbox, name: before & 1, full: before & 2 == 0 };
        }
        while mailbox.is_multiple_of(PER_USER) {
            mailbox = self.random.below(mine) * self.clients + self.client;
        }
        let before = self.world.states[mailbox as usize].fetch_xor(1, Ordering::Relaxed);
        Op::Rename { mailbox, name: before & 1 }
    }
}

/// The tables a peer keeps; storedd's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tab {
    /// User id -> row.
    Users,
    /// Mailbox key -> row.
    Mailboxes,
    /// Mailbox key -> what the name stood for.
    Past,
    /// Identifier and mailbox key -> rights.
    Rights,
}

impl Tab {
    /// Every table.
    pub const ALL: [Tab; 4] = [Tab::Users, Tab::Mailboxes, Tab::Past, Tab::Rights];

    /// Name inside the peer's file.
    pub fn name(self) -> &'static str {
        match self {
            Tab::Users => "users",
            Tab::Mailboxes => "mailboxes",
            Tab::Past => "past",
            Tab::Rights => "rights",
        }
    }
}

/// A peer's open transaction.
pub trait Tables {
    /// Shows the row under `key` to `see`.
    ///
    /// # Errors
    /// Those of the engine.
    fn get<T>(&mut self, table: Tab, key: &[u8], see: impl FnOnce(Option<&[u8]>) -> T) -> Result<T, Failure>;
    /// Inserts or replaces a row.
    ///
    /// # Errors
    /// Those of the engine.
    fn put(&mut self, table: Tab, key: &[u8], row: &[u8]) -> Result<(), Failure>;
    /// Removes a row.
    ///
    /// # Errors
    /// Those of the engine.
    fn remove(&mut self, table: Tab, key: &[u8]) -> Result<(), Failure>;
    /// True if a mailbox key at or after `from` starts with `from`.
    ///
    /// # Errors
    /// Those of the engine.
    fn any_below(&mut self, from: &[u8]) -> Result<bool, Failure>;
}

/// One operation as a peer's committer gets it: keys made, nothing read.
#[derive(Debug)]
pub enum Job {
    /// User key, mailbox key.
    Create(Vec<u8>, Vec<u8>),
    /// Mailbox key, key in the rights table, the new rights.
    Acl(Vec<u8>, Vec<u8>, bool),
    /// Old and new mailbox key.
    Rename(Vec<u8>, Vec<u8>),
}

impl Job {
    /// Makes the keys.
    pub fn of(op: Op) -> Job {
        match op {
            Op::Create { user, number } => Job::Create(user_id(user).into_bytes(), key_of(&created_name(user, number))),
            Op::Acl { mailbox, name, full } => {
                let key = key_of(&mailbox_name(mailbox, name));
                Job::Acl(key.clone(), rights_key(&key), full)
            }
            Op::Rename { mailbox, name } => {
                Job::Rename(key_of(&mailbox_name(mailbox, name)), key_of(&mailbox_name(mailbox, name ^ 1)))
            }
        }
    }
}

/// Key in the table of rights.
fn rights_key(mailbox: &[u8]) -> Vec<u8> {
    storedd::model::rows::joined(IDENTIFIER.as_bytes(), mailbox)
}

fn refuse(refused: bool, why: &str) -> Result<(), Failure> {
    if refused { Err(Failure::new(why)) } else { Ok(()) }
}

/// Does one job inside a peer's transaction. Everything that can be refused is refused before the first write.
///
/// # Errors
/// Refusals, and those of the engine.
pub fn perform(job: &Job, shape: &Shape, tables: &mut impl Tables) -> Result<(), Failure> {
    match job {
        Job::Create(user, key) => {
            refuse(!tables.get(Tab::Users, user, |row| row.is_some())?, "no such user")?;
            refuse(tables.get(Tab::Mailboxes, key, |row| row.is_some())?, "mailbox exists")?;
            tables.put(Tab::Mailboxes, key, &shape.mailbox)
        }
        Job::Acl(key, entry, full) => {
            let row =
                tables.get(Tab::Mailboxes, key, |row| row.map(|row| shape.with_rights(key, row, rights(*full))))?;
            tables.put(Tab::Mailboxes, key, &row.ok_or_else(|| Failure::new("no such mailbox"))??)?;
            tables.put(Tab::Rights, entry, &Shape::rights(rights(*full))?)
        }
        Job::Rename(from, to) => {
            refuse(tables.get(Tab::Mailboxes, to, |row| row.is_some())?, "mailbox exists")?;
            let row = tables.get(Tab::Mailboxes, from, |row| row.map(<[u8]>::to_vec))?;
            let row = row.ok_or_else(|| Failure::new("no such mailbox"))?;
            let mut below = from.clone();
            below.push(1);
            refuse(tables.any_below(&below)?, "folders below it")?;
            tables.remove(Tab::Mailboxes, from)?;
            tables.put(Tab::Mailboxes, to, &row)?;
            tables.put(Tab::Past, from, &shape.past)
        }
    }
}

/// All rows of a fresh world, table by table in key order, as peers are loaded.
///
/// # Errors
/// Those of `put`.
pub fn preload(world: &World, mut put: impl FnMut(Tab, &[u8], &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    for user in 0..world.users() {
        put(Tab::Users, user_id(user).as_bytes(), &world.shape.user)?;
    }
    for user in 0..world.users() {
        for folder in (1..PER_USER).chain([0]) {
            put(Tab::Mailboxes, &key_of(&mailbox_name(user * PER_USER + folder, 0)), &world.shape.mailbox)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_work_on_mailboxes_of_their_own_and_rename_to_and_fro() {
        let world = World::new(1000, Arc::new(Shape::new([0; 3]).unwrap()));
        let mut script = Script::new(&world, Mix::RENAME, 3, 8);
        for _ in 0..500 {
            let Op::Rename { mailbox, name } = script.next_op() else { panic!() };
            assert!(mailbox < 1000 && mailbox % 8 == 3 && mailbox % PER_USER != 0);
            assert_eq!(world.name(mailbox), mailbox_name(mailbox, name ^ 1));
        }
    }

    #[test]
    fn keys_are_those_of_the_store() {
        for name in [mailbox_name(20, 0), mailbox_name(39, 1), created_name(7, 8)] {
            assert_eq!(key_of(&name), storedd::model::name::MailboxName::parse(&name).unwrap().key());
        }
    }

    #[test]
    fn preloaded_rows_are_sorted() {
        let world = World::new(100, Arc::new(Shape::new([0; 3]).unwrap()));
        let mut last = (Tab::Users, Vec::new());
        let mut rows = 0;
        preload(&world, |table, key, _| {
            assert!(table != last.0 || key > &last.1[..], "{key:?}");
            last = (table, key.to_vec());
            rows += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(rows, 105);
    }
}

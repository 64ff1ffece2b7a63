//! What the store is asked to do, from a seed. Few names, so that they are used again and again.

use super::mail;
use super::model::{Acl, Model};
use super::random::Random;
use storedd::model::command::{Delivery, Marks, Selection, Target};
use storedd::model::message::Flags;
use storedd::model::{Command, LimitChange};

/// One step of a workload.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// One command, done by the calling thread.
    Commit(Command),
    /// Commands that are logged and synced together.
    Group(Vec<Command>),
    Checkpoint,
    Seal,
    /// One step of making segments ahead.
    PrepareSpares,
    /// A clean stop and a start.
    Reopen,
    /// The process is killed and started again; the machine lives on.
    Kill,
    /// The root of a partition is made.
    PreparePartition(&'static str),
    /// A snapshot is taken and verified, and those that are too many are removed.
    Snapshot,
    /// The process is killed; where there is a snapshot to go back to, the database is damaged in one of some ways; a start.
    Rollback(usize),
}

impl Step {
    pub(super) fn commands(&self) -> Vec<&Command> {
        match self {
            Step::Commit(command) => vec![command],
            Step::Group(commands) => commands.iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// How a workload is mixed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    /// Of a hundred steps so many are groups, checkpoints, seals, spare segments, clean restarts, kills, snapshots, rollbacks.
    pub(super) share: [usize; 8],
    /// Of a hundred commands so many are large.
    pub(super) large: usize,
}

impl Mix {
    /// A mix for this seed: each lays its stress elsewhere.
    pub(super) fn of(seed: u64) -> Mix {
        let ([groups, checkpoints, seals, spares, restarts, kills], large) = match seed % 4 {
            // A little of everything.
            0 => ([12, 8, 6, 8, 2, 3], 10),
            // The log: segments end quickly, spares are made late or never.
            1 => ([15, 5, 4, 2, 2, 3], 30),
            // The database: checkpoint after checkpoint.
            2 => ([10, 30, 5, 8, 3, 3], 5),
            // Starts.
            _ => ([10, 6, 10, 5, 9, 9], 15),
        };
        Mix { share: [groups, checkpoints, seals, spares, restarts, kills, 0, 0], large }
    }

    /// The same with snapshots, and with databases that do not survive.
    pub(super) fn with_rollbacks(seed: u64) -> Mix {
        let mut mix = Mix::of(seed);
        [mix.share[6], mix.share[7]] = [[3, 2], [1, 1], [2, 2], [3, 4]][(seed % 4) as usize];
        mix
    }

    /// Groups of commands, and single ones.
    pub(super) fn commands(groups: usize) -> Mix {
        Mix { share: [groups, 0, 0, 0, 0, 0, 0, 0], large: 5 }
    }
}

const USERS: [&str; 5] = ["ann", "bob@example.org", "c.d-e_f+g", "zoe", "bob"];
const FOLDERS: [&str; 7] =
    ["Projekte", "Projekte/2026", "Projekte/2026/\u{c4}pfel", "a", "a/b", "\u{65e5}\u{672c}", "Sent"];
const SHARED: [&str; 5] = ["shared", "shared/news", "shared/news/x", "shared/d.example/team", "shared/news/x/y"];
const IDENTIFIERS: [&str; 5] = ["anyone", "-anyone", "group:staff", "ann", "-bob@example.org"];
const RIGHTS: [&str; 10] = ["lrs", "lrswipkxtea", "+wi", "-s", "", "a", "+lrn", "-lrswipkxteacdn", "lrcd", "-k"];
const SECOND: &str = "second";
/// Entries of a large list of rights: to rename a mailbox that has it takes a log record of 10 KiB.
const LARGE: usize = 20;

/// The path of a partition's root is its name here.
pub(super) const PARTITIONS: [&str; 2] = ["primary", SECOND];

/// An endless list of steps.
pub(super) struct Generator {
    random: Random,
    mix: Mix,
    begun: usize,
}

impl Generator {
    pub(super) fn new(seed: u64, mix: Mix) -> Generator {
        Generator { random: Random::new(seed), mix, begun: 0 }
    }

    /// The next step of a store that shows `model`.
    pub(super) fn step(&mut self, model: &Model) -> Step {
        let primary = PARTITIONS[0];
        if self.begun < 3 && !model.tables.partitions.contains_key(primary) {
            // A new store has no partition.
            self.begun += 1;
            return match self.begun {
                1 => Step::PreparePartition(primary),
                2 => Step::PreparePartition(SECOND),
                _ => Step::Commit(partition_add(primary, 1)),
            };
        }
        let mut at = self.random.below(100);
        for (kind, share) in self.mix.share.into_iter().enumerate() {
            if at < share {
                return match kind {
                    0 => {
                        let count = 2 + self.random.below(4);
                        Step::Group((0..count).map(|_| self.command(model)).collect())
                    }
                    1 => Step::Checkpoint,
                    2 => Step::Seal,
                    3 => Step::PrepareSpares,
                    4 => Step::Reopen,
                    5 => Step::Kill,
                    6 => Step::Snapshot,
                    _ => Step::Rollback(self.random.below(5)),
                };
            }
            at -= share;
        }
        if self.random.once_in(60) {
            return Step::PreparePartition(SECOND);
        }
        if self.random.once_in(20)
            && let Some(command) = self.whole_mailbox(model)
        {
            return Step::Commit(command);
        }
        Step::Commit(self.command(model))
    }

    /// All that was deleted comes back: a mailbox, or all messages of one. What that is depends on what others do at the same time.
    fn whole_mailbox(&mut self, model: &Model) -> Option<Command> {
        let buried = if self.random.once_in(3) {
            model.tables.letters(true).into_iter().map(|(name, _)| name).collect()
        } else {
            model.tables.buried()
        };
        let name = buried.get(self.random.below(buried.len()))?.clone();
        Some(Command::Undelete { of: Selection { name, ..Selection::default() } })
    }

    /// A command, more often than not one that will be done.
    pub(super) fn command(&mut self, model: &Model) -> Command {
        for _ in 0..3 {
            let command = self.any_command(model);
            if model.would_do(&command) || self.random.once_in(4) {
                return command;
            }
        }
        self.any_command(model)
    }

    fn any_command(&mut self, model: &Model) -> Command {
        if self.random.once_in(12) {
            let count = 2 + self.random.below(3);
            return Command::Atomic((0..count).map(|_| self.plain(model)).collect());
        }
        self.plain(model)
    }

    fn plain(&mut self, model: &Model) -> Command {
        if self.random.below(100) < self.mix.large {
            return self.large(model);
        }
        // What messages do is about half of it.
        match self.random.below(200) {
            104.. => self.of_mail(model),
            0..10 => Command::UserAdd {
                user: self.user(),
                partition: self.partition(),
                quota_bytes: self.random.once_in(2).then_some(1 << 30),
                quota_messages: self.random.once_in(3).then_some(1000),
            },
            10..13 => Command::UserDelete { user: self.user() },
            13..17 => Command::UserRename { user: self.user(), to: self.user() },
            17..42 => Command::MailboxCreate { name: self.name(), partition: self.partition() },
            42..52 => Command::MailboxDelete { name: self.known(model) },
            52..62 => Command::MailboxRename { from: self.known(model), to: self.name() },
            62..72 => {
                let identifier = self.random.pick(&IDENTIFIERS).to_owned();
                Command::AclSet { name: self.known(model), identifier, rights: self.random.pick(&RIGHTS).to_owned() }
            }
            72..76 => {
                Command::AclDelete { name: self.known(model), identifier: self.random.pick(&IDENTIFIERS).to_owned() }
            }
            76..82 => Command::Subscribe { user: self.user(), name: self.known(model) },
            82..85 => Command::Unsubscribe { user: self.user(), name: self.known(model) },
            85..88 => partition_add(SECOND, 1 + self.random.below(2) as u8),
            88 => Command::PartitionRemove { name: SECOND.to_owned() },
            89..96 => Command::QuotaSet {
                root: self.root(model),
                storage: self.limit([0, 1500, 5000, 1 << 20]),
                messages: self.limit([0, 2, 5, 20]),
            },
            96 => Command::QuotaRecalc { root: self.root(model) },
            _ => Command::ImportMailbox {
                name: self.name(),
                partition: None,
                uidvalidity: self.uidvalidity(),
                acl: self.acl(2),
            },
        }
    }

    /// Something that messages do.
    fn of_mail(&mut self, model: &Model) -> Command {
        let graves = model.tables.graves();
        match self.random.below(103) {
            100.. if !graves.is_empty() => {
                let (name, id) = graves[self.random.below(graves.len())].clone();
                Command::MailboxPurge { name, id, deleted_us: None }
            }
            0..45 => self.deliver(model),
            45..60 => {
                let of = self.messages(model, false);
                let (add, remove) = (self.marks(), self.marks());
                Command::MessageFlags { of, add, remove }
            }
            60..72 => Command::MessageExpunge { of: self.messages(model, false) },
            72..88 => {
                let (of, to) = (self.messages(model, false), self.known(model));
                Command::MessageCopy { of, to, remove: self.random.once_in(2) }
            }
            88..93 => Command::Undelete { of: self.messages(model, true) },
            _ => Command::MessagePurge { of: self.messages(model, true) },
        }
    }

    fn deliver(&mut self, model: &Model) -> Command {
        let size = [40, 120, 300, 900, 2500][self.random.below(5)];
        let bytes = mail::text(self.random.next(), size);
        let count = if self.random.once_in(3) { 2 + self.random.below(3) } else { 1 };
        let to = (0..count).map(|_| {
            let name = self.known(model);
            let or = self.random.once_in(4).then(|| format!("user/{}/INBOX", self.user()));
            Target { name, or }
        });
        let to = to.collect();
        let Marks { flags, keywords } = self.marks();
        let (internal_us, each) = (Some(self.random.below(1 << 40) as u64), self.random.once_in(2));
        Command::Deliver(Delivery { message: mail::incoming(bytes), to, flags, keywords, internal_us, each })
    }

    fn marks(&mut self) -> Marks {
        let flags = if self.random.once_in(2) { mail::FLAGS[self.random.below(4)] } else { Flags::NONE };
        let keyword = self.random.once_in(4).then(|| self.random.pick(&["$Work", "later"]).to_owned());
        Marks { flags, keywords: keyword.into_iter().collect() }
    }

    /// Some messages of a mailbox; now and then there are none such.
    fn messages(&mut self, model: &Model, expunged: bool) -> Selection {
        let all = model.tables.letters(expunged != self.random.once_in(12));
        let Some((name, uids)) = all.get(self.random.below(all.len())) else {
            return Selection { name: self.known(model), uids: vec![1], ..Selection::default() };
        };
        let count = 1 + self.random.below(3);
        let uids = (0..count).map(|_| uids[self.random.below(uids.len())]).collect();
        Selection { name: name.clone(), uids, ..Selection::default() }
    }

    /// Much log for little data: a mailbox with a long list of rights is renamed, to and fro.
    fn large(&mut self, model: &Model) -> Command {
        let [here, there] = ["shared/large/a", "shared/large/b"];
        let is_here = model.tables.mailboxes.contains_key(here);
        let (from, to) = if is_here { (here, there) } else { (there, here) };
        if is_here || model.tables.mailboxes.contains_key(there) {
            return Command::MailboxRename { from: from.to_owned(), to: to.to_owned() };
        }
        let acl = self.acl(LARGE);
        Command::ImportMailbox { name: here.to_owned(), partition: None, uidvalidity: 0, acl }
    }

    fn user(&mut self) -> String {
        self.random.pick(&USERS).to_owned()
    }

    fn name(&mut self) -> String {
        match self.random.below(10) {
            0..3 => self.random.pick(&SHARED).to_owned(),
            3 => format!("user/{}/inbox", self.user()),
            4 if self.random.once_in(4) => "user/ann/a//b".to_owned(),
            _ => format!("user/{}/{}", self.user(), self.random.pick(&FOLDERS)),
        }
    }

    /// A mailbox that is there, mostly.
    fn known(&mut self, model: &Model) -> String {
        let mailboxes = &model.tables.mailboxes;
        let nth = self.random.below(mailboxes.len() + 1);
        mailboxes.keys().nth(nth).cloned().unwrap_or_else(|| self.name())
    }

    /// A quota root: a user, or a mailbox that may become one.
    fn root(&mut self, model: &Model) -> String {
        match self.random.below(4) {
            0 => self.user(),
            1 => format!("user/{}", self.user()),
            _ => self.known(model),
        }
    }

    fn limit(&mut self, of: [u64; 4]) -> LimitChange {
        match self.random.below(4) {
            0 => LimitChange::Keep,
            1 | 2 => LimitChange::Remove,
            _ => LimitChange::To(of[self.random.below(4)]),
        }
    }

    fn partition(&mut self) -> Option<String> {
        match self.random.below(8) {
            0 => Some(SECOND.to_owned()),
            1 => Some("primary".to_owned()),
            _ => None,
        }
    }

    /// Small, near the clock, ahead of it, or any.
    fn uidvalidity(&mut self) -> u32 {
        match self.random.below(4) {
            0 => 1 + self.random.below(10) as u32,
            1 => super::world::SECONDS_AT_START + self.random.below(40) as u32,
            2 => super::world::SECONDS_AT_START + 100_000 + self.random.below(1000) as u32,
            _ => 0,
        }
    }

    fn acl(&mut self, entries: usize) -> Acl {
        let first = self.random.below(1000);
        (0..entries).map(|n| (format!("group:{}-{}", "department".repeat(12), first + n), "lrs9".to_owned())).collect()
    }
}

fn partition_add(name: &str, id: u8) -> Command {
    Command::PartitionAdd { name: name.to_owned(), id: [id; 16] }
}

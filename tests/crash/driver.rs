//! One store, driven step by step, with everything it answers and shows held against the model.

use super::mail;
use super::model::{Model, Tables};
use super::workload::Step;
use super::world::{self, Dump};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use storedd::disk::SimDisk;
use storedd::env::{Env, SimEnv};
use storedd::error::{StoreError, exit};
use storedd::jobs::registry::Context;
use storedd::jobs::snapshots::{Keeper, Settings};
use storedd::lsn::Lsn;
use storedd::model::command::RefusalKind;
use storedd::model::{Command, Outcome, Rows, Table, check};
use storedd::snapshot::Depth;
use storedd::store::{Answer, CommitError, Options, Phase, Report, Store};

/// What can be seen at one moment, exactly.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) dump: Dump,
    pub(super) model: Model,
    /// LSN of the last change in it.
    pub(super) lsn: Lsn,
}

impl Seen {
    /// A store in which nothing was done yet.
    pub(super) fn nothing(options: &Options) -> Seen {
        Seen { dump: Dump::default(), model: Model::new(options.limits), lsn: Lsn::ZERO }
    }
}

/// Which mailbox a name and UIDVALIDITY have stood for, whatever happened since (I6), and from which [`Seen`] on.
#[derive(Debug, Clone, Default)]
pub(super) struct History(BTreeMap<(String, u64), (u64, usize)>);

impl History {
    /// Notes what is visible; fails if a name and UIDVALIDITY come back as another mailbox.
    pub(super) fn note(&mut self, tables: &Tables, nth: usize) -> Result<(), String> {
        for (name, uidvalidity, id) in tables.identities() {
            self.expect(&name, uidvalidity, id, usize::MAX)?;
            self.0.entry((name, uidvalidity)).or_insert((id, nth));
        }
        Ok(())
    }

    /// What was known when `nth` could be seen, for a run that begins there.
    pub(super) fn until(&self, nth: usize) -> History {
        let known = self.0.iter().filter(|(_, (_, since))| *since <= nth);
        History(known.map(|(key, (id, _))| (key.clone(), (*id, 0))).collect())
    }

    /// I6 against what was seen up to `nth`.
    pub(super) fn expect(&self, name: &str, uidvalidity: u64, id: u64, nth: usize) -> Result<(), String> {
        match self.0.get(&(name.to_owned(), uidvalidity)) {
            Some((before, since)) if *before != id && *since <= nth => {
                Err(format!("I6: {name} with UIDVALIDITY {uidvalidity} was mailbox {before} and is mailbox {id}"))
            }
            _ => Ok(()),
        }
    }
}

/// What came of a command.
#[derive(Debug, Clone)]
pub(super) enum Came {
    Done(Outcome, Lsn),
    Refused(RefusalKind),
    /// Not done, and nothing written.
    Failed(StoreError),
    /// The log failed: nobody knows before the next start.
    Undecided(StoreError),
}

impl Came {
    fn of(answer: Answer) -> Came {
        match answer {
            Ok(done) => Came::Done(done.outcome, done.lsn),
            Err(CommitError::Refused(refusal)) => Came::Refused(refusal.kind),
            // Longer than a log record may be.
            Err(CommitError::Failed(StoreError::Refused { exit: exit::BUSY, .. })) => Came::Refused(RefusalKind::Busy),
            Err(CommitError::Failed(e @ StoreError::Poisoned { .. })) => Came::Undecided(e),
            Err(CommitError::Failed(e)) => Came::Failed(e),
            Err(CommitError::Stale | CommitError::Uncounted(_)) => Came::Refused(RefusalKind::Busy),
        }
    }

    /// Gives up the messages that nobody has taken, as a door does.
    fn settle(&self, store: &Store, taken: &Command) {
        match (self, taken) {
            (Came::Undecided(_), _) => {}
            (Came::Refused(_) | Came::Failed(_), _) => mail::given_up(store, taken),
            (Came::Done(Outcome::Each(outcomes), _), Command::Atomic(commands)) => {
                let unused = commands.iter().zip(outcomes).filter(|(_, outcome)| !changes(outcome));
                unused.for_each(|(command, _)| mail::given_up(store, command));
            }
            (Came::Done(outcome, _), _) if !changes(outcome) => mail::given_up(store, taken),
            (Came::Done(..), _) => {}
        }
    }

    /// As the model takes it: whatever was not done was not done.
    fn said(&self) -> Result<Outcome, RefusalKind> {
        match self {
            Came::Done(outcome, _) => Ok(outcome.clone()),
            Came::Refused(kind) => Err(*kind),
            Came::Failed(_) | Came::Undecided(_) => Err(RefusalKind::Busy),
        }
    }
}

/// An answer, and the number of the last operation before it.
pub(super) type Told = (Came, u64);

/// What a step did.
#[derive(Debug, Default)]
pub(super) struct Did {
    pub(super) told: Vec<Told>,
    /// Errors of steps that are no commands.
    pub(super) failed: Vec<StoreError>,
    /// What could be seen after each change, oldest first; the last is what can be seen now.
    pub(super) seen: Vec<Seen>,
}

impl Did {
    /// Everything that failed.
    pub(super) fn errors(&self) -> impl Iterator<Item = &StoreError> {
        let told = self.told.iter().filter_map(|(came, _)| match came {
            Came::Failed(e) | Came::Undecided(e) => Some(e),
            _ => None,
        });
        self.failed.iter().chain(told)
    }
}

/// Whether a command that said this has changed anything.
pub(super) fn changes(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Unchanged => false,
        Outcome::Recalculated(roots) => !roots.is_empty(),
        Outcome::Each(all) => all.iter().any(changes),
        Outcome::Delivered(all) => all.iter().any(Result::is_ok),
        _ => true,
    }
}

/// A store and its model.
pub(super) struct Driver {
    pub(super) machine: SimDisk,
    pub(super) env: Arc<SimEnv>,
    pub(super) options: Options,
    store: Option<Arc<Store>>,
    pub(super) now: Seen,
    /// Commands that were logged when the log failed.
    pub(super) undecided: Vec<Command>,
    /// So many of them were answered all the same, before the machine stopped.
    pub(super) required: usize,
    pub(super) history: History,
    /// Highest LSN that was ever answered.
    pub(super) answered: Lsn,
    /// A partition failed, and nothing of it can be read before the next start.
    pub(super) blind: bool,
}

/// Everything that must hold of a store, whatever was done: rows are as they were written, the tables agree.
pub(super) fn check_store(store: &Store) -> Result<(), String> {
    let view = store.view();
    let report = check::check(&view).map_err(|e| format!("the check of the tables: {e}"))?;
    if let Some(finding) = report.findings.first() {
        return Err(format!("{} findings in the tables, the first: {finding}", report.total));
    }
    let report = storedd::db::check(view.database(), &mut |_| true);
    if let Some(finding) = report.findings.first() {
        return Err(format!("{} findings in the database, the first: {finding:?}", report.total));
    }
    if let Some(counts) = store.counts() {
        let mut rows = [0; 2];
        for (table, n) in [(Table::Users, 0), (Table::Mailboxes, 1)] {
            let mut count = |_: &[u8], _: &[u8]| {
                rows[n] += 1;
                ControlFlow::Continue(())
            };
            view.scan(table, Bound::Unbounded, &mut count).map_err(|e| e.to_string())?;
        }
        if [counts.users, counts.mailboxes] != rows {
            return Err(format!("the store counts {counts:?}, it holds {rows:?} users and mailboxes"));
        }
    }
    let (checkpoint, published) = (store.checkpoint_lsn(), store.published_lsn());
    let applied = view.database().meta().applied_lsn;
    if checkpoint > published || published > store.synced_lsn() || applied < checkpoint {
        return Err(format!(
            "I1: checkpoint {checkpoint}, applied {applied}, published {published}, synced {}",
            store.synced_lsn()
        ));
    }
    Ok(())
}

impl Driver {
    /// A store that was just opened and shows `now`.
    pub(super) fn of(machine: SimDisk, env: Arc<SimEnv>, options: Options, store: Arc<Store>, now: Seen) -> Driver {
        let (undecided, history, answered) = (Vec::new(), History::default(), Lsn::ZERO);
        let (store, required, blind) = (Some(store), 0, false);
        Driver { machine, env, options, store, now, undecided, required, history, answered, blind }
    }

    /// The first start on empty disks.
    pub(super) fn first_start(machine: SimDisk, env: Arc<SimEnv>, options: Options) -> Result<Driver, StoreError> {
        let (store, _) = world::open(&machine, &env, &options)?;
        let now = Seen::nothing(&options);
        Ok(Driver::of(machine, env, options, store, now))
    }

    /// The store; there is none after a start that failed.
    pub(super) fn store(&self) -> Option<&Arc<Store>> {
        self.store.as_ref()
    }

    /// The process ends, however it likes.
    pub(super) fn drop_store(&mut self) {
        self.store = None;
    }

    /// Does one step. An error is a violation; a failure of the store is in the answer.
    pub(super) fn act(&mut self, step: &Step) -> Result<Did, String> {
        let Some(store) = self.store.clone() else { return Err("no store is open".to_owned()) };
        if super::number("STOREDD_CRASH_TRACE", 0) > 0 {
            crate::harness::say(&format!("operation {}: {step:?}", self.machine.ops()));
        }
        let mut did = Did::default();
        match step {
            Step::Commit(command) => {
                let came = commit(&store, command);
                did.told.push((came, self.machine.ops()));
            }
            Step::Group(commands) => did.told = group(&store, &self.machine, commands)?,
            Step::Checkpoint => did.failed.extend(store.checkpoint().err()),
            Step::Seal => did.failed.extend(store.seal().err()),
            Step::PrepareSpares => did.failed.extend(store.prepare_spares().err()),
            Step::PreparePartition(name) => {
                let fresh = world::partition_id(name);
                did.failed.extend(store.partitions().prepare(name, fresh, self.env.now()).err());
            }
            Step::Snapshot => did.failed.extend(self.snapshot(&store).err().filter(|e| e.exit() != exit::EXISTS)),
            Step::Reopen | Step::Kill | Step::Rollback(_) => {
                if matches!(step, Step::Reopen) {
                    did.failed.extend(store.close().err());
                }
                let well = did.failed.is_empty() && store.phase() != Phase::Poisoned;
                drop(store);
                self.store = None;
                let damaged = match step {
                    Step::Rollback(way) => damage(&self.machine, *way)?,
                    _ => false,
                };
                match self.start() {
                    Ok(report) if damaged && report.decision != "rollback" => {
                        return Err(format!("the database is bad, and the start says: {}", report.summary()));
                    }
                    // A power cut may break off a write that nobody was told of; nothing else does.
                    Ok(report) if well && (report.cut_bytes > 0 || report.possible_loss) => {
                        return Err(format!("nothing was being written, and the start says: {}", report.summary()));
                    }
                    Ok(_) => {}
                    Err(e) => did.failed.push(e),
                }
                return self.look(did, step);
            }
        }
        drop(store);
        self.look(did, step)
    }

    /// Takes and verifies a snapshot, then removes those that are too many.
    fn snapshot(&self, store: &Arc<Store>) -> Result<(), StoreError> {
        let day = Duration::from_secs(86_400);
        let settings = Settings { interval: day, keep: 2, verify: true, pace: u64::MAX };
        let keeper = Keeper::new(store.clone(), self.env.clone())?;
        keeper.take(&settings, true, &Context::idle())?;
        keeper.prune(&settings, &Context::idle()).map(drop)
    }

    /// Opens the store again on the same machine.
    pub(super) fn start(&mut self) -> Result<Report, StoreError> {
        (self.store, self.blind) = (None, false);
        let (store, report) = world::open(&self.machine, &self.env, &self.options)?;
        self.store = Some(store);
        match &report.lost {
            Some(lost) => Err(StoreError::Bug(format!("the start says that something is lost: {lost:?}"))),
            None => Ok(report),
        }
    }

    /// Holds what can be seen after a step against the model.
    fn look(&mut self, mut did: Did, step: &Step) -> Result<Did, String> {
        let Some(store) = self.store.clone() else { return Ok(did) };
        let commands = step.commands();
        self.blind |= !self.machine.is_crashed() && !mail::can_be_read(&store);
        if self.machine.is_crashed() || self.blind {
            // Nothing can be looked at any more.
            for (command, (came, _)) in commands.into_iter().zip(&did.told) {
                match came {
                    Came::Done(outcome, _) if changes(outcome) => {
                        self.undecided.push(command.clone());
                        self.required = self.undecided.len();
                    }
                    Came::Undecided(_) => self.undecided.push(command.clone()),
                    _ => {}
                }
            }
            return Ok(did);
        }
        for (nth, (came, _)) in did.told.iter().enumerate() {
            match came {
                Came::Done(outcome, lsn) if changes(outcome) => {
                    if *lsn <= self.answered {
                        return Err(format!("I3: LSN {lsn} was answered, and LSN {} before", self.answered));
                    }
                    self.answered = *lsn;
                    // The moment right behind this change, and before those that were logged with it.
                    let view =
                        store.view().earlier(*lsn).ok_or(format!("LSN {lsn} was answered and is not visible"))?;
                    let said: Vec<_> = did.told[..=nth].iter().map(|(came, _)| came.said()).collect();
                    let seen = self.see(&view, &commands[..=nth], Some(&said), *lsn)?;
                    self.history.note(&seen.model.tables, 0)?;
                    did.seen.push(seen);
                }
                Came::Undecided(_) => self.undecided.push(commands[nth].clone()),
                _ => {}
            }
        }
        let said: Vec<_> = did.told.iter().map(|(came, _)| came.said()).collect();
        let view = store.view();
        let mut last = self.see(&view, &commands, Some(&said), self.now.lsn)?;
        if let Some(seen) = did.seen.last() {
            last.lsn = seen.lsn;
            if last.dump != seen.dump {
                return Err("more can be seen than was answered".to_owned());
            }
        } else if last.dump != self.now.dump {
            return Err(format!(
                "{step:?} changed what can be seen: {}",
                super::model::difference(&self.now.model.tables, &last.model.tables)
            ));
        }
        check_store(&store)?;
        if matches!(step, Step::Checkpoint | Step::Reopen) && did.failed.is_empty() {
            mail::look_at_files(&self.machine, &last.model.tables.filed())?;
        }
        let same_process = !matches!(step, Step::Reopen | Step::Kill | Step::Rollback(_));
        if same_process && !self.is_poisoned() && did.errors().any(|e| e.code() == "poisoned") {
            return Err("an answer says that the log failed, the store does not".to_owned());
        }
        self.now = last;
        Ok(did)
    }

    /// What `view` shows, which must be what the model says.
    fn see(
        &self,
        view: &storedd::store::View,
        commands: &[&Command],
        said: Option<&[Result<Outcome, RefusalKind>]>,
        lsn: Lsn,
    ) -> Result<Seen, String> {
        let dump = world::dump(self.store().ok_or("no store is open")?, view).map_err(|e| format!("reading: {e}"))?;
        let tables = Tables::read(view, &dump.mail)?;
        let model = self.now.model.after(commands, said, &tables)?;
        Ok(Seen { dump, model, lsn })
    }

    /// Whether the log has failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.phase() == Phase::Poisoned)
    }
}

/// Damages the database, if there is a snapshot in its place; true if so. The newest one may be damaged too, if there is another.
pub(super) fn damage(machine: &SimDisk, way: usize) -> Result<bool, String> {
    let shelves = world::disks(machine).shelves(world::NOBODY);
    let mut valid = Vec::new();
    for shelf in &shelves {
        for id in shelf.list().map_err(|e| e.to_string())? {
            let snapshot = shelf.read(&id, Depth::Bytes).map_err(|e| e.to_string())?;
            valid.extend(snapshot.valid.then(|| shelf.path(&id, "mboxlist.redb")));
        }
    }
    let Some(newest) = valid.pop() else { return Ok(false) };
    let (db, file) = (machine.disk("db"), "mboxlist.redb");
    let spoil = |disk: &SimDisk, file: &str| {
        let pages = disk.peek(file)?.len() as u64 / 4096;
        (0..pages).try_for_each(|page| disk.damage(file, page * 4096 + 100, 1))
    };
    let done = match way {
        0 => db.erase(file),
        1 => db.truncate(file, 5000),
        2 => db.truncate(file, 0),
        3 => spoil(&db, file),
        _ => spoil(&db, file)
            .and_then(|()| if valid.is_empty() { Ok(()) } else { spoil(&machine.disk("data"), &newest) }),
    };
    done.map(|()| true).map_err(|e| format!("damaging: {e}"))
}

/// Does one command, as a door does.
fn commit(store: &Arc<Store>, command: &Command) -> Came {
    let taken = match mail::taken_in(store, command) {
        Ok(taken) => taken,
        Err(e) => return Came::of(Err(e.into())),
    };
    let came = Came::of(store.commit(taken.clone()));
    came.settle(store, &taken);
    came
}

/// Queues commands, then does them all: they are logged and synced together.
fn group(store: &Arc<Store>, machine: &SimDisk, commands: &[Command]) -> Result<Vec<Told>, String> {
    let told: Arc<Mutex<Vec<Option<Told>>>> = Arc::new(Mutex::new(vec![None; commands.len()]));
    let mut taken = Vec::new();
    for (nth, command) in commands.iter().enumerate() {
        let (told, machine) = (told.clone(), machine.clone());
        let done = move |came| told.lock().unwrap()[nth] = Some((came, machine.ops()));
        match mail::taken_in(store, command).and_then(|command| store.prepare(command)) {
            Ok(command) => {
                taken.push((nth, command.clone()));
                store.submit(command, Box::new(move |answer| done(Came::of(answer))));
            }
            Err(e) => done(Came::of(Err(e.into()))),
        }
    }
    store.drain();
    for (nth, command) in taken {
        if let Some((came, _)) = told.lock().unwrap()[nth].as_ref() {
            came.settle(store, &command);
        }
    }
    let told = std::mem::take(&mut *told.lock().unwrap());
    told.into_iter().collect::<Option<Vec<_>>>().ok_or("a queued command was never answered".to_owned())
}

//! The watch: once a second it measures, has the alarms judged, tells whoever wants to know, and says what the room on
//! the disks allows.
//!
//! It asks only memory: disks are asked by the threads of [`Prober`], whose answers may be old. So `status` and the
//! alarms go on while a disk, the database or a mount hangs.
//!
//! # Refusing for want of room
//! Below `disk.bulk_reserve` bulk work is refused, below `disk.reserve` every change that does not delete; reads never.
//! Bulk work is what a client says is, every import, and every atomic batch of more than [`ATOMIC_BULK`] commands. The
//! reserve lets checkpoints and deletions go on, so that a full disk can be worked off; it is refused no longer than a
//! second or two after there is room again.

use crate::alarms::command::{Caller, GRACE};
use crate::alarms::{
    Alarm, Board, Bulk, Change, CheckpointFacts, Chore, CopyFacts, DamageFacts, Done, Facts, Limits, LogFacts,
    Maintenance, PlaceFacts,
};
use crate::alarms::{Prober, Severity, SnapshotFacts, Stamp, Verdict};
use crate::config::Config;
use crate::control::Peer;
use crate::env::Env;
use crate::jobs::copies::{Copies, Known};
use crate::jobs::expire::Last;
use crate::jobs::scrub::Scrubber;
use crate::leases::Leases;
use crate::lsn::Micros;
use crate::model::Command;
use crate::statefile::{Act, EXPIRE_STAMP, PERUSER_STAMP, PURGE_STAMP, StateFile};
use crate::store::{Marker, Phase, Store, rfc3339};
use arc_swap::{ArcSwap, ArcSwapOption};
use proto::{Code, Failure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How soon a stop is noticed.
const STEP: Duration = Duration::from_millis(50);
/// An atomic batch of more commands is bulk work.
pub const ATOMIC_BULK: usize = 100;
/// Bulk work is named as a cause for so long after its last change.
const BULK_MEMORY: Duration = Duration::from_secs(60);
/// Longest maintenance window.
pub const WINDOW_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Why room is short.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Short {
    /// Also changes that are no bulk work.
    all: bool,
    place: String,
    path: String,
    free: u64,
    kept: u64,
}

#[derive(Debug)]
struct BulkSeen {
    bulk: Bulk,
    last: Duration,
}

/// Log has been in excess for too long, in words: the daemon is to end, so that it is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess(pub String);

/// Watches a store.
pub struct Watch {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    state: Arc<StateFile>,
    leases: Arc<Leases>,
    prober: Prober,
    board: Mutex<Board>,
    limits: ArcSwap<Limits>,
    short: ArcSwapOption<Short>,
    bulk: Mutex<Option<BulkSeen>>,
    caller: Caller,
    /// When the store was made.
    created: Micros,
    copies: OnceLock<Arc<Copies>>,
    scrubber: OnceLock<Arc<Scrubber>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// A watch over `store`, whose stamps `state` writes, and over those who wait for `leases` on it.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        env: Arc<dyn Env>,
        state: Arc<StateFile>,
        leases: Arc<Leases>,
        config: &Config,
    ) -> Watch {
        let created = Marker::read(&*store.disks().data).ok().flatten().map_or_else(|| env.now(), |m| m.created);
        let board = if state.follows_poison() { Board::after_poison(env.now()) } else { Board::default() };
        Watch {
            created,
            prober: Prober::new(store.clone(), env.clone()),
            store,
            env,
            state,
            leases,
            board: Mutex::new(board),
            limits: ArcSwap::from_pointee(Limits::of(config)),
            short: ArcSwapOption::empty(),
            bulk: Mutex::default(),
            caller: Caller::default(),
            copies: OnceLock::new(),
            scrubber: OnceLock::new(),
        }
    }

    /// Has the copies of the store watched, too.
    pub fn set_copies(&self, copies: Arc<Copies>) {
        // A second one is of the same store.
        let _ = self.copies.set(copies);
    }

    /// Has told what the scrub finds, too.
    pub fn set_scrubber(&self, scrubber: Arc<Scrubber>) {
        // A second one is of the same store.
        let _ = self.scrubber.set(scrubber);
    }

    fn damage(&self) -> DamageFacts {
        let damage = self.scrubber.get().map(|scrubber| scrubber.known().damage).unwrap_or_default();
        let first = damage.first().map(|first| format!("{}: {}", first.place, first.what));
        DamageFacts { count: damage.len() as u64, first: first.unwrap_or_default() }
    }

    /// What is known of the copies of the store.
    #[must_use]
    pub fn copies(&self) -> Known {
        // Before there are any nothing is late.
        let now = || Known { created: self.env.now(), ..Known::default() };
        self.copies.get().map_or_else(now, |copies| copies.known())
    }

    /// Looks for the first time, so that whoever asks the ready daemon hears what is wrong. Disks have a second to answer;
    /// one that does not is an alarm later.
    pub fn begin(&self, config: &Config) {
        if let Err(e) = self.prober.follow() {
            tracing::warn!(event = "not_probed", error = %e, "no thread to look at the disks with");
        }
        let begun = self.env.uptime();
        while !self.prober.all_answered() && self.env.uptime().saturating_sub(begun) < PERIOD {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.look(config, &|_| {});
    }

    /// Looks once a second until `stop` is set, and then waits for or ends the alarm programs at work; `config` gives the configuration in effect, `excess` is told when log
    /// has been in excess for too long.
    pub fn run(&self, stop: &AtomicBool, config: impl Fn() -> Arc<Config>, excess: impl Fn(Excess)) {
        while !stop.load(Ordering::Acquire) {
            self.look(&config(), &excess);
            let mut rest = PERIOD;
            while !stop.load(Ordering::Acquire) && !rest.is_zero() {
                std::thread::sleep(STEP);
                rest = rest.saturating_sub(STEP);
            }
        }
        if self.store.phase() == Phase::Poisoned {
            // The process ends for it, and may not have been looked at since.
            self.look(&config(), &|_| {});
        }
        self.caller.end(GRACE);
    }

    fn look(&self, config: &Config, excess: &impl Fn(Excess)) {
        if let Err(e) = self.prober.follow() {
            tracing::warn!(event = "not_probed", error = %e, "no thread to look at the disks with");
        }
        let limits = Limits::of(config);
        let facts = self.facts();
        let verdict = lock(&self.board).evaluate(&facts, &limits);
        self.judge_room(&facts.places, &limits);
        self.limits.store(Arc::new(limits));
        let Verdict { changes, restart: why } = verdict;
        for change in &changes {
            say(change);
            if !config.alarm.command.as_os_str().is_empty() {
                self.caller.tell(&config.alarm.command, config.alarm.command_timeout, change);
            }
        }
        if let Some(why) = why {
            excess(Excess(why));
        }
    }

    fn facts(&self) -> Facts {
        let store = &self.store;
        let (checkpoint, segments) = (store.checkpoint_health(), store.segments());
        let upto = store.checkpoint_lsn();
        let needed = segments.iter().filter(|s| s.last_lsn.is_some_and(|last| last > upto)).count();
        let oldest = segments.iter().find(|s| !s.active);
        Facts {
            now: self.env.now(),
            uptime: self.env.uptime(),
            phase: store.phase(),
            log: LogFacts {
                segments: needed as u64,
                bytes: segments.iter().map(|s| s.segment.bytes).sum(),
                kept_for: oldest.map(|s| s.kept_for.clone()).unwrap_or_default(),
                put_back: store.log_put_back(),
            },
            checkpoint: CheckpointFacts {
                lsn: upto.0,
                owes: store.overlay_entries() > 0,
                running: checkpoint.running,
                failures: checkpoint.failures,
                error: checkpoint.error,
            },
            overlay_bytes: store.overlay_bytes() as u64,
            overlay_bytes_max: store.options().overlay_bytes_max as u64,
            places: self.prober.places(),
            lagging: store.lagging(),
            stamps: self.state.late().into_iter().map(|(file, owed)| Stamp { file, owed }).collect(),
            chores: self.chores(),
            done: self.done(),
            oldest_wait: store.oldest_wait(),
            held_up: self.leases.oldest_change(),
            bulk: self.bulk_now(),
            copies: copies(self.copies()),
            repair: store.repair_recommended(),
            snapshots: self.snapshots(),
            damage: self.damage(),
        }
    }

    /// Notes that something was done now. A stamp that cannot be written is an alarm.
    pub fn note(&self, act: Act) {
        self.state.note(act);
    }

    /// When the work of the night and of the hour was done last.
    #[must_use]
    pub fn stamped(&self) -> Last {
        let facts = self.state.facts();
        Last { expire: facts.expire, purge: facts.purge, peruser: facts.peruser }
    }

    fn chores(&self) -> Vec<Chore> {
        let (now, last) = (self.env.now(), self.stamped());
        let age = |at: Option<Micros>| Duration::from_micros(now.0.saturating_sub(at.unwrap_or(self.created).0));
        let chore = |file, what, at, next| Chore { file, what, age: age(at), next };
        vec![
            chore(EXPIRE_STAMP, "run of the rules of ageing", last.expire, "storectl expire"),
            chore(PURGE_STAMP, "purge", last.purge, "storectl purge"),
            chore(PERUSER_STAMP, "write-out of what users have seen", last.peruser, "storectl peruser"),
        ]
    }

    fn done(&self) -> Vec<Done> {
        let (copies, last) = (self.copies(), self.stamped());
        let scrub = self.scrubber.get().and_then(|scrubber| scrubber.known().last).map(|(begun, _)| begun);
        let snapshot = self.store.newest_snapshot().map(|newest| newest.time);
        let all = [
            ("snapshot", snapshot, "storectl snapshot take --verify"),
            ("backup", copies.backup, "storectl backup-db DIR"),
            ("mail backup", copies.mail_backup, "storectl backup -f FILE /"),
            ("drill", copies.drill, "storectl drill"),
            ("scrub", scrub, "storectl check --all --deep"),
            ("expire", last.expire, "storectl expire"),
            ("purge", last.purge, "storectl purge"),
            ("peruser", last.peruser, "storectl peruser"),
        ];
        all.into_iter().filter_map(|(what, at, next)| Some(Done { what, at: at?, next })).collect()
    }

    fn snapshots(&self) -> SnapshotFacts {
        let newest = self.store.newest_snapshot();
        let since = newest.as_ref().map_or(self.created, |newest| newest.time);
        SnapshotFacts {
            age: Duration::from_micros(self.env.now().0.saturating_sub(since.0)),
            newest: newest.map(|newest| newest.id),
            without_log: self.store.snapshots_without_log(),
            not_read: self.store.snapshots_not_read(),
        }
    }

    /// What the room on the disks of the store allows from now on.
    fn judge_room(&self, places: &[PlaceFacts], limits: &Limits) {
        let short = places.iter().filter(|place| place.vital).filter_map(|place| {
            let space = place.space?;
            let (reserve, bulk) = (space.reserve(limits.reserve), limits.bulk(space));
            let (all, kept) = if space.free < reserve { (true, reserve) } else { (false, bulk) };
            let (place, path) = (place.name.clone(), place.path.clone());
            (space.free < kept).then_some(Short { all, place, path, free: space.free, kept })
        });
        let worst = short.max_by_key(|short| short.all);
        let (before, now) = (self.short.load().as_ref().map(|s| s.all), worst.as_ref().map(|s| s.all));
        if before != now {
            let free = worst.as_ref().map_or(0, |s| s.free);
            let refused = match now {
                None => "nothing",
                Some(false) => "bulk_work",
                Some(true) => "changes",
            };
            if now.is_some() {
                tracing::warn!(event = "room", refused, free, "what is refused for want of room on a disk");
            } else {
                tracing::info!(event = "room", refused, "there is room on the disks again");
            }
        }
        self.short.store(worst.map(Arc::new));
    }

    /// Whether there is room for a change of this client; notes bulk work.
    ///
    /// # Errors
    /// `Busy`, with the disk that is short of room.
    pub fn admit(&self, peer: &Peer, command: &Command) -> Result<(), Failure> {
        let bulk = peer.is_bulk() || is_bulk(command);
        if bulk {
            self.note_bulk(peer);
        }
        let Some(short) = self.short.load_full() else { return Ok(()) };
        if deletes(command) || !(short.all || bulk) {
            return Ok(());
        }
        let what = if short.all { "changes" } else { "bulk work" };
        let Short { place, path, free, kept, .. } = &*short;
        let message =
            format!("no room for {what}: {free} bytes are free on the disk of {path} ({place}), {kept} are kept");
        Err(Failure::new(Code::Busy, message)
            .with_hint("free space there; the store goes on by itself: storectl status"))
    }

    /// Why every change that does not delete is refused for want of room, if that is so.
    #[must_use]
    pub fn no_room(&self) -> Option<String> {
        let short = self.short.load_full().filter(|short| short.all)?;
        let Short { place, path, free, kept, .. } = &*short;
        Some(format!("no room for changes: {free} bytes are free on the disk of {path} ({place}), {kept} are kept"))
    }

    fn note_bulk(&self, peer: &Peer) {
        let now = self.env.uptime();
        let mut seen = lock(&self.bulk);
        let who = format!("{} (pid {}, uid {})", peer.client.trim_end_matches(proto::BULK), peer.pid, peer.uid);
        match &mut *seen {
            Some(seen) if seen.bulk.who == who => {
                seen.bulk.changes += 1;
                seen.last = now;
            }
            _ => *seen = Some(BulkSeen { bulk: Bulk { who, changes: 1 }, last: now }),
        }
    }

    fn bulk_now(&self) -> Option<Bulk> {
        let now = self.env.uptime();
        let seen = lock(&self.bulk);
        seen.as_ref().filter(|seen| now.saturating_sub(seen.last) < BULK_MEMORY).map(|seen| seen.bulk.clone())
    }

    /// The alarms that are on, in the words of the wire.
    #[must_use]
    pub fn alarms(&self) -> Vec<proto::Alarm> {
        lock(&self.board).alarms().into_iter().map(wire).collect()
    }

    /// The maintenance that holds now.
    #[must_use]
    pub fn maintenance(&self) -> Option<proto::Maintenance> {
        let board = lock(&self.board);
        board.maintenance(self.env.now()).map(|m| proto::Maintenance {
            until: rfc3339(m.until),
            reason: m.reason.clone(),
            who: m.who.clone(),
        })
    }

    /// `maintenance`.
    ///
    /// # Errors
    /// `BadInput` for a window of no length, or a longer one than [`WINDOW_MAX`].
    pub fn set_maintenance(&self, window: &proto::Window, peer: &Peer) -> Result<Option<proto::Maintenance>, Failure> {
        match window {
            proto::Window::Show => {}
            proto::Window::Stop => {
                lock(&self.board).set_maintenance(None);
                tracing::info!(event = "maintenance_stopped", uid = peer.uid, pid = peer.pid);
            }
            proto::Window::Start { seconds, reason } => {
                if *seconds == 0 || *seconds > WINDOW_MAX.as_secs() {
                    let message = format!("found {seconds} seconds, expected 1 to {}", WINDOW_MAX.as_secs());
                    return Err(Failure::new(Code::BadInput, message).with_hint("storectl maintenance start --for 2h"));
                }
                let until = Micros(self.env.now().0.saturating_add(seconds.saturating_mul(1_000_000)));
                let ends = self.env.uptime() + Duration::from_secs(*seconds);
                let reason: String = reason.chars().take(200).collect();
                let who = format!("{} (pid {}, uid {})", peer.client, peer.pid, peer.uid);
                tracing::info!(event = "maintenance_started", until = rfc3339(until), reason, who);
                lock(&self.board).set_maintenance(Some(Maintenance { until, ends, reason, who }));
            }
        }
        Ok(self.maintenance())
    }

    /// How every disk and partition was seen last.
    #[must_use]
    pub fn prober(&self) -> &Prober {
        &self.prober
    }

    /// The limits in effect.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Something that only the board knows: how fast disks and log fill.
    pub fn with_board<T>(&self, ask: impl FnOnce(&Board) -> T) -> T {
        ask(&lock(&self.board))
    }
}

/// Commands that come in numbers.
fn is_bulk(command: &Command) -> bool {
    match command {
        Command::ImportMailbox { .. } => true,
        Command::Atomic(commands) => commands.len() > ATOMIC_BULK || commands.iter().any(is_bulk),
        _ => false,
    }
}

/// Commands that lead to more room, or need none to speak of; a full disk takes them too.
fn deletes(command: &Command) -> bool {
    match command {
        Command::UserDelete { .. }
        | Command::MailboxDelete { .. }
        | Command::MessageExpunge { .. }
        | Command::MessagePurge { .. }
        | Command::MailboxPurge { .. }
        | Command::SeenForget { .. }
        | Command::AclDelete { .. }
        | Command::Unsubscribe { .. }
        | Command::PartitionRemove { .. } => true,
        Command::Atomic(commands) => commands.iter().all(deletes),
        _ => false,
    }
}

fn wire(alarm: Alarm) -> proto::Alarm {
    proto::Alarm {
        name: alarm.name.word().to_owned(),
        subject: alarm.subject,
        severity: alarm.severity.word().to_owned(),
        since: rfc3339(alarm.since),
        message: alarm.message,
        cause: alarm.cause,
        value: alarm.value,
        limit: alarm.limit,
        unit: alarm.unit.to_owned(),
        rate: alarm.rate,
        time_to_full: alarm.time_to_full,
        next: Some(alarm.next.to_owned()),
    }
}

/// What the alarms are told of the copies of the store.
fn copies(known: Known) -> CopyFacts {
    let bad = known.drilled.is_some_and(|(good, ..)| !good);
    let archive = known.archive;
    CopyFacts {
        created: known.created,
        backup: known.backup,
        mail_backup: known.mail_backup,
        backup_failure: known.backup_failure,
        drill: known.drill,
        drill_problem: known.drill_problem.filter(|_| bad),
        archive_waits: archive.on.then_some(archive.waiting),
        archive_failure: archive.failure,
        archive_gap: archive.gap.map(|gap| gap.files),
    }
}

/// One line for the journal.
fn say(change: &Change) {
    let alarm = change.alarm();
    let (name, subject, severity) = (alarm.name.word(), &alarm.subject, alarm.severity.word());
    let (value, limit, unit) = (alarm.value, alarm.limit, alarm.unit);
    macro_rules! line {
        ($level:ident, $event:literal) => {
            tracing::$level!(
                event = $event,
                alarm = name,
                subject,
                severity,
                value,
                limit,
                unit,
                rate = alarm.rate,
                time_to_full = alarm.time_to_full,
                cause = alarm.cause,
                next = alarm.next,
                "{}",
                alarm.message
            )
        };
    }
    match change {
        Change::Cleared(_) => line!(info, "alarm_cleared"),
        Change::Severity(_) => line!(warn, "alarm_changed"),
        Change::Raised(_) if alarm.severity == Severity::Critical => line!(error, "alarm_raised"),
        Change::Raised(_) => line!(warn, "alarm_raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bulk_and_what_deletes() {
        let delete = || Command::UserDelete { user: "joe".to_owned() };
        let create = || Command::MailboxCreate { name: "user/joe/x".to_owned(), partition: None };
        assert!(deletes(&delete()) && !is_bulk(&delete()));
        assert!(!deletes(&create()) && !is_bulk(&create()));
        assert!(deletes(&Command::Atomic(vec![delete(), delete()])));
        assert!(!deletes(&Command::Atomic(vec![delete(), create()])));
        assert!(is_bulk(&Command::Atomic((0..=ATOMIC_BULK).map(|_| create()).collect())));
        assert!(!is_bulk(&Command::Atomic((0..ATOMIC_BULK).map(|_| create()).collect())));
    }
}

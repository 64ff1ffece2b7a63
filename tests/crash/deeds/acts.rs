//! Work on a store that is whole.

use super::super::mail;
use super::super::world::{self, Dump};
use super::stage::{Base, DAY, FOLDER, INBOX, NEWS, Stage, begin, deliver, of};
use super::{Deed, crashed_everywhere};
use std::time::Duration;
use storedd::config::{ExpireAction, ExpireRule};
use storedd::disk::SimDisk;
use storedd::env::Env;
use storedd::error::exit;
use storedd::jobs::expire::{Ageing, Settings, Undone};
use storedd::jobs::registry::Context;
use storedd::jobs::snapshots::{self, Keeper};
use storedd::lsn::Micros;
use storedd::model::command::{Marks, Returning, ReturningBody, ReturningMailbox, ReturningMessages};
use storedd::model::message::Flags;
use storedd::model::name::MailboxName;
use storedd::model::rows::{MailboxRow, Row};
use storedd::model::{Command, Outcome, Rows, Table};
use storedd::store::CommitError;

pub(super) const EXPIRE: Deed = Deed { name: "expire", harm: None, act: expire, also: None };
const PURGE: Deed = Deed { name: "purge", harm: None, act: purge, also: None };
const MOVE: Deed = Deed { name: "user move", harm: None, act: move_away, also: None };
const RETURN: Deed = Deed { name: "mailbox restore", harm: None, act: bring_back, also: None };
const RAISE: Deed = Deed { name: "mailbox restore into one that is there", harm: None, act: bring_behind, also: None };
const SEEN: Deed = Deed { name: "seen", harm: None, act: see, also: None };
const SNAPSHOT: Deed = Deed { name: "snapshot and prune", harm: None, act: snapshot, also: Some(a_snapshot_is_enough) };

/// Does a command as the daemon does it for a job.
fn hands(stage: &Stage, command: Command) -> Result<Outcome, Undone> {
    match stage.store.commit_once(command) {
        Ok(done) => Ok(done.outcome),
        Err(CommitError::Stale | CommitError::Uncounted(_)) => Err(Undone::Stale),
        Err(CommitError::Refused(why)) if format!("{:?}", why.kind) == "Exists" => Ok(Outcome::Unchanged),
        Err(CommitError::Refused(why)) => Err(Undone::Refused(why.to_string())),
        Err(CommitError::Failed(e)) => Err(Undone::Failed(e)),
    }
}

fn settings() -> Settings {
    let old = ExpireRule {
        mailboxes: "user/*/INBOX".to_owned(),
        older_than: Some(Duration::from_secs(30 * DAY as u64)),
        action: ExpireAction::Discard,
        ..ExpireRule::new("old")
    };
    let large = ExpireRule {
        mailboxes: "user/*".to_owned(),
        larger_than: Some(800),
        action: ExpireAction::Move,
        move_to: "Archiv".to_owned(),
        ..ExpireRule::new("large")
    };
    // What lies in the archive stays there.
    let keep =
        ExpireRule { mailboxes: "user/*/Archiv".to_owned(), action: ExpireAction::Keep, ..ExpireRule::new("archive") };
    Settings {
        rules: vec![keep, old, large],
        pace: u64::MAX,
        cleanup_age: Duration::from_secs(7 * DAY as u64),
        ..Settings::default()
    }
}

fn ageing(stage: &Stage) -> Result<Ageing, String> {
    Ageing::new(stage.store.clone(), stage.env.clone()).map_err(|e| e.to_string())
}

fn expire(stage: &Stage) -> Result<(), String> {
    let hands = |command| hands(stage, command);
    let told =
        ageing(stage)?.expire(&settings(), (false, true), &Context::idle(), &hands).map_err(|e| e.to_string())?;
    told.problems.first().map_or(Ok(()), |problem| Err(problem.clone()))
}

fn purge(stage: &Stage) -> Result<(), String> {
    let hands = |command| hands(stage, command);
    let told = ageing(stage)?.purge(&settings(), false, &Context::idle(), &hands).map_err(|e| e.to_string())?;
    told.problems.first().map_or(Ok(()), |problem| Err(problem.clone()))
}

fn move_away(stage: &Stage) -> Result<(), String> {
    relocate(stage, "second")
}

/// Moves ann to another partition; nothing if she lies there.
pub(super) fn relocate(stage: &Stage, to: &str) -> Result<(), String> {
    let moving = stage.store.begin_move("ann", to).map_err(|e| e.to_string())?;
    let Some(mut moving) = moving else { return Ok(()) };
    let command = moving.copy(&mut |_, _| true).map_err(|e| e.to_string())?;
    stage.commit(command)?;
    stage.store.checkpoint().map_err(|e| e.to_string())?;
    moving.done().map_err(|e| e.to_string())
}

/// A mailbox that a backup had, and its messages under their UIDs: two with their bytes, one whose bytes the store has.
fn bring_back(stage: &Stage) -> Result<(), String> {
    let name = "user/ann/Zur\u{fc}ck";
    stage.commit(Command::MailboxReturns(Box::new(ReturningMailbox {
        name: name.to_owned(),
        partition: None,
        id: 77,
        store: "another".to_owned(),
        uidvalidity: 4711,
        uidnext: 12,
        highest_modseq: 30,
        acl: Default::default(),
    })))?;
    let returning = |uid, body| Returning {
        uid: Some(uid),
        marks: Marks { flags: Flags::ANSWERED, ..Marks::default() },
        internal_us: 1_600_000_000_000_000 + u64::from(uid),
        saved_us: Some(1_600_000_000_000_000),
        body,
    };
    let bytes = |nth, size| ReturningBody::Bytes(mail::incoming(mail::text(nth, size)));
    for messages in [
        vec![returning(3, bytes(31, 150)), returning(7, bytes(32, 190))],
        vec![returning(9, ReturningBody::Copy(1, None))],
    ] {
        let (into, from) = (of(name, &[]), of(INBOX, &[]));
        stage.commit(Command::MessagesReturn(Box::new(ReturningMessages { into, from, messages })))?;
    }
    Ok(())
}

/// What a backup had comes back into the mailbox itself, which gives no UID any more that the backup may have given; then comes new mail.
fn bring_behind(stage: &Stage) -> Result<(), String> {
    let inbox = || -> Result<MailboxRow, String> {
        let name = MailboxName::parse(INBOX).map_err(|e| e.to_string())?;
        let row = stage.store.view().get(Table::Mailboxes, name.key()).map_err(|e| e.to_string())?.ok_or("no INBOX")?;
        MailboxRow::decode(name.key(), &row).map_err(|e| e.to_string())
    };
    let row = inbox()?;
    let uidnext = 40;
    let returns = |uidnext| {
        Command::MailboxReturns(Box::new(ReturningMailbox {
            name: INBOX.to_owned(),
            partition: None,
            id: row.id,
            store: stage.store.store_id().to_string(),
            uidvalidity: row.uidvalidity,
            uidnext,
            highest_modseq: 1,
            acl: Default::default(),
        }))
    };
    let is_done = row.uidnext > uidnext;
    stage.commit(returns(uidnext))?;
    // What an older backup says lowers nothing.
    stage.commit(returns(5))?;
    if inbox()?.uidnext < uidnext {
        return Err(format!("UIDNEXT is {}", inbox()?.uidnext));
    }
    let body = ReturningBody::Bytes(mail::incoming(mail::text(41, 160)));
    let marks = Marks { flags: Flags::ANSWERED, ..Marks::default() };
    let (uid, internal_us, saved_us) = (Some(39), 1_600_000_000_000_000, Some(1_600_000_000_000_000));
    let messages = vec![Returning { uid, marks, internal_us, saved_us, body }];
    let (into, from) = (of(INBOX, &[]), of(INBOX, &[]));
    stage.commit(Command::MessagesReturn(Box::new(ReturningMessages { into, from, messages })))?;
    if is_done { Ok(()) } else { stage.commit(deliver(42, 150, &[INBOX], false)) }
}

/// Users see what is in a mailbox of others, and it is written out.
fn see(stage: &Stage) -> Result<(), String> {
    let marks = |flags| Marks { flags, ..Marks::default() };
    for (user, uids, seen) in [("ann", &[1, 2][..], true), ("bob", &[1], false), ("bob", &[2, 3], true)] {
        let (add, remove) = if seen { (Flags::SEEN, Flags::NONE) } else { (Flags::NONE, Flags::SEEN) };
        let (add, remove) = (marks(add), marks(remove));
        stage.commit(Command::MessageFlagsAs { user: user.to_owned(), of: of(NEWS, uids), add, remove })?;
        stage.store.write_out_seen(Micros(0)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Snapshots with changes between them; those that are too many are removed.
fn snapshot(stage: &Stage) -> Result<(), String> {
    let settings = snapshots::Settings { interval: Duration::from_secs(1), keep: 2, verify: true, pace: u64::MAX };
    let keeper = Keeper::new(stage.store.clone(), stage.env.clone()).map_err(|e| e.to_string())?;
    for nth in 0..3 {
        stage.commit(Command::MailboxCreate { name: format!("{FOLDER}/{nth}"), partition: None })?;
        match keeper.take(&settings, true, &Context::idle()) {
            Err(e) if e.exit() != exit::EXISTS => return Err(e.to_string()),
            _ => {}
        }
        keeper.prune(&settings, &Context::idle()).map_err(|e| e.to_string())?;
        stage.env.set_now(Micros(stage.env.now().0 + 10_000_000));
    }
    Ok(())
}

/// Where there is a snapshot that counts, the database may be lost: it and the log give everything back.
fn a_snapshot_is_enough(machine: &SimDisk, base: &Base, shown: &Dump) -> Result<(), String> {
    let machine = machine.moment().killed();
    let mut there = false;
    for shelf in &world::disks(&machine).shelves(world::NOBODY) {
        for id in shelf.list().map_err(|e| e.to_string())? {
            there |= shelf.read(&id, storedd::snapshot::Depth::Bytes).is_ok_and(|snapshot| snapshot.valid);
        }
    }
    if !there {
        return Ok(());
    }
    machine.disk("db").erase("mboxlist.redb").map_err(|e| e.to_string())?;
    let stage = begin(&machine, base, 5)?;
    match stage.dump()? == *shown {
        true => Ok(()),
        false => Err("a snapshot and the log are not the database".to_owned()),
    }
}

// row 192
#[test]
fn an_ageing_run_is_stopped_anywhere() {
    crashed_everywhere(EXPIRE);
}

#[test]
fn a_purge_is_stopped_anywhere() {
    crashed_everywhere(PURGE);
}

// row 115
#[test]
fn a_move_to_another_partition_is_stopped_anywhere() {
    crashed_everywhere(MOVE);
}

#[test]
fn mail_that_comes_back_is_stopped_anywhere() {
    crashed_everywhere(RETURN);
}

// I6
#[test]
fn mail_that_comes_back_where_it_was_is_stopped_anywhere() {
    crashed_everywhere(RAISE);
}

#[test]
fn a_write_out_of_what_was_seen_is_stopped_anywhere() {
    crashed_everywhere(SEEN);
}

// rows 88, 89
#[test]
fn snapshots_are_stopped_anywhere() {
    crashed_everywhere(SNAPSHOT);
}

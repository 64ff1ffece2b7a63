//! Work that mends a store in which something is gone.

use super::super::mail;
use super::super::world::disk_of_messages;
use super::stage::{self, Base, Stage, files, indexes, is_there};
use super::{Deed, crashed_everywhere};
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use storedd::error::StoreError;
use storedd::jobs::check::{self, Pace, Wish};
use storedd::jobs::reconstruct::{self, Scope};
use storedd::jobs::registry::Context;
use storedd::mail::Intake;
use storedd::model::pattern::Pattern;
use storedd::model::rows::{MailboxRow, Row};
use storedd::model::{Command, Rows, Table};
use storedd::partition::survey::Depth;
use storedd::store::{Given, Repair};

const INDEXES: Deed = Deed { name: "reconstruct -m", harm: Some(lose_indexes), act: mend_indexes, also: None };
const SCRUB: Deed = Deed { name: "scrub", harm: Some(flip_bits), act: scrub, also: None };
const GIVE: Deed = Deed { name: "restore of lost bytes", harm: Some(lose_bytes), act: give_back, also: None };
const DATABASE: Deed = Deed { name: "reconstruct -r", harm: Some(lose_database), act: adopt, also: None };
const BOTH: Deed =
    Deed { name: "reconstruct -r -m", harm: Some(lose_database_and_indexes), act: adopt_and_mend, also: None };

fn scope() -> Scope {
    Scope { jobs: 1, ..Scope::default() }
}

/// Of each mailbox in turn: its index is gone, or half of it is; and half of a message that has a second file.
fn lose_indexes(base: &Base) {
    for partition in ["primary", "second"] {
        let disk = base.machine.disk(partition);
        for (nth, path) in indexes(&base.machine, partition).into_iter().enumerate() {
            match nth % 2 {
                0 => disk.erase(&path).unwrap(),
                _ => disk.truncate(&path, disk.peek(&path).unwrap().len() as u64 / 2).unwrap(),
            }
        }
    }
    // The same bytes lie with another user, on another disk.
    disk_of_messages(&base.machine, "primary").truncate(&message_of_ann(base), 50).unwrap();
}

/// The file of the first message of the first of ann's mailboxes.
fn message_of_ann(base: &Base) -> String {
    let files = files(&base.machine, "primary");
    files.into_iter().find(|path| path.contains("=ann") && path.ends_with("/1.msg")).unwrap()
}

/// A bit of a message, of an index, of a manifest.
fn flip_bits(base: &Base) {
    let primary = base.machine.disk("primary");
    disk_of_messages(&base.machine, "primary").damage(&message_of_ann(base), 60, 0x10).unwrap();
    let second = base.machine.disk("second");
    let index = indexes(&base.machine, "second").remove(0);
    second.damage(&index, second.peek(&index).unwrap().len() as u64 / 2, 1).unwrap();
    let manifest = files(&base.machine, "primary").into_iter().find(|path| path.ends_with("/manifest")).unwrap();
    primary.damage(&manifest, primary.peek(&manifest).unwrap().len() as u64 * 2 / 3, 1).unwrap();
}

/// Of the message files of the first partition, in turn: one is gone, one has another byte, one is short. Most had their bytes nowhere else.
fn lose_bytes(base: &Base) {
    let disk = disk_of_messages(&base.machine, "primary");
    let messages = files(&base.machine, "primary").into_iter().filter(|path| path.ends_with(".msg"));
    // Those of a mailbox that was deleted come from no backup.
    let deleted = stage::text_of(8);
    let all: Vec<String> = messages.filter(|path| disk.peek(path).unwrap() != deleted).collect();
    for (nth, path) in all.iter().enumerate() {
        match nth % 3 {
            0 => disk.erase(path).unwrap(),
            1 => disk.damage(path, 60 + nth as u64, 0x10).unwrap(),
            _ => disk.truncate(path, 50).unwrap(),
        }
    }
}

/// What a restore does: whatever has no good bytes gets them from outside, long ones staged.
fn give_back(stage: &Stage) -> Result<(), String> {
    let (store, view, mut mailboxes) = (&stage.store, stage.store.view(), Vec::new());
    view.scan(Table::Mailboxes, Bound::Unbounded, &mut |key, row| {
        mailboxes.push((key.to_vec(), MailboxRow::decode(key, row).unwrap()));
        ControlFlow::Continue(())
    })
    .map_err(|e| e.to_string())?;
    let saved: Vec<_> =
        stage::TEXTS.map(stage::text_of).into_iter().map(|text| (mail::incoming(text.clone()), text)).collect();
    for (key, row) in mailboxes {
        let given = (|| {
            let of = store.folder(&view, &key, &row)?;
            let listed = store.messages(&view, &of, &row)?.messages;
            let mut brought = Vec::new();
            for uid in store.sick(row.id, Depth::Bytes, &BTreeSet::new())?.into_keys() {
                let (whole, text) = saved.iter().find(|(one, _)| one.digest == listed[&uid].digest).unwrap();
                let incoming = match text.len() > 1000 {
                    true => {
                        let mut intake = Intake::new(store, &of.partition);
                        intake.add(text)?;
                        intake.finish()?
                    }
                    false => whole.clone(),
                };
                brought.push((uid, incoming));
            }
            store.give_back(row.id, &brought)
        })();
        let given = given.map_err(|e: StoreError| e.to_string())?;
        if given.iter().any(|given| *given != Given::Back) {
            return Err(format!("not given back: {given:?}"));
        }
    }
    Ok(())
}

/// The database, its snapshots and all of the log.
fn lose_database(base: &Base) {
    for path in files(&base.machine, "log") {
        base.machine.disk("log").erase(&path).unwrap();
    }
    base.machine.disk("db").erase("mboxlist.redb").unwrap();
    assert!(!is_there(&base.machine, "db", "mboxlist.redb"));
}

/// And half of the indexes.
fn lose_database_and_indexes(base: &Base) {
    lose_database(base);
    for partition in ["primary", "second"] {
        for path in indexes(&base.machine, partition).into_iter().step_by(2) {
            base.machine.disk(partition).erase(&path).unwrap();
        }
    }
}

fn mend_indexes(stage: &Stage) -> Result<(), String> {
    let done = reconstruct::indexes(&stage.store, &scope(), Repair::Recover, &Context::idle());
    let done = done.map_err(|e| e.to_string())?;
    // What a checkpoint moves aside is moved.
    stage.store.checkpoint().map_err(|e| e.to_string())?;
    done.findings.first().map_or(Ok(()), |finding| Err(format!("not mended: {finding:?}")))
}

/// What the scrub does in the background, without its rests.
fn scrub(stage: &Stage) -> Result<(), String> {
    let wish = Wish {
        env: stage.env.clone(),
        depth: Depth::Bytes,
        repair: Repair::Provable,
        threads: 1,
        pace: Arc::new(|| Pace::Free),
        archive: None,
        is_wide: true,
        watched: BTreeSet::new(),
        within: check::Within::default(),
    };
    let told = check::run(&stage.store, &mut check::Scope::default(), &wish, &Context::idle(), None);
    let told = told.map_err(|e| e.to_string())?;
    stage.store.checkpoint().map_err(|e| e.to_string())?;
    match told.damage.values().flatten().next() {
        Some(finding) => Err(format!("not mended: {finding:?}")),
        None => Ok(()),
    }
}

fn adopt(stage: &Stage) -> Result<(), String> {
    let done = reconstruct::run(&stage.store, &scope(), &Context::idle()).map_err(|e| e.to_string())?;
    if let Some(finding) = done.findings.first() {
        return Err(format!("not mended: {finding:?}"));
    }
    stage.store.adoption_done(&[], 0).map_err(|e| e.to_string())?;
    for root in ["ann", "bob"] {
        stage.commit(Command::QuotaRecalc { root: root.to_owned() })?;
    }
    Ok(())
}

fn adopt_and_mend(stage: &Stage) -> Result<(), String> {
    adopt(stage)?;
    mend_indexes(stage)
}

// rows 127 to 129
#[test]
fn a_repair_of_indexes_is_stopped_anywhere() {
    crashed_everywhere(INDEXES);
}

#[test]
fn a_scrub_is_stopped_anywhere() {
    crashed_everywhere(SCRUB);
}

// rows 131, B9, B19: and one that dies with it is done again
#[test]
fn bytes_that_are_given_back_are_stopped_anywhere() {
    crashed_everywhere(GIVE);
}

#[test]
fn a_database_made_of_partitions_is_stopped_anywhere() {
    crashed_everywhere(DATABASE);
}

#[test]
fn a_database_made_of_half_the_indexes_is_stopped_anywhere() {
    crashed_everywhere(BOTH);
}

/// Only what is named is mended; of the rest nothing changes.
#[test]
fn a_repair_of_one_mailbox_touches_no_other() {
    let base = super::base(1, true).unwrap();
    lose_indexes(&base);
    let stage = super::begin(&base.machine, &base, 1).unwrap();
    let others =
        || -> Vec<_> { base.machine.tree().into_iter().filter(|(path, _)| path.contains("second/")).collect() };
    let before = others();
    let scope = Scope { mailboxes: vec![Pattern::parse("user/ann/INBOX").unwrap()], ..scope() };
    let done = reconstruct::indexes(&stage.store, &scope, Repair::Recover, &Context::idle()).unwrap();
    assert_eq!(done.checked, 1);
    assert!(!before.is_empty() && others() == before);
}

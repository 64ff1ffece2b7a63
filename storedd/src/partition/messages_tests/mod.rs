//! Tests of the files that hold messages and what is known of them: rows 121, 122, 154, 163, B3, B9.

use super::apply::{Applied, HomeRun, MailboxRun, Source, Supply, Target};
use super::bodies::{self, Body, Made};
use super::index::{Head, History, Index, Run, Stamped};
use super::journal::AppendError;
use super::manifest::{Entries, Manifest, MirroredRows};
use super::tree::{self, Home, Place};
use crate::disk::{Access, Disk, Persist, SimDisk};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::model::Table;
use crate::model::message::{Flags, Message, State};
use crate::model::rows::MailboxRow;
use std::collections::{BTreeMap, BTreeSet};

mod crash;
mod files;
mod journals;
mod surveys;

const STORE: StoreId = StoreId([7; 16]);
const EPOCH: Epoch = Epoch(1);
const ALL: Lsn = Lsn(u64::MAX);

fn home() -> Home {
    Home::parse("=user/f6/79/=crowe~1").unwrap()
}

fn place(id: u64) -> Place {
    home().mailbox(id)
}

fn stamped<T>(lsn: u64, value: T) -> Stamped<T> {
    Stamped { lsn: Lsn(lsn), epoch: EPOCH, value }
}

/// The bytes of the n-th message.
fn text(n: u32) -> Vec<u8> {
    format!("Subject: {n}\r\n\r\n{}\r\n", "body ".repeat(n as usize % 7 * 40)).into_bytes()
}

/// A live message with the bytes of the n-th.
fn message(uid: u32, n: u32, modseq: u64) -> Message {
    let body = Body::of(&text(n));
    Message {
        uid,
        state: State::Live,
        flags: Flags::NONE,
        keywords: BTreeSet::new(),
        modseq,
        size: body.size,
        header_size: 12,
        internal_us: u64::from(n),
        saved_us: 1,
        expunged_us: 0,
        digest: body.digest,
    }
}

fn head(id: u64, name: &str) -> Head {
    let row = MailboxRow {
        id,
        partition: "primary".to_owned(),
        uidvalidity: 17,
        uidnext: 9,
        highest_modseq: 4,
        messages: 3,
        bytes: 2,
        unseen: 1,
        created_us: 5,
        home: None,
        acl: [("crowe".to_owned(), "lrs".to_owned())].into(),
    };
    Head {
        name: name.as_bytes().to_vec(),
        owner: home().path().to_owned(),
        quota_root: b"user\x01crowe".to_vec(),
        deleted_us: 0,
        keywords: vec!["$Work".to_owned()],
        row,
    }
}

/// The head of mailbox 5 behind a change with this modseq.
fn headed(lsn: u64, modseq: u64) -> Option<Stamped<Head>> {
    let mut head = head(5, "user\u{1}crowe\u{1}INBOX");
    head.row.highest_modseq = modseq;
    Some(stamped(lsn, head))
}

fn index(disk: &SimDisk, id: u64) -> Index<'_> {
    Index::new(disk, STORE, &place(id))
}

fn manifest(disk: &SimDisk) -> Manifest<'_> {
    Manifest::new(disk, STORE, &home())
}

/// A run of a head and messages with UIDs 1 to `count`, LSNs from 10 on.
fn run(id: u64, count: u32) -> Run {
    let messages = (1..=count).map(|uid| stamped(10 + u64::from(uid), message(uid, uid, u64::from(uid)))).collect();
    Run { head: Some(stamped(10, head(id, "user\u{1}crowe\u{1}INBOX"))), messages }
}

/// An index with three runs, all durable, and what is in it.
fn settled(disk: &SimDisk) -> History {
    index(disk, 5).write_new(&run(5, 3)).unwrap();
    let mut changed = message(2, 2, 8);
    changed.flags = Flags::SEEN.with(Flags::FLAGGED);
    changed.keywords = ["$Work".to_owned()].into();
    let second = Run { head: headed(20, 8), messages: vec![stamped(20, changed.clone())] };
    index(disk, 5).write(&second).unwrap();
    changed.state = State::Expunged;
    let third = Run { head: headed(31, 9), messages: vec![stamped(30, changed), stamped(31, message(4, 4, 9))] };
    index(disk, 5).write(&third).unwrap();
    disk.sync_tree().unwrap();
    index(disk, 5).read().unwrap()
}

/// What is known of each message at the end: LSN and state.
fn states(history: &History) -> Vec<(u32, u64, State)> {
    history.at(ALL).map(|m| (m.value.uid, m.lsn.0, m.value.state)).collect()
}

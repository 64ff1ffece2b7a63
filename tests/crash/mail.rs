//! Messages of the workload: how they come in, what a store shows of them, and which files may lie in its partitions.

use super::workload::PARTITIONS;
use super::world;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use storedd::disk::{Disk, Kind, SimDisk};
use storedd::error::StoreError;
use storedd::mail::{self, Intake};
use storedd::model::command::{Incoming, IncomingBytes};
use storedd::model::message::{Flags, Message};
use storedd::model::rows::{MailboxRow, Row, TombstoneRow, split};
use storedd::model::{Command, Folder, Rows, Table};
use storedd::store::{Store, View};

/// A message as a store shows it, and a sum over its bytes.
pub(super) type Shown = (Message, u64);
/// All of them, by mailbox id and UID.
pub(super) type Shelves = BTreeMap<u64, BTreeMap<u32, Shown>>;

/// A sum over bytes that nothing in the product computes.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The text of a message; another for every number.
pub(super) fn text(number: u64, size: usize) -> Vec<u8> {
    let mut text = format!("Subject: {number}\r\n\r\n").into_bytes();
    text.resize(size.max(text.len()), b'a' + (number % 26) as u8);
    text
}

/// Every message of every mailbox, also of those that were deleted, with its bytes read.
pub(super) fn shelves(store: &Store, view: &View) -> Result<Shelves, StoreError> {
    let mut folders: Vec<(Folder<'static>, MailboxRow)> = Vec::new();
    for table in [Table::Mailboxes, Table::Past] {
        let mut each = |key: &[u8], row: &[u8]| -> Result<(), StoreError> {
            let row = match (table, split(key)) {
                (Table::Mailboxes, _) => MailboxRow::decode(key, row)?,
                (_, None) => return Ok(()),
                _ => {
                    let TombstoneRow { directory, mailbox, .. } = TombstoneRow::decode(key, row)?;
                    if mailbox.uidnext > 1 {
                        let home = directory.rsplit_once('/').map_or("", |(home, _)| home).to_owned();
                        let (partition, id) = (mailbox.partition.clone(), mailbox.id);
                        folders.push((Folder { partition: partition.into(), home: home.into(), mailbox: id }, mailbox));
                    }
                    return Ok(());
                }
            };
            if row.uidnext > 1 {
                folders.push((store.folder(view, key, &row)?, row));
            }
            Ok(())
        };
        let mut failed = Ok(());
        view.scan(table, Bound::Unbounded, &mut |key, row| {
            failed = each(key, row);
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed?;
    }
    let mut shelves = Shelves::new();
    for (of, row) in folders {
        let listed = store.messages(view, &of, &row)?;
        let mut shelf = BTreeMap::new();
        for (uid, message) in listed.messages {
            let bytes = store.message_bytes(view, &of, &message)?;
            shelf.insert(uid, (message, sum(&bytes)));
        }
        shelves.insert(row.id, shelf);
    }
    Ok(shelves)
}

/// True if mail can be read: a partition that lacks changes takes them with a checkpoint, unless it failed for good.
pub(super) fn can_be_read(store: &Store) -> bool {
    let (mut names, view) = (Vec::new(), store.view());
    let scanned = view.scan(Table::Partitions, Bound::Unbounded, &mut |key, _| {
        names.push(String::from_utf8_lossy(key).into_owned());
        ControlFlow::Continue(())
    });
    let all = || scanned.is_ok() && names.iter().all(|name| store.partitions().disk(name).is_some());
    for _ in 0..3 {
        if all() || store.partitions().behind().is_empty() {
            break;
        }
        // Whether it went well is seen in the partitions.
        let _ = store.checkpoint();
    }
    all()
}

/// Takes the messages of a command in as a door does: what is long is staged.
pub(super) fn taken_in(store: &Arc<Store>, command: &Command) -> Result<Command, StoreError> {
    Ok(match command {
        Command::Deliver(delivery) => {
            let IncomingBytes::Inline { bytes, .. } = &delivery.message.bytes else { return Ok(command.clone()) };
            let first = delivery.to.first().map_or("", |to| to.name.as_str());
            let mut intake = Intake::new(store, &mail::partition_of(store, &store.view(), first)?);
            bytes.chunks(333).try_for_each(|piece| intake.add(piece))?;
            let mut delivery = delivery.clone();
            delivery.message = intake.finish()?;
            Command::Deliver(delivery)
        }
        Command::Atomic(all) => {
            let mut done = Vec::new();
            for one in all {
                match taken_in(store, one) {
                    Ok(one) => done.push(one),
                    Err(e) => {
                        done.iter().for_each(|one| given_up(store, one));
                        return Err(e);
                    }
                }
            }
            Command::Atomic(done)
        }
        other => other.clone(),
    })
}

/// What a door does with the messages of a command that was not done.
pub(super) fn given_up(store: &Store, command: &Command) {
    match command {
        Command::Deliver(delivery) => mail::discard(store, &delivery.message),
        Command::Atomic(all) => all.iter().for_each(|one| given_up(store, one)),
        _ => {}
    }
}

/// A message with these bytes, as a command has it before a door took it in.
pub(super) fn incoming(bytes: Vec<u8>) -> Arc<Incoming> {
    Arc::new(mail::inline(bytes))
}

/// The bytes of a message of the workload.
pub(super) fn bytes_of(message: &Incoming) -> &[u8] {
    match &message.bytes {
        IncomingBytes::Inline { bytes, .. } => bytes,
        IncomingBytes::Staged { .. } => &[],
    }
}

/// The messages of a mailbox that must have files.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) partition: String,
    /// Over the bytes of each, by UID.
    pub(super) sums: BTreeMap<u32, u64>,
}

/// By mailbox id.
pub(super) type Filed = BTreeMap<u64, Shelf>;

/// Looks at every file of every partition, by a parser of its own. Each message has one file with its bytes, and every file is known:
/// what nothing names is space that nobody gives back. To be called when no change is in memory alone.
pub(super) fn look_at_files(machine: &SimDisk, filed: &Filed) -> Result<(), String> {
    let mut found = BTreeSet::new();
    for partition in PARTITIONS {
        let (disks, mut paths) = (world::disks_of(machine, partition), Vec::new());
        for (nth, disk) in disks.iter().enumerate() {
            let mut here = Vec::new();
            walk(disk, "", &mut here)?;
            paths.extend(here.into_iter().map(|path| (nth, path)));
        }
        for (nth, path) in paths {
            let (disk, is_message) = (&disks[nth], path.ends_with(".msg") || path.starts_with("MESSAGES"));
            if nth != if is_message { disks.len() - 1 } else { 0 } {
                return Err(format!("{partition}: {path} lies on the other of its disks"));
            }
            let name = path.rsplit('/').next().unwrap_or_default();
            // One of them is left by an attempt to make a partition that failed; the next attempt writes it again.
            let own = ["PARTITION", "PARTITION.new", "MESSAGES", "MESSAGES.new"];
            if own.contains(&name) || ["given-up", "given-up.new", "manifest", "store.idx"].contains(&name) {
                continue;
            }
            let Some((id, uid)) = message_of(&path) else {
                return Err(format!("{partition}: nobody knows {path}"));
            };
            let shelf = filed.get(&id).filter(|shelf| shelf.partition == partition);
            let Some(expected) = shelf.and_then(|shelf| shelf.sums.get(&uid)) else {
                return Err(format!("{partition}: {path} is a file of no message"));
            };
            if sum(&disk.peek(&path).map_err(|e| e.to_string())?) != *expected {
                return Err(format!("{partition}: {path} holds other bytes"));
            }
            if !found.insert((id, uid)) {
                return Err(format!("{partition}: {path} is the second file of its message"));
            }
        }
    }
    for (id, Shelf { partition, sums, .. }) in filed {
        if let Some(uid) = sums.keys().find(|uid| !found.contains(&(*id, **uid))) {
            return Err(format!("{partition}: message {uid} of mailbox {id} has no file"));
        }
    }
    Ok(())
}

pub(super) fn walk(disk: &SimDisk, dir: &str, paths: &mut Vec<String>) -> Result<(), String> {
    for entry in disk.list(dir).map_err(|e| format!("{dir}: {e}"))? {
        let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
        match entry.kind {
            Kind::Dir => walk(disk, &path, paths)?,
            _ => paths.push(path),
        }
    }
    Ok(())
}

/// Mailbox and UID of `.../<mailbox>/<nn>/<uid>.msg` below the directory of a user or of shared mailboxes.
fn message_of(path: &str) -> Option<(u64, u32)> {
    let parts: Vec<&str> = path.split('/').collect();
    let (id, group, file) = match parts[..] {
        ["=user", _, _, _, id, group, file] | ["=shared", id, group, file] => (id, group, file),
        _ => return None,
    };
    let uid: u32 = file.strip_suffix(".msg")?.parse().ok()?;
    let (id, group): (u64, u32) = (id.parse().ok()?, u32::from_str_radix(group, 16).ok()?);
    (uid >> 10 & 0xff == group).then_some((id, uid))
}

/// Flags that a workload sets.
pub(super) const FLAGS: [Flags; 4] = [Flags::SEEN, Flags::FLAGGED, Flags::DELETED, Flags::ANSWERED];

//! `log list`, `log verify`, `log dump`: the log as people look at it. Reading only (I7).

use super::Daemon;
use crate::control::convert::failure;
use crate::control::{Listing, Parts};
use crate::error::StoreError;
use crate::lsn::{Lsn, Micros};
use crate::model::message::Message;
use crate::model::{BodySource, Change, Folder, MailboxName, Table, rows};
use crate::store::{Store, rfc3339};
use crate::wal::{self, Depth, Kind, RecordRef, Survey};
use proto::{Code, Failure, Reply};

/// What a dump shows.
pub(super) struct Wanted {
    from: Lsn,
    to: Lsn,
    since: Micros,
    mailbox: Option<Vec<u8>>,
    user: Option<String>,
}

impl Wanted {
    /// Checks what was asked for; bounds are inclusive.
    pub(super) fn new(
        from: Option<u64>,
        to: Option<u64>,
        since_us: Option<u64>,
        mailbox: Option<&str>,
        user: Option<&str>,
    ) -> Result<Wanted, Failure> {
        let mailbox = match mailbox {
            Some(name) => {
                let parsed = MailboxName::parse(name);
                let parsed = parsed.map_err(|e| Failure::new(Code::BadInput, format!("{name:?}: {e}")))?;
                Some(parsed.key().to_vec())
            }
            None => None,
        };
        Ok(Wanted {
            from: Lsn(from.unwrap_or(1).max(1)),
            to: Lsn(to.unwrap_or(u64::MAX)),
            since: Micros(since_us.unwrap_or(0)),
            mailbox,
            user: user.map(str::to_owned),
        })
    }

    fn filters(&self) -> bool {
        self.mailbox.is_some() || self.user.is_some()
    }

    fn takes(&self, table: Table, key: &[u8]) -> bool {
        let (mailbox, user) = rows::subjects(table, key);
        let by_mailbox = self.mailbox.as_deref().is_none_or(|wanted| mailbox == Some(wanted));
        by_mailbox && self.user.as_deref().is_none_or(|wanted| user == Some(wanted))
    }
}

/// What is known of the log of a running store. A record that is being written while it is looked at may look broken,
/// so a problem counts only if it is still there at a second look.
fn survey(store: &Store, depth: Depth) -> Result<Survey, StoreError> {
    let look = || {
        let proof = wal::Proof::default();
        wal::survey(&*store.disks().log, store.store_id(), proof, depth)
    };
    let first = look()?;
    if first.problems().is_empty() { Ok(first) } else { look() }
}

impl Daemon {
    pub(super) fn log_list(&self, all: bool) -> Result<Reply, Failure> {
        let store = self.store()?;
        let lines = store.segments().into_iter().filter(|line| all || line.kept_for.is_empty());
        let segments = lines.map(|line| proto::Segment {
            path: store.disks().log.display(&line.segment.file),
            file: line.segment.file,
            first_lsn: line.segment.first_lsn.0,
            last_lsn: line.last_lsn.map(|l| l.0),
            bytes: line.segment.bytes,
            state: if line.active { "active" } else { "sealed" }.to_owned(),
            kept_for: line.kept_for,
        });
        Ok(Reply::Segments(segments.collect()))
    }

    pub(super) fn log_verify(&self) -> Result<Reply, Failure> {
        let store = self.store()?;
        let survey = survey(store, Depth::All).map_err(|e| failure(&e))?;
        let live = || survey.segments.iter().filter(|s| s.live());
        let findings = survey.problems().into_iter().map(|problem| match problem {
            StoreError::Corrupt { file, offset, what, found, expected } => {
                proto::Finding { r#where: format!("{file} offset {offset}"), what, expected, found }
            }
            other => proto::Finding {
                r#where: store.disks().log.display(""),
                what: other.to_string(),
                expected: String::new(),
                found: String::new(),
            },
        });
        Ok(Reply::Verified(proto::Verified {
            segments: live().count() as u64,
            records: live().flat_map(|s| &s.runs).map(|r| r.last_lsn.0 + 1 - r.first_lsn.0).sum(),
            bytes: live().map(|s| s.bytes).sum(),
            findings: findings.collect(),
        }))
    }

    pub(super) fn log_dump(&self, wanted: &Wanted, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let store = self.store()?;
        let published = store.published_lsn();
        let survey = survey(store, Depth::From(Lsn(wanted.from.0 - 1))).map_err(|e| failure(&e))?;
        let mut listing = Listing::new(Reply::Records, parts);
        // What is not acknowledged yet is not shown.
        let (from, to) = (Lsn(wanted.from.0 - 1), wanted.to.min(published));
        let mut stopped = None;
        let outcome = wal::records(&*store.disks().log, &survey, from, to, &mut |record| {
            if record.time < wanted.since || stopped.is_some() {
                return Ok(());
            }
            if let Some(line) = dump(record, wanted)? {
                stopped = listing.push(line).err();
            }
            Ok(())
        });
        if let Some(stop) = stopped {
            return Err(stop.into());
        }
        outcome.map_err(|e| failure(&e))?;
        Ok(listing.finish())
    }
}

/// A record in words; `None` if nothing of it is wanted.
fn dump(record: &RecordRef<'_>, wanted: &Wanted) -> Result<Option<proto::Record>, StoreError> {
    let mut changes = Vec::new();
    record.for_each_change(&mut |change| {
        let taken = match &change {
            Change::Put { table, key, .. } | Change::Remove { table, key } => wanted.takes(*table, key),
            // Whose it is say the rows beside it.
            Change::Message { .. } => !wanted.filters() || !changes.is_empty(),
        };
        if taken {
            changes.push(change_line(&change)?);
        }
        Ok(())
    })?;
    if wanted.filters() && changes.is_empty() {
        return Ok(None);
    }
    let kind = match record.kind {
        Kind::Transaction => "transaction",
        Kind::Seal => "seal",
        Kind::Fork => "fork",
        Kind::Bodied => "transaction",
    };
    Ok(Some(proto::Record {
        lsn: record.lsn.0,
        time: rfc3339(record.time),
        kind: kind.to_owned(),
        file: record.file.to_owned(),
        offset: record.offset,
        bytes: (record.payload.len() + wal::RECORD_HEADER_BYTES) as u64,
        changes,
    }))
}

/// The state of a message in words; of its bytes only where they are.
fn message_line(of: &Folder<'_>, message: &[u8], body: &BodySource<'_>) -> Result<proto::ChangeLine, StoreError> {
    let message =
        Message::decode(message).map_err(|found| StoreError::Bug(format!("a message in a record: {found}")))?;
    let from = match body {
        BodySource::Kept => "as before".to_owned(),
        BodySource::Inline(n) => format!("body {n} of this record"),
        BodySource::Staged { partition, number } => format!("staged file {number} of partition {partition}"),
        BodySource::Copy { of, uid } => format!("message {uid} of mailbox {}", of.mailbox),
    };
    let row = serde_json::json!({
        "uid": message.uid, "state": message.state.word(), "flags": message.flag_names(), "modseq": message.modseq,
        "size": message.size, "internal_date": rfc3339(Micros(message.internal_us)), "digest": message.digest.to_string(),
        "partition": of.partition, "directory": of.home, "body": from,
    });
    Ok(proto::ChangeLine {
        action: "put".to_owned(),
        table: Table::Messages.name().to_owned(),
        key: format!("mailbox {}: message {}", of.mailbox, message.uid),
        row: Some(row.to_string()),
    })
}

fn change_line(change: &Change<'_>) -> Result<proto::ChangeLine, StoreError> {
    let (action, table, key, row) = match change {
        Change::Put { table, key, row } => ("put", *table, key, Some(rows::json(*table, key, row)?)),
        Change::Remove { table, key } => ("remove", *table, key, None),
        Change::Message { of, message, body } => return message_line(of, message, body),
    };
    Ok(proto::ChangeLine {
        action: action.to_owned(),
        table: table.name().to_owned(),
        key: rows::readable_key(table, key),
        row,
    })
}

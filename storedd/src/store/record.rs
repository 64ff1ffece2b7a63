//! Between changes and what carries them: the payload of a record, and the rows that a record is in memory.

use super::overlay::Overlay;
use super::plan;
use crate::error::StoreError;
use crate::lsn::{Epoch, Lsn};
use crate::model::command::IncomingBytes;
use crate::model::mail::{BodyRow, MessageRow, message_key};
use crate::model::message::message_uid;
use crate::model::{Change, LogPlace, Table};
use crate::planted::{self, Bug};
use crate::wal::{Encoder, Kind, payload};

/// Encodes what was planned; gives the kind of its record.
pub(super) fn put_payload(planned: &plan::Planned, out: &mut Vec<u8>) -> Result<Kind, StoreError> {
    if planned.bodies.is_empty() {
        payload::put_transaction(&planned.changes, out)?;
        return Ok(Kind::Transaction);
    }
    let bodies: Vec<(&[u8], u32)> = planned
        .bodies
        .iter()
        .filter_map(|body| match &body.bytes {
            IncomingBytes::Inline { bytes, crc } => Some((bytes.as_slice(), *crc)),
            IncomingBytes::Staged { .. } => None,
        })
        .collect();
    payload::put_bodied(&planned.changes, &bodies, out)?;
    Ok(Kind::Bodied)
}

/// Where the bodies of the record stand that was encoded last.
pub(super) fn places(encoder: Option<&Encoder>, kind: Kind, payload: &[u8]) -> Result<Vec<LogPlace>, StoreError> {
    match encoder {
        Some(encoder) if kind == Kind::Bodied => encoder.bodies(payload),
        _ => Ok(Vec::new()),
    }
}

/// What made a change.
pub(super) struct Record {
    pub(super) lsn: Lsn,
    pub(super) epoch: Epoch,
    /// Where its bodies stand.
    pub(super) bodies: Vec<LogPlace>,
}

/// Takes table, key and row; `None`: it is gone.
pub(super) type PutRow<'a> = &'a mut dyn FnMut(Table, &[u8], Option<&[u8]>) -> Result<(), StoreError>;

/// Calls `put` with each row that a change is in memory.
pub(super) fn rows_of(change: &Change<'_>, record: &Record, put: PutRow<'_>) -> Result<(), StoreError> {
    match change {
        Change::Put { table, key, row } => put(*table, key, Some(row)),
        Change::Remove { table, key } => put(*table, key, None),
        Change::Message { of, message, body } => {
            let uid = message_uid(message).ok_or_else(|| StoreError::Bug("a message without a UID".to_owned()))?;
            let key = message_key(of.mailbox, uid);
            put(Table::Messages, &key, Some(&MessageRow::encode(record.lsn, record.epoch, of, message)))?;
            match BodyRow::of(body, &record.bodies)? {
                Some(body) => put(Table::Bodies, &key, Some(&body.encode())),
                None if planted::on(Bug::BodyForgotten) => put(Table::Bodies, &key, None),
                None => Ok(()),
            }
        }
    }
}

/// Puts one change into an overlay at its LSN.
pub(super) fn apply(overlay: &Overlay, change: &Change<'_>, record: &Record) -> Result<(), StoreError> {
    rows_of(change, record, &mut |table, key, row| {
        overlay.insert(table, key, record.lsn, row);
        Ok(())
    })
}

//! Answers as JSON: the field names of the wire types are the keys of the contract. Elements of a list are written as
//! they arrive, one a line, so that a list of any length takes no memory.

use crate::commands::Form;
use proto::{ChangeLine, Mailbox, MailboxDetail, Record, Reply, Segment};
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};

/// Writes one value on one line, without the line end.
///
/// # Errors
/// Those of `out`.
pub fn compact(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}

/// The elements of a list, as a JSON array in pieces.
#[derive(Debug, Default)]
pub struct List {
    open: bool,
    /// Elements written so far.
    pub count: u64,
}

impl List {
    /// Writes the next elements; the first call opens the array.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn items<T: Serialize>(&mut self, out: &mut dyn Write, items: &[T], separator: &str) -> io::Result<()> {
        if !self.open {
            self.open = true;
            out.write_all(b"[")?;
        }
        for item in items {
            if self.count > 0 {
                out.write_all(b",")?;
                out.write_all(separator.as_bytes())?;
            }
            compact(out, item)?;
            self.count += 1;
        }
        Ok(())
    }

    /// Closes the array, if it was opened.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn close(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.open { out.write_all(b"]") } else { Ok(()) }
    }
}

/// The next part of a list, or a whole document. `separator` stands between elements.
///
/// # Errors
/// Those of `out`.
pub fn part(out: &mut dyn Write, list: &mut List, reply: Reply, form: Form, separator: &str) -> io::Result<()> {
    match reply {
        Reply::Segments(x) => list.items(out, &segments(x, form), separator),
        Reply::Records(x) => list.items(out, &x.iter().map(record).collect::<Vec<_>>(), separator),
        Reply::Reports(x) if form == Form::Single => x.first().map_or(Ok(()), |report| compact(out, report)),
        Reply::Reports(x) => list.items(out, &x, separator),
        Reply::Users(x) => list.items(out, &x, separator),
        Reply::Mailboxes(x) => list.items(out, &x, separator),
        Reply::Subscriptions(x) => list.items(out, &x, separator),
        Reply::Partitions(x) => list.items(out, &x, separator),
        Reply::Each(x) => list.items(out, &x, separator),
        Reply::Quotas(x) => list.items(out, &x, separator),
        Reply::Recalculated(x) => list.items(out, &x, separator),
        Reply::MissingSubscriptions(x) => list.items(out, &x, separator),
        Reply::Jobs(x) => list.items(out, &x, separator),
        Reply::Job(x) => compact(out, &x),
        Reply::Snapshots(x) => list.items(out, &x, separator),
        Reply::SnapshotsVerified(x) => list.items(out, &x, separator),
        Reply::SnapshotTaken(x) => compact(out, &x),
        Reply::BackedUp(x) => compact(out, &x),
        Reply::Completed(x) => compact(out, &x),
        Reply::Drilled(x) => compact(out, &x),
        Reply::Reconstructed(x) => compact(out, &x),
        Reply::Aged(x) => compact(out, &x),
        reply @ Reply::Told(_) => compact(out, &reply.to_json()),
        Reply::Checked(x) => compact(out, &x),
        Reply::Delivered(x) => list.items(out, &x, separator),
        Reply::Messages(x) => list.items(out, &x, separator),
        Reply::DeletedMailboxes(x) => list.items(out, &x, separator),
        Reply::ExpungedMessages(x) => list.items(out, &x, separator),
        Reply::MessageSent(x) => compact(out, &x),
        Reply::Message(x) => compact(out, &Reply::Message(x).to_json()),
        Reply::Backup(x) => compact(out, &x),
        Reply::MessageBytes(x) => out.write_all(&x),
        Reply::SnapshotsRemoved(x) => compact(out, &x),
        Reply::Grantable(x) => compact(out, &x),
        Reply::MyRights(x) => compact(out, &x),
        Reply::Config(x) => {
            let values = x.into_iter().map(|(key, value)| (key, toml_value(value)));
            compact(out, &values.collect::<serde_json::Map<_, _>>())
        }
        Reply::Maintenance(x) => compact(out, &maintenance(x)),
        Reply::Metrics(x) => compact(out, &x),
        Reply::Hello(x) => compact(out, &x),
        Reply::Done(x) => compact(out, &x),
        Reply::Health(x) => compact(out, &x),
        Reply::Status(x) => compact(out, &x),
        Reply::Stats(x) => compact(out, &x),
        Reply::Checkpoint(x) => compact(out, &x),
        Reply::Verified(x) => compact(out, &x),
        Reply::UserDetail(x) => compact(out, &x),
        Reply::Acl(x) => compact(out, &x),
        Reply::Partition(x) => compact(out, &x),
        Reply::Hashdir(x) => compact(out, &x),
        Reply::Quota(x) => compact(out, &x),
        Reply::Changed(x) => compact(out, &x),
        Reply::Reloaded(x) => compact(out, &x),
        Reply::Locks(x) => compact(out, &x),
        Reply::Lock(x) => compact(out, &x),
        Reply::MailboxDetail(x) => compact(out, &flat(&x)),
    }
}

/// Records of a log, one a line: a stream has no end at which a list could be closed.
///
/// # Errors
/// Those of `out`.
pub fn record_lines(out: &mut dyn Write, records: &[Record]) -> io::Result<()> {
    records.iter().try_for_each(|found| compact(out, &record(found)).and_then(|()| writeln!(out)))
}

/// An object also where there is no maintenance.
fn maintenance(found: Option<proto::Maintenance>) -> Value {
    let active = found.is_some();
    let proto::Maintenance { until, reason, who } = found.unwrap_or_default();
    let said = |text: String| if active { Value::String(text) } else { Value::Null };
    serde_json::json!({ "active": active, "until": said(until), "reason": said(reason), "who": said(who) })
}

/// Segments with the path in place of the name, if that was asked for.
fn segments(mut segments: Vec<Segment>, form: Form) -> Vec<Segment> {
    if let Form::Segments { absolute: true, .. } = form {
        for segment in &mut segments {
            segment.file.clone_from(&segment.path);
        }
    }
    segments
}

/// A record whose rows are JSON, not JSON text in a string.
#[derive(Serialize)]
struct RecordWithRows<'a> {
    lsn: u64,
    time: &'a str,
    kind: &'a str,
    file: &'a str,
    offset: u64,
    bytes: u64,
    changes: Vec<ChangeWithRow<'a>>,
}

#[derive(Serialize)]
struct ChangeWithRow<'a> {
    action: &'a str,
    table: &'a str,
    key: &'a str,
    row: Option<Value>,
}

fn record(record: &Record) -> RecordWithRows<'_> {
    let Record { lsn, time, kind, file, offset, bytes, changes } = record;
    let changes = changes.iter().map(change).collect();
    RecordWithRows { lsn: *lsn, time, kind, file, offset: *offset, bytes: *bytes, changes }
}

fn change(line: &ChangeLine) -> ChangeWithRow<'_> {
    let ChangeLine { action, table, key, row } = line;
    let json = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
    ChangeWithRow { action, table, key, row: row.as_ref().map(json) }
}

/// The mailbox of the list, and beside it what `mailbox show` adds.
#[derive(Serialize)]
struct FlatMailbox<'a> {
    #[serde(flatten)]
    mailbox: &'a Mailbox,
    highest_modseq: u64,
    unseen: u64,
    flags: &'a [String],
    created: &'a str,
    name_utf7: &'a str,
}

fn flat(detail: &MailboxDetail) -> FlatMailbox<'_> {
    let MailboxDetail { mailbox, highest_modseq, unseen, flags, created, name_utf7 } = detail;
    FlatMailbox { mailbox, highest_modseq: *highest_modseq, unseen: *unseen, flags, created, name_utf7 }
}

/// TOML text as a JSON value: numbers, booleans, strings and lists of them are written alike; the rest stays text.
pub fn toml_value(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn whole(parts: Vec<Reply>, form: Form) -> String {
        let (mut out, mut list) = (Vec::new(), List::default());
        for reply in parts {
            part(&mut out, &mut list, reply, form, "\n").unwrap();
        }
        list.close(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn segment() -> Segment {
        Segment {
            file: "log.1".into(),
            path: "/s/log.1".into(),
            first_lsn: 1,
            last_lsn: None,
            bytes: 64,
            state: "active".into(),
            kept_for: vec![],
        }
    }

    #[test]
    fn parts_of_a_list_make_one_array() {
        let names = |x: &[&str]| Reply::Subscriptions(x.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(whole(vec![names(&["a", "b"]), names(&[]), names(&["c"])], Form::Plain), "[\"a\",\n\"b\",\n\"c\"]");
        assert_eq!(whole(vec![names(&[])], Form::Plain), "[]");
    }

    #[test]
    fn keys_stand_in_the_order_of_the_contract() {
        let text = whole(vec![Reply::Segments(vec![segment()])], Form::Plain);
        assert!(text.starts_with("[{\"file\":\"log.1\","), "{text}");
        assert!(text.contains("\"first_lsn\":1,\"last_lsn\":null,\"bytes\":64,\"state\":\"active\",\"kept_for\":[]"));
        let text = whole(vec![Reply::Segments(vec![segment()])], Form::Segments { absolute: true, names: false });
        assert!(text.starts_with("[{\"file\":\"/s/log.1\","), "{text}");
    }

    #[test]
    fn one_report_is_an_object_and_several_are_a_list() {
        let reports = || Reply::Reports(vec![proto::Report::default()]);
        assert!(whole(vec![reports()], Form::Single).starts_with("{\"started\":"));
        assert!(whole(vec![reports()], Form::Plain).starts_with("[{\"started\":"));
    }

    #[test]
    fn rows_of_records_are_json() {
        let line = |row: &str| ChangeLine {
            action: "put".into(),
            table: "users".into(),
            key: "joe".into(),
            row: Some(row.into()),
        };
        let record = Record {
            lsn: 1,
            time: "t".into(),
            kind: "transaction".into(),
            file: "log.1".into(),
            offset: 4096,
            bytes: 100,
            changes: vec![line("{\"id\":7}"), line("not json")],
        };
        let value: Value = serde_json::from_str(&whole(vec![Reply::Records(vec![record])], Form::Plain)).unwrap();
        assert_eq!(value[0]["changes"][0]["row"]["id"], 7);
        assert_eq!(value[0]["changes"][1]["row"], "not json");
    }

    #[test]
    fn the_configuration_has_typed_values() {
        let values = [("log.segment_size", "67108864"), ("store.dir", "\"/var\""), ("x.f", "1_000")];
        let map: BTreeMap<_, _> = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let value: Value = serde_json::from_str(&whole(vec![Reply::Config(map)], Form::Plain)).unwrap();
        assert_eq!(value["log.segment_size"], 67_108_864);
        assert_eq!(value["store.dir"], "/var");
        assert_eq!(value["x.f"], "1_000");
    }
}

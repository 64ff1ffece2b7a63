//! Replies as the JSON of the command-line contract. Field names are those of the structs in `reply.rs`; here stand only
//! the shapes that the wire cannot carry (bincode has neither flattened nor untagged fields).

use crate::{Failure, Reply};
use serde::Serialize;
use serde_json::{Value, json};

impl Reply {
    /// The answer as one JSON document: an object, or an array for a list. `mailbox show` is flat.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Reply::Hello(x) => value(x),
            Reply::Done(x) => value(x),
            Reply::Status(x) => value(x),
            Reply::Stats(x) => value(x),
            Reply::Checkpoint(x) => value(x),
            Reply::Segments(x) => value(x),
            Reply::Verified(x) => value(x),
            Reply::Records(x) => value(x),
            Reply::Reports(x) => value(x),
            Reply::Users(x) => value(x),
            Reply::UserDetail(x) => value(x),
            Reply::Mailboxes(x) => value(x),
            Reply::MailboxDetail(x) => flat(&x.mailbox, x, "mailbox"),
            Reply::Acl(x) => value(x),
            Reply::Subscriptions(x) => value(x),
            Reply::Partitions(x) => value(x),
            Reply::Partition(x) => value(x),
            Reply::Hashdir(x) => value(x),
            Reply::Quota(x) => value(x),
            Reply::Config(x) => value(x),
            Reply::Changed(x) => value(x),
            Reply::Each(x) => value(x),
            Reply::Maintenance(x) => value(x),
            Reply::Metrics(x) => value(x),
            Reply::Quotas(x) => value(x),
            Reply::Recalculated(x) => value(x),
            Reply::Grantable(x) => value(x),
            Reply::MyRights(x) => value(x),
            Reply::MissingSubscriptions(x) => value(x),
            Reply::Reloaded(x) => value(x),
            Reply::Snapshots(x) => value(x),
            Reply::SnapshotTaken(x) => value(x),
            Reply::SnapshotsVerified(x) => value(x),
            Reply::SnapshotsRemoved(x) => value(x),
            Reply::Locks(x) => value(x),
            Reply::Lock(x) => value(x),
            Reply::BackedUp(x) => value(x),
            Reply::Completed(x) => value(x),
            Reply::Jobs(x) => value(x),
            Reply::Job(x) => value(x),
            Reply::Drilled(x) => value(x),
            Reply::Reconstructed(x) => value(x),
            Reply::Aged(x) => value(x),
            Reply::Checked(x) => value(x),
            Reply::MessageSent(x) => value(x),
            Reply::Delivered(x) => value(x),
            Reply::Messages(x) => value(x),
            Reply::DeletedMailboxes(x) => value(x),
            Reply::ExpungedMessages(x) => value(x),
            Reply::Health(x) => value(x),
            Reply::Message(x) => flat(&x.message, x, "message"),
            Reply::Backup(x) => value(x),
            Reply::Told(x) => serde_json::from_str(&x.json).unwrap_or_else(|_| value(x)),
            Reply::MessageBytes(x) => Value::String(String::from_utf8_lossy(x).into_owned()),
        }
    }
}

impl Failure {
    /// `{"error": {"code", "message", "hint"}}`; `hint` is null if there is none.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": value(self) })
    }
}

/// A line of a list, and the fields that the answer about one adds, side by side; `under`: the line's name in the answer.
fn flat<L: Serialize, D: Serialize>(line: &L, detail: &D, under: &str) -> Value {
    let (mut flat, rest) = (value(line), value(detail));
    if let (Value::Object(flat), Value::Object(rest)) = (&mut flat, rest) {
        flat.extend(rest.into_iter().filter(|(key, _)| key != under));
    }
    flat
}

fn value<T: Serialize>(x: &T) -> Value {
    // The types of `reply.rs` are plain structs, lists and maps with string or number keys: they all have a JSON form.
    serde_json::to_value(x).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use crate::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn mailbox() -> Mailbox {
        Mailbox {
            name: "user/joe/INBOX".to_owned(),
            id: 1,
            partition: "primary".to_owned(),
            path: "/p/1".to_owned(),
            uidvalidity: 2,
            uidnext: 3,
            messages: 4,
            bytes: 5,
            acl: BTreeMap::from([("joe".to_owned(), "lrs".to_owned())]),
        }
    }

    #[test]
    fn mailbox_show_is_flat() {
        let list = json!({
            "name": "user/joe/INBOX", "id": 1, "partition": "primary", "path": "/p/1", "uidvalidity": 2, "uidnext": 3,
            "messages": 4, "bytes": 5, "acl": {"joe": "lrs"},
        });
        assert_eq!(Reply::Mailboxes(vec![mailbox()]).to_json(), json!([list]));
        let detail = MailboxDetail {
            mailbox: mailbox(),
            highest_modseq: 6,
            unseen: 7,
            flags: vec!["$Work".to_owned()],
            created: "2026-01-01T00:00:00Z".to_owned(),
            name_utf7: "user/joe/INBOX".to_owned(),
        };
        let mut expected = list;
        for (key, value) in [
            ("highest_modseq", json!(6)),
            ("unseen", json!(7)),
            ("flags", json!(["$Work"])),
            ("created", json!("2026-01-01T00:00:00Z")),
            ("name_utf7", json!("user/joe/INBOX")),
        ] {
            expected[key] = value;
        }
        assert_eq!(Reply::MailboxDetail(Box::new(detail)).to_json(), expected);
    }

    #[test]
    fn lists_are_arrays_and_numbers_are_numbers() {
        let segment = Segment {
            file: "log.0000000001".to_owned(),
            path: "/d/log.0000000001".to_owned(),
            first_lsn: 1,
            last_lsn: None,
            bytes: 64,
            state: "active".to_owned(),
            kept_for: vec!["recovery".to_owned()],
        };
        assert_eq!(
            Reply::Segments(vec![segment]).to_json(),
            json!([{
                "file": "log.0000000001", "path": "/d/log.0000000001", "first_lsn": 1, "last_lsn": null, "bytes": 64,
                "state": "active", "kept_for": ["recovery"],
            }])
        );
        assert_eq!(Reply::Users(vec![]).to_json(), json!([]));
        let stats = Stats { group_sizes: BTreeMap::from([(64, 2)]), ..Stats::default() };
        assert_eq!(Reply::Stats(Box::new(stats)).to_json()["group_sizes"], json!({"64": 2}));
        let finding =
            Finding { r#where: "w".to_owned(), what: "x".to_owned(), expected: "e".to_owned(), found: "f".to_owned() };
        let verified = Verified { segments: 1, records: 2, bytes: 3, findings: vec![finding] };
        assert_eq!(
            Reply::Verified(verified).to_json(),
            json!({"segments": 1, "records": 2, "bytes": 3,
                   "findings": [{"where": "w", "what": "x", "expected": "e", "found": "f"}]})
        );
    }

    /// The keys that scripts read (commands.md).
    #[test]
    fn contract_keys_are_there() {
        let status = Reply::Status(Box::default()).to_json();
        for key in [
            "state",
            "pid",
            "store_id",
            "version",
            "applied_lsn",
            "synced_lsn",
            "checkpoint_lsn",
            "checkpoint_age",
            "snapshot_age",
            "repair_recommended",
            "alarms",
        ] {
            assert!(status.get(key).is_some(), "{key}");
        }
        let report = Reply::Reports(vec![Report::default()]).to_json();
        for key in [
            "started",
            "duration",
            "decision",
            "base",
            "base_lsn",
            "reached_lsn",
            "lost",
            "came_back",
            "possible_loss",
            "replayed",
            "cut_bytes",
            "quarantined",
            "next_steps",
        ] {
            assert!(report[0].get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn failures_have_code_message_and_hint() {
        let failure = Failure::new(Code::NotFound, "no such mailbox");
        assert_eq!(
            failure.to_json(),
            json!({"error": {"code": "not_found", "message": "no such mailbox", "hint": null}})
        );
        for code in Code::ALL {
            assert_eq!(Failure::new(code, "").to_json()["error"]["code"], json!(code.word()));
        }
    }

    #[test]
    fn parts_join() {
        let mut all = Reply::Subscriptions(vec!["a".to_owned()]);
        all.join(Reply::Subscriptions(vec!["b".to_owned()])).unwrap();
        assert_eq!(all.to_json(), json!(["a", "b"]));
        assert!(all.join(Reply::Users(vec![])).is_err());
    }
}

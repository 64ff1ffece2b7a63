//! Golden bytes of every reply, as number, length and checksum of the encoding of a sample whose values all differ: a field
//! or variant that is added, removed or moved shows here, and is another version of the protocol.

use crate::{Reply, codec, frame};
use serde_json::json;

/// One of each, in the order of the wire numbers.
fn replies() -> Vec<Reply> {
    let alarm = json!({"name": "a", "subject": "b", "severity": "c", "since": "d", "message": "e", "cause": "f", "value": 1.0,
        "limit": 2.0, "unit": "g", "rate": 3.0, "time_to_full": 4.0, "next": "h"});
    let lmtp = json!({"sessions": 33, "sessions_total": 34, "turned_away": 35, "timed_out": 36, "messages": 37, "bytes": 38,
        "delivered": 39, "refused": {"y": 40}});
    let maintenance = json!({"until": "a", "reason": "b", "who": "c"});
    let histogram = |n: u64| json!({"count": n, "p50_us": n + 1, "p90_us": n + 2, "p99_us": n + 3, "p999_us": n + 4, "max_us": n + 5});
    let finding = json!({"where": "a", "what": "b", "expected": "c", "found": "d"});
    let snapshot_finding = json!({"file": "a", "table": "b", "key": "c", "what": "d", "expected": "e", "found": "f"});
    let mailbox = json!({"name": "n", "id": 1, "partition": "p", "path": "q", "uidvalidity": 2, "uidnext": 3, "messages": 4,
        "bytes": 5, "acl": {"i": "r"}});
    let quota = json!({"root": "r", "storage": {"usage": 1, "limit": 2}, "messages": {"usage": 3, "limit": null},
        "over_since": "o", "grace_left": 4});
    let partition = json!({"name": "n", "path": "p",
        "messages": {"path": "m", "state": "t", "free_bytes": 7, "why": "x"}, "id": "i", "state": "s", "free_bytes": 1, "users": 2, "mailboxes": 3,
               "why": "w", "behind_lsn": 4, "log_bytes": 5, "log_bytes_max": 6});
    let message = json!({"uid": 1, "size": 2, "internal_date": "i", "flags": ["f"], "modseq": 3, "digest": "d"});
    let changed =
        json!({"lsn": 1, "changed": true, "name": "n", "id": 2, "uidvalidity": 3, "mailboxes": 4, "messages": 5});
    let scrub = json!({"state": "s", "begun": "b", "mailboxes": 1, "messages": 2, "bytes": 3, "found": 4, "healed": 5,
        "last_age": 6.0, "last_duration": 7.0, "damaged": 8});
    let job = json!({"id": 1, "verb": "v", "state": "s", "pid": 2, "uid": 3, "client": "c", "asked": "a", "ended": "e",
        "duration": 4.0, "done": 5, "total": 6, "unit": "u", "item": "i",
        "error": {"code": "busy", "message": "m", "hint": "h"}});
    [
        json!({"Hello": {"version": 1, "server": "s", "state": "t"}}),
        json!({"Done": {"done": true}}),
        json!({"Status": {"state": "a", "percent": 1, "eta": 2.0, "pid": 3, "uptime": 4.0, "store_id": "b", "version": "c",
            "data_dir": "d", "epoch": 5, "applied_lsn": 6, "synced_lsn": 7, "checkpoint_lsn": 8, "checkpoint_age": 9.0,
            "log_cleanup_age": 10.0, "snapshot_age": 11.0, "peruser_age": 12.0, "expire_age": 13.0, "log_segments": 14,
            "replay_bytes": 15, "connections": 16, "users": 18, "mailboxes": 19, "tables": {"t": 17}, "repair_recommended": true, "alarms": [alarm],
            "maintenance": maintenance, "oldest_wait": 20.0, "last_start": "e", "backup_age": 21.0, "drill_age": 22.0,
            "drill": {"verdict": "g", "rpo_seconds": 23.0, "rto_seconds": 24.0},
            "archive": {"archived_lsn": 25, "lag_lsns": 26, "lag_seconds": 27.0, "failure": "f"},
            "purge_age": 28.0, "scrub": scrub}}),
        json!({"Stats": {"begun": 1, "committed": 2, "aborted": 3, "refused": 4, "unchanged": 5, "groups": 6, "group_max": 7,
            "group_mean": 8.0, "group_sizes": {"9": 10}, "sync": histogram(100), "commit": histogram(200),
            "plan": histogram(300), "log_bytes": 11, "log_payload_bytes": 12, "overlay_bytes": 13, "overlay_entries": 14,
            "checkpoints": 15, "checkpoints_failed": 16, "checkpoint": histogram(400), "database_bytes": 17,
            "checkpoint_age": 18.0, "requests": {"v": 19}, "connections_accepted": 20, "connections_refused": 21,
            "resident_bytes": 22, "last_lsn": 23, "checkpoint_lsn": 24, "recovery_begins": "w", "queue": 25,
            "changes_at_work": 26, "oldest_wait": 27.0, "checkpoint_running": 28.0, "log_segments": 29,
            "log_segment_bytes": 30, "log_spares": 31, "refusals": {"x": 32},
            "lmtp": lmtp}}),
        json!({"Checkpoint": {"lsn": 1, "duration": 2.0, "retired": ["f"]}}),
        json!({"Segments": [{"file": "a", "path": "b", "first_lsn": 1, "last_lsn": 2, "bytes": 3, "state": "c",
            "kept_for": ["d"]}]}),
        json!({"Verified": {"segments": 1, "records": 2, "bytes": 3, "findings": [finding]}}),
        json!({"Records": [{"lsn": 1, "time": "a", "kind": "b", "file": "c", "offset": 2, "bytes": 3,
            "changes": [{"action": "d", "table": "e", "key": "f", "row": "g"}]}]}),
        json!({"Reports": [{"started": "a", "duration": 1.0, "decision": "b", "base": "c", "base_lsn": 2, "reached_lsn": 3,
            "epoch": 4, "lost": {"from_lsn": 5, "to_lsn": 6, "transactions": 7, "transactions_at_least": true, "mailboxes": ["d"]},
            "came_back": {"time": "h", "mailboxes": 12, "messages": 13, "at_least": true, "not_back": ["i"], "not_back_total": 14}, "possible_loss": true,
            "replayed": 8, "replayed_bytes": 9, "cut_bytes": 10, "quarantined": ["e"], "findings": [finding],
            "next_steps": ["f"], "phases": {"g": 11.0}}]}),
        json!({"Users": [{"user": "u", "partition": "p", "mailboxes": 1}]}),
        json!({"UserDetail": {"user": "a", "id": 1, "partition": "b", "mailboxes": 2, "created": "c", "directory": "d",
            "quota": quota, "subscriptions": ["e"]}}),
        json!({"Mailboxes": [mailbox]}),
        json!({"MailboxDetail": {"mailbox": mailbox, "highest_modseq": 6, "unseen": 7, "flags": ["f"], "created": "c",
            "name_utf7": "n"}}),
        json!({"Acl": {"name": "n", "acl": {"i": "r"}}}),
        json!({"Subscriptions": ["s"]}),
        json!({"Partitions": [partition]}),
        json!({"Partition": partition}),
        json!({"Hashdir": {"user": "u", "partition": "p", "directory": "d", "messages": "m"}}),
        json!({"Quota": quota}),
        json!({"Config": {"k": "v"}}),
        json!({"Changed": changed}),
        json!({"Each": [changed]}),
        json!({"Maintenance": maintenance}),
        json!({"Metrics": "m"}),
        json!({"Quotas": [quota]}),
        json!({"Recalculated": [{"root": "r", "storage": {"from": 1, "to": 2}, "messages": {"from": 3, "to": 4}, "lsn": 5}]}),
        json!({"Grantable": {"name": "n", "identifier": "i", "required": "lk", "optional": ["r", "s"]}}),
        json!({"MyRights": {"name": "n", "user": "u", "rights": "lr"}}),
        json!({"MissingSubscriptions": [{"mailbox": "m", "state": "s"}]}),
        json!({"Reloaded": {"file": "f", "changed": [{"option": "a", "from": "b", "to": "c"}],
            "pending": [{"option": "d", "from": "e", "to": "g"}]}}),
        json!({"Snapshots": [{"id": "i", "path": "p", "time": "t", "lsn": 1, "size": 2, "verified": true,
            "schema_version": 3, "problems": ["q"]}]}),
        json!({"SnapshotTaken": {"id": "i", "path": "p", "time": "t", "lsn": 1, "size": 2, "verified": true,
            "schema_version": 3, "duration": 4.0, "findings": [snapshot_finding]}}),
        json!({"SnapshotsVerified": [{"id": "i", "ok": true, "zero_loss": false, "rows": 1,
            "findings": [snapshot_finding]}]}),
        json!({"SnapshotsRemoved": {"removed": ["a", "b"]}}),
        json!({"Locks": {"held": [{"id": 1, "resource": "r", "kind": "k", "pid": 2, "uid": 3, "verb": "v", "client": "c",
            "reason": "w", "age": 4.0, "left": 5.0, "waiters": 6}], "waiting": [{"resource": "r", "wants": "w", "pid": 7,
            "uid": 8, "verb": "v", "client": "c", "age": 9.0, "left": 10.0, "locks": [11], "behind": [12]}],
            "deadlocks": 13, "waited_too_long": 14, "expired": 15, "oldest_change": 16.0, "limit": 17.0}}),
        json!({"Lock": {"id": 1, "resource": "r", "kind": "k", "pid": 2, "uid": 3, "verb": "v", "client": "c",
            "reason": "w", "age": 4.0, "left": null, "waiters": 6}}),
        json!({"BackedUp": {"path": "p", "time": "t", "lsn": 1, "reached_lsn": 2, "until": "u", "size": 3, "logs": ["l"],
            "duration": 4.0, "removed": ["r"], "steps": ["s"]}}),
        json!({"Jobs": [job]}),
        json!({"Job": job}),
        json!({"Drilled": {"verdict": "v", "time": "t", "source": "s", "base_lsn": 1, "reached_lsn": 2, "live_lsn": 3,
            "compared": true, "replayed": 4, "rows": 5, "bytes": 6, "rpo_seconds": 7.0, "rto_seconds": 8.0, "duration": 9.0,
            "findings": [{"file": "f", "what": "w", "expected": "e", "found": "g"}]}}),
        json!({"MessageSent": {"number": 1, "size": 2}}),
        json!({"Delivered": [{"mailbox": "m", "uid": 1, "uidvalidity": 2, "size": 3, "digest": "d"}]}),
        json!({"Messages": [message]}),
        json!({"Message": {"mailbox": "m", "uidvalidity": 1, "message": message, "state": "s", "saved": "t",
            "expunged": "e", "header_size": 4, "header": "h"}}),
        json!({"MessageBytes": [1, 2]}),
        json!({"Aged": {"dry_run": true, "lines": [{"mailbox": "m", "rule": "r", "action": "a", "messages": 1, "bytes": 2,
            "to": "t"}], "lines_total": 3, "mailboxes": 4, "messages": 5, "bytes": 6, "problems": ["p"], "problems_total": 7}}),
        json!({"Reconstructed": {"checked": 1, "findings": [{"where": "w", "what": "x", "expected": "e", "found": "f"}],
            "changes": [{"mailbox": "m", "action": "a"}], "findings_total": 2, "changes_total": 3}}),
        json!({"Checked": {"checked": 1, "messages": 2, "bytes": 3, "findings": [{"where": "w", "what": "x", "expected": "e",
            "found": "g", "fate": "f"}], "findings_total": 4, "lost": 5, "changes": [{"mailbox": "m", "action": "a"}], "scrub": null}}),
        json!({"Backup": {"Pieces": [{"uid": 1, "bytes": [2], "last": true, "failed": null}]}}),
        json!({"Told": {"lines": ["l"], "json": "{}", "partly": true}}),
        json!({"Completed": {"path": "p", "time": "t", "lsn": 1, "objects": 2, "messages": 3, "copies": 4, "bytes": 5,
            "partitions": ["q"], "backup": "b", "configuration": ["c"], "skipped": [{"object": "o", "reason": "r"}],
            "duration": 6.0, "held": 7.0}}),
        json!({"DeletedMailboxes": [{"name": "n", "id": 1, "partition": "p", "uidvalidity": 2, "messages": 3, "bytes": 4,
            "deleted": "d", "purge_due": "e"}]}),
        json!({"ExpungedMessages": [{"uid": 1, "size": 2, "internal_date": "i", "flags": ["f"], "modseq": 3, "digest": "d",
            "expunged": "e", "purge_due": null}]}),
        json!({"Health": {"done": true, "unusable": [{"partition": "p", "why": "w"}]}}),
    ]
    .into_iter()
    .map(|value| serde_json::from_value(value).unwrap())
    .collect()
}

/// Length and checksum by wire number.
const GOLDEN: [(usize, u32); Reply::COUNT as usize] = [
    (24, 0xb43482da),
    (5, 0x76fe67fb),
    (542, 0x0e58c396),
    (588, 0x280ca5ea),
    (37, 0x75fff744),
    (81, 0x92efc803),
    (72, 0x119b3b61),
    (108, 0xa4b66232),
    (294, 0x27cfc06d),
    (38, 0xcd80c92a),
    (128, 0x39ee5ead),
    (97, 0xfd71d63a),
    (140, 0x67a09b21),
    (39, 0x22d5d3ed),
    (21, 0xc6306569),
    (146, 0x5d6c917f),
    (138, 0xd07763ff),
    (41, 0x2c0aa55f),
    (58, 0xd7ba1620),
    (30, 0xfe0d9908),
    (55, 0xd9327521),
    (63, 0x34a06edd),
    (32, 0x06b42dd0),
    (13, 0xf7d9acfa),
    (66, 0x2e50ffb9),
    (61, 0x88cfd62f),
    (58, 0x3a6f0e57),
    (32, 0x534f6039),
    (30, 0x0e2daaf9),
    (84, 0x4572216e),
    (78, 0x0b086e68),
    (123, 0x8c28c185),
    (93, 0x328906b1),
    (30, 0xe857b252),
    (235, 0x36dbe57f),
    (82, 0x530e0a3d),
    (114, 0x790705af),
    (141, 0x186cf2cd),
    (133, 0x2e387f03),
    (148, 0x2e526727),
    (20, 0x23866152),
    (46, 0x7db3c7e9),
    (67, 0x989c1df4),
    (113, 0x42dcfa67),
    (14, 0xa702acfe),
    (123, 0x3fb6bc14),
    (98, 0x881cb53c),
    (124, 0x7e3aac57),
    (31, 0xdeb2560f),
    (32, 0xa90b62d),
    (147, 0x39a7500a),
    (77, 0xb7bf54f1),
    (77, 0x0c336aeb),
    (31, 0xe85745f9),
];

#[test]
fn golden_bytes_of_every_reply() {
    let replies = replies();
    assert_eq!(replies.len(), GOLDEN.len());
    let mut found = Vec::new();
    for (number, reply) in replies.iter().enumerate() {
        let mut bytes = Vec::new();
        codec::encode(reply, &mut bytes).unwrap();
        assert_eq!(bytes[..4], u32::try_from(number).unwrap().to_le_bytes(), "{reply:?}");
        assert_eq!(codec::decode::<Reply>(&bytes).as_ref(), Ok(reply));
        found.push((bytes.len(), frame::crc(&bytes)));
    }
    assert_eq!(found, GOLDEN);
}

use super::{Mapped, PartitionChange, Refused, map_name, read};
use proto::Command;
use std::collections::{BTreeMap, BTreeSet};

const REAL: &[u8] = include_bytes!("../../tests/fixtures/cyrus/mboxlist.json");

/// A list of entries without anything but their names.
fn named(names: &[&str]) -> Mapped {
    let entries: Vec<_> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
    read(&serde_json::to_vec(&entries).unwrap()).unwrap()
}

fn name_of(command: &Command) -> &str {
    match command {
        Command::ImportMailbox { name, .. } => name,
        other => panic!("{other:?}"),
    }
}

fn imports(mapped: &Mapped) -> Vec<(&str, &str)> {
    mapped.imports.iter().map(|import| (import.source.as_str(), name_of(&import.command))).collect()
}

#[test]
fn names_are_mapped() {
    for (source, name) in [
        ("user.joe", "user/joe/INBOX"),
        ("user.joe.Sub", "user/joe/Sub"),
        ("d.example!user.joe", "user/joe@d.example/INBOX"),
        ("d.example!user.joe.Sub.Deep", "user/joe@d.example/Sub/Deep"),
        ("user.john^doe.a^b^c", "user/john.doe/a.b.c"),
        ("user.joe.&U,BTFw-", "user/joe/\u{53f0}\u{5317}"),
        ("user.joe.rust &- systems", "user/joe/rust & systems"),
        ("user.joe.Projekte.&AMQ-pfel", "user/joe/Projekte/\u{c4}pfel"),
        ("user.joe.A&Awg-", "user/joe/\u{c4}"),
        ("user.joe.inbox.x", "user/joe/INBOX/x"),
        ("user.joe.x.inbox", "user/joe/x/inbox"),
        ("shared", "shared"),
        ("shared.announce", "shared/announce"),
        ("d.example!shared.news", "shared/d.example/news"),
        ("d.example!shared", "shared/d.example"),
        ("news.local", "shared/news/local"),
        ("d.example!news", "shared/d.example/news"),
        ("news.shared", "shared/news/shared"),
        ("user", "shared/user"),
        ("users.joe", "shared/users/joe"),
        ("Shared.x", "shared/Shared/x"),
    ] {
        assert_eq!(map_name(source).as_deref(), Ok(name), "{source}");
    }
    for source in [
        "",
        "!user.joe",
        "user.",
        "user..x",
        "user.joe.",
        "user.joe.a/b",
        "user.joe.&",
        "user.joe.&AGE-",
        "user.j\u{f6}",
    ] {
        assert!(map_name(source).is_err(), "{source}");
    }
}

#[test]
fn inboxes_come_first() {
    let mapped = named(&["shared.x", "user.joe.Archive", "user.ann.b", "user.joe", "user.ann"]);
    assert_eq!(
        imports(&mapped),
        [
            ("user.joe", "user/joe/INBOX"),
            ("user.ann", "user/ann/INBOX"),
            ("shared.x", "shared/x"),
            ("user.joe.Archive", "user/joe/Archive"),
            ("user.ann.b", "user/ann/b"),
        ]
    );
    assert_eq!(mapped.refused, []);
}

#[test]
fn deleted_mailboxes_are_left_out() {
    let list = br#"{
        "user.joe": {"mbtype": "e"},
        "user.joe.gone": {"mbtype": "d"},
        "user.joe.gone2": {"mbtype": "ed"},
        "DELETED.user.joe.x.5F3A": {},
        "d.example!DELETED.user.ann.x.5F3A": {"mbtype": "e"},
        "user.joe.DELETED.x": {},
        "DELETED": {}
    }"#;
    let mapped = read(list).unwrap();
    assert_eq!(
        imports(&mapped),
        [("user.joe", "user/joe/INBOX"), ("user.joe.DELETED.x", "user/joe/DELETED/x"), ("DELETED", "shared/DELETED")]
    );
    assert_eq!(
        mapped.left_out,
        ["user.joe.gone", "user.joe.gone2", "DELETED.user.joe.x.5F3A", "d.example!DELETED.user.ann.x.5F3A"]
    );
    assert_eq!(mapped.refused, []);
}

#[test]
fn entries_that_map_to_one_name_are_all_refused() {
    let mapped = named(&[
        "news",
        "shared.news",
        "user.joe",
        "user.joe.Inbox",
        "user.ann.&AMQ-",
        "user.ann.A&Awg-",
        "d.example!x",
        "shared.d^example.x",
        "user.ok",
        "x.1",
        "user.joe.INBOX",
    ]);
    assert_eq!(imports(&mapped), [("user.ok", "user/ok/INBOX"), ("x.1", "shared/x/1")]);
    assert_eq!(mapped.refused.len(), 9);
    assert_eq!(
        mapped.refused[0],
        Refused {
            source: "user.joe".to_owned(),
            reason: "maps to user/joe/INBOX, and so does user.joe.Inbox, user.joe.INBOX".to_owned()
        }
    );
    // JSON lets a key stand twice; neither is more right than the other
    let mapped = read(br#"{"user.joe": {"uidvalidity": "1"}, "user.joe": {"uidvalidity": "2"}}"#).unwrap();
    assert_eq!((mapped.imports.len(), mapped.refused.len()), (0, 2));
}

#[test]
fn fields_in_every_form() {
    let list = br#"{
        "a": {"uidvalidity": "1795311962", "partition": "p", "acl": {"joe": "lrswipkxtecdan", "anyone": "lrs9"}},
        "b": {"uidvalidity": 7, "partition": "", "acl": "joe\tlrswip\tanyone\tlrs\t", "more": [1, {"x": null}]},
        "c": {"uidvalidity": null, "acl": ""},
        "d": {"acl": "joe\tlrs"}
    }"#;
    let mapped = read(list).unwrap();
    let command = |name: &str, partition: Option<&str>, uidvalidity, acl: &[(&str, &str)]| Command::ImportMailbox {
        name: name.to_owned(),
        partition: partition.map(str::to_owned),
        uidvalidity,
        acl: acl.iter().map(|(who, rights)| ((*who).to_owned(), (*rights).to_owned())).collect(),
    };
    let commands: Vec<_> = mapped.imports.into_iter().map(|import| import.command).collect();
    assert_eq!(
        commands,
        [
            command("shared/a", Some("p"), 1_795_311_962, &[("joe", "lrswipkxtecdan"), ("anyone", "lrs9")]),
            command("shared/b", None, 7, &[("joe", "lrswip"), ("anyone", "lrs")]),
            command("shared/c", None, 0, &[]),
            command("shared/d", None, 0, &[("joe", "lrs")]),
        ]
    );
}

#[test]
fn bad_entries_are_refused_one_by_one() {
    let list = br#"{
        "a": 1, "b": null, "c": [], "d": {"uidvalidity": "x"}, "e": {"uidvalidity": -1}, "f": {"uidvalidity": 4294967296},
        "g": {"acl": [1]}, "h": {"acl": {"joe": 1}}, "i": {"acl": "joe"}, "j": {"acl": "joe\tl\t\tr\t"},
        "k": {"acl": "joe\tl\tjoe\tr\t"}, "l": {"partition": 1}, "m": {"mbtype": {}}, "n": {"uidvalidity": 1.5},
        "user.joe.&A-": {}, "good": {}
    }"#;
    let mapped = read(list).unwrap();
    assert_eq!(imports(&mapped), [("good", "shared/good")]);
    let sources: Vec<_> = mapped.refused.iter().map(|refused| refused.source.as_str()).collect();
    assert_eq!(sources, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "user.joe.&A-"]);
}

#[test]
fn what_is_no_list_is_an_error() {
    let deep = "[".repeat(100_000);
    for text in
        ["", "1", "\"user.joe\"", "{", "[{}]", "[1]", "{\"a\": {}", "user.joe\tdefault\tjoe\tlrs", "\u{feff}{}", &deep]
    {
        assert!(read(text.as_bytes()).is_err(), "{:.40}", text);
    }
    assert!(read(&[0xff, 0xfe]).is_err());
    assert_eq!(read(b"{}").unwrap(), Mapped::default());
    assert_eq!(read(b" [] ").unwrap(), Mapped::default());
}

#[test]
fn partitions_are_mapped() {
    let list = br#"[{"name": "a", "partition": "default"}, {"name": "b", "partition": "old"}, {"name": "c", "partition": "old"},
        {"name": "d", "partition": "here"}, {"name": "e"}]"#;
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect()
    };
    let mut mapped = read(list).unwrap();
    let known = set(&["here", "primary"]);
    let before = mapped.clone();
    assert_eq!(mapped.map_partitions(&map(&[("old", "moon")]), &known), Err("moon".to_owned()));
    assert_eq!(mapped, before);
    let changes = mapped.map_partitions(&map(&[("default", "primary")]), &known).unwrap();
    assert_eq!(
        changes,
        [
            PartitionChange { from: "default".to_owned(), to: Some("primary".to_owned()), mailboxes: 1 },
            PartitionChange { from: "old".to_owned(), to: None, mailboxes: 2 },
        ]
    );
    let partitions: Vec<_> = mapped
        .imports
        .iter()
        .map(|import| match &import.command {
            Command::ImportMailbox { partition, .. } => partition.as_deref(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(partitions, [Some("primary"), None, None, Some("here"), None]);
}

// row 119: a real server's list
#[test]
fn the_real_list_is_mapped_whole() {
    let mapped = read(REAL).unwrap();
    assert_eq!((mapped.imports.len(), mapped.left_out.len(), mapped.refused.len()), (546, 0, 0));
    let list: serde_json::Value = serde_json::from_slice(REAL).unwrap();
    let mut users = BTreeSet::new();
    for import in &mapped.imports {
        let Command::ImportMailbox { name, partition, uidvalidity, acl } = &import.command else {
            panic!("{import:?}")
        };
        let entry = &list[&import.source];
        assert_eq!(entry["partition"].as_str(), partition.as_deref());
        assert_eq!(entry["uidvalidity"].as_str(), Some(uidvalidity.to_string().as_str()));
        assert_eq!(entry["acl"], serde_json::to_value(acl).unwrap());
        if let Some(rest) = name.strip_prefix("user/") {
            users.insert(rest.split('/').next().unwrap().to_owned());
        }
    }
    assert_eq!(users.len(), 60);
    let (inboxes, others): (Vec<_>, Vec<_>) =
        imports(&mapped).into_iter().partition(|(_, name)| name.ends_with("/INBOX"));
    assert_eq!((inboxes.len(), others.len()), (60, 486));
    let name = |source: &str| imports(&mapped).into_iter().find(|(s, _)| *s == source).unwrap().1.to_owned();
    assert_eq!(name("example.net!user.123go.a^b^c"), "user/123go@example.net/a.b.c");
    assert_eq!(name("example.net!user.123go.Lists.rust &- systems"), "user/123go@example.net/Lists/rust & systems");
    assert_eq!(name("example.net!user.123go.&U,BTFw-"), "user/123go@example.net/\u{53f0}\u{5317}");
    assert_eq!(name("shared.announce"), "shared/announce");
}

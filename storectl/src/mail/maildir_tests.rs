#![expect(clippy::disallowed_methods, reason = "tests lay out files")]

use super::read::{Entry, Maildir};
use super::write::Export;
use super::*;
use std::io::Read;
use std::path::Path;

#[test]
fn names_of_files() {
    let read = |text: &str| {
        let name = Name::read(text);
        (name.unique, name.size, name.wire_size, name.letters)
    };
    for (text, unique, size, wire, letters) in [
        (
            "1491941793.M41850P8566V15I4F_0.mx1.example.com,S=10956:2,STln",
            "1491941793.M41850P8566V15I4F_0.mx1.example.com",
            Some(10956),
            None,
            "STln",
        ),
        (
            "1035478339.27041_118.foo.org,S=1000,W=1030;2,RDF,",
            "1035478339.27041_118.foo.org",
            Some(1000),
            Some(1030),
            "RDF",
        ),
        ("1276533073.M242911P3632.kurkku!2,FP", "1276533073.M242911P3632.kurkku", None, None, "FP"),
        ("1234.x", "1234.x", None, None, ""),
        ("1234.x,S=no:2,", "1234.x", None, None, ""),
        ("1234.x:1,S", "1234.x:1", None, None, ""),
        ("", "", None, None, ""),
    ] {
        assert_eq!(read(text), (unique.to_owned(), size, wire, letters.to_owned()), "{text}");
    }
    let name = Name { unique: "1.U7".to_owned(), size: Some(3), wire_size: Some(4), letters: "bTSaS".to_owned() };
    assert_eq!(name.put(), "1.U7,S=3,W=4:2,STab");
}

#[test]
fn letters_and_flags() {
    let mut keywords = Keywords::read("0 $Work\n2 later\nx\n99 no\n3 \n");
    assert_eq!(
        keywords.flags("RSSac"),
        (["\\Answered", "\\Seen", "$Work", "later"].map(str::to_owned).to_vec(), String::new())
    );
    assert_eq!(keywords.flags("bPx?").1, "bx?");
    let about = |flags: &[&str]| About { flags: flags.iter().map(|f| (*f).to_owned()).collect(), date: None };
    let (letters, left) = keywords.letters(&about(&["\\seen", "$work", "new", "$Forwarded", "\\Recent"]));
    assert_eq!((letters.as_str(), left), ("SabP", vec!["\\Recent".to_owned()]));
    assert_eq!(keywords.put(), "0 $Work\n1 new\n2 later\n");
    let many: Vec<String> = (0..30).map(|n| format!("k{n}")).collect();
    let (letters, left) = keywords.letters(&About { flags: many, date: None });
    assert_eq!((letters.len(), left.len()), (23, 7), "26 letters in all");
}

// B18
#[test]
fn folders_and_directories() {
    let name = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    for (directory, parts) in [
        (".My Folder.Nested Folder", &["My Folder", "Nested Folder"][..]),
        (".Entw&APw-rfe", &["Entw\u{fc}rfe"]),
        (".a&AC4-b.c", &["a.b", "c"]),
        (".&AC4-&APw-&AC4-", &[".\u{fc}."]),
        (".Tom &- Ann", &["Tom & Ann"]),
    ] {
        assert_eq!(folder_of(directory), Some(name(parts)), "{directory}");
        assert_eq!(directory_of(&name(parts)), directory);
    }
    assert_eq!(
        folder_of(".Entw\u{fc}rfe"),
        Some(name(&["Entw\u{fc}rfe"])),
        "UTF-8, as newer versions of Dovecot can have it"
    );
    assert_eq!(folder_of(".A&B"), Some(name(&["A&B"])));
    for bad in ["cur", ".", "..", ".a..b", ".a.", "..a"] {
        assert_eq!(folder_of(bad), None, "{bad}");
    }
    assert_eq!(directory_of(&[]), "");
}

fn fixture() -> Maildir {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/mail/maildir"));
    Maildir::open(dir).unwrap()
}

#[test]
fn a_real_tree_is_read() {
    let maildir = fixture();
    let (folders, passed) = maildir.folders().unwrap();
    assert!(passed.is_empty());
    let names: Vec<String> = folders.iter().map(|f| f.name.join("/")).collect();
    assert_eq!(names, ["", "My Folder", "My Folder/Nested Folder"]);
    let mut seen = Vec::new();
    for folder in &folders {
        for entry in maildir.entries(folder).unwrap().0 {
            let (mut file, size, about, unknown) = maildir.message(folder, &entry).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, size);
            assert!(about.date.is_some());
            seen.push((folder.name.len(), entry.directory, about.flags.join(" "), unknown));
        }
    }
    let expected = [
        (0, "new", "\\Seen", "b"),
        (0, "cur", "\\Seen \\Deleted", "ln"),
        (1, "cur", "\\Deleted \\Draft \\Answered", ""),
        (1, "new", "", ""),
        (2, "new", "\\Answered \\Draft \\Flagged", ""),
        (2, "cur", "\\Flagged $Forwarded", ""),
    ];
    assert_eq!(seen, expected.map(|(depth, dir, flags, unknown)| (depth, dir, flags.to_owned(), unknown.to_owned())));
}

// B18: flags, keywords, dates, folders and bytes
#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("out");
    let export = Export::at(&root).unwrap();
    let name = ["Entw\u{fc}rfe".to_owned(), "a.b".to_owned()];
    let about = |flags: &[&str], date: &str| About {
        flags: flags.iter().map(|f| (*f).to_owned()).collect(),
        date: Some(date.parse().unwrap()),
    };
    let first = about(&["\\Answered", "\\Seen", "$Work"], "2026-11-22T22:47:03.123456Z");
    let second = about(&["$Work", "later"], "1999-01-01T00:00:00Z");
    export.folder(&[]).unwrap();
    let mut folder = export.folder(&name).unwrap();
    assert!(folder.message("1.U1", b"A: b\r\n\nx\n", &first).unwrap().is_empty());
    folder.message("2.U2", b"", &second).unwrap();
    export.subscriptions(&[name.to_vec(), vec!["Sent".to_owned()]]).unwrap();

    let read = || {
        let maildir = Maildir::open(&root).unwrap();
        let (folders, _) = maildir.folders().unwrap();
        assert_eq!((folders.len(), &folders[1].name[..], folders[1].unfinished), (2, &name[..], 0));
        let entries = maildir.entries(&folders[1]).unwrap().0;
        let open = |entry: &Entry| {
            let (mut file, _, about, unknown) = maildir.message(&folders[1], entry).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            (bytes, about, unknown)
        };
        let names: Vec<String> = entries.iter().map(|e| e.file.clone()).collect();
        (names, entries.iter().map(open).collect::<Vec<_>>())
    };
    let (names, messages) = read();
    assert_eq!(names, ["1.U1,S=9,W=11:2,RSa", "2.U2,S=0,W=0:2,ab"]);
    assert_eq!(messages[0], (b"A: b\r\n\nx\n".to_vec(), first.clone(), String::new()));
    assert_eq!(messages[1], (Vec::new(), second.clone(), String::new()));
    assert_eq!(Maildir::open(&root).unwrap().subscriptions().unwrap(), [name.to_vec(), vec!["Sent".to_owned()]]);

    // A second run changes nothing but what has changed.
    let mut folder = Export::at(&root).unwrap().folder(&name).unwrap();
    assert_eq!(folder.refresh("1.U1", 10, &first).unwrap(), None, "another message");
    assert_eq!(folder.refresh("3", 0, &first).unwrap(), None);
    assert_eq!(folder.refresh("1.U1", 9, &first).unwrap(), Some(vec![]));
    let changed = about(&["\\Deleted", "later"], "1999-01-01T00:00:00Z");
    assert_eq!(folder.refresh("2.U2", 0, &changed).unwrap(), Some(vec![]));
    let (names, messages) = read();
    assert_eq!(names, ["1.U1,S=9,W=11:2,RSa", "2.U2,S=0,W=0:2,Tb"]);
    assert_eq!(messages[1].1.flags, ["\\Deleted", "later"]);
}

#[test]
fn links_and_pipes_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mail");
    Export::at(&root).unwrap().folder(&[]).unwrap();
    std::fs::write(dir.path().join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret"), root.join("cur/1.link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("cur/2.pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::fs::create_dir(root.join("cur/3.directory")).unwrap();
    std::fs::create_dir(root.join("cur/.hidden")).unwrap();
    std::os::unix::fs::symlink(dir.path(), root.join(".Linked")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret"), root.join("dovecot-keywords")).unwrap();
    let maildir = Maildir::open(&root).unwrap();
    let (folders, _) = maildir.folders().unwrap();
    assert_eq!((folders.len(), &folders[0].keywords), (1, &Keywords::default()));
    let (entries, _) = maildir.entries(&folders[0]).unwrap();
    assert_eq!(entries.iter().map(|e| e.file.as_str()).collect::<Vec<_>>(), ["1.link", "2.pipe", "3.directory"]);
    assert!(entries.iter().all(|entry| maildir.message(&folders[0], entry).is_err()));

    std::fs::create_dir(dir.path().join("plain")).unwrap();
    assert!(Maildir::open(&dir.path().join("plain")).is_err());
}

//! Damage to the files that no start reads as part of the store: mailbox archives, the configuration, the stamps and the state file. What comes
//! of it is the same, told, or refused; never silent, a panic or a hang. The files of the store are swept in `crash/sweep.rs`. // row B9

use crate::harness::{TestStore, total};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use storectl::archive::{Item, Reader};
use storedd::config::Config;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}

/// How often what came.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn print(&self, what: &str) {
        let counts: Vec<String> = self.0.iter().map(|(came, n)| format!("{n} {came}")).collect();
        total(&format!("sweep: {what}: {}; 0 silent, 0 panics", counts.join(", ")));
    }
}

/// Every byte flipped, zeroed and set, at so many places; every cut there; a stretch taken out, put in twice, and exchanged for another.
fn damaged(bytes: &[u8], places: usize) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |what: String, changed: Vec<u8>| {
        if changed != bytes {
            all.push((what, changed));
        }
    };
    for nth in 0..places {
        let at = bytes.len() * nth / places;
        for new in [bytes[at] ^ (1 << (nth % 8)), 0, 0xff] {
            let mut changed = bytes.to_vec();
            changed[at] = new;
            add(format!("byte {at} became {new:02x}"), changed);
        }
        add(format!("cut to {at} bytes"), bytes[..at].to_vec());
        let end = (at + 64 + nth % 512).min(bytes.len());
        add(format!("{at}..{end} taken out"), [&bytes[..at], &bytes[end..]].concat());
        add(format!("{at}..{end} twice"), [&bytes[..end], &bytes[at..]].concat());
        let other = bytes.len() / 2;
        let length = (end - at).min(bytes.len() - other);
        let mut changed = bytes.to_vec();
        changed[at..at + length].copy_from_slice(&bytes[other..other + length]);
        add(format!("{at}..{end} exchanged"), changed);
    }
    all
}

/// What an archive holds, and whether anything is wrong with it.
fn read(bytes: &[u8]) -> (Vec<String>, bool) {
    let (mut frames, mut is_told, mut reader) = (Vec::new(), false, Reader::new(bytes));
    while let Some(item) = reader.next().expect("no error of the input") {
        match item {
            Item::Frame { number, found, .. } => frames.push(format!("{number} {found:?}")),
            Item::Damage(_) => is_told = true,
        }
    }
    let is_told = is_told || !reader.is_complete();
    (frames, is_told)
}

// row B9, S13: of a damaged archive what is given is what was written, in its order, and what is not there is told
#[test]
fn damage_to_an_archive_is_judged() {
    let store = TestStore::new();
    let _daemon = store.start();
    for user in ["joe", "ann"] {
        store.ctl(&["user", "add", user]).expect(0);
        for n in 0..6 {
            let text = format!("Subject: {n}\r\n\r\n{}\r\n", "text and more text ".repeat(n * 40));
            let inbox = format!("user/{user}/INBOX");
            store.ctl_with(&["message", "deliver", &inbox], Some(text.as_bytes())).expect(0);
        }
    }
    let file = store.beside("archive");
    store.ctl(&["backup", "-f", file.to_str().unwrap(), "/"]).expect(0);
    let bytes = std::fs::read(&file).unwrap();
    let (good, is_told) = read(&bytes);
    assert!(!is_told && good.len() > 12, "{good:?}");
    let mut tally = Tally::default();
    for (what, changed) in damaged(&bytes, number("STOREDD_SWEEP", 400).min(bytes.len())) {
        let looked = catch_unwind(AssertUnwindSafe(|| read(&changed)));
        let (frames, is_told) = looked.unwrap_or_else(|_| panic!("a panic: {what}"));
        let mut left = good.iter();
        assert!(frames.iter().all(|frame| left.any(|known| known == frame)), "{what}: something that was not written");
        let came = match (frames == good, is_told) {
            (true, false) => "the same",
            (true, true) => "healed",
            (false, true) => "told",
            (false, false) => panic!("{what}: silent, {} of {} frames", frames.len(), good.len()),
        };
        *tally.0.entry(came).or_default() += 1;
    }
    tally.print("archive");
}

// A configuration has no checksum, since people write it: what is taken shows all of its values, and what is refused names a line.
#[test]
fn damage_to_a_configuration_is_judged() {
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/storedd.toml")).unwrap();
    // Every value that stands there as a comment is one that counts.
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("# ").or(line.strip_prefix('#')) {
        Some(set) if set.contains(" = ") && set.starts_with(|c: char| c.is_ascii_lowercase()) => set,
        _ => line,
    });
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let load = |text: &str| Config::from_text(text, None, Some(Path::new("/nowhere")), None);
    let text = match load(&text) {
        Ok(config) => config.render(),
        Err(_) => load("").unwrap().render(),
    };
    let known = load(&text).unwrap().values();
    let mut tally = Tally::default();
    for (what, changed) in damaged(text.as_bytes(), number("STOREDD_SWEEP", 400).min(text.len())) {
        let looked = catch_unwind(AssertUnwindSafe(|| match String::from_utf8(changed.clone()) {
            Err(_) => "refused",
            Ok(text) => match load(&text) {
                Ok(config) => {
                    assert_eq!(load(&config.render()).map(|again| again.values()).ok(), Some(config.values()));
                    if config.values() == known { "the same" } else { "told: other values, all shown" }
                }
                Err(problems) => {
                    assert!(!problems.is_empty());
                    "refused"
                }
            },
        }));
        *tally.0.entry(looked.unwrap_or_else(|_| panic!("{what}"))).or_default() += 1;
    }
    tally.print("configuration");
}

// What the daemon writes for others to look at is never what it relies on.
#[test]
fn damage_to_stamps_and_the_state_file_is_judged() {
    let store = TestStore::new();
    let daemon = store.start();
    store.ctl(&["user", "add", "joe"]).expect(0);
    store.ctl(&["checkpoint"]).expect(0);
    assert_eq!(daemon.stop(), 0);
    let mut tally = Tally::default();
    for name in ["stored.ckp", "stored.lcu", "stored.exp", "stored.pur", "stored.per", "state"] {
        for way in ["gone", "empty", "noise", "a link", "a directory"] {
            let path = store.data.join(name);
            let elsewhere = store.beside("elsewhere");
            std::fs::write(&elsewhere, b"theirs").unwrap();
            drop(std::fs::remove_file(&path));
            match way {
                "gone" => {}
                "empty" => std::fs::write(&path, b"").unwrap(),
                "noise" => std::fs::write(&path, [0xff; 5000]).unwrap(),
                "a link" => std::os::unix::fs::symlink(&elsewhere, &path).unwrap(),
                _ => std::fs::create_dir(&path).unwrap(),
            }
            let daemon = store.start();
            assert_eq!(store.json(&["user", "list"]).as_array().unwrap().len(), 1, "{name}, {way}");
            store.ctl(&["checkpoint"]).expect(0);
            assert_eq!(daemon.stop(), 0, "{name}, {way}");
            assert_eq!(std::fs::read(&elsewhere).unwrap(), b"theirs", "{name}, {way}: a link was followed");
            if way == "a directory" {
                std::fs::remove_dir_all(&path).unwrap();
            }
            *tally.0.entry("the same").or_default() += 1;
        }
    }
    tally.print("stamps and state file");
}

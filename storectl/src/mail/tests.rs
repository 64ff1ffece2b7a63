#![expect(clippy::disallowed_methods, reason = "tests lay out files")]

use crate::cli::{Cli, Global, Verb};
use crate::commands::{Plan, plan};
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::fake::{Act, Fake, changed};
use crate::mail::{self, house};
use crate::render::Style;
use crate::socket::Environment;
use clap::Parser;
use proto::{Body, Code, Command, Delivered, Failure, Message, MessageSent, Reply, Request, UserDetail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A mailbox's messages with their bytes.
type Mailbox = Vec<(Message, Vec<u8>)>;

/// A store with the user joe.
#[derive(Default)]
struct Store {
    boxes: BTreeMap<String, Mailbox>,
    sent: BTreeMap<u64, (Vec<u8>, bool)>,
    subscriptions: Vec<String>,
    /// It ends the connection at the delivery behind so many messages.
    room: Option<usize>,
}

fn no(code: Code, text: &str) -> Act {
    Act::Refuse(Failure::new(code, text))
}

impl Store {
    fn answer(&mut self, request: &Request) -> Act {
        match request {
            Request::UserShow { user } if user == "joe" => {
                let subscriptions = self.subscriptions.clone();
                Act::Reply(Reply::UserDetail(Box::new(UserDetail { subscriptions, ..detail() })))
            }
            Request::UserShow { .. } => no(Code::NoUser, "no such user"),
            Request::MessageList { name, .. } => match self.boxes.get(name) {
                Some(messages) => Act::Reply(Reply::Messages(messages.iter().map(|(m, _)| m.clone()).collect())),
                None => no(Code::NotFound, "no such mailbox"),
            },
            Request::MessageBytes { name, uid } => {
                Act::Reply(Reply::MessageBytes(self.boxes[name][*uid as usize - 1].1.clone()))
            }
            Request::MessageSend { number, bytes, last, .. } => {
                assert!(bytes.len() <= 256 << 10, "a piece");
                let number = number.unwrap_or(self.sent.len() as u64 + 1);
                let sending = self.sent.entry(number).or_default();
                sending.0.extend_from_slice(bytes);
                sending.1 = *last;
                Act::Reply(Reply::MessageSent(MessageSent { number, size: sending.0.len() as u64 }))
            }
            Request::ConfigShow { .. } => {
                let values = [
                    ("mail.inline_limit", "\"8KiB\""),
                    ("control.max_frame", "\"1MiB\""),
                    ("log.segment_size", "\"64MiB\""),
                ];
                Act::Reply(Reply::Config(values.map(|(k, v)| (k.to_owned(), v.to_owned())).into()))
            }
            Request::MailboxList { .. } => Act::Reply(Reply::Mailboxes(
                self.boxes.iter().map(|(name, messages)| listed(name, messages.len() as u64)).collect(),
            )),
            Request::MailboxShow { name } if !self.boxes.contains_key(name) => no(Code::NotFound, "no such mailbox"),
            Request::MailboxShow { .. } => Act::Reply(Reply::Done(proto::Done { done: true })),
            Request::Change { command, dry_run } => self.change(command, *dry_run),
            other => no(Code::Bug, &format!("not asked for: {other:?}")),
        }
    }

    fn change(&mut self, command: &Command, dry_run: bool) -> Act {
        match command {
            Command::MailboxCreate { name, .. } if !dry_run => drop(self.boxes.insert(name.clone(), Vec::new())),
            Command::Subscribe { name, .. } if !dry_run && !self.subscriptions.contains(name) => {
                self.subscriptions.push(name.clone());
            }
            Command::MessageDeliver { to, flags, internal_us, body } => {
                let bytes = match body {
                    Body::Inline(bytes) => bytes.clone(),
                    Body::Sent(number) => {
                        let (bytes, whole) = self.sent.remove(number).unwrap();
                        assert!(whole, "every piece came");
                        bytes
                    }
                };
                if bytes.starts_with(b"refuse") {
                    return no(Code::OverQuota, "no room");
                }
                if self.room.is_some_and(|room| self.boxes.values().map(Vec::len).sum::<usize>() >= room) {
                    return Act::Close;
                }
                let messages = self.boxes.get_mut(&to[0]).unwrap();
                let date = jiff::Timestamp::from_microsecond(internal_us.unwrap_or(0) as i64).unwrap();
                let message = Message {
                    uid: messages.len() as u32 + 1,
                    size: bytes.len() as u64,
                    internal_date: date.to_string(),
                    flags: flags.clone(),
                    modseq: 1,
                    digest: house::digest(&bytes),
                };
                let (uid, size, digest) = (message.uid, message.size, message.digest.clone());
                messages.push((message, bytes));
                let delivered = Delivered { mailbox: to[0].clone(), uid, uidvalidity: 7, size, digest };
                return Act::Reply(Reply::Delivered(vec![delivered]));
            }
            _ => {}
        }
        Act::Reply(Reply::Changed(changed(1, command)))
    }
}

fn detail() -> UserDetail {
    let quota = serde_json::json!({"root": "user/joe", "storage": {"usage": 0, "limit": null}, "messages": {"usage": 0, "limit": null}});
    serde_json::from_value(serde_json::json!({"user": "joe", "id": 1, "partition": "p", "mailboxes": 1, "created": "",
        "directory": "", "quota": quota, "subscriptions": []}))
    .unwrap()
}

fn listed(name: &str, messages: u64) -> proto::Mailbox {
    serde_json::from_value(serde_json::json!({"name": name, "id": 1, "partition": "p", "path": "", "uidvalidity": 7,
        "uidnext": 1, "messages": messages, "bytes": 0, "acl": {}}))
    .unwrap()
}

struct Daemon {
    fake: Fake,
    store: Arc<Mutex<Store>>,
}

fn daemon() -> Daemon {
    let store = Arc::new(Mutex::new(Store::default()));
    store.lock().unwrap().boxes.insert("user/joe/INBOX".to_owned(), Vec::new());
    let of = store.clone();
    Daemon { fake: Fake::start(move |request| of.lock().unwrap().answer(request)), store }
}

impl Daemon {
    fn run(&self, words: &[&str]) -> (Outcome<u8>, Value) {
        let all = ["storectl", "--json"].iter().chain(words);
        let verb: Verb = Cli::try_parse_from(all).unwrap().verb;
        let Ok(Plan::Transfer(transfer)) = plan(verb) else { panic!("{words:?}") };
        let global = Global { data_dir: Some(self.fake.dir()), ..Global::default() };
        let (style, mut out) = (Style { json: true, tty: false }, Vec::new());
        let ended = mail::transfer(&global, &Environment::default(), style, &mut out, &transfer);
        (ended, serde_json::from_slice(&out).unwrap_or_default())
    }

    /// Bytes, flags and date of every message of a mailbox.
    fn messages(&self, name: &str) -> Vec<(Vec<u8>, String, String)> {
        let store = self.store.lock().unwrap();
        store.boxes[name].iter().map(|(m, bytes)| (bytes.clone(), m.flags.join(" "), m.internal_date.clone())).collect()
    }
}

fn counts(said: &Value) -> (u64, u64, usize, usize) {
    let number = |key: &str| said[key].as_u64().unwrap();
    let length = |key: &str| said[key].as_array().unwrap().len();
    (number("messages"), number("unchanged"), length("refused"), length("not_kept"))
}

fn write(dir: &Path, name: &str, bytes: &[u8], second: u64) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

/// A Maildir with two folders, a long message, and two that are equal.
fn maildir(dir: &Path) {
    let long = b"long line\r\n".repeat(60_000);
    write(dir, "cur/1.a:2,RSa", b"A: 1\r\n\r\none", 1_000_000_000);
    write(dir, "cur/2.b:2,", &long, 1_100_000_000);
    write(dir, "new/3.c", b"twice\n", 1_200_000_000);
    write(dir, "new/4.d", b"twice\n", 1_200_000_001);
    write(dir, "dovecot-keywords", b"0 $Work\n", 0);
    write(dir, "subscriptions", b"V\t2\n\nEntw&APw-rfe\ta.b\nINBOX\n", 0);
    write(dir, ".Entw&APw-rfe.a&AC4-b/cur/5.e:2,F", b"draft\n", 1_300_000_000);
}

// B18: what travels in the log goes with its delivery, so that many of them share a sync.
#[test]
fn messages_up_to_the_limit_of_the_store_go_side_by_side() {
    let (daemon, dir) = (daemon(), tempfile::tempdir().unwrap());
    for (n, length) in [100, 5000, 8192, 8193, 9000].into_iter().enumerate() {
        write(dir.path(), &format!("cur/{n}.a:2,"), &vec![b'x'; length], 1_000_000_000 + n as u64);
    }
    write(dir.path(), "dovecot-keywords", b"", 0);
    let (ended, said) = daemon.run(&["import", "maildir", dir.path().to_str().unwrap(), "--user", "joe"]);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (5, 0, 0, 0)));
    let asked: Vec<Request> = daemon.fake.asked.try_iter().collect();
    let inline = |request: &Request| match request {
        Request::Change { command: Command::MessageDeliver { body: Body::Inline(bytes), .. }, .. } => Some(bytes.len()),
        _ => None,
    };
    assert_eq!(asked.iter().filter_map(inline).collect::<Vec<_>>(), [100, 5000, 8192]);
    assert_eq!(asked.iter().filter(|request| matches!(request, Request::MessageSend { .. })).count(), 2);
}

// B18: in, again, and out
#[test]
fn a_maildir_comes_in_once_and_goes_out_as_it_was() {
    let (daemon, dir) = (daemon(), tempfile::tempdir().unwrap());
    let (from, to) = (dir.path().join("in"), dir.path().join("out"));
    maildir(&from);
    let import = ["import", "maildir", from.to_str().unwrap(), "--user", "joe"];
    let (ended, said) = daemon.run(&[&import[..], &["--dry-run"]].concat());
    assert_eq!((ended.unwrap(), counts(&said), said["dry_run"].as_bool()), (DONE, (5, 0, 0, 0), Some(true)));
    assert_eq!(daemon.store.lock().unwrap().boxes.len(), 1);
    let (ended, said) = daemon.run(&import);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (5, 0, 0, 0)));
    assert_eq!(said["mailboxes"], serde_json::json!(["user/joe/Entw\u{fc}rfe/a.b"]));
    let inbox = daemon.messages("user/joe/INBOX");
    assert_eq!(
        inbox[0],
        (b"A: 1\r\n\r\none".to_vec(), "\\Answered \\Seen $Work".to_owned(), "2001-09-09T01:46:40Z".to_owned())
    );
    assert_eq!(inbox[1].0.len(), 660_000);
    assert_eq!(inbox.len(), 4);
    let subscribed = daemon.store.lock().unwrap().subscriptions.clone();
    assert_eq!(subscribed, ["user/joe/Entw\u{fc}rfe/a.b", "user/joe/INBOX"]);
    let (ended, said) = daemon.run(&import);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (0, 5, 0, 0)), "a second run adds nothing");

    let export = ["export", "maildir", to.to_str().unwrap(), "--user", "joe"];
    let (ended, said) = daemon.run(&export);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (5, 0, 0, 0)));
    let (ended, said) = daemon.run(&export);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (0, 5, 0, 0)));
    // Into another store: what comes in there is what was here.
    let other = self::daemon();
    let (ended, said) = other.run(&["import", "maildir", to.to_str().unwrap(), "--user", "joe"]);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (5, 0, 0, 0)));
    for name in ["user/joe/INBOX", "user/joe/Entw\u{fc}rfe/a.b"] {
        assert!(daemon.messages(name) == other.messages(name), "{name}");
    }
    assert_eq!(other.store.lock().unwrap().subscriptions, subscribed);
}

#[test]
fn what_cannot_be_taken_is_named_and_the_rest_goes_on() {
    let (daemon, dir) = (daemon(), tempfile::tempdir().unwrap());
    let from = dir.path();
    maildir(from);
    write(from, "new/0.refused", b"refuse this", 0);
    write(from, "cur/6.f:2,Szq", b"letters\n", 0);
    write(from, "dovecot-keywords", b"0 $Work\n1 bad(word\n", 0);
    write(from, "cur/7.g:2,Sab", b"keywords\n", 0);
    std::os::unix::fs::symlink("/etc/hostname", from.join("new/7.link")).unwrap();
    let (ended, said) = daemon.run(&["import", "maildir", from.to_str().unwrap(), "--user", "joe"]);
    assert_eq!((ended.unwrap(), counts(&said)), (PARTLY, (7, 0, 2, 2)));
    let mut named: Vec<&str> =
        said["refused"].as_array().unwrap().iter().map(|r| r["source"].as_str().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, ["./new/0.refused", "./new/7.link"]);
    assert!(said["not_kept"][0]["reason"].as_str().unwrap().contains("flags zq"), "{said}");
    assert!(said["not_kept"][1]["reason"].as_str().unwrap().ends_with(": bad(word"), "{said}");
    let kept = daemon.messages("user/joe/INBOX").into_iter().find(|(bytes, ..)| bytes == b"keywords\n").unwrap();
    assert_eq!(kept.1, "\\Seen $Work");
}

#[test]
fn a_run_that_is_broken_off_is_taken_up() {
    let (daemon, dir) = (daemon(), tempfile::tempdir().unwrap());
    maildir(dir.path());
    daemon.store.lock().unwrap().room = Some(2);
    let import = ["import", "maildir", dir.path().to_str().unwrap(), "--user", "joe"];
    let (ended, _) = daemon.run(&import);
    let Err(Stop::Failed(failure)) = ended else { panic!("{ended:?}") };
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.hint.unwrap().contains("again"));
    daemon.store.lock().unwrap().room = None;
    let (ended, said) = daemon.run(&import);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (3, 2, 0, 0)));
}

// B18
#[test]
fn an_mbox_comes_in_and_goes_out() {
    let (daemon, dir) = (daemon(), tempfile::tempdir().unwrap());
    let file = dir.path().join("in.mbox");
    let text = "From a@b Mon Jan  5 10:00:00 2026\nA: 1\nStatus: RO\nX-Keywords: $Work\n\n>From here\n\n\
                From c Mon Jan  5 11:00:00 2026\nA: 2\n\nno end\n\n";
    std::fs::write(&file, text).unwrap();
    let import = ["import", "mbox", file.to_str().unwrap(), "--user", "joe", "--folder", "Old"];
    let (ended, said) = daemon.run(&import);
    assert_eq!((ended.unwrap(), counts(&said)), (DONE, (2, 0, 0, 0)));
    let first = (b"A: 1\n\nFrom here\n".to_vec(), "\\Seen $Work".to_owned(), "2026-01-05T10:00:00Z".to_owned());
    assert_eq!(daemon.messages("user/joe/Old")[0], first);
    assert_eq!(counts(&daemon.run(&import).1), (0, 2, 0, 0));

    for dialect in ["mboxo", "mboxrd", "mboxcl", "mboxcl2"] {
        let out = dir.path().join(dialect);
        let place = ["--user", "joe", "--folder", "Old", "--dialect", dialect];
        let export = [&["export", "mbox", out.to_str().unwrap()][..], &place].concat();
        let (ended, said) = daemon.run(&export);
        assert_eq!((ended.unwrap(), counts(&said)), (DONE, (2, 0, 0, 0)), "{dialect}");
        let (ended, _) = daemon.run(&export);
        assert!(matches!(ended, Err(Stop::Failed(f)) if f.code == Code::Exists), "it is not written over");
        let other = self::daemon();
        let (ended, _) = other.run(&[&["import", "mbox", out.to_str().unwrap()][..], &place].concat());
        assert_eq!(ended.unwrap(), DONE);
        assert_eq!(daemon.messages("user/joe/Old"), other.messages("user/joe/Old"), "{dialect}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5, "no half files are left");
}

#[test]
fn wrong_names_have_their_codes() {
    let (daemon, dir) = (daemon(), tempfile::tempdir().unwrap());
    maildir(&dir.path().join("mail"));
    write(dir.path(), "no.mbox", b"Subject: x\n", 0);
    write(dir.path(), "good.mbox", b"From a Mon Jan  5 10:00:00 2026\n\nx\n", 0);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (words, expected) in [
        (["import", "maildir", &path("none"), "--user", "joe"], Code::NoInput),
        (["import", "maildir", &path("mail/cur"), "--user", "joe"], Code::BadInput),
        (["import", "maildir", &path("mail"), "--user", "nobody"], Code::NoUser),
        (["import", "mbox", &path("none"), "--user", "joe"], Code::NoInput),
        (["import", "mbox", &path("no.mbox"), "--user", "joe"], Code::BadInput),
        (["import", "mbox", &path("good.mbox"), "--user", "nobody"], Code::NoUser),
        (["export", "maildir", &path("out"), "--user", "nobody"], Code::NoUser),
        (["export", "mbox", &path("no/out"), "--user", "joe"], Code::Io),
    ] {
        let (ended, _) = daemon.run(&words);
        assert!(matches!(&ended, Err(Stop::Failed(f)) if f.code == expected), "{words:?}: {ended:?}");
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(path("open")).unwrap();
    std::fs::set_permissions(path("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (ended, _) = daemon.run(&["export", "maildir", &path("open"), "--user", "joe"]);
    assert!(matches!(&ended, Err(Stop::Failed(f)) if f.code == Code::NotPermitted), "{ended:?}");
    let (ended, _) = daemon.run(&["export", "mbox", &path("out"), "--user", "joe", "--folder", "none"]);
    assert!(matches!(&ended, Err(Stop::Failed(f)) if f.code == Code::NotFound), "{ended:?}");
}

use super::*;
use crate::commands::Form;
use proto::{Changed, Checkpoint, Command, Finding, Mailbox, MailboxDetail, Quota, Resource, User, Verified};
use std::collections::BTreeMap;

const JSON: Style = Style { json: true, tty: false };
const PIPE: Style = Style { json: false, tty: false };
const TTY: Style = Style { json: false, tty: true };

fn ask(request: Request, form: Form) -> Ask {
    Ask { request, form, question: None, long: false }
}

/// What is printed for an answer in parts, and the exit code.
fn print(ask: &Ask, style: Style, parts: Vec<Reply>) -> (String, u8) {
    let mut out = Vec::new();
    let mut answer = Answer::new(ask, style);
    parts.into_iter().for_each(|part| answer.part(&mut out, part).unwrap());
    let code = answer.end(&mut out).unwrap();
    (String::from_utf8(out).unwrap(), code)
}

fn mailbox(name: &str) -> Mailbox {
    Mailbox {
        name: name.into(),
        id: 7,
        partition: "primary".into(),
        path: "/p/7".into(),
        uidvalidity: 17,
        uidnext: 1,
        messages: 2,
        bytes: 3000,
        acl: BTreeMap::from([("joe".into(), "lrs".into()), ("anyone".into(), "l".into())]),
    }
}

fn list(form: Form) -> Ask {
    ask(Request::MailboxList { pattern: "*".into() }, form)
}

#[test]
fn a_list_of_mailboxes() {
    let parts = || vec![Reply::Mailboxes(vec![mailbox("a")]), Reply::Mailboxes(vec![mailbox("user/b")])];
    assert_eq!(print(&list(Form::Plain), PIPE, parts()).0, "a\nuser/b\n");
    assert_eq!(print(&list(Form::Plain), TTY, parts()).0, "a\nuser/b\n");
    let row = "7\t17\t1\t2\t3000\tprimary\t/p/7\tanyone=l, joe=lrs\n";
    assert_eq!(print(&list(Form::Long), PIPE, parts()).0, format!("a\t{row}user/b\t{row}"));
    let shown = print(&list(Form::Long), TTY, parts()).0;
    assert!(shown.starts_with("NAME  ID  UIDVALIDITY"), "{shown}");
    let (json, _) = print(&list(Form::Plain), JSON, parts());
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value[1]["name"], "user/b");
    assert_eq!(value[0]["acl"]["joe"], "lrs");
    assert_eq!(json.lines().count(), 2, "an element a line");
}

#[test]
fn empty_lists() {
    assert_eq!(print(&list(Form::Plain), JSON, vec![Reply::Mailboxes(vec![])]).0, "[]\n");
    assert_eq!(print(&list(Form::Plain), TTY, vec![Reply::Mailboxes(vec![])]).0, "");
}

#[test]
fn a_list_that_breaks_off_is_no_document() {
    let mut out = Vec::new();
    let list = list(Form::Plain);
    let mut answer = Answer::new(&list, JSON);
    answer.part(&mut out, Reply::Mailboxes(vec![mailbox("a")])).unwrap();
    assert!(answer.begun());
    assert!(serde_json::from_slice::<serde_json::Value>(&out).is_err());
}

#[test]
fn findings_give_code_one() {
    let request = ask(Request::LogVerify, Form::Plain);
    let verified = |findings| Reply::Verified(Verified { segments: 1, records: 2, bytes: 64, findings });
    let finding =
        Finding { r#where: "log.1 at 4096".into(), what: "record".into(), expected: "a".into(), found: "b".into() };
    assert_eq!(print(&request, PIPE, vec![verified(vec![])]), ("1 segment, 2 records, 64 B: all good\n".into(), DONE));
    let (text, code) = print(&request, PIPE, vec![verified(vec![finding.clone()])]);
    assert_eq!((text.as_str(), code), ("log.1 at 4096\trecord\ta\tb\n1 segment, 2 records, 64 B: 1 finding\n", PARTLY));
    let (json, code) = print(&request, JSON, vec![verified(vec![finding])]);
    assert!(json.contains("\"findings\":[{\"where\":\"log.1 at 4096\""), "{json}");
    assert_eq!(code, PARTLY);
}

#[test]
fn one_mailbox() {
    let detail = MailboxDetail {
        mailbox: mailbox("user/joe/X"),
        highest_modseq: 5,
        unseen: 1,
        flags: vec!["$Work".into()],
        created: "2026-11-22T10:00:00Z".into(),
        name_utf7: "user/joe/X".into(),
    };
    let request = ask(Request::MailboxShow { name: "user/joe/X".into() }, Form::Plain);
    let reply = || vec![Reply::MailboxDetail(Box::new(detail.clone()))];
    let text = print(&request, PIPE, reply()).0;
    assert!(text.contains("uidvalidity:     17\n") && text.contains("messages:        2, 1 unseen\n"), "{text}");
    assert!(!text.contains("UTF-7"), "said only where it differs: {text}");
    let value: serde_json::Value = serde_json::from_str(&print(&request, JSON, reply()).0).unwrap();
    assert_eq!((&value["name"], &value["highest_modseq"]), (&"user/joe/X".into(), &5.into()));
}

#[test]
fn small_answers() {
    let plain = |request| ask(request, Form::Plain);
    let checkpoint = Reply::Checkpoint(Checkpoint { lsn: 9, duration: 0.012, retired: vec!["log.0000000001".into()] });
    let text = print(&plain(Request::Checkpoint), PIPE, vec![checkpoint]).0;
    assert_eq!(text, "lsn:       9\nduration:  12 ms\nretired:   log.0000000001\n");
    let quota = Reply::Quota(Quota {
        root: "joe".into(),
        storage: Resource { usage: 1024, limit: Some(2 << 30) },
        messages: Resource { usage: 3, limit: None },
        over_since: None,
        grace_left: None,
    });
    let text = print(&plain(Request::QuotaGet { root: "joe".into() }), PIPE, vec![quota]).0;
    assert_eq!(text, "root:      joe\nstorage:   1.0 KiB of 2.0 GiB\nmessages:  3, no limit\n");
    let config = Reply::Config(BTreeMap::from([("log.segment_size".into(), "67108864".into())]));
    assert_eq!(
        print(&plain(Request::ConfigShow { defaults: false }), PIPE, vec![config]).0,
        "log.segment_size = 67108864\n"
    );
    let done = || vec![Reply::Done(proto::Done { done: true })];
    assert_eq!(print(&ask(Request::Health, Form::Silent), PIPE, done()).0, "");
    assert_eq!(print(&ask(Request::Health, Form::Silent), JSON, done()).0, "{\"done\":true}\n");
    let users = Reply::Users(vec![User { user: "joe".into(), partition: "primary".into(), mailboxes: 3 }]);
    assert_eq!(print(&plain(Request::UserList { pattern: None }), PIPE, vec![users]).0, "joe\tprimary\t3\n");
}

#[test]
fn a_change_is_a_sentence_or_the_reply() {
    let command = Command::MailboxCreate { name: "user/joe/X".into(), partition: None };
    let request = ask(Request::Change { command, dry_run: false }, Form::Plain);
    let changed = Changed {
        lsn: 4,
        changed: true,
        name: Some("user/joe/X".into()),
        id: Some(7),
        uidvalidity: Some(17),
        mailboxes: None,
        messages: None,
    };
    let text = print(&request, PIPE, vec![Reply::Changed(changed.clone())]).0;
    assert_eq!(text, "created mailbox user/joe/X (id 7, UIDVALIDITY 17, LSN 4)\n");
    let json = print(&request, JSON, vec![Reply::Changed(changed)]).0;
    assert!(json.starts_with("{\"lsn\":4,\"changed\":true,\"name\":\"user/joe/X\""), "{json}");
}

#[test]
fn no_report_is_no_object() {
    let mut out = Vec::new();
    let single = ask(Request::RecoverReport { last: 1 }, Form::Single);
    let ended = Answer::new(&single, JSON).part(&mut out, Reply::Reports(vec![]));
    assert!(matches!(ended, Err(Stop::Failed(Failure { code: Code::NotFound, .. }))));
    assert!(out.is_empty());
}

/// An output that takes nothing.
struct Gone(io::ErrorKind);

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(self.0))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_is_told_apart_from_a_full_disk() {
    let part = |kind| Answer::new(&list(Form::Plain), PIPE).part(&mut Gone(kind), Reply::Mailboxes(vec![mailbox("a")]));
    assert!(matches!(part(io::ErrorKind::BrokenPipe), Err(Stop::Unread)));
    assert!(matches!(part(io::ErrorKind::StorageFull), Err(Stop::Failed(Failure { code: Code::Io, .. }))));
}

//! `import cyrus-list`: the mailboxes of another server, one conditional command each, so that a second run changes
//! nothing and a broken-off one is taken up by running it again.

use crate::cli::{CyrusListArgs, Global};
use crate::cyrus::{self, Import, Mapped, PartitionChange, Refused};
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::pipe::{Event, Pipe, Road};
use crate::render::notes::Progress;
use crate::render::{self, Style, notes, words::counted};
use crate::socket::Environment;
use crate::{ask, errand, files};
use proto::{Answer, Client, ClientError, Code, Failure, Reply, Request};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::mpsc;

/// Largest list that is read, in bytes: some five million mailboxes.
const LIST_BYTES_MAX: u64 = 2 << 30;

/// How it ended; the keys of --json.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Mailboxes made, or with --dry-run: that would be made.
    imported: u64,
    /// Mailboxes that were there already, as the list has them.
    unchanged: u64,
    /// Entries of deleted mailboxes.
    left_out: u64,
    refused: Vec<Refusal>,
    mapped_partitions: Vec<Mapping>,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Refusal {
    source: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Mapping {
    from: String,
    to: String,
    mailboxes: u64,
}

/// Imports the list; gives the exit code: 1 if an entry was refused.
///
/// # Errors
/// No such file (66), no list (65), no such target partition (68), those of the connection.
pub fn cyrus_list(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &CyrusListArgs,
) -> Outcome<u8> {
    let bytes = files::read(&args.file, LIST_BYTES_MAX)?;
    let mut list = cyrus::read(&bytes).map_err(|e| {
        let wrong = format!("{}: {e}", args.file.display());
        Stop::hint(Code::BadInput, wrong, "make the list with: ctl_mboxlist -d > FILE")
    })?;
    drop(bytes);
    let mut client = ask::connect_bulk(global, environment)?;
    let mut summary = Summary { dry_run: args.dry_run, ..Summary::default() };
    summary.mapped_partitions = map_partitions(&mut client, &mut list, &args.map_partition)?;
    let Mapped { imports, left_out, refused } = list;
    summary.left_out = left_out.len() as u64;
    for Refused { source, reason } in refused {
        summary.refuse(source, reason);
    }
    import(client, imports, &mut summary)?;
    errand::told(&summary, &summary.text());
    render::summary(out, style, &summary, &summary.text())?;
    if !summary.refused.is_empty() {
        notes::text("  next: correct what was refused, in the list or here, and run the same command again");
    }
    Ok(if summary.refused.is_empty() { DONE } else { PARTLY })
}

impl Summary {
    fn refuse(&mut self, source: String, reason: String) {
        notes::note(&format!("refused {source}: {reason}"));
        self.refused.push(Refusal { source, reason });
    }

    fn text(&self) -> Vec<String> {
        let verb = if self.dry_run { "would import" } else { "imported" };
        let line = format!(
            "{verb} {}, {} unchanged, {} left out (deleted there), {} refused",
            counted(self.imported, "mailbox"),
            self.unchanged,
            self.left_out,
            self.refused.len()
        );
        vec![line]
    }

    /// Takes what the daemon said of one entry.
    fn take(&mut self, source: String, answer: Answer) -> Result<(), Failure> {
        match answer {
            Ok(Reply::Changed(changed)) if changed.changed => self.imported += 1,
            Ok(_) => self.unchanged += 1,
            Err(failure) if is_about_the_entry(&failure) => self.refuse(source, failure.message),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

/// True if the next entry may fare better; false if the daemon or its store is in trouble.
fn is_about_the_entry(failure: &Failure) -> bool {
    matches!(
        failure.code,
        Code::BadInput | Code::NoUser | Code::NotFound | Code::Exists | Code::Usage | Code::OverQuota
    )
}

/// Puts the partitions of this store in the place of the list's and says so.
fn map_partitions(client: &mut Client, list: &mut Mapped, renamings: &[(String, String)]) -> Outcome<Vec<Mapping>> {
    let known: BTreeSet<String> = match call(client, &Request::PartitionList)? {
        Reply::Partitions(partitions) => partitions.into_iter().map(|partition| partition.name).collect(),
        other => return Err(unexpected(&other)),
    };
    let default = match call(client, &Request::ConfigShow { defaults: false })? {
        Reply::Config(values) => values.get("store.default_partition").map(|value| value.trim_matches('"').to_owned()),
        other => return Err(unexpected(&other)),
    };
    let default = default.unwrap_or_else(|| "the default partition".to_owned());
    let renamings: BTreeMap<String, String> = renamings.iter().cloned().collect();
    let changes = list.map_partitions(&renamings, &known).map_err(|target| {
        Stop::hint(
            Code::NotFound,
            format!("--map-partition names {target}, and there is no such partition here"),
            format!("storectl partition add {target} PATH, or choose one of: {}", join(&known)),
        )
    })?;
    let told = changes.into_iter().map(|PartitionChange { from, to, mailboxes }| {
        let why = if to.is_some() { "as asked" } else { "the default, since it does not exist here" };
        let to = to.unwrap_or_else(|| default.clone());
        notes::note(&format!("partition {from} becomes {to} ({why}): {}", counted(mailboxes, "mailbox")));
        Mapping { from, to, mailboxes }
    });
    Ok(told.collect())
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn call(client: &mut Client, request: &Request) -> Outcome<Reply> {
    client.call(request).map_err(|e| Stop::Failed(e.failure()))
}

fn unexpected(reply: &Reply) -> Stop {
    Stop::new(Code::Protocol, format!("the daemon gave an answer to something else: {reply:?}"))
}

/// One entry on its way.
#[derive(Debug)]
struct Entry {
    source: String,
    request: Request,
}

/// Asks for all of them; ends early if the daemon cannot go on.
fn import(client: Client, imports: Vec<Import>, summary: &mut Summary) -> Outcome<()> {
    let (events_in, events) = mpsc::channel();
    let total = imports.len() as u64;
    let mut pipe: Pipe<Box<Entry>> = Pipe::new(client, events_in).map_err(|e| Stop::Failed(e.failure()))?;
    let dry_run = summary.dry_run;
    let mut rest = imports.into_iter().map(|Import { source, command }| {
        let request = Request::Change { command, dry_run };
        Box::new(Entry { source, request })
    });
    let mut progress = Progress::new(total, "mailboxes");
    errand::size(total);
    let mut more = true;
    loop {
        while let Some((entry, answer)) = pipe.take() {
            let source = entry.source;
            summary.take(source.clone(), answer).map_err(|failure| stopped(failure, &source, summary, total))?;
            progress.advance();
            errand::advance();
        }
        while more && pipe.has_place() {
            match errand::check().map(|()| rest.next())? {
                Some(entry) => submit(&mut pipe, entry).map_err(|e| lost(&e, summary, total))?,
                None => more = false,
            }
        }
        if pipe.is_ready() {
            continue;
        }
        if !more && pipe.unanswered() == 0 {
            return Ok(());
        }
        pipe.flush(more).map_err(|e| lost(&e, summary, total))?;
        match events.recv() {
            Ok(Event::Answer(id, answer)) => pipe.answered(id, answer),
            Ok(Event::Lost(e)) => return Err(lost(&e, summary, total)),
            Ok(_) => {}
            Err(_) => return Err(Stop::new(Code::Bug, "the thread of the import is gone")),
        }
    }
}

fn submit(pipe: &mut Pipe<Box<Entry>>, entry: Box<Entry>) -> Result<(), ClientError> {
    match pipe.submit(entry, Road::Change, |entry| &entry.request) {
        Err((entry, e)) if !e.is_fatal() => {
            pipe.refuse(entry, e.failure());
            Ok(())
        }
        submitted => submitted.map_err(|(_, e)| e),
    }
}

/// The connection is gone.
fn lost(error: &ClientError, summary: &Summary, total: u64) -> Stop {
    let failure = error.failure();
    let mut failure = interrupted(failure, summary, total);
    failure.code = Code::Unavailable;
    Stop::Failed(failure)
}

/// The daemon cannot go on.
fn stopped(mut failure: Failure, source: &str, summary: &Summary, total: u64) -> Stop {
    failure.message = format!("{source}: {}", failure.message);
    Stop::Failed(interrupted(failure, summary, total))
}

fn interrupted(mut failure: Failure, summary: &Summary, total: u64) -> Failure {
    let done = summary.imported + summary.unchanged;
    failure.message = format!("import interrupted after {done} of {total} mailboxes: {}", failure.message);
    failure.hint = Some("run the same command again: what is there already is left as it is".to_owned());
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Act, Fake, changed};
    use proto::{Command, Partition};
    use std::path::PathBuf;

    const JSON: Style = Style { json: true, tty: false };

    /// A daemon with two partitions that does what it has not done before, and is in trouble at names with `full`.
    fn daemon() -> Fake {
        let mut there = BTreeSet::new();
        Fake::start(move |request| match request {
            Request::PartitionList => {
                let partition = |name: &str| Partition {
                    name: name.into(),
                    path: String::new(),
                    messages: None,
                    id: String::new(),
                    state: "ok".into(),
                    free_bytes: None,
                    users: 0,
                    mailboxes: 0,
                    why: None,
                    behind_lsn: None,
                    log_bytes: 0,
                    log_bytes_max: 0,
                };
                Act::Reply(Reply::Partitions(vec![partition("primary"), partition("disk2")]))
            }
            Request::ConfigShow { .. } => {
                let value = ("store.default_partition".to_owned(), "\"primary\"".to_owned());
                Act::Reply(Reply::Config(BTreeMap::from([value])))
            }
            Request::Change { command, dry_run } => {
                let name = command.target().to_owned();
                if name.contains("bad") {
                    return Act::Refuse(Failure::new(Code::BadInput, "a bad name"));
                }
                if name.contains("full") {
                    return Act::Refuse(Failure::new(Code::Busy, "the disk is full"));
                }
                let new = if *dry_run { !there.contains(&name) } else { there.insert(name) };
                Act::Reply(Reply::Changed(proto::Changed { changed: new, ..changed(1, command) }))
            }
            _ => Act::Refuse(Failure::new(Code::Bug, "not asked for by an import")),
        })
    }

    fn run(fake: &Fake, list: &str, args: &str) -> (Outcome<u8>, serde_json::Value) {
        let file = fake.dir().join("list.json");
        #[expect(clippy::disallowed_methods, reason = "a test")]
        std::fs::write(&file, list).unwrap();
        with_file(fake, file, args)
    }

    fn with_file(fake: &Fake, file: PathBuf, args: &str) -> (Outcome<u8>, serde_json::Value) {
        use clap::Parser;
        let words = format!("storectl import cyrus-list {} {args}", file.display());
        let cli = crate::cli::Cli::try_parse_from(words.split_whitespace()).unwrap();
        let crate::cli::Verb::Import(crate::cli::ImportVerb::CyrusList(args)) = cli.verb else { panic!("{words}") };
        let global = Global { data_dir: Some(fake.dir()), ..Global::default() };
        let mut out = Vec::new();
        let end = cyrus_list(&global, &Environment::default(), JSON, &mut out, &args);
        (end, serde_json::from_slice(&out).unwrap_or_default())
    }

    const LIST: &str = r#"{
        "user.joe": {"uidvalidity": "7", "partition": "default", "acl": {"joe": "lrswipkxtecdan"}},
        "user.joe.Sub": {"uidvalidity": "8", "partition": "disk2", "acl": {}},
        "user.joe.old": {"mbtype": "d", "partition": "default", "acl": {}}
    }"#;

    #[test]
    fn a_second_run_changes_nothing() {
        let fake = daemon();
        let (end, said) = run(&fake, LIST, "");
        assert_eq!(end.unwrap(), DONE);
        let counts =
            |said: &serde_json::Value| ["imported", "unchanged", "left_out"].map(|key| said[key].as_u64().unwrap());
        assert_eq!(counts(&said), [2, 0, 1]);
        assert_eq!(said["refused"], serde_json::json!([]));
        assert_eq!(
            said["mapped_partitions"],
            serde_json::json!([{"from": "default", "to": "primary", "mailboxes": 1}])
        );
        let (end, said) = run(&fake, LIST, "");
        assert_eq!(end.unwrap(), DONE);
        assert_eq!(counts(&said), [0, 2, 1]);
    }

    #[test]
    fn partitions_go_where_they_are_sent() {
        let fake = daemon();
        let (end, said) = run(&fake, LIST, "--map-partition default=disk2 --dry-run");
        assert_eq!(end.unwrap(), DONE);
        assert_eq!(said["mapped_partitions"][0]["to"], "disk2");
        assert_eq!(said["dry_run"], true);
        let asked: Vec<Request> = fake.asked.try_iter().collect();
        let sent = |request: &&Request| {
            matches!(request, Request::Change { command: Command::ImportMailbox { partition: Some(p), .. }, dry_run: true }
                if p == "disk2")
        };
        assert_eq!(asked.iter().filter(sent).count(), 2);
        let (end, _) = run(&fake, LIST, "--map-partition default=nowhere");
        assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::NotFound && f.message.contains("nowhere")));
    }

    #[test]
    fn refused_entries_do_not_stop_the_rest() {
        let list = r#"{"user.joe": {}, "user.bad": {}, "d!shared.x": {}, "d!x": {}, "user.&": {}}"#;
        let (end, said) = run(&daemon(), list, "");
        assert_eq!(end.unwrap(), PARTLY);
        assert_eq!(said["imported"], 1);
        let mut refused: Vec<&str> =
            said["refused"].as_array().unwrap().iter().map(|r| r["source"].as_str().unwrap()).collect();
        refused.sort_unstable();
        assert_eq!(refused, ["d!shared.x", "d!x", "user.&", "user.bad"]);
    }

    #[test]
    fn a_daemon_in_trouble_ends_the_import() {
        let (end, _) = run(&daemon(), r#"{"user.joe": {}, "user.full": {}}"#, "");
        let Err(Stop::Failed(failure)) = end else { panic!("{end:?}") };
        assert_eq!(failure.code, Code::Busy);
        assert!(failure.message.starts_with("import interrupted after 1 of 2 mailboxes: user.full: "), "{failure}");
        assert!(failure.hint.unwrap().contains("again"));
    }

    #[test]
    fn wrong_files_have_their_codes() {
        let fake = daemon();
        for list in ["", "not json", "7", "\"x\""] {
            let (end, _) = run(&fake, list, "");
            assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::BadInput), "{list}");
        }
        let (end, _) = with_file(&fake, fake.dir().join("none.json"), "");
        assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::NoInput));
        let (end, _) = with_file(&fake, fake.dir(), "");
        assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::NoInput));
        assert_eq!(fake.asked.try_iter().count(), 0);
    }
}

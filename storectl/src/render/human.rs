//! Answers for people: tables, aligned lines, sentences.

use super::ageing;
use super::backup;
use super::change;
use super::check;
use super::jobs;
use super::locks;
use super::reconstruct;
use super::snapshot;
use super::status;
use super::table::{Column, Grid, number, pairs, text};
use super::words::{bytes, counted, duration, printable, rights};
use crate::commands::{Ask, Form};
use proto::{Mailbox, MailboxDetail, Partition, Quota, Record, Reply, Request, Resource, UserDetail, Verified, Work};
use std::io::{self, Write};

const SEGMENTS: &[Column] =
    &[text("FILE"), number("FIRST LSN"), number("LAST LSN"), number("SIZE"), text("STATE"), text("KEPT FOR")];
const USERS: &[Column] = &[text("USER"), text("PARTITION"), number("MAILBOXES")];
const NAMES: &[Column] = &[text("NAME")];
const MAILBOXES: &[Column] = &[
    text("NAME"),
    number("ID"),
    number("UIDVALIDITY"),
    number("UIDNEXT"),
    number("MESSAGES"),
    number("SIZE"),
    text("PARTITION"),
    text("PATH"),
    text("RIGHTS"),
];
const ACL: &[Column] = &[text("IDENTIFIER"), text("RIGHTS")];
const PARTITIONS: &[Column] =
    &[text("NAME"), text("STATE"), number("FREE"), number("USERS"), number("MAILBOXES"), text("PATH")];
const QUOTAS: &[Column] = &[
    text("ROOT"),
    number("USED"),
    number("LIMIT"),
    number("%"),
    number("MESSAGES"),
    number("LIMIT"),
    number("%"),
    text("OVER SINCE"),
    text("MAIL"),
];
const RECALCULATED: &[Column] =
    &[text("ROOT"), number("USED"), number("COUNTED"), number("MESSAGES"), number("COUNTED"), number("LSN")];
const MISSING: &[Column] = &[text("MAILBOX"), text("STATE")];
const SNAPSHOTS: &[Column] = &[text("ID"), text("TIME"), number("LSN"), number("SIZE"), text("STATE"), text("PATH")];
const FINDINGS: &[Column] = &[text("WHERE"), text("WHAT"), text("EXPECTED"), text("FOUND")];
const RECORDS: &[Column] = &[number("LSN"), text("TIME"), text("ACTION"), text("TABLE"), text("KEY"), text("ROW")];

const MESSAGES: &[Column] =
    &[number("UID"), number("SIZE"), text("DATE"), text("FLAGS"), number("MODSEQ"), text("DIGEST")];
const EXPUNGED: &[Column] = &[
    number("UID"),
    number("SIZE"),
    text("DATE"),
    text("FLAGS"),
    number("MODSEQ"),
    text("DIGEST"),
    text("EXPUNGED"),
    text("PURGE DUE"),
];
const DELETED: &[Column] = &[
    text("NAME"),
    number("ID"),
    number("UIDVALIDITY"),
    number("MESSAGES"),
    number("SIZE"),
    text("DELETED"),
    text("PURGE DUE"),
];
const DELIVERED: &[Column] = &[text("MAILBOX"), number("UID"), number("UIDVALIDITY"), number("SIZE"), text("DIGEST")];

/// The columns of a list, `None` for answers that are no list.
fn columns(reply: &Reply, form: Form) -> Option<&'static [Column]> {
    Some(match reply {
        Reply::Segments(_) if matches!(form, Form::Segments { names: true, .. }) => NAMES,
        Reply::Segments(_) => SEGMENTS,
        Reply::Users(_) => USERS,
        Reply::Mailboxes(_) if form == Form::Long => MAILBOXES,
        Reply::Mailboxes(_) | Reply::Subscriptions(_) => NAMES,
        Reply::Partitions(_) => PARTITIONS,
        Reply::Records(_) => RECORDS,
        Reply::Acl(_) => ACL,
        Reply::Quotas(_) => QUOTAS,
        Reply::Recalculated(_) => RECALCULATED,
        Reply::MissingSubscriptions(_) => MISSING,
        Reply::Snapshots(_) => SNAPSHOTS,
        Reply::Jobs(_) => jobs::COLUMNS,
        Reply::Messages(_) => MESSAGES,
        Reply::ExpungedMessages(_) => EXPUNGED,
        Reply::DeletedMailboxes(_) => DELETED,
        Reply::Delivered(_) => DELIVERED,
        _ => return None,
    })
}

/// Prints an answer or the next part of it. `grid` is the list that goes on.
///
/// # Errors
/// Those of `out`.
pub fn part(out: &mut dyn Write, grid: &mut Option<Grid>, ask: &Ask, reply: Reply, tty: bool) -> io::Result<()> {
    if let Some(columns) = columns(&reply, ask.form) {
        // Names that stand alone need no heading: the list is what was asked for.
        let tty = tty && columns.len() > 1;
        return grid.get_or_insert_with(|| Grid::new(columns, tty)).rows(out, rows(reply, ask.form, tty));
    }
    document(out, ask, reply, tty)
}

/// The rows of a list, in the order of its columns; sizes with units on a terminal, in bytes for a script.
fn rows(reply: Reply, form: Form, tty: bool) -> Vec<Vec<String>> {
    match reply {
        Reply::Segments(x) => x.into_iter().map(|segment| segment_row(segment, form, tty)).collect(),
        Reply::Users(x) => x.into_iter().map(|u| vec![u.user, u.partition, u.mailboxes.to_string()]).collect(),
        Reply::Mailboxes(x) if form == Form::Long => x.iter().map(|mailbox| mailbox_row(mailbox, tty)).collect(),
        Reply::Mailboxes(x) => x.into_iter().map(|mailbox| vec![mailbox.name]).collect(),
        Reply::Subscriptions(x) => x.into_iter().map(|name| vec![name]).collect(),
        Reply::Partitions(x) => x.into_iter().map(|partition| partition_row(partition, tty)).collect(),
        Reply::Records(x) => x.into_iter().flat_map(record_rows).collect(),
        Reply::Acl(x) => x.acl.into_iter().map(|(who, rights)| vec![who, rights]).collect(),
        Reply::Quotas(x) => x.into_iter().map(|quota| quota_row(quota, tty)).collect(),
        Reply::Recalculated(x) => x.into_iter().map(|root| recalculated_row(root, tty)).collect(),
        Reply::Jobs(x) => x.into_iter().map(jobs::row).collect(),
        Reply::Snapshots(x) => x.into_iter().map(|s| snapshot_row(s, tty)).collect(),
        Reply::Messages(x) => x.into_iter().map(|message| message_row(message, tty)).collect(),
        Reply::ExpungedMessages(x) => x.into_iter().map(|message| expunged_row(message, tty)).collect(),
        Reply::DeletedMailboxes(x) => x.into_iter().map(|mailbox| deleted_row(mailbox, tty)).collect(),
        Reply::Delivered(x) => x.into_iter().map(|done| delivered_row(done, tty)).collect(),
        Reply::MissingSubscriptions(x) => x.into_iter().map(|s| vec![s.mailbox, s.state]).collect(),
        _ => Vec::new(),
    }
}

fn message_row(m: proto::Message, tty: bool) -> Vec<String> {
    let flags = m.flags.join(" ");
    vec![m.uid.to_string(), size(m.size, tty), m.internal_date, flags, m.modseq.to_string(), m.digest]
}

fn expunged_row(m: proto::ExpungedMessage, tty: bool) -> Vec<String> {
    let (flags, due) = (m.flags.join(" "), m.purge_due.unwrap_or_else(never));
    let modseq = m.modseq.to_string();
    vec![m.uid.to_string(), size(m.size, tty), m.internal_date, flags, modseq, m.digest, m.expunged, due]
}

fn deleted_row(m: proto::DeletedMailbox, tty: bool) -> Vec<String> {
    let due = m.purge_due.unwrap_or_else(never);
    let [id, uidvalidity, messages] = [m.id, u64::from(m.uidvalidity), m.messages].map(|n| n.to_string());
    vec![m.name, id, uidvalidity, messages, size(m.bytes, tty), m.deleted, due]
}

fn never() -> String {
    "never".to_owned()
}

fn delivered_row(d: proto::Delivered, tty: bool) -> Vec<String> {
    vec![d.mailbox, d.uid.to_string(), d.uidvalidity.to_string(), size(d.size, tty), d.digest]
}

fn size(count: u64, tty: bool) -> String {
    if tty { bytes(count) } else { count.to_string() }
}

fn segment_row(s: proto::Segment, form: Form, tty: bool) -> Vec<String> {
    let (absolute, names) = match form {
        Form::Segments { absolute, names } => (absolute, names),
        _ => (false, false),
    };
    let file = if absolute { s.path } else { s.file };
    if names {
        return vec![file];
    }
    let last = s.last_lsn.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string());
    let kept = if s.kept_for.is_empty() { "nothing: may be removed".to_owned() } else { s.kept_for.join(", ") };
    vec![file, s.first_lsn.to_string(), last, size(s.bytes, tty), s.state, kept]
}

fn snapshot_row(s: proto::Snapshot, tty: bool) -> Vec<String> {
    let state = match s.problems.first() {
        Some(problem) => format!("bad: {problem}"),
        None if s.verified => "verified".to_owned(),
        None => "not verified".to_owned(),
    };
    vec![s.id, s.time, s.lsn.to_string(), size(s.size, tty), state, s.path]
}

fn mailbox_row(m: &Mailbox, tty: bool) -> Vec<String> {
    vec![
        m.name.clone(),
        m.id.to_string(),
        m.uidvalidity.to_string(),
        m.uidnext.to_string(),
        m.messages.to_string(),
        size(m.bytes, tty),
        m.partition.clone(),
        m.path.clone(),
        rights(&m.acl),
    ]
}

fn partition_row(p: Partition, tty: bool) -> Vec<String> {
    let free = p.free_bytes.map_or_else(|| "-".to_owned(), |free| size(free, tty));
    let path = match p.messages {
        Some(messages) => format!("{}, messages ({}) in {}", p.path, messages.state, messages.path),
        None => p.path,
    };
    vec![p.name, p.state, free, p.users.to_string(), p.mailboxes.to_string(), path]
}

fn quota_row(q: Quota, tty: bool) -> Vec<String> {
    let or_none = |limit: Option<u64>, show: fn(u64, bool) -> String| match limit {
        Some(limit) => show(limit, tty),
        None => "-".to_owned(),
    };
    let plain: fn(u64, bool) -> String = |count, _| count.to_string();
    let mail = mail_for(&q);
    let (storage, messages) = (q.storage, q.messages);
    vec![
        q.root,
        size(storage.usage, tty),
        or_none(storage.limit, size),
        percent(&storage),
        messages.usage.to_string(),
        or_none(messages.limit, plain),
        percent(&messages),
        q.over_since.unwrap_or_else(|| "-".to_owned()),
        mail,
    ]
}

/// Whether mail for a root is taken.
fn mail_for(q: &Quota) -> String {
    match q.grace_left {
        None => "taken".to_owned(),
        Some(left) if left > 0 => format!("taken for {}", duration(left as f64)),
        Some(_) => "refused".to_owned(),
    }
}

/// How much of a limit is used, rounded down: 100 is never shown while there is room.
fn percent(resource: &Resource) -> String {
    match resource.limit {
        None => "-".to_owned(),
        Some(0) => "100".to_owned(),
        Some(limit) => (u128::from(resource.usage) * 100 / u128::from(limit)).to_string(),
    }
}

fn recalculated_row(r: proto::Recalculated, tty: bool) -> Vec<String> {
    let (storage, messages) = (r.storage, r.messages);
    let lsn = if r.lsn > 0 { r.lsn.to_string() } else { "-".to_owned() };
    let [used, counted] = [storage.from, storage.to].map(|bytes| size(bytes, tty));
    vec![r.root, used, counted, messages.from.to_string(), messages.to.to_string(), lsn]
}

/// One row for each change of a record; one for a record without changes.
fn record_rows(record: Record) -> Vec<Vec<String>> {
    let start = |action: String| vec![record.lsn.to_string(), record.time.clone(), action];
    if record.changes.is_empty() {
        let mut row = start(record.kind.clone());
        row.extend(std::iter::repeat_n(String::new(), RECORDS.len() - row.len()));
        return vec![row];
    }
    let row = |change: &proto::ChangeLine| {
        let mut row = start(change.action.clone());
        row.extend([change.table.clone(), change.key.clone(), change.row.clone().unwrap_or_default()]);
        row
    };
    record.changes.iter().map(row).collect()
}

/// Prints an answer that is no list.
fn document(out: &mut dyn Write, ask: &Ask, reply: Reply, tty: bool) -> io::Result<()> {
    match reply {
        Reply::Status(x) => status::status(out, &x),
        Reply::Stats(x) => status::stats(out, &x),
        Reply::Reports(x) => {
            for (at, report) in x.iter().enumerate() {
                if at > 0 {
                    writeln!(out)?;
                }
                status::report(out, report)?;
            }
            Ok(())
        }
        Reply::Checkpoint(x) => {
            let retired = if x.retired.is_empty() { "none".to_owned() } else { x.retired.join(", ") };
            pairs(out, &[("lsn", x.lsn.to_string()), ("duration", duration(x.duration)), ("retired", retired)])
        }
        Reply::Verified(x) => verified(out, &x, tty),
        Reply::Job(x) => jobs::job(out, &x),
        Reply::SnapshotTaken(x) => snapshot::taken(out, &x),
        Reply::Drilled(x) => backup::drilled(out, &x),
        Reply::Reconstructed(x) => reconstruct::reconstructed(out, &x),
        Reply::Aged(x) => ageing::aged(out, &x, tty),
        Reply::Told(x) => x.lines.iter().try_for_each(|line| writeln!(out, "{}", printable(line))),
        Reply::Checked(x) => check::checked(out, &ask.request, &x),
        Reply::Completed(x) => backup::completed(out, &x),
        Reply::BackedUp(x) => backup::backed_up(out, &x, ask.form == Form::Steps),
        Reply::SnapshotsVerified(x) => x.iter().try_for_each(|one| snapshot::verified(out, one)),
        Reply::SnapshotsRemoved(x) if x.removed.is_empty() => writeln!(out, "nothing to remove"),
        Reply::SnapshotsRemoved(x) => x.removed.iter().try_for_each(|id| writeln!(out, "removed {}", printable(id))),
        Reply::UserDetail(x) => user(out, &x),
        Reply::MailboxDetail(x) => mailbox(out, &x),
        Reply::Partition(x) => partition(out, &x),
        Reply::Message(x) => message(out, &x),
        // What `backup` reads goes into its archive and is not shown.
        Reply::Backup(_) => Ok(()),
        Reply::MessageBytes(x) => out.write_all(&x),
        Reply::MyRights(x) => writeln!(out, "{}", printable(&x.rights)),
        Reply::Grantable(x) => {
            let lines = [
                ("mailbox", x.name),
                ("identifier", x.identifier),
                ("has", if x.required.is_empty() { "nothing".to_owned() } else { x.required }),
                ("can be given", x.optional.concat()),
            ];
            pairs(out, &lines)
        }
        Reply::Hashdir(x) => {
            std::iter::once(&x.directory).chain(&x.messages).try_for_each(|dir| writeln!(out, "{}", printable(dir)))
        }
        Reply::Quota(x) => pairs(out, &quota(&x)),
        Reply::Metrics(x) => out.write_all(x.as_bytes()),
        Reply::Maintenance(None) => writeln!(out, "no maintenance"),
        Reply::Maintenance(Some(x)) => writeln!(out, "{}", status::maintenance(&x)),
        Reply::Config(x) => x.iter().try_for_each(|(key, value)| writeln!(out, "{key} = {}", printable(value))),
        Reply::Reloaded(x) => reloaded(out, &x),
        Reply::Locks(x) if ask.form == Form::Stuck => locks::why_stuck(out, &x),
        Reply::Locks(x) => locks::tables(out, &x, tty),
        Reply::Lock(x) => writeln!(out, "lease {} on {} has ended (process {})", x.id, printable(&x.resource), x.pid),
        Reply::Changed(x) => match &ask.request {
            Request::Change { command, dry_run } => writeln!(out, "{}", change::sentence(command, *dry_run, &x)),
            Request::UserMove { user, to } | Request::JobStart { work: Work::UserMove { user, to }, .. } => {
                writeln!(out, "{}", change::moved(user, to, &x))
            }
            _ if !x.changed => writeln!(out, "nothing had to be changed"),
            _ => writeln!(out, "done (LSN {})", x.lsn),
        },
        Reply::Done(_) if ask.form == Form::Silent => Ok(()),
        Reply::Health(x) => unusable(&x).iter().try_for_each(|line| writeln!(out, "{line}")),
        Reply::Done(_) => writeln!(out, "done"),
        other => super::json::compact(out, &other.to_json()).and_then(|()| writeln!(out)),
    }
}

/// `health` of a store that is ready in part: a line for each partition that is not.
pub fn unusable(health: &proto::Health) -> Vec<String> {
    let line = |one: &proto::Unusable| {
        format!("ready, but partition {} cannot be used: {}", printable(&one.partition), printable(&one.why))
    };
    health.unusable.iter().map(line).collect()
}

fn reloaded(out: &mut dyn Write, r: &proto::Reloaded) -> io::Result<()> {
    let Some(file) = &r.file else {
        return writeln!(out, "the daemon was started without a configuration file");
    };
    let nothing = r.changed.is_empty() && r.pending.is_empty();
    writeln!(out, "{}: {}", printable(file), if nothing { "nothing has changed" } else { "good" })?;
    for (changes, when) in [(&r.changed, "in force"), (&r.pending, "waits for: storectl restart")] {
        for change in changes {
            let (option, from, to) = (printable(&change.option), printable(&change.from), printable(&change.to));
            let [from, to] = [from, to].map(|value| if value.is_empty() { "nothing".into() } else { value });
            writeln!(out, "{option}: {from} -> {to} ({when})")?;
        }
    }
    Ok(())
}

fn verified(out: &mut dyn Write, v: &Verified, tty: bool) -> io::Result<()> {
    let rows = v.findings.iter().map(|f| vec![f.r#where.clone(), f.what.clone(), f.expected.clone(), f.found.clone()]);
    Grid::new(FINDINGS, tty).rows(out, rows.collect())?;
    let read = format!("{}, {}, {}", counted(v.segments, "segment"), counted(v.records, "record"), bytes(v.bytes));
    match v.findings.len() as u64 {
        0 => writeln!(out, "{read}: all good"),
        findings => writeln!(out, "{read}: {}", counted(findings, "finding")),
    }
}

fn user(out: &mut dyn Write, u: &UserDetail) -> io::Result<()> {
    let mut lines = vec![
        ("user", u.user.clone()),
        ("id", u.id.to_string()),
        ("partition", u.partition.clone()),
        ("directory", u.directory.clone()),
        ("created", u.created.clone()),
        ("mailboxes", u.mailboxes.to_string()),
    ];
    lines.extend(u.quota.iter().flat_map(|q| quota(q).into_iter().skip(1)));
    lines.push(("subscribed", u.subscriptions.len().to_string()));
    pairs(out, &lines)
}

fn mailbox(out: &mut dyn Write, detail: &MailboxDetail) -> io::Result<()> {
    let m = &detail.mailbox;
    let mut lines = vec![
        ("name", m.name.clone()),
        ("id", m.id.to_string()),
        ("created", detail.created.clone()),
        ("uidvalidity", m.uidvalidity.to_string()),
        ("uidnext", m.uidnext.to_string()),
        ("highest modseq", detail.highest_modseq.to_string()),
        ("messages", format!("{}, {} unseen", m.messages, detail.unseen)),
        ("size", format!("{} ({})", m.bytes, bytes(m.bytes))),
        ("partition", m.partition.clone()),
        ("path", m.path.clone()),
        ("rights", rights(&m.acl)),
        ("flags", detail.flags.join(" ")),
    ];
    if detail.name_utf7 != m.name {
        lines.push(("modified UTF-7", detail.name_utf7.clone()));
    }
    lines.retain(|(_, value)| !value.is_empty());
    pairs(out, &lines)
}

fn message(out: &mut dyn Write, detail: &proto::MessageDetail) -> io::Result<()> {
    let m = &detail.message;
    let mut lines = vec![
        ("mailbox", detail.mailbox.clone()),
        ("uid", m.uid.to_string()),
        ("uidvalidity", detail.uidvalidity.to_string()),
        ("state", detail.state.clone()),
        ("size", format!("{} ({}), header {}", m.size, bytes(m.size), detail.header_size)),
        ("date", m.internal_date.clone()),
        ("saved", detail.saved.clone()),
        ("flags", m.flags.join(" ")),
        ("modseq", m.modseq.to_string()),
        ("digest", m.digest.clone()),
    ];
    lines.extend(detail.expunged.clone().map(|expunged| ("expunged", expunged)));
    lines.retain(|(_, value)| !value.is_empty());
    pairs(out, &lines)?;
    writeln!(out)?;
    // A tab is usual there, and drives no terminal.
    let line = |line: &str| line.split('\t').map(printable).collect::<Vec<_>>().join("\t");
    detail.header.lines().try_for_each(|text| writeln!(out, "{}", line(text)))
}

fn partition(out: &mut dyn Write, p: &Partition) -> io::Result<()> {
    let free = p.free_bytes.map_or_else(|| "unknown".to_owned(), bytes);
    let lines = [
        ("name", p.name.clone()),
        ("state", p.state.clone()),
        ("path", p.path.clone()),
        ("id", p.id.clone()),
        ("free", free),
        ("users", p.users.to_string()),
        ("mailboxes", p.mailboxes.to_string()),
    ];
    let mut lines = Vec::from(lines);
    lines.extend(p.why.clone().map(|why| ("why", why)));
    if let Some(root) = &p.messages {
        let free = root.free_bytes.map_or_else(|| "unknown".to_owned(), bytes);
        let why = root.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(("messages in", root.path.clone()));
        lines.push(("its state", format!("{}{why}", root.state)));
        lines.push(("free there", free));
    }
    if let Some(lsn) = p.behind_lsn {
        lines.push(("lacks", format!("what came behind LSN {lsn}")));
        lines.push((
            "log kept",
            format!("{}; from {} on it takes no more mail", bytes(p.log_bytes), bytes(p.log_bytes_max)),
        ));
    }
    pairs(out, &lines)
}

fn quota(q: &Quota) -> Vec<(&'static str, String)> {
    let of = |r: &Resource, show: fn(u64) -> String| match r.limit {
        Some(limit) => format!("{} of {}", show(r.usage), show(limit)),
        None => format!("{}, no limit", show(r.usage)),
    };
    let plain: fn(u64) -> String = |n| n.to_string();
    let mut lines =
        vec![("root", q.root.clone()), ("storage", of(&q.storage, bytes)), ("messages", of(&q.messages, plain))];
    if let Some(since) = &q.over_since {
        lines.push(("over since", since.clone()));
        lines.push(("mail", mail_for(q)));
    }
    lines
}

//! `export maildir` and `export mbox`. Bytes are compared with their digests before they are written.

use super::About;
use super::house::{House, unexpected, unreadable};
use super::maildir::mark::{self, Holds};
use super::maildir::write::Export;
use super::mbox::{Letter, Writer};
use super::summary::Summary;
use crate::ask;
use crate::cli::{ExportMaildirArgs, ExportMboxArgs, Global};
use crate::errand;
use crate::exit::{Outcome, Stop};
use crate::files;
use crate::render::Style;
use crate::render::notes::Progress;
use crate::render::words::counted;
use crate::socket::Environment;
use proto::naming::quoted;
use proto::{Code, Mailbox, Message, Reply, Request};
use std::io::{self, BufWriter, Write};

fn about(message: &Message) -> About {
    About { flags: message.flags.clone(), date: message.internal_date.parse().ok() }
}

/// The bytes of a message, or `None` if it was refused: one that is damaged does not keep the others back.
fn bytes(house: &mut House, summary: &mut Summary, mailbox: &str, message: &Message) -> Outcome<Option<Vec<u8>>> {
    match house.bytes(mailbox, message) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Stop::Failed(failure)) => {
            summary.failed(format!("{mailbox} {}", message.uid), failure)?;
            Ok(None)
        }
        Err(stop) => Err(stop),
    }
}

/// Writes a user's mailboxes as a Maildir++.
///
/// # Errors
/// No such user (67), a directory that holds something else (73), those of the file system, those of the connection.
pub fn maildir(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &ExportMaildirArgs,
) -> Outcome<u8> {
    let shown = args.dir.display().to_string();
    let wrong = |e: io::Error| unreadable(&shown, &e);
    let mut house = House::new(ask::connect_bulk(global, environment)?)?;
    let subscriptions = match house.ask(Request::UserShow { user: args.user.clone() })? {
        Reply::UserDetail(user) => user.subscriptions,
        other => return Err(unexpected(&other)),
    };
    let prefix = format!("user/{}/", args.user);
    let mailboxes = match house.ask(Request::MailboxList { pattern: format!("{prefix}*") })? {
        Reply::Mailboxes(mailboxes) => mailboxes,
        other => return Err(unexpected(&other)),
    };
    let held = mark::look(&args.dir).map_err(wrong)?;
    let is_new = may_come(&held, args)?;
    let export = Export::at(&args.dir).map_err(wrong)?;
    if is_new {
        mark::put(&args.dir, &args.user).map_err(wrong)?;
    }
    let mut summary = Summary::default();
    let total = mailboxes.iter().map(|mailbox| mailbox.messages).sum();
    let mut progress = Progress::new(total, "messages");
    errand::size(total);
    for mailbox in &mailboxes {
        errand::at(&mailbox.name);
        let mut folder = match export.folder(&folder_of(&mailbox.name, &prefix)) {
            Ok(folder) => folder,
            // It keeps the others from nothing.
            Err(e) if e.kind() == io::ErrorKind::InvalidFilename => {
                let left = counted(mailbox.messages, "message");
                let text = format!("{left} of it: its name is too long for a Maildir; storectl export mbox takes it");
                summary.refuse(mailbox.name.clone(), text);
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                summary.refuse(mailbox.name.clone(), format!("{} of it: {e}", counted(mailbox.messages, "message")));
                continue;
            }
            Err(e) => return Err(wrong(e)),
        };
        for message in house.messages(&mailbox.name)?.into_iter().flatten() {
            errand::check()?;
            errand::advance();
            progress.advance();
            let (unique, about) = (unique(mailbox, &message), about(&message));
            let source = || format!("{} {}", mailbox.name, message.uid);
            let left = match folder.refresh(&unique, message.size, &about).map_err(wrong)? {
                Some(left) => {
                    summary.unchanged += 1;
                    left
                }
                None => {
                    let Some(bytes) = bytes(&mut house, &mut summary, &mailbox.name, &message)? else { continue };
                    summary.messages += 1;
                    summary.bytes += bytes.len() as u64;
                    folder.message(&unique, &bytes, &about).map_err(wrong)?
                }
            };
            if !left.is_empty() {
                summary.not_kept(source(), format!("keywords {}: a Maildir has room for 26", left.join(" ")));
            }
        }
    }
    let folders: Vec<Vec<String>> =
        subscriptions.iter().filter(|name| name.starts_with(&prefix)).map(|name| subscribed(name, &prefix)).collect();
    export.subscriptions(&folders).map_err(wrong)?;
    summary.end(out, style, "exported")
}

/// Whether a user's mail may come into a directory that holds this; true if it is the first.
fn may_come(held: &Holds, args: &ExportMaildirArgs) -> Outcome<bool> {
    let holds = match held {
        Holds::Nothing => return Ok(true),
        Holds::MailOf(user) if *user == args.user => return Ok(false),
        Holds::MailOf(user) => format!("holds the mail of {user}; that of {} is not put among it", args.user),
        Holds::Others => "is not empty, and no export has made it".to_owned(),
    };
    let (dir, user) = (args.dir.display().to_string(), quoted(&args.user));
    let other = format!("{}-{}", dir.trim_end_matches('/'), args.user);
    let hint = format!("storectl export maildir {} --user {user}", quoted(&other));
    Err(Stop::hint(Code::Exists, format!("{dir} {holds}"), hint))
}

/// The components of a mailbox below its user; none for INBOX.
fn folder_of(name: &str, prefix: &str) -> Vec<String> {
    let folder = name.strip_prefix(prefix).unwrap_or(name);
    if folder == "INBOX" { Vec::new() } else { folder.split('/').map(str::to_owned).collect() }
}

fn subscribed(name: &str, prefix: &str) -> Vec<String> {
    name.strip_prefix(prefix).unwrap_or(name).split('/').map(str::to_owned).collect()
}

/// What names a message in its folder for ever: its UID and UIDVALIDITY; before them its date, as is usual.
fn unique(mailbox: &Mailbox, message: &Message) -> String {
    let second = about(message).date.map_or(0, |date| date.as_second().max(0));
    format!("{second}.V{}U{}.storedd", mailbox.uidvalidity, message.uid)
}

/// Writes a mailbox as an mbox.
///
/// # Errors
/// No such mailbox (68), a file that is there already (73), those of the file system and of the connection.
pub fn mbox(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &ExportMboxArgs,
) -> Outcome<u8> {
    let shown = args.file.display().to_string();
    let wrong = |e: io::Error| unreadable(&shown, &e);
    let mailbox = args.place.mailbox();
    let mut house = House::new(ask::connect_bulk(global, environment)?)?;
    // A mailbox that is not there is told by name.
    house.ask(Request::MailboxShow { name: mailbox.clone() })?;
    let messages = house.messages(&mailbox)?.unwrap_or_default();
    let file = files::Fresh::at(&args.file)?;
    let mut writer = Writer::new(BufWriter::new(file), args.dialect.dialect());
    let mut summary = Summary::default();
    let mut progress = Progress::new(messages.len() as u64, "messages");
    errand::size(messages.len() as u64);
    for message in &messages {
        errand::check()?;
        errand::advance();
        progress.advance();
        let Some(bytes) = bytes(&mut house, &mut summary, &mailbox, message)? else { continue };
        let letter = Letter { sender: sender(&bytes), about: about(message), bytes };
        summary.messages += 1;
        summary.bytes += letter.bytes.len() as u64;
        if !writer.put(&letter).map_err(wrong)? {
            let text = "some of its bytes: this dialect cannot say them; mboxcl2 can";
            summary.not_kept(format!("{mailbox} {}", message.uid), text);
        }
    }
    let file = writer.finish().map_err(wrong)?.into_inner().map_err(|e| wrong(e.into_error()))?;
    file.put()?;
    summary.end(out, style, "exported")
}

/// The sender that stands before a message which came by mail.
fn sender(bytes: &[u8]) -> String {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let path = text.get(..12).filter(|name| name.eq_ignore_ascii_case("Return-Path:")).and_then(|_| text.get(12..));
    path.map_or("", |path| path.trim().trim_start_matches('<').trim_end_matches('>')).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_senders() {
        assert_eq!(folder_of("user/joe/INBOX", "user/joe/"), [""; 0]);
        assert_eq!(folder_of("user/joe/a/b", "user/joe/"), ["a", "b"]);
        assert_eq!(sender(b"Return-Path: <a@b>\r\nA: b\r\n"), "a@b");
        assert_eq!(sender(b"return-path:<>\n"), "");
        assert_eq!(sender(b"A: b\n"), "");
        assert_eq!(sender(b""), "");
    }
}

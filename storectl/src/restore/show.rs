//! What an archive is and holds: `restore -h` and `restore -t`.

use super::select::Objects;
use crate::archive::content::{About, End, Since};
use crate::archive::{Found, Item, Reader};
use crate::cli::RestoreArgs;
use crate::exit::{DONE, Outcome, PARTLY, Stop};
use crate::files;
use crate::render::words::{counted, printable};
use crate::render::{Style, notes};
use proto::Code;
use serde_json::{Value, json};
use std::io::Write;

/// Prints the head, and with `-t` every mailbox and message. The exit code: 1 if the archive is damaged or not whole.
///
/// # Errors
/// It is no archive (65); those of the file and of `out`.
pub fn show(style: Style, out: &mut dyn Write, args: &RestoreArgs, objects: &Objects) -> Outcome<u8> {
    let failed = |e: std::io::Error| files::failed(&args.file, &e);
    let mut reader = Reader::new(files::open(&args.file)?).of_device(files::is_block_device(&args.file));
    let (mut is_taken, mut code, mut is_archive) = (false, DONE, false);
    let mut open: Option<(u64, String)> = None;
    while let Some(item) = reader.next().map_err(failed)? {
        let line = match item {
            Item::Damage(damage) => {
                code = PARTLY;
                notes::note(&format!("damaged: {damage}"));
                continue;
            }
            Item::Frame { found: Found::Archive(about), .. } => {
                is_archive = true;
                (head_json(&about), head_text(&about))
            }
            Item::Frame { .. } if args.header => {
                return if is_archive { Ok(code) } else { Err(no_archive(args)) };
            }
            Item::Frame { number, found: Found::Mailbox(mailbox), .. } => {
                unlisted(style, out, open.take(), &mut code)?;
                is_taken = objects.take(&mailbox);
                open = is_taken.then(|| (number, mailbox.object.clone()));
                let text = format!("{}\t{}\tUIDVALIDITY {}", mailbox.object, mailbox.name, mailbox.uidvalidity);
                if !is_taken {
                    continue;
                }
                (json!({ "mailbox": mailbox }), text)
            }
            Item::Frame { found: Found::Message(m, _), .. } if is_taken => {
                let text = format!("  {}\t{}\t{}\t{}", m.uid, m.size, m.date, m.flags.join(" "));
                (json!({ "message": m }), text)
            }
            Item::Frame { found: Found::Reference(r), .. } if is_taken => {
                let m = &r.message;
                let of =
                    r.of.as_ref().map_or("an earlier archive".to_owned(), |(object, uid)| format!("{object} {uid}"));
                let text = format!("  {}\t{}\t{}\t{}\t= {of}", m.uid, m.size, m.date, m.flags.join(" "));
                (json!({ "reference": r }), text)
            }
            Item::Frame { found: Found::Close(close), .. } => {
                let Some((_, object)) = open.as_ref().filter(|(begins, _)| is_taken && *begins == close.begins) else {
                    continue;
                };
                for uid in &close.unreadable {
                    code = PARTLY;
                    let text = format!("  {uid}\tnot in the archive: it could not be read when that was made");
                    print(style, out, (json!({ "unreadable": { "object": object, "uid": uid } }), text))?;
                }
                if !close.continues {
                    open = None;
                }
                continue;
            }
            Item::Frame { found: Found::End(end), .. } => (json!({ "end": end }), end_text(&end)),
            Item::Frame { .. } => continue,
        };
        if matches!(line.0, Value::Object(ref keys) if keys.contains_key("end")) {
            unlisted(style, out, open.take(), &mut code)?;
        }
        print(style, out, line)?;
    }
    unlisted(style, out, open.take(), &mut code)?;
    if is_archive { Ok(code) } else { Err(no_archive(args)) }
}

/// A mailbox whose end the archive does not have.
fn unlisted(style: Style, out: &mut dyn Write, of: Option<(u64, String)>, code: &mut u8) -> Outcome<()> {
    let Some((_, object)) = of else { return Ok(()) };
    *code = PARTLY;
    let text = format!(
        "  {object}\tnot in the archive to its end: it could not be listed when that was made, or the rest is lost"
    );
    print(style, out, (json!({ "unreadable": { "object": object, "uid": null } }), text))
}

fn no_archive(args: &RestoreArgs) -> Stop {
    Stop::new(Code::BadInput, format!("{} is no archive", args.file.display()))
}

fn print(style: Style, out: &mut dyn Write, (value, text): (Value, String)) -> Outcome<()> {
    let line = if style.json {
        value.to_string()
    } else {
        text.split('\t').map(|t| printable(t).into_owned()).collect::<Vec<_>>().join("\t")
    };
    writeln!(out, "{line}").map_err(|e| Stop::output(&e))
}

fn head_json(about: &About) -> Value {
    json!({ "archive": about })
}

fn head_text(about: &About) -> String {
    let since = match &about.since {
        None => String::new(),
        Some(Since::Time(time)) => format!("; only what came since {time}"),
        Some(Since::Archive { id, lsn, .. }) => format!("; only what changed since archive {id} (LSN {lsn})"),
    };
    format!(
        "archive {} of store {}, {}, LSN {} of epoch {}, {}, by {}{since}",
        about.id,
        about.store,
        about.time,
        about.lsn,
        about.epoch,
        about.objects.join(" "),
        about.program
    )
}

fn end_text(end: &End) -> String {
    let counts =
        [(end.mailboxes, "mailbox"), (end.messages, "message"), (end.copies, "reference"), (end.bytes, "byte")];
    counts.map(|(count, noun)| counted(count, noun)).join(", ")
}

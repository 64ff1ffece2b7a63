//! `restore`: mailboxes out of an archive, into a store that goes on meanwhile.
//!
//! # Operation
//! The archive is read once, from its beginning. What is asked for goes back mailbox by mailbox, many messages in a transaction. A
//! message whose bytes are already back is stored as a further name of them.
//!
//! # Invariants
//! * A message goes to the mailbox that its own frame names: a lost frame never makes it another's.
//! * Bytes go back only if they have the digest that the archive states.
//! * A second run changes nothing.

mod as_of;
mod batch;
mod elsewhere;
mod follower;
mod heal;
mod house;
mod open;
mod passed;
mod put;
mod references;
mod select;
mod show;
mod summary;

use crate::archive::content::About;
use crate::archive::{Damage, Found, Item, Reader, Seeker};
use crate::cli::{Global, RestoreArgs};
use crate::exit::{Outcome, Stop};
use crate::render::{Style, notes};
use crate::socket::Environment;
use crate::{ask, confirm, errand, files};
use as_of::Wind;
use house::House;
use proto::Code;
use put::Restorer;
use select::{Names, Objects, Query};
use std::fs::File;
use std::io::{Read, Write};

/// Asks whether it is to be done, while there is somebody to ask.
///
/// # Errors
/// No consent.
pub fn ask_before(args: &RestoreArgs) -> Outcome<()> {
    if args.yes || args.dry_run || errand::is_left() {
        return Ok(());
    }
    let what = if args.objects.is_empty() { "everything".to_owned() } else { args.objects.join(", ") };
    confirm::consent(&format!("restore {what} from {}?", args.file.display()))
}

/// Restores; gives the exit code.
///
/// # Errors
/// No consent; those of the archive and of the connection; nothing could be restored (65).
pub fn run(
    global: &Global,
    environment: &Environment,
    style: Style,
    out: &mut dyn Write,
    args: &RestoreArgs,
) -> Outcome<u8> {
    let objects = Objects::new(&args.objects);
    if args.table || args.header {
        return show::show(style, out, args, &objects);
    }
    let query = Query::parse(args.query.as_deref())?;
    let names = Names::new(args.map.as_deref(), args.into.as_deref())?;
    let references = args.references.as_deref().map(references::read).transpose()?;
    let input = files::open(&args.file)?;
    if !args.detach.detach {
        ask_before(args)?;
    }
    let seeker = match files::open_seekable(&args.file)? {
        Some(file) => Some(Seeker::new(file).map_err(|e| files::failed(&args.file, &e))?),
        None => None,
    };
    let house = House::new(ask::connect_bulk(global, environment)?)?;
    let asked = put::Asked { objects: &objects, names: &names, query: &query, references: references.as_ref(), args };
    let mut restorer = Restorer::new(house, asked, seeker);
    let mut reader = Reader::new(input).of_device(files::is_block_device(&args.file));
    let wind = args.as_of.map(|until| Wind::new(until, args.skip_deletes));
    read(&mut reader, &mut restorer, wind, &args.file)?;
    let (mut summary, wanted) = restorer.finish()?;
    if let Some(first) = wanted.first().filter(|_| !args.dry_run) {
        let path = references::write(&first.archive, &wanted)?;
        let (verb, shown) = ("storectl restore -f - --yes -r", proto::naming::quoted(&path.display().to_string()));
        notes::note(&format!("{} references are in {shown}; give the archive once more: {verb} {shown}", wanted.len()));
    }
    if summary.restored.is_empty()
        && summary.healed.is_empty()
        && summary.unrestorable.is_empty()
        && summary.skipped.is_empty()
        && summary.met.is_empty()
        && !args.objects.is_empty()
    {
        let text = format!("{} has nothing of {}", args.file.display(), args.objects.join(", "));
        return Err(Stop::hint(Code::NotFound, text, "see what it holds: storectl restore -t -f FILE"));
    }
    if args.references.is_none() {
        // With others that are there, one that was mistyped would be taken for restored.
        for object in objects.but(&summary.met) {
            summary.fail(object, None, "nothing of it is in the archive".to_owned());
        }
    }
    summary.end(out, style)
}

fn read(
    reader: &mut Reader<Box<dyn Read + Send>>,
    restorer: &mut Restorer<'_, File>,
    mut wind: Option<Wind>,
    file: &std::path::Path,
) -> Outcome<()> {
    let mut is_first = true;
    while let Some(item) = reader.next().map_err(|e| files::failed(file, &e))? {
        match item {
            Item::Frame { number, found, .. } => {
                if let Found::Archive(about) = &found {
                    told(about);
                }
                match &mut wind {
                    Some(wind) => wind.frame(number, found, restorer)?,
                    None => restorer.frame(number, found)?,
                }
            }
            // Behind it nothing good was found.
            Item::Damage(damage) if is_first && damage.frames.1.is_none() => {
                let text = format!("{} is no archive that can be read: {damage}", file.display());
                return Err(Stop::new(Code::BadInput, text));
            }
            Item::Damage(damage) => restorer.damaged(&damage)?,
        }
        is_first = false;
    }
    wind.map_or(Ok(()), |mut wind| wind.finish(restorer))
}

fn told(about: &About) {
    if about.since.is_some() {
        notes::note(&format!("this archive has only what changed until {}: restore those before it first", about.time));
    }
}

/// Damage in words, for a summary.
fn place(damage: &Damage) -> String {
    format!("bytes {} to {} of the archive", damage.from, damage.to)
}

//! What an adoption leaves over: files of which nothing is known, and users without an INBOX.

use super::indexes::repaired;
use super::{Done, Scope};
use crate::error::Result;
use crate::jobs::registry::Context;
use crate::model::user::SHARED_DIRECTORY;
use crate::model::{Command, Folder, MailboxName, Rows, Table};
use crate::store::adopt::{Changed, Stranger};
use crate::store::{CommitError, Examined, Fate, MailFinding, Repair, Store};
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

/// Has files of which nothing is known shown where their owner finds them. What fails stays a finding. Gives what was done, and the files that
/// were put right meanwhile: their own message was found, or their bytes.
pub(super) fn show(
    store: &Store,
    scope: &Scope,
    strangers: &[Stranger],
    ctx: &Context,
) -> (Vec<Option<Examined>>, BTreeSet<String>) {
    let (mut shown, mut mended) = (Vec::new(), BTreeSet::new());
    for of_one in strangers.chunk_by(|a, b| a.place == b.place) {
        let done = match of_one[0].is_at_home {
            true => repaired(store, scope, of_one[0].place.id, Repair::Recover, None, ctx),
            false => show_loose(store, of_one),
        };
        match done {
            Ok(examined) => shown.push(examined.map(|mut examined| {
                let is_mended = |finding: &MailFinding| finding.fate == Fate::Mended;
                mended.extend(examined.findings.drain(..).filter(is_mended).map(|finding| finding.place));
                examined.unlisted.clear();
                examined.messages = 0;
                examined
            })),
            Err(e) => tracing::warn!(event = "not_shown", error = %e),
        }
    }
    (shown, mended)
}

/// Those of a directory of which nobody knows what mailbox it was. Who it belongs to must be known.
fn show_loose(store: &Store, strangers: &[Stranger]) -> Result<Option<Examined>> {
    let Stranger { partition, place, user, .. } = &strangers[0];
    if user.is_none() && place.home.path() != SHARED_DIRECTORY {
        return Ok(None);
    }
    let (partition, home) = (partition.clone().into(), place.home.path().to_owned().into());
    let of = Folder { partition, home, mailbox: place.id };
    let files: Vec<_> = strangers.iter().map(|stranger| (stranger.uid, stranger.known.clone())).collect();
    let mut examined = store.show_loose(&of, user.as_deref(), &files)?;
    store.settle(&std::mem::take(&mut examined.leftovers))?;
    Ok(Some(examined))
}

/// Who has no INBOX after an adoption gets an empty one: mail for him would come back to its senders. To be called when nothing is left
/// of which one could come.
pub(super) fn give_inboxes(store: &Store, scope: &Scope, done: &mut Done) -> Result<()> {
    let (view, mut without) = (store.view(), Vec::new());
    let mut failed = Ok(());
    view.scan(Table::Users, Bound::Unbounded, &mut |user, _| {
        let user = String::from_utf8_lossy(user).into_owned();
        let inbox = MailboxName::inbox(&user);
        match view.contains(Table::Mailboxes, inbox.key()) {
            Ok(true) => {}
            Ok(false) => without.extend(scope.means(inbox.key()).then(|| inbox.to_string())),
            Err(e) => failed = Err(e),
        }
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed?;
    for name in without {
        match store.commit(Command::MailboxCreate { name: name.clone(), partition: None }) {
            Ok(_) => done.change(Changed { what: name, action: "added, empty: nothing is left of one".to_owned() }),
            Err(CommitError::Failed(e)) => return Err(e),
            // Somebody was quicker.
            Err(e) => tracing::warn!(event = "no_inbox", mailbox = name, error = %e),
        }
    }
    Ok(())
}

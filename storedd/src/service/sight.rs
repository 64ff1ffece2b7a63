//! What a user may see and do (RFC 4314): rights of one mailbox, the mailboxes that are visible to somebody.
//!
//! A list for a user looks at no mailbox that he has nothing to do with. It walks three ranges at once, each in order of
//! names and read in pieces: his own mailboxes, and in the table of rights the mailboxes with an entry for him and those with
//! one for `anyone`. What rights taken away leave of that, the mailbox's row says.

use super::Daemon;
use super::lists::{broken, each_row, mailbox, no_mailbox, pattern, user_id, user_row};
use crate::control::{Listing, Parts};
use crate::error::Result as Read;
use crate::model::name::{key_text, owner_of, user_prefix};
use crate::model::rights::{self, ANONYMOUS, ANYONE, Rights};
use crate::model::rows::{MailboxRow, MailboxView, RightsRow, Row, joined};
use crate::model::seen::{SeenRow, seen_key};
use crate::model::{MailboxName, Rows, Table};
use crate::store::View;
use proto::naming::quoted;
use proto::{Code, Failure, Reply};
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};

/// Keys read at once.
const PIECE: usize = 256;
/// The right to see a mailbox.
const LOOKUP: char = 'l';

/// What `user` may do in the mailbox of this row.
fn rights_of(user: &str, key: &[u8], row: &MailboxRow) -> Rights {
    rights::of_user(user, owner_of(key), row.acl.iter().map(|(who, rights)| (who.as_str(), rights.as_str())))
}

/// What a user has seen in a mailbox; `None`: it is his, and the messages say.
fn seen_in(view: &View, user: &str, name: &MailboxName, row: &MailboxRow) -> Result<Option<SeenRow>, Failure> {
    if name.owner() == Some(user) {
        return Ok(None);
    }
    let key = seen_key(user, row.id);
    let seen = view.get(Table::Seen, &key).map_err(broken)?;
    let seen = seen.map(|seen| SeenRow::decode(&key, &seen)).transpose().map_err(broken)?;
    Ok(Some(seen.unwrap_or_default()))
}

/// A user who is there, or nobody in particular.
fn check_viewer(view: &View, user: &str) -> Result<(), Failure> {
    if user == ANONYMOUS { Ok(()) } else { user_row(view, &user_id(user)?).map(drop) }
}

impl Daemon {
    pub(super) fn acl_rights(&self, name: &str, identifier: &str) -> Result<Reply, Failure> {
        let (name, _) = self.mailbox_row(&self.view()?, name)?;
        let identifier = rights::identifier(identifier)
            .map_err(|e| Failure::new(Code::BadInput, format!("identifier {identifier:?}: {e}")))?;
        let (required, optional) = rights::grantable(&identifier, name.owner());
        Ok(Reply::Grantable(proto::Grantable {
            required: required.told().to_string(),
            optional: optional.into_iter().map(String::from).collect(),
            name: name.to_string(),
            identifier,
        }))
    }

    pub(super) fn acl_my(&self, name: &str, user: &str) -> Result<Reply, Failure> {
        let view = self.view()?;
        let (name, row) = self.mailbox_row(&view, name)?;
        check_viewer(&view, user)?;
        let rights = rights_of(user, name.key(), &row).told().to_string();
        Ok(Reply::MyRights(proto::MyRights { name: name.to_string(), user: user.to_owned(), rights }))
    }

    /// The mailbox, if the user sees it; else it is as if it were not there.
    pub(super) fn mailbox_show_as(&self, user: &str, text: &str) -> Result<Reply, Failure> {
        let view = self.view()?;
        check_viewer(&view, user)?;
        let (name, row) = self.mailbox_row(&view, text)?;
        if !rights_of(user, name.key(), &row).has(LOOKUP) {
            return Err(no_mailbox(&name));
        }
        let mut shown = self.mailbox_show(text)?;
        if let (Reply::MailboxDetail(detail), Some(seen)) = (&mut shown, seen_in(&view, user, &name, &row)?) {
            let store = self.store()?;
            // Where the index cannot be read the rest is to be shown all the same.
            let listed = store.folder(&view, name.key(), &row).and_then(|of| store.messages(&view, &of, &row));
            let messages = listed.map(|listed| listed.messages).unwrap_or_default();
            detail.unseen = messages.values().filter(|m| m.is_live() && !seen.has(m.uid)).count() as u64;
        }
        Ok(shown)
    }

    /// What a user has seen in a mailbox that he may see and has this right on; `None`: it is his, and the messages say.
    pub(super) fn seen_by(&self, view: &View, user: &str, text: &str, right: char) -> Result<Option<SeenRow>, Failure> {
        check_viewer(view, user)?;
        let (name, row) = self.mailbox_row(view, text)?;
        let has = rights_of(user, name.key(), &row);
        if !has.has(LOOKUP) {
            return Err(no_mailbox(&name));
        }
        if !has.has(right) {
            let hint = format!("storectl acl my {} {}", quoted(&name.to_string()), quoted(user));
            return Err(
                Failure::new(Code::NotPermitted, format!("{user} lacks the right {right} on {name}")).with_hint(hint)
            );
        }
        seen_in(view, user, &name, &row)
    }

    pub(super) fn mailbox_list_as(&self, user: &str, wanted: &str, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let view = self.view()?;
        check_viewer(&view, user)?;
        let (pattern, roots) = (pattern(wanted)?, self.roots()?);
        let (mut owners, mut listing) = (BTreeMap::new(), Listing::new(Reply::Mailboxes, parts));
        let mut candidates = Candidates::new(&view, user, pattern.key_prefix());
        while let Some(key) = candidates.next().map_err(broken)? {
            if !pattern.matches(&key) {
                continue;
            }
            let Some(row) = view.get(Table::Mailboxes, &key).map_err(broken)? else { continue };
            let row = MailboxRow::decode(&key, &row).map_err(broken)?;
            if rights_of(user, &key, &row).has(LOOKUP) {
                listing.push(mailbox(&roots, &mut owners, &view, &key, &row)?)?;
            }
        }
        Ok(listing.finish())
    }

    /// The subscriptions that lead nowhere. They stay until the user ends them (RFC 9051 6.3.7).
    pub(super) fn subscriptions_missing(&self, user: &str, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let view = self.view()?;
        let user = user_id(user)?;
        user_row(&view, &user)?;
        let prefix = joined(user.as_str().as_bytes(), b"");
        let mut listing = Listing::new(Reply::MissingSubscriptions, parts);
        each_row(&view, Table::Subscriptions, &prefix, &mut |key, _| {
            let key = &key[prefix.len()..];
            let state = match view.get(Table::Mailboxes, key).map_err(broken)? {
                None => "missing",
                Some(row) => {
                    let row = MailboxView::decode(key, &row).map_err(broken)?;
                    let rights = rights::of_user(user.as_str(), owner_of(key), row.acl.iter().copied());
                    if rights.has(LOOKUP) {
                        return Ok(());
                    }
                    "hidden"
                }
            };
            listing.push(proto::MissingSubscription { mailbox: key_text(key), state: state.to_owned() })?;
            Ok(())
        })?;
        Ok(listing.finish())
    }
}

/// Keys of mailboxes that a user may see, each once, in order: those that are his, and those in which he or everybody has
/// an entry that lets him.
struct Candidates<'v>(Vec<Keys<'v>>);

impl<'v> Candidates<'v> {
    /// Those that begin with `prefix`.
    fn new(view: &'v View, user: &str, prefix: &[u8]) -> Candidates<'v> {
        let of = |who: &str| Keys::new(view, Table::Rights, joined(who.as_bytes(), prefix), who.len() + 1);
        let own = user_prefix(user);
        // The narrower of the two prefixes, if one begins with the other.
        let own = if own.starts_with(prefix) { Some(own) } else { prefix.starts_with(&own).then(|| prefix.to_vec()) };
        let own = own.map(|own| Keys::new(view, Table::Mailboxes, own, 0));
        Candidates(own.into_iter().chain([of(user), of(ANYONE)]).collect())
    }

    fn next(&mut self) -> Read<Option<Vec<u8>>> {
        for keys in &mut self.0 {
            keys.fill()?;
        }
        let Some(least) = self.0.iter().filter_map(|keys| keys.piece.front()).min().cloned() else { return Ok(None) };
        for keys in &mut self.0 {
            if keys.piece.front() == Some(&least) {
                keys.piece.pop_front();
            }
        }
        Ok(Some(least))
    }
}

/// The keys of one range, in pieces.
struct Keys<'v> {
    view: &'v View,
    table: Table,
    /// Bytes before the mailbox's key.
    skip: usize,
    end: Vec<u8>,
    /// Where the next piece starts; `None`: there is none.
    from: Option<Bound<Vec<u8>>>,
    piece: VecDeque<Vec<u8>>,
}

impl<'v> Keys<'v> {
    fn new(view: &'v View, table: Table, prefix: Vec<u8>, skip: usize) -> Keys<'v> {
        // The first key behind all that begin so; a prefix is UTF-8, so its last byte is not the highest.
        let mut end = prefix.clone();
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        Keys { view, table, skip, end, from: Some(Bound::Included(prefix)), piece: VecDeque::new() }
    }

    /// Reads the next piece if none is at hand.
    fn fill(&mut self) -> Read<()> {
        let Keys { view, table, skip, end, from, piece } = self;
        let Some(start) = from.take_if(|_| piece.is_empty()) else { return Ok(()) };
        let mut read = Ok(());
        view.scan_until(*table, start.as_ref().map(Vec::as_slice), end, &mut |key, row| {
            match lets_see(*table, key, row) {
                Ok(true) => piece.push_back(key[*skip..].to_vec()),
                Ok(false) => {}
                Err(e) => read = Err(e),
            }
            if piece.len() >= PIECE {
                *from = Some(Bound::Excluded(key.to_vec()));
            }
            if piece.len() >= PIECE || read.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        read
    }
}

/// False for an entry that does not give the right to see the mailbox.
fn lets_see(table: Table, key: &[u8], row: &[u8]) -> Read<bool> {
    Ok(table != Table::Rights || Rights::of(&RightsRow::decode(key, row)?.rights).has(LOOKUP))
}

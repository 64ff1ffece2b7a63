//! What people see of a store: everything but the numbers and times that a second attempt may give anew.

use super::super::world::Dump;
use std::collections::BTreeMap;
use storedd::model::Table;
use storedd::model::message::State;
use storedd::model::name::key_text;
use storedd::model::rows::{MailboxRow, QuotaRow, Row, TombstoneRow, UserRow, id_of, split};
use storedd::model::seen::SeenRow;

/// By what it is, what it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Essence(BTreeMap<String, String>);

impl Essence {
    /// Something that this has and `whole` has not, or otherwise; folders into which repairs put what they find are left out, and sums of
    /// quota roots, which a repair brings to agree last.
    pub(super) fn other_than<'a>(&'a self, whole: &'a Essence) -> Option<(&'a str, &'a str, Option<&'a str>)> {
        let told = self.0.iter().filter(|(what, _)| !what.contains("/Recovered") && !what.starts_with("used "));
        let mut wrong = told.filter(|(what, is)| whole.0.get(*what) != Some(is));
        wrong.next().map(|(what, is)| (what.as_str(), is.as_str(), whole.0.get(what).map(String::as_str)))
    }

    /// Something that `whole` has and this lacks.
    pub(super) fn lacks<'a>(&self, whole: &'a Essence) -> Option<(&'a str, &'a str)> {
        let mut gone = whole.0.iter().filter(|(what, is)| self.0.get(*what) != Some(is));
        gone.next().map(|(what, is)| (what.as_str(), is.as_str()))
    }

    /// A message that `whole` has and this lacks.
    pub(super) fn lacks_mail<'a>(&self, whole: &'a Essence) -> Option<(&'a str, &'a str)> {
        let mut gone = whole.0.iter().filter(|(what, _)| what.contains(" UID ") && !self.0.contains_key(*what));
        gone.next().map(|(what, is)| (what.as_str(), is.as_str()))
    }

    /// The same, wherever mailboxes and users lie.
    pub(super) fn anywhere(self) -> Essence {
        let places = |is: String| is.replacen("second", "somewhere", 1).replacen("primary", "somewhere", 1);
        let is_place = |what: &str| !what.contains(" UID ") && !what.starts_with("partition ");
        Essence(
            self.0
                .into_iter()
                .map(|(what, is)| if is_place(&what) { (what, places(is)) } else { (what, is) })
                .collect(),
        )
    }

    pub(super) fn difference(&self, found: &Essence) -> String {
        match (self.lacks(found), found.lacks(self)) {
            (Some((what, is)), _) => format!("{what} is {is}, expected {:?}", self.0.get(what)),
            (_, Some((what, was))) => format!("{what} is gone, expected {was}"),
            (None, None) => "none".to_owned(),
        }
    }
}

/// What a dump shows to people.
pub(super) fn essence(dump: &Dump) -> Result<Essence, String> {
    let mut lines = BTreeMap::new();
    let mut names = BTreeMap::new();
    let mut mailbox = |lines: &mut BTreeMap<String, String>, name: String, row: MailboxRow| {
        let MailboxRow { id, partition, acl, messages, bytes, unseen, .. } = row;
        lines.insert(name.clone(), format!("{partition} {acl:?} {messages} messages {bytes} bytes {unseen} unseen"));
        for (uid, (message, sum)) in dump.mail.get(&id).into_iter().flatten() {
            let (state, flags, size) = (message.state, message.flags, message.size);
            if state != State::Purged {
                let is = format!("{state:?} {flags:?} {:?} {size} {} {sum:x}", message.keywords, message.internal_us);
                lines.insert(format!("{name} UID {uid}"), is);
            }
        }
        names.insert(id, name);
    };
    let wrong = |e: storedd::error::StoreError| e.to_string();
    for (table, key, row) in &dump.rows {
        match table {
            Table::Mailboxes => mailbox(&mut lines, key_text(key), MailboxRow::decode(key, row).map_err(wrong)?),
            Table::Past => {
                if let Some((name, _)) = split(key) {
                    let row = TombstoneRow::decode(key, row).map_err(wrong)?.mailbox;
                    mailbox(&mut lines, format!("deleted {}", key_text(name)), row);
                }
            }
            Table::Users => {
                let partition = UserRow::decode(key, row).map_err(wrong)?.partition;
                lines.insert(format!("user {}", key_text(key)), partition);
            }
            Table::Quotas => {
                let row = QuotaRow::decode(key, row).map_err(wrong)?;
                let limits = format!("{:?} {:?}", row.storage_limit, row.message_limit);
                lines.insert(format!("limits of {}", key_text(key)), limits);
                let usage = format!("{} {}", row.storage_usage, row.message_usage);
                lines.insert(format!("used in {}", key_text(key)), usage);
            }
            Table::Subscriptions => drop(lines.insert(format!("subscribed {}", key_text(key)), String::new())),
            Table::Partitions => drop(lines.insert(format!("partition {}", key_text(key)), String::new())),
            Table::Seen | Table::Rights | Table::Ids | Table::Messages | Table::Bodies => {}
        }
    }
    for (_, key, row) in dump.rows.iter().filter(|(table, ..)| *table == Table::Seen) {
        let (user, id) = split(key).ok_or("a row of the table seen has no user")?;
        let name = id_of(id).and_then(|id| names.get(&id));
        let runs = SeenRow::decode(key, row).map_err(wrong)?.runs().to_vec();
        lines.insert(format!("seen by {} in {name:?}", key_text(user)), format!("{runs:?}"));
    }
    Ok(Essence(lines))
}

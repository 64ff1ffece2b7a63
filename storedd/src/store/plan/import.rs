//! Mailboxes from another server's list: UIDVALIDITY and rights are kept, and a second run changes nothing.

use super::{Plan, Planner, refuse};
use crate::model::rights::{self, Acl, OWNER_RIGHTS};
use crate::model::rows::MailboxRow;
use crate::model::{MailboxName, Outcome, Table};

impl Planner<'_> {
    /// Creates the user if he is not there, with an INBOX even if the list has none for him, then the mailbox.
    pub(super) fn import_mailbox(
        &mut self,
        name: &str,
        partition: Option<&str>,
        uidvalidity: u32,
        acl: &Acl,
    ) -> Plan<Outcome> {
        let name = self.name(name)?;
        let acl = rights::imported(acl).map_err(|why| refuse::bad_rights(&name, &why))?;
        if let Some(row) = self.draft.read::<MailboxRow>(name.key())? {
            return compare(&name, &row, uidvalidity, &acl);
        }
        let partition = self.partition(partition, self.policy.default_partition)?;
        self.import_user(&name, &partition)?;
        let outcome = self.new_mailbox(&name, partition, uidvalidity, acl)?;
        name.owner().map_or(Ok(()), |user| self.check_mailboxes_of(user))?;
        if matches!(outcome, Outcome::Created { uidvalidity: given, .. } if given == uidvalidity) {
            self.ids.note_uidvalidity(uidvalidity)?;
        }
        Ok(outcome)
    }

    /// Makes a user who is not there.
    pub(super) fn import_user(&mut self, name: &MailboxName, partition: &str) -> Plan<()> {
        let Some(user) = name.owner() else { return Ok(()) };
        if self.draft.contains(Table::Users, user.as_bytes())? {
            return Ok(());
        }
        let user = self.user_id(user)?;
        self.new_user(&user, partition.to_owned(), None, None)?;
        if !name.is_inbox() {
            let acl = Acl::from([(user.as_str().to_owned(), OWNER_RIGHTS.to_owned())]);
            self.new_mailbox(&MailboxName::inbox(user.as_str()), partition.to_owned(), 0, acl)?;
        }
        Ok(())
    }
}

/// A mailbox that is there already: the same, or refused. A list that states no UIDVALIDITY (0) agrees with any.
fn compare(name: &MailboxName, row: &MailboxRow, uidvalidity: u32, acl: &Acl) -> Plan<Outcome> {
    if uidvalidity != 0 && uidvalidity != row.uidvalidity {
        let (here, list) = (row.uidvalidity.to_string(), uidvalidity.to_string());
        return Err(refuse::import_differs(name, "UIDVALIDITY", &here, &list));
    }
    if *acl != row.acl {
        return Err(refuse::import_differs(name, "rights", &shown(&row.acl), &shown(acl)));
    }
    Ok(Outcome::Unchanged)
}

/// The first few entries, for a message.
fn shown(acl: &Acl) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<String> = acl.iter().take(SHOWN).map(|(who, rights)| format!("{who} {rights}")).collect();
    if acl.is_empty() {
        text.push("none".to_owned());
    } else if acl.len() > SHOWN {
        text.push(format!("and {} more", acl.len() - SHOWN));
    }
    text.join(", ")
}

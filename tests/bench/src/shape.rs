//! Sizes and contents of rows and records, as storedd makes them.

use crate::engines::Failure;
use crate::job;
use storedd::model::rights::OWNER_RIGHTS;
use storedd::model::rows::{MailboxRow, PastRow, RightsRow, Row, UserRow};
use storedd::model::user::{UserId, directory};

/// The rows of a specimen user and mailbox, and the sizes of the records that change it. User ids, names and numbers
/// are of one length throughout, so that every row of a table has as many bytes (but for the digits of a user's number).
#[derive(Debug, Clone)]
pub struct Shape {
    /// Row of a user.
    pub user: Vec<u8>,
    /// Row of a mailbox with its owner's rights.
    pub mailbox: Vec<u8>,
    /// Row of a name's past.
    pub past: Vec<u8>,
    /// Payload bytes of the record of a create, a change of rights, a rename.
    pub record: [usize; 3],
}

impl Shape {
    /// Rows of storedd's own encoding; `record` are sizes of its records.
    ///
    /// # Errors
    /// If a row cannot be made.
    pub fn new(record: [usize; 3]) -> Result<Shape, Failure> {
        let id = 1_234_567;
        let user = UserId::parse(&job::user_id(id))?;
        let created_us = 1_700_000_000_000_000;
        let partition = "primary".to_owned();
        let acl = [(user.as_str().to_owned(), OWNER_RIGHTS.to_owned())].into_iter().collect();
        let mailbox = MailboxRow {
            id,
            partition: partition.clone(),
            uidvalidity: 1_700_000_000,
            uidnext: 1,
            highest_modseq: 1,
            messages: 0,
            bytes: 0,
            unseen: 0,
            created_us,
            home: None,
            acl,
        };
        let past = PastRow { uidvalidity: mailbox.uidvalidity, mailbox_id: id };
        let user = UserRow { id, partition, created_us, directory: directory(&user, id) };
        Ok(Shape { user: user.encode()?, mailbox: mailbox.encode()?, past: past.encode()?, record })
    }

    /// The mailbox row `row` of `key` with these rights for the identifier.
    ///
    /// # Errors
    /// If it is no such row.
    pub fn with_rights(&self, key: &[u8], row: &[u8], rights: &str) -> Result<Vec<u8>, Failure> {
        let mut mailbox = MailboxRow::decode(key, row)?;
        mailbox.acl.insert(job::IDENTIFIER.to_owned(), rights.to_owned());
        Ok(mailbox.encode()?)
    }

    /// The row in the table of rights.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn rights(rights: &str) -> Result<Vec<u8>, Failure> {
        Ok(RightsRow { rights: rights.to_owned() }.encode()?)
    }
}

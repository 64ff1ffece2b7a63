//! The words of the mail world: names, rights, quota, rows, commands, changes. No I/O, no async.

pub mod adopt;
pub mod change;
pub mod check;
pub mod command;
pub mod ids;
pub mod keys;
pub mod mail;
pub mod message;
pub mod name;
pub mod pattern;
pub mod quota;
pub mod rights;
pub mod rows;
pub mod seen;
pub mod table;
pub mod user;

pub use change::{BodySource, Change, Folder, LogPlace, Transaction};
pub use command::{Command, Outcome, Refusal};
pub use name::{MailboxName, NameError};
pub use proto::utf7;
pub use quota::{LimitChange, QuotaRoot, Usage};
pub use table::{Rows, Table};
pub use user::{UserId, UserIdError};

//! The words of the mail world: names, rights, rows, commands, changes. No I/O, no async.

pub mod change;
pub mod command;
pub mod rights;
pub mod rows;
pub mod table;

pub use change::{Change, Transaction};
pub use command::{Command, Outcome, Refusal};
pub use table::{Rows, Table};

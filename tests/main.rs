//! The product seen from outside: the built programs, the socket, the files. One binary, one module per theme.
#![allow(clippy::disallowed_methods, reason = "tests make, damage and look at files, and wait for programs")]

#[cfg(test)]
mod alarms;
#[cfg(test)]
mod archive;
#[cfg(test)]
mod backup_db;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod drill;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fullness;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod lmtp;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod manual;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod quotas;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod rollback;
#[cfg(test)]
mod service;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod stalls;
#[cfg(test)]
mod starts;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod transfer;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod versions;
#[cfg(test)]
mod words;

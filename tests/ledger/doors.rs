//! Clients of both doors, each of which does one thing after the other until the daemon is gone.

use super::Ledger;
use super::account::{Account, Op};
use crate::harness::PATIENCE;
use proto::Limit;
use proto::client::{Client, Timeouts};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Numbers from a seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

pub fn text(random: &mut Random, sizes: &[usize]) -> Vec<u8> {
    let mut text = format!("Subject: {}\r\n\r\n", random.0).into_bytes();
    text.resize(text.len() + sizes[random.below(sizes.len())], b'a' + (random.0 % 26) as u8);
    text.extend_from_slice(b"\r\n");
    text
}

/// A session of LMTP that ends when the daemon does.
pub struct Session(BufReader<UnixStream>);

impl Session {
    pub fn begin(path: &Path) -> Option<Session> {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session = Session(BufReader::new(stream));
        session.reply()?;
        session.ask(b"LHLO client.example\r\n")?;
        Some(session)
    }

    fn reply(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).ok()?;
            if read == 0 || !line.ends_with('\n') {
                return None;
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                // With 421 it takes its leave.
                return Some(line).filter(|line| !line.starts_with("421"));
            }
        }
    }

    fn ask(&mut self, bytes: &[u8]) -> Option<String> {
        self.0.get_mut().write_all(bytes).ok()?;
        self.reply()
    }

    /// One transaction. `Some(true)`: stored for all; `Some(false)`: for nobody; `None`: nobody knows.
    pub fn deliver(&mut self, to: &[String], bytes: &[u8]) -> Option<bool> {
        self.ask(b"MAIL FROM:<sender@example.net>\r\n")?;
        for user in to {
            let reply = self.ask(format!("RCPT TO:<{user}>\r\n").as_bytes())?;
            if reply.starts_with("45") {
                self.ask(b"RSET\r\n")?;
                return Some(false);
            }
            assert!(reply.starts_with("250 "), "{reply}");
        }
        if self.ask(b"DATA\r\n")?.starts_with("45") {
            return Some(false);
        }
        let mut replies = vec![self.ask(&crate::harness::lmtp::stuffed(bytes))?];
        for _ in 1..to.len() {
            replies.push(self.reply()?);
        }
        let stored = replies.iter().filter(|reply| reply.starts_with("250 ")).count();
        assert!(stored == 0 || stored == to.len(), "{replies:?}");
        assert!(replies.iter().all(|reply| reply.starts_with("250 ") || reply.starts_with("45")), "{replies:?}");
        // The log's disk failed: it may have taken it.
        if replies.iter().any(|reply| reply.starts_with("451 4.3.0")) {
            return None;
        }
        Some(stored > 0)
    }

    /// The same for what is asked for through this door.
    pub fn ask_for(&mut self, op: &Op) -> Option<bool> {
        let Op::Lmtp { to, bytes } = op else { unreachable!("another door") };
        self.deliver(to, bytes)
    }
}

/// Delivers through LMTP, to one user or to both, until the daemon is gone.
pub fn through_lmtp(socket: &Path, ledger: &mut Ledger, random: &mut Random) {
    let Some(mut session) = Session::begin(socket) else { return };
    loop {
        let count = 1 + random.below(2);
        let op = Op::Lmtp { to: ledger.users[..count].to_vec(), bytes: text(random, &[200, 3000, 3000, 90_000]) };
        if ledger.ask(op, |op| session.ask_for(op)).is_none() {
            return;
        }
    }
}

/// Does everything that can be done to messages, until the daemon is gone.
pub fn through_control(socket: &Path, ledger: &mut Ledger, random: &mut Random) {
    let Ok(mut client) = Client::connect(socket, "ledger", Timeouts::default()) else { return };
    loop {
        let op = any(&ledger.told, &ledger.users[0], random);
        if ledger.ask(op, |op| op.ask(&mut client).ok()).is_none() {
            return;
        }
    }
}

fn any(account: &Account, user: &str, random: &mut Random) -> Op {
    let names: Vec<&String> = account.keys().collect();
    let name = names[random.below(names.len())].clone();
    let other = names[random.below(names.len())].clone();
    let (live, expunged): (Vec<u32>, Vec<u32>) =
        (account[&name].live.keys().copied().collect(), account[&name].expunged.keys().copied().collect());
    let mut some = |of: &[u32]| -> Vec<u32> {
        let uids: BTreeSet<u32> = (0..1 + random.below(3)).map(|_| of[random.below(of.len())]).collect();
        uids.into_iter().collect()
    };
    match (random_kind(&mut some, &live, &expunged), random.below(12)) {
        ((uids, _), 0..2) if !uids.is_empty() => {
            let (flag, set) = ([r"\Seen", r"\Flagged", "$Work"][random.below(3)], random.below(3) > 0);
            Op::Flag { name, uid: uids[0], flag, set }
        }
        ((uids, _), 2..4) if !uids.is_empty() => Op::Expunge { name, uids },
        ((uids, _), 4..7) if !uids.is_empty() => Op::Copy { name, uids, to: other, remove: random.below(2) == 0 },
        ((_, uids), 7) if !uids.is_empty() => Op::Undelete { name, uids },
        (_, 8) => {
            let messages = [Limit::None, Limit::At(40), Limit::At(1000)][random.below(3)];
            Op::Quota { user: user.to_owned(), messages }
        }
        (_, 9) if !name.ends_with("INBOX") => {
            let to = format!("user/{user}/{}{}", ["a", "b", "c"][random.below(3)], random.below(1000));
            if account.contains_key(&to) {
                Op::Deliver { to: vec![name], bytes: text(random, &[100]) }
            } else {
                Op::Rename { from: name, to }
            }
        }
        _ => {
            let to = if name != other && random.below(3) == 0 { vec![name, other] } else { vec![name] };
            Op::Deliver { to, bytes: text(random, &[100, 2000, 2000, 2000, 90_000]) }
        }
    }
}

/// Some of those that are there, and some of those that are not any more.
fn random_kind(some: &mut dyn FnMut(&[u32]) -> Vec<u32>, live: &[u32], expunged: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut of = |uids: &[u32]| if uids.is_empty() { Vec::new() } else { some(uids) };
    (of(live), of(expunged))
}

//! What clients were told, kept outside the daemon, while they deliver through both doors and set flags, copy, move, expunge, rename and
//! change quotas; and the comparison with what is there afterwards.
//!
//! Each client has users of its own and asks for one thing after the other, so what must be there after an end is what it was told, with or
//! without the one thing that it got no answer to: nothing twice, nothing half.

pub mod account;
pub mod doors;

use crate::harness::{Daemon, TestStore};
use account::{Account, Folder, Op, inbox, shown, sum};
use doors::{Random, through_control, through_lmtp};
use proto::client::{Client, Timeouts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Clients of each door.
const CLIENTS: usize = 3;

/// What one client was told, and what it got no answer to.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub users: Vec<String>,
    pub told: Account,
    pub open: Option<Op>,
    /// Things done.
    pub done: usize,
}

impl Ledger {
    /// Asks for one thing. `answer` says whether it was done, or nothing if nobody knows; then nothing more can be asked.
    pub fn ask(&mut self, op: Op, answer: impl FnOnce(&Op) -> Option<bool>) -> Option<()> {
        self.open = Some(op.clone());
        if answer(&op)? {
            op.done(&mut self.told);
        }
        self.done += 1;
        self.open = None;
        Some(())
    }

    /// What is there is what was told, with or without what is open; then that is decided.
    pub fn settle(&mut self, there: &Account) -> Result<(), String> {
        let mut after = self.told.clone();
        if let Some(open) = &self.open {
            open.done(&mut after);
        }
        if *there == after {
            self.told = after;
        } else if *there != self.told {
            return Err(format!("{}\nopen: {:.200}", difference(&self.told, there), format!("{:?}", self.open)));
        }
        self.open = None;
        Ok(())
    }
}

fn difference(told: &Account, there: &Account) -> String {
    let lines = |account: &Account| -> BTreeSet<String> {
        let of = |(name, folder): (&String, &Folder)| {
            let line = |state: &str, uid: &u32, letter| format!("{name} {state} {uid} {letter:?}");
            let live = folder.live.iter().map(|(uid, letter)| line("live", uid, letter)).collect::<Vec<_>>();
            let expunged = folder.expunged.iter().map(|(uid, letter)| line("expunged", uid, letter));
            live.into_iter().chain(expunged).chain([format!("{name} uidnext {}", folder.uidnext)]).collect::<Vec<_>>()
        };
        account.iter().flat_map(of).collect()
    };
    let (told, there) = (lines(told), lines(there));
    let lost: Vec<_> = told.difference(&there).take(5).collect();
    let more: Vec<_> = there.difference(&told).take(5).collect();
    format!("told and not there: {lost:#?}\nthere and not told: {more:#?}")
}

/// New users for the clients of a round.
pub fn begin(store: &TestStore, round: usize) -> Vec<Ledger> {
    let (mut lines, mut ledgers) = (String::new(), Vec::new());
    for me in 0..2 * CLIENTS {
        let lmtp = me < CLIENTS;
        let users: Vec<String> = (0..if lmtp { 2 } else { 1 }).map(|n| format!("u{me}-{n}-r{round}")).collect();
        let mut told = Account::new();
        for user in &users {
            lines += &format!("user add {user}\n");
            told.insert(inbox(user), Folder::new());
            for folder in if lmtp { &[][..] } else { &["a", "b"] } {
                lines += &format!("mailbox create user/{user}/{folder}\n");
                told.insert(format!("user/{user}/{folder}"), Folder::new());
            }
        }
        ledgers.push(Ledger { users, told, open: None, done: 0 });
    }
    store.ctl_with(&["batch", "-"], Some(lines.as_bytes())).expect(0);
    ledgers
}

/// All clients of a round at work.
pub struct Load(Vec<JoinHandle<Ledger>>);

impl Load {
    /// Starts them, each with a ledger of [`begin`].
    pub fn start(store: &TestStore, daemon: &Daemon, ledgers: Vec<Ledger>, round: usize) -> Load {
        let clients = ledgers.into_iter().enumerate().map(|(me, mut ledger)| {
            let (control, lmtp) = (daemon.socket.clone(), store.data.join("lmtp.sock"));
            std::thread::spawn(move || {
                let mut random = Random((round * 1000 + me) as u64);
                match me < CLIENTS {
                    true => through_lmtp(&lmtp, &mut ledger, &mut random),
                    false => through_control(&control, &mut ledger, &mut random),
                }
                ledger
            })
        });
        Load(clients.collect())
    }

    /// What they know; the daemon is gone.
    pub fn ended(self) -> Vec<Ledger> {
        self.0.into_iter().map(|client| client.join().unwrap()).collect()
    }
}

/// Every file below the homes of these users: each is one of a message that is known, and has its bytes. Gives their number.
fn walk(store: &TestStore, ledgers: &[Ledger], ids: &BTreeMap<String, u64>, when: &str) -> usize {
    let mut expected: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    for (name, folder) in ledgers.iter().flat_map(|ledger| &ledger.told) {
        let letters = folder.live.iter().chain(&folder.expunged);
        expected.extend(letters.map(|(uid, letter)| ((ids[name], *uid), letter.sum)));
    }
    let users: BTreeSet<String> = ledgers.iter().flat_map(|ledger| ledger.users.clone()).collect();
    let root = store.data.join("partition/primary");
    let mut found = 0;
    for home in below(&below(&below(&[root.join("=user")]))) {
        let token = home.file_name().unwrap().to_str().unwrap().to_owned();
        let user = token.strip_prefix('=').and_then(|t| t.split('~').next()).unwrap();
        if !users.contains(user) {
            continue;
        }
        let mut paths = vec![home.clone()];
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(below(&[path]));
                continue;
            }
            let parts: Vec<&str> =
                path.strip_prefix(&home).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
            match parts[..] {
                ["manifest"] | [_, "store.idx"] => {}
                [id, group, file] => {
                    let uid: u32 = file.strip_suffix(".msg").unwrap_or("?").parse().unwrap();
                    assert_eq!(format!("{:02x}", uid >> 10 & 255), group, "{when}: {}", path.display());
                    let expected = expected.remove(&(id.parse().unwrap(), uid));
                    let there = sum(&std::fs::read(&path).unwrap());
                    assert_eq!(expected, Some(there), "{when}: {} is a file of no message", path.display());
                    found += 1;
                }
                _ => panic!("{when}: nobody knows {}", path.display()),
            }
        }
    }
    assert_eq!(expected.keys().next(), None, "{when}: a message without a file");
    let staged = below(&[root.join(".staging")]);
    assert!(staged.is_empty(), "{when}: {staged:?} stays on its way in");
    assert!(below(&[root.join(".quarantine")]).is_empty(), "{when}: a kill was taken for damage");
    found
}

fn below(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let of = |dir: &PathBuf| std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    dirs.iter().flat_map(|dir| -> Vec<PathBuf> { of(dir) }).collect()
}

/// What is there is what was told; also when it is read from files.
pub fn check(store: &TestStore, socket: &Path, ledgers: &mut [Ledger], when: &str) -> usize {
    let mut client = Client::connect(socket, "ledger", Timeouts::default()).unwrap();
    let mut ids = BTreeMap::new();
    for ledger in ledgers.iter_mut() {
        let there = shown(&mut client, &ledger.users).0;
        ledger.settle(&there).unwrap_or_else(|e| panic!("{when}: {e}"));
    }
    store.ctl(&["checkpoint"]).expect(0);
    for ledger in ledgers.iter_mut() {
        let (there, more) = shown(&mut client, &ledger.users);
        ledger.settle(&there).unwrap_or_else(|e| panic!("{when}, from files: {e}"));
        ids.extend(more);
    }
    walk(store, ledgers, &ids, when)
}

// The reader of this test is believed because it sees what is missing and what is too many.
#[test]
fn a_ledger_sees_what_differs() {
    let mut told = Account::from([("user/joe/INBOX".to_owned(), Folder::new())]);
    let op = Op::Lmtp { to: vec!["joe".to_owned()], bytes: b"text\r\n".to_vec() };
    let empty = told.clone();
    op.done(&mut told);
    assert_eq!(told["user/joe/INBOX"].live[&1].sum, sum(&account::with_sender(b"text\r\n")));
    let ledger = |open| Ledger { users: Vec::new(), told: told.clone(), open, done: 0 };
    let sees = |mut ledger: Ledger, there: &Account| ledger.settle(there).is_err();
    assert!(sees(ledger(None), &empty), "a message is lost");
    let mut twice = told.clone();
    op.done(&mut twice);
    assert!(sees(ledger(None), &twice), "a message is there twice");
    assert!(!sees(ledger(Some(op)), &twice), "it was asked for");
}

//! SIGKILL of the daemon and of the client in the middle of a backup and of a restore: behind the n-th request for every n, and at any time.
//! The store is whole, an archive that is not is called so, and a run that was broken off is finished by running it again: with UIDs,
//! limits and subscriptions, and nothing twice.

use super::{backup, contents, count, message, restore, sample, text};
use crate::harness::{Daemon, Run, TestStore};
use proto::frame::HEADER_BYTES;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A socket before that of the daemon, which tells of every frame that a client sends, and sends it on only when it is told to.
pub(super) struct Proxy {
    pub(super) path: PathBuf,
    came: Receiver<()>,
    go: Sender<()>,
}

impl Proxy {
    pub(super) fn before(store: &TestStore, number: usize) -> Proxy {
        let path = store.beside(&format!("proxy{number}.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = store.data.join("control.sock");
        let ((tells, came), (go, goes)) = (channel(), channel());
        std::thread::spawn(move || {
            let Ok((client, _)) = listener.accept() else { return };
            let Ok(server) = UnixStream::connect(daemon) else { return };
            let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                drop(std::io::copy(&mut back, &mut to_client));
                drop(to_client.shutdown(Shutdown::Both));
            });
            drop(forward(client, &server, &tells, &goes));
            drop(server.shutdown(Shutdown::Both));
        });
        Proxy { path, came, go }
    }

    /// Lets so many frames through; true if there was one more, which waits.
    pub(super) fn pass(&self, frames: usize) -> bool {
        for _ in 0..frames {
            if self.came.recv().is_err() || self.go.send(()).is_err() {
                return false;
            }
        }
        self.came.recv().is_ok()
    }

    /// Lets through the frame that waits, and all behind it.
    pub(super) fn pass_all(&self) {
        while self.go.send(()).is_ok() && self.came.recv().is_ok() {}
    }
}

fn forward(mut from: UnixStream, mut to: &UnixStream, tells: &Sender<()>, goes: &Receiver<()>) -> std::io::Result<()> {
    loop {
        let mut head = [0; HEADER_BYTES];
        from.read_exact(&mut head)?;
        let length = u32::from_le_bytes(head[8..12].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        let ended = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        tells.send(()).map_err(|_| ended())?;
        goes.recv().map_err(|_| ended())?;
        to.write_all(&head)?;
        to.write_all(&payload)?;
    }
}

pub(super) fn ctl(socket: &Path, store: &TestStore, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storectl"));
    command.arg("--socket").arg(socket).args(args).current_dir(store.beside("."));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Client,
    Daemon,
}

/// Runs a verb and kills behind its n-th frame; false if it had fewer. Gives the daemon that is there then.
fn killed_behind(store: &TestStore, daemon: Daemon, n: usize, victim: Victim, args: &[&str]) -> (bool, Daemon) {
    let proxy = Proxy::before(store, n);
    let mut client = ctl(&proxy.path, store, args);
    if !proxy.pass(n) {
        assert!(client.wait().unwrap().code().is_some());
        return (false, daemon);
    }
    match victim {
        Victim::Client => {
            client.kill().unwrap();
            client.wait().unwrap();
            (true, daemon)
        }
        Victim::Daemon => {
            daemon.kill();
            drop(proxy);
            let run = Run::of(client);
            assert!(run.status != 0, "{run:?}");
            (true, store.start())
        }
    }
}

/// In which steps the points are taken; STOREDD_KILL_POINTS=1 takes all.
fn step(ordinary: usize) -> usize {
    std::env::var("STOREDD_KILL_POINTS").ok().and_then(|n| n.parse().ok()).unwrap_or(ordinary)
}

fn about_users(store: &TestStore) -> Vec<Value> {
    let about = |user: &str| {
        let user = store.json(&["user", "show", user]);
        json!([user["quota"], user["subscriptions"], user["mailboxes"]])
    };
    ["ann", "bob", "eve"].map(about).to_vec()
}

fn is_clean(store: &TestStore) {
    let checked = store.json(&["check", "--all", "--deep"]);
    assert_eq!(checked["findings"], json!([]), "{checked}");
}

// A restore into nothing that is broken off at any request, and run again, is the whole: UIDs, limits, subscriptions, one file for one message
#[test]
fn a_restore_that_is_killed_is_finished_by_the_next() {
    let (from, _one) = sample();
    let file = from.beside("all.sda");
    backup(&from, &file, &["/"]);
    let args = ["restore", "-f", text(&file), "--yes"];
    for victim in [Victim::Client, Victim::Daemon] {
        let (mut n, mut points) = (2, 0);
        loop {
            let to = TestStore::new();
            let (was_killed, daemon) = killed_behind(&to, to.start(), n, victim, &args);
            if !was_killed {
                break;
            }
            points += 1;
            let done = restore(&to, &file, &[], 0);
            assert_eq!(count(&done, "unrestorable"), 0, "{victim:?} behind frame {n}: {done}");
            assert_eq!(contents(&to), contents(&from), "{victim:?} behind frame {n}");
            assert_eq!(about_users(&to), about_users(&from), "{victim:?} behind frame {n}");
            assert_eq!(count(&restore(&to, &file, &[], 0), "restored"), 0);
            is_clean(&to);
            drop(daemon);
            n += step(5);
        }
        assert!(points >= 4, "{victim:?}: {points} points");
    }
}

// One that follows another likewise: flags, what is gone, what is new
#[test]
fn a_restore_of_a_follower_that_is_killed_is_finished_by_the_next() {
    let (from, _one) = sample();
    let (base, next) = (from.beside("base.sda"), from.beside("next.sda"));
    let folder = "user/bob/Work/Äpfel";
    backup(&from, &base, &["/"]);
    from.ctl(&["message", "flags", folder, "1,6", "--add", "\\Flagged"]).expect(0);
    from.ctl(&["message", "expunge", folder, "2,5"]).expect(0);
    for n in 0..3 {
        super::deliver(&from, &[folder, "user/ann/INBOX"], &message(format!("new{n}"), 90_000));
    }
    backup(&from, &next, &["--since-archive", text(&base), "/"]);
    for (victim, start) in [(Victim::Client, 3), (Victim::Daemon, 4)] {
        let mut n = start;
        loop {
            let to = TestStore::new();
            let daemon = to.start();
            restore(&to, &base, &[], 0);
            let args = ["restore", "-f", text(&next), "--yes"];
            let (was_killed, daemon) = killed_behind(&to, daemon, n, victim, &args);
            if !was_killed {
                break;
            }
            restore(&to, &next, &[], 0);
            assert_eq!(contents(&to), contents(&from), "{victim:?} behind frame {n}");
            restore(&to, &next, &[], 0);
            assert_eq!(contents(&to), contents(&from));
            drop(daemon);
            n += step(6);
        }
    }
}

// A backup that is broken off leaves the archive that was there; what a pipe had got is called incomplete, and what stands in it comes back
#[test]
fn a_backup_that_is_killed_leaves_the_archive_before() {
    let (store, mut daemon) = sample();
    let (file, part) = (store.beside("all.sda"), store.beside("part.sda"));
    backup(&store, &file, &["/"]);
    let before = std::fs::read(&file).unwrap();
    let (mut n, mut saved) = (2, 0);
    for round in 0.. {
        let victim = if round % 2 == 0 { Victim::Client } else { Victim::Daemon };
        let args = ["backup", "-f", text(&file), "/"];
        let (was_killed, next) = killed_behind(&store, daemon, n, victim, &args);
        daemon = next;
        if !was_killed {
            assert!(saved >= 3, "{saved} of {round} points");
            break;
        }
        // Behind its last request the new one is in its place; whichever it is, it is whole.
        let is_before = std::fs::read(&file).unwrap() == before;
        assert!(is_before || n > 8, "{victim:?} behind frame {n}");
        store.ctl(&["restore", "-f", text(&file), "-t"]).expect(0);
        saved += usize::from(is_before);
        n += step(3);
    }
    backup(&store, &file, &["/"]);
    let before = std::fs::read(&file).unwrap();
    // A pipe whose writer is gone.
    for bytes in [0, 70, before.len() / 3, before.len() / 2, before.len() - 30] {
        std::fs::write(&part, &before[..bytes]).unwrap();
        let to = TestStore::new();
        let _two = to.start();
        let run = to.ctl(&["--json", "restore", "-f", text(&part), "--yes"]);
        assert!([1, 65].contains(&run.status), "{bytes} bytes: {run:?}");
        assert!(run.err.contains("it ends here") || run.err.contains("it is empty"), "{}", run.err);
        // The whole archive then brings the rest.
        restore(&to, &file, &[], 0);
        assert_eq!(contents(&to), contents(&store), "{bytes} bytes");
    }
    is_clean(&store);
    drop(daemon);
}

// Somebody makes a mailbox between the look for it and its making (the last request of a restore that was killed, for example): it is
// taken as it is
#[test]
fn a_mailbox_that_comes_meanwhile_is_taken() {
    let (from, _one) = sample();
    let file = from.beside("all.sda");
    backup(&from, &file, &["/"]);
    let news = |store: &TestStore| store.json(&["message", "list", "shared/news"]).as_array().unwrap().len();
    let mut is_made_by = [0, 0];
    for n in 2..14 {
        let to = TestStore::new();
        let _two = to.start();
        let proxy = Proxy::before(&to, n);
        let client = ctl(&proxy.path, &to, &["--json", "restore", "-f", text(&file), "--yes"]);
        assert!(proxy.pass(n), "{n} frames");
        let made = to.ctl(&["mailbox", "create", "shared/news"]);
        is_made_by[usize::from(made.status == 0)] += 1;
        proxy.pass_all();
        let done = Run::of(client).expect(0).json();
        assert_eq!((count(&done, "unrestorable"), news(&to)), (0, news(&from)), "behind frame {n}: {done}");
    }
    assert!(is_made_by.iter().all(|n| *n > 0), "never before and behind it: {is_made_by:?}");
}

// At any time, not only between requests: the same. STOREDD_KILLS=300 for more.
#[test]
fn restores_are_killed_at_any_time() {
    let (from, _one) = sample();
    let file = from.beside("all.sda");
    backup(&from, &file, &["/"]);
    let rounds: u64 = std::env::var("STOREDD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut random = 0x6b69_6c6c_u64;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let to = TestStore::new();
        let mut daemon = to.start();
        for _ in 0..2 {
            let mut client = ctl(&to.data.join("control.sock"), &to, &["restore", "-f", text(&file), "--yes"]);
            std::thread::sleep(std::time::Duration::from_millis((random >> 33) % 120));
            if (random >> 20).is_multiple_of(2) {
                client.kill().unwrap();
                client.wait().unwrap();
            } else {
                daemon.kill();
                client.wait().unwrap();
                daemon = to.start();
            }
        }
        restore(&to, &file, &[], 0);
        assert_eq!(contents(&to), contents(&from), "round {round}");
        assert_eq!(about_users(&to), about_users(&from), "round {round}");
        drop(daemon);
    }
}

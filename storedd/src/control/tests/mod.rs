//! The door with a service of a few lines behind it, over real sockets.

mod hostile;
mod limits;
mod roles;
mod strangers;
mod traffic;

use super::*;
use crate::lsn::Lsn;
use crate::model::{Command, Outcome};
use crate::site::Site;
use proto::frame::{self, Inbox, Kind, PAYLOAD_BYTES_MAX, VERSION};
use proto::{Checkpoint, Client, ClientError, Code, Done, Failure, Reply, Request, Timeouts, codec};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

/// A store that commits on a thread of its own, and does odd things on odd names.
pub(super) struct Fake {
    state: Mutex<State>,
    commits: Mutex<mpsc::Sender<(u64, Completion)>>,
    lsn: AtomicU64,
    /// Users of the changes, in the order in which they were submitted.
    submitted: Mutex<Vec<String>>,
    /// Changes of users named `hold...`, until let go.
    held: Mutex<Vec<Completion>>,
    /// Lists that ended because nobody read them.
    stopped: AtomicUsize,
    /// Rows produced for lists.
    rows: AtomicUsize,
    /// Slow work waits while this is shut.
    gate: (Mutex<bool>, Condvar),
    groups: Mutex<access::Groups>,
}

impl Fake {
    fn new() -> Arc<Fake> {
        let (commits, queue) = mpsc::channel::<(u64, Completion)>();
        std::thread::spawn(move || {
            for (lsn, done) in queue {
                done(Ok(Committed { lsn: Lsn(lsn), outcome: Outcome::Done }));
            }
        });
        Arc::new(Fake {
            state: Mutex::new(State::Ready),
            commits: Mutex::new(commits),
            lsn: AtomicU64::new(0),
            submitted: Mutex::default(),
            held: Mutex::default(),
            stopped: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
            gate: (Mutex::new(true), Condvar::new()),
            groups: Mutex::default(),
        })
    }

    fn let_go(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        held.into_iter().for_each(|done| done(Ok(Committed { lsn: Lsn(1), outcome: Outcome::Done })));
    }

    fn set_gate(&self, open: bool) {
        *self.gate.0.lock().unwrap() = open;
        self.gate.1.notify_all();
    }

    fn pass_gate(&self) {
        let _open = self.gate.1.wait_while(self.gate.0.lock().unwrap(), |open| !*open).unwrap();
    }

    fn list(&self, rows: usize, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        let mut listing = Listing::new(Reply::Subscriptions, parts);
        for n in 0..rows {
            self.rows.fetch_add(1, Ordering::Relaxed);
            listing.push(format!("row {n} {}", "x".repeat(100))).inspect_err(|_| {
                self.stopped.fetch_add(1, Ordering::Relaxed);
            })?;
        }
        Ok(listing.finish())
    }
}

impl Service for Fake {
    fn state(&self) -> State {
        *self.state.lock().unwrap()
    }

    fn groups(&self) -> access::Groups {
        self.groups.lock().unwrap().clone()
    }

    fn hold(&self, _peer: &Peer, _request: &Request, _cut: Box<dyn Fn() + Send>, done: Answered) {
        done(Ok(Reply::Done(proto::Done { done: true })));
    }

    fn job(&self, _peer: &Peer, _request: &Request, _events: Events, done: Answered) {
        done(Ok(Reply::Done(proto::Done { done: true })));
    }

    fn change(&self, _peer: &Peer, command: Command, done: Completion) {
        let name = match command {
            Command::UserDelete { user } => user,
            other => format!("{other:?}"),
        };
        self.submitted.lock().unwrap().push(name.clone());
        match name.as_str() {
            "drop" => drop(done),
            "panic" => panic!("on purpose"),
            "refuse" => done(Err(Failure::new(Code::NoUser, "no such user"))),
            name if name.starts_with("hold") => self.held.lock().unwrap().push(done),
            _ => {
                let lsn = self.lsn.fetch_add(1, Ordering::SeqCst) + 1;
                self.commits.lock().unwrap().send((lsn, done)).unwrap();
            }
        }
    }

    fn dry_run(&self, _peer: &Peer, _command: Command) -> Result<Committed, Failure> {
        Ok(Committed { lsn: Lsn::ZERO, outcome: Outcome::Mailboxes(3) })
    }

    fn partition(&self, name: &str, _site: &Site, dry_run: bool) -> Result<[u8; 16], Failure> {
        assert!(!dry_run || name == "dry");
        self.pass_gate();
        if name == "bad" { Err(Failure::new(Code::Io, "no such directory")) } else { Ok([7; 16]) }
    }

    fn query(&self, request: &Request, peer: &Peer, parts: &mut Parts<'_>) -> Result<Reply, Failure> {
        match request {
            Request::UserShow { user } if user == "panic" => panic!("on purpose"),
            Request::UserShow { user } if user == "hangs" => {
                self.pass_gate();
                Ok(Reply::Done(Done { done: true }))
            }
            Request::UserShow { user } if user == "large" => {
                Ok(Reply::Subscriptions(vec!["x".repeat(PAYLOAD_BYTES_MAX as usize)]))
            }
            Request::UserShow { user } => Ok(Reply::Subscriptions(vec![user.clone(), peer.client.clone()])),
            Request::UserList { pattern } => self.list(pattern.as_ref().map_or(0, |p| p.parse().unwrap()), parts),
            Request::MailboxList { pattern } if pattern == "panic" => panic!("on purpose"),
            Request::MailboxList { pattern } if pattern == "late" => {
                parts(Reply::Subscriptions(vec!["a".to_owned()]))?;
                Err(Failure::new(Code::Io, "half way"))
            }
            Request::Checkpoint => {
                self.pass_gate();
                Ok(Reply::Checkpoint(Checkpoint { lsn: 1, duration: 0.0, retired: vec![] }))
            }
            _ => Ok(Reply::Done(Done { done: true })),
        }
    }
}

/// An open door.
pub(super) struct House {
    runtime: Option<tokio::runtime::Runtime>,
    door: Option<Door>,
    dir: tempfile::TempDir,
    fake: Arc<Fake>,
    counters: Arc<Counters>,
}

impl House {
    fn new(limits: Limits) -> House {
        let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (fake, counters) = (Fake::new(), Arc::new(Counters::default()));
        let listener = Listener::bind(&dir.path().join("s"), 0o660).unwrap();
        let door = {
            let _inside = runtime.enter();
            Some(Door::open(listener, fake.clone(), limits, counters.clone()).unwrap())
        };
        House { runtime: Some(runtime), door, dir, fake, counters }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn try_client(&self) -> Result<Client, ClientError> {
        let answer = Some(Duration::from_secs(20));
        Client::connect(self.path(), "test", Timeouts { answer, ..Timeouts::default() })
    }

    fn client(&self) -> Client {
        self.try_client().unwrap()
    }

    fn raw(&self) -> Raw {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Raw { stream, inbox: Inbox::default() }
    }

    /// A greeted connection without the client's help.
    fn raw_greeted(&self) -> Raw {
        let mut raw = self.raw();
        raw.send(&request(1, &hello()));
        assert!(matches!(raw.next(), Some((Kind::Reply, 1, _))));
        raw
    }

    fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    fn close(&mut self, grace: Duration) {
        let (runtime, door) = (self.runtime.as_ref().unwrap(), self.door.take().unwrap());
        runtime.block_on(door.close(grace));
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // A test that failed leaves nothing that waits.
        self.fake.set_gate(true);
        drop(self.door.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// A socket and the frames that come from it.
struct Raw {
    stream: UnixStream,
    inbox: Inbox,
}

impl Raw {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn finish(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The next frame; `None` at the end of the stream. Anything but whole frames fails.
    fn next(&mut self) -> Option<(Kind, u64, Vec<u8>)> {
        loop {
            if let Some(frame) = self.inbox.next(PAYLOAD_BYTES_MAX).unwrap() {
                return Some((frame.kind, frame.id, frame.payload.to_vec()));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    assert_eq!(self.inbox.waiting(), 0, "the stream ends inside a frame");
                    return None;
                }
                Ok(n) => self.inbox.buffer().extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("the daemon neither answers nor closes: {e}"),
            }
        }
    }

    /// The next frame must be this failure.
    fn failure(&mut self) -> (u64, Failure) {
        let (kind, id, payload) = self.next().expect("an error frame");
        assert_eq!(kind, Kind::Error);
        (id, codec::decode(&payload).unwrap())
    }

    /// The daemon says why under id 0 and closes.
    fn farewell(&mut self) -> Failure {
        let (id, failure) = self.failure();
        assert_eq!(id, frame::CONNECTION_ID);
        assert!(self.next().is_none(), "nothing follows a farewell");
        failure
    }
}

fn hello() -> Request {
    Request::Hello { version: VERSION, client: "raw".to_owned() }
}

fn request(id: u64, request: &Request) -> Vec<u8> {
    let mut out = Vec::new();
    codec::put(&mut out, Kind::Request, id, request).unwrap();
    out
}

fn change(user: &str) -> Request {
    Request::Change { command: proto::Command::UserDelete { user: user.to_owned() }, dry_run: false }
}

fn list(rows: usize) -> Request {
    Request::UserList { pattern: Some(rows.to_string()) }
}

fn show(user: &str) -> Request {
    Request::UserShow { user: user.to_owned() }
}

/// Waits until something becomes true.
fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

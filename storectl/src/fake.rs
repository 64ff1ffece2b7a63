//! A daemon for the tests: a real socket and real frames, answers from a closure.

use proto::frame::{Inbox, Kind, PAYLOAD_BYTES_MAX};
use proto::{Changed, Command, Failure, Hello, Reply, Request, codec};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};

/// What the daemon does with one request.
pub enum Act {
    /// One reply.
    Reply(Reply),
    /// Parts and the last one.
    Parts(Vec<Reply>),
    /// A refusal.
    Refuse(Failure),
    /// Parts, then a refusal in the middle of the answer.
    Breaks(Vec<Reply>, Failure),
    /// The connection is closed without an answer.
    Close,
    /// One reply, then the connection is closed.
    Last(Reply),
    /// Answered only after the next request, and after its answer.
    Later(Reply),
}

/// A daemon that listens.
pub struct Fake {
    dir: tempfile::TempDir,
    /// Requests as they come, without the greeting.
    pub asked: Receiver<Request>,
}

impl Fake {
    /// Starts a daemon that serves connections one after the other.
    pub fn start(mut each: impl FnMut(&Request) -> Act + Send + 'static) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let (tell, asked) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                serve(stream, &mut |request| {
                    let _ = tell.send(request.clone());
                    each(request)
                });
            }
        });
        Fake { dir, asked }
    }

    /// The data directory.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// A connection.
    pub fn client(&self) -> proto::Client {
        crate::socket::connect(&self.dir().join("control.sock"), None, true).unwrap()
    }
}

/// A daemon that does every change and refuses names with `bad` in them; each gets the next LSN.
pub fn changes() -> impl FnMut(&Request) -> Act + Send + 'static {
    let mut lsn = 0;
    move |request| match request {
        Request::Change { command, .. } if command.target().contains("bad") => {
            Act::Refuse(Failure::new(proto::Code::BadInput, "a bad name").with_hint("choose a better one"))
        }
        Request::Change { command, dry_run } => {
            lsn += u64::from(!dry_run);
            Act::Reply(Reply::Changed(changed(if *dry_run { 0 } else { lsn }, command)))
        }
        Request::Atomic { commands } => {
            lsn += 1;
            Act::Reply(Reply::Each(commands.iter().map(|command| changed(lsn, command)).collect()))
        }
        Request::Subscriptions { user } => Act::Reply(Reply::Subscriptions(vec![format!("{user} at {lsn}")])),
        _ => Act::Reply(Reply::Done(proto::Done { done: true })),
    }
}

/// What a change gives.
pub fn changed(lsn: u64, command: &Command) -> Changed {
    let name = Some(command.target().to_owned());
    Changed { lsn, changed: true, name, id: None, uidvalidity: None, mailboxes: None, messages: None }
}

fn serve(mut stream: UnixStream, each: &mut dyn FnMut(&Request) -> Act) {
    let (mut inbox, mut piece, mut later) = (Inbox::default(), vec![0; 1 << 16], Vec::new());
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        inbox.buffer().extend_from_slice(&piece[..length]);
        let mut out = Vec::new();
        while let Some(frame) = inbox.next(PAYLOAD_BYTES_MAX).unwrap() {
            let id = frame.id;
            if frame.kind == Kind::Ping {
                proto::frame::put(&mut out, Kind::Ping, id, &[]).unwrap();
                continue;
            }
            let request: Request = codec::decode(frame.payload).unwrap();
            let mut say = |kind, reply: &Reply| codec::put(&mut out, kind, id, reply).unwrap();
            if let Request::Hello { version, .. } = request {
                let (server, state) = ("fake".to_owned(), "ready".to_owned());
                say(Kind::Reply, &Reply::Hello(Hello { version, server, state }));
                continue;
            }
            match each(&request) {
                Act::Later(reply) => {
                    later.push((id, reply));
                    continue;
                }
                Act::Reply(reply) => say(Kind::Reply, &reply),
                Act::Parts(mut parts) => {
                    let last = parts.pop().unwrap();
                    parts.iter().for_each(|part| say(Kind::Part, part));
                    say(Kind::Reply, &last);
                }
                Act::Refuse(failure) => codec::put(&mut out, Kind::Error, id, &failure).unwrap(),
                Act::Breaks(parts, failure) => {
                    parts.iter().for_each(|part| say(Kind::Part, part));
                    codec::put(&mut out, Kind::Error, id, &failure).unwrap();
                }
                Act::Last(reply) => {
                    say(Kind::Reply, &reply);
                    stream.write_all(&out).unwrap();
                    return;
                }
                Act::Close => {
                    stream.write_all(&out).unwrap();
                    return;
                }
            }
            for (id, reply) in later.drain(..) {
                codec::put(&mut out, Kind::Reply, id, &reply).unwrap();
            }
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

//! The client against a daemon that is a thread and says what the test wants.

use super::*;
use crate::codec;
use crate::frame::{self, CONNECTION_ID, Inbox, Kind, PAYLOAD_BYTES_MAX};
use crate::{Changed, Code, Command, Done};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

/// The daemon's end of a connection.
struct End {
    stream: UnixStream,
    inbox: Inbox,
}

impl End {
    fn next(&mut self) -> Option<(u64, Request)> {
        loop {
            if let Some(frame) = self.inbox.next(PAYLOAD_BYTES_MAX).unwrap() {
                return Some((frame.id, codec::decode(frame.payload).unwrap()));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(n) if n > 0 => self.inbox.buffer().extend_from_slice(&bytes[..n]),
                _ => return None,
            }
        }
    }

    fn say<T: codec::Payload>(&mut self, kind: Kind, id: u64, value: &T) {
        let mut out = Vec::new();
        codec::put(&mut out, kind, id, value).unwrap();
        // A client that has heard enough may have left.
        drop(self.stream.write_all(&out));
    }

    fn greet(&mut self) {
        let (id, request) = self.next().unwrap();
        assert!(matches!(request, Request::Hello { version: VERSION, .. }), "{request:?}");
        self.say(Kind::Reply, id, &hello(VERSION));
    }
}

fn hello(version: u16) -> Reply {
    Reply::Hello(Hello { version, server: "storedd test".to_owned(), state: "ready".to_owned() })
}

fn done() -> Reply {
    Reply::Done(Done { done: true })
}

fn names(names: &[&str]) -> Reply {
    Reply::Subscriptions(names.iter().map(|n| (*n).to_owned()).collect())
}

fn subscriptions() -> Request {
    Request::Subscriptions { user: "joe".to_owned() }
}

/// A daemon that serves one connection with `serve`, and the client's connection to it.
fn with_daemon(serve: impl FnOnce(End) + Send + 'static) -> (Result<Client, ClientError>, JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let daemon =
        std::thread::spawn(move || serve(End { stream: listener.accept().unwrap().0, inbox: Inbox::default() }));
    let timeouts = Timeouts { hello: Duration::from_millis(300), ..Timeouts::default() };
    (Client::connect(&path, "test", timeouts), daemon)
}

fn connected(serve: impl FnOnce(End) + Send + 'static) -> (Client, JoinHandle<()>) {
    let (client, daemon) = with_daemon(move |mut end| {
        end.greet();
        serve(end);
    });
    (client.unwrap(), daemon)
}

fn code(result: Result<Client, ClientError>) -> (Code, String) {
    let failure = result.unwrap_err().failure();
    assert!(failure.hint.is_some(), "{failure:?}");
    (failure.code, failure.message)
}

#[test]
fn no_daemon_is_unavailable_and_says_what_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let connect = |path: &Path| code(Client::connect(path, "test", Timeouts::default()));
    let (found, message) = connect(&path);
    assert_eq!(found, Code::Unavailable);
    assert!(message.contains("no socket"), "{message}");
    drop(UnixListener::bind(&path).unwrap());
    let (found, message) = connect(&path);
    assert_eq!(found, Code::Unavailable);
    assert!(message.contains("nobody listens"), "{message}");
    let (found, message) = connect(&dir.path().join("x".repeat(120)));
    assert_eq!(found, Code::Usage);
    assert!(message.contains("at most 107"), "{message}");
}

#[test]
fn missing_permission_is_not_permitted() {
    let cause = io::Error::from(io::ErrorKind::PermissionDenied);
    let failure = ClientError::Unreachable { path: "/run/s".into(), cause }.failure();
    assert_eq!(failure.code, Code::NotPermitted);
    assert!(failure.hint.unwrap().contains("root"));
}

#[test]
fn another_version_is_a_protocol_mismatch() {
    let (client, daemon) = with_daemon(|mut end| {
        let (id, _) = end.next().unwrap();
        end.say(Kind::Reply, id, &hello(VERSION + 1));
    });
    let (found, message) = code(client);
    assert_eq!(found, Code::Protocol);
    assert!(message.contains("version 2, expected 1"), "{message}");
    daemon.join().unwrap();
}

#[test]
fn another_protocol_is_a_protocol_mismatch() {
    let (client, daemon) = with_daemon(|mut end| {
        // Read first: a socket that is closed with unread bytes takes its answer with it.
        end.next().unwrap();
        end.stream.write_all(b"220 mail.example.org ESMTP\r\n").unwrap();
    });
    let (found, message) = code(client);
    assert_eq!(found, Code::Protocol);
    assert!(message.contains("not a frame"), "{message}");
    daemon.join().unwrap();
}

#[test]
fn a_silent_daemon_is_given_up() {
    let (client, daemon) = with_daemon(|mut end| {
        end.next().unwrap();
        assert!(end.next().is_none(), "the client leaves");
    });
    let (found, message) = code(client);
    assert_eq!(found, Code::Unavailable);
    assert!(message.contains("no greeting"), "{message}");
    daemon.join().unwrap();
}

/// The reason counts, not the broken pipe that follows from it: also when the daemon closed before it read anything.
#[test]
fn a_dismissal_is_told_with_its_reason() {
    for read_first in [true, false] {
        let (client, daemon) = with_daemon(move |mut end| {
            if read_first {
                end.next().unwrap();
            }
            end.say(Kind::Error, CONNECTION_ID, &Failure::new(Code::NotPermitted, "uid 7"));
        });
        let error = client.unwrap_err();
        assert!(matches!(&error, ClientError::Dismissed(f) if f.code == Code::NotPermitted), "{error:?}");
        assert!(error.is_fatal());
        daemon.join().unwrap();
    }
}

#[test]
fn a_refused_request_leaves_the_connection_good() {
    let (mut client, daemon) = connected(|mut end| {
        let (id, _) = end.next().unwrap();
        end.say(Kind::Error, id, &Failure::new(Code::Unavailable, "recovering").with_hint("storectl status --watch"));
        let (id, _) = end.next().unwrap();
        end.say(Kind::Reply, id, &done());
    });
    let error = client.call(&Request::Checkpoint).unwrap_err();
    assert!(!error.is_fatal());
    assert_eq!(error.failure().message, "recovering");
    assert_eq!(error.failure().hint.as_deref(), Some("storectl status --watch"));
    assert_eq!(client.call(&Request::Health).unwrap(), done());
    daemon.join().unwrap();
}

#[test]
fn a_lost_connection_says_that_the_change_is_undecided() {
    let (mut client, daemon) = connected(|mut end| drop(end.next()));
    let command = Command::UserDelete { user: "joe".to_owned() };
    let error = client.call(&Request::Change { command, dry_run: false }).unwrap_err();
    assert_eq!(error.failure().code, Code::Unavailable);
    assert!(error.failure().hint.unwrap().contains("may have been done"));
    let again = client.call(&Request::Status).unwrap_err();
    assert!(matches!(again, ClientError::Lost { .. }), "{again:?}");
    daemon.join().unwrap();
}

// S24
#[test]
fn a_damaged_answer_is_never_believed() {
    let (mut client, daemon) = connected(|mut end| {
        let (id, _) = end.next().unwrap();
        let mut out = Vec::new();
        codec::put(&mut out, Kind::Reply, id, &done()).unwrap();
        *out.last_mut().unwrap() ^= 1;
        end.stream.write_all(&out).unwrap();
    });
    assert_eq!(client.call(&Request::Health).unwrap_err().failure().code, Code::Protocol);
    daemon.join().unwrap();
}

#[test]
fn parts_are_put_together_or_streamed() {
    let (mut client, daemon) = connected(|mut end| {
        while let Some((id, _)) = end.next() {
            end.say(Kind::Part, id, &names(&["a"]));
            end.say(Kind::Part, id, &names(&["b"]));
            end.say(Kind::Reply, id, &names(&["c"]));
        }
    });
    assert_eq!(client.call(&subscriptions()).unwrap(), names(&["a", "b", "c"]));
    let mut parts = Vec::new();
    let each = |part| {
        parts.push(part);
        ControlFlow::Continue(())
    };
    client.call_stream(&subscriptions(), each).unwrap();
    assert_eq!(parts, [names(&["a"]), names(&["b"]), names(&["c"])]);
    client.call_stream(&subscriptions(), |_| ControlFlow::Break(())).unwrap();
    assert!(client.call(&Request::Status).is_err(), "a broken stream closes the connection");
    daemon.join().unwrap();
}

#[test]
fn parts_of_different_kinds_are_refused() {
    let (mut client, daemon) = connected(|mut end| {
        let (id, _) = end.next().unwrap();
        end.say(Kind::Part, id, &names(&["a"]));
        end.say(Kind::Reply, id, &done());
    });
    assert_eq!(client.call(&subscriptions()).unwrap_err().failure().code, Code::Protocol);
    daemon.join().unwrap();
}

#[test]
fn answers_out_of_order_find_their_requests() {
    let (mut client, daemon) = connected(|mut end| {
        let ids: Vec<u64> = (0..4).map(|_| end.next().unwrap().0).collect();
        for id in [ids[3], ids[1], ids[0], ids[2]] {
            end.say(Kind::Reply, id, &names(&[&id.to_string()]));
        }
    });
    let ids: Vec<u64> = (0..3).map(|_| client.send(&subscriptions()).unwrap()).collect();
    let last = client.call(&subscriptions()).unwrap();
    assert_eq!(last, names(&[&(ids[2] + 1).to_string()]));
    let mut got = Vec::new();
    while let Some((id, answer)) = client.receive().unwrap() {
        assert_eq!(answer.unwrap(), names(&[&id.to_string()]));
        got.push(id);
    }
    assert_eq!(got, [ids[1], ids[0], ids[2]]);
    daemon.join().unwrap();
}

#[test]
fn a_stream_among_others_keeps_their_answers() {
    let (mut client, daemon) = connected(|mut end| {
        let (first, second) = (end.next().unwrap().0, end.next().unwrap().0);
        end.say(Kind::Part, second, &names(&["a"]));
        end.say(Kind::Reply, first, &done());
        end.say(Kind::Reply, second, &names(&["b"]));
    });
    let first = client.send(&Request::Health).unwrap();
    let mut parts = 0;
    let each = |_| {
        parts += 1;
        ControlFlow::Continue(())
    };
    client.call_stream(&subscriptions(), each).unwrap();
    assert_eq!(parts, 2);
    assert_eq!(client.receive().unwrap(), Some((first, Ok(done()))));
    assert_eq!(client.receive().unwrap(), None);
    daemon.join().unwrap();
}

#[test]
fn too_long_a_request_is_not_sent() {
    let (mut client, daemon) = connected(|mut end| {
        let (id, request) = end.next().unwrap();
        assert_eq!(request, Request::Health);
        end.say(Kind::Reply, id, &done());
    });
    let user = "u".repeat(PAYLOAD_BYTES_MAX as usize);
    let error = client.call(&Request::UserShow { user }).unwrap_err();
    assert_eq!(error.failure().code, Code::BadInput);
    assert_eq!(client.call(&Request::Health).unwrap(), done());
    daemon.join().unwrap();
}

#[test]
fn a_ping_is_answered_by_a_ping() {
    let (mut client, daemon) = connected(|mut end| {
        let mut header = [0; frame::HEADER_BYTES];
        end.stream.read_exact(&mut header).unwrap();
        assert_eq!(frame::parse(&header, 0).unwrap().unwrap().kind, Kind::Ping);
        end.stream.write_all(&header).unwrap();
    });
    client.ping().unwrap();
    daemon.join().unwrap();
}

fn change(n: u64) -> Request {
    Request::Change { command: Command::UserDelete { user: n.to_string() }, dry_run: false }
}

fn changed(lsn: u64) -> Reply {
    Reply::Changed(Changed {
        lsn,
        changed: true,
        name: None,
        id: None,
        uidvalidity: None,
        mailboxes: None,
        messages: None,
    })
}

#[test]
fn a_pipeline_keeps_its_window_and_gets_every_answer() {
    const WINDOW: usize = 8;
    let (client, daemon) = connected(|mut end| {
        // Reads a whole window before it answers, in reverse; less than a window only at the end of the requests.
        loop {
            let mut ids = Vec::new();
            while ids.len() < WINDOW
                && let Some((id, _)) = end.next()
            {
                ids.push(id);
            }
            end.stream.set_nonblocking(true).unwrap();
            let more = end.stream.read(&mut [0]);
            assert!(!matches!(more, Ok(1..)), "more than the window is outstanding");
            end.stream.set_nonblocking(false).unwrap();
            ids.iter().rev().for_each(|id| end.say(Kind::Reply, *id, &changed(*id)));
            if ids.len() < WINDOW {
                return;
            }
        }
    });
    let (mut pipeline, mut answers) = client.pipeline(WINDOW).unwrap();
    let reader = std::thread::spawn(move || {
        let mut ids = Vec::new();
        while let Some((id, answer)) = answers.next().unwrap() {
            assert_eq!(answer, Ok(changed(id)));
            ids.push(id);
        }
        ids
    });
    let mut sent: Vec<u64> = (0..100).map(|n| pipeline.submit(&change(n)).unwrap()).collect();
    pipeline.finish().unwrap();
    let mut got = reader.join().unwrap();
    got.sort_unstable();
    sent.sort_unstable();
    assert_eq!(got, sent);
    daemon.join().unwrap();
}

#[test]
fn a_pipeline_that_sends_nothing_ends() {
    let (client, daemon) = connected(|mut end| assert!(end.next().is_none()));
    let (pipeline, mut answers) = client.pipeline(0).unwrap();
    pipeline.finish().unwrap();
    assert_eq!(answers.next().unwrap(), None);
    daemon.join().unwrap();
}

#[test]
fn a_pipeline_stops_when_the_daemon_goes() {
    let (client, daemon) = connected(|mut end| {
        let (id, _) = end.next().unwrap();
        end.say(Kind::Reply, id, &changed(1));
    });
    let (mut pipeline, mut answers) = client.pipeline(4).unwrap();
    let reader = std::thread::spawn(move || {
        assert!(answers.next().unwrap().is_some());
        answers.next().unwrap_err().failure().code
    });
    let error = (0..1000).find_map(|n| pipeline.submit(&change(n)).and_then(|_| pipeline.flush()).err()).unwrap();
    assert_eq!(error.failure().code, Code::Unavailable);
    assert_eq!(reader.join().unwrap(), Code::Unavailable);
    daemon.join().unwrap();
}

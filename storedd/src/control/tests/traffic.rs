//! What good clients get.

use super::*;
use std::ops::ControlFlow;

#[test]
fn a_client_is_greeted_and_answered() {
    let house = House::new(Limits::default());
    let mut client = house.client();
    assert_eq!(client.hello().version, VERSION);
    assert!(client.hello().server.starts_with("storedd "));
    assert_eq!(client.hello().state, "ready");
    client.ping().unwrap();
    assert_eq!(client.call(&Request::Health).unwrap(), Reply::Done(Done { done: true }));
    let shown = client.call(&show("joe")).unwrap();
    assert_eq!(shown, Reply::Subscriptions(vec!["joe".to_owned(), "test".to_owned()]));
    let Reply::Changed(changed) = client.call(&change("joe")).unwrap() else { panic!() };
    assert_eq!((changed.lsn, changed.changed), (1, true));
    let refused = client.call(&change("refuse")).unwrap_err();
    assert_eq!(refused.failure().code, Code::NoUser);
    let requests = house.counters.requests();
    assert_eq!((requests["hello"], requests["change"], requests["health"]), (1, 2, 1));
    drop(client);
    eventually("the connection is gone", || house.open() == 0);
}

#[test]
fn changes_of_a_connection_are_submitted_in_order() {
    let house = House::new(Limits::default());
    let (mut pipeline, mut answers) = house.client().pipeline(200).unwrap();
    let reader = std::thread::spawn(move || {
        let mut lsns = Vec::new();
        while let Some((_, answer)) = answers.next().unwrap() {
            let Reply::Changed(changed) = answer.unwrap() else { panic!() };
            lsns.push(changed.lsn);
        }
        lsns
    });
    const CHANGES: u64 = 20_000;
    (0..CHANGES).for_each(|n| _ = pipeline.submit(&change(&n.to_string())).unwrap());
    pipeline.finish().unwrap();
    assert_eq!(reader.join().unwrap(), (1..=CHANGES).collect::<Vec<_>>());
    let submitted = house.fake.submitted.lock().unwrap();
    assert_eq!(*submitted, (0..CHANGES).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn answers_overtake_each_other() {
    let house = House::new(Limits::default());
    let mut client = house.client();
    let held = client.send(&change("hold")).unwrap();
    client.call(&show("joe")).unwrap();
    client.call(&list(5000)).unwrap();
    client.call(&change("joe")).unwrap();
    house.fake.let_go();
    let (id, answer) = client.receive().unwrap().unwrap();
    assert_eq!(id, held);
    answer.unwrap();
    assert_eq!(client.receive().unwrap(), None);
}

#[test]
fn long_answers_come_in_bounded_parts() {
    let house = House::new(Limits::default());
    let mut client = house.client();
    let mut parts = Vec::new();
    let each = |part| {
        let Reply::Subscriptions(rows) = part else { panic!() };
        parts.push(rows.len());
        ControlFlow::Continue(())
    };
    client.call_stream(&list(10_500), each).unwrap();
    assert_eq!(parts, [[1000; 10].as_slice(), &[500]].concat());
    let Reply::Subscriptions(rows) = client.call(&list(100_000)).unwrap() else { panic!() };
    assert_eq!(rows.len(), 100_000);
    assert!(rows[99_999].starts_with("row 99999 "));
    assert_eq!(client.call(&list(0)).unwrap(), Reply::Subscriptions(vec![]));
}

#[test]
fn a_failure_in_the_middle_of_a_list_is_its_answer() {
    let house = House::new(Limits::default());
    let mut client = house.client();
    let error = client.call(&Request::MailboxList { pattern: "late".to_owned() }).unwrap_err();
    assert_eq!(error.failure(), Failure::new(Code::Io, "half way"));
    client.call(&list(10)).unwrap();
}

#[test]
fn a_client_that_has_sent_all_still_gets_its_answers() {
    let house = House::new(Limits::default());
    let mut raw = house.raw();
    let mut bytes = request(1, &hello());
    (2..100).for_each(|id| bytes.extend(request(id, &change("joe"))));
    bytes.extend(request(100, &list(3000)));
    raw.send(&bytes);
    raw.finish();
    let mut answered = Vec::new();
    while let Some((kind, id, _)) = raw.next() {
        assert!(matches!(kind, Kind::Reply | Kind::Part), "{kind:?} {id}");
        if kind == Kind::Reply {
            answered.push(id);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=100).collect::<Vec<_>>());
}

/// The store may lose a change or fail on a request: the client hears of it, and nobody else suffers.
#[test]
fn every_request_is_answered_whatever_the_store_does() {
    let house = House::new(Limits::default());
    let mut client = house.client();
    let mut bug = |request: &Request| {
        let error = client.call(request).unwrap_err();
        assert_eq!(error.failure().code, Code::Bug, "{request:?}");
        assert!(!error.is_fatal());
        error.failure()
    };
    assert!(bug(&change("drop")).hint.unwrap().contains("may have been done"));
    bug(&change("panic"));
    assert!(bug(&show("panic")).message.contains("on purpose"));
    bug(&Request::MailboxList { pattern: "panic".to_owned() });
    assert!(bug(&show("large")).message.contains("at most 8388608"));
    client.call(&change("joe")).unwrap();
    assert_eq!(house.counters.changes.load(Ordering::SeqCst), 0);
}

#[test]
fn a_dry_run_changes_nothing() {
    let house = House::new(Limits::default());
    let mut client = house.client();
    for command in [
        proto::Command::UserDelete { user: "joe".to_owned() },
        proto::Command::PartitionAdd { name: "dry".to_owned(), path: "/p".to_owned(), message_path: None },
    ] {
        let Reply::Changed(changed) = client.call(&Request::Change { command, dry_run: true }).unwrap() else {
            panic!()
        };
        assert_eq!((changed.lsn, changed.mailboxes), (0, Some(3)));
    }
    assert!(house.fake.submitted.lock().unwrap().is_empty());
}

/// Preparing a partition takes time; what was asked after it waits.
#[test]
fn a_partition_keeps_its_place_among_the_changes() {
    let house = House::new(Limits::default());
    let mut client = house.client();
    let add =
        |name: &str| proto::Command::PartitionAdd { name: name.to_owned(), path: "/p".to_owned(), message_path: None };
    let dry_run = false;
    house.fake.set_gate(false);
    client.send(&change("before")).unwrap();
    client.send(&Request::Change { command: add("p"), dry_run }).unwrap();
    client.send(&Request::Atomic { commands: vec![add("q")] }).unwrap();
    client.send(&change("after")).unwrap();
    client.flush().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(*house.fake.submitted.lock().unwrap(), ["before"]);
    house.fake.set_gate(true);
    while let Some((_, answer)) = client.receive().unwrap() {
        answer.unwrap();
    }
    let submitted = house.fake.submitted.lock().unwrap().clone();
    assert_eq!(submitted[0], "before");
    assert!(submitted[1].starts_with("PartitionAdd { name: \"p\""), "{submitted:?}");
    assert!(submitted[2].starts_with("Atomic([PartitionAdd { name: \"q\""), "{submitted:?}");
    assert_eq!(submitted[3], "after");
    let refused = client.call(&Request::Change { command: add("bad"), dry_run }).unwrap_err();
    assert_eq!(refused.failure().code, Code::Io);
    client.call(&change("still here")).unwrap();
}

#[test]
fn states_decide_what_is_answered() {
    let house = House::new(Limits::default());
    let expected = [
        (State::Recovering, "recovering", Some(Code::Unavailable), Some(Code::Unavailable)),
        (State::ReadOnly, "read-only", Some(Code::Unavailable), None),
        (State::Draining, "draining", Some(Code::Busy), None),
        (State::Poisoned, "poisoned", Some(Code::LogFailed), None),
        (State::Ready, "ready", None, None),
    ];
    for (state, word, changes, queries) in expected {
        *house.fake.state.lock().unwrap() = state;
        let mut client = house.client();
        assert_eq!(client.hello().state, word);
        client.call(&Request::Status).unwrap();
        let mut code = |request| client.call(&request).err().map(|e: ClientError| e.failure().code);
        assert_eq!(code(change("joe")), changes, "{state:?}");
        assert_eq!(code(show("joe")), queries, "{state:?}");
        assert_eq!(code(Request::Health), (state != State::Ready).then_some(Code::Unavailable));
    }
}

#[test]
fn closing_answers_what_is_at_work_and_tells_the_others() {
    let mut house = House::new(Limits::default());
    let (mut busy, mut idle, lobby) = (house.client(), house.client(), house.raw());
    busy.send(&change("hold")).unwrap();
    busy.flush().unwrap();
    let fake = house.fake.clone();
    eventually("the change is held", || fake.held.lock().unwrap().len() == 1);
    let free = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        fake.let_go();
    });
    let start = Instant::now();
    house.close(Duration::from_secs(10));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(!house.path().exists(), "the name goes");
    busy.receive().unwrap().unwrap().1.unwrap();
    for client in [&mut busy, &mut idle] {
        let error = client.call(&Request::Status).unwrap_err();
        assert!(matches!(&error, ClientError::Dismissed(f) if f.message.contains("stops")), "{error:?}");
    }
    drop(lobby);
    free.join().unwrap();
    assert_eq!(house.open(), 0);
}

#[test]
fn closing_cuts_what_does_not_end() {
    let mut house = House::new(Limits::default());
    let mut client = house.client();
    client.send(&change("hold for ever")).unwrap();
    client.flush().unwrap();
    eventually("the change is held", || house.fake.held.lock().unwrap().len() == 1);
    let start = Instant::now();
    house.close(Duration::from_millis(50));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(client.receive().is_err());
    house.fake.let_go();
}

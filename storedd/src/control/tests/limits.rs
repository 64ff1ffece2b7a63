//! Bounds, and that whoever runs into one costs nobody else anything.

use super::*;

/// Descriptors for both ends of a thousand connections.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map(|max| max.min(65_536));
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

// S6
#[test]
fn a_thousand_idle_connections_cost_nobody_anything() {
    raise_descriptors();
    let house = House::new(Limits { connections: 1001, ..Limits::default() });
    let mut idle: Vec<Raw> = (0..1000).map(|_| house.raw_greeted()).collect();
    let start = Instant::now();
    let mut client = house.client();
    client.call(&change("joe")).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let error = house.try_client().unwrap_err();
    assert!(matches!(&error, ClientError::Dismissed(f) if f.code == Code::Busy), "{error:?}");
    assert!(error.failure().message.contains("1001"));
    idle.pop();
    eventually("a place is free", || house.try_client().is_ok());
    for raw in &mut idle {
        raw.send(&request(2, &show("joe")));
        assert!(matches!(raw.next(), Some((Kind::Reply, 2, _))));
    }
}

/// Some say nothing, some half a greeting; new ones come all the time.
#[test]
fn half_open_connections_never_keep_a_good_client_out() {
    raise_descriptors();
    for ungreeted in [64, 256] {
        let house = House::new(Limits { ungreeted, ..Limits::default() });
        let greeting = request(1, &hello());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut open = std::collections::VecDeque::new();
                while !stop.load(Ordering::Relaxed) {
                    let mut raw = house.raw();
                    // An evicted one notices when it writes.
                    let _ = raw.stream.write_all(&greeting[..open.len() % greeting.len()]);
                    open.push_back(raw);
                    if open.len() > 200 {
                        open.pop_front();
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            eventually("the lobby fills", || house.counters.ungreeted.load(Ordering::Relaxed) >= ungreeted.min(150));
            // One or two of them may meet a machine that is busy with other tests.
            let took = |_| {
                let start = Instant::now();
                house.client().call(&change("joe")).unwrap();
                start.elapsed()
            };
            let slow: Vec<Duration> = (0..50).map(took).filter(|took| *took >= Duration::from_secs(2)).collect();
            assert!(slow.len() <= 2, "{slow:?}");
            stop.store(true, Ordering::Relaxed);
        });
        assert!(house.counters.ungreeted.load(Ordering::Relaxed) <= ungreeted + 1);
    }
}

// S5
#[test]
fn a_greeting_must_come_in_time() {
    let house = House::new(Limits { hello_timeout: Duration::from_millis(50), ..Limits::default() });
    let (mut silent, mut half) = (house.raw(), house.raw());
    half.send(&request(1, &hello())[..20]);
    for raw in [&mut silent, &mut half] {
        assert!(raw.farewell().message.contains("no greeting"));
    }
    eventually("the lobby is empty", || house.counters.ungreeted.load(Ordering::Relaxed) == 0);
    assert_eq!(house.counters.refused.load(Ordering::Relaxed), 2);
}

#[test]
fn a_crowded_lobby_sends_the_oldest_away() {
    let house = House::new(Limits { ungreeted: 2, ungreeted_age: Duration::ZERO, ..Limits::default() });
    let mut oldest = house.raw();
    eventually("it is in", || house.counters.ungreeted.load(Ordering::Relaxed) == 1);
    let _second = house.raw();
    eventually("it is in", || house.counters.ungreeted.load(Ordering::Relaxed) == 2);
    let _third = house.raw();
    assert_eq!(oldest.farewell().code, Code::Busy);
}

#[test]
fn work_of_a_connection_is_bounded() {
    let house = House::new(Limits { in_flight: 4, ..Limits::default() });
    let mut client = house.client();
    (0..100).for_each(|n| _ = client.send(&change(&format!("hold {n}"))).unwrap());
    client.flush().unwrap();
    eventually("four are at work", || house.fake.held.lock().unwrap().len() == 4);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(house.fake.held.lock().unwrap().len(), 4);
    let mut answered = 0;
    while answered < 100 {
        house.fake.let_go();
        answered += usize::from(client.receive().unwrap().is_some());
    }
    let expected: Vec<String> = (0..100).map(|n| format!("hold {n}")).collect();
    assert_eq!(*house.fake.submitted.lock().unwrap(), expected);
}

// S6
#[test]
fn a_full_queue_is_an_answer() {
    let house = House::new(Limits { queue: 2, ..Limits::default() });
    let mut client = house.client();
    (0..2).for_each(|_| _ = client.send(&change("hold")).unwrap());
    client.flush().unwrap();
    eventually("two are at work", || house.fake.held.lock().unwrap().len() == 2);
    let error = house.client().call(&change("joe")).unwrap_err();
    assert_eq!(error.failure().code, Code::Busy);
    house.fake.let_go();
    (0..2).for_each(|_| drop(client.receive().unwrap().unwrap().1.unwrap()));
    house.client().call(&change("joe")).unwrap();
}

// S5
/// It asks for a list without end and reads nothing: its list stops at once, it is cut in time, others go on.
#[test]
fn a_client_that_never_reads_is_cut_and_blocks_nobody() {
    let write_timeout = Duration::from_secs(2);
    let house = House::new(Limits { write_timeout, scans: 2, ..Limits::default() });
    let mut deaf = house.raw_greeted();
    deaf.send(&request(2, &list(usize::MAX)));
    (3..100).for_each(|id| deaf.send(&request(id, &change("joe"))));
    let start = Instant::now();
    let mut client = house.client();
    let mut answered = 0;
    while house.counters.stalled.load(Ordering::Relaxed) == 0 {
        client.call(&change("joe")).unwrap();
        client.call(&show("joe")).unwrap();
        client.call(&list(2000)).unwrap();
        answered += 1;
        assert!(start.elapsed() < Duration::from_secs(20), "never cut");
    }
    assert!(start.elapsed() >= write_timeout);
    assert!(answered >= 5, "who waits for the deaf one is answered once: {answered}");
    eventually("its list stops", || house.fake.stopped.load(Ordering::Relaxed) == 1);
    drop(client);
    eventually("both are gone", || house.open() == 0);
    // What a socket holds, two parts here and two there; the good client's lists stand beside it.
    let lists = house.counters.requests()["user list"] as usize - 1;
    let deaf_rows = house.fake.rows.load(Ordering::Relaxed) - lists * 2000;
    assert!(deaf_rows < 30_000, "{deaf_rows} rows were made for nobody");
}

/// Pings and queries without reading an answer: the door stops reading.
#[test]
fn a_client_that_only_asks_is_cut() {
    let house = House::new(Limits { write_timeout: Duration::from_millis(300), ..Limits::default() });
    let mut deaf = house.raw_greeted();
    let asks: Vec<u8> = (2..2000).flat_map(|id| request(id, &show(&"x".repeat(200)))).collect();
    let cut = (0..1000).find_map(|_| deaf.stream.write_all(&asks).err());
    assert!(cut.is_some(), "the door read 600 MB of questions");
    assert_eq!(house.counters.stalled.load(Ordering::Relaxed), 1);
    house.client().call(&change("joe")).unwrap();
}

#[test]
fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let house = House::new(Limits { idle_timeout: Duration::from_millis(400), ..Limits::default() });
    let (mut idle, mut waiting) = (house.raw_greeted(), house.raw_greeted());
    waiting.send(&request(2, &change("hold")));
    eventually("it waits", || house.fake.held.lock().unwrap().len() == 1);
    let failure = idle.farewell();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message.contains("nothing was asked"), "{}", failure.message);
    std::thread::sleep(Duration::from_millis(900));
    house.fake.let_go();
    assert!(matches!(waiting.next(), Some((Kind::Reply, 2, _))));
    assert_eq!(waiting.farewell().code, Code::Unavailable, "and then it is idle too");
}

#[test]
fn pings_keep_a_connection() {
    let house = House::new(Limits { idle_timeout: Duration::from_secs(1), ..Limits::default() });
    let mut client = house.client();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        client.ping().unwrap();
    }
}

#[test]
fn slow_work_waits_for_a_place() {
    let house = House::new(Limits { scans: 1, ..Limits::default() });
    let (mut first, mut second) = (house.client(), house.client());
    house.fake.set_gate(false);
    first.send(&Request::Checkpoint).unwrap();
    first.flush().unwrap();
    eventually("it is at work", || house.counters.requests().contains_key("checkpoint"));
    std::thread::sleep(Duration::from_millis(20));
    second.send(&list(10)).unwrap();
    second.call(&show("joe")).unwrap();
    // One that leaves while it waits takes no place.
    let mut third = house.client();
    third.send(&list(1_000_000)).unwrap();
    third.flush().unwrap();
    eventually("it waits", || house.counters.requests()["user list"] == 2);
    drop(third);
    eventually("it is gone", || house.open() == 2);
    house.fake.set_gate(true);
    first.receive().unwrap().unwrap().1.unwrap();
    second.receive().unwrap().unwrap().1.unwrap();
    assert_eq!(house.fake.rows.load(Ordering::Relaxed), 10);
}

// S4, S6
#[test]
fn memory_for_half_arrived_requests_is_bounded() {
    let house = House::new(Limits { partial_bytes: 1 << 20, ..Limits::default() });
    let long = request(2, &show(&"x".repeat(900_000)));
    let mut first = house.raw_greeted();
    first.send(&long[..800_000]);
    eventually("it is held", || house.counters.partial_bytes.load(Ordering::Relaxed) > 500_000);
    let mut second = house.raw_greeted();
    // It may be refused before all is written.
    let _ = second.stream.write_all(&long[..800_000]);
    assert_eq!(second.farewell().code, Code::Busy);
    first.send(&long[800_000..]);
    assert!(matches!(first.next(), Some((Kind::Reply, 2, _))));
    eventually("it is given back", || house.counters.partial_bytes.load(Ordering::Relaxed) == 0);
}

#[test]
fn clients_that_leave_in_the_middle_leave_nothing() {
    let house = House::new(Limits::default());
    for n in 0..50 {
        let mut raw = house.raw_greeted();
        raw.send(&request(2, &change("hold")));
        raw.send(&request(3, &list(usize::MAX)));
        raw.send(&request(4, &change("joe"))[..n.min(40)]);
        if n % 2 == 0 {
            raw.next();
        }
    }
    eventually("all are gone", || house.open() == 0);
    eventually("all lists stop", || {
        let begun = house.counters.requests().get("user list").copied().unwrap_or(0);
        let before = house.fake.rows.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
        begun > 0 && house.fake.rows.load(Ordering::Relaxed) == before
    });
    house.fake.let_go();
    house.client().call(&change("joe")).unwrap();
    assert_eq!(house.counters.changes.load(Ordering::Relaxed), 0);
}

// Two looks at a database that did not answer held every worker there was, and nobody could ask any more what was wrong.
#[test]
fn a_database_that_does_not_answer_leaves_a_worker_for_those_who_ask_why() {
    let house = House::new(Limits { scans: 4, looks: 6, ..Limits::default() });
    house.fake.set_gate(false);
    let mut waiting: Vec<_> = (0..20).map(|_| house.client()).collect();
    for client in &mut waiting {
        client.send(&show("hangs")).unwrap();
        client.flush().unwrap();
    }
    eventually("all are at work or wait", || house.counters.requests().get("user show") == Some(&20));
    assert!(house.counters.looks.load(Ordering::Relaxed) <= 6);
    let mut asks = house.client();
    for question in [Request::Status, Request::Locks, Request::Metrics, Request::Stats, Request::Jobs] {
        asks.call(&question).unwrap();
    }
    asks.call(&change("joe")).unwrap();
    house.fake.set_gate(true);
    for client in &mut waiting {
        client.receive().unwrap().unwrap().1.unwrap();
    }
    eventually("all places are free", || house.counters.looks.load(Ordering::Relaxed) == 0);
}

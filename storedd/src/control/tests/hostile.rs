//! Bytes that no good client sends.

use super::*;
use proto::frame::{HEADER_BYTES, REQUEST_BYTES_DEFAULT};

/// A header with chosen fields and a right checksum, for an empty payload.
fn header(version: u16, kind: u8, flags: u8, length: u32, id: u64) -> Vec<u8> {
    let crc = |bytes: &[u8]| crate::checksum::Crc::resume(0x5344_5046).add(bytes).value();
    let mut h = frame::MAGIC.to_vec();
    h.extend(version.to_le_bytes());
    h.extend([kind, flags]);
    h.extend(length.to_le_bytes());
    h.extend(id.to_le_bytes());
    h.extend(crc(&[]).to_le_bytes());
    let sum = crc(&h);
    h.extend(sum.to_le_bytes());
    h
}

#[test]
fn wrong_bytes_get_one_error_and_the_end() {
    let house = House::new(Limits::default());
    let mut damaged = request(2, &show("joe"));
    damaged[HEADER_BYTES] ^= 1;
    let mut bad_header = request(2, &show("joe"));
    bad_header[9] ^= 1;
    let cases: [(&str, Vec<u8>, Code, &str); 9] = [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Code::Protocol, "not a frame"),
        ("damaged payload", damaged, Code::Protocol, "request 2: damaged frame payload"),
        ("damaged header", bad_header, Code::Protocol, "damaged frame header"),
        ("version", header(9, 1, 0, 0, 5), Code::Protocol, "request 5: protocol version 9, expected 1"),
        ("kind", header(1, 9, 0, 0, 5), Code::Protocol, "unknown kind 9"),
        ("flags", header(1, 1, 4, 0, 5), Code::Protocol, "unknown flags 0x04"),
        ("too long", header(1, 1, 0, REQUEST_BYTES_DEFAULT + 1, 5), Code::BadInput, "at most 1048576"),
        ("id 0", request(0, &show("joe")), Code::Protocol, "id 0"),
        ("a reply", header(1, 2, 0, 0, 5), Code::Protocol, "kind Reply"),
    ];
    for (what, bytes, code, text) in cases {
        let mut raw = house.raw_greeted();
        raw.send(&bytes);
        let failure = raw.farewell();
        assert_eq!(failure.code, code, "{what}");
        assert!(failure.message.contains(text), "{what}: {}", failure.message);
    }
    assert_eq!(house.counters.malformed.load(Ordering::Relaxed), 7);
}

#[test]
fn what_was_asked_before_wrong_bytes_is_still_answered() {
    let house = House::new(Limits::default());
    let mut raw = house.raw_greeted();
    raw.send(&request(2, &change("hold")));
    raw.send(b"garbage");
    eventually("it is held", || house.fake.held.lock().unwrap().len() == 1);
    std::thread::sleep(Duration::from_millis(20));
    house.fake.let_go();
    assert!(matches!(raw.next(), Some((Kind::Reply, 2, _))));
    assert_eq!(raw.farewell().code, Code::Protocol);
}

/// The frame is whole, only its meaning is unknown: the connection goes on.
#[test]
fn unknown_requests_are_answered() {
    let house = House::new(Limits::default());
    let mut raw = house.raw_greeted();
    let unknown = format!("unknown request number 99, expected 0 to {}", Request::COUNT - 1);
    let cases: [(&[u8], Code, &str); 4] = [
        (&99u32.to_le_bytes(), Code::Protocol, &unknown),
        (&[1, 0, 0, 0, 7], Code::BadInput, "ends after 4 bytes of 5"),
        (&[10, 0, 0, 0], Code::BadInput, "undecodable request"),
        (&[], Code::BadInput, "undecodable request"),
    ];
    for (id, (payload, code, text)) in (2u64..).zip(cases) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, Kind::Request, id, payload).unwrap();
        raw.send(&bytes);
        let (answered, failure) = raw.failure();
        assert_eq!((answered, failure.code), (id, code));
        assert!(failure.message.contains(text), "{}", failure.message);
    }
    raw.send(&request(20, &hello()));
    assert!(raw.failure().1.message.contains("greeted already"));
    raw.send(&request(21, &show("joe")));
    assert!(matches!(raw.next(), Some((Kind::Reply, 21, _))));
}

#[test]
fn a_connection_starts_with_a_greeting() {
    let house = House::new(Limits::default());
    let name = |client: String, version| request(1, &Request::Hello { version, client });
    let cases = [
        ("a request", request(1, &Request::Status), "starts with a greeting"),
        ("a ping", header(1, 5, 0, 0, 1), "starts with a greeting"),
        ("another version", name("x".to_owned(), 7), "version 7"),
        ("a long name", name("x".repeat(300), VERSION), "name of 300 bytes"),
        ("a very long name", name("x".repeat(100_000), VERSION), "at most 512"),
        ("another protocol", b"EHLO x\r\n".to_vec(), "not a frame"),
    ];
    for (what, bytes, text) in cases {
        let mut raw = house.raw();
        // It may be refused before all is written.
        let _ = raw.stream.write_all(&bytes);
        let failure = raw.farewell();
        assert_eq!(failure.code, Code::Protocol, "{what}");
        assert!(failure.message.contains(text), "{what}: {}", failure.message);
    }
    assert_eq!(house.open(), 0);
}

#[test]
fn half_a_request_is_waited_for_and_then_given_up() {
    let house = House::new(Limits { frame_timeout: Duration::from_millis(500), ..Limits::default() });
    let whole = request(2, &show("joe"));
    let mut slow = house.raw_greeted();
    let (first, second) = whole.split_at(10);
    slow.send(first);
    std::thread::sleep(Duration::from_millis(20));
    slow.send(second);
    assert!(matches!(slow.next(), Some((Kind::Reply, 2, _))));
    // A dribble is no progress: the whole request has its time, not each byte.
    for byte in &whole {
        if slow.stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(slow.farewell().message.contains("not complete after 0.5 s"));
    let mut ended = house.raw_greeted();
    ended.send(first);
    ended.finish();
    assert!(ended.farewell().message.contains("ends inside a request, 10 bytes"));
    house.client().call(&show("joe")).unwrap();
}

#[test]
fn requests_of_the_longest_length_are_taken() {
    let house = House::new(Limits::default());
    let user = "x".repeat(REQUEST_BYTES_DEFAULT as usize - 12);
    let mut client = house.client();
    let Reply::Subscriptions(shown) = client.call(&show(&user)).unwrap() else { panic!() };
    assert_eq!(shown[0].len(), user.len());
    let error = client.call(&show(&(user + "x"))).unwrap_err();
    assert!(matches!(&error, ClientError::Dismissed(f) if f.code == Code::BadInput), "{error:?}");
}

/// A generator of numbers (xorshift) that repeats from its seed.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// A stream of good frames with one to four things wrong in it.
fn mutated(seed: &mut Seed) -> Vec<u8> {
    let mut bytes = request(1, &hello());
    bytes.extend(request(2, &show("joe")));
    bytes.extend(request(3, &change("joe")));
    bytes.extend(request(4, &list(1500)));
    let commands = vec![proto::Command::UserDelete { user: "joe".to_owned() }; 3];
    bytes.extend(request(5, &Request::Atomic { commands }));
    for _ in 0..=seed.below(4) {
        let at = seed.below(bytes.len());
        match seed.below(8) {
            0 => bytes[at] ^= 1 << seed.below(8),
            1 => bytes[at] = 0xff,
            2 => bytes.truncate(at.max(1)),
            3 => bytes.insert(at, seed.below(256) as u8),
            4 => drop(bytes.remove(at)),
            5 => {
                let lengths = [0, 1, 1 << 20, (1 << 20) + 1, 8 << 20, 1 << 31, u32::MAX];
                let hostile = header(seed.below(3) as u16, seed.below(8) as u8, 0, lengths[seed.below(7)], at as u64);
                bytes.splice(at..at, hostile);
            }
            6 => {
                // A whole frame around garbage.
                let garbage: Vec<u8> = (0..seed.below(64)).map(|_| seed.below(256) as u8).collect();
                let mut whole = Vec::new();
                frame::put(&mut whole, Kind::Request, 9, &garbage).unwrap();
                bytes.extend(whole);
            }
            _ => bytes.extend_from_within(at..),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

// S4
/// Whatever is sent, only whole frames come back, and an end; and the door stays open to others.
#[test]
fn ten_thousand_mutations() {
    let house = House::new(Limits::default());
    let start = 0x5eed_5eed_5eed_5eed;
    let mut seed = Seed(start);
    for round in 0..10_000 {
        let state = seed.0;
        let bytes = mutated(&mut seed);
        let mut raw = house.raw();
        // The daemon may have closed before all is written.
        let _ = raw.stream.write_all(&bytes);
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        let mut frames = 0;
        while let Some((kind, _, payload)) = raw.next() {
            frames += 1;
            match kind {
                Kind::Error => drop(codec::decode::<Failure>(&payload).unwrap()),
                Kind::Reply | Kind::Part => drop(codec::decode::<Reply>(&payload).unwrap()),
                Kind::Ping => assert!(payload.is_empty()),
                Kind::Request => panic!("round {round}, seed {state:#x}: a request"),
            }
        }
        let cut_in_greeting = frame::parse(&bytes, 512) == Ok(None);
        assert!(frames > 0 || cut_in_greeting, "round {round}, seed {state:#x}: no answer to {bytes:02x?}");
        if round % 1000 == 0 {
            house.client().call(&change("good")).unwrap();
        }
    }
    eventually("all are gone", || house.open() == 0);
    assert_eq!(house.counters.changes.load(Ordering::Relaxed), 0);
    assert!(house.counters.malformed.load(Ordering::Relaxed) > 1000);
}

use super::super::address::Address;
use super::super::delivery::{Delivery, Done, Staging};
use super::super::{Counters, Door, Limits, Sockets};
use super::*;
use crate::lmtp::machine;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A store in a map: `user/<name>/INBOX` -> messages. `full` has no room, `slow` is answered by [`Map::answer`].
#[derive(Default)]
struct Map {
    stored: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
    waiting: Mutex<Vec<Done>>,
    calls: AtomicUsize,
    removed: Arc<AtomicUsize>,
    leaving: AtomicBool,
    disk_full: AtomicBool,
    open: AtomicUsize,
    expected: Arc<AtomicUsize>,
    ever_expected: AtomicUsize,
    resolves_slowly: AtomicBool,
    /// Who looks for `far`, and whether it is found.
    looking: AtomicUsize,
    found: AtomicBool,
}

use std::sync::atomic::AtomicUsize;

/// A message that is on its way.
struct Expected(Arc<AtomicUsize>);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct File {
    bytes: Vec<u8>,
    removed: Arc<AtomicUsize>,
    full: bool,
}

impl Staging for File {
    fn add(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.bytes.extend_from_slice(bytes);
        if self.full { Err(Refused::NoSpace) } else { Ok(()) }
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.removed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Delivery for Map {
    fn begins(&self, _session: u64) -> bool {
        self.open.fetch_add(1, Ordering::Relaxed);
        !self.leaving.load(Ordering::Relaxed)
    }

    fn ended(&self, _session: u64) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn resolve(&self, to: &Address) -> Result<MailboxName, Refused> {
        match to.as_str().split('+').next().unwrap() {
            user @ ("joe" | "ann" | "full" | "slow") => Ok(MailboxName::inbox(user)),
            "far" => {
                assert!(self.resolves_slowly.load(Ordering::Relaxed));
                self.looking.fetch_add(1, Ordering::Relaxed);
                while !self.found.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(MailboxName::inbox("joe"))
            }
            _ => Err(Refused::Unknown),
        }
    }

    fn resolves_slowly(&self) -> bool {
        self.resolves_slowly.load(Ordering::Relaxed)
    }

    fn expect(&self) -> Option<Box<dyn Send>> {
        self.expected.fetch_add(1, Ordering::Relaxed);
        self.ever_expected.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(Expected(self.expected.clone())))
    }

    fn inline_limit(&self) -> usize {
        1000
    }

    fn stage(&self, _to: &MailboxName) -> Result<Box<dyn Staging>, Refused> {
        let full = self.disk_full.load(Ordering::Relaxed);
        Ok(Box::new(File { bytes: Vec::new(), removed: self.removed.clone(), full }))
    }

    fn deliver(&self, _session: u64, message: Message, to: Vec<MailboxName>, done: Done) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let bytes = match message {
            Message::Inline(bytes) => bytes,
            Message::Staged(file) => file.into_any().downcast::<File>().unwrap().bytes.clone(),
        };
        let mut results = Vec::new();
        for mailbox in &to {
            if mailbox.owner() == Some("full") {
                results.push(Err(Refused::OverQuota));
            } else {
                self.stored.lock().unwrap().entry(mailbox.to_string()).or_default().push(bytes.clone());
                results.push(Ok(Stored { uid: 1, lsn: 1 }));
            }
        }
        if to.iter().any(|mailbox| mailbox.owner() == Some("slow")) {
            self.waiting.lock().unwrap().push(done);
        } else {
            done(results);
        }
    }
}

fn limits() -> Limits {
    Limits {
        machine: machine::Limits { message_bytes: 1 << 20, recipients: 10 },
        sessions: 4,
        idle_timeout: Duration::from_secs(20),
        data_timeout: Duration::from_secs(20),
        over_quota_bounces: false,
    }
}

/// An open door on a port, and what it uses.
struct House {
    runtime: Runtime,
    door: Option<Door>,
    map: Arc<Map>,
    counters: Arc<Counters>,
    address: SocketAddr,
}

fn house(limits: Limits) -> House {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (map, counters) = (Arc::new(Map::default()), Arc::new(Counters::default()));
    let tcp = Sockets::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = tcp.local_addr().unwrap();
    let _inside = runtime.enter();
    let sockets = Sockets { unix: None, tcp: Some(tcp) };
    let door = Some(Door::open(sockets, map.clone(), limits, counters.clone(), 1).unwrap());
    drop(_inside);
    House { runtime, door, map, counters, address }
}

impl House {
    /// Sends everything, then reads until the other side ends the connection.
    fn talk(&self, script: &[u8]) -> String {
        self.runtime.block_on(async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(script).await.unwrap();
            let mut said = Vec::new();
            timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await.unwrap().unwrap();
            String::from_utf8(said).unwrap()
        })
    }

    fn until(&self, what: impl Fn() -> bool) {
        self.runtime.block_on(async {
            for _ in 0..2000 {
                if what() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("it does not happen");
        });
    }
}

fn codes(said: &str) -> Vec<u16> {
    let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
    said.lines().filter(last).map(|line| line[..3].parse().unwrap()).collect()
}

#[test]
fn one_message_is_given_to_the_store_once_and_answered_for_each() {
    let house = house(limits());
    let said = house.talk(
        b"LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe>\r\nRCPT TO:<full>\r\nRCPT TO:<joe+x>\r\nRCPT TO:<no>\r\nRCPT TO:<ann>\r\n\
          DATA\r\nhello\r\n.\r\nQUIT\r\n",
    );
    assert_eq!(codes(&said), [220, 250, 250, 250, 250, 250, 550, 250, 354, 250, 452, 250, 250, 221], "{said}");
    let stored = house.map.stored.lock().unwrap().clone();
    let message = vec![b"Return-Path: <a@b>\r\nhello\r\n".to_vec()];
    let expected = [("user/ann/INBOX".to_owned(), message.clone()), ("user/joe/INBOX".to_owned(), message)];
    assert_eq!(stored, BTreeMap::from(expected), "joe is one mailbox, by two addresses");
    assert_eq!(house.map.calls.load(Ordering::Relaxed), 1);
    let refused: Vec<_> = house.counters.refused().filter(|(_, n)| *n > 0).collect();
    assert_eq!(refused, [("unknown", 1), ("over_quota", 1)]);
    let counters = &house.counters;
    assert_eq!((counters.messages.load(Ordering::Relaxed), counters.delivered.load(Ordering::Relaxed)), (1, 3));
}

#[test]
fn long_messages_go_to_a_file_that_does_not_stay() {
    let house = house(limits());
    let long: Vec<u8> = (0..600_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    let head = b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<joe>\r\nDATA\r\n";
    let script = [&head[..], &long, b"\r\n.\r\nQUIT\r\n"].concat();
    assert_eq!(codes(&house.talk(&script)), [220, 250, 250, 250, 354, 250, 221]);
    let expected = [&b"Return-Path: <>\r\n"[..], &long, b"\r\n"].concat();
    assert!(house.map.stored.lock().unwrap()["user/joe/INBOX"] == [expected]);
    house.until(|| house.map.removed.load(Ordering::Relaxed) == 1);

    // Cut off, the message is forgotten, and so is its file.
    let cut = [&head[..], &long].concat();
    house.runtime.block_on(async {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(&cut).await.unwrap();
    });
    house.until(|| house.map.removed.load(Ordering::Relaxed) == 2 && house.map.open.load(Ordering::Relaxed) == 0);

    house.map.disk_full.store(true, Ordering::Relaxed);
    assert_eq!(codes(&house.talk(&script)), [220, 250, 250, 250, 354, 451, 221]);
    assert_eq!(house.map.stored.lock().unwrap()["user/joe/INBOX"].len(), 1);
}

#[test]
fn who_is_too_many_or_too_late_is_sent_away() {
    let house = house(Limits { sessions: 1, ..limits() });
    let first = house.runtime.block_on(TcpStream::connect(house.address)).unwrap();
    house.until(|| house.counters.open.load(Ordering::Relaxed) == 1);
    assert_eq!(house.talk(b""), "421 4.3.2 too many sessions; try again later\r\n");
    drop(first);
    house.until(|| house.counters.open.load(Ordering::Relaxed) == 0);
    house.map.leaving.store(true, Ordering::Relaxed);
    assert_eq!(house.talk(b""), "421 4.3.2 the daemon stops; try again later\r\n");
    assert_eq!(house.counters.turned_away.load(Ordering::Relaxed), 2);
}

#[test]
fn who_says_nothing_is_ended() {
    let short = Duration::from_millis(100);
    let house = house(Limits { idle_timeout: short, data_timeout: short, ..limits() });
    let said = house.talk(b"LHLO c\r\n");
    assert_eq!(codes(&said), [220, 250, 421], "{said}");
    let said = house.talk(b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<joe>\r\nDATA\r\nx");
    assert_eq!(codes(&said), [220, 250, 250, 250, 354, 421], "{said}");
    assert!(house.map.stored.lock().unwrap().is_empty());
    assert_eq!(house.counters.timed_out.load(Ordering::Relaxed), 2);
}

#[test]
fn a_door_that_closes_finishes_what_was_begun() {
    let mut house = house(limits());
    let (tell, told) = std::sync::mpsc::channel();
    let address = house.address;
    // Comes back when so many answers are there; all of them are told when the session is over.
    let client = |script: &'static [u8], answers: usize| {
        let tell = tell.clone();
        let mut said = Vec::new();
        let mut stream = house.runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(script).await.unwrap();
            while codes(&String::from_utf8_lossy(&said)).len() < answers {
                assert!(stream.read_buf(&mut said).await.unwrap() > 0, "{}", String::from_utf8_lossy(&said));
            }
            stream
        });
        house.runtime.spawn(async move {
            stream.read_to_end(&mut said).await.unwrap();
            tell.send(String::from_utf8(said).unwrap()).unwrap();
        });
    };
    client(b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<slow>\r\nDATA\r\nx\r\n.\r\n", 1);
    house.until(|| house.map.waiting.lock().unwrap().len() == 1);
    client(b"LHLO c\r\n", 2);
    let door = house.door.take().unwrap();
    let closing = house.runtime.spawn(door.close(Duration::from_secs(20)));
    let idle = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(codes(&idle), [220, 250, 421], "{idle}");
    assert!(!closing.is_finished(), "it waits for who waits for the store");
    let done = house.map.waiting.lock().unwrap().pop().unwrap();
    done(vec![Ok(Stored { uid: 1, lsn: 1 })]);
    let busy = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(codes(&busy), [220, 250, 250, 250, 354, 250, 421], "{busy}");
    house.runtime.block_on(closing).unwrap();
    assert!(house.runtime.block_on(TcpStream::connect(address)).is_err());
}

#[test]
fn a_store_that_forgets_to_answer_has_failed() {
    let house = house(limits());
    let client = house.runtime.spawn({
        let address = house.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<slow>\r\nDATA\r\n.\r\nQUIT\r\n").await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        }
    });
    house.until(|| house.map.waiting.lock().unwrap().len() == 1);
    house.map.waiting.lock().unwrap().clear();
    assert_eq!(codes(&house.runtime.block_on(client).unwrap()), [220, 250, 250, 250, 354, 451, 221]);
}

// A group is kept open for a client that goes on, and for nobody else.
#[test]
fn a_client_is_waited_for_as_long_as_it_goes_on() {
    let house = house(limits());
    let expected = || house.map.expected.load(Ordering::Relaxed);
    house.runtime.block_on(async {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        let mut said = Vec::new();
        stream.read_buf(&mut said).await.unwrap();
        assert_eq!(expected(), 0, "it has not said a word");
        // It falls silent in the middle of a message, whose answer would take as long as it likes.
        stream.write_all(b"LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe>\r\nDATA\r\nhel").await.unwrap();
        while !String::from_utf8_lossy(&said).contains("354") {
            assert!(stream.read_buf(&mut said).await.unwrap() > 0);
        }
    });
    house.until(|| expected() == 0);
    assert!(house.map.ever_expected.load(Ordering::Relaxed) > 0);
    let many: Vec<u8> = (0..300).flat_map(|_| *b"MAIL FROM:<a@b>\r\nRSET\r\n").collect();
    let script = [b"LHLO c\r\n", &many[..], b"QUIT\r\n"].concat();
    house.talk(&script);
    house.until(|| expected() == 0);
}

// While mailboxes are brought back, somebody is looked for in partitions for every recipient: as many sessions as there are workers kept all
// others, and the numbers, from being served.
#[test]
fn recipients_that_are_looked_for_keep_nobody_waiting() {
    let house = house(limits());
    house.map.resolves_slowly.store(true, Ordering::Relaxed);
    let script = |to: &str| format!("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<{to}>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n");
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (address, script) = (house.address, script("far"));
            house.runtime.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(script.as_bytes()).await.unwrap();
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                String::from_utf8(said).unwrap()
            })
        })
        .collect();
    let looked_for = |n| move |map: &Map| map.looking.load(Ordering::Relaxed) == n;
    // With workers that wait, the third is never heard.
    for _ in 0..4000 {
        if looked_for(3)(&house.map) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let all = looked_for(3)(&house.map);
    if all {
        assert_eq!(codes(&house.talk(script("ann").as_bytes())), [220, 250, 250, 250, 354, 250, 221]);
    }
    house.map.found.store(true, Ordering::Relaxed);
    assert!(all, "{} of 3 are looked for", house.map.looking.load(Ordering::Relaxed));
    for one in waiting {
        assert_eq!(codes(&house.runtime.block_on(one).unwrap()), [220, 250, 250, 250, 354, 250, 221]);
    }
}

//! What reads bytes from outside, one function for each kind of bytes: [`TARGETS`]. Each panics where a promise about any bytes is
//! broken: it ends, panics nowhere, takes memory in proportion, and what it takes for good comes back the same.
//!
//! Two callers: the fuzzer (`tests/fuzz/`, see `.ci/fuzz`), which has the corpus grow, and `tests/fuzzed.rs`, which goes through the corpus
//! and its neighbours in every run of the tests. What lies behind a checksum is also reached without one: a first byte chooses.

use proto::frame::{self, Inbox};
use proto::{Reply, Request, codec};
use std::path::Path;
use storectl::archive;
use storedd::config::Config;
use storedd::disk::{SimDisk, create_all, parent};
use storedd::lmtp::machine::{Limits, Machine, Step};
use storedd::lsn::{Epoch, Lsn, StoreId};
use storedd::model::message::{Message, header_size};
use storedd::model::pattern::Pattern;
use storedd::model::{MailboxName, UserId, rows, utf7};
use storedd::partition::index::{Head, Index};
use storedd::partition::journal::{Format, Journal, NewFrame};
use storedd::partition::manifest::Manifest;
use storedd::partition::tree::Home;
use storedd::partition::{Owner, Past};
use storedd::wal::{self, Depth, Proof, payload};

/// A name, which is that of its corpus, and what is done with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("frame", frame),
    ("request", request),
    ("name", name),
    ("segment", segment),
    ("index", index),
    ("archive", archive),
    ("configuration", configuration),
    ("message", message),
    ("lmtp", lmtp),
];

/// The store, home and mailbox of the corpus.
const STORE: StoreId =
    StoreId([0x8b, 0xca, 0x10, 0x26, 0xc0, 0xa8, 0xb1, 0x41, 0x0e, 0x75, 0x45, 0x35, 0xa5, 0x39, 0x4c, 0xb9]);
const HOME: &str = "=user/de/f1/=joe~1";
const MAILBOX: u64 = 2;

/// Frames of the control socket: bytes that come one by one are the same frames, and a frame that is taken is written the same.
pub fn frame(bytes: &[u8]) {
    const LIMIT: u32 = 1 << 16;
    let taken = |piece: usize| {
        let (mut inbox, mut frames) = (Inbox::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            inbox.buffer().extend_from_slice(piece);
            loop {
                match inbox.next(LIMIT) {
                    Ok(Some(frame)) => frames.push((frame.kind, frame.id, frame.payload.to_vec())),
                    Ok(None) => break,
                    Err(_) => return (frames, true),
                }
            }
        }
        (frames, false)
    };
    let (frames, failed) = taken(bytes.len().max(1));
    assert_eq!((&frames, failed), (&taken(1).0, taken(1).1));
    let mut again = Vec::new();
    frames.iter().for_each(|(kind, id, payload)| frame::put(&mut again, *kind, *id, payload).unwrap());
    assert_eq!(bytes.get(..again.len()), Some(&again[..]));
}

/// Requests and replies.
pub fn request(bytes: &[u8]) {
    fn comes_back<T: codec::Payload + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        let Ok(value) = codec::decode::<T>(bytes) else { return };
        let mut out = Vec::new();
        codec::encode(&value, &mut out).unwrap();
        // Through bytes: a value with a NaN is unlike itself.
        let mut again = Vec::new();
        codec::encode(&codec::decode::<T>(&out).unwrap(), &mut again).unwrap();
        assert_eq!(out, again);
    }
    comes_back::<Request>(bytes);
    comes_back::<Reply>(bytes);
}

/// Names of mailboxes and users, patterns, modified UTF-7.
pub fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = MailboxName::parse(text) {
        assert_eq!(MailboxName::from_key(name.key()).as_ref().map(MailboxName::key), Some(name.key()));
        assert_eq!(MailboxName::parse(&name.to_string()).unwrap().key(), name.key());
        assert_eq!(utf7::decode(&utf7::encode(&name.to_string())).unwrap(), name.to_string());
        assert!(!name.to_string().split('/').any(|part| part.is_empty() || part == "." || part == ".."), "{name}");
        assert!(Pattern::parse("**").unwrap().matches(name.key()));
    }
    if let Ok(decoded) = utf7::decode(text) {
        assert_eq!(utf7::decode(&utf7::encode(&decoded)).unwrap(), decoded);
    }
    if let Ok(user) = UserId::parse(text) {
        let home = Home::parse(&storedd::model::user::directory(&user, 1)).expect("every user has a home");
        assert!(home.path().split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() < 256));
    }
    // The first line is a pattern for the others.
    if let Some((Ok(pattern), names)) = text.split_once('\n').map(|(first, rest)| (Pattern::parse(first), rest)) {
        names.lines().take(4).for_each(|line| _ = pattern.matches(line.as_bytes()));
    }
}

/// A segment of the log; a payload of a record.
pub fn segment(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    if mode % 2 == 1 {
        if let Ok(taken) = payload::bodied(bytes) {
            assert!(taken.bodies.iter().all(|body| bytes.len() >= body.at + body.len));
            payload::changes(taken.changes).into_iter().flatten().for_each(drop);
        }
        payload::changes(bytes).into_iter().flatten().for_each(drop);
        return;
    }
    let disk = SimDisk::new();
    for nth in 1..=1 + u64::from(mode / 2 % 2) {
        disk.plant(&wal::file_name(nth), bytes).unwrap();
    }
    for depth in [Depth::All, Depth::From(Lsn(3))] {
        let Ok(survey) = wal::survey(&disk, STORE, Proof::default(), depth) else { continue };
        let reach = survey.reach(Epoch(1), Lsn(0));
        let mut last = Lsn(0);
        let replayed = wal::replay(&disk, &survey, Epoch(1), Lsn(0), reach.lsn, &mut |record| {
            assert_eq!(record.lsn.0, last.0 + 1, "a gap");
            last = record.lsn;
            record.changes().into_iter().flatten().for_each(drop);
            Ok(())
        });
        if depth == Depth::All {
            assert_eq!(replayed.unwrap().last, reach.lsn);
        }
        let _ = wal::salvage(&disk, &survey, &reach, &mut |_| Ok(()));
    }
}

/// Indexes and manifests: as files, and as frames under good checksums.
pub fn index(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let home = Home::parse(HOME).unwrap();
    let (place, disk, past) = (home.mailbox(MAILBOX), SimDisk::new(), Past::default());
    past.keep(Vec::new());
    let owner = || Owner { store: STORE, past: &past };
    let path = if mode % 2 == 0 { place.index() } else { home.manifest() };
    create_all(&disk, parent(&place.index())).unwrap();
    match mode / 2 % 2 {
        0 => disk.plant(&path, bytes).unwrap(),
        _ => {
            let (magic, subject) = if mode % 2 == 0 { (b"SdIndex1", place.id) } else { (b"SdManif1", home.number()) };
            let format = Format { magic, version: 1 };
            let frames: Vec<NewFrame> = bytes
                .split(|b| *b == b'|')
                .zip(1..)
                .filter(|(part, _)| !part.is_empty())
                .map(|(part, lsn)| NewFrame {
                    kind: part[0],
                    lsn: Lsn(lsn),
                    epoch: Epoch(1),
                    payload: part[1..].to_vec(),
                })
                .take(64)
                .collect();
            if Journal::new(&disk, path.clone(), format, owner(), subject).append_new(&frames).is_err() {
                return;
            }
        }
    }
    if let Ok(history) = Index::new(&disk, owner(), &place).read() {
        let _ = (history.is_sound(Lsn(u64::MAX), 0), history.highest_modseq(Lsn(u64::MAX)));
        history.at(Lsn(u64::MAX)).for_each(|message| _ = message.value.is_live());
    }
    let manifest = Manifest::new(&disk, owner(), &home);
    let _ = (
        manifest.mailbox(MAILBOX).is_ok(),
        manifest.rows().is_ok(),
        manifest.given_up().is_ok(),
        manifest.newest().is_ok(),
    );
    if let Ok(head) = Head::decode(bytes) {
        assert_eq!(Head::decode(&head.encode().unwrap()).as_ref(), Ok(&head));
    }
    if let Ok(message) = Message::decode(bytes) {
        let mut out = Vec::new();
        message.put(&mut out).unwrap();
        assert_eq!(Message::decode(&out).as_ref(), Ok(&message));
    }
    let _ = (rows::UserView::decode(b"joe", bytes).is_ok(), rows::MailboxView::decode(b"user/joe", bytes).is_ok());
}

/// A mailbox archive: as it stands, and frames under good checksums.
pub fn archive(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let mut made = Vec::new();
    if mode % 2 == 1 {
        for (part, number) in bytes.split(|b| *b == 0xff).zip(0..).take(64) {
            let Some((kind, payload)) = part.split_first() else { continue };
            let Some(kind) = archive::frame::Kind::of(*kind % 16) else { continue };
            let (packing, stored) = archive::frame::pack(payload.to_vec(), i32::from(mode / 2 % 2) * 3);
            let head = archive::frame::Head {
                kind,
                packing,
                archive: [3; 16],
                number,
                offset: made.len() as u64,
                stored: stored.len() as u32,
                raw: payload.len() as u32,
                payload_sum: archive::frame::sum(&stored),
            };
            made.extend_from_slice(&head.encode());
            made.extend_from_slice(&stored);
        }
    }
    let bytes = if mode % 2 == 1 { &made } else { bytes };
    let (mut reader, mut behind) = (archive::Reader::new(bytes), 0);
    while let Some(item) = reader.next().unwrap() {
        if let archive::Item::Frame { offset, .. } = item {
            assert!(offset >= behind && offset < bytes.len() as u64, "{offset}");
            behind = offset + 1;
        }
    }
    if let Ok(mut seeker) = archive::Seeker::new(std::io::Cursor::new(bytes)) {
        (0..8).for_each(|number| _ = seeker.message(number));
    }
}

/// A configuration file: one that is taken is shown as one that is taken, with the same values.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let load = |text: &str| Config::from_text(text, None, Some(Path::new("/nowhere")), None);
    match load(text) {
        Ok(config) => {
            let again = load(&config.render()).unwrap_or_else(|problems| panic!("{problems:?}\n{}", config.render()));
            assert_eq!(again.values(), config.values());
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// A message: where its header ends.
pub fn message(bytes: &[u8]) {
    let size = header_size(bytes) as usize;
    assert!(size <= bytes.len());
    // What stands behind the header changes nothing.
    assert_eq!(header_size(&bytes[..size]) as usize, size);
    if size < bytes.len() {
        assert!(bytes[..size].ends_with(b"\n"));
    }
}

/// An LMTP session: bytes in pieces of any size are the same session.
pub fn lmtp(bytes: &[u8]) {
    let session = |piece: usize| {
        let limits = Limits { message_bytes: 4096, recipients: 3 };
        let mut machine: Machine<String> = Machine::new("host.example", limits);
        let (mut replies, mut bodies, mut body) = (Vec::new(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            machine.buffer().extend_from_slice(piece);
            loop {
                match machine.step() {
                    Step::More => break,
                    Step::Resolve(address) => machine.resolved(Ok(address.as_str().to_owned())),
                    Step::Body(part) => body.extend_from_slice(part),
                    Step::Deliver(targets) => {
                        let stored = storedd::lmtp::reply::Reply::new(250, "2.0.0", "stored");
                        machine.delivered(targets.iter().map(|_| stored.clone()).collect());
                        bodies.push((targets, std::mem::take(&mut body)));
                    }
                    Step::Discard => body.clear(),
                    Step::Close => {
                        replies.append(machine.output());
                        return (replies, bodies);
                    }
                }
            }
            replies.append(machine.output());
        }
        (replies, bodies)
    };
    let whole = session(bytes.len().max(1));
    assert!(whole.1.iter().all(|(_, body)| body.len() <= 4096));
    assert_eq!(whole, session(1));
    assert_eq!(whole, session(7));
}

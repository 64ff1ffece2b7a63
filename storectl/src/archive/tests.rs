use super::content::{About, Close, Index, Mailbox, Message, Reference, User};
use super::frame::{self, HEAD_BYTES};
use super::*;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn about() -> About {
    About {
        program: "storectl 0.0".to_owned(),
        store: "00".repeat(16),
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        epoch: 0,
        lsn: 42,
        time: time(1_795_000_000),
        since: None,
        objects: vec!["/".to_owned()],
        single_copy: true,
    }
}

fn mailbox(user: &str, folder: &str) -> Mailbox {
    Mailbox {
        object: format!("/primary/user/{user}/{folder}"),
        name: format!("user/{user}/{folder}"),
        id: "1".to_owned(),
        partition: "primary".to_owned(),
        uidvalidity: 7,
        uidnext: 100,
        highest_modseq: 9,
        acl: BTreeMap::from([(user.to_owned(), "lrswipkxtecda".to_owned())]),
        quota: None,
        before: None,
    }
}

fn message(uid: u32, bytes: &[u8]) -> Message {
    Message {
        uid,
        size: bytes.len() as u64,
        digest: blake3::hash(bytes).to_hex().to_string(),
        date: time(1_700_000_000),
        saved: time(1_700_000_001),
        flags: vec!["\\Seen".to_owned(), "$Work".to_owned()],
        modseq: u64::from(uid),
        mailbox: "user/ann/INBOX".to_owned(),
        begins: 2,
    }
}

/// Bytes that look like mail, others for each number.
fn body(number: u32, length: usize) -> Vec<u8> {
    let line = |n| format!("line {n} of message {number}, {}\r\n", blake3::hash(&[n as u8, number as u8]).to_hex());
    (0..).flat_map(|n: u32| line(n).into_bytes()).take(length).collect()
}

const OPTIONS: Options = Options { level: 3, jobs: 2, block_bytes: 1 };

/// Ann with four messages, one of them of two parts; Bob with one that refers to the first of them.
fn sample(options: Options) -> (Vec<u8>, Totals, Vec<Vec<u8>>) {
    sample_of(options, [100, 5_000, PART_BYTES + 17, 0])
}

/// The same with messages of these lengths.
fn sample_of(options: Options, lengths: [usize; 4]) -> (Vec<u8>, Totals, Vec<Vec<u8>>) {
    let bodies: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, l)| body(n as u32, *l)).collect();
    let mut writer = Writer::new(Vec::new(), options, &about()).expect("written");
    let user = |user: &str| User {
        user: user.to_owned(),
        partition: "primary".to_owned(),
        quota_bytes: Some(1 << 30),
        quota_messages: None,
        subscriptions: vec![format!("user/{user}/INBOX")],
    };
    writer.user(&user("ann")).expect("written");
    writer.mailbox(&mailbox("ann", "INBOX")).expect("written");
    let numbers: Vec<u64> =
        (1..).zip(&bodies).map(|(uid, bytes)| writer.message(&message(uid, bytes), bytes).expect("written")).collect();
    writer.close(&Close { messages: 4, ..Close::default() }).expect("written");
    writer.user(&user("bob")).expect("written");
    writer.mailbox(&mailbox("bob", "INBOX")).expect("written");
    for (uid, at) in [(1, 0), (2, 2)] {
        let message = message(uid, &bodies[at]);
        let of = Some(("/primary/user/ann/INBOX".to_owned(), at as u32 + 1));
        writer.reference(&Reference { message, frame: Some(numbers[at]), of }).expect("written");
    }
    writer.close(&Close { messages: 2, ..Close::default() }).expect("written");
    let (totals, bytes) = writer.finish().expect("written");
    (bytes, totals, bodies)
}

/// Everything that a reader finds.
fn read(bytes: &[u8]) -> (Vec<(u64, Found)>, Vec<Damage>, bool) {
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    let mut reader = Reader::new(Drip(bytes));
    while let Some(item) = reader.next().expect("no error of the input") {
        match item {
            Item::Frame { number, found, .. } => frames.push((number, found)),
            Item::Damage(damage) => damages.push(damage),
        }
    }
    (frames, damages, reader.is_complete())
}

/// An input that gives uneven pieces.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = out.len().min(1 + self.0.len() % 70_001).min(self.0.len());
        out[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

#[test]
fn what_was_written_is_read() {
    for level in [0, 1, 3] {
        let (bytes, totals, bodies) = sample(Options { level, ..OPTIONS });
        assert_eq!((totals.mailboxes, totals.messages, totals.copies), (2, 4, 2));
        let (frames, damages, complete) = read(&bytes);
        assert_eq!((damages, complete), (vec![], true));
        assert_eq!(frames.len() as u64, totals.frames + 1);
        assert!(frames.iter().enumerate().all(|(n, (number, _))| n as u64 == *number));
        assert!(matches!(&frames[0].1, Found::Archive(found) if *found == about()));
        let mut read: Vec<Vec<u8>> = Vec::new();
        for (_, found) in &frames {
            match found {
                Found::Message(message, first) => {
                    assert_eq!(message.flags, ["\\Seen", "$Work"]);
                    read.push(first.clone());
                }
                Found::More(more) => read.last_mut().expect("a message before").extend(more),
                _ => {}
            }
        }
        assert_eq!(read, bodies);
        assert!(level == 0 || bytes.len() < bodies.iter().map(Vec::len).sum::<usize>() * 3 / 4, "packed");
    }
}

#[test]
fn the_number_of_workers_changes_no_byte() {
    assert_eq!(sample(OPTIONS).0, sample(Options { jobs: 1, ..OPTIONS }).0);
}

#[test]
fn one_message_is_found_by_seeking_and_without_an_index_too() {
    let (bytes, _, bodies) = sample(Options { block_bytes: 10_240, ..OPTIONS });
    assert_eq!(bytes.len() % 10_240, 0);
    let mut seeker = Seeker::new(Cursor::new(&bytes)).expect("read");
    let objects: Vec<_> = seeker.mailboxes().expect("an index").iter().map(|(o, _)| o.as_str()).collect();
    assert_eq!(objects, ["/primary/user/ann/INBOX", "/primary/user/bob/INBOX"]);
    let referred: Vec<u64> = read(&bytes)
        .0
        .iter()
        .filter_map(|(_, f)| match f {
            Found::Reference(reference) => reference.frame,
            _ => None,
        })
        .collect();
    assert_eq!(seeker.message(referred[1]).expect("read").as_ref(), Some(&bodies[2]));
    assert_eq!(seeker.message(referred[1] + 1).expect("read"), None, "a frame that is no message");
    // The end is gone: what is asked for is looked for.
    let cut = &bytes[..bytes.len() - 20_000];
    let mut seeker = Seeker::new(Cursor::new(cut)).expect("read");
    assert_eq!(seeker.mailboxes(), None);
    assert_eq!(seeker.message(referred[0]).expect("read").as_ref(), Some(&bodies[0]));
    assert_eq!(seeker.message(9_999).expect("read"), None);
}

#[test]
fn heads_and_ends_of_mailboxes_are_found_without_their_messages() {
    let mut writer = Writer::new(Vec::new(), OPTIONS, &about()).expect("written");
    // Every other UID: as many pairs as there are messages, more than one frame holds.
    let uids = || (1..60_000).step_by(2);
    let begins = writer.mailbox(&mailbox("ann", "INBOX")).expect("written");
    for uid in uids() {
        let reference = Reference { message: message(uid, b"there"), frame: None, of: None };
        writer.reference(&reference).expect("written");
    }
    let kept: Vec<(u32, u32)> = (100_000..120_000).step_by(3).map(|uid| (uid, uid + 1)).collect();
    let close = Close { begins, messages: 30_000, kept: Some(kept.clone()), ..Close::default() };
    writer.close(&close).expect("written");
    // One that could not be listed has no end.
    writer.mailbox(&mailbox("bob", "INBOX")).expect("written");
    let begins = writer.mailbox(&mailbox("cid", "INBOX")).expect("written");
    writer.message(&message(7, b"seven"), b"seven").expect("written");
    writer.close(&Close { begins, messages: 1, ..Close::default() }).expect("written");
    let (_, bytes) = writer.finish().expect("written");
    let (head, found) = Seeker::new(Cursor::new(&bytes)).expect("read").contents().expect("read").expect("all of it");
    assert_eq!(head, about());
    let names: Vec<&str> = found.iter().map(|(mailbox, _)| mailbox.name.as_str()).collect();
    assert_eq!(names, [mailbox("ann", "INBOX").name, mailbox("cid", "INBOX").name]);
    assert_eq!(found[0].1.has, uids().map(|uid| (uid, uid)).collect::<Vec<_>>());
    assert_eq!((found[0].1.kept.as_ref(), &found[1].1.has), (Some(&kept), &vec![(7, 7)]));
    // Where one of these frames is damaged, nothing is said.
    let mut damaged = bytes.clone();
    damaged[frame::HEAD_BYTES + 5] ^= 1;
    assert!(Seeker::new(Cursor::new(&damaged)).expect("read").contents().expect("read").is_none());
}

/// The frames that are not damaged are found, each as it was written, and nothing else.
fn check(good: &[(u64, Found)], damaged: &[u8], what: &str) -> (usize, Vec<Damage>) {
    let (frames, damages, complete) = read(damaged);
    let mut left = good.iter();
    for frame in &frames {
        assert!(left.any(|known| known == frame), "{what}: {frame:?} was not written, or not here");
    }
    if frames.len() < good.len() {
        assert!(!damages.is_empty(), "{what}: {} frames are gone and nothing is told", good.len() - frames.len());
    }
    let missing = good.iter().filter(|(number, _)| !frames.iter().any(|(n, _)| n == number));
    for (number, _) in missing {
        let told = damages.iter().any(|d| d.frames.0 <= *number && d.frames.1.is_none_or(|end| *number < end));
        assert!(told, "{what}: frame {number} is gone, and none of {damages:?} says so");
    }
    assert!(complete || !damages.is_empty(), "{what}");
    (frames.len(), damages)
}

#[test]
fn an_archive_cut_anywhere_gives_back_what_is_before() {
    let (bytes, totals, bodies) = sample(OPTIONS);
    let (good, ..) = read(&bytes);
    // All cuts near the beginning of a frame, and some elsewhere.
    let mut cuts: Vec<usize> = (0..bytes.len()).step_by(if is_all() { 97 } else { 997 }).collect();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEAD_BYTES).and_then(|b| frame::Head::decode(b.try_into().ok()?).ok()) {
        cuts.extend(at..at + HEAD_BYTES + 3);
        at = usize::try_from(head.end()).expect("small");
    }
    cuts.retain(|cut| *cut < at);
    for cut in &cuts {
        let (frames, damages) = check(&good, &bytes[..*cut], &format!("cut at {cut}"));
        assert_eq!(damages.len(), 1);
        assert_eq!(damages[0].to, *cut as u64);
        assert!((frames as u64) <= totals.frames);
    }
    assert_eq!(right(&bytes, &bodies), REFERRED);
    // And each byte of a short one.
    let (short, _, bodies) = short_sample();
    let (good, ..) = read(&short);
    let (end, mut came) = (short.len() - FOOTER_BYTES, 0);
    for cut in 0..end {
        let (_, damages) = check(&good, &short[..cut], &format!("short, cut at {cut}"));
        assert_eq!((damages.len(), damages[0].to), (1, cut as u64));
        if is_all() || cut % 7 == 0 {
            came += right(&short[..cut], &bodies);
        }
    }
    total(&format!(
        "archives cut short: each of {end} bytes of one, and {} places of one with a message of several parts; {came} messages came back, all of them right",
        cuts.len()
    ));
}

/// Messages of the sample that others refer to: an index names these, without an index all are found.
const REFERRED: usize = 2;

/// STOREDD_ARCHIVE_ALL: as much as a release wants, which takes minutes.
fn is_all() -> bool {
    std::env::var_os("STOREDD_ARCHIVE_ALL").is_some()
}

/// What a rig looked at, for `.ci/run` and `.ci/proof`; shown also where a test passes.
fn total(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "rig: {line}");
}

/// One so short that each of its bytes can be tried.
fn short_sample() -> (Vec<u8>, Totals, Vec<Vec<u8>>) {
    let lengths = if is_all() { [100, 5_000, 40_000, 0] } else { [100, 1_500, 700, 0] };
    sample_of(Options { level: 1, ..OPTIONS }, lengths)
}

/// How many messages come back of an archive, by seeking as a restore does for references; each is one that was written.
fn right(bytes: &[u8], bodies: &[Vec<u8>]) -> usize {
    let mut seeker = Seeker::new(Cursor::new(bytes)).expect("read");
    let mut came = 0;
    // Frames 3 to 7 are Ann's messages and their parts; a number that is none gives nothing.
    for number in 0..12 {
        if let Some(found) = seeker.message(number).expect("read") {
            assert!(bodies.contains(&found), "frame {number}: a message that nobody wrote");
            came += 1;
        }
    }
    came
}

// S13
#[test]
fn flipped_bits_cost_one_frame_and_are_told() {
    let few = if is_all() { 1000 } else { 150 };
    let (short, long) = (short_sample(), sample(OPTIONS));
    let lost = flips(&short.0, &short.2, 1000) + flips(&long.0, &long.2, few);
    total(&format!(
        "archives with a flipped bit: {}; {lost} frames lost, each told; no message was a wrong one",
        1000 + few
    ));
}

/// Flips so many bits, each in a copy of its own; how many frames that has cost.
fn flips(bytes: &[u8], bodies: &[Vec<u8>], count: usize) -> usize {
    let (good, ..) = read(bytes);
    let last = bytes.len() - FOOTER_BYTES;
    let (mut random, mut lost) = (0x5eed_u64, 0);
    for _ in 0..count {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (random >> 16) as usize % (last * 8);
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (frames, damages) = check(&good, &damaged, &format!("bit {bit}"));
        // The frame, and the one that says that all are whole.
        // One that is in the last frame is told as that, too.
        let told = if read(&damaged).2 { 1 } else { 2 };
        assert!(frames + 1 >= good.len() && (1..=told).contains(&damages.len()), "bit {bit}: {damages:?}");
        assert!(damages[0].from <= bit as u64 / 8 && bit as u64 / 8 < damages[0].to, "bit {bit}: {damages:?}");
        assert!(right(&damaged, bodies) + 1 >= REFERRED, "bit {bit}: one message at the most");
        lost += good.len() - frames;
    }
    lost
}

// A frame that lost its head, and messages of several frames that lost one of them: what stands beside them comes back, and no message is
// made of pieces of two
#[test]
fn lost_heads_and_split_messages_make_no_wrong_message() {
    let lengths = [2 * PART_BYTES + 5, 300, PART_BYTES + 17, 400];
    let (bytes, _, bodies) = sample_of(OPTIONS, lengths);
    let (good, ..) = read(&bytes);
    let mut heads = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEAD_BYTES).and_then(|b| frame::Head::decode(b.try_into().ok()?).ok()) {
        heads.push((at, head));
        at = usize::try_from(head.end()).expect("small");
    }
    let mut tried = 0;
    for (nth, (from, head)) in heads.iter().enumerate() {
        let (from, end) = (*from, usize::try_from(head.end()).expect("small"));
        let without = |from: usize, end: usize| [&bytes[..from], &bytes[end..]].concat();
        let mut zeroed = bytes.clone();
        zeroed[from..from + HEAD_BYTES].fill(0);
        let mut cases = vec![
            ("a head of zeros", zeroed),
            ("a head is gone", without(from, from + HEAD_BYTES)),
            ("a frame is gone", without(from, end)),
            ("half a frame is gone", without(from + (end - from) / 2, end)),
        ];
        if let Some((_, next)) = heads.get(nth + 1) {
            let next_end = usize::try_from(next.end()).expect("small");
            cases.push((
                "two frames are exchanged",
                [&bytes[..from], &bytes[end..next_end], &bytes[from..end], &bytes[next_end..]].concat(),
            ));
            cases.push(("two frames are gone", without(from, next_end)));
        }
        for (what, damaged) in cases {
            let what = format!("{what}, frame {nth} ({:?})", head.kind);
            check(&good, &damaged, &what);
            right(&damaged, &bodies);
            tried += 1;
        }
    }
    total(&format!("archives with lost heads, split and exchanged frames: {tried}, no message was a wrong one"));
}

// S13
#[test]
fn pieces_taken_out_put_in_or_exchanged_are_told() {
    let (bytes, ..) = sample(OPTIONS);
    let (good, ..) = read(&bytes);
    let piece = |from: usize, to: usize| bytes[from..to].to_vec();
    let end = bytes.len();
    for (what, least, damaged) in [
        ("zeros in the middle", 12, [piece(0, 3_000), vec![0; 4_096], piece(7_096, end)].concat()),
        ("a piece is gone", 12, [piece(0, 3_000), piece(5_000, end)].concat()),
        ("a piece is there twice", 15, [piece(0, 5_000), piece(3_000, end)].concat()),
        ("two archives", 18, [piece(0, end), piece(0, end)].concat()),
        ("text before it", 0, [b"Content-Type: text/plain\n".to_vec(), piece(0, end)].concat()),
        (
            "line ends changed",
            0,
            bytes.iter().flat_map(|b| if *b == b'\n' { vec![13, 10] } else { vec![*b] }).collect(),
        ),
        ("nothing", 0, Vec::new()),
        ("no archive", 0, b"From ann Mon Nov 23 00:00:00 2026\n\n".repeat(100)),
    ] {
        let (frames, damages) = check(&good, &damaged, what);
        assert!(frames >= least && !damages.is_empty(), "{what}: {frames} of {}", good.len());
    }
    // Frames of another archive at the right places.
    let other = About { id: "f".repeat(32), ..about() };
    let mut writer = Writer::new(Vec::new(), OPTIONS, &other).expect("written");
    writer.mailbox(&mailbox("ann", "INBOX")).expect("written");
    let (_, foreign) = writer.finish().expect("written");
    let mixed = [piece(0, 5), foreign[5..].to_vec(), piece(foreign.len(), end)].concat();
    let (frames, damages, _) = read(&mixed);
    assert!(!damages.is_empty());
    let foreign = read(&foreign).0;
    assert!(
        frames.iter().all(|f| foreign.contains(f)) || frames.iter().all(|f| good.contains(f)),
        "of one archive alone"
    );
}

#[test]
fn an_index_of_very_many_mailboxes_is_several_frames() {
    let mut writer = Writer::new(Vec::new(), OPTIONS, &about()).expect("written");
    for n in 0..20_000 {
        writer.mailbox(&mailbox(&format!("u{n}"), "INBOX")).expect("written");
        writer.close(&Close::default()).expect("written");
    }
    let (_, bytes) = writer.finish().expect("written");
    let (frames, damages, _) = read(&bytes);
    let indexes =
        frames.iter().filter(|(_, f)| matches!(f, Found::Index(Index { mailboxes, .. }) if !mailboxes.is_empty()));
    assert!(indexes.count() > 3 && damages.is_empty());
    assert_eq!(Seeker::new(Cursor::new(bytes)).expect("read").mailboxes().expect("an index").len(), 20_000);
}

/// An output that takes so many bytes.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_medium_ends_the_writing() {
    let mut writer = Writer::new(Full(100_000), OPTIONS, &about()).expect("written");
    let bytes = body(1, 4_096);
    let all = (1..5_000).try_for_each(|uid| writer.message(&message(uid, &bytes), &bytes).map(drop));
    let kind = all.and_then(|()| writer.finish().map(drop)).map_err(|e| e.kind());
    assert_eq!(kind, Err(std::io::ErrorKind::StorageFull));
}

// S14: a frame that unpacks to more than its head says takes no more memory than that, and one that says too much is no frame
#[test]
fn a_bomb_is_no_bigger_than_it_says() {
    let packed = |raw: usize| zstd::bulk::compress(&vec![0; raw], 3).unwrap();
    let head = |stored: &[u8], raw: usize| frame::Head {
        kind: frame::Kind::Message,
        packing: frame::Packing::Zstd,
        archive: [3; 16],
        number: 0,
        offset: 0,
        stored: u32::try_from(stored.len()).unwrap(),
        raw: u32::try_from(raw).unwrap(),
        payload_sum: frame::sum(stored),
    };
    // 256 MiB in a few thousand bytes, that say to be 100.
    let bomb = packed(256 << 20);
    assert!(bomb.len() < 64 << 10);
    assert_eq!(frame::unpack(&head(&bomb, 100), bomb.clone()), Err("it cannot be unpacked"));
    let small = packed(50);
    assert_eq!(frame::unpack(&head(&small, 100), small.clone()), Err("it has another length unpacked"));
    let honest = frame::Head { raw: u32::MAX, ..head(&bomb, 100) };
    assert_eq!(frame::Head::decode(&honest.encode()), Err(frame::HeadError::Wrong("a length over the limit")));
}

// A disk that had an archive before ended every restore from the next one with 1: "bytes behind its end"
#[test]
fn what_a_device_had_before_is_not_looked_at() {
    let (long, ..) = sample(OPTIONS);
    let (mut device, ..) = short_sample();
    let end = device.len();
    device.extend_from_slice(&long[end..]);
    let damages = |is_device: bool| {
        let (mut reader, mut damages) = (Reader::new(Drip(&device)).of_device(is_device), 0);
        while let Some(item) = reader.next().expect("no error of the input") {
            damages += usize::from(matches!(item, Item::Damage(_)));
        }
        assert!(reader.is_complete());
        damages
    };
    assert_eq!((damages(false), damages(true)), (1, 0));
}

// Frames of next to no bytes, packed, listed more than the memory of a machine has
#[test]
fn a_mailbox_lists_no_more_than_it_can_have() {
    let mut writer = Writer::new(Vec::new(), OPTIONS, &about()).expect("written");
    writer.mailbox(&mailbox("ann", "INBOX")).expect("written");
    let kept = Some(vec![(0, 0); LISTED_MAX + 1]);
    writer.close(&Close { kept, ..Close::default() }).expect("written");
    let (_, bytes) = writer.finish().expect("written");
    let wrong = Seeker::new(Cursor::new(bytes)).and_then(|mut seeker| seeker.contents()).expect_err("too many");
    assert!(wrong.to_string().contains("more than 4000000"), "{wrong}");
}

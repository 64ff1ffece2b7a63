use super::*;

const MESSAGE_BYTES: u64 = 100;

/// A session over a map of users: `joe` and `ann` are there, `full` has no room, everybody else is unknown.
struct Session {
    machine: Machine<String>,
    /// Replies so far.
    said: String,
    /// Recipients and bytes of messages that were delivered.
    delivered: Vec<(Vec<String>, String)>,
    kept: Vec<u8>,
    discarded: usize,
    closed: bool,
    /// Keeping fails from this many bytes on.
    room: usize,
}

fn resolve(to: &Address) -> Result<String, Reply> {
    match to.as_str() {
        user @ ("joe@x" | "ann@x" | "full@x") => Ok(user.trim_end_matches("@x").to_owned()),
        "later@x" => Err(Refused::NotReady("recovering").reply(false)),
        _ => Err(Refused::Unknown.reply(false)),
    }
}

impl Session {
    fn new() -> Session {
        let machine = Machine::new("mx", Limits { message_bytes: MESSAGE_BYTES, recipients: 3 });
        let (said, delivered, kept) = Default::default();
        Session { machine, said, delivered, kept, discarded: 0, closed: false, room: usize::MAX }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.machine.buffer().extend_from_slice(bytes);
        self.work();
    }

    fn work(&mut self) {
        loop {
            match self.machine.step() {
                Step::More => break,
                Step::Resolve(to) => self.machine.resolved(resolve(&to)),
                Step::Body(bytes) => {
                    self.kept.extend_from_slice(bytes);
                    if self.kept.len() > self.room {
                        self.machine.cannot_keep(Refused::NoSpace.reply(false));
                    }
                }
                Step::Deliver(targets) => {
                    let full = |user: &String| match user.as_str() {
                        "full" => Refused::OverQuota.reply(false),
                        _ => Reply::new(250, "2.0.0", "stored"),
                    };
                    let replies = targets.iter().map(full).collect();
                    let message = String::from_utf8(std::mem::take(&mut self.kept)).unwrap();
                    self.delivered.push((targets, message));
                    self.machine.delivered(replies);
                }
                Step::Discard => {
                    self.kept.clear();
                    self.discarded += 1;
                }
                Step::Close => {
                    self.closed = true;
                    break;
                }
            }
        }
        self.said += std::str::from_utf8(self.machine.output()).unwrap();
        self.machine.output().clear();
    }

    /// Codes of the replies, those of several lines once.
    fn codes(&self) -> Vec<u16> {
        let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
        self.said.lines().filter(last).map(|line| line[..3].parse().unwrap()).collect()
    }
}

fn run(script: &str) -> Session {
    let mut session = Session::new();
    session.feed(script.as_bytes());
    session
}

const HELLO: &str = "LHLO c\r\n";
const TO_JOE: &str = "MAIL FROM:<a@b>\r\nRCPT TO:<joe@x>\r\n";

/// Everything that the protocol has, in one piece.
const LONG: &str = concat!(
    "LHLO c\r\nMAIL FROM:<a@b> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<joe@x>\r\nRCPT TO:<nobody@x>\r\nRCPT TO:<full@x>\r\n",
    "RCPT TO:<ann@x>\r\nDATA\r\nA: b\r\n\r\n..\r\n.hidden\r\n.\r\nRSET\r\nNOOP\r\nVRFY joe\r\nMAIL FROM:<>\r\nRCPT TO:<ann@x>\r\n",
    "BDAT 4\r\nA:\r\nBDAT 3 LAST\r\n\r\nxMAIL FROM:<a@b>\r\nRCPT TO:<joe@x>\r\nBDAT 2\r\nhiRSET\r\nQUIT\r\nNOOP\r\n"
);

#[test]
fn a_whole_session() {
    let session = run(LONG);
    let expected = [
        220, 250, 250, 250, 550, 250, 250, 354, 250, 452, 250, 250, 250, 252, 250, 250, 250, 250, 250, 250, 250, 250,
        221,
    ];
    assert_eq!(session.codes(), expected, "{}", session.said);
    let all = ["joe", "full", "ann"].map(str::to_owned).to_vec();
    let first = (all, "Return-Path: <a@b>\r\nA: b\r\n\r\n.\r\nhidden\r\n".to_owned());
    let second = (vec!["ann".to_owned()], "Return-Path: <>\r\nA:\r\n\r\nx".to_owned());
    assert_eq!(session.delivered, [first, second]);
    assert_eq!(session.discarded, 1, "the chunk before RSET");
    assert!(session.closed);
    let greeting = "220 mx LMTP storedd\r\n250-mx\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n";
    assert!(session.said.starts_with(greeting), "{}", session.said);
    assert!(session.said.contains("250-SMTPUTF8\r\n250-CHUNKING\r\n250 SIZE 100\r\n"), "{}", session.said);
}

#[test]
fn it_is_the_same_in_pieces_of_any_size() {
    let whole = run(LONG);
    for size in 1..LONG.len() {
        let mut session = Session::new();
        LONG.as_bytes().chunks(size).for_each(|piece| session.feed(piece));
        assert_eq!((&session.said, &session.delivered), (&whole.said, &whole.delivered), "pieces of {size}");
        assert_eq!((session.discarded, session.closed), (whole.discarded, whole.closed), "pieces of {size}");
    }
}

#[test]
fn what_is_cut_off_is_not_delivered() {
    let whole = run(LONG);
    for cut in 0..LONG.len() {
        let session = run(&LONG[..cut]);
        assert!(whole.said.starts_with(&session.said), "cut at {cut}: {}", session.said);
        assert!(whole.delivered.starts_with(&session.delivered), "cut at {cut}");
        let replies = session.codes().len();
        assert!(replies <= whole.codes().len());
    }
    let before_the_end = LONG.find(".hidden\r\n.\r\n").unwrap() + ".hidden\r\n.\r".len();
    assert!(run(&LONG[..before_the_end]).delivered.is_empty());
    assert_eq!(run(&LONG[..=before_the_end]).delivered.len(), 1);
}

#[test]
fn commands_have_an_order() {
    for (script, expected) in [
        ("MAIL FROM:<a@b>\r\n", 503),
        ("LHLO c\r\nRCPT TO:<joe@x>\r\n", 503),
        ("LHLO c\r\nDATA\r\n", 503),
        ("LHLO c\r\nMAIL FROM:<a@b>\r\nDATA\r\n", 503),
        ("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@x>\r\nDATA\r\n", 503),
        ("LHLO c\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n", 503),
        ("LHLO c\r\nMAIL FROM:<a@b>\r\nLHLO c\r\nRCPT TO:<joe@x>\r\n", 503),
        ("LHLO c\r\nBDAT 3\r\nabc", 503),
        ("LHLO c\r\nMAIL FROM:<a@b>\r\nBDAT 0 LAST\r\n", 503),
        ("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe@x>\r\nBDAT 1\r\nxDATA\r\n", 503),
        ("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe@x>\r\nBDAT 1\r\nxRCPT TO:<ann@x>\r\n", 503),
        ("EHLO c\r\n", 500),
    ] {
        let session = run(script);
        assert_eq!(session.codes().last(), Some(&expected), "{script:?}: {}", session.said);
        assert!(session.delivered.is_empty() && !session.closed);
    }
}

#[test]
fn limits_hold_and_the_session_goes_on() {
    let session = run(&format!("{HELLO}MAIL FROM:<a@b> SIZE=101\r\n{TO_JOE}RSET\r\n"));
    assert_eq!(session.codes(), [220, 250, 552, 250, 250, 250], "declared");

    let long = "x".repeat(101);
    let session = run(&format!("{HELLO}{TO_JOE}RCPT TO:<ann@x>\r\nDATA\r\n{long}\r\n.\r\n{TO_JOE}DATA\r\nx\r\n.\r\n"));
    assert_eq!(session.codes(), [220, 250, 250, 250, 250, 354, 552, 552, 250, 250, 354, 250], "one reply a recipient");
    assert_eq!(session.delivered.len(), 1);
    let session = run(&format!("{HELLO}{TO_JOE}DATA\r\n{}\r\n.\r\n", "x".repeat(98)));
    assert_eq!(session.delivered.len(), 1, "exactly as long as allowed; the line with the sender is not counted");
    let session = run(&format!("{HELLO}{TO_JOE}BDAT 99\r\n{}BDAT 2 LAST\r\nab", "x".repeat(99)));
    assert_eq!((session.codes().last(), session.delivered.len()), (Some(&552), 0));

    let session = run(&format!("{HELLO}{TO_JOE}RCPT TO:<ann@x>\r\nRCPT TO:<joe@x>\r\nRCPT TO:<ann@x>\r\n"));
    assert_eq!(session.codes().last(), Some(&452), "more than three recipients");

    let mut session = Session::new();
    session.room = 50;
    session.feed(format!("{HELLO}{TO_JOE}RCPT TO:<ann@x>\r\nDATA\r\n{}\r\n.\r\nNOOP\r\n", "x".repeat(60)).as_bytes());
    assert_eq!(session.codes()[5..], [354, 451, 451, 250], "what cannot be kept is refused for everybody");
    assert!(session.delivered.is_empty() && session.kept.is_empty());
}

#[test]
fn addresses_that_are_not_ascii_are_announced() {
    let session = run(&format!("{HELLO}MAIL FROM:<a@b>\r\nRCPT TO:<j\u{f6}@x>\r\n"));
    assert_eq!(session.codes().last(), Some(&553));
    let session = run(&format!("{HELLO}MAIL FROM:<\u{e4}@b> SMTPUTF8\r\nRCPT TO:<joe@x>\r\nDATA\r\n.\r\n"));
    assert_eq!(session.delivered[0].1, "Return-Path: <\u{e4}@b>\r\n");
}

#[test]
fn what_is_no_line_ends_the_session() {
    for (bad, why) in [
        ("NOOP\n", "500 5.5.2 a line ends with CR LF"),
        ("\n", "500 5.5.2 a line ends with CR LF"),
        (&"x".repeat(LINE_BYTES_MAX + 1), "500 5.5.2 the line is too long"),
        (&format!("{}\r\n", "x".repeat(LINE_BYTES_MAX)), "500 5.5.2 the line is too long"),
    ] {
        let session = run(&format!("{HELLO}{TO_JOE}{bad}RCPT TO:<ann@x>\r\nQUIT\r\n"));
        assert!(session.closed && session.said.lines().last() == Some(why), "{bad:?}: {}", session.said);
    }
    let longest = format!("NOOP {}\r\n", "x".repeat(LINE_BYTES_MAX - 7));
    assert_eq!(run(&longest).codes(), [220, 250]);
    let session = run(&"NO\r\n".repeat(100));
    assert!(session.closed, "too many errors");
    assert_eq!(session.codes()[ERRORS_MAX as usize..], [500, 421]);
}

#[test]
fn a_session_that_is_to_close_finishes_what_it_began() {
    let mut session = run(HELLO);
    session.machine.close();
    session.work();
    assert!(session.closed && session.said.ends_with("421 4.3.2 the daemon stops; try again later\r\n"));

    let mut session = run(&format!("{HELLO}{TO_JOE}DATA\r\nx\r\n"));
    session.machine.close();
    session.feed(b".\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(session.codes()[5..], [250, 421]);
    assert_eq!((session.delivered.len(), session.closed), (1, true));

    let mut session = run(&format!("{HELLO}{TO_JOE}DATA\r\nx\r\n"));
    assert!(session.machine.is_in_message());
    session.machine.end(&Reply::new(421, "4.4.2", "too slow"));
    session.work();
    assert_eq!((session.delivered.len(), session.discarded, session.closed), (0, 1, true));
}

/// Whatever comes: no panic, bounded memory, and never more messages than ends of messages.
#[test]
fn random_bytes_do_no_harm() {
    let pieces: [&[u8]; 22] = [
        b"LHLO c\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"RCPT TO:<joe@x>\r\n",
        b"RCPT TO:<later@x>\r\n",
        b"DATA\r\n",
        b"\r\n.\r\n",
        b".\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b"BDAT 5\r\n",
        b"BDAT 2 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
        b"\0",
        b"\xff\xfe",
        b"hello",
        b" ",
        b"<>",
        b"NOOP\r\n",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let (mut delivered, mut closed) = (0, 0);
    for round in 0..20_000 {
        let mut script = if round % 2 == 0 { Vec::new() } else { pieces[..3].concat() };
        script.extend((0..random(40)).flat_map(|_| pieces[random(pieces.len())].to_vec()));
        let mut session = Session::new();
        session.machine = Machine::new("mx", Limits { message_bytes: 20, recipients: 3 });
        let mut at = 0;
        while at < script.len() && !session.closed {
            let end = (at + 1 + random(30)).min(script.len());
            session.machine.buffer().extend_from_slice(&script[at..end]);
            at = end;
            session.work_lossy();
        }
        let ends =
            script.windows(3).filter(|w| *w == b".\r\n").count() + script.windows(4).filter(|w| *w == b"LAST").count();
        assert!(session.delivered.len() <= ends, "{}", script.escape_ascii());
        delivered += session.delivered.len();
        closed += usize::from(session.closed);
    }
    assert!(delivered > 1_000 && closed > 2_000, "the scripts get somewhere: {delivered} {closed}");
}

impl Session {
    /// As `work`, for messages that are no text.
    fn work_lossy(&mut self) {
        for _ in 0..1_000 {
            match self.machine.step() {
                Step::More => return self.machine.output().clear(),
                Step::Resolve(to) => self.machine.resolved(resolve(&to)),
                Step::Body(bytes) => {
                    self.kept.extend_from_slice(bytes);
                    assert!(self.kept.len() <= 64, "no more than the longest message, its sender, and one piece");
                }
                Step::Deliver(targets) => {
                    let stored = targets.iter().map(|_| Reply::new(250, "2.0.0", "stored")).collect();
                    self.kept.clear();
                    self.delivered.push((targets, String::new()));
                    self.machine.delivered(stored);
                }
                Step::Discard => self.kept.clear(),
                Step::Close => {
                    self.closed = true;
                    return;
                }
            }
        }
        panic!("it does not come to an end");
    }
}

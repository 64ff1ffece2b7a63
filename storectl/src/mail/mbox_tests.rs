use super::*;

const LIMIT: u64 = 1 << 16;
const ALL: [Dialect; 4] = [Dialect::Mboxo, Dialect::Mboxrd, Dialect::Mboxcl, Dialect::Mboxcl2];

fn letter(bytes: &[u8], flags: &[&str]) -> Letter {
    let about = About {
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        date: Some("2026-11-22T22:47:03Z".parse().unwrap()),
    };
    Letter { bytes: bytes.to_vec(), sender: "joe@x.org".to_owned(), about }
}

fn written(letters: &[Letter], dialect: Dialect) -> (Vec<u8>, Vec<bool>) {
    let mut writer = Writer::new(Vec::new(), dialect);
    let exact = letters.iter().map(|letter| writer.put(letter).unwrap()).collect();
    (writer.finish().unwrap(), exact)
}

fn read(bytes: &[u8], dialect: Dialect) -> Vec<Letter> {
    let mut reader = Reader::new(bytes, dialect, LIMIT);
    let mut out = Vec::new();
    while let Some(found) = reader.read().unwrap() {
        match found {
            Found::Letter(letter) => out.push(letter),
            Found::TooLong { bytes } => panic!("{bytes} bytes"),
        }
    }
    out
}

// B18
#[test]
fn each_dialect_has_its_form() {
    let letters = [letter(b"A: b\n\nFrom x\n>From y\nend\n", &["\\Seen", "\\Flagged", "$Work"])];
    let begin = "From joe@x.org Sun Nov 22 22:47:03 2026\nA: b\nStatus: RO\nX-Status: F\nX-Keywords: $Work\n";
    for (dialect, expected) in [
        (Dialect::Mboxo, "\n>From x\n>From y\nend\n\n"),
        (Dialect::Mboxrd, "\n>From x\n>>From y\nend\n\n"),
        (Dialect::Mboxcl, "Content-Length: 20\n\n>From x\n>From y\nend\n\n"),
        (Dialect::Mboxcl2, "Content-Length: 19\n\nFrom x\n>From y\nend\n\n"),
    ] {
        let (bytes, exact) = written(&letters, dialect);
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), format!("{begin}{expected}"), "{dialect:?}");
        let is_exact = matches!(dialect, Dialect::Mboxrd | Dialect::Mboxcl2);
        assert_eq!(exact, [is_exact], "{dialect:?}");
        assert_eq!(read(&bytes, dialect) == letters, is_exact, "{dialect:?}");
    }
}

// B18: what `put` says of a message is what comes of it, whatever the message is, and its neighbours stay as they are
#[test]
fn messages_come_back_byte_for_byte_where_the_writer_says_so() {
    let pieces: [&[u8]; 20] = [
        b"From a Sun Nov 22 22:47:03 2026\n",
        b"From x\n",
        b"From x\r\n",
        b">From y\n",
        b">>>From z\n",
        b"\n",
        b"\r\n",
        b"A: b\n",
        b"A: b\r\n",
        b" folded\n",
        b"Status: spam\n",
        b"status: R\r\n",
        b"X-Keywords: q r\n",
        b"X-Status: AF\n",
        b"Content-Length: 3\n",
        b"Content-Length: 99999999\n",
        b"text",
        b"\r",
        b"\0\xff",
        b">From",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let flags = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$Work", "later"];
    let (mut exact, mut lossy) = (0, 0);
    for _ in 0..4_000 {
        let letters: Vec<Letter> = (0..=random(3))
            .map(|_| {
                let bytes: Vec<u8> = (0..random(9)).flat_map(|_| pieces[random(pieces.len())].to_vec()).collect();
                let set: Vec<&str> = flags.iter().copied().filter(|_| random(4) == 0).collect();
                letter(&bytes, &set)
            })
            .collect();
        for dialect in ALL {
            let (bytes, kept) = written(&letters, dialect);
            let back = read(&bytes, dialect);
            let text = bytes.escape_ascii();
            assert_eq!(back.len(), letters.len(), "{dialect:?} {text}");
            for ((before, after), kept) in letters.iter().zip(&back).zip(kept) {
                assert_eq!((&before.sender, &before.about), (&after.sender, &after.about), "{dialect:?} {text}");
                assert_eq!(before.bytes == after.bytes, kept, "{dialect:?} {text}\n{:?}", after.bytes.escape_ascii());
                *(if kept { &mut exact } else { &mut lossy }) += 1;
            }
        }
    }
    assert!(exact > 10_000 && lossy > 1_000, "{exact} {lossy}");
}

#[test]
fn files_of_other_programs() {
    let dovecot = "From a@b Mon Jan  5 10:00:00 2026\nSubject: one\nStatus: RO\nX-UID: 7\nX-Status: A\n\nbody\n\n\
                   From MAILER-DAEMON Mon Jan  5 11:00:00 2026 +0100\nSubject: two\n\nFrom now on\n\nFrom here too.\n\n";
    let mut reader = Reader::new(dovecot.as_bytes(), Dialect::Mboxrd, LIMIT);
    let mut next = || reader.read().unwrap();
    let Some(Found::Letter(one)) = next() else { panic!() };
    assert_eq!(one.bytes, b"Subject: one\nX-UID: 7\n\nbody\n");
    assert_eq!(one.about.flags, ["\\Seen", "\\Answered"]);
    assert_eq!(one.about.date, Some("2026-01-05T10:00:00Z".parse().unwrap()));
    let Some(Found::Letter(two)) = next() else { panic!() };
    assert_eq!(two.bytes, b"Subject: two\n\nFrom now on\n\nFrom here too.\n", "text without a date ends nothing");
    assert_eq!(two.about.date, Some("2026-01-05T10:00:00Z".parse().unwrap()));
    assert_eq!(next(), None);
    assert_eq!(reader.unsure(), 2);

    assert_eq!(read(b"", Dialect::Mboxrd), []);
    assert_eq!(read(b"\n\n", Dialect::Mboxrd), []);
    for bad in [&b"Subject: x\n"[..], b"From x\n", b"\0\0"] {
        let error = Reader::new(bad, Dialect::Mboxo, LIMIT).read().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    // No empty line at the end, and none between header and end.
    let cut = read(b"From a Mon Jan  5 10:00:00 2026\nA: b\n\nend", Dialect::Mboxrd);
    assert_eq!(cut[0].bytes, b"A: b\n\nend");
}

#[test]
fn a_length_that_is_wrong_swallows_nothing() {
    let file = |length: &str| {
        format!(
            "From a Mon Jan  5 10:00:00 2026\nContent-Length: {length}\n\nbody\nFrom b\n\n\
             From c Mon Jan  5 10:00:00 2026\nA: b\n\nsecond\n\n"
        )
    };
    let body = "body\nFrom b\n";
    for length in
        [body.len().to_string().as_str(), "0", "3", "60", "999999999999", "18446744073709551616", "-1", "x", ""]
    {
        let letters = read(file(length).as_bytes(), Dialect::Mboxcl2);
        assert_eq!(letters.len(), 2, "{length}");
        assert_eq!(letters[0].bytes, format!("\n{body}").as_bytes(), "{length}");
        assert_eq!(letters[1].bytes, b"A: b\n\nsecond\n", "{length}");
    }
}

#[test]
fn what_is_too_long_is_passed_over_and_named() {
    let long = [b"A: b\n\n".to_vec(), b"x".repeat(200_000), b"\n".to_vec()].concat();
    let many = [b"A: b\n\n".to_vec(), b"line\n".repeat(20_000)].concat();
    let letters = [letter(b"A: 1\n\n", &[]), letter(&long, &[]), letter(&many, &[]), letter(b"A: 2\n\n", &[])];
    for dialect in ALL {
        let (bytes, _) = written(&letters, dialect);
        let mut reader = Reader::new(&bytes[..], dialect, LIMIT);
        let mut found = Vec::new();
        while let Some(one) = reader.read().unwrap() {
            found.push(match one {
                Found::Letter(letter) => (letter.bytes.len() as u64, true),
                Found::TooLong { bytes } => (bytes, false),
            });
        }
        assert_eq!(
            found.iter().map(|(_, taken)| *taken).collect::<Vec<_>>(),
            [true, false, false, true],
            "{dialect:?}"
        );
        assert!(found[1].0 > 200_000 && found[2].0 > 100_000, "{dialect:?} {found:?}");
    }
}

// B18: the corpus
#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]
fn real_messages_come_back_byte_for_byte() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/mail/eml");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let letters: Vec<Letter> = paths.iter().map(|path| letter(&std::fs::read(path).unwrap(), &["\\Seen"])).collect();
    assert!(letters.len() > 50);
    for dialect in ALL {
        let (bytes, exact) = written(&letters, dialect);
        let back = read(&bytes, dialect);
        let open: Vec<usize> = (0..letters.len()).filter(|at| !exact[*at]).collect();
        // One of them ends within a line.
        assert_eq!(open, if dialect.has_length() { vec![] } else { vec![49] }, "{dialect:?}");
        assert!((0..letters.len()).all(|at| (letters[at] == back[at]) == exact[at]), "{dialect:?}");
    }
}

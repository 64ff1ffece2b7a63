use super::{MailboxName, NameError, key_text, owner_of, subtree_end, user_prefix};
use crate::model::user::UserIdError;

fn name(text: &str) -> String {
    MailboxName::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}")).to_string()
}

// row 119
#[test]
fn names_that_are_taken() {
    let deep = format!("shared{}", "/a".repeat(31));
    let wide = format!("shared/{}", "\u{e9}".repeat(127));
    let long = format!("shared/{}", ["a".repeat(247).as_str(); 4].join("/"));
    for text in [
        "user/joe@example.org/INBOX",
        "user/joe/Projekte/\u{c4}pfel",
        "user/joe/\u{53f0}\u{5317}",
        "user/joe/INBOX/Sub",
        "user/joe/Sub/inbox",
        "user/joe/ leading and trailing blanks ",
        "user/joe/...",
        "user/joe/~root",
        "user/joe/a&b\\c^d",
        "user/joe/\u{2066}right\u{2069}\u{200d}",
        "shared",
        "shared/inbox",
        "shared/user/INBOX",
        &deep,
        &wide,
        &long,
    ] {
        assert_eq!(name(text), text);
        let parsed = MailboxName::parse(text).unwrap();
        assert!(!parsed.was_renormalised());
        assert_eq!(MailboxName::from_key(parsed.key()), Some(parsed.clone()));
        assert_eq!(key_text(parsed.key()), text);
    }
    assert_eq!(long.len(), 998);
}

// row 119
#[test]
fn inbox_has_one_spelling() {
    for text in ["user/joe/inbox", "user/joe/InBoX", "user/joe/INBOX"] {
        let parsed = MailboxName::parse(text).unwrap();
        assert_eq!(parsed.to_string(), "user/joe/INBOX");
        assert_eq!(parsed, MailboxName::inbox("joe"));
        assert!(parsed.is_inbox());
    }
    assert_eq!(name("user/joe/inbox/Sub"), "user/joe/INBOX/Sub");
    for other in ["user/joe/INBOX/Sub", "user/joe/Sub/INBOX", "shared/x/INBOX"] {
        assert!(!MailboxName::parse(other).unwrap().is_inbox(), "{other}");
    }
}

// S7
#[test]
fn names_are_normalised() {
    let parsed = MailboxName::parse("user/joe/A\u{308}pfel").unwrap();
    assert_eq!(parsed.to_string(), "user/joe/\u{c4}pfel");
    assert!(parsed.was_renormalised());
    assert!(!MailboxName::parse("user/joe/\u{c4}pfel").unwrap().was_renormalised());
    // quick check says "maybe", and it is normal: not a renormalised name
    assert!(!MailboxName::parse("user/joe/q\u{308}").unwrap().was_renormalised());
    // what is too long only before normalisation is a name
    let decomposed = format!("shared/{}", "e\u{301}".repeat(127));
    assert_eq!(name(&decomposed), format!("shared/{}", "\u{e9}".repeat(127)));
}

// S7, row 119
#[test]
fn names_that_are_refused() {
    let root = |found: &str| NameError::Root { found: found.to_owned() };
    let no_folder = |found: &str| NameError::NoFolder { found: found.to_owned() };
    let user = |found: &str, why| NameError::User { found: found.to_owned(), why };
    let cases: Vec<(String, NameError)> = vec![
        (String::new(), NameError::Empty { index: 1 }),
        ("/".into(), NameError::Empty { index: 1 }),
        ("/user/joe/x".into(), NameError::Empty { index: 1 }),
        ("user/joe/x/".into(), NameError::Empty { index: 4 }),
        ("user//x".into(), NameError::Empty { index: 2 }),
        ("user/joe//x".into(), NameError::Empty { index: 3 }),
        ("user/joe/.".into(), NameError::Dots { index: 3 }),
        ("user/joe/../ann".into(), NameError::Dots { index: 3 }),
        ("../etc/passwd".into(), NameError::Dots { index: 1 }),
        ("shared/..".into(), NameError::Dots { index: 2 }),
        ("joe/INBOX".into(), root("joe")),
        ("INBOX".into(), root("INBOX")),
        ("User/joe/INBOX".into(), root("User")),
        ("SHARED".into(), root("SHARED")),
        ("user".into(), no_folder("user")),
        ("user/joe".into(), no_folder("user/joe")),
        ("user/jo e/x".into(), user("jo e", UserIdError::Character { found: ' ' })),
        ("user/@x/x".into(), user("@x", UserIdError::Empty)),
        ("user/joe/a%b".into(), NameError::Character { found: '%' }),
        ("user/joe/*".into(), NameError::Character { found: '*' }),
        ("user/joe/a\u{0}b".into(), NameError::Character { found: '\u{0}' }),
        ("user/joe/a\u{1}b".into(), NameError::Character { found: '\u{1}' }),
        ("user/joe/a\nb".into(), NameError::Character { found: '\n' }),
        ("user/joe/\u{7f}".into(), NameError::Character { found: '\u{7f}' }),
        ("user/joe/\u{e9}\u{9b}".into(), NameError::Character { found: '\u{9b}' }),
        ("user/joe/\u{2028}".into(), NameError::Character { found: '\u{2028}' }),
        ("user/joe/\u{2029}x".into(), NameError::Character { found: '\u{2029}' }),
        (format!("shared/{}", "a".repeat(256)), NameError::ComponentTooLong { index: 2, bytes: 256 }),
        (format!("shared/{}", "\u{e9}".repeat(128)), NameError::ComponentTooLong { index: 2, bytes: 256 }),
        (format!("shared{}", "/a".repeat(32)), NameError::TooDeep { depth: 33 }),
        (format!("shared{}", "/abcdefghijklmnopqrstuvwxyzabcdefgh".repeat(29)), NameError::TooLong { bytes: 1021 }),
        ("a".repeat(1 << 20), NameError::TooLong { bytes: 1 << 20 }),
    ];
    for (text, why) in cases {
        assert_eq!(MailboxName::parse(&text), Err(why), "{:.80?}", text);
    }
    assert_eq!(no_folder("user/joe").hint().as_deref(), Some("its mailbox is user/joe/INBOX"));
}

#[test]
fn every_control_character_is_refused_and_nothing_else_below_space() {
    for c in (0..0x3000u32).filter_map(char::from_u32) {
        let refused = MailboxName::parse(&format!("shared/x{c}y")).is_err();
        let expected =
            c.is_control() || matches!(c, '%' | '*' | '\u{2028}' | '\u{2029}') || u32::from(c) < 0x20 || c == '\u{7f}';
        assert_eq!(refused, expected, "U+{:04X}", u32::from(c));
    }
}

#[test]
fn owners_and_subtrees() {
    let parent = MailboxName::parse("user/joe/A").unwrap();
    let end = subtree_end(parent.key());
    let inside = ["user/joe/A", "user/joe/A/x", "user/joe/A/\u{10ffff}", "user/joe/A/ /b"];
    let outside = ["user/joe/AA", "user/joe/A b", "user/joe/A!", "user/joe/A.b", "user/joe/B", "user/joe/INBOX"];
    for text in inside {
        let child = MailboxName::parse(text).unwrap();
        assert!(child.key() >= parent.key() && child.key() < end.as_slice(), "{text}");
        assert_eq!(parent.is_above(&child), text != "user/joe/A");
    }
    for text in outside {
        let child = MailboxName::parse(text).unwrap();
        assert!(!(child.key() >= parent.key() && child.key() < end.as_slice()), "{text}");
        assert!(!parent.is_above(&child));
        assert!(child.key().starts_with(&user_prefix("joe")));
    }
    assert_eq!(parent.owner(), Some("joe"));
    assert_eq!(owner_of(b"user\x01joe@x\x01INBOX"), Some("joe@x"));
    assert_eq!(owner_of(b"shared\x01user\x01x"), None);
    assert_eq!(MailboxName::parse("shared/user/joe").unwrap().owner(), None);
}

#[test]
fn only_keys_are_keys() {
    for bad in [
        &b"user/joe/INBOX"[..],
        b"user\x01joe\x01inbox",
        b"user\x01joe",
        b"shared\x01\xff",
        b"shared\x01a\x02b",
        "shared\u{1}A\u{308}".as_bytes(),
        b"",
    ] {
        assert_eq!(MailboxName::from_key(bad), None, "{bad:?}");
    }
}

#[test]
fn random_text_is_refused_or_has_one_form() {
    let pieces = [
        "user",
        "shared",
        "/",
        "/",
        "/",
        "joe",
        "@x.org",
        "inbox",
        "INBOX",
        "a",
        "A\u{308}",
        "\u{c4}",
        "\u{1100}\u{1161}",
        "\u{212b}",
        "\u{37e}",
        "%",
        "*",
        ".",
        "..",
        "\u{0}",
        "\u{1}",
        "\u{2}",
        "\u{85}",
        " ",
        "\u{10ffff}",
        "\u{301}",
        "-",
        "~",
    ];
    let mut seed = 0x4e4dau64;
    let mut below = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % n
    };
    let mut taken = 0;
    for round in 0..60_000 {
        let start = ["user/joe/", "shared/", "", "user/"][below(4)];
        let text = (0..below(7)).fold(start.to_owned(), |text, _| text + pieces[below(pieces.len())]);
        let Ok(parsed) = MailboxName::parse(&text) else { continue };
        taken += 1;
        let shown = parsed.to_string();
        let again = MailboxName::parse(&shown).unwrap_or_else(|e| panic!("round {round}: {shown:?}: {e}"));
        assert_eq!(again, parsed, "round {round}: {text:?}");
        assert!(!again.was_renormalised(), "round {round}: {text:?}");
        assert_eq!(MailboxName::from_key(parsed.key()), Some(again));
        assert!(parsed.key().iter().all(|b| *b >= b' ' || *b == 1), "round {round}: {text:?}");
    }
    assert!(taken > 5_000, "{taken}");
}

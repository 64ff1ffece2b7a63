use super::*;

// Golden bytes, made by hand from the format page: these rows lie in logs and databases.
const GOLDEN_USER: &str = concat!(
    "010c077072696d617279fd00401e18240a06001f3d757365722f39372f33622f3d6a6f65406578616d706c652e6f7267",
    "7e3132",
);
const GOLDEN_MAILBOX: &str = concat!(
    "010d077072696d617279fc5a49026b010102fb001001fd01401e18240a0600000206616e796f6e65036c72730f6a6f65",
    "406578616d706c652e6f72670b6c72737769706b78746561",
);
const GOLDEN_PAST: &str = "01fc5a49026b0d";
const GOLDEN_TOMBSTONE: &str = concat!(
    "01fd02401e18240a06000a3d7368617265642f31330d077072696d617279fc5a49026b010102fb001001fd01401e1824",
    "0a060001073d7368617265640206616e796f6e65036c72730f6a6f65406578616d706c652e6f72670b6c72737769706b",
    "78746561",
);
const GOLDEN_QUOTA: &str = "0101fc0000008000fb001002";
const GOLDEN_SUBSCRIPTION: &str = "01fd03401e18240a0600";
const GOLDEN_RIGHTS: &str = "01036c7273";
const GOLDEN_PARTITION: &str = "01000102030405060708090a0b0c0d0e0ffd04401e18240a0600";

const KEY: &[u8] = b"user\x01joe@example.org\x01INBOX";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn user() -> UserRow {
    UserRow {
        id: 12,
        partition: "primary".into(),
        created_us: 1_700_000_000_000_000,
        directory: "=user/97/3b/=joe@example.org~12".into(),
    }
}

fn mailbox(home: Option<&str>) -> MailboxRow {
    MailboxRow {
        id: 13,
        partition: "primary".into(),
        uidvalidity: 1_795_311_962,
        uidnext: 1,
        highest_modseq: 1,
        messages: 2,
        bytes: 4096,
        unseen: 1,
        created_us: 1_700_000_000_000_001,
        home: home.map(str::to_owned),
        acl: Acl::from([("joe@example.org".into(), "lrswipkxtea".into()), ("anyone".into(), "lrs".into())]),
    }
}

fn tombstone() -> TombstoneRow {
    TombstoneRow {
        deleted_us: 1_700_000_000_000_002,
        directory: "=shared/13".into(),
        mailbox: mailbox(Some("=shared")),
    }
}

fn quota() -> QuotaRow {
    QuotaRow {
        storage_limit: Some(2 << 30),
        message_limit: None,
        storage_usage: 4096,
        message_usage: 2,
        over_since_us: 0,
    }
}

fn partition() -> PartitionRow {
    PartitionRow { id: std::array::from_fn(|n| u8::try_from(n).unwrap()), created_us: 1_700_000_000_000_004 }
}

fn golden<R: Row + PartialEq + std::fmt::Debug>(key: &[u8], row: &R, expected: &str) {
    let bytes = row.encode().unwrap();
    assert_eq!(hex(&bytes), expected);
    assert_eq!(&R::decode(key, &bytes).unwrap(), row);
    assert!(json(R::TABLE, key, &bytes).is_ok());
    // no prefix, no longer form, no other version is a row; no damage panics
    for cut in 0..bytes.len() {
        assert!(R::decode(key, &bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        for with in [0, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] = with;
            let _ = R::decode(key, &damaged);
            let _ = json(R::TABLE, key, &damaged);
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(R::decode(key, &longer), Err(StoreError::Corrupt { .. })));
    let mut newer = bytes;
    newer[0] = 99;
    assert!(matches!(R::decode(key, &newer), Err(StoreError::Foreign { .. })));
}

// row 114
#[test]
fn rows_are_golden() {
    golden(b"joe@example.org", &user(), GOLDEN_USER);
    golden(KEY, &mailbox(None), GOLDEN_MAILBOX);
    golden(KEY, &PastRow { uidvalidity: 1_795_311_962, mailbox_id: 13 }, GOLDEN_PAST);
    golden(&tombstone_key(KEY, 13), &tombstone(), GOLDEN_TOMBSTONE);
    golden(b"user\x01joe@example.org", &quota(), GOLDEN_QUOTA);
    let key = joined(b"joe@example.org", KEY);
    golden(&key, &SubscriptionRow { since_us: 1_700_000_000_000_003 }, GOLDEN_SUBSCRIPTION);
    golden(&key, &RightsRow { rights: "lrs".into() }, GOLDEN_RIGHTS);
    golden(b"primary", &partition(), GOLDEN_PARTITION);
}

#[test]
fn a_borrowed_user_is_the_same_user() {
    let UserRow { id, partition, created_us, directory } = user();
    let bytes = user().encode().unwrap();
    let view = UserView::decode(b"joe@example.org", &bytes).unwrap();
    assert_eq!(view, UserView { id, partition: &partition, created_us, directory: &directory });
    assert!(UserView::decode(b"joe@example.org", &bytes[1..]).is_err());
}

#[test]
fn a_borrowed_mailbox_is_the_same_mailbox() {
    for row in [mailbox(None), mailbox(Some("=shared"))] {
        let bytes = row.encode().unwrap();
        let view = MailboxView::decode(KEY, &bytes).unwrap();
        let MailboxView {
            id,
            partition,
            uidvalidity,
            uidnext,
            highest_modseq,
            messages,
            bytes,
            unseen,
            created_us,
            home,
            acl,
        } = view;
        let acl = acl.iter().map(|(who, rights)| ((*who).to_owned(), (*rights).to_owned())).collect();
        let (partition, home) = (partition.to_owned(), home.map(str::to_owned));
        let same = MailboxRow {
            id,
            partition,
            uidvalidity,
            uidnext,
            highest_modseq,
            messages,
            bytes,
            unseen,
            created_us,
            home,
            acl,
        };
        assert_eq!(same, row);
    }
    assert!(MailboxView::decode(KEY, &[2]).is_err());
    assert!(MailboxView::decode(KEY, &[1, 0]).is_err());
}

#[test]
fn a_declared_length_is_never_believed() {
    // a rights row whose text claims to be 2^63 bytes long
    let mut bytes = vec![ROW_VERSION];
    bytes.push(253);
    bytes.extend_from_slice(&(1u64 << 63).to_le_bytes());
    assert!(RightsRow::decode(b"a\x02b", &bytes).is_err());
    let most = Acl::from_iter((0..1000).map(|n| (format!("{n:0255}"), "l".repeat(64))));
    let row = MailboxRow { acl: most, ..mailbox(None) };
    let bytes = row.encode().unwrap();
    assert!(bytes.len() < ROW_BYTES_MAX / 2);
    assert_eq!(MailboxRow::decode(KEY, &bytes).unwrap(), row);
}

#[test]
fn rows_and_keys_are_readable() {
    let bytes = partition().encode().unwrap();
    let text = json(Table::Partitions, b"primary", &bytes).unwrap();
    assert_eq!(text, r#"{"id":"000102030405060708090a0b0c0d0e0f","created_us":1700000000000004}"#);
    let back: PartitionRow = serde_json::from_str(&text).unwrap();
    assert_eq!(back, partition());
    let bytes = quota().encode().unwrap();
    assert_eq!(
        json(Table::Quotas, &quota_key("joe"), &bytes).unwrap(),
        r#"{"storage_limit":2147483648,"message_limit":null,"storage_usage":4096,"message_usage":2,"over_since_us":0}"#
    );
    assert_eq!(readable_key(Table::Mailboxes, KEY), "user/joe@example.org/INBOX");
    assert_eq!(readable_key(Table::Past, &tombstone_key(KEY, 77)), "user/joe@example.org/INBOX: deleted mailbox 77");
    assert_eq!(readable_key(Table::Rights, &joined(b"anyone", b"shared\x01a")), "anyone: shared/a");
    assert_eq!(readable_key(Table::Quotas, &quota_key("joe")), "user/joe");
}

#[test]
fn rows_know_of_whom_they_speak() {
    let inbox = Some(KEY);
    let joe = Some("joe@example.org");
    assert_eq!(subjects(Table::Users, b"joe@example.org"), (None, joe));
    assert_eq!(subjects(Table::Mailboxes, KEY), (inbox, joe));
    assert_eq!(subjects(Table::Past, &tombstone_key(KEY, 1)), (inbox, joe));
    assert_eq!(subjects(Table::Quotas, &quota_key("joe@example.org")), (None, joe));
    assert_eq!(subjects(Table::Subscriptions, &joined(b"ann", KEY)), (inbox, Some("ann")));
    assert_eq!(subjects(Table::Partitions, b"primary"), (None, None));
}

#[test]
fn directories_of_mailboxes() {
    // row 116
    assert_eq!(mailbox(None).directory(Some(&user().directory)), "=user/97/3b/=joe@example.org~12/13");
    assert_eq!(mailbox(None).directory(None), "=shared/13");
    assert_eq!(mailbox(Some("=shared")).directory(Some(&user().directory)), "=shared/13");
}

// row 117: only a root that is over a limit has the row that an older program does not know
#[test]
fn a_root_over_its_limit_says_since_when() {
    let plain = quota();
    assert_eq!(plain.clone().settled(7), plain);
    let over = QuotaRow { message_limit: Some(1), ..plain.clone() }.settled(7);
    assert_eq!((over.over_since_us, over.clone().settled(9).over_since_us), (7, 7));
    let bytes = over.encode().unwrap();
    assert_eq!((bytes[0], QuotaRow::decode(b"k", &bytes).unwrap()), (2, over.clone()));
    assert_eq!(plain.encode().unwrap()[0], 1);
    let older = without_grace(b"k", &bytes).unwrap();
    assert_eq!(QuotaRow::decode(b"k", &older).unwrap(), QuotaRow { over_since_us: 0, ..over.clone() });
    // A clock that was ahead once does not make the time of grace longer than it is.
    assert_eq!(QuotaRow { over_since_us: 70_000_000, ..over.clone() }.settled(9).over_since_us, 9);
    assert_eq!(QuotaRow { over_since_us: 50_000_000, ..over.clone() }.settled(9).over_since_us, 50_000_000);
    assert_eq!(QuotaRow { message_limit: None, ..over }.settled(9).over_since_us, 0);
    for cut in 0..bytes.len() {
        assert!(QuotaRow::decode(b"k", &bytes[..cut]).is_err());
    }
    let mut never = bytes;
    *never.last_mut().unwrap() = 0;
    assert!(QuotaRow::decode(b"k", &never).is_err(), "what encoding would not make");
}

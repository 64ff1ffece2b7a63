//! Message files.

use super::*;
use crate::disk::RealDisk;

fn stored(disk: &dyn Disk, uid: u32) -> Body {
    let body = Body::of(&text(uid));
    assert_eq!(bodies::put(disk, &place(5), uid, &text(uid), body).unwrap(), Made::New);
    disk.sync_tree().unwrap();
    body
}

/// The disk as those have it who keep it.
fn shared(disk: &SimDisk) -> std::sync::Arc<dyn Disk> {
    std::sync::Arc::new(disk.clone())
}

// row 163, B9: the digest is compared on every read
#[test]
fn bytes_are_given_back_or_an_error() {
    let disk = SimDisk::new();
    let body = stored(&disk, 3);
    assert_eq!(bodies::read(&disk, &place(5), 3, body).unwrap(), text(3));
    assert_eq!(disk.peek("=user/f6/79/=crowe~1/5/00/3.msg").unwrap(), text(3), "a plain file");
    for at in 0..body.size {
        disk.damage(&place(5).message(3), at, 1 << (at % 8)).unwrap();
        let error = bodies::read(&disk, &place(5), 3, body).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { what, .. } if what == "digest of a message"), "{error}");
        disk.damage(&place(5).message(3), at, 1 << (at % 8)).unwrap();
    }
    for len in [0, body.size - 1, body.size + 1] {
        disk.truncate(&place(5).message(3), len).unwrap();
        assert!(matches!(bodies::read(&disk, &place(5), 3, body), Err(StoreError::Corrupt { .. })), "{len} bytes");
    }
    let missing = bodies::read(&disk, &place(5), 4, body).unwrap_err();
    assert!(matches!(missing, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
}

#[test]
fn a_file_is_made_again_only_where_it_is_wrong() {
    let disk = SimDisk::new();
    let body = stored(&disk, 3);
    let again = |disk: &SimDisk| bodies::put(disk, &place(5), 3, &text(3), body).unwrap();
    assert_eq!(again(&disk), Made::Found);
    disk.damage(&place(5).message(3), 1, 1).unwrap();
    assert_eq!(again(&disk), Made::Replaced);
    assert_eq!(bodies::read(&disk, &place(5), 3, body).unwrap(), text(3));
    bodies::remove(&disk, &place(5), 3).unwrap();
    bodies::remove(&disk, &place(5), 3).unwrap();
    assert!(!bodies::is_there(&disk, &place(5), 3).unwrap());
}

// single copy: one file, many names; each goes alone
#[test]
fn a_message_in_two_mailboxes_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path()).unwrap();
    let body = stored(&disk, 3);
    let (from, to) = (place(5), place(6));
    assert_eq!(bodies::twin(&disk, (&from, 3), (&to, 8), body).unwrap(), Made::New);
    assert_eq!(bodies::twin(&disk, (&from, 3), (&to, 8), body).unwrap(), Made::Found);
    let inode = |path: String| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.path().join(path)).unwrap());
    assert_eq!(inode(from.message(3)), inode(to.message(8)));
    bodies::remove(&disk, &from, 3).unwrap();
    assert_eq!(bodies::read(&disk, &to, 8, body).unwrap(), text(3));
    assert_eq!(bodies::twin(&disk, (&from, 3), (&to, 8), body).unwrap(), Made::Found, "its source was purged since");
    assert!(bodies::twin(&disk, (&from, 3), (&to, 9), body).is_err(), "no source");
}

// a symbolic link planted in a partition is neither read nor written through, and what it points at stays
#[test]
fn links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path().join(".")).unwrap();
    let body = stored(&disk, 3);
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("precious");
    #[expect(clippy::disallowed_methods, reason = "the test looks from outside")]
    std::fs::write(&target, text(4)).unwrap();
    let link = |to: &std::path::Path, at: &str| std::os::unix::fs::symlink(to, dir.path().join(at)).unwrap();
    link(&target, &place(5).message(4));
    let wrong = Body::of(&text(4));
    assert!(bodies::read(&disk, &place(5), 4, wrong).is_err());
    assert!(bodies::twin(&disk, (&place(5), 4), (&place(5), 6), wrong).is_err());
    assert_eq!(
        bodies::put(&disk, &place(5), 4, &text(5), Body::of(&text(5))).unwrap(),
        Made::Replaced,
        "the link goes"
    );
    assert_eq!(bodies::read(&disk, &place(5), 4, Body::of(&text(5))).unwrap(), text(5));
    link(outside.path(), &place(7).path());
    assert!(bodies::put(&disk, &place(7), 1, &text(3), body).is_err());
    assert!(Index::new(&disk, STORE, &place(7)).write_new(&run(7, 1)).is_err());
    #[expect(clippy::disallowed_methods, reason = "the test looks from outside")]
    let after = std::fs::read(&target).unwrap();
    assert_eq!((after, outside.path().read_dir().unwrap().count()), (text(4), 1));
}

#[test]
fn long_messages_are_staged() {
    let disk = SimDisk::new();
    let mut staging = bodies::stage(shared(&disk), 7).unwrap();
    let whole: Vec<u8> = (0..20).flat_map(text).collect();
    whole.chunks(100).try_for_each(|part| staging.add(part)).unwrap();
    let body = staging.finish().unwrap();
    assert_eq!(body, Body::of(&whole));
    for persist in Persist::all(5) {
        assert_eq!(
            disk.image(persist).peek(&tree::staged(7)).unwrap(),
            whole,
            "{persist:?}: durable before its record"
        );
    }
    assert!(bodies::stage(shared(&disk), 7).is_err(), "a number is used once");
    drop(bodies::stage(shared(&disk), 8).unwrap());
    bodies::stage(shared(&disk), 9).unwrap().finish().unwrap();
    assert_eq!(tree::staged_numbers(&disk).unwrap(), [7, 9], "8 was given up");
    assert_eq!(bodies::settle(&disk, 7, &place(5), 1, body).unwrap(), Made::New);
    assert_eq!(bodies::settle(&disk, 7, &place(5), 1, body).unwrap(), Made::Found);
    assert_eq!(bodies::clear_staging(&disk, &[9].into()).unwrap(), 1);
    assert_eq!(tree::staged_numbers(&disk).unwrap(), [9]);
    assert_eq!(bodies::settle(&disk, 7, &place(5), 1, body).unwrap(), Made::Found, "done before");
    assert!(bodies::settle(&disk, 7, &place(5), 2, body).is_err());
    assert_eq!(bodies::read(&disk, &place(5), 1, body).unwrap(), whole);
}

#[test]
fn a_full_disk_refuses_and_the_next_attempt_mends() {
    let disk = SimDisk::new();
    disk.open("there", Access::CreateNew).unwrap();
    disk.set_free_bytes(0);
    let body = Body::of(&text(3));
    let error = bodies::put(&disk, &place(5), 3, &text(3), body).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(matches!(index(&disk, 5).write_new(&run(5, 1)), Err(AppendError::Failed(StoreError::NoSpace { .. }))));
    disk.set_unbounded();
    assert_eq!(bodies::put(&disk, &place(5), 3, &text(3), body).unwrap(), Made::Replaced);
    assert_eq!(bodies::read(&disk, &place(5), 3, body).unwrap(), text(3));
    assert!(
        matches!(index(&disk, 5).write_new(&run(5, 1)), Err(AppendError::Unsound(_))),
        "the empty file is no index"
    );
}

// I2: staged messages that go together are durable together, with one sync of their directory; of those whose sync failed none is left to be named
#[test]
fn staged_messages_are_made_durable_together() {
    use crate::disk::{Fault, OpKind, Persist};
    let all = 1..9;
    let staged = |disk: &SimDisk| -> Vec<bodies::Unsynced> {
        let one = |number| {
            let mut staging = bodies::stage(shared(disk), number).unwrap();
            staging.add(&text(u32::try_from(number).unwrap())).unwrap();
            staging.unsynced().1
        };
        all.clone().map(one).collect()
    };
    let is_there = |disk: &SimDisk, number: u64| {
        let bytes = text(u32::try_from(number).unwrap());
        bodies::read_staged(disk, number, Body::of(&bytes)).is_ok_and(|found| found == bytes)
    };
    let disk = SimDisk::new();
    let unsynced = staged(&disk);
    assert!(all.clone().all(|number| !is_there(&disk.image(Persist::Nothing), number)));
    disk.set_trace(true);
    // All of them share the disk that the first has.
    bodies::sync_staged(unsynced).unwrap();
    let kinds = disk.op_kinds();
    assert_eq!(kinds.iter().filter(|(kind, _)| *kind == OpKind::SyncData).count(), 8);
    for persist in Persist::all(3) {
        let image = disk.image(persist);
        assert!(all.clone().all(|number| is_there(&image, number)), "{persist:?}");
    }
    for nth in 1..=9 {
        let disk = SimDisk::new();
        let unsynced = staged(&disk);
        disk.fail_at(disk.ops() + nth, Fault::Eio);
        assert!(bodies::sync_staged(unsynced).is_err(), "operation {nth}");
        assert_eq!(disk.list(crate::partition::tree::STAGING).unwrap().len(), 0, "operation {nth}");
    }
}

// A sparse file of 100 GiB was read into memory, and the daemon with it.
#[test]
fn a_file_of_which_nothing_is_known_is_read_in_pieces_and_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path()).unwrap();
    let text: Vec<u8> = b"Subject: x\r\n\r\n".iter().copied().chain((0..700_000u32).map(|n| n as u8)).collect();
    bodies::put(&disk, &place(5), 3, &text, Body::of(&text)).unwrap();
    assert_eq!(bodies::look(&disk, &place(5), 3, 1 << 30).unwrap(), (Body::of(&text), 14));
    disk.open(&place(5).message(3), crate::disk::Access::Write).unwrap().set_len(100 << 30).unwrap();
    let refused = bodies::look(&disk, &place(5), 3, 1 << 30).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::FileTooLarge, "{refused}");
}

// A checkpoint that a crash broke off leaves a part of a message under its name: it leaves no quarantine behind. What is anything else does.
#[test]
fn what_has_the_name_of_a_message_is_kept_unless_it_is_a_part_of_it() {
    let body = Body::of(&text(3));
    let whole = text(3);
    let mut torn = whole.clone();
    torn[4..20].fill(0);
    let mut other = whole.clone();
    other[5] ^= 1;
    let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
    for (found, is_kept) in
        [(&whole[..7], false), (&[], false), (&torn, false), (&other, true), (&longer, true), (b"else", true)]
    {
        for again in [false, true] {
            let disk = SimDisk::new();
            crate::disk::create_all(&disk, crate::disk::parent(&place(5).message(3))).unwrap();
            disk.plant(&place(5).message(3), found).unwrap();
            if again {
                bodies::displace(&disk, &place(5), 3, body, &whole).unwrap();
                assert!(!bodies::is_there(&disk, &place(5), 3).unwrap());
            }
            bodies::put(&disk, &place(5), 3, &whole, body).unwrap();
            assert_eq!(bodies::read(&disk, &place(5), 3, body).unwrap(), whole);
            let kept = disk.list(tree::QUARANTINE).unwrap_or_default();
            assert_eq!(kept.len(), usize::from(is_kept), "{found:?}");
        }
    }
}

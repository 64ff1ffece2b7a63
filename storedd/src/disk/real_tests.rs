//! Tests of the system's disk.

use super::super::{Access, Disk, Entry, Kind, read_small, replace};
use super::RealDisk;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};

fn fresh() -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = RealDisk::new(dir.path()).expect("open the root");
    (dir, disk)
}

#[test]
fn files_and_names() {
    let (_dir, disk) = fresh();
    disk.create_dir("a").unwrap();
    disk.create_dir("a").unwrap();
    disk.create_dir("a/b").unwrap();
    let file = disk.open("a/b/f", Access::CreateNew).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(3, b"xyz").unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("a/b").unwrap();
    disk.sync_dir("").unwrap();
    let mut buf = [9; 6];
    file.read_at(0, &mut buf).unwrap();
    assert_eq!(&buf, b"\0\0\0xyz");
    assert_eq!(file.read_at(1, &mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.set_len(4).unwrap();
    assert_eq!(file.len().unwrap(), 4);
    assert_eq!(disk.open("a/b/f", Access::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    disk.rename("a/b/f", "a/g").unwrap();
    assert!(disk.stat("a/b/f").unwrap().is_none());
    assert!(disk.stat("nowhere/f").unwrap().is_none());
    assert_eq!(disk.stat("a/g").unwrap().unwrap().len, 4);
    let names: Vec<_> = disk.list("a").unwrap().into_iter().map(|e| (e.name, e.kind)).collect();
    assert_eq!(names, [("b".to_owned(), Kind::Dir), ("g".to_owned(), Kind::File)]);
    disk.remove("a/g").unwrap();
    disk.remove_dir("a/b").unwrap();
    assert_eq!(disk.list("a").unwrap(), []);
    assert!(disk.free_bytes().unwrap() > 0);
    replace(&disk, "small", b"one").unwrap();
    replace(&disk, "small", b"two").unwrap();
    assert_eq!(read_small(&disk, "small", 3).unwrap(), b"two");
    assert_eq!(read_small(&disk, "small", 2).unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn names_are_those_of_the_list() {
    let (dir, disk) = fresh();
    disk.create_dir("d").unwrap();
    for name in ["d/b", "d/a", "d/c"] {
        disk.open(name, Access::CreateNew).unwrap().write_at(0, b"some").unwrap();
    }
    disk.create_dir("d/dir").unwrap();
    symlink("a", dir.path().join("d/link")).unwrap();
    std::os::unix::net::UnixListener::bind(dir.path().join("d/socket")).unwrap();
    symlink("a", dir.path().join("d").join(OsStr::from_bytes(b"\xff"))).unwrap();
    let plain = |entries: Vec<Entry>| entries.into_iter().map(|e| (e.name, e.kind)).collect::<Vec<_>>();
    let (listed, named) = (disk.list("d").unwrap(), disk.names("d").unwrap());
    assert_eq!(listed.iter().filter(|e| e.kind == Kind::File).map(|e| e.len).sum::<u64>(), 12);
    assert_eq!(plain(named), plain(listed));
    assert_eq!(disk.names("none").unwrap_err().kind(), ErrorKind::NotFound);
}

// row B17: no name leaves the tree
#[test]
fn bad_paths_are_refused() {
    let (_dir, disk) = fresh();
    let long = "x".repeat(256);
    for path in ["", "/etc/passwd", "..", ".", "a/../b", "a//b", "a/", "a/.", "nul\0", long.as_str()] {
        let kind = |e: std::io::Error| e.kind();
        assert_eq!(disk.open(path, Access::CreateNew).map_err(kind).unwrap_err(), ErrorKind::InvalidInput, "{path:?}");
        assert_eq!(disk.create_dir(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
        assert_eq!(disk.rename("x", path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
        assert_eq!(disk.remove(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
        if !path.is_empty() {
            assert_eq!(disk.list(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(disk.stat(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
        }
    }
}

// S9, row B17: a planted link is not followed, except where the caller asks for it
#[test]
fn symbolic_links() {
    let (dir, disk) = fresh();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("f");
    std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "test")]
    std::fs::write(&target, b"outside").unwrap();
    symlink(&target, dir.path().join("link")).unwrap();
    symlink(outside.path(), dir.path().join("dir")).unwrap();
    let raw = |e: std::io::Error| e.raw_os_error();
    let looped = Some(Errno::LOOP.raw_os_error());
    assert_eq!(disk.open("link", Access::Read).map_err(raw).unwrap_err(), looped);
    assert_eq!(disk.open("link", Access::Write).map_err(raw).unwrap_err(), looped);
    assert_eq!(disk.open("link", Access::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.lock("link", "me").map_err(raw).unwrap_err(), looped);
    assert_eq!(disk.open("link", Access::ReadFollow).unwrap().len().unwrap(), 7);
    for access in [Access::Read, Access::ReadFollow, Access::Write, Access::CreateNew] {
        assert_eq!(disk.open("dir/f", access).map_err(raw).unwrap_err(), looped);
    }
    assert_eq!(disk.stat("dir/f").map_err(raw).unwrap_err(), looped);
    assert_eq!(disk.list("dir").map_err(raw).unwrap_err(), looped);
    assert_eq!(disk.remove("dir/f").map_err(raw).unwrap_err(), looped);
    let walked = disk.walk("dir/sub", rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY);
    assert_eq!(walked.map_err(raw).unwrap_err(), looped);
    let found = disk.stat("link").unwrap().unwrap();
    assert_eq!((found.kind, found.len), (Kind::Symlink, 7));
    let found = disk.stat("dangling").unwrap().unwrap();
    assert_eq!((found.kind, found.len), (Kind::Symlink, 0));
    disk.remove("link").unwrap();
    assert!(target.exists());
}

// row B17: a FIFO does not block the opener
#[test]
fn only_regular_files_are_opened() {
    let (dir, disk) = fresh();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    disk.create_dir("d").unwrap();
    assert_eq!(disk.open("fifo", Access::Read).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.open("d", Access::Read).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(disk.stat("fifo").unwrap().unwrap().kind, Kind::Other);
}

// S11
#[test]
fn modes_are_private() {
    let (dir, disk) = fresh();
    disk.create_dir("d").unwrap();
    disk.open("d/f", Access::CreateNew).unwrap();
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("d"), mode("d/f")), (0o700, 0o600));
    RealDisk::create_root(dir.path().join("x/y")).unwrap();
    RealDisk::create_root(dir.path().join("x/y")).unwrap();
    assert_eq!((mode("x"), mode("x/y")), (0o700, 0o700));
    assert_eq!(RealDisk::create_root(dir.path().join("d/f")).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(RealDisk::new(dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn lock_names_its_owner_and_ends_with_it() {
    let (dir, disk) = fresh();
    let other = RealDisk::new(dir.path()).unwrap();
    let lock = disk.lock("lock", "a longer text of pid 17\n").unwrap();
    let refused = other.lock("lock", "18").unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::WouldBlock, "a longer text of pid 17"));
    drop(lock);
    let lock = other.lock("lock", "18").unwrap();
    assert_eq!(disk.lock("lock", "19").unwrap_err().to_string(), "18");
    // Removed by a well-meaning hand: the next one makes and locks a file of its own.
    disk.remove("lock").unwrap();
    let second = disk.lock("lock", "20").unwrap();
    assert_eq!(read_small(&disk, "lock", 100).unwrap(), b"20");
    drop((lock, second));
}

#[test]
fn the_walk_finds_what_openat2_finds() {
    let (_dir, disk) = fresh();
    disk.create_dir("a").unwrap();
    disk.create_dir("a/b").unwrap();
    disk.open("a/f", Access::CreateNew).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    for path in ["a", "a/b", "a/c", "a/f", "a/f/x", "b/c"] {
        let walked = disk.walk(path, flags).map(|fd| rustix::fs::fstat(fd).unwrap().st_ino);
        let opened = disk.dir(path, flags).map(|fd| rustix::fs::fstat(fd).unwrap().st_ino);
        assert_eq!(walked.map_err(|e| e.kind()), opened.map_err(|e| e.kind()), "{path}");
    }
}

/// Whoever holds the lock is alone, also while its file is removed and made again under the waiting ones.
#[test]
fn a_lock_on_a_removed_file_is_none() {
    let (dir, _) = fresh();
    let holders = std::sync::atomic::AtomicI32::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let disk = RealDisk::new(dir.path()).unwrap();
                for n in 0..2000 {
                    let Ok(lock) = disk.lock("lock", "owner") else { continue };
                    assert_eq!(holders.fetch_add(1, order), 0);
                    std::thread::yield_now();
                    holders.fetch_sub(1, order);
                    if n % 2 == 0 {
                        disk.remove("lock").unwrap();
                    }
                    drop(lock);
                }
            });
        }
    });
}

// S10: what somebody put in the way of a new file, under any name that it has on its way, is neither followed nor cut
#[test]
#[expect(clippy::disallowed_methods, reason = "what somebody else does")]
fn what_lies_in_the_way_of_a_new_file_is_not_followed() {
    let (dir, disk) = fresh();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), b"theirs").unwrap();
    let inside = |name: &str| dir.path().join(name);
    replace(&disk, "f", b"old").unwrap();
    // The candidate, and the name itself.
    symlink(outside.path(), inside("f.new")).unwrap();
    replace(&disk, "f", b"new").unwrap();
    assert_eq!(
        (std::fs::read(inside("f")).unwrap(), std::fs::read(outside.path()).unwrap()),
        (b"new".to_vec(), b"theirs".to_vec())
    );
    std::fs::remove_file(inside("f")).unwrap();
    symlink(outside.path(), inside("f")).unwrap();
    replace(&disk, "f", b"newer").unwrap();
    assert!(!std::fs::symlink_metadata(inside("f")).unwrap().is_symlink());
    // Where a file must be new, nothing that is there is taken: a link, a dangling one, a second name, a file.
    symlink("nowhere", inside("dangling")).unwrap();
    symlink(outside.path(), inside("link")).unwrap();
    std::fs::hard_link(outside.path(), inside("second"))
        .unwrap_or_else(|_| std::fs::write(inside("second"), b"x").unwrap());
    for name in ["dangling", "link", "second", "f"] {
        assert_eq!(disk.open(name, Access::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists, "{name}");
    }
    assert!(!inside("nowhere").exists());
    // A second name never takes another's.
    assert_eq!(disk.link("f", "link").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(outside.path()).unwrap(), b"theirs");
}

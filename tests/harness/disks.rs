//! Disks that are small, hang or break. They need root, and say so where they cannot be had.

use super::TestStore;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A small file system in memory, unmounted when dropped. Needs root.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    /// `None` where that is not allowed.
    pub fn mount(at: PathBuf, bytes: u64) -> Option<SmallDisk> {
        std::fs::create_dir_all(&at).unwrap();
        let size = format!("size={bytes},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).status();
        mounted.is_ok_and(|s| s.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn ran(program: &str, args: &[&str]) -> bool {
    let ran = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

/// A file of the disk, through which its power is cut.
const SWITCH: &str = "switch";

/// A file system of its own in a file, which can be held up, as by a disk that does not answer, or broken.
pub struct Disk {
    image: PathBuf,
    /// Where it is mounted.
    pub at: PathBuf,
}

impl Disk {
    /// Beside a store; `None` where none can be mounted.
    pub fn mount(store: &TestStore) -> Option<Disk> {
        Disk::mount_at(store, store.beside("disk"))
    }

    /// At a directory that is made for it.
    pub fn mount_at(store: &TestStore, at: PathBuf) -> Option<Disk> {
        Disk::of("ext4", store, at)
    }

    /// With a file system of this kind, ext4 or xfs.
    pub fn of(kind: &str, store: &TestStore, at: PathBuf) -> Option<Disk> {
        let disk = Disk { image: store.beside("disk.img"), at };
        // The least that xfs is made with, and more than a fast daemon fills before its power is cut. Only what is written takes room.
        std::fs::File::create(&disk.image).unwrap().set_len(320 << 20).unwrap();
        std::fs::create_dir(&disk.at).unwrap();
        let place = disk.place();
        let mounted = ran(&format!("mkfs.{kind}"), &["-q", disk.image.to_str().unwrap()]) && disk.attach();
        if !mounted || !ran("fsfreeze", &["-f", place]) || !ran("fsfreeze", &["-u", place]) {
            eprintln!("skipped: this needs root, a loop device, fsfreeze and mkfs.{kind}");
            return None;
        }
        let _ = std::fs::remove_dir(disk.at.join("lost+found"));
        std::fs::write(disk.at.join(SWITCH), "").unwrap();
        Some(disk)
    }

    fn place(&self) -> &str {
        self.at.to_str().unwrap()
    }

    fn attach(&self) -> bool {
        ran("mount", &["-o", "loop", self.image.to_str().unwrap(), self.place()])
    }

    /// Writes wait from now on, or go on.
    pub fn hangs(&self, hangs: bool) {
        assert!(ran("fsfreeze", &[if hangs { "-f" } else { "-u" }, self.place()]));
    }

    /// Writes and syncs fail from now on.
    pub fn breaks(&self) {
        assert!(ran("mount", &["-o", "remount,abort", self.place()]));
    }

    /// The power goes: whatever was not synced is lost, and nothing can be written any more.
    pub fn loses_power(&self) {
        // FS_IOC_SHUTDOWN, without a flush of the journal.
        let shutdown =
            r#"open(my $f, "<", $ARGV[0]) or die; my $how = pack("L", 2); ioctl($f, 0x8004587d, $how) or die"#;
        assert!(ran("perl", &["-e", shutdown, self.at.join(SWITCH).to_str().unwrap()]));
    }

    /// Another disk with what reached this one; nobody has a file open there.
    pub fn mended(&self) {
        assert!(ran("umount", &[self.place()]));
        assert!(self.attach());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        ran("fsfreeze", &["-u", self.place()]);
        ran("umount", &["-l", self.place()]);
    }
}

//! Stores that an older version made, packed: `tests/fixtures/README.md`.
//!
//! A pack is lines of text with bytes between them: `dir PATH`, `file LENGTH PATH`, and for each stretch of a file that is not zero
//! `run OFFSET LENGTH`, followed by its bytes and a line feed. Log files are mostly zeros.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FIRST: &str = "storedd-fixture 1";
/// So many zeros between two runs are left out.
const GAP: usize = 24;

/// A store of an older version.
#[derive(Debug, Clone, Copy)]
pub struct Fixture {
    /// Schema of its database.
    pub schema: u32,
    pack: &'static [u8],
    /// What its programs listed: see `make.sh`.
    pub listed: &'static str,
}

/// Stopped and prepared for an upgrade.
pub const STOPPED: Fixture = Fixture {
    schema: 1,
    pack: include_bytes!("../fixtures/v1/stopped.pack"),
    listed: include_str!("../fixtures/v1/stopped.json"),
};
/// Killed: its database lacks what the log holds.
pub const KILLED: Fixture = Fixture {
    schema: 1,
    pack: include_bytes!("../fixtures/v1/killed.pack"),
    listed: include_str!("../fixtures/v1/killed.json"),
};
/// The same of the version behind it, with messages.
pub const STOPPED_2: Fixture = Fixture {
    schema: 2,
    pack: include_bytes!("../fixtures/v2/stopped.pack"),
    listed: include_str!("../fixtures/v2/stopped.json"),
};
/// As [`KILLED`].
pub const KILLED_2: Fixture = Fixture {
    schema: 2,
    pack: include_bytes!("../fixtures/v2/killed.pack"),
    listed: include_str!("../fixtures/v2/killed.json"),
};

impl Fixture {
    /// Makes the store as the directory `into`, which is not there.
    pub fn unpack(self, into: &Path) {
        let mut rest = self.pack;
        assert_eq!(line(&mut rest), FIRST);
        fs::create_dir(into).unwrap();
        let mut file: Option<fs::File> = None;
        while !rest.is_empty() {
            let text = line(&mut rest);
            match text.splitn(3, ' ').collect::<Vec<_>>()[..] {
                ["dir", path] => fs::create_dir(into.join(path)).unwrap(),
                ["file", bytes, path] => {
                    let made = fs::File::create_new(into.join(path)).unwrap();
                    made.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
                    made.set_len(bytes.parse().unwrap()).unwrap();
                    file = Some(made);
                }
                ["run", offset, bytes] => {
                    use std::os::unix::fs::FileExt;
                    let (run, behind) = rest.split_at(bytes.parse().unwrap());
                    file.as_ref().unwrap().write_all_at(run, offset.parse().unwrap()).unwrap();
                    rest = behind.strip_prefix(b"\n").unwrap();
                }
                _ => panic!("{text:?}"),
            }
        }
    }
}

fn line<'p>(rest: &mut &'p [u8]) -> &'p str {
    let at = rest.iter().position(|b| *b == b'\n').unwrap();
    let line = std::str::from_utf8(&rest[..at]).unwrap();
    *rest = &rest[at + 1..];
    line
}

fn pack(root: &Path, dir: &Path, out: &mut Vec<u8>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        if path.is_dir() {
            out.extend_from_slice(format!("dir {name}\n").as_bytes());
            pack(root, &path, out);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        out.extend_from_slice(format!("file {} {name}\n", bytes.len()).as_bytes());
        let mut at = 0;
        while let Some(begin) = bytes[at..].iter().position(|b| *b != 0).map(|n| at + n) {
            let zeros = bytes[begin..].windows(GAP).position(|w| w.iter().all(|b| *b == 0));
            let end = zeros.map_or(bytes.len(), |n| begin + n);
            out.extend_from_slice(format!("run {begin} {}\n", end - begin).as_bytes());
            out.extend_from_slice(&bytes[begin..end]);
            out.push(b'\n');
            at = end;
        }
    }
}

/// Packs `$STOREDD_FIXTURE/stopped` and `.../killed`, which `make.sh` made, into the directory `$STOREDD_FIXTURE_OF` of fixtures.
#[test]
#[ignore = "a tool, not a check: run by hand behind make.sh of a fixture, as tests/fixtures/README.md says"]
fn pack_what_make_sh_made() {
    let said = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (from, of) = (said("STOREDD_FIXTURE"), said("STOREDD_FIXTURE_OF"));
    let mut told = String::new();
    for name in ["stopped", "killed"] {
        let root = Path::new(&from).join(name);
        let mut out = format!("{FIRST}\n").into_bytes();
        pack(&root, &root, &mut out);
        writeln!(told, "{name}: {} bytes", out.len()).unwrap();
        fs::write(format!("{}/tests/fixtures/{of}/{name}.pack", env!("CARGO_MANIFEST_DIR")), out).unwrap();
    }
    println!("{told}");
}

#[test]
fn what_is_packed_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("store");
    STOPPED.unpack(&into);
    let mut again = format!("{FIRST}\n").into_bytes();
    pack(&into, &into, &mut again);
    assert!(again == STOPPED.pack);
}

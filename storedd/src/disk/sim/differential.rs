//! The simulated disk against the system's, and against its own rules, with random operations. // row B19

use super::*;
use crate::disk::RealDisk;
use std::collections::BTreeMap;

const PATHS: [&str; 14] =
    ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/b", "x", "x/a", "x/y", "x/y/a", "nowhere/a"];

#[derive(Debug, Clone)]
enum Step {
    Create(&'static str),
    Write(&'static str, u64, Vec<u8>),
    SetLen(&'static str, u64),
    Read(&'static str, u64, usize),
    SyncData(&'static str),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Remove(&'static str),
    CreateDir(&'static str),
    RemoveDir(&'static str),
    SyncDir(&'static str),
    SyncTree,
    List(&'static str),
    Stat(&'static str),
    Lock(&'static str),
}

/// A deterministic source of steps.
struct Source(u64);

impl Source {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % n
    }

    fn path(&mut self) -> &'static str {
        PATHS[self.below(PATHS.len() as u64) as usize]
    }

    fn step(&mut self) -> Step {
        let path = self.path();
        match self.below(31) {
            0..4 => Step::Create(path),
            4..10 => {
                let byte = self.below(4) as u8;
                let len = self.below(6000) as usize;
                Step::Write(path, self.below(9000), vec![byte; len])
            }
            10..12 => Step::SetLen(path, self.below(12_000)),
            12 => Step::Read(path, self.below(9000), self.below(3000) as usize),
            13..15 => Step::SyncData(path),
            15..19 => Step::Rename(path, self.path()),
            19..21 => Step::Remove(path),
            21..24 => Step::CreateDir(path),
            24 => Step::RemoveDir(path),
            25 => Step::SyncDir(if self.below(3) == 0 { "" } else { path }),
            26 => [Step::List(path), Step::Stat(path)][self.below(2) as usize].clone(),
            27 => Step::Lock(path),
            28..30 => Step::Link(path, self.path()),
            // Seldom: on the system's disk it writes what strangers left there, too.
            _ if path == "a" => Step::SyncTree,
            _ => Step::Stat(path),
        }
    }
}

/// What a caller can see of a step: text of the answer, or which error it was.
fn run(disk: &dyn Disk, step: &Step) -> Result<String, String> {
    let done = |()| String::new();
    let result = match step {
        Step::Create(path) => disk.open(path, Access::CreateNew).map(|f| format!("{:?}", f.len().ok())),
        Step::Write(path, offset, bytes) => {
            disk.open(path, Access::Write).and_then(|f| f.write_at(*offset, bytes)).map(done)
        }
        Step::SetLen(path, len) => disk.open(path, Access::Write).and_then(|f| f.set_len(*len)).map(done),
        Step::Read(path, offset, len) => disk.open(path, Access::Read).and_then(|f| {
            let mut buf = vec![0; *len];
            f.read_at(*offset, &mut buf).map(|()| format!("{buf:?}"))
        }),
        Step::SyncData(path) => disk.open(path, Access::Read).and_then(|f| f.sync_data()).map(done),
        Step::Rename(from, to) => disk.rename(from, to).map(done),
        Step::Link(from, to) => disk.link(from, to).map(done),
        Step::Remove(path) => disk.remove(path).map(done),
        Step::SyncTree => disk.sync_tree().map(done),
        Step::CreateDir(path) => disk.create_dir(path).map(done),
        Step::RemoveDir(path) => disk.remove_dir(path).map(done),
        Step::SyncDir(path) => disk.sync_dir(path).map(done),
        Step::List(path) => disk.list(path).map(|entries| format!("{entries:?}")),
        Step::Stat(path) => disk.stat(path).map(|entry| format!("{entry:?}")),
        Step::Lock(path) => disk.lock(path, "owner").map(|_| String::new()),
    };
    result.map_err(|e| format!("{:?} {:?}", e.kind(), e.raw_os_error()))
}

/// All names with kinds and bytes.
fn contents(disk: &dyn Disk, dir: &str, all: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for entry in disk.list(dir).unwrap() {
        let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
        if entry.kind == Kind::Dir {
            contents(disk, &path, all);
            all.insert(path, None);
        } else {
            let mut bytes = vec![0; entry.len as usize];
            disk.open(&path, Access::Read).unwrap().read_at(0, &mut bytes).unwrap();
            all.insert(path, Some(bytes));
        }
    }
}

fn snapshot(disk: &dyn Disk) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    contents(disk, "", &mut all);
    all
}

// row B19: what the simulated disk answers and holds is what the system's does
#[test]
fn answers_as_the_real_disk_does() {
    for seed in 0..25 {
        let dir = tempfile::tempdir().unwrap();
        let (real, sim) = (RealDisk::new(dir.path()).unwrap(), SimDisk::new());
        let mut source = Source(seed);
        for n in 0..300 {
            let step = source.step();
            assert_eq!(run(&sim, &step), run(&real, &step), "sim, then real: seed {seed} step {n} {step:?}");
        }
        assert_eq!(snapshot(&sim), snapshot(&real), "seed {seed}");
        assert_eq!(snapshot(&sim.image(Persist::Everything)), snapshot(&real), "seed {seed}");
    }
}

// row B19: whatever was synced stays, whatever happens after
#[test]
fn what_is_synced_survives_every_crash() {
    for seed in 0..60 {
        let sim = SimDisk::new();
        let mut source = Source(seed);
        for _ in 0..source.below(200) {
            let _ = run(&sim, &source.step());
        }
        for (path, bytes) in snapshot(&sim) {
            match bytes {
                Some(_) => sim.open(&path, Access::Read).unwrap().sync_data().unwrap(),
                None => sim.sync_dir(&path).unwrap(),
            }
        }
        run(&sim, &Step::SyncDir("")).unwrap();
        let now = snapshot(&sim);
        for persist in Persist::all(seed) {
            assert_eq!(snapshot(&sim.image(persist)), now, "seed {seed} {persist:?}");
        }
        // Unsynced changes elsewhere do not touch it.
        sim.open("late", Access::CreateNew).unwrap().write_at(0, b"x").unwrap();
        sim.create_dir("later").unwrap();
        for persist in Persist::all(seed) {
            let mut image = snapshot(&sim.image(persist));
            image.retain(|path, _| !path.starts_with("late"));
            assert_eq!(image, now, "seed {seed} {persist:?}");
        }
    }
}

// row B19: no crash makes bytes up: each byte of an image was at that place of that file at some time, or is zero
#[test]
fn images_contain_only_what_was_written() {
    for seed in 0..40 {
        let sim = SimDisk::new();
        let mut source = Source(1000 + seed);
        for _ in 0..120 {
            let _ = run(&sim, &source.step());
            if source.below(10) == 0 {
                let (everything, image) = (snapshot(&sim), sim.image(Persist::RandomTorn(source.below(1 << 40))));
                for (path, bytes) in snapshot(&image) {
                    let Some(bytes) = bytes else { continue };
                    assert!(bytes.len() <= 15_000 && bytes.iter().all(|b| *b < 4 || b"owner".contains(b)), "{path}");
                }
                assert_eq!(snapshot(&sim), everything, "taking an image changes nothing");
                assert!(image.unsynced() == 0 && image.tree() == image.image(Persist::Nothing).tree());
            }
        }
    }
}

/// One directory as plain vectors and maps: what is live, what is durable.
#[derive(Default)]
struct Flat {
    files: Vec<[Vec<u8>; 2]>,
    names: [BTreeMap<&'static str, usize>; 2],
}

const LIVE: usize = 0;
const DURABLE: usize = 1;

impl Flat {
    fn run(&mut self, step: &Step) {
        match step {
            Step::Create(path) if !self.names[LIVE].contains_key(path) => {
                self.files.push([Vec::new(), Vec::new()]);
                self.names[LIVE].insert(path, self.files.len() - 1);
            }
            Step::Write(path, ..) | Step::SetLen(path, _) | Step::SyncData(path) => {
                if let Some(n) = self.names[LIVE].get(path) {
                    change_bytes(&mut self.files[*n], step);
                }
            }
            // Two names of one file: nothing is to be done.
            Step::Rename(from, to) if self.names[LIVE].get(from) == self.names[LIVE].get(to) => {}
            Step::Rename(from, to) => {
                if let Some(n) = self.names[LIVE].remove(from) {
                    self.names[LIVE].insert(to, n);
                }
            }
            Step::Link(from, to) if !self.names[LIVE].contains_key(to) => {
                if let Some(n) = self.names[LIVE].get(from).copied() {
                    self.names[LIVE].insert(to, n);
                }
            }
            Step::SyncTree => {
                self.files.iter_mut().for_each(|file| file[DURABLE] = file[LIVE].clone());
                self.names[DURABLE] = self.names[LIVE].clone();
            }
            Step::Remove(path) => drop(self.names[LIVE].remove(path)),
            Step::SyncDir(_) => self.names[DURABLE] = self.names[LIVE].clone(),
            _ => {}
        }
    }

    fn after_crash(&self, names: usize, bytes: usize) -> BTreeMap<String, Option<Vec<u8>>> {
        self.names[names].iter().map(|(name, n)| ((*name).to_owned(), Some(self.files[*n][bytes].clone()))).collect()
    }
}

fn change_bytes(file: &mut [Vec<u8>; 2], step: &Step) {
    match step {
        Step::Write(_, offset, bytes) if !bytes.is_empty() => {
            let (start, end) = (*offset as usize, *offset as usize + bytes.len());
            let len = file[LIVE].len().max(end);
            file[LIVE].resize(len, 0);
            file[LIVE][start..end].copy_from_slice(bytes);
        }
        Step::SetLen(_, len) => file[LIVE].resize(*len as usize, 0),
        Step::SyncData(_) => file[DURABLE] = file[LIVE].clone(),
        _ => {}
    }
}

// row B19: the four images that need no seed, against an oracle that shares nothing with the implementation
#[test]
fn images_are_what_an_oracle_says() {
    for seed in 0..60 {
        let (sim, mut flat, mut source) = (SimDisk::new(), Flat::default(), Source(2000 + seed));
        for n in 0..250 {
            let name = |source: &mut Source| ["a", "b", "c"][source.below(3) as usize];
            let step = match source.step() {
                Step::Create(_) => Step::Create(name(&mut source)),
                Step::Write(_, offset, bytes) => Step::Write(name(&mut source), offset, bytes),
                Step::SetLen(_, len) => Step::SetLen(name(&mut source), len),
                Step::Rename(..) => Step::Rename(name(&mut source), name(&mut source)),
                Step::Link(..) => Step::Link(name(&mut source), name(&mut source)),
                Step::SyncTree => Step::SyncTree,
                Step::Remove(_) => Step::Remove(name(&mut source)),
                Step::SyncData(_) | Step::CreateDir(_) => Step::SyncData(name(&mut source)),
                _ => Step::SyncDir(""),
            };
            let _ = run(&sim, &step);
            flat.run(&step);
            for (persist, names, bytes) in [
                (Persist::Nothing, DURABLE, DURABLE),
                (Persist::Everything, LIVE, LIVE),
                (Persist::NamesWithoutData, LIVE, DURABLE),
                (Persist::DataWithoutNames, DURABLE, LIVE),
            ] {
                let image = sim.image(persist);
                assert!(
                    snapshot(&image) == flat.after_crash(names, bytes),
                    "seed {seed} step {n} {step:?} {persist:?}"
                );
                let space: usize = image.state().disks[0].used as usize;
                assert!(space <= 3 * 16_384, "{space}");
            }
        }
    }
}

// row B19: a recorded moment is what a crash at that operation gives
#[test]
fn moments_of_one_run_are_the_crashes_of_many() {
    for seed in 0..20 {
        let play = |sim: &SimDisk| {
            let mut source = Source(3000 + seed);
            (0..120).for_each(|_| drop(run(sim, &source.step())));
        };
        let recorded = SimDisk::new();
        recorded.set_recording(true);
        play(&recorded);
        let moments = recorded.take_moments();
        assert_eq!(moments.len() as u64, recorded.ops());
        for moment in moments {
            let torn = [0, moment.write_bytes() / 3, moment.write_bytes()][(moment.n % 3) as usize];
            let crashed = SimDisk::new();
            crashed.crash_torn_at(moment.n, torn);
            play(&crashed);
            let moment = moment.torn(torn);
            let context = format!("seed {seed} operation {} {:?} {}", moment.n, moment.kind, moment.path);
            let mut seen: Vec<SimDisk> = Vec::new();
            for persist in Persist::all(seed + moment.n) {
                let (image, again) = (moment.image(persist), crashed.image(persist));
                assert_eq!(image.tree(), again.tree(), "{context} {persist:?}");
                assert!(image.is_same(&again) && image.sketch() == again.sketch(), "{context} {persist:?}");
                for other in &seen {
                    assert_eq!(image.is_same(other), image.tree() == other.tree(), "{context} {persist:?}");
                }
                seen.push(image);
            }
            assert_eq!(moment.unsynced(), crashed.unsynced(), "{context}");
            assert_eq!(moment.killed().tree(), moment.image(Persist::Everything).tree(), "{context}");
            assert_eq!(moment.killed().image(Persist::Nothing).tree(), seen[0].tree(), "{context}");
            assert_eq!(moment.killed().state().disks[0].used, crashed.state().disks[0].used, "{context}");
        }
    }
}

//! Random commands against a simple model. Whatever the planner does must be what the model does; and over the whole run no name
//! may show two mailboxes under one UIDVALIDITY (I6).

use super::simple::*;
use super::*;
use crate::model::LimitChange;
use std::collections::BTreeMap;

struct Dice {
    state: u64,
    /// Names that are or were there: half of the names asked for are of them, so that commands find something to do.
    there: Vec<String>,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 33).unwrap() % n
    }

    fn of(&mut self, words: &[&str]) -> String {
        words[self.below(words.len())].to_owned()
    }

    fn user(&mut self) -> String {
        self.of(&["joe", "ann@x.org", "bo", "bob"])
    }

    fn some(&mut self) -> String {
        if !self.there.is_empty() && self.below(2) == 0 {
            let at = self.below(self.there.len());
            return self.there[at].clone();
        }
        self.name()
    }

    fn name(&mut self) -> String {
        let mut name = if self.below(4) == 0 { "shared".to_owned() } else { format!("user/{}", self.user()) };
        for _ in 0..self.below(4) {
            name = name + "/" + &self.of(&["A", "A", "B", "a b", "\u{c4}", "A\u{308}", "inbox", "INBOX"]);
        }
        match self.below(60) {
            0 => name + "/",
            1 => name + "/x*",
            _ => name,
        }
    }

    fn partition(&mut self) -> Option<String> {
        match self.below(12) {
            0 => Some("moon".to_owned()),
            1 | 2 => Some("archive".to_owned()),
            _ => None,
        }
    }

    fn identifier(&mut self) -> String {
        self.of(&["joe", "-joe", "ann@x.org", "bo", "-bob", "anyone", "group:g"])
    }

    fn command(&mut self) -> Command {
        match self.below(44) {
            0..=2 => Command::UserAdd {
                user: self.user(),
                partition: self.partition(),
                quota_bytes: None,
                quota_messages: Some(5),
            },
            3 => user_delete(&self.user()),
            4 | 5 => user_rename(&self.user(), &self.user()),
            6..=13 => Command::MailboxCreate { name: self.name(), partition: self.partition() },
            14..=17 => delete(&self.some()),
            18..=24 => rename(&self.some(), &self.name()),
            25..=29 => {
                acl_set(&self.some(), &self.identifier(), &self.of(&["lrs", "+w", "-l", "", "lrswipkxtea", "+d", "-x"]))
            }
            30 => acl_delete(&self.some(), &self.identifier()),
            31..=33 => subscribe(&self.user(), &self.some()),
            34 => unsubscribe(&self.user(), &self.some()),
            35 => Command::QuotaRecalc { root: format!("user/{}", self.user()) },
            36..=38 => {
                let root = if self.below(3) == 0 { self.user() } else { self.some() };
                let limit = |n: usize, most: u64| match n {
                    0..3 => LimitChange::Remove,
                    3..5 => LimitChange::Keep,
                    n => LimitChange::To(n as u64 * most),
                };
                let (storage, messages) = (limit(self.below(9), 20), limit(self.below(9), 2));
                Command::QuotaSet { root, storage, messages }
            }
            _ => Command::ImportMailbox {
                name: self.some(),
                partition: self.partition(),
                uidvalidity: [0, 5, 5, 1002, 1010, 5000][self.below(6)],
                acl: BTreeMap::from([(self.identifier(), self.of(&["lrs9", "l"]))]),
            },
        }
    }
}

/// Runs `steps` random commands, one in eight an atomic batch; gives how many were done.
fn run(seed: u64, steps: usize) -> usize {
    let mut dice = Dice { state: seed, there: Vec::new() };
    let (mut world, mut simple) = (World::new(), Simple::default());
    world.limits.mailboxes_per_user = MAILBOXES as u32;
    let mut known = BTreeSet::new();
    let mut done = 0;
    for _ in 0..steps {
        let size = if dice.below(8) == 0 { 1 + dice.below(5) } else { 1 };
        let batch: Vec<Command> = (0..size).map(|_| dice.command()).collect();
        let mut next = simple.clone();
        let mut why = Why::new();
        for command in &batch {
            why = next.reasons(command);
            if why.is_empty() && next.is_over_after(command) {
                why.insert(code(RefusalKind::OverQuota));
            }
            if !why.is_empty() {
                break;
            }
            next.apply(command);
        }
        // Within a batch names pass through states that nobody sees; only single steps are held to keep UIDVALIDITY.
        let command = if size == 1 { batch[0].clone() } else { Command::Atomic(batch) };
        let before = world.rows.clone();
        match world.run(&command) {
            Ok(_) => {
                assert!(why.is_empty(), "{command:?} was done, expected {why:?}");
                if size > 1 {
                    next.forget_between(&world);
                }
                next.settle(&world, &known);
                known.extend(next.boxes.values().map(|b| b.id));
                simple = next;
                done += 1;
            }
            Err(refusal) => {
                assert!(why.contains(&code(refusal.kind)), "{command:?}: {refusal}, expected {why:?}");
                assert_eq!(before, world.rows);
            }
        }
        if let Some(name) = simple.boxes.keys().nth(dice.below(20)).cloned() {
            world.deliver(&name, 10);
            simple.boxes.get_mut(&name).unwrap().bytes += 10;
        }
        simple.compare(&world);
        dice.there = simple.history.keys().cloned().collect();
    }
    done
}

// rows 114, 119; I5, I6, I9
#[test]
fn random_commands_do_what_a_simple_model_does() {
    let mut done = 0;
    for seed in 1..=16 {
        println!("seed {seed}");
        done += run(seed, 400);
    }
    assert!(done > 1600, "only {done} of 6400 commands were done");
}

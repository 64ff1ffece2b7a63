//! Messages that are there without their bytes, and get them from the archive: they stay what they were.

use super::batch::groups;
use super::put::{Restorer, Waiting};
use crate::archive::content::Message;
use crate::exit::{Outcome, Stop};
use proto::Code;
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Seek};

impl<R: Read + Seek> Restorer<'_, R> {
    /// The messages of a mailbox whose bytes are gone or damaged. Every byte of it may be read for that: nobody is kept waiting meanwhile, and
    /// what is known from the reference before is not looked for again.
    pub(super) fn look_for_sick(&mut self, name: &str) -> Outcome<BTreeSet<u32>> {
        match self.sick_left.remove(name) {
            Some(left) => Ok(left),
            None => Ok(self.house.sick(name, self.asked.args.deep)?.into_iter().map(|sick| sick.uid).collect()),
        }
    }

    /// Those of them that are still there, by digest.
    pub(super) fn sick_by_digest(
        &mut self,
        name: &str,
        mut known: BTreeSet<u32>,
        live: &[proto::Message],
    ) -> Outcome<HashMap<String, Vec<u32>>> {
        let mut sick: HashMap<String, Vec<u32>> = HashMap::new();
        let mut note = |messages: &[proto::Message], known: &mut BTreeSet<u32>| {
            for message in messages.iter().filter(|message| known.remove(&message.uid)) {
                sick.entry(message.digest.clone()).or_default().push(message.uid);
            }
        };
        note(live, &mut known);
        if !known.is_empty() {
            note(&self.house.expunged(name)?, &mut known);
        }
        Ok(sick)
    }

    /// Remembers which messages of the open mailbox still lack their bytes, for the next reference.
    pub(super) fn keep_sick(&mut self) {
        if let Some(open) = &self.open {
            self.sick_left.insert(open.name.clone(), open.sick.values().flatten().copied().collect());
        }
    }

    /// Whether messages are there that lack the bytes of this one.
    pub(super) fn is_sick(&self, message: &Message) -> bool {
        self.open.as_ref().is_some_and(|open| open.sick.contains_key(&message.digest))
    }

    /// Those messages, which get them now.
    pub(super) fn take_sick(&mut self, message: &Message) -> Vec<u32> {
        self.open.as_mut().and_then(|open| open.sick.remove(&message.digest)).unwrap_or_default()
    }

    /// Has messages that are there get their bytes. Gives their UIDs, or why not.
    pub(super) fn heal(&mut self, name: &str, batch: &[Waiting]) -> Outcome<Vec<Result<u32, String>>> {
        let mut all = Vec::with_capacity(batch.len());
        for (from, range) in groups(batch) {
            let some = &batch[range];
            let messages = some.iter().map(|one| (one.heals.unwrap_or(0), one.message.body.clone())).collect();
            let failed = self.house.heal(name, from, messages)?;
            if failed.len() != some.len() {
                return Err(Stop::new(Code::Protocol, "the daemon did not say what became of each message"));
            }
            all.extend(some.iter().zip(failed).map(|(one, failed)| match failed {
                Some(why) => Err(why),
                None => Ok(one.heals.unwrap_or(0)),
            }));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::house::House;
    use super::super::put::Asked;
    use super::super::references::Wanted;
    use super::super::select::{Names, Objects, Query};
    use super::*;
    use crate::archive::Found;
    use crate::archive::content::About;
    use crate::cli::RestoreArgs;
    use crate::fake::{Act, Fake};
    use clap::Parser;
    use proto::{BackupAsk, BackupPart, Lock, Mailbox, MailboxDetail, Reply, Request};
    use std::collections::BTreeMap;
    use std::io::Cursor;

    const ANN: &str = "user/ann/INBOX";

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        args: RestoreArgs,
    }

    fn bytes(uid: u32) -> Vec<u8> {
        format!("Subject: {uid}\r\n\r\n").into_bytes()
    }

    fn digest(uid: u32) -> String {
        blake3::hash(&bytes(uid)).to_hex().to_string()
    }

    /// A daemon that has three messages, none of them damaged.
    fn answer(request: &Request) -> Act {
        Act::Reply(match request {
            Request::Status => Reply::Status(Box::default()),
            Request::ConfigShow { .. } => Reply::Config(BTreeMap::new()),
            Request::MailboxShow { name } => {
                let mailbox = Mailbox {
                    name: name.clone(),
                    id: 4,
                    partition: "primary".to_owned(),
                    path: String::new(),
                    uidvalidity: 7,
                    uidnext: 4,
                    messages: 3,
                    bytes: 60,
                    acl: BTreeMap::new(),
                };
                let (flags, created, name_utf7) = Default::default();
                let detail = MailboxDetail { mailbox, highest_modseq: 4, unseen: 3, flags, created, name_utf7 };
                Reply::MailboxDetail(Box::new(detail))
            }
            Request::MessageList { expunged: false, .. } => {
                let one = |uid| proto::Message {
                    uid,
                    size: bytes(uid).len() as u64,
                    internal_date: "2026-11-01T00:00:00Z".to_owned(),
                    flags: Vec::new(),
                    modseq: 2,
                    digest: digest(uid),
                };
                Reply::Messages((1..=3).map(one).collect())
            }
            Request::Backup(BackupAsk::Sick { .. }) => Reply::Backup(BackupPart::Sick(Vec::new())),
            Request::LockTake { .. } => Reply::Lock(Lock { id: 1, ..Lock::default() }),
            _ => Reply::Done(proto::Done { done: true }),
        })
    }

    // A mailbox was read to its last byte for each reference of a second run, while deliveries to it waited
    #[test]
    fn a_mailbox_is_read_once_and_nobody_waits_meanwhile() {
        let fake = Fake::start(answer);
        let (objects, names) = (Objects::new(&[]), Names::new(None, None).unwrap());
        let (query, args) = (Query::parse(None).unwrap(), Typed::parse_from(["restore", "--file", "-", "--deep"]).args);
        let message = |uid: u32| Message {
            uid,
            size: bytes(uid).len() as u64,
            digest: digest(uid),
            date: "2026-11-01T00:00:00Z".parse().unwrap(),
            saved: "2026-11-01T00:00:00Z".parse().unwrap(),
            flags: Vec::new(),
            modseq: 2,
            mailbox: ANN.to_owned(),
            begins: 1,
        };
        let wanted = |uid: u32| Wanted {
            archive: "a".to_owned(),
            frame: u64::from(uid) + 10,
            of: None,
            object: "/primary/0/ann/INBOX".to_owned(),
            to: ANN.to_owned(),
            keeps_uid: false,
            message: message(uid),
        };
        let references: BTreeMap<u64, Vec<Wanted>> =
            (1..=3).map(|uid| (u64::from(uid) + 10, vec![wanted(uid)])).collect();
        let asked =
            Asked { objects: &objects, names: &names, query: &query, references: Some(&references), args: &args };
        let house = House::new(fake.client()).unwrap();
        let mut restorer = Restorer::<Cursor<Vec<u8>>>::new(house, asked, None);
        restorer.about = Some(About {
            program: "storectl".to_owned(),
            store: "s".to_owned(),
            id: "a".to_owned(),
            epoch: 0,
            lsn: 1,
            time: "2026-11-01T00:00:00Z".parse().unwrap(),
            since: None,
            objects: Vec::new(),
            single_copy: true,
        });
        for uid in 1..=3 {
            restorer.frame(u64::from(uid) + 10, Found::Message(message(uid), bytes(uid))).unwrap();
        }
        let (summary, _) = restorer.finish().unwrap();
        assert_eq!(summary.skipped.len(), 3, "{summary:?}");
        let asked: Vec<&str> = fake
            .asked
            .try_iter()
            .filter_map(|request| match request {
                Request::Backup(BackupAsk::Sick { deep: true, .. }) => Some("look"),
                Request::LockTake { .. } => Some("lock"),
                Request::LockRelease { .. } => Some("release"),
                _ => None,
            })
            .collect();
        assert_eq!(asked, ["look", "lock", "release", "lock", "release", "lock", "release"]);
    }
}

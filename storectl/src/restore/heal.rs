//! Messages that are there without their bytes, and get them from the archive: they stay what they were.

use super::batch::groups;
use super::put::{Restorer, Waiting};
use crate::archive::content::Message;
use crate::exit::{Outcome, Stop};
use proto::Code;
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Seek};

impl<R: Read + Seek> Restorer<'_, R> {
    /// The messages of a mailbox whose bytes are gone or damaged, by digest.
    pub(super) fn sick_in(&mut self, name: &str, live: &[proto::Message]) -> Outcome<HashMap<String, Vec<u32>>> {
        let mut sick: HashMap<String, Vec<u32>> = HashMap::new();
        let mut known: BTreeSet<u32> =
            self.house.sick(name, self.asked.args.deep)?.into_iter().map(|sick| sick.uid).collect();
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

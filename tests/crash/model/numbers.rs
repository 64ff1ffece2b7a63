//! Which numbers the fresh ones are.

use super::rules::{Plan, Said};
use super::{Fresh, Known, Number, Tables};
use std::collections::BTreeMap;
use storedd::model::Outcome;
use storedd::model::command::RefusalKind;

/// Finds out which numbers the fresh ones are.
#[derive(Debug, Default)]
pub(super) struct MatchUp {
    /// Highest number and UIDVALIDITY seen before.
    floor: (u64, u64),
    ids: BTreeMap<u32, u64>,
    uidvalidities: BTreeMap<u32, u64>,
}

impl MatchUp {
    /// `floor`: the highest number and UIDVALIDITY seen before.
    pub(super) fn new(floor: (u64, u64)) -> MatchUp {
        MatchUp { floor, ..MatchUp::default() }
    }

    pub(super) fn said(&mut self, expected: &Plan, said: &Result<Outcome, RefusalKind>) -> Result<(), String> {
        match (expected, said) {
            (Err(expected), Err(said)) if expected == said => Ok(()),
            (Ok(expected), Ok(said)) => self.outcome(expected, said),
            _ => Err(format!("answered {said:?}, expected {expected:?}")),
        }
    }

    fn outcome(&mut self, expected: &Said, said: &Outcome) -> Result<(), String> {
        match (expected, said) {
            (Said::Done, Outcome::Done) | (Said::Unchanged, Outcome::Unchanged) => Ok(()),
            (Said::Unchanged, Outcome::Recalculated(wrong)) if wrong.is_empty() => Ok(()),
            (Said::Mailboxes(a), Outcome::Mailboxes(b)) if a == b => Ok(()),
            (Said::Back(a), Outcome::Returned(b)) if a == b => Ok(()),
            (Said::Created(a, id, uidvalidity), Outcome::Created { name, id: given, uidvalidity: value })
                if a == name =>
            {
                self.id(*id, Known(*given))?;
                self.uidvalidity(*uidvalidity, Known((*value).into()))
            }
            (
                Said::Returned(a, id, uidvalidity, all),
                Outcome::MailboxReturned { name, id: given, uidvalidity: value, messages },
            ) if a == name && all == messages => {
                self.id(*id, Known(*given))?;
                self.uidvalidity(*uidvalidity, Known((*value).into()))
            }
            (Said::Each(a), Outcome::Each(b)) if a.len() == b.len() => {
                a.iter().zip(b).try_for_each(|(a, b)| self.outcome(a, b))
            }
            (Said::Delivered(a), Outcome::Delivered(b)) if a.len() == b.len() => {
                a.iter().zip(b).try_for_each(|(a, b)| match (a, b) {
                    (Err(expected), Err(refusal)) if *expected == refusal.kind => Ok(()),
                    (Ok((name, uid, uidvalidity)), Ok(done)) if *name == done.mailbox && *uid == done.uid => {
                        self.uidvalidity(*uidvalidity, Known(done.uidvalidity.into()))
                    }
                    _ => Err(format!("delivered {b:?}, expected {a:?}")),
                })
            }
            _ => Err(format!("answered {said:?}, expected {expected:?}")),
        }
    }

    fn id(&mut self, expected: Number, actual: Number) -> Result<(), String> {
        one("number", &mut self.ids, self.floor.0, expected, actual)
    }

    fn uidvalidity(&mut self, expected: Number, actual: Number) -> Result<(), String> {
        one("UIDVALIDITY", &mut self.uidvalidities, self.floor.1, expected, actual)
    }

    pub(super) fn tables(&mut self, expected: &Tables, actual: &Tables) -> Result<(), String> {
        let named = |name: &String| {
            let name = name.clone();
            move |e: String| format!("{name}: {e}")
        };
        for (name, user) in &expected.users {
            if let Some(actual) = actual.users.get(name) {
                self.id(user.id, actual.id).map_err(named(name))?;
            }
        }
        for (name, mailbox) in &expected.mailboxes {
            if let Some(actual) = actual.mailboxes.get(name) {
                self.id(mailbox.id, actual.id).map_err(named(name))?;
                self.uidvalidity(mailbox.uidvalidity, actual.uidvalidity).map_err(named(name))?;
            }
        }
        for (name, (uidvalidity, id)) in &expected.past {
            if let Some(actual) = actual.past.get(name) {
                self.id(*id, actual.1).map_err(named(name))?;
                self.uidvalidity(*uidvalidity, actual.0).map_err(named(name))?;
            }
        }
        Ok(())
    }

    /// `tables` with the numbers found.
    pub(super) fn resolve(&self, mut tables: Tables, actual: &Tables) -> Tables {
        let turn = |known: &BTreeMap<u32, u64>, number: &mut Number| {
            if let Fresh(nth) = number
                && let Some(n) = known.get(nth)
            {
                *number = Known(*n);
            }
        };
        tables.users.values_mut().for_each(|user| turn(&self.ids, &mut user.id));
        for mailbox in tables.mailboxes.values_mut() {
            turn(&self.ids, &mut mailbox.id);
            turn(&self.uidvalidities, &mut mailbox.uidvalidity);
        }
        for (uidvalidity, id) in tables.past.values_mut() {
            turn(&self.ids, id);
            turn(&self.uidvalidities, uidvalidity);
        }
        let mut unknown = Vec::new();
        for ((name, _), mut mailbox) in std::mem::take(&mut tables.tombstones) {
            turn(&self.ids, &mut mailbox.id);
            turn(&self.uidvalidities, &mut mailbox.uidvalidity);
            let id = mailbox.id;
            match (id, actual.tombstones.get(&(name.clone(), id))) {
                (Known(_), found) => {
                    // Given and taken by one command.
                    if let (Fresh(_), Some(found)) = (mailbox.uidvalidity, found) {
                        mailbox.uidvalidity = found.uidvalidity;
                    }
                    tables.tombstones.insert((name, id), mailbox);
                }
                (Fresh(_), _) => unknown.push((name, mailbox)),
            }
        }
        // Made and deleted by one command: any one of that name that is not accounted for.
        for (name, mut mailbox) in unknown {
            let free = actual.tombstones.iter().find(|(key, _)| key.0 == name && !tables.tombstones.contains_key(*key));
            let key = match free {
                Some((key, found)) => {
                    mailbox.id = found.id;
                    if let Fresh(_) = mailbox.uidvalidity {
                        mailbox.uidvalidity = found.uidvalidity;
                    }
                    key.clone()
                }
                None => (name, Fresh(0)),
            };
            tables.tombstones.insert(key, mailbox);
        }
        tables
    }
}

fn one(what: &str, known: &mut BTreeMap<u32, u64>, floor: u64, expected: Number, actual: Number) -> Result<(), String> {
    match (expected, actual) {
        (Known(a), Known(b)) if a == b => Ok(()),
        (Fresh(nth), Known(n)) => match known.get(&nth) {
            Some(before) if *before == n => Ok(()),
            Some(before) => Err(format!("{what} {before} and {n} for one thing")),
            None if n <= floor => Err(format!("{what} {n} is not above {floor}, which was in use before")),
            None if known.values().any(|other| *other == n) => Err(format!("{what} {n} was issued twice")),
            None => {
                known.insert(nth, n);
                Ok(())
            }
        },
        _ => Err(format!("{what} {actual:?}, expected {expected:?}")),
    }
}

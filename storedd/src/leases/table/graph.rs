//! Who waits for whom: what is in the way of a wish, the circle that it would close, and both in words.

use super::{Blocked, Table, Wait, Waiting};
use crate::leases::{Picture, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Table {
    /// The parties in the way of such a wish that came as number `number`: holders, and who waits since before.
    pub(super) fn parties_before(&self, number: u64, party: u64, scopes: &[Scope], lease: bool) -> BTreeSet<u64> {
        let holders = self.leases.values().filter(|l| l.blocks(party, scopes)).map(|l| l.party);
        holders.chain(self.earlier(number, party, scopes, lease).map(|w| w.party)).collect()
    }

    /// Who came before such a wish and goes first. Who waits for this very party does not: a holder goes on under its
    /// lease, however many want it.
    fn earlier<'a>(
        &'a self,
        number: u64,
        party: u64,
        scopes: &'a [Scope],
        lease: bool,
    ) -> impl Iterator<Item = &'a Wait> + 'a {
        let waits_for_it =
            move |w: &Wait| self.leases.values().any(|l| l.party == party && l.blocks(w.party, &w.wanted.scopes));
        self.waits
            .range(..number)
            .map(|(_, wait)| wait)
            .filter(move |w| w.party != party && (lease || w.wants_lease()) && w.overlaps(scopes) && !waits_for_it(w))
    }

    /// The circle that this wait would close, if any: a way over those who wait, back to its own party.
    pub(super) fn circle(&self, wait: &Wait, now: Duration) -> Option<Blocked> {
        let first = self.parties_before(u64::MAX, wait.party, &wait.wanted.scopes, wait.wants_lease());
        // From each party that is reached, the one it was reached from with the number of the wait.
        let mut from: BTreeMap<u64, Option<(u64, u64)>> = first.iter().map(|party| (*party, None)).collect();
        let mut open: Vec<u64> = first.into_iter().collect();
        while let Some(party) = open.pop() {
            if party == wait.party {
                return Some(Blocked::Deadlock { circle: self.words(wait, &from, now) });
            }
            for (number, other) in self.waits.iter().filter(|(_, other)| other.party == party) {
                let scopes = &other.wanted.scopes;
                for next in self.parties_before(*number, party, scopes, other.wants_lease()) {
                    if let std::collections::btree_map::Entry::Vacant(place) = from.entry(next) {
                        place.insert(Some((party, *number)));
                        open.push(next);
                    }
                }
            }
        }
        None
    }

    /// The circle as a sentence.
    fn words(&self, wait: &Wait, from: &BTreeMap<u64, Option<(u64, u64)>>, now: Duration) -> String {
        let mut steps = Vec::new();
        let mut at = wait.party;
        while let Some(Some((party, number))) = from.get(&at) {
            if let Some(other) = self.waits.get(number) {
                steps.push(format!(
                    "process {} has been waiting for {} for {} s",
                    other.wanted.who.pid,
                    other.what(),
                    now.saturating_sub(other.since).as_secs()
                ));
            }
            at = *party;
        }
        let held = self.leases.values().filter(|l| l.blocks(wait.party, &wait.wanted.scopes));
        let held: Vec<String> = held.map(|l| format!("{} is held by process {}", l.scope, l.who.pid)).collect();
        let mut words = vec![format!("process {} would wait for {}", wait.wanted.who.pid, wait.what())];
        words.extend(held);
        words.extend(steps.into_iter().rev());
        let own = self.leases.values().filter(|l| l.party == wait.party);
        words.extend(own.map(|l| format!("{} is held by process {}", l.scope, l.who.pid)));
        words.join("; ")
    }

    /// Who is in the way of a wait, in words.
    pub(super) fn in_the_way(&self, number: u64, now: Duration) -> String {
        let Some(wait) = self.waits.get(&number) else { return String::new() };
        let holder = self.leases.values().find(|lease| lease.blocks(wait.party, &wait.wanted.scopes));
        if let Some(lease) = holder {
            let age = now.saturating_sub(lease.since).as_secs();
            let (scope, pid, uid, verb) = (&lease.scope, lease.who.pid, lease.who.uid, lease.who.verb);
            let why = if lease.reason.is_empty() { String::new() } else { format!(", for: {}", lease.reason) };
            return format!("{scope} has been held for {age} s by process {pid} of user {uid} ({verb}){why}");
        }
        match self.earlier(number, wait.party, &wait.wanted.scopes, wait.wants_lease()).next() {
            Some(w) => {
                format!("process {} of user {} waits for it too, and came before", w.wanted.who.pid, w.wanted.who.uid)
            }
            None => "changes that are under way have not ended".to_owned(),
        }
    }

    /// How long the oldest change has been waiting, and who is in its way, in words.
    pub(in crate::leases) fn oldest_change(&self, now: Duration) -> Option<(Duration, String)> {
        let (number, wait) = self.waits.iter().find(|(_, wait)| !wait.wants_lease())?;
        Some((now.saturating_sub(wait.since), self.in_the_way(*number, now)))
    }

    pub(in crate::leases) fn picture(&self, now: Duration) -> Picture {
        let waiting = self.waits.iter().map(|(number, wait)| {
            let scopes = &wait.wanted.scopes;
            let leases = self.leases.iter().filter(|(_, l)| l.blocks(wait.party, scopes)).map(|(id, _)| *id);
            let behind = self.earlier(*number, wait.party, scopes, wait.wants_lease());
            Waiting {
                who: wait.wanted.who.clone(),
                scopes: scopes.clone(),
                wants_lease: wait.wants_lease(),
                age: now.saturating_sub(wait.since),
                left: (wait.since + wait.wanted.wait).saturating_sub(now),
                leases: leases.collect(),
                behind: behind.map(|w| w.wanted.who.pid).collect(),
            }
        });
        Picture {
            waiting: waiting.collect(),
            held: self.leases.keys().filter_map(|id| self.held(*id, now).ok()).collect(),
            tally: self.tally,
        }
    }
}

//! `user move`: a user lies on another partition from now on.

use super::Daemon;
use crate::control::Peer;
use crate::control::convert::failure;
use crate::jobs::expire::Undone;
use crate::jobs::registry::Context;
use crate::model::Outcome;
use crate::store::Moving;
use proto::{Changed, Code, Failure, Reply};

/// One user moves at a time.
pub(super) const MOVES: Option<&str> = Some(VERB);

/// How often what came meanwhile is copied after it. Each time it is less; whoever gets mail faster than that is not moved now.
const ATTEMPTS: usize = 50;
const VERB: &str = "user move";

impl Daemon {
    pub(super) fn user_move(&self, peer: &Peer, user: &str, to: &str, ctx: &Context) -> Result<Reply, Failure> {
        let store = self.store()?;
        let changed = |lsn, mailboxes| {
            let (name, id, uidvalidity, messages) = Default::default();
            let (changed, mailboxes) = (mailboxes > 0, Some(mailboxes));
            Reply::Changed(Changed { lsn, changed, name, id, uidvalidity, mailboxes, messages })
        };
        let Some(mut moving) = store.begin_move(user, to).map_err(|e| failure(&e))? else {
            return Ok(changed(0, 0));
        };
        match self.move_copied(peer, &mut moving, ctx) {
            Ok(mailboxes) => {
                // What lay there before goes with it.
                store.checkpoint().map_err(|e| failure(&e))?;
                moving.done().map_err(|e| failure(&e))?;
                Ok(changed(store.checkpoint_lsn().0, mailboxes))
            }
            Err(failure) => {
                moving.give_up();
                Err(failure)
            }
        }
    }

    /// Copies until nothing came meanwhile, and has the user lie where the copy is.
    fn move_copied(&self, peer: &Peer, moving: &mut Moving, ctx: &Context) -> Result<u64, Failure> {
        for _ in 0..ATTEMPTS {
            let mut told = |done, all| {
                ctx.progress(done, Some(all), "mailboxes", "");
                !ctx.cancelled()
            };
            let command = moving.copy(&mut told).map_err(|e| failure(&e))?;
            match self.hand(peer, VERB, command) {
                Ok(Outcome::Mailboxes(mailboxes)) => return Ok(mailboxes),
                Ok(_) => return Ok(0),
                Err(Undone::Stale) => {}
                Err(Undone::Busy(why)) => return Err(Failure::new(Code::Busy, why)),
                Err(Undone::Refused(why)) => return Err(Failure::new(Code::NotFound, why)),
                Err(Undone::Failed(e)) => return Err(failure(&e)),
            }
        }
        let why = "the user gets mail faster than it is copied; try again when it is quiet";
        Err(Failure::new(Code::Busy, why))
    }
}

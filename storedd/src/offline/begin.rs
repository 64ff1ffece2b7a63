//! How a verb begins that works on a stopped store by a plan: signals, consent, lock, look.

use super::narrate::{narrator, tell_findings};
use super::show::describe;
use super::{Ended, confirmed, interruptible, is_terminal, survive_file_limit};
use crate::config::Config;
use crate::disk::Lock;
use crate::error::{StoreError, exit};
use crate::place;
use crate::store::{self, Disks, OnProgress, Plan};

/// What the person said about the manner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// He need not be asked.
    pub(super) consents: bool,
    pub(super) dry_run: bool,
    pub(super) verbose: bool,
}

/// What is asked for consent, and said where there is none.
pub(super) struct Question {
    pub(super) message: &'static str,
    pub(super) hint: &'static str,
}

impl Question {
    /// Refuses at once where nobody can be asked; then signals end the verb in order.
    ///
    /// # Errors
    /// No consent; signal handlers that cannot be installed.
    pub(super) fn begin(&self, manner: Manner) -> Result<(), Ended> {
        survive_file_limit()?;
        interruptible()?;
        if !manner.consents && !manner.dry_run && !is_terminal() {
            return Err(self.unanswered());
        }
        Ok(())
    }

    /// Asks, unless that is not needed; `show` says first what would be done.
    ///
    /// # Errors
    /// No consent, and what `show` says.
    pub(super) fn ask(&self, manner: Manner, show: impl FnOnce() -> Result<(), Ended>) -> Result<(), Ended> {
        if manner.consents {
            return Ok(());
        }
        show()?;
        if confirmed("Go on? [y/N] ") { Ok(()) } else { Err(self.unanswered()) }
    }

    fn unanswered(&self) -> Ended {
        let (message, hint) = (self.message.to_owned(), Some(self.hint.to_owned()));
        Ended { code: "usage", message, hint, exit: exit::USAGE }
    }
}

/// Takes the lock, makes the plan, and says what was found. What a restore left undone is finished first, unless this is a dry run.
///
/// # Errors
/// As [`place::finish_restore`], [`place::open_existing`], [`store::take_lock`], and `make`.
pub(super) fn plan(
    config: &Config,
    manner: Manner,
    make: impl FnOnce(Disks, Box<dyn Lock>, &OnProgress) -> Result<Plan, StoreError>,
) -> Result<(Plan, OnProgress), Ended> {
    if !manner.dry_run {
        place::finish_restore(config)?;
    }
    let disks = place::open_existing(config)?;
    let narrate = narrator(manner.verbose);
    let lock = store::take_lock(&disks)?;
    let plan = make(disks, lock, &narrate)?;
    if manner.verbose {
        describe(plan.found());
    }
    tell_findings(plan.found().findings());
    Ok((plan, narrate))
}

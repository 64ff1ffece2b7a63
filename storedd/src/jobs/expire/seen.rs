//! What users have seen in mailboxes that are gone for good is forgotten.

use super::walk::page;
use super::{Aged, Ageing, Hands, Result, Work, ended};
use crate::jobs::registry::Context;
use crate::model::rows::{id_key, id_of, split};
use crate::model::{Command, Rows, Table};

impl Ageing {
    /// Takes away the rows of mailboxes that are neither there nor deleted and to be brought back.
    ///
    /// # Errors
    /// The store takes no changes any more; it was ended.
    pub fn forget_seen(&self, ctx: &Context, hands: Hands<'_>) -> Result<()> {
        let (now, told) = (self.env.now(), Aged::new(false));
        let mut work = Work { store: &self.store, hands, ctx, now, pace: u64::MAX, told };
        let (mut after, mut rows) = (Vec::new(), 0);
        loop {
            let seen = page(&self.store, Table::Seen, &after)?;
            let Some((last, _)) = seen.last().cloned() else { return Ok(()) };
            let view = self.store.view();
            for (key, _) in seen {
                rows += 1;
                ctx.progress(rows, None, "rows", "");
                if ctx.cancelled() {
                    return Err(ended());
                }
                let Some((user, mailbox)) = split(&key).and_then(|(user, id)| Some((user, id_of(id)?))) else {
                    continue;
                };
                if !view.contains(Table::Ids, &id_key(mailbox))? {
                    let user = String::from_utf8_lossy(user).into_owned();
                    work.try_hard("", &Command::SeenForget { user, mailbox })?;
                }
            }
            after = last;
        }
    }
}

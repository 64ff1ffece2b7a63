//! The daemon, as a backup sees it.
//!
//! # Operation
//! Answers are taken from the connection by a thread of their own as soon as they come, so that a medium that stands still for hours costs
//! nothing but time: no answer waits in the daemon. What is under way is bounded by what was asked for.

use super::save::unexpected;
use crate::cli::parse_size;
use crate::errand;
use crate::exit::{Outcome, Stop};
use crate::keep::{self, Keeper, plain};
use proto::client::{Answers, Pipeline};
use proto::{
    Answer, BackupAsk, BackupBegun, BackupMailbox, BackupPart, BackupWork, Client, ClientError, Code, Reply, Request,
};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use verbs::parse_duration;

/// Requests under way, at most: more than a backup ever asks ahead, and signs of life.
const WINDOW: usize = 128;
/// Bytes that a backup reads in a second.
const PACE_OPTION: &str = "backup.pace";
/// How long a connection may be idle.
const IDLE_OPTION: &str = "control.idle_timeout";

type Came = Result<(u64, Answer), ClientError>;

/// See the page.
#[derive(Debug)]
pub struct House {
    requests: Arc<Mutex<Pipeline>>,
    came: Receiver<Came>,
    /// Answers that are not waited for yet.
    answers: HashMap<u64, Answer>,
    /// Bytes in a second, as the configuration has it.
    pace: u64,
    _keeper: Keeper,
}

fn lock(requests: &Mutex<Pipeline>) -> MutexGuard<'_, Pipeline> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

impl House {
    /// Begins the moment of a backup over a connection that is there; its mailboxes.
    ///
    /// # Errors
    /// Those of the objects and of the connection.
    pub fn begin(mut client: Client, objects: &[String]) -> Outcome<(House, BackupBegun, Vec<BackupMailbox>)> {
        let (mut begun, mut mailboxes, mut idle, mut pace) = (None, Vec::new(), None, 0);
        let failed = |e: ClientError| Stop::Failed(e.failure());
        if let Reply::Config(values) = client.call(&Request::ConfigShow { defaults: false }).map_err(failed)? {
            idle = values.get(IDLE_OPTION).and_then(|value| parse_duration(plain(value)).ok());
            pace = values.get(PACE_OPTION).and_then(|value| parse_size(plain(value)).ok()).unwrap_or(0);
        }
        let ask = Request::Backup(BackupAsk::Begin { objects: objects.to_vec() });
        client
            .call_stream(&ask, |reply| {
                match reply {
                    Reply::Backup(BackupPart::Begun(found)) => begun = Some(found),
                    Reply::Backup(BackupPart::Mailboxes(more)) => mailboxes.extend(more),
                    _ => return ControlFlow::Break(()),
                }
                ControlFlow::Continue(())
            })
            .map_err(failed)?;
        let begun = begun.ok_or_else(|| Stop::new(Code::Protocol, "the daemon began no backup"))?;
        inboxes_first(&mut mailboxes);
        let (requests, answers) = client.pipeline(WINDOW).map_err(failed)?;
        let (takes, came) = channel();
        std::thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || take(answers, &takes))
            .map_err(|e| Stop::new(Code::Busy, format!("no thread: {e}")))?;
        let requests = Arc::new(Mutex::new(requests));
        let kept = requests.clone();
        let sign = move || {
            let mut requests = lock(&kept);
            requests.submit(&Request::Health).and_then(|_| requests.flush()).is_ok()
        };
        let _keeper = Keeper::start(keep::every(idle), sign);
        Ok((House { requests, came, answers: HashMap::new(), pace, _keeper }, begun, mailboxes))
    }

    /// Asks; gives the number of the request.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn ask(&mut self, ask: BackupAsk) -> Outcome<u64> {
        let mut requests = lock(&self.requests);
        let asked = requests.submit(&Request::Backup(ask)).and_then(|id| requests.flush().map(|()| id));
        drop(requests);
        // The receiving half knows why a connection ended.
        asked.map_err(|e| self.lost().unwrap_or_else(|| Stop::Failed(e.failure())))
    }

    fn lost(&mut self) -> Option<Stop> {
        self.came.iter().find_map(|came| came.err()).map(|e| Stop::Failed(e.failure()))
    }

    /// Whether the store's history leads from an earlier moment to now; why not.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn follows(&mut self, lsn: u64, epoch: u64) -> Outcome<Result<(), String>> {
        let asked = self.ask(BackupAsk::Follows { lsn, epoch })?;
        match self.whole(asked) {
            Ok(_) => Ok(Ok(())),
            Err(Stop::Failed(failure)) if failure.code == Code::BadInput => Ok(Err(failure.message)),
            Err(stop) => Err(stop),
        }
    }

    /// Mailboxes of the moment that are not among those of the backup: number and name.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn left_out(&mut self) -> Outcome<Vec<(u64, String)>> {
        let asked = self.ask(BackupAsk::LeftOut)?;
        match self.answer(asked)? {
            BackupPart::LeftOut(all) => Ok(all),
            other => Err(unexpected(&other)),
        }
    }

    /// Bytes in a second, as the configuration has it.
    pub fn pace(&self) -> u64 {
        self.pace
    }

    /// Says how far it is.
    ///
    /// # Errors
    /// It is to end; those of the connection.
    pub fn tell(&mut self, work: BackupWork) -> Outcome<()> {
        if errand::is_told(&work)? {
            return Ok(());
        }
        let told = self.ask(BackupAsk::AtWork(work))?;
        self.whole(told).map(drop)
    }

    /// Waits for the answer to a request.
    ///
    /// # Errors
    /// A refusal; those of the connection.
    pub fn answer(&mut self, wanted: u64) -> Outcome<BackupPart> {
        match self.whole(wanted)? {
            Reply::Backup(part) => Ok(part),
            other => Err(unexpected(&other)),
        }
    }

    fn whole(&mut self, wanted: u64) -> Outcome<Reply> {
        loop {
            if let Some(answer) = self.answers.remove(&wanted) {
                return answer.map_err(Stop::Failed);
            }
            match self.came.recv() {
                // A sign of life is nobody's.
                Ok(Ok((id, Ok(Reply::Done(_))))) if id != wanted => {}
                Ok(Ok((id, answer))) => drop(self.answers.insert(id, answer)),
                Ok(Err(e)) => return Err(Stop::Failed(e.failure())),
                Err(_) => return Err(Stop::new(Code::Unavailable, "the connection to the daemon has ended")),
            }
        }
    }
}

/// Takes answers until the connection ends, or nobody wants them any more.
fn take(mut answers: Answers, to: &Sender<Came>) {
    loop {
        let came = match answers.next() {
            Ok(Some(came)) => Ok(came),
            Ok(None) => return,
            Err(e) => Err(e),
        };
        let is_last = came.is_err();
        if to.send(came).is_err() || is_last {
            return;
        }
    }
}

/// Puts the INBOX of each user before his other mailboxes: a user who is restored begins with it.
fn inboxes_first(mailboxes: &mut [BackupMailbox]) {
    let owner = |mailbox: &BackupMailbox| {
        mailbox.name.strip_prefix("user/").and_then(|n| n.split('/').next()).map(str::to_owned)
    };
    for of_one in mailboxes.chunk_by_mut(|a, b| owner(a) == owner(b)) {
        let is_inbox =
            |mailbox: &BackupMailbox| mailbox.name.ends_with("/INBOX") && mailbox.name.matches('/').count() == 2;
        if let Some(at) = of_one.iter().position(is_inbox) {
            let about = of_one[0].owner.take();
            of_one[..=at].rotate_right(1);
            of_one[0].owner = about;
        }
    }
}

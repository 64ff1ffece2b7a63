//! Group batching for engines that have none of their own.
//!
//! # Operation
//! A job is queued; whoever commits takes everything that is queued, does it in one transaction with one sync, and answers
//! all of it. There is no timer: a group is what came in while the one before it was being synced. A caller that finds
//! nothing queued and nobody committing commits its own job at once, in its own thread; when more came in meanwhile, a
//! committer thread goes on. This is the discipline of storedd's own committer, so a peer is not slowed by a worse one.

use crate::clients::Done;
use crate::engines::Failure;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What one engine does with a group.
pub trait Backend: Send + 'static {
    /// One job as the committer gets it, prepared in the client's thread.
    type Job: Send + 'static;

    /// Does all jobs in one transaction and makes it durable. One result per job, in order: a job that was refused
    /// has changed nothing and does not keep the others from being done.
    ///
    /// # Errors
    /// If the engine failed; then nothing of the group is taken as done.
    fn commit(&mut self, jobs: &[Self::Job]) -> Result<Vec<Result<(), Failure>>, Failure>;
}

struct Queue<J> {
    waiting: Vec<(J, Done)>,
    /// Somebody commits, or the committer thread was told to.
    busy: bool,
    handed_over: bool,
    ended: bool,
}

struct Shared<B: Backend> {
    queue: Mutex<Queue<B::Job>>,
    wake: Condvar,
    backend: Mutex<B>,
}

/// An engine with group batching in front of it.
pub struct Group<B: Backend> {
    shared: Arc<Shared<B>>,
    committer: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Backend> Shared<B> {
    fn commit(&self, batch: Vec<(B::Job, Done)>) {
        let (jobs, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        match lock(&self.backend).commit(&jobs) {
            Ok(results) => answers.into_iter().zip(results).for_each(|(done, result)| done.answer(result)),
            Err(e) => answers.into_iter().for_each(|done| done.answer(Err(Failure::new(&*e.0)))),
        }
    }

    /// The committer thread: goes on where a caller left work behind.
    fn run(&self) {
        loop {
            let mut queue = lock(&self.queue);
            while !queue.handed_over && !queue.ended {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.ended {
                return;
            }
            while !queue.waiting.is_empty() {
                let batch = std::mem::take(&mut queue.waiting);
                drop(queue);
                self.commit(batch);
                queue = lock(&self.queue);
            }
            queue.handed_over = false;
            queue.busy = false;
        }
    }
}

impl<B: Backend> Group<B> {
    /// Puts group batching in front of `backend`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(backend: B) -> Result<Group<B>, Failure> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { waiting: Vec::new(), busy: false, handed_over: false, ended: false }),
            wake: Condvar::new(),
            backend: Mutex::new(backend),
        });
        let theirs = Arc::clone(&shared);
        let committer = std::thread::Builder::new().name("committer".into()).spawn(move || theirs.run())?;
        Ok(Group { shared, committer: Some(committer) })
    }

    /// Queues a job, or commits it at once when nothing else is going on. `done` is called when it is durable.
    pub fn submit(&self, job: B::Job, done: Done) {
        let mut queue = lock(&self.shared.queue);
        if queue.busy {
            queue.waiting.push((job, done));
            return;
        }
        queue.busy = true;
        drop(queue);
        self.shared.commit(vec![(job, done)]);
        let mut queue = lock(&self.shared.queue);
        if queue.waiting.is_empty() {
            queue.busy = false;
        } else {
            queue.handed_over = true;
            self.shared.wake.notify_one();
        }
    }

    /// The engine itself, between groups.
    pub fn with<T>(&self, f: impl FnOnce(&mut B) -> T) -> T {
        f(&mut lock(&self.shared.backend))
    }
}

impl<B: Backend> Drop for Group<B> {
    fn drop(&mut self) {
        lock(&self.shared.queue).ended = true;
        self.shared.wake.notify_one();
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

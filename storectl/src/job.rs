//! Long-running work: how far it is, and Ctrl-C, which leaves it to the daemon.
//!
//! # Operation
//! The first part of the answer comes at once and names the job. While it is followed the first Ctrl-C tells its number and ends
//! this program, and the job goes on; a second one is not waited for, should the first not get through.

use crate::ask;
use crate::cli::Global;
use crate::commands::Ask;
use crate::confirm;
use crate::exit::{Outcome, PARTLY, Stop};
use crate::render::notes::{self, JobProgress};
use crate::render::{self, Answer, Style};
use crate::socket::Environment;
use proto::{Job, Reply, Request};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Begins a job, or follows one, and prints what it ends with; its progress goes to standard error, and of `jobs follow --json`
/// to standard output, an object a line.
///
/// # Errors
/// No consent, no connection; what the job ended with.
pub fn run(global: &Global, environment: &Environment, style: Style, out: &mut dyn Write, ask: &Ask) -> Outcome<u8> {
    if let Some(question) = &ask.question {
        confirm::consent(question)?;
    }
    let mut client = ask::connect(global, environment, true)?;
    let lines = style.json && matches!(ask.request, Request::JobFollow { .. });
    let interrupted = Interrupted::watch()?;
    let (mut answer, mut progress, mut stopped) = (Answer::new(ask, style), None, None);
    let asked = client.call_stream(&ask.request, |part| {
        let told = match part {
            Reply::Job(job) => {
                interrupted.detaches(&job);
                progress.get_or_insert_with(JobProgress::new).tell(&job);
                if lines { line(out, &job) } else { Ok(()) }
            }
            reply => {
                progress = None;
                answer.part(out, reply)
            }
        };
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => {
                stopped = Some(stop);
                ControlFlow::Break(())
            }
        }
    });
    drop(progress);
    match (stopped, asked) {
        (Some(stop), _) => Err(stop),
        (None, Ok(())) => answer.end(out),
        (None, Err(e)) => Err(Stop::Failed(e.failure())),
    }
}

fn line(out: &mut dyn Write, job: &Job) -> Outcome<()> {
    render::event(out, job).map_err(|e| Stop::output(&e))
}

/// What Ctrl-C does while a job is followed.
struct Interrupted {
    /// The job; 0 as long as it is not known: then there is nothing to leave to anybody.
    job: Arc<AtomicU64>,
}

impl Interrupted {
    fn watch() -> Outcome<Interrupted> {
        let failed = |e: std::io::Error| Stop::new(proto::Code::Io, format!("signals cannot be caught: {e}"));
        let mut signals = Signals::new([SIGINT]).map_err(failed)?;
        let job = Arc::new(AtomicU64::new(0));
        let known = job.clone();
        let caught = move || {
            if signals.forever().next().is_none() {
                return;
            }
            // From now on the next one ends this program at once.
            let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::new(true.into()));
            let id = known.load(Ordering::Acquire);
            if id > 0 {
                notes::detached(id);
            }
            std::process::exit(if id > 0 { i32::from(PARTLY) } else { 128 + SIGINT });
        };
        std::thread::Builder::new().name("interrupts".to_owned()).spawn(caught).map_err(failed)?;
        Ok(Interrupted { job })
    }

    fn detaches(&self, job: &Job) {
        self.job.store(job.id, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::DONE;
    use crate::fake::{Act, Fake};
    use proto::{Code, Failure, SnapshotsRemoved, Work};

    fn job(done: u64) -> Reply {
        let (verb, state) = ("snapshot prune".to_owned(), "running".to_owned());
        Reply::Job(Box::new(Job { id: 7, verb, state, done, ..Job::default() }))
    }

    fn followed(request: Request, act: impl Fn() -> Act + Send + 'static) -> (Outcome<u8>, String) {
        let fake = Fake::start(move |_| act());
        let global = Global { data_dir: Some(fake.dir()), ..Global::default() };
        let ask = Ask { request, form: crate::commands::Form::Plain, question: None, long: true };
        let mut out = Vec::new();
        let end = run(&global, &Environment::default(), Style { json: true, tty: false }, &mut out, &ask);
        (end, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_job_that_is_begun_prints_its_end_and_one_that_is_followed_its_way() {
        let act = || Act::Parts(vec![job(1), job(2), Reply::SnapshotsRemoved(SnapshotsRemoved { removed: vec![] })]);
        let begun = Request::JobStart { work: Work::SnapshotPrune, detach: false };
        let (end, out) = followed(begun, act);
        assert_eq!((end.unwrap(), out.as_str()), (DONE, "{\"removed\":[]}\n"));
        let (end, out) = followed(Request::JobFollow { id: 7 }, act);
        assert_eq!(end.unwrap(), DONE);
        let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[1]["done"], &lines[2]["removed"]), (3, &2.into(), &serde_json::json!([])));
    }

    #[test]
    fn how_a_job_failed_is_how_this_ends() {
        let act = || Act::Breaks(vec![job(1)], Failure::new(Code::Busy, "job 7 (snapshot prune) was cancelled"));
        let (end, out) = followed(Request::JobFollow { id: 7 }, act);
        assert!(matches!(end, Err(Stop::Failed(f)) if f.code == Code::Busy));
        assert_eq!(out.lines().count(), 1);
    }
}

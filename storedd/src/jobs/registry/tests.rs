use super::*;
use crate::disk::RealDisk;
use crate::env::RealEnv;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq)]
struct Failed(String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Cut> for Failed {
    fn from(cut: Cut) -> Failed {
        Failed(cut.to_string())
    }
}

type TestJobs = Jobs<u64, Failed>;

fn jobs() -> TestJobs {
    Jobs::new(Arc::new(RealEnv::default()))
}

fn me() -> Asker {
    Asker { pid: 7, uid: 8, client: "test".to_owned() }
}

fn kind(lane: Option<&'static str>) -> Kind {
    Kind::new("test work", lane)
}

/// Works until it is told to end, or told how to end.
fn held(jobs: &TestJobs, lane: Option<&'static str>) -> (u64, Sender<Result<u64, Failed>>) {
    let (end, ends) = channel();
    let id = jobs.start(kind(lane), me(), move |ctx| until(ctx, &ends)).unwrap();
    (id, end)
}

fn until(ctx: &Context, ends: &Receiver<Result<u64, Failed>>) -> Result<u64, Failed> {
    loop {
        if ctx.cancelled() {
            return Err(Failed("ended early".to_owned()));
        }
        if let Ok(end) = ends.recv_timeout(Duration::from_millis(5)) {
            return end;
        }
    }
}

fn ends(jobs: &TestJobs, id: u64) -> Result<u64, Failed> {
    let (tell, told) = channel();
    let watcher =
        move |_: &Job, end: Option<&Result<u64, Failed>>| end.cloned().is_none_or(|end| tell.send(end).is_err());
    jobs.watch(id, Box::new(watcher)).unwrap();
    told.recv_timeout(LONG).unwrap()
}

fn state(jobs: &TestJobs, id: u64) -> State {
    jobs.get(id).unwrap().state
}

#[test]
fn a_job_ends_once_and_what_it_ended_with_is_kept() {
    let jobs = jobs();
    let (id, end) = held(&jobs, None);
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let watcher = move |_: &Job, end: Option<&Result<u64, Failed>>| {
        count.fetch_add(usize::from(end.is_some()), Ordering::SeqCst);
        true
    };
    jobs.watch(id, Box::new(watcher)).unwrap();
    assert_eq!(state(&jobs, id), State::Running);
    end.send(Ok(5)).unwrap();
    assert_eq!(ends(&jobs, id), Ok(5));
    assert_eq!(jobs.outcome(id), Ok(Some(Ok(5))));
    assert_eq!(ends(&jobs, id), Ok(5), "also for who comes later");
    assert_eq!((state(&jobs, id), told.load(Ordering::SeqCst)), (State::Done, 1));
    assert_eq!(jobs.cancel(id).unwrap().state, State::Done, "what is over stays as it is");
    assert_eq!(jobs.get(99), Err(Unknown(99)));
    let (id, end) = held(&jobs, None);
    end.send(Err(Failed("no disk".to_owned()))).unwrap();
    assert_eq!(ends(&jobs, id), Err(Failed("no disk".to_owned())));
    assert_eq!(state(&jobs, id), State::Failed);
}

#[test]
fn progress_is_told_and_the_newest_is_shown() {
    let jobs = jobs();
    let (go, goes) = channel::<()>();
    let work = move |ctx: &Context| {
        for done in 0..100 {
            ctx.progress(done, Some(100), "rows", "a table");
        }
        goes.recv().unwrap();
        Ok(0)
    };
    let id = jobs.start(kind(None), me(), work).unwrap();
    let (tell, told) = channel();
    jobs.watch(id, Box::new(move |job, _| tell.send(job.progress.done).is_ok())).unwrap();
    while jobs.get(id).unwrap().progress.done < 99 {
        std::thread::yield_now();
    }
    let shown = jobs.get(id).unwrap().progress;
    assert_eq!((shown.total, shown.unit, shown.item.as_str()), (Some(100), "rows", "a table"));
    go.send(()).unwrap();
    ends(&jobs, id).unwrap();
    let told: Vec<u64> = told.try_iter().collect();
    assert!(told.len() < 50 && told.last() == Some(&99), "a few, and the last: {told:?}");
}

#[test]
fn cancelled_is_at_once_what_waits_and_soon_what_works() {
    let jobs = jobs();
    let (one, _end) = held(&jobs, Some("lane"));
    let (two, _other) = held(&jobs, Some("lane"));
    assert_eq!((state(&jobs, one), state(&jobs, two)), (State::Running, State::Waiting));
    assert_eq!(jobs.cancel(two).unwrap().state, State::Cancelled);
    assert!([State::Ending, State::Cancelled].contains(&jobs.cancel(one).unwrap().state));
    let end = ends(&jobs, one).unwrap_err();
    assert_eq!(end.0, format!("job {one} (test work) was cancelled"), "not what the work says of it");
    assert_eq!(state(&jobs, one), State::Cancelled);
    // What was done all the same is done.
    let (go, goes) = channel::<()>();
    let deaf =
        jobs.start(kind(None), me(), move |_| goes.recv().map(|()| 3).map_err(|_| Failed(String::new()))).unwrap();
    while state(&jobs, deaf) != State::Running {
        std::thread::yield_now();
    }
    assert_eq!(jobs.cancel(deaf).unwrap().state, State::Ending);
    go.send(()).unwrap();
    assert_eq!(ends(&jobs, deaf), Ok(3));
}

#[test]
fn so_many_run_so_many_wait_and_one_in_each_lane() {
    let jobs = jobs();
    jobs.set_limits(Limits { running: 2, waiting: 2, ..Limits::default() });
    let (a, end_a) = held(&jobs, Some("lane"));
    let (b, _b) = held(&jobs, Some("lane"));
    let (c, _c) = held(&jobs, None);
    assert_eq!([a, b, c].map(|id| state(&jobs, id)), [State::Running, State::Waiting, State::Running]);
    let (d, _d) = held(&jobs, None);
    assert_eq!(jobs.start(kind(None), me(), |_| Ok(0)), Err(Refused::Full { waiting: 2 }));
    end_a.send(Ok(0)).unwrap();
    ends(&jobs, a).unwrap();
    // The next begins right behind the end that was told.
    while state(&jobs, b) != State::Running {
        std::thread::yield_now();
    }
    assert_eq!([c, d].map(|id| state(&jobs, id)), [State::Running, State::Waiting]);
    jobs.set_limits(Limits { running: 3, ..Limits::default() });
    assert_eq!(state(&jobs, d), State::Running);
    // Work on the thread that asks waits its turn like any other.
    let asks = jobs.clone();
    let here = std::thread::spawn(move || asks.run(kind(Some("lane")), me(), |ctx| Ok(ctx.id())));
    jobs.cancel(b).unwrap();
    assert_eq!(here.join().unwrap(), Ok(5));
    jobs.stop();
    assert!(jobs.join(LONG));
    assert_eq!(jobs.start(kind(None), me(), |_| Ok(0)), Err(Refused::Stopping));
    assert_eq!(jobs.unfinished(), 0);
}

#[test]
fn a_panic_is_an_end() {
    let jobs = jobs();
    let id = jobs.start(kind(None), me(), |_| panic!("by intent")).unwrap();
    assert_eq!(ends(&jobs, id), Err(Failed(format!("job {id} (test work) ended in a panic: by intent"))));
    let told = jobs.run(kind(None), me(), |_| panic!("again"));
    assert!(told.unwrap_err().0.contains("again"));
}

#[test]
fn during_a_pause_nothing_works_and_nothing_begins() {
    let jobs = jobs();
    let (works, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let work = |works: &Arc<AtomicUsize>, stop: &Arc<AtomicBool>| {
        let (works, stop) = (works.clone(), stop.clone());
        move |ctx: &Context| {
            while !ctx.cancelled() && !stop.load(Ordering::SeqCst) {
                works.fetch_add(1, Ordering::SeqCst);
            }
            Ok(0)
        }
    };
    let id = jobs.start(kind(None), me(), work(&works, &stop)).unwrap();
    while works.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let pause = jobs.pause(LONG).unwrap();
    let before = works.load(Ordering::SeqCst);
    let late = jobs.start(kind(None), me(), work(&works, &stop)).unwrap();
    // Not even to tidy up.
    jobs.cancel(id).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(works.load(Ordering::SeqCst), before);
    assert!(jobs.get(id).unwrap().paused);
    assert_eq!((state(&jobs, id), state(&jobs, late)), (State::Ending, State::Waiting));
    let second = jobs.pause(LONG).unwrap();
    drop(pause);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(works.load(Ordering::SeqCst), before, "somebody else still wants it");
    drop(second);
    ends(&jobs, id).unwrap();
    stop.store(true, Ordering::SeqCst);
    ends(&jobs, late).unwrap();
    // One that does not come to a place where it could wait is named, and nothing is held up for it.
    let (go, goes) = channel::<()>();
    let deaf =
        jobs.start(kind(None), me(), move |_| goes.recv().map(|()| 3).map_err(|_| Failed(String::new()))).unwrap();
    assert_eq!(jobs.pause(Duration::from_millis(50)).unwrap_err().id, deaf);
    let (other, end) = held(&jobs, None);
    end.send(Ok(1)).unwrap();
    assert_eq!(ends(&jobs, other), Ok(1));
    go.send(()).unwrap();
    assert_eq!(ends(&jobs, deaf), Ok(3));
}

#[test]
fn what_a_crash_cut_off_is_known_to_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path()).unwrap());
    let jobs = jobs();
    jobs.remember_in(disk.clone());
    let (done, end) = held(&jobs, None);
    end.send(Ok(1)).unwrap();
    ends(&jobs, done).unwrap();
    // It is noted before its work begins.
    let ((begun, begins), (_end, told)) = (channel(), channel());
    let work = move |ctx: &Context| {
        begun.send(()).unwrap();
        until(ctx, &told)
    };
    let cut = jobs.start(kind(Some("lane")), me(), work).unwrap();
    begins.recv().unwrap();
    let (waits, _other) = held(&jobs, Some("lane"));
    // Nothing of this run is ended in good order.
    let next = self::jobs();
    next.remember_in(disk.clone());
    let known = next.list();
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!((known[0].id, known[0].state, known[0].asker.uid), (cut, State::Gone, 8));
    assert!(ends(&next, cut).unwrap_err().0.contains("cut off"));
    assert!(next.start(kind(None), me(), |_| Ok(0)).unwrap() >= waits, "a number is given once");
    // What ends in good order leaves nothing.
    next.stop();
    assert!(next.join(LONG));
    let third = self::jobs();
    third.remember_in(disk);
    assert_eq!(third.list(), []);
    jobs.stop();
    assert!(jobs.join(LONG));
}

#[test]
fn those_that_are_over_are_forgotten_in_time() {
    let jobs = jobs();
    jobs.set_limits(Limits { kept: 3, ..Limits::default() });
    for n in 0..10 {
        assert_eq!(jobs.run(kind(None), me(), |_| Ok(n)), Ok(n));
    }
    assert_eq!(jobs.list().iter().map(|job| job.id).collect::<Vec<_>>(), [8, 9, 10]);
    jobs.set_limits(Limits { kept_for: Duration::ZERO, ..Limits::default() });
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(jobs.list(), []);
}

/// What a client does itself is seen, ends with its connection, and takes nobody's place.
#[test]
fn what_a_client_does_is_a_job_as_long_as_it_is_there() {
    let jobs = jobs();
    jobs.set_limits(Limits { running: 1, ..Limits::default() });
    let id = jobs.attend("import", "messages", me(), 1).unwrap();
    let (other, end) = held(&jobs, None);
    assert_eq!(jobs.get(other).unwrap().state, State::Running, "it takes no place");
    end.send(Ok(1)).unwrap();
    assert_eq!(ends(&jobs, other), Ok(1));
    let job = jobs.advance(1, id, 5, Some(9), "a").unwrap();
    assert_eq!((job.state, job.progress.done, job.progress.unit), (State::Running, 5, "messages"));
    assert!(jobs.advance(2, id, 6, None, "").is_err() && jobs.attended(2, id, Ok(2)).is_err(), "another's");
    drop(jobs.pause(LONG).unwrap());
    assert_eq!(jobs.cancel(id).unwrap().state, State::Ending);
    assert_eq!(jobs.advance(1, id, 6, None, "").unwrap().state, State::Ending);
    jobs.end_silent();
    assert_eq!(jobs.get(id).unwrap().state, State::Ending, "it was heard just now");
    assert_eq!(jobs.attended(1, id, Err(Failed("ended".to_owned()))).unwrap().state, State::Cancelled);
    // Whoever goes away, ends well, or does not end before the daemon.
    let gone = jobs.attend("import", "messages", me(), 3).unwrap();
    jobs.left(3);
    assert_eq!(jobs.get(gone).unwrap().state, State::Failed);
    assert!(ends(&jobs, gone).unwrap_err().0.contains("its client went away"));
    let good = jobs.attend("import", "messages", me(), 4).unwrap();
    assert_eq!(jobs.attended(4, good, Ok(7)).unwrap().state, State::Done);
    let last = jobs.attend("import", "messages", me(), 5).unwrap();
    jobs.stop();
    assert!(jobs.join(LONG));
    assert_eq!(jobs.get(last).unwrap().state, State::Cancelled);
    assert!(jobs.attend("import", "messages", me(), 6).is_err());
}

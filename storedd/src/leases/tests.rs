use super::*;
use crate::lsn::Micros;
use std::sync::atomic::AtomicU64;

#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl Env for Clock {
    fn now(&self) -> Micros {
        Micros(0)
    }
    fn uptime(&self) -> Duration {
        Duration::from_millis(self.0.load(SeqCst))
    }
    fn random(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// What the callbacks told.
type Told<T> = Arc<Mutex<Option<Result<T, Blocked>>>>;

struct House {
    clock: Arc<Clock>,
    leases: Arc<Leases>,
}

const WAIT: Duration = Duration::from_secs(30);

fn who(connection: u64) -> Who {
    Who { connection, pid: 100 + connection as i32, uid: 1000, client: "test".to_owned(), verb: "test" }
}

impl House {
    fn new() -> House {
        let clock = Arc::new(Clock::default());
        House { leases: Arc::new(Leases::new(clock.clone())), clock }
    }

    fn pass_time(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_millis() as u64, SeqCst);
        self.leases.sweep();
    }

    fn wish(&self, connection: u64, wish: Wish) -> Told<Held> {
        let told: Told<Held> = Told::default();
        let tell = told.clone();
        let done = move |answer| *tell.lock().unwrap() = Some(answer);
        self.leases.take(&who(connection), wish, Box::new(|| ()), Box::new(done));
        told
    }

    fn take(&self, connection: u64, resource: &str) -> Told<Held> {
        let scope = Scope::parse(resource).unwrap();
        let length = Some(Duration::from_secs(300));
        self.wish(connection, Wish { scope, length, wait: WAIT, reason: "why".to_owned(), freeze: false })
    }

    fn change(&self, connection: u64, mailbox: &str) -> Told<Pass> {
        let told: Told<Pass> = Told::default();
        let tell = told.clone();
        let later = || -> OnPass { Box::new(move |answer| *tell.lock().unwrap() = Some(answer)) };
        let scopes = || vec![Scope::parse(mailbox).unwrap()];
        if let Some(pass) = self.leases.pass(&who(connection), scopes, WAIT, later) {
            *told.lock().unwrap() = Some(Ok(pass));
        }
        told
    }
}

fn id(told: &Told<Held>) -> u64 {
    told.lock().unwrap().as_ref().unwrap().as_ref().unwrap().id
}

fn waits<T>(told: &Told<T>) -> bool {
    told.lock().unwrap().is_none()
}

fn goes<T>(told: &Told<T>) -> bool {
    matches!(&*told.lock().unwrap(), Some(Ok(_)))
}

fn why<T>(told: &Told<T>) -> Option<Blocked> {
    told.lock().unwrap().as_ref().and_then(|answer| answer.as_ref().err().cloned())
}

#[test]
fn changes_of_others_wait_and_those_of_the_holder_and_elsewhere_do_not() {
    let house = House::new();
    let lease = house.take(1, "user/joe/Work");
    assert!(goes(&lease));
    let (own, other, elsewhere) =
        (house.change(1, "user/joe/Work"), house.change(2, "user/joe/Work"), house.change(2, "user/joe/Play"));
    assert!(goes(&own) && waits(&other) && goes(&elsewhere));
    house.leases.release(1, id(&lease)).unwrap();
    assert!(goes(&other));
}

#[test]
fn a_lease_waits_for_the_changes_that_are_under_way() {
    let house = House::new();
    let (unseen, elsewhere) = (house.change(2, "user/joe/Work"), house.change(2, "user/joe/Play"));
    let lease = house.take(1, "user/joe/Work");
    assert!(waits(&lease));
    drop(unseen);
    assert!(waits(&lease), "what passed without a look may be anything");
    let noted = house.change(3, "user/joe/Play");
    drop(elsewhere);
    assert!(goes(&lease) && goes(&noted));
    // And one that was noted.
    let second = house.take(1, "user/joe/Play");
    assert!(waits(&second));
    drop(noted);
    assert!(goes(&second));
}

#[test]
fn who_waits_goes_in_the_order_of_coming() {
    let house = House::new();
    let first = house.take(1, "user/joe/Work");
    let (second, change, third) = (house.take(2, "joe"), house.change(3, "user/joe/Work"), house.take(4, "/"));
    assert!(waits(&second) && waits(&change) && waits(&third));
    assert!(goes(&house.change(1, "user/joe/Work")), "a holder goes on, whoever waits for it");
    let late = house.change(5, "user/ann/Work");
    assert!(waits(&late), "somebody wants everything since before");
    house.leases.release(1, id(&first)).unwrap();
    assert!(goes(&second) && waits(&change) && waits(&third) && waits(&late));
    house.leases.gone(2);
    assert!(goes(&change) && waits(&third), "the change is under way");
    drop(change);
    assert!(goes(&third) && waits(&late));
    house.leases.gone(4);
    assert!(goes(&late));
}

// row 104
#[test]
fn who_would_close_a_circle_is_the_one_victim() {
    let house = House::new();
    let leases: Vec<_> = (0..5).map(|n| house.take(n, &format!("user/joe/{n}"))).collect();
    let mut wishes: Vec<_> = (0..4).map(|n| house.take(n, &format!("user/joe/{}", n + 1))).collect();
    assert!(wishes.iter().all(waits));
    let victim = house.take(4, "user/joe/0");
    let Some(Blocked::Deadlock { circle }) = why(&victim) else { panic!("{:?}", why(&victim)) };
    for pid in 100..105 {
        assert!(circle.contains(&format!("process {pid}")), "{circle}");
    }
    assert!(wishes.iter().all(waits), "exactly one");
    assert_eq!(house.leases.picture().tally.deadlocks, 1);
    // The victim gives back what it holds; the others go on, one behind the other.
    house.leases.release(4, id(&leases[4])).unwrap();
    while let Some(wish) = wishes.pop() {
        assert!(goes(&wish));
        house.leases.gone(wishes.len() as u64);
    }
    assert!(house.leases.picture().held.is_empty());
}

#[test]
fn a_change_can_close_a_circle_too() {
    let house = House::new();
    let (_a, _b) = (house.take(1, "user/joe/A"), house.take(2, "user/joe/B"));
    assert!(waits(&house.change(1, "user/joe/B")));
    assert!(matches!(why(&house.change(2, "user/joe/A")), Some(Blocked::Deadlock { .. })));
}

#[test]
fn who_joined_acts_for_the_holder() {
    let house = House::new();
    let (a, b) = (house.take(1, "user/joe/A"), house.take(2, "user/joe/B"));
    house.leases.join(&who(11), id(&a), Box::new(|| ())).unwrap();
    house.leases.join(&who(12), id(&b), Box::new(|| ())).unwrap();
    assert!(goes(&house.change(11, "user/joe/A")));
    let (first, second) = (house.take(11, "user/joe/B"), house.take(12, "user/joe/A"));
    assert!(waits(&first) && matches!(why(&second), Some(Blocked::Deadlock { .. })), "the circle goes through both");
    let stranger = Who { uid: 1001, ..who(13) };
    assert!(matches!(house.leases.join(&stranger, id(&a), Box::new(|| ())), Err(Blocked::NotYours { .. })));
    assert_eq!(house.leases.join(&who(2), id(&a), Box::new(|| ())), Err(Blocked::Engaged));
    assert_eq!(house.leases.join(&who(14), 999, Box::new(|| ())), Err(Blocked::Unknown(999)));
}

// row 102, row 110
#[test]
fn deadlines_limits_and_ends() {
    let house = House::new();
    let lease = house.take(1, "user/joe/A");
    let (change, wish) = (house.change(2, "user/joe/A"), house.take(3, "user/joe/A"));
    house.pass_time(Duration::from_secs(29));
    assert!(waits(&change) && waits(&wish));
    house.pass_time(Duration::from_secs(1));
    let Some(Blocked::TooLong { what, by, waited }) = why(&change) else { panic!() };
    assert_eq!((what.as_str(), waited), ("user/joe/A", Duration::from_secs(30)));
    assert!(by.contains("held for 30 s by process 101 of user 1000"), "{by}");
    assert!(why(&wish).is_some());
    house.pass_time(Duration::from_secs(270));
    assert_eq!(house.leases.release(1, id(&lease)), Err(Blocked::Unknown(id(&lease))), "it has expired");
    let tally = house.leases.picture().tally;
    assert_eq!(tally, Tally { deadlocks: 0, too_long: 2, expired: 1 });
    // A connection that ends takes all with it.
    let (_held, behind) = (house.take(4, "/"), house.take(5, "joe"));
    let gone = house.change(6, "user/joe/A");
    house.leases.gone(6);
    assert_eq!(why(&gone), Some(Blocked::Gone));
    house.leases.gone(4);
    assert!(goes(&behind));
    house.leases.gone(5);
    assert_eq!((house.leases.picture().held.len(), house.leases.busy.load(SeqCst)), (0, 0));
}

#[test]
fn a_broken_lease_is_free_when_its_holder_cannot_commit_any_more() {
    let house = House::new();
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = cuts.clone();
    let wish = Wish { scope: Scope::Store, length: None, wait: WAIT, reason: String::new(), freeze: false };
    let told: Told<Held> = Told::default();
    let tell = told.clone();
    let cut = move || {
        counted.fetch_add(1, SeqCst);
    };
    let done = move |answer| *tell.lock().unwrap() = Some(answer);
    house.leases.take(&who(1), wish, Box::new(cut), Box::new(done));
    let under_way = house.change(1, "user/joe/A");
    let next = house.take(2, "user/joe/A");
    house.leases.cut(id(&told)).unwrap();
    assert_eq!(cuts.load(SeqCst), 1);
    assert!(house.leases.is_held(id(&told)), "until the connection is gone");
    house.leases.gone(1);
    assert!(!house.leases.is_held(id(&told)) && waits(&next), "its change is on its way to the log");
    drop(under_way);
    assert!(goes(&next));
}

#[test]
fn a_freeze_keeps_its_own_away_and_a_stop_refuses_all() {
    let house = House::new();
    let wish = Wish { scope: Scope::Store, length: None, wait: WAIT, reason: String::new(), freeze: true };
    assert!(goes(&house.wish(1, wish)));
    assert!(matches!(why(&house.change(1, "user/joe/A")), Some(Blocked::Deadlock { .. })), "it would wait for itself");
    let change = house.change(2, "user/joe/A");
    house.leases.close();
    assert_eq!(why(&change), Some(Blocked::Closing));
    assert_eq!(why(&house.take(3, "joe")), Some(Blocked::Closing));
}

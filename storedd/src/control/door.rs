//! Who may come in: accepts connections, looks at who they are, hears their greeting, and ends them all on request.

use super::access::{self, Groups, Role};
use super::audit;
use super::limits::{Counters, Limits, Share, count};
use super::listen::Listener;
use super::outbox::{Ending, Outbox};
use super::service::{Peer, Service};
use super::session::Session;
use super::work;
use proto::frame::{CONNECTION_ID, HEADER_BYTES, Inbox, Kind, VERSION};
use proto::{Code, Failure, Hello, Reply, Request, codec};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Longest greeting in bytes: a name of 256 bytes and what belongs to it.
const HELLO_BYTES: u32 = 512;
/// Longest name of a client.
const CLIENT_BYTES: usize = 256;
/// Pause after a failure to accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Callers whose groups are looked up at a time; further ones are refused as busy. They take neither the descriptors nor the
/// threads that others need.
const LOOKUPS: usize = 64;
/// Longest wait for the system's user database.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);

/// What every connection knows of the house.
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    /// Places for slow work.
    pub(super) scans: Arc<Semaphore>,
    /// Turns for looking up groups.
    lookups: Arc<Semaphore>,
    /// The user the daemon runs as; he and root are served.
    owner: u32,
    rooms: Mutex<Rooms>,
}

/// Every connection there is.
#[derive(Default)]
struct Rooms {
    next: u64,
    /// Not yet greeted, oldest first.
    lobby: BTreeMap<u64, (Instant, Arc<Notify>)>,
    greeted: BTreeMap<u64, Arc<Outbox>>,
    closing: bool,
}

/// The control door. Dropping it closes it at once; [`Door::close`] lets it finish.
pub struct Door {
    shared: Arc<Shared>,
    accept: tokio::task::JoinHandle<()>,
    /// Gives an end when the last connection is gone.
    alive: mpsc::Receiver<()>,
}

impl Door {
    /// Opens the door: from now on `service` is asked. Must be called inside a tokio runtime with time and I/O enabled.
    ///
    /// # Errors
    /// If the listener cannot be given to the runtime.
    pub fn open(
        listener: Listener,
        service: Arc<dyn Service>,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> io::Result<Door> {
        let limits = limits.sane();
        let scans = Arc::new(Semaphore::new(limits.scans));
        let owner = rustix::process::geteuid().as_raw();
        let rooms = Mutex::default();
        let lookups = Arc::new(Semaphore::new(LOOKUPS));
        let shared = Arc::new(Shared { service, limits, counters, scans, lookups, owner, rooms });
        let (life, alive) = mpsc::channel(1);
        let accept = tokio::spawn(accept(listener.into_tokio()?, shared.clone(), life));
        Ok(Door { shared, accept, alive })
    }

    /// Takes no more connections, lets what is at work be answered, closes every connection, and after `grace` cuts those
    /// that are left.
    pub async fn close(mut self, grace: Duration) {
        self.accept.abort();
        self.shared.end_all(Ending::Finish);
        if timeout(grace, self.alive.recv()).await.is_err() {
            self.shared.end_all(Ending::Now);
            // A session that is told to end does not wait for anything.
            let _ = timeout(grace.max(Duration::from_secs(1)), self.alive.recv()).await;
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accept.abort();
        self.shared.end_all(Ending::Now);
    }
}

/// A connection's entry in the lobby, gone when dropped.
struct Place {
    shared: Arc<Shared>,
    id: u64,
    evicted: Arc<Notify>,
    _count: Option<Share>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.rooms().lobby.remove(&self.id);
    }
}

/// A greeted connection's entry, gone when dropped.
struct Seat {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.rooms().greeted.remove(&self.id);
    }
}

impl Shared {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection that has not greeted. If all are taken the oldest is sent away, unless it is too young: then
    /// the time when it no longer is.
    fn enter(self: &Arc<Shared>, now: Instant) -> Result<Place, Instant> {
        let mut rooms = self.rooms();
        if rooms.lobby.len() >= self.limits.ungreeted
            && let Some(oldest) = rooms.lobby.first_entry()
        {
            let grown = oldest.get().0 + self.limits.ungreeted_age;
            if now < grown {
                return Err(grown);
            }
            oldest.remove().1.notify_one();
        }
        let (id, evicted) = (rooms.next, Arc::new(Notify::new()));
        rooms.next += 1;
        rooms.lobby.insert(id, (now, evicted.clone()));
        if rooms.closing {
            evicted.notify_one();
        }
        drop(rooms);
        let _count = Share::take(&self.counters, |c| &c.ungreeted, 1, usize::MAX);
        Ok(Place { shared: self.clone(), id, evicted, _count })
    }

    fn end_all(&self, ending: Ending) {
        let mut rooms = self.rooms();
        rooms.closing = true;
        rooms.lobby.values().for_each(|(_, evicted)| evicted.notify_one());
        rooms.greeted.values().for_each(|outbox| outbox.end(ending));
    }
}

async fn accept(
    listener: (tokio::net::UnixListener, Option<super::listen::Unlink>),
    door: Arc<Shared>,
    life: mpsc::Sender<()>,
) {
    let (listener, _unlink) = listener;
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                welcome(stream, &door, &life).await;
            }
            Err(e) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(event = "control.accept", error = %e, "cannot accept connections; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Finds out who is there. The system's user database, where it must be asked, may be slow: that holds up only callers who
/// need it.
async fn welcome(stream: UnixStream, door: &Arc<Shared>, life: &mpsc::Sender<()>) {
    // Without credentials there is nobody to serve.
    let Ok(credentials) = stream.peer_cred() else { return };
    let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid().unwrap_or(0));
    let peer = Peer { connection: 0, late: false, uid, gid, pid, client: String::new(), role: Role::Reader };
    let (owner, groups) = (door.owner, door.service.groups());
    if uid == 0 || uid == owner || groups == Groups::default() {
        return admit(stream, peer, access::role(uid, gid, owner, &groups), door, life).await;
    }
    let Ok(turn) = door.lookups.clone().try_acquire_owned() else {
        count(&door.counters.refused);
        let text = format!("{LOOKUPS} callers wait already for the system's user database");
        return dismiss(&stream, &Failure::new(Code::Busy, text).with_hint("try again"));
    };
    let (door, life) = (door.clone(), life.clone());
    tokio::spawn(async move {
        let look = tokio::task::spawn_blocking(move || {
            // The turn is held until it is over, also when nobody waits for it any more.
            (access::role(uid, gid, owner, &groups), turn)
        });
        let Ok(looked) = timeout(LOOKUP_PATIENCE, look).await else {
            count(&door.counters.refused);
            let text = "the system's user database does not answer";
            return dismiss(&stream, &Failure::new(Code::Busy, text).with_hint("run this as root: sudo storectl"));
        };
        // And until there is a place.
        if let Ok((role, _turn)) = looked {
            admit(stream, peer, role, &door, &life).await;
        }
    });
}

/// Gives a new connection its task, or sends it away.
async fn admit(stream: UnixStream, mut peer: Peer, role: Option<Role>, door: &Arc<Shared>, life: &mpsc::Sender<()>) {
    let Some(role) = role else {
        count(&door.counters.not_permitted);
        audit::refused(&peer);
        let text = format!("user {} is not permitted, expected root or the daemon's user {}", peer.uid, door.owner);
        let hint = "run this as root: sudo storectl; or see [access] in the configuration";
        return dismiss(&stream, &Failure::new(Code::NotPermitted, text).with_hint(hint));
    };
    peer.role = role;
    let place = loop {
        match door.enter(Instant::now()) {
            Ok(place) => break place,
            Err(grown) => sleep_until(grown).await,
        }
    };
    let life = life.clone();
    tokio::spawn(async move {
        serve(stream, peer, place).await;
        drop(life);
    });
}

/// A connection from its first byte to its end.
async fn serve(mut stream: UnixStream, mut peer: Peer, place: Place) {
    let (door, id) = (place.shared.clone(), place.id);
    let mut inbox = Inbox::default();
    let hello = match greeting(&mut stream, &mut inbox, &place).await {
        Ok(hello) => hello,
        Err(failure) => {
            count(&door.counters.refused);
            return failure.map_or((), |failure| dismiss(&stream, &failure));
        }
    };
    let Some(open) = Share::take(&door.counters, |c| &c.open, 1, door.limits.connections) else {
        count(&door.counters.refused);
        let text = format!("{} connections are open, the most allowed", door.limits.connections);
        return dismiss(&stream, &Failure::new(Code::Busy, text).with_hint("try again, or raise the limit"));
    };
    peer.client = hello.client;
    peer.connection = id;
    peer.late = !door.service.greeted(id);
    let outbox = Arc::new(Outbox::new(Arc::new(peer)));
    {
        let mut rooms = door.rooms();
        rooms.greeted.insert(id, outbox.clone());
        if rooms.closing {
            outbox.end(Ending::Finish);
        }
    }
    let _seat = Seat { shared: door.clone(), id };
    drop(place);
    count(&door.counters.accepted);
    let mut out = Vec::new();
    let state = door.service.state().word().to_owned();
    let server = concat!("storedd ", env!("CARGO_PKG_VERSION")).to_owned();
    work::put(&mut out, Kind::Reply, hello.id, &Reply::Hello(Hello { version: VERSION, server, state }));
    let end = Session::new(door, (stream, inbox), outbox, out, open).run().await;
    if let Err(e) = end {
        tracing::debug!(event = "control.lost", error = %e, "connection lost");
    }
}

struct Greeted {
    id: u64,
    client: String,
}

/// Waits for the greeting. An error without a text is a client that left.
async fn greeting(stream: &mut UnixStream, inbox: &mut Inbox, place: &Place) -> Result<Greeted, Option<Failure>> {
    let limit = place.shared.limits.hello_timeout;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(greeted) = greeted(inbox, &place.shared.counters)? {
            return Ok(greeted);
        }
        let buffer = inbox.buffer();
        buffer.reserve(HEADER_BYTES + HELLO_BYTES as usize);
        tokio::select! {
            biased;
            read = timeout_at(deadline, stream.read_buf(buffer)) => match read {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Err(None),
                Err(_) => {
                    let text = format!("no greeting came in {} s", limit.as_secs_f64());
                    return Err(Some(Failure::new(Code::Protocol, text)));
                }
            },
            () = place.evicted.notified() => return last_chance(stream, inbox, place),
        }
    }
}

/// A connection that must leave stays if its greeting is there already, unseen by the runtime.
fn last_chance(stream: &UnixStream, inbox: &mut Inbox, place: &Place) -> Result<Greeted, Option<Failure>> {
    let mut bytes = [0u8; HEADER_BYTES + HELLO_BYTES as usize];
    if let Ok((count, _)) = rustix::net::recv(stream, &mut bytes[..], rustix::net::RecvFlags::DONTWAIT) {
        inbox.buffer().extend_from_slice(&bytes[..count]);
    }
    greeted(inbox, &place.shared.counters)?.ok_or_else(|| {
        let text = "too many connections have not greeted, and this is the oldest";
        Some(Failure::new(Code::Busy, text).with_hint("try again"))
    })
}

/// The greeting, once it is complete.
fn greeted(inbox: &mut Inbox, counters: &Counters) -> Result<Option<Greeted>, Option<Failure>> {
    let wrong = |text: String| {
        count(&counters.malformed);
        Some(Failure::new(Code::Protocol, text).with_hint("use client and daemon of the same release"))
    };
    let frame = match inbox.next(HELLO_BYTES) {
        Ok(Some(frame)) => frame,
        Ok(None) => return Ok(None),
        Err(e) => return Err(wrong(format!("before the greeting: {e}"))),
    };
    match (frame.kind, frame.id, codec::decode(frame.payload)) {
        (Kind::Request, id @ 1.., Ok(Request::Hello { version: VERSION, client })) if client.len() <= CLIENT_BYTES => {
            counters.hello();
            Ok(Some(Greeted { id, client }))
        }
        (Kind::Request, _, Ok(Request::Hello { version, client })) => Err(wrong(format!(
            "greeted with protocol version {version} and a name of {} bytes, expected {VERSION} and at most {CLIENT_BYTES}",
            client.len()
        ))),
        _ => Err(wrong("a connection starts with a greeting, something else came".to_owned())),
    }
}

/// Says why, as far as it can be said without waiting; the connection is closed by its drop.
fn dismiss(stream: &UnixStream, failure: &Failure) {
    let mut out = Vec::new();
    work::put(&mut out, Kind::Error, CONNECTION_ID, failure);
    // A client that is gone need not hear it.
    let _ = rustix::net::send(stream, &out, rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL);
}

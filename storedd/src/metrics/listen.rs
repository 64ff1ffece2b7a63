//! A listener that answers `GET /metrics`, and nothing else.
//!
//! # Operation
//! One request for each connection: its head is read, the answer written, the connection closed. A head is at most
//! [`HEAD_BYTES_MAX`] long and has [`PATIENCE`] to come; the answer has as long to be taken. At most [`CONNECTIONS_MAX`]
//! connections are open. Then the oldest that has not asked within [`LEAST`] makes room for a new one, so that clients which
//! dribble keep nobody out, and whoever has asked is answered.
//!
//! Nothing of a request but its first line is looked at. There is no TLS and no password: the address is one that only this
//! host reaches, unless the configuration says otherwise.

use super::text::MEDIA_TYPE;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

/// Longest head of a request in bytes.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// Open connections.
pub const CONNECTIONS_MAX: usize = 32;
/// Time for a request to come, and for its answer to be taken.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A connection has at least so long to ask before it makes room for another.
pub const LEAST: Duration = Duration::from_millis(500);
/// How often room is looked for.
const STEP: Duration = Duration::from_millis(20);
/// Pause after a connection could not be accepted: most often for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Makes what is answered.
pub type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// Listens at `address` until the runtime ends; gives the address, with the port if `address` had none.
///
/// # Errors
/// Those of bind.
pub fn start(runtime: &Handle, address: SocketAddr, page: Page) -> io::Result<SocketAddr> {
    let listener = runtime.block_on(TcpListener::bind(address))?;
    let bound = listener.local_addr()?;
    runtime.spawn(accept(listener, page));
    Ok(bound)
}

async fn accept(listener: TcpListener, page: Page) {
    let mut open: VecDeque<Open> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                make_room(&mut open).await;
                let (page, asked) = (page.clone(), Arc::new(AtomicBool::new(false)));
                let has_asked = asked.clone();
                // A client that goes away is not worth a line.
                let serve = async move { drop(serve(stream, &page, &has_asked).await) };
                open.push_back(Open { task: tokio::spawn(serve).abort_handle(), since: Instant::now(), asked });
            }
            Err(e) => {
                tracing::debug!(event = "metrics_accept", error = %e);
                sleep(PAUSE).await;
            }
        }
    }
}

/// An open connection.
struct Open {
    task: AbortHandle,
    since: Instant,
    /// Its request has come.
    asked: Arc<AtomicBool>,
}

/// Comes back when there is room for one more: each has its time, so it does not take for ever.
async fn make_room(open: &mut VecDeque<Open>) {
    loop {
        open.retain(|connection| !connection.task.is_finished());
        if open.len() < CONNECTIONS_MAX {
            return;
        }
        let silent = |c: &Open| !c.asked.load(Ordering::Acquire) && c.since.elapsed() >= LEAST;
        if let Some(oldest) = open.iter().position(silent).and_then(|at| open.remove(at)) {
            oldest.task.abort();
            return;
        }
        sleep(STEP).await;
    }
}

async fn serve(mut stream: TcpStream, page: &Page, asked: &AtomicBool) -> io::Result<()> {
    let answer = match timeout(PATIENCE, head(&mut stream)).await {
        Ok(Ok(head)) => {
            asked.store(true, Ordering::Release);
            answer(&head, page)
        }
        Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => error("431 Request Header Fields Too Large"),
        Ok(Err(e)) => return Err(e),
        Err(_) => error("408 Request Timeout"),
    };
    let write = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    timeout(PATIENCE, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads up to the empty line that ends the head.
async fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n") {
            return Ok(head);
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn answer(head: &[u8], page: &Page) -> String {
    let line = head.split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let [method, target, version] = words[..] else { return error("400 Bad Request") };
    if !version.starts_with(b"HTTP/1.") {
        return error("505 HTTP Version Not Supported");
    }
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics") => response("200 OK", MEDIA_TYPE, &page(), true),
        (b"HEAD", b"/metrics") => response("200 OK", MEDIA_TYPE, &page(), false),
        (_, b"/metrics") => error("405 Method Not Allowed"),
        _ => error("404 Not Found"),
    }
}

fn error(status: &str) -> String {
    response(status, "text/plain; charset=utf-8", &format!("{status}; this answers GET /metrics\n"), true)
}

fn response(status: &str, media_type: &str, body: &str, whole: bool) -> String {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    if whole { head + body } else { head }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> String {
        let page: Page = Arc::new(|| "storedd_x 1\n".to_owned());
        let answer = answer(head.as_bytes(), &page);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length: usize = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert!(body.len() == length || body.is_empty(), "{answer}");
        head.lines().next().unwrap().to_owned()
    }

    #[test]
    fn who_has_asked_makes_no_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let connection = |asked: bool| Open {
                task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
                since: Instant::now(),
                asked: Arc::new(AtomicBool::new(asked)),
            };
            let mut open: VecDeque<Open> = (0..CONNECTIONS_MAX).map(|at| connection(at == 7 || at < 3)).collect();
            let (begun, oldest) = (Instant::now(), open[3].task.clone());
            make_room(&mut open).await;
            assert!(begun.elapsed() >= LEAST, "everybody has some time to ask");
            tokio::task::yield_now().await;
            assert!(oldest.is_finished() && open.len() == CONNECTIONS_MAX - 1);
            assert_eq!(open.iter().filter(|c| c.asked.load(Ordering::Acquire)).count(), 4);
        });
    }

    #[test]
    fn only_metrics_are_served() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
            ("GET /metrics?a=b HTTP/1.0\n\n", "200 OK"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metrics HTTP/2\r\n\r\n", "505 HTTP Version Not Supported"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
            ("\u{1}\u{2} \u{0} \r\n\r\n", "505 HTTP Version Not Supported"),
        ] {
            assert_eq!(status(head), format!("HTTP/1.1 {expected}"), "{head:?}");
        }
    }
}

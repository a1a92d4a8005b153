//! Pages fetched by a pool of threads, each with a time limit and an outcome of its own; what is refused is tried again,
//! what does not exist is an error, and the server sees no more requests at once than there are workers.
//!
//! `cargo run -p tricorne-exec --example download_pool` (the server is a local one; for real downloads there is
//! `tricorne-http`)

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tricorne_exec::ThreadPoolExecutor;
use tricorne_exec::retry::{Decision, Jitter, RetryPolicy};
use tricorne_loopback::{Reply, Server};

const PAGES: usize = 60;
const WORKERS: usize = 6;

fn fetch(server: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let limit = Duration::from_secs(10);
    let mut connection = TcpStream::connect_timeout(&server, limit)?;
    connection.set_read_timeout(Some(limit))?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

/// Tries again while the server says that it is too busy.
fn download(server: SocketAddr, page: usize) -> Result<String, String> {
    let policy = RetryPolicy { base: Duration::from_millis(2), ..RetryPolicy::default() };
    policy
        .run(
            Jitter::for_stream(1, page as u64),
            |_| match fetch(server, &format!("/page/{page}")) {
                Ok((200, body)) => Ok(body),
                Ok((status, _)) => Err((status, format!("page {page}: status {status}"))),
                Err(error) => Err((0, format!("page {page}: {error}"))),
            },
            |(status, _)| if *status == 503 { Decision::Retry } else { Decision::GiveUp },
        )
        .map_err(|(_, message)| message)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(|request| {
        let page: usize = request.path.rsplit('/').next().and_then(|page| page.parse().ok()).unwrap_or(0);
        match page {
            13 => Reply::new(404),
            page if page % 7 == 3 && request.attempt == 1 => Reply::new(503),
            page => Reply::html(format!("<p>page {page}")).delay(Duration::from_millis(3)),
        }
    })?;
    let address = server.addr();
    let pool = ThreadPoolExecutor::builder().workers(WORKERS).name("download").build()?;
    let mut failed = Vec::new();
    for (page, outcome) in pool.map(0..PAGES, move |page| download(address, page)).enumerate() {
        match outcome? {
            Ok(body) => assert_eq!(body, format!("<p>page {page}"), "the page of another request"),
            Err(message) => failed.push(message),
        }
    }
    let peak = server.max_in_flight();
    assert_eq!(failed, ["page 13: status 404"], "all others arrive, those that were refused once too");
    assert!(peak <= WORKERS, "{peak} requests at once");
    assert_eq!(server.requests("/page/3"), 2, "a refused page is fetched again");
    println!(
        "{} of {PAGES} pages fetched, at most {peak} at once by {WORKERS} workers; failed: {failed:?}",
        PAGES - 1
    );
    Ok(())
}

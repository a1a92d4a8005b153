//! Async for waiting, threads for computing: requests wait side by side on an event loop, each page is worked on by a pool,
//! and the loop is never blocked, which its watchdog would report.
//!
//! `cargo run -p tricorne-exec --example hybrid`

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tricorne_exec::limit::{Limiter, Outcome};
use tricorne_exec::{AsyncExecutor, Shutdown, ThreadPoolExecutor};
use tricorne_loopback::{Reply, Server};

const PAGES: usize = 200;
const AT_ONCE: usize = 50;
/// How long the server takes for each answer.
const WAIT: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(|request| Reply::html(format!("words of {}", request.path)).delay(WAIT))?;
    let address = server.addr();
    let pool = Arc::new(ThreadPoolExecutor::builder().name("text").build()?);
    let blocked = Arc::new(Mutex::new(Vec::new()));
    let reports = Arc::clone(&blocked);
    let event_loop = AsyncExecutor::builder()
        .name("fetch")
        .watchdog(Duration::from_millis(500), move |blockage| {
            if let Ok(mut reports) = reports.lock() {
                reports.push(blockage.to_string());
            }
        })
        .build()?;
    let limiter = Limiter::fixed(AT_ONCE);
    let on_the_loop = Arc::new(AtomicUsize::new(0));

    let before = Instant::now();
    let counts = event_loop
        .map(0..PAGES, |page| {
            let (pool, limiter, on_the_loop) =
                (Arc::clone(&pool), Arc::clone(&limiter), Arc::clone(&on_the_loop));
            async move {
                let mut permit = limiter.acquire_async().await;
                let mut connection = tokio::net::TcpStream::connect(address).await?;
                let request = format!("GET /{page} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n");
                connection.write_all(request.as_bytes()).await?;
                let mut answer = String::new();
                connection.read_to_string(&mut answer).await?;
                permit.record(Outcome::Success);
                drop(permit);
                // Native work goes to the pool; meanwhile the loop serves the others.
                let words = pool.submit(move || {
                    let is_worker =
                        std::thread::current().name().is_some_and(|name| name.starts_with("text-"));
                    on_the_loop.fetch_add(usize::from(!is_worker), Ordering::SeqCst);
                    answer.split_once("\r\n\r\n").map_or(0, |(_, body)| body.split_whitespace().count())
                });
                words.await.map_err(std::io::Error::other)
            }
        })
        .window(100);
    let mut words = 0;
    for count in counts {
        words += count??;
    }
    let took = before.elapsed();
    let peak = server.max_in_flight();
    event_loop.shutdown(Shutdown::Drain, Duration::from_secs(10));
    pool.shutdown(Shutdown::Drain);

    assert_eq!(words, 3 * PAGES, "every page was fetched and counted");
    assert!(peak > 1 && peak <= AT_ONCE, "{peak} requests waited side by side");
    assert_eq!(on_the_loop.load(Ordering::SeqCst), 0, "all counting was done by the pool");
    let blocked = blocked.lock().map_err(|_| "the observer does not panic")?;
    println!(
        "{PAGES} pages of {WAIT:?} each in {took:.1?} (one by one: {:.1?}), {peak} at once; the loop was blocked {} times",
        WAIT * PAGES as u32,
        blocked.len()
    );
    Ok(())
}

//! What one request costs in CPU time: `request_cost serve [BYTES]` answers, `request_cost fetch ADDR [REQUESTS] [IN_FLIGHT] [auto]`
//! fetches and prints user and system microseconds per request, of this process only.

use std::{
    error::Error,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tricorne_http::{Client, ClientConfig, Concurrency, FetchFailure};
use tricorne_loopback::{Reply, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| arguments.get(index).map_or(Ok(default), |text| text.parse());
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(usize::try_from(number(1, 27_000)?)?),
        Some("fetch") => {
            let addr = arguments.get(1).ok_or("an address is missing")?;
            let in_flight = usize::try_from(number(3, 64)?)?;
            let adaptive = arguments.get(4).is_some_and(|word| word == "auto");
            let per_host =
                if adaptive { Concurrency::Auto { max: in_flight } } else { Concurrency::Fixed(in_flight) };
            fetch(addr, number(2, 20_000)?, per_host)
        }
        _ => Err("use `serve [BYTES]` or `fetch ADDR [REQUESTS] [IN_FLIGHT] [auto]`".into()),
    }
}

fn serve(body_bytes: usize) -> Result<(), Box<dyn Error>> {
    let body = bytes::Bytes::from(vec![b'x'; body_bytes]);
    let server = Server::start(move |_| Reply::html(body.clone()))?;
    println!("{}", server.addr());
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn fetch(addr: &str, requests: u64, per_host: Concurrency) -> Result<(), Box<dyn Error>> {
    let client = Client::new(ClientConfig { per_host, ..ClientConfig::default() })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let urls: Vec<_> = (0..100).map(|page| format!("http://{addr}/page/{page}.html")).collect();
    let next = Arc::new(AtomicU64::new(0));
    let round = |count: u64| {
        next.store(0, Ordering::Relaxed);
        runtime.block_on(async {
            let mut workers = tokio::task::JoinSet::new();
            for _ in 0..per_host.max() {
                let (client, next, urls) = (client.clone(), next.clone(), urls.clone());
                workers.spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok::<_, FetchFailure>(());
                        }
                        client.get(&urls[usize::try_from(number).unwrap_or(0) % urls.len()]).await?;
                    }
                });
            }
            while let Some(result) = workers.join_next().await {
                result??;
            }
            Ok::<(), Box<dyn Error>>(())
        })
    };
    round(requests / 10)?;
    for _ in 0..3 {
        let (user, system, start) = (cpu_ticks(13)?, cpu_ticks(14)?, Instant::now());
        round(requests)?;
        // A tick is 10 ms on every Linux: USER_HZ is part of its interface.
        let micros = |ticks: u64| ticks as f64 * 10_000.0 / requests as f64;
        println!(
            "{:.1} us user + {:.1} us system a request; {:.0} requests/s",
            micros(cpu_ticks(13)? - user),
            micros(cpu_ticks(14)? - system),
            requests as f64 / start.elapsed().as_secs_f64(),
        );
    }
    println!("{:?}", client.stats());
    Ok(())
}

/// A field of `/proc/self/stat`, counted from 0.
fn cpu_ticks(field: usize) -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may contain spaces.
    let after_name = stat.rsplit_once(')').ok_or("no process name")?.1;
    Ok(after_name.split_whitespace().nth(field - 2).ok_or("too few fields")?.parse()?)
}

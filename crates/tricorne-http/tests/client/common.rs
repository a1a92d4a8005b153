//! What every test of the client needs: a runtime with a time bound, and a client with short waits.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use tricorne_http::{Client, ClientConfig, Concurrency, FetchFailure};

/// No test may take longer; the waits in them are far shorter.
const TEST_BOUND: Duration = Duration::from_secs(30);

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Runs a test on the runtime that the client is made for.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(TEST_BOUND, test).await.expect("the test hangs") })
}

/// Settings for a server on this machine: retries without much waiting, everything else generous.
pub(crate) fn quick() -> ClientConfig {
    ClientConfig {
        per_host: Concurrency::Fixed(64),
        retry_base: millis(2),
        retry_max_delay: millis(10),
        total_timeout: Duration::from_secs(20),
        ..ClientConfig::default()
    }
}

pub(crate) fn client(config: ClientConfig) -> Client {
    Client::new(config).expect("the settings are valid")
}

/// A server that handles its connections one after the other on a thread, for faults below HTTP.
pub(crate) struct RawServer {
    pub(crate) addr: SocketAddr,
}

impl RawServer {
    /// `handle` gets each connection with its number, from 0, until it returns false.
    pub(crate) fn start(mut handle: impl FnMut(usize, TcpStream) -> bool + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if !handle(number, stream.expect("a connection")) {
                    return;
                }
            }
        });
        RawServer { addr }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

/// Reads up to the end of a request head; `None` when the client has closed.
pub(crate) fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).expect("a head is text"))
}

pub(crate) fn answer(stream: &mut impl Write, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).expect("the client listens");
}

/// Fetches all of them at once; the network times in the same order. The pages are let go as they come.
pub(crate) async fn get_all(client: &Client, urls: &[String]) -> Vec<Result<Duration, FetchFailure>> {
    let gets = urls.iter().cloned().map(|url| {
        let client = client.clone();
        tokio::spawn(async move { client.get(&url).await.map(|page| page.network_time) })
    });
    let mut results = Vec::new();
    for get in gets.collect::<Vec<_>>() {
        results.push(get.await.expect("a fetch does not panic"));
    }
    results
}

/// The failure of a fetch that must not succeed.
pub(crate) async fn failure(client: &Client, url: &str) -> FetchFailure {
    client.get(url).await.expect_err("this cannot be fetched")
}

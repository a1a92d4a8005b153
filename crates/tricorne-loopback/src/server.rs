//! The server: its thread, its listening socket, and the questions it answers.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::connection;
use crate::stats::Counters;
use crate::{Reply, Request, Stats};

/// Connections that may wait to be accepted: tests open hundreds at once.
const BACKLOG: u32 = 1024;
/// How long [`Server`]'s drop waits for its thread.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which mostly means that the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What connections share.
pub(crate) struct Shared {
    pub(crate) handler: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    pub(crate) counters: Counters,
}

/// An HTTP/1.1 server on 127.0.0.1, on a thread of its own, until it is dropped.
///
/// Dropping it closes the port and cuts all connections; it waits for the thread, but no longer than five seconds (a
/// handler that blocks is left behind).
///
/// It reads requests with and without `Content-Length`; one with `Transfer-Encoding` is answered with 501, one that is not
/// HTTP with 400, one that is too big with 431 or 413, each without asking the handler or counting.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    stopped: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on a free port.
    ///
    /// The handler runs on the server's only thread: it must not block, and waits belong into
    /// [`Reply::delay`]. If it panics, that connection is dropped and the server goes on.
    ///
    /// # Errors
    ///
    /// What the system says when there is no socket, port or thread left.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> io::Result<Self> {
        Self::start_on(0, handler)
    }

    /// Starts a server on the given port, or on a free one if it is `0`. A port can be opened again as soon as the server
    /// that had it is gone.
    ///
    /// # Errors
    ///
    /// As for [`start`](Server::start), and if the port is taken.
    pub fn start_on(
        port: u16,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = listen(&runtime, port)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { handler: Box::new(handler), counters: Counters::default() });
        let (stop, stop_received) = oneshot::channel();
        let (stopped_sender, stopped) = mpsc::channel();
        let accepting = accept(listener, Arc::clone(&shared));
        let thread = thread::Builder::new().name(format!("loopback-{}", addr.port())).spawn(move || {
            runtime.block_on(async {
                tokio::spawn(accepting);
                // An error means that the server was forgotten without a drop: then nobody is left to serve.
                let _ = stop_received.await;
            });
            drop(runtime);
            // Fails only when nobody waits any more.
            let _ = stopped_sender.send(());
        })?;
        Ok(Self { addr, shared, stop: Some(stop), stopped, thread: Some(thread) })
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of `path` (which starts with a slash) on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Serves at most this many requests at once from now on (`None`: any number). The rest is answered at once with 429,
    /// without `Retry-After`, and counted as [`refused`](Server::refused) only. Requests in flight are not disturbed.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        self.shared.counters.set_capacity(capacity);
    }

    /// All counters at this moment.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Admitted requests for exactly this path and query.
    pub fn requests(&self, path: &str) -> u32 {
        self.shared.counters.requests(path)
    }

    /// Admitted requests for each path and query.
    pub fn path_counts(&self) -> HashMap<String, u32> {
        self.shared.counters.path_counts()
    }

    /// Admitted requests in all. See [`Stats::requests`].
    pub fn total_requests(&self) -> u64 {
        self.stats().requests
    }

    /// Answers written to the last byte. See [`Stats::completed`].
    pub fn completed(&self) -> u64 {
        self.stats().completed
    }

    /// Requests refused for lack of capacity. See [`Stats::refused`].
    pub fn refused(&self) -> u64 {
        self.stats().refused
    }

    /// The most requests there ever were in flight at once. See [`Stats::max_in_flight`].
    pub fn max_in_flight(&self) -> usize {
        self.stats().max_in_flight
    }

    /// Starts counting anew, attempts per path included. Requests in flight stay in flight.
    pub fn reset_counts(&self) {
        self.shared.counters.reset();
    }

    /// Waits until no request is in flight; false if that took longer than `timeout`. After that, the counters agree with
    /// what clients have seen.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        self.shared.counters.wait_idle(timeout)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Fails only when the thread is gone already.
            let _ = stop.send(());
        }
        // An error other than a time-out means that the thread panicked: it is over all the same.
        let in_time = self.stopped.recv_timeout(STOP_TIMEOUT) != Err(mpsc::RecvTimeoutError::Timeout);
        if let Some(thread) = self.thread.take()
            && in_time
        {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("addr", &self.addr)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

fn listen(runtime: &Runtime, port: u16) -> io::Result<TcpListener> {
    let _inside = runtime.enter();
    let socket = TcpSocket::new_v4()?;
    // Connections of an earlier server that still wait for their last packets must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                shared.counters.connected();
                tokio::spawn(connection::serve(stream, Arc::clone(&shared)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

//! Telling a tree of work to stop: by request, or because its time is up.
//!
//! Use it to end work that others have started: give each part a child token, and cancel the part or the whole. To say
//! that something has happened and nothing has to stop, an [`Event`](crate::Event) is enough.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use tricorne_sync::CancelToken;
//!
//! let whole = CancelToken::new();
//! let part = whole.child();
//! let hurried = whole.child_with_deadline(Instant::now());
//! assert!(hurried.is_cancelled(), "its time is up");
//! assert!(!part.is_cancelled() && !whole.is_cancelled(), "which is nothing to the others");
//!
//! std::thread::scope(|scope| {
//!     // Sleeps between two attempts, until it is told to stop.
//!     let worker = scope.spawn(|| while !part.wait_timeout(Duration::from_secs(60)) {});
//!     whole.cancel();
//!     worker.join().unwrap();
//! });
//! assert!(part.is_cancelled());
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::prim::{Arc, Mutex, Weak, lock};
use crate::wait::deadline_after;

/// Asks work to stop. Clones are the same token; a [`child`](Self::child) is cancelled with its parent, but not the
/// other way round.
///
/// Cancelling asks, it does not force: the work looks with [`is_cancelled`](Self::is_cancelled), waits with
/// [`wait_timeout`](Self::wait_timeout) instead of sleeping, selects on [`cancelled_async`](Self::cancelled_async), or
/// has what it waits for closed by an [`on_cancel`](Self::on_cancel) callback.
///
/// # Deadlines
///
/// A token may have a deadline, and a child has its parent's if that is earlier. This crate has no timer thread, so a
/// deadline takes effect when somebody looks: `is_cancelled` sees it, and the blocking waits wake up for it; whichever
/// notices it first cancels the token. Whoever relies only on callbacks or on `cancelled_async` must arm a timer of
/// their own for [`deadline`](Self::deadline).
///
/// # Examples
///
/// A blocking wait that ends with the token, without polling:
///
/// ```
/// use std::sync::Arc;
/// use tricorne_sync::{CancelToken, Closed, Queue};
///
/// let token = CancelToken::new();
/// let queue = Arc::new(Queue::<u32>::bounded(8));
/// let closing = Arc::clone(&queue);
/// let _guard = token.on_cancel(move || closing.close());
///
/// let canceller = std::thread::spawn(move || token.cancel());
/// assert_eq!(queue.get(), Err(Closed(())));
/// # canceller.join().unwrap();
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

/// One token. It keeps its parent alive, so that a cancel from above passes through parents that nobody holds any
/// more; the parent knows its children only weakly.
struct Node {
    cancelled: Event,
    deadline: Option<Instant>,
    parent: Option<Parent>,
    links: Mutex<Links>,
}

struct Parent {
    node: Arc<Node>,
    key: u64,
}

/// What a cancel has to reach. Empty once cancelled.
#[derive(Default)]
struct Links {
    cancelled: bool,
    next_key: u64,
    children: BTreeMap<u64, Weak<Node>>,
    callbacks: BTreeMap<u64, Callback>,
}

type Callback = Box<dyn FnOnce() + Send>;

impl Links {
    fn next_key(&mut self) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        key
    }
}

impl Node {
    fn new(deadline: Option<Instant>, parent: Option<Parent>) -> Self {
        Self { cancelled: Event::new(), deadline, parent, links: Mutex::default() }
    }
}

impl CancelToken {
    /// A token without parent or deadline.
    pub fn new() -> Self {
        Self { node: Arc::new(Node::new(None, None)) }
    }

    /// A token that counts as cancelled from `deadline` on.
    pub fn with_deadline(deadline: Instant) -> Self {
        Self { node: Arc::new(Node::new(Some(deadline), None)) }
    }

    /// A token that is cancelled when this one is; cancelled from the start if this one was.
    #[must_use]
    pub fn child(&self) -> Self {
        self.new_child(self.node.deadline)
    }

    /// A [`child`](Self::child) with a deadline of its own. The earlier of both deadlines counts.
    #[must_use]
    pub fn child_with_deadline(&self, deadline: Instant) -> Self {
        self.new_child(Some(self.node.deadline.map_or(deadline, |parent| parent.min(deadline))))
    }

    fn new_child(&self, deadline: Option<Instant>) -> Self {
        let mut links = lock(&self.node.links);
        let key = links.next_key();
        let parent = Parent { node: Arc::clone(&self.node), key };
        let child = Self { node: Arc::new(Node::new(deadline, Some(parent))) };
        let cancelled = links.cancelled;
        if !cancelled {
            links.children.insert(key, Arc::downgrade(&child.node));
        }
        drop(links);
        if cancelled {
            child.cancel();
        }
        child
    }

    /// Cancels this token and all below it, wakes who waits for them, and runs their callbacks on this thread.
    /// Cancelling again does nothing. While another thread is still at it, this token is cancelled when the call returns; those
    /// below it may be so a moment later.
    ///
    /// # Panics
    ///
    /// If a callback panics. The tokens are cancelled and the other callbacks run before that.
    pub fn cancel(&self) {
        let mut callbacks = Vec::new();
        // A list instead of recursion: a tree may be deep.
        let mut tokens = vec![Arc::clone(&self.node)];
        while let Some(node) = tokens.pop() {
            let mut links = lock(&node.links);
            if links.cancelled {
                drop(links);
                // Whoever was first may not have come to this line yet.
                node.cancelled.set();
                continue;
            }
            links.cancelled = true;
            tokens.extend(
                std::mem::take(&mut links.children).into_values().filter_map(|child| child.upgrade()),
            );
            callbacks.extend(std::mem::take(&mut links.callbacks).into_values());
            drop(links);
            node.cancelled.set();
        }
        let mut panicked = None;
        for callback in callbacks {
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(callback)) {
                panicked.get_or_insert(payload);
            }
        }
        if let Some(payload) = panicked {
            panic::resume_unwind(payload);
        }
    }

    /// Whether it was cancelled or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        self.node.cancelled.is_set() || self.notice_deadline()
    }

    /// When it counts as cancelled by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline
    }

    /// Waits until it is cancelled or its deadline passes.
    pub fn wait(&self) {
        match self.node.deadline {
            None => self.node.cancelled.wait(),
            Some(deadline) => {
                self.wait_deadline(deadline);
            }
        }
    }

    /// Waits until it is cancelled, for at most `timeout`; `false` if it was not. The way to sleep in work that can be
    /// cancelled.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        match deadline_after(timeout) {
            Some(deadline) => self.wait_deadline(deadline),
            None => {
                self.wait();
                true
            }
        }
    }

    /// Waits until it is cancelled, until `deadline` at most; `false` if it was not.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        let earlier = self.node.deadline.map_or(deadline, |own| own.min(deadline));
        self.node.cancelled.wait_deadline(earlier) || self.notice_deadline()
    }

    /// Waits until it is cancelled, from async code. The future holds on to the token, not to this reference to it.
    ///
    /// It sees that the deadline has passed when it is polled, but does not wake up for it: see
    /// [Deadlines](Self#deadlines). In a tokio runtime `tricorne_exec::cancelled` does.
    pub fn cancelled_async(&self) -> impl Future<Output = ()> + Send + use<> {
        let token = self.clone();
        async move {
            let mut cancelled = token.node.cancelled.wait_async();
            poll_fn(|context| {
                let polled = Pin::new(&mut cancelled).poll(context);
                if polled.is_ready() || token.notice_deadline() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// Runs `callback` when it is cancelled, on the thread that cancels; at once if it is cancelled already.
    ///
    /// The guard keeps the token alive. Dropping it takes the callback back, unless a cancel has already taken it up:
    /// it may then still be running.
    /// The callback should be short, such as closing a queue.
    ///
    /// # Panics
    ///
    /// If the token is cancelled already and the callback panics.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> CancelGuard {
        let mut links = lock(&self.node.links);
        if links.cancelled {
            drop(links);
            callback();
            return CancelGuard { registered: None };
        }
        let key = links.next_key();
        links.callbacks.insert(key, Box::new(callback));
        CancelGuard { registered: Some((Arc::clone(&self.node), key)) }
    }

    /// Cancels it if its deadline has passed.
    fn notice_deadline(&self) -> bool {
        let passed = self.node.deadline.is_some_and(|deadline| deadline <= Instant::now());
        if passed {
            self.cancel();
        }
        passed
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.node.cancelled.is_set())
            .field("deadline", &self.node.deadline)
            .finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A loop instead of recursion through the parents that only this child kept alive.
        let mut parent = self.parent.take();
        while let Some(Parent { node, key }) = parent {
            lock(&node.links).children.remove(&key);
            parent = Arc::into_inner(node).and_then(|mut node| node.parent.take());
        }
    }
}

/// Holds a callback of [`CancelToken::on_cancel`]; dropping it takes the callback back.
#[must_use = "the callback is taken back as soon as this is dropped"]
pub struct CancelGuard {
    /// `None` if the callback ran when it was to be registered.
    registered: Option<(Arc<Node>, u64)>,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some((node, key)) = &self.registered {
            let callback = lock(&node.links).callbacks.remove(key);
            // After the lock is released: it is the caller's code.
            drop(callback);
        }
    }
}

impl fmt::Debug for CancelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelGuard").finish_non_exhaustive()
    }
}

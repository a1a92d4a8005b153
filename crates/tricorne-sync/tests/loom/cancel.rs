//! Models of `CancelToken`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use loom::thread;
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::{CancelToken, Closed, Queue};

use crate::{block_on, model};

#[test]
fn ends_a_blocking_get() {
    model(|| {
        let token = CancelToken::new();
        let queue = Arc::new(Queue::<u32>::bounded(1));
        let consumer = {
            let (token, queue) = (token.child(), Arc::clone(&queue));
            thread::spawn(move || {
                let closing = Arc::clone(&queue);
                let _guard = token.on_cancel(move || closing.close());
                queue.get()
            })
        };
        token.cancel();
        assert_eq!(consumer.join().unwrap(), Err(Closed(())));
    });
}

#[test]
fn reaches_a_child_that_is_being_made() {
    model(|| {
        let token = CancelToken::new();
        let worker = {
            let token = token.clone();
            thread::spawn(move || {
                let child = token.child();
                let mut cancelled: Pin<Box<dyn Future<Output = ()> + Send>> =
                    Box::pin(child.cancelled_async());
                drop(child);
                block_on(&mut cancelled);
            })
        };
        token.cancel();
        worker.join().unwrap();
    });
}

#[test]
fn callback_runs_once_or_was_taken_back() {
    model(|| {
        let token = CancelToken::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let worker = {
            let (token, runs) = (token.clone(), Arc::clone(&runs));
            thread::spawn(move || {
                drop(token.on_cancel(move || {
                    runs.fetch_add(1, Ordering::SeqCst);
                }));
            })
        };
        token.cancel();
        worker.join().unwrap();
        assert!(runs.load(Ordering::SeqCst) <= 1);
    });
}

#[test]
fn cancelled_is_cancelled_whoever_was_first() {
    model(|| {
        let token = CancelToken::new();
        let other = {
            let token = token.clone();
            thread::spawn(move || {
                token.cancel();
                assert!(token.is_cancelled());
            })
        };
        token.cancel();
        assert!(token.is_cancelled());
        other.join().unwrap();
    });
}

//! Futures and the thread pool against models of a few lines: whatever the order of calls, the outcome is the model's.
//!
//! What happens at the same moment is the business of `loom.rs` and `shuttle.rs`; here the calls come one by one.

use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use tricorne_exec::{Shutdown, TaskError, TaskResult, ThreadPoolExecutor, promise};
use tricorne_sync::Event;

#[derive(Debug, Clone)]
enum FutureCall {
    Start,
    Cancel,
    Complete(u8),
    Fail,
    DropPromise,
}

fn future_call() -> impl Strategy<Value = FutureCall> {
    prop_oneof![
        Just(FutureCall::Start),
        Just(FutureCall::Cancel),
        any::<u8>().prop_map(FutureCall::Complete),
        Just(FutureCall::Fail),
        Just(FutureCall::DropPromise),
    ]
}

proptest! {
    /// The first of cancel (before the start), outcome and drop decides; everything after it changes nothing.
    #[test]
    fn a_future_ends_as_the_first_call_says(calls in vec(future_call(), 0..12)) {
        let (promise, future) = promise::<u8>();
        let mut promise = Some(promise);
        let (mut running, mut asked) = (false, false);
        let mut expected: Option<TaskResult<u8>> = None;
        for call in calls {
            match call {
                FutureCall::Cancel => {
                    let cancels = expected.is_none() && !running;
                    prop_assert_eq!(future.cancel(), cancels);
                    asked = true;
                    if cancels {
                        expected = Some(Err(TaskError::Cancelled));
                    }
                }
                FutureCall::Start => {
                    if let Some(promise) = &promise {
                        running |= expected.is_none();
                        prop_assert_eq!(promise.start(), running);
                        prop_assert_eq!(promise.is_cancel_requested(), asked);
                    }
                }
                FutureCall::Complete(value) => {
                    if let Some(promise) = promise.take() {
                        promise.complete(value);
                        expected = expected.or(Some(Ok(value)));
                    }
                }
                FutureCall::Fail => {
                    if let Some(promise) = promise.take() {
                        let error = TaskError::Rejected { executor: "model".into() };
                        promise.fail(error.clone());
                        expected = expected.or(Some(Err(error)));
                    }
                }
                FutureCall::DropPromise => {
                    if promise.take().is_some() {
                        expected = expected.or(Some(Err(TaskError::Abandoned)));
                    }
                }
            }
            prop_assert_eq!(future.is_done(), expected.is_some());
        }
        drop(promise);
        prop_assert_eq!(future.result(), expected.unwrap_or(Err(TaskError::Abandoned)));
    }
}

#[derive(Debug, Clone)]
enum PoolCall {
    Submit(u8),
    SubmitPanic,
    /// Of the task with this number, if there is one.
    Cancel(usize),
}

fn pool_call() -> impl Strategy<Value = PoolCall> {
    prop_oneof![
        3 => any::<u8>().prop_map(PoolCall::Submit),
        1 => Just(PoolCall::SubmitPanic),
        2 => (0..12_usize).prop_map(PoolCall::Cancel),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Ending {
    Value(u8),
    Panicked,
    Cancelled,
    Rejected,
}

fn ending(outcome: TaskResult<u8>) -> Ending {
    match outcome {
        Ok(value) => Ending::Value(value),
        Err(TaskError::Panicked { message, .. }) if message == "as the model says" => Ending::Panicked,
        Err(TaskError::Cancelled) => Ending::Cancelled,
        Err(TaskError::Rejected { .. }) => Ending::Rejected,
        Err(other) => panic!("no model for {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One worker that is held up until all calls were made: what was not cancelled runs, once, in order.
    #[test]
    fn a_pool_runs_in_order_what_was_not_cancelled(
        calls in vec(pool_call(), 0..24),
        late in vec(pool_call(), 0..4),
        drain in any::<bool>(),
    ) {
        let pool = ThreadPoolExecutor::builder().workers(1).name("model").build().expect("a thread");
        let open = Arc::new(Event::new());
        let held = Arc::clone(&open);
        let begun = Arc::new(Event::new());
        let signal = Arc::clone(&begun);
        let plug = pool.submit(move || {
            signal.set();
            held.wait();
        });
        begun.wait();

        let ran = Arc::new(Mutex::new(Vec::new()));
        let mut futures = Vec::new();
        let mut model: Vec<(Ending, bool)> = Vec::new(); // how it will end, and whether that is settled
        let mut make = |calls: Vec<PoolCall>, closed: bool, model: &mut Vec<(Ending, bool)>| -> Result<(), TestCaseError> {
            for call in calls {
                let number = futures.len();
                let log = Arc::clone(&ran);
                let end = match call {
                    PoolCall::Submit(value) => {
                        futures.push(pool.submit(move || {
                            log.lock().expect("no panic under it").push(number);
                            value
                        }));
                        Ending::Value(value)
                    }
                    PoolCall::SubmitPanic => {
                        futures.push(pool.submit(move || {
                            log.lock().expect("no panic under it").push(number);
                            panic!("as the model says")
                        }));
                        Ending::Panicked
                    }
                    PoolCall::Cancel(which) => {
                        if let Some(future) = futures.get(which) {
                            prop_assert_eq!(future.cancel(), !model[which].1);
                            if !model[which].1 {
                                model[which] = (Ending::Cancelled, true);
                            }
                        }
                        continue;
                    }
                };
                model.push(if closed { (Ending::Rejected, true) } else { (end, false) });
            }
            Ok(())
        };
        make(calls, false, &mut model)?;

        if drain {
            open.set();
            pool.shutdown(Shutdown::Drain);
            for (_, settled) in &mut model {
                *settled = true;
            }
        } else {
            std::thread::scope(|scope| {
                let ending = scope.spawn(|| pool.shutdown(Shutdown::CancelPending));
                // Those that wait end before the one that runs does.
                while pool.queued() > 0 {
                    std::thread::yield_now();
                }
                open.set();
                ending.join().expect("it does not panic");
            });
            for (end, settled) in &mut model {
                if !*settled {
                    (*end, *settled) = (Ending::Cancelled, true);
                }
            }
        }
        make(late, true, &mut model)?;

        prop_assert_eq!(plug.result(), Ok(()));
        let expected: Vec<usize> = (0..model.len())
            .filter(|&number| matches!(model[number].0, Ending::Value(_) | Ending::Panicked))
            .collect();
        let endings: Vec<Ending> = futures.into_iter().map(|future| ending(future.result())).collect();
        prop_assert_eq!(endings, model.into_iter().map(|(end, _)| end).collect::<Vec<_>>());
        prop_assert_eq!(ran.lock().expect("no panic under it").clone(), expected);
    }
}

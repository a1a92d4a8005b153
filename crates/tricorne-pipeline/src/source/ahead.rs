//! A source that is read by a thread of its own.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;

use tricorne_sync::{CancelGuard, CancelToken, Queue};

use super::MAX_ENTRY_BYTES;
use crate::error::RunError;
use crate::record::Input;
use crate::runner::Source;

/// Records read ahead, and their bytes together.
const MAX_RECORDS: usize = 1024;
const MAX_BYTES: u64 = 4 * MAX_ENTRY_BYTES;

/// Reads a source of the standard input ahead: a read cannot be interrupted, a wait for a queue can.
pub(super) struct ReadAhead {
    name: String,
    records: Arc<Queue<Result<Input, RunError>>>,
    _unhook: CancelGuard,
}

impl ReadAhead {
    pub(super) fn start(mut source: Box<dyn Source>, cancel: &CancelToken) -> Self {
        let name = source.name();
        let records = Arc::new(Queue::bounded_weighted(MAX_RECORDS, MAX_BYTES));
        let writer = Arc::clone(&records);
        // Not joined: it may sit in a read for ever, and ends with the process.
        thread::spawn(move || {
            let read = panic::catch_unwind(AssertUnwindSafe(|| read_to_queue(&mut *source, &writer)));
            if read.is_err() {
                // A list that merely ended here would look complete.
                let message = "its reader panicked".into();
                let _ = writer.put(Err(RunError::Input { input: source.name(), message, hint: None }));
            }
            writer.close();
        });
        let closed = Arc::clone(&records);
        let unhook = cancel.on_cancel(move || drop(closed.close_now()));
        ReadAhead { name, records, _unhook: unhook }
    }
}

fn read_to_queue(source: &mut dyn Source, records: &Queue<Result<Input, RunError>>) {
    while let Some(record) = source.next().transpose() {
        let failed = record.is_err();
        let bytes = record.as_ref().map_or(0, bytes_of);
        if records.put_weighted(record, bytes).is_err() || failed {
            break;
        }
    }
}

fn bytes_of(input: &Input) -> u64 {
    (input.record.url.len() + input.record.extra.as_ref().map_or(0, String::len)) as u64
}

impl Source for ReadAhead {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        self.records.get().ok().transpose()
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl Source for Panics {
        fn next(&mut self) -> Result<Option<Input>, RunError> {
            panic!("a fault of ours")
        }

        fn name(&self) -> String {
            "-".into()
        }
    }

    #[test]
    fn a_reader_that_panics_is_an_error_and_neither_the_end_nor_a_hang() {
        let mut source = ReadAhead::start(Box::new(Panics), &CancelToken::new());
        assert!(source.next().unwrap_err().to_string().contains("panicked"));
        assert!(source.next().unwrap().is_none());
    }
}

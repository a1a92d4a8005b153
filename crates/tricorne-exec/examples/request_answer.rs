//! Many callers ask a few model workers and each gets its own answer: a promise for each request, so equal prompts are
//! never mixed up, an answer that comes too late goes nowhere, and a model that fails is an error and not a silence.
//!
//! `cargo run -p tricorne-exec --example request_answer`

use std::time::Duration;
use std::{panic, thread};

use tricorne_exec::{Future, Promise, TaskError, TaskResult, promise};
use tricorne_sync::Queue;

struct Request {
    prompt: String,
    answer: Promise<String>,
}

/// The caller's side: a bounded queue in front of the workers.
struct Model {
    requests: Queue<Request>,
}

impl Model {
    fn ask(&self, prompt: &str) -> Future<String> {
        let (answer, future) = promise();
        // If the model is closed, the promise is dropped and the future says so.
        let _ = self.requests.put(Request { prompt: prompt.to_owned(), answer });
        future
    }

    fn ask_within(&self, prompt: &str, patience: Duration) -> Option<TaskResult<String>> {
        self.ask(prompt).result_timeout(patience).ok()
    }

    fn work(&self) {
        while let Ok(Request { prompt, answer }) = self.requests.get() {
            // What panics inside is the outcome of this request; the worker goes on.
            answer.run(|| think(&prompt));
        }
    }
}

fn think(prompt: &str) -> String {
    match prompt {
        "crash" => panic!("the model cannot answer `crash`"),
        "slow" => thread::sleep(Duration::from_millis(50)),
        _ => {}
    }
    format!("{prompt}!")
}

fn main() {
    const CALLERS: usize = 30;
    // The panic that is shown here becomes an error; nothing needs to be printed for it.
    panic::set_hook(Box::new(|_| {}));
    let model = Model { requests: Queue::bounded(8) };
    let answered = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| model.work());
        }
        let callers: Vec<_> = (0..CALLERS)
            .map(|n| {
                let model = &model;
                // Every third prompt is the same: equal prompts are different requests.
                let prompt = if n % 3 == 0 { "same".to_owned() } else { format!("prompt {n}") };
                scope.spawn(move || model.ask(&prompt).result() == Ok(format!("{prompt}!")))
            })
            .collect();
        let answered =
            callers.into_iter().filter_map(|caller| caller.join().ok()).filter(|right| *right).count();

        let crashed = model.ask("crash").result();
        assert!(matches!(crashed, Err(TaskError::Panicked { ref message, .. }) if message.contains("crash")));
        assert_eq!(
            model.ask_within("slow", Duration::from_millis(1)),
            None,
            "too late is an error of its own"
        );
        assert_eq!(model.ask("slow").result(), Ok("slow!".to_owned()), "the late answer went to nobody else");
        model.requests.close();
        assert_eq!(model.ask("after closing").result(), Err(TaskError::Abandoned));
        answered
    });
    assert_eq!(answered, CALLERS, "everybody got their own answer");
    println!(
        "{answered} callers, 3 workers: each got its own answer; a crash, a late answer and a closed model are errors"
    );
}

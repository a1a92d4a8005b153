//! Functions that workers can be asked to run: named in the program, which is the same in every process.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec::{decode, encode};
use super::engine::Definition;
use super::message::Message;
use super::template::{Host, serve_template};
use super::worker::{Handler, Reply};
use crate::error::TaskError;
use crate::panics;

/// What the program is started with to become a template.
pub(crate) const TEMPLATE_ARGUMENT: &str = "--tricorne-process-template";

/// The program that runs, whatever has become of its file.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// Whether [`worker_main`] was called and has found that it is not a plain start of the program.
static IS_SERVED: AtomicBool = AtomicBool::new(false);

/// A function that worker processes can run.
///
/// It has a name, since its address means nothing to another process, and is usually a `static`. It must be in the
/// [`Registry`] that `main` gives to [`worker_main`]. Several arguments are a tuple.
///
/// # Examples
///
/// ```
/// use tricorne_exec::process::Function;
///
/// static POWER: Function<(u64, u32), u64> = Function::new("power", |(base, exponent)| base.pow(exponent));
/// assert_eq!(POWER.name(), "power");
/// ```
pub struct Function<A, R> {
    name: &'static str,
    call: fn(A) -> R,
    definition: OnceLock<Arc<Definition>>,
}

impl<A, R> Function<A, R> {
    /// A function under a name that no other one of the program has.
    #[must_use]
    pub const fn new(name: &'static str, call: fn(A) -> R) -> Self {
        Self { name, call, definition: OnceLock::new() }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn definition(&self) -> &Arc<Definition> {
        self.definition.get_or_init(|| Definition::new(Message::new(self.name.as_bytes().to_vec())))
    }
}

impl<A, R> fmt::Debug for Function<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a task has no result though its worker lives.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    Panicked { message: String, location: Option<String> },
    Unsent { message: String },
}

pub(crate) fn failure(message: Message) -> TaskError {
    match decode(message) {
        Ok(Failure::Panicked { message, location }) => TaskError::Panicked { message, location },
        Ok(Failure::Unsent { message }) | Err(message) => TaskError::Transport { message },
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self { failed: true, message: encode(&failure).unwrap_or_default() }
    }
}

type Erased = Arc<dyn Fn(Message) -> Reply + Send + Sync>;

/// The functions of a program, by name.
#[derive(Default, Clone)]
pub struct Registry {
    functions: HashMap<&'static str, Erased>,
}

impl Registry {
    /// One without functions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this function.
    ///
    /// # Panics
    /// If there is one of that name.
    #[must_use]
    pub fn with<A, R>(mut self, function: &Function<A, R>) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let call = function.call;
        let erased = move |argument| {
            let argument: A = match decode(argument) {
                Ok(argument) => argument,
                Err(message) => return Failure::Unsent { message }.into(),
            };
            match panics::catch(|| call(argument)) {
                Ok(result) => match encode(&result) {
                    Ok(message) => Reply { failed: false, message },
                    Err(message) => Failure::Unsent { message }.into(),
                },
                Err(TaskError::Panicked { message, location }) => {
                    Failure::Panicked { message, location }.into()
                }
                Err(other) => Failure::Unsent { message: other.to_string() }.into(),
            }
        };
        let former = self.functions.insert(function.name, Arc::new(erased));
        assert!(former.is_none(), "two functions are called `{}`", function.name);
        self
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.functions.keys()).finish()
    }
}

impl Host for Registry {
    fn worker(&mut self) -> Box<dyn Handler + '_> {
        panics::install_hook();
        Box::new(Functions { registry: self, known: HashMap::new() })
    }
}

/// The functions that a worker was told, by the engine's numbers.
struct Functions<'a> {
    registry: &'a Registry,
    known: HashMap<u64, Result<Erased, String>>,
}

impl Handler for Functions<'_> {
    fn define(&mut self, function: u64, definition: Message) {
        let name = String::from_utf8_lossy(&definition.payload);
        let found = self.registry.functions.get(&*name).cloned();
        self.known
            .insert(function, found.ok_or_else(|| format!("no function `{name}` is registered in `main`")));
    }

    fn run(&mut self, function: u64, argument: Message) -> Reply {
        match self.known.get(&function) {
            Some(Ok(function)) => function(argument),
            Some(Err(message)) => Failure::Unsent { message: message.clone() }.into(),
            None => Failure::Unsent { message: "the function was not sent".to_owned() }.into(),
        }
    }

    fn explain(&self, failed: &Message) -> String {
        failure(failed.clone()).to_string()
    }
}

/// Makes the program able to serve as a worker of its own pools. To be called first in `main`, which returns if this says so.
///
/// A [`ProcessPoolExecutor`](super::ProcessPoolExecutor) starts the program a second time for its worker processes. There
/// this function does the work, and returns when the pool has ended; in a program that somebody else has started it returns
/// `None` at once. Whatever stands before it in `main` is run in the template too.
///
/// # Examples
///
/// ```no_run
/// use std::process::ExitCode;
/// use tricorne_exec::process::{Function, ProcessPoolExecutor, Registry, worker_main};
///
/// static SQUARE: Function<u64, u64> = Function::new("square", |n| n * n);
///
/// fn main() -> ExitCode {
///     if let Some(code) = worker_main(std::env::args_os(), Registry::new().with(&SQUARE)) {
///         return code;
///     }
///     let pool = ProcessPoolExecutor::builder().workers(2).build().expect("processes");
///     assert_eq!(pool.submit(&SQUARE, 7).result(), Ok(49));
///     ExitCode::SUCCESS
/// }
/// ```
pub fn worker_main(arguments: impl IntoIterator<Item = OsString>, functions: Registry) -> Option<ExitCode> {
    if arguments.into_iter().nth(1).is_none_or(|argument| argument != TEMPLATE_ARGUMENT) {
        return None;
    }
    IS_SERVED.store(true, Ordering::Relaxed);
    let mut functions = functions;
    Some(match serve_template(&mut functions) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Whether this process was started to be a template and does not know it. It must not make pools: each would start it
/// again.
pub(crate) fn hook_was_missed() -> bool {
    let is_template = std::fs::read("/proc/self/cmdline")
        .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(TEMPLATE_ARGUMENT.as_bytes()));
    is_template && !IS_SERVED.load(Ordering::Relaxed)
}

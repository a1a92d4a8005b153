//! Why the command could not run: a message, its causes, and what to do.

use std::error::Error;

use tricorne_pipeline::error::RunError;
use tricorne_pipeline::plan::PlanErrors;

/// What is printed before exit code 2.
#[derive(Debug)]
pub(super) enum Failure {
    /// A plan with mistakes; they know how to show themselves.
    Plan(PlanErrors),
    /// Anything else.
    Message { message: String, causes: Vec<String>, hint: Option<String> },
}

impl Failure {
    pub(super) fn new(message: impl Into<String>, hint: Option<&str>) -> Self {
        Failure::Message { message: message.into(), causes: Vec::new(), hint: hint.map(str::to_owned) }
    }

    pub(super) fn of(error: &dyn Error, hint: Option<String>) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        Failure::Message { message: error.to_string(), causes, hint }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Failure::of(&error, error.hint())
    }
}

impl From<PlanErrors> for Failure {
    fn from(errors: PlanErrors) -> Self {
        Failure::Plan(errors)
    }
}

//! What can be wrong with an expression, and where.

/// The kinds of mistakes in an expression, for callers that know more than the expression does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExprErrorKind {
    /// The text is not of the language.
    Syntax,
    /// A name that is not in the column table.
    UnknownColumn {
        /// The name as written.
        name: String,
    },
    /// Values of types that do not go together.
    Type,
}

/// A mistake in an expression, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// Which kind of mistake.
    pub kind: ExprErrorKind,
    /// Where it starts, in bytes from the start of the expression.
    pub offset: usize,
    /// How many bytes it covers; 0 at the end of the expression.
    pub len: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

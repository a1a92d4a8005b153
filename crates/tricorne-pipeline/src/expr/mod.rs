//! The language of `filter` stages: conditions on the columns of a row, such as
//! `word_count >= 20 and language in ["en", "de"]`.
//!
//! [`Expr::parse`] checks names and types against a column table once, so that [`Expr::eval`] can neither
//! fail nor allocate. What the language has:
//!
//! - comparisons `==`, `!=`, `<`, `<=`, `>`, `>=` between a column and a literal or another column; numbers
//!   compare by exact value (also whole numbers with fractions), text by Unicode code points;
//! - `column in [..]` and `column not in [..]` with a list of literals;
//! - `and`, `or`, `not` and parentheses; `not` binds tighter than `and`, `and` tighter than `or`;
//! - numbers (`20`, `-1.5`, `1e3`, `10_000`), text in `"` or `'`, `true`, `false`.
//!
//! **Null.** As in SQL, a comparison with a null is neither true nor false, and `not` leaves it so; a row
//! passes only when the whole condition is true. So both `language == "en"` and `not language == "en"` drop
//! a row whose language is unknown. A float that is not a number counts as null.
//!
//! ```
//! use tricorne_pipeline::expr::{Column, ColumnType, Expr, Row, Value};
//!
//! struct Page { words: i64, language: Option<&'static str> }
//! impl Row for Page {
//!     fn get(&self, column: usize) -> Value<'_> {
//!         match column {
//!             0 => Value::Int(self.words),
//!             _ => self.language.map_or(Value::Null, Value::Text),
//!         }
//!     }
//! }
//!
//! let columns = [Column::new("word_count", ColumnType::Int), Column::new("language", ColumnType::Text)];
//! let keep = Expr::parse("word_count >= 20 and language == 'en'", &columns)?;
//! assert!(keep.eval(&Page { words: 25, language: Some("en") }));
//! assert!(!keep.eval(&Page { words: 25, language: None }));
//! # Ok::<(), tricorne_pipeline::expr::ExprError>(())
//! ```

mod error;
mod eval;
mod lexer;
pub(crate) mod nearest;
mod parser;
mod print;
#[cfg(test)]
mod tests;

pub use error::{ExprError, ExprErrorKind};
use eval::Node;

/// What kind of value a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// A whole number of 64 bits.
    Int,
    /// A number with a fraction, of 64 bits.
    Float,
    /// Unicode text.
    Text,
    /// True or false.
    Bool,
}

impl ColumnType {
    /// The type in words, for messages: "a whole number", "a number", "text", "true or false".
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            ColumnType::Int => "a whole number",
            ColumnType::Float => "a number",
            ColumnType::Text => "text",
            ColumnType::Bool => "true or false",
        }
    }

    /// Whether values of the two types can be compared with each other.
    fn comparable_with(self, other: ColumnType) -> bool {
        let number = |kind| matches!(kind, ColumnType::Int | ColumnType::Float);
        self == other || (number(self) && number(other))
    }
}

/// One column of the table that an expression is checked against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// The name, as expressions and output files spell it.
    pub name: String,
    /// What its values are.
    pub kind: ColumnType,
}

impl Column {
    /// A column of that name and type.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Column { name: name.into(), kind }
    }
}

/// The value of one column in one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A whole number.
    Int(i64),
    /// A number with a fraction; not-a-number counts as null.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// True or false.
    Bool(bool),
    /// No value.
    Null,
}

/// A row that an expression can be evaluated on.
pub trait Row {
    /// The value of the column with this index in the table given to [`Expr::parse`].
    ///
    /// A value of another type than the table promised counts as null.
    fn get(&self, column: usize) -> Value<'_>;
}

/// A column that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRef {
    /// Its index in the table given to [`Expr::parse`].
    pub index: usize,
    /// Its name.
    pub name: String,
}

/// A checked condition on the columns of a row.
///
/// Its `Display` form is canonical: equal conditions that differ only in spacing, quotes, parentheses,
/// `not` pushed in or out, or the order of an `in` list print the same, and parsing the print gives an equal
/// expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    root: Node,
    /// Sorted by index, without repetition.
    columns: Vec<ColumnRef>,
}

impl Expr {
    /// Parses `source` and checks it against the columns that rows will have.
    ///
    /// # Errors
    /// The first mistake, with its byte offset: a word that is not in the language, an unknown column, a
    /// comparison of different types, a chained comparison, something after the end, or too deep nesting.
    pub fn parse(source: &str, columns: &[Column]) -> Result<Expr, ExprError> {
        let root = parser::parse(source, columns)?;
        let mut indices = Vec::new();
        root.for_each_column(&mut |index| indices.push(index));
        indices.sort_unstable();
        indices.dedup();
        let columns =
            indices.into_iter().map(|index| ColumnRef { index, name: columns[index].name.clone() }).collect();
        Ok(Expr { root, columns })
    }

    /// The columns that the expression reads, by rising index, each once.
    #[must_use]
    pub fn columns(&self) -> &[ColumnRef] {
        &self.columns
    }

    /// Whether the condition is true for the row; false and unknown (null) are both `false`.
    pub fn eval(&self, row: &impl Row) -> bool {
        self.root.is_true(row)
    }
}

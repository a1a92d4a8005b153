//! The checked form of a condition, and its evaluation.
//!
//! The tree has no `not`: the parser pushes it down to the comparisons (`not a < b` is `a >= b`). In such a
//! tree "unknown" can be treated as false: `and` and `or` cannot tell them apart in the end, so three-valued
//! logic costs nothing at run time.

use std::cmp::Ordering;

use super::{Row, Value};

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl CompareOp {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            CompareOp::Eq => "==",
            CompareOp::Ne => "!=",
            CompareOp::Lt => "<",
            CompareOp::Le => "<=",
            CompareOp::Gt => ">",
            CompareOp::Ge => ">=",
        }
    }

    /// Whether the operator only asks for equality, which every type has.
    pub(super) fn is_equality(self) -> bool {
        matches!(self, CompareOp::Eq | CompareOp::Ne)
    }

    /// The operator that is true exactly when this one is false.
    pub(super) fn negated(self) -> CompareOp {
        match self {
            CompareOp::Eq => CompareOp::Ne,
            CompareOp::Ne => CompareOp::Eq,
            CompareOp::Lt => CompareOp::Ge,
            CompareOp::Le => CompareOp::Gt,
            CompareOp::Gt => CompareOp::Le,
            CompareOp::Ge => CompareOp::Lt,
        }
    }

    /// The operator for exchanged operands: `a < b` is `b > a`.
    pub(super) fn swapped(self) -> CompareOp {
        match self {
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::Le => CompareOp::Ge,
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::Ge => CompareOp::Le,
            equality => equality,
        }
    }

    #[inline]
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            CompareOp::Eq => ordering.is_eq(),
            CompareOp::Ne => ordering.is_ne(),
            CompareOp::Lt => ordering.is_lt(),
            CompareOp::Le => ordering.is_le(),
            CompareOp::Gt => ordering.is_gt(),
            CompareOp::Ge => ordering.is_ge(),
        }
    }
}

/// A constant; floats are finite.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Int(i64),
    Float(f64),
    Text(String),
    Bool(bool),
}

impl Literal {
    #[inline]
    pub(super) fn as_value(&self) -> Value<'_> {
        match self {
            Literal::Int(value) => Value::Int(*value),
            Literal::Float(value) => Value::Float(*value),
            Literal::Text(value) => Value::Text(value),
            Literal::Bool(value) => Value::Bool(*value),
        }
    }
}

/// A condition whose negations stand at its leaves.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Constant(bool),
    /// A column of true and false that must be `expected`.
    Flag {
        column: usize,
        expected: bool,
    },
    CompareLiteral {
        column: usize,
        op: CompareOp,
        literal: Literal,
    },
    CompareColumns {
        left: usize,
        op: CompareOp,
        right: usize,
    },
    /// Membership in `members`, which are sorted by [`compare`] and differ from each other.
    In {
        column: usize,
        members: Vec<Literal>,
        negated: bool,
    },
    /// All of two or more; no member is itself an `All`.
    All(Vec<Node>),
    /// Any of two or more; no member is itself an `Any`.
    Any(Vec<Node>),
}

impl Node {
    pub(super) fn is_true(&self, row: &impl Row) -> bool {
        match self {
            Node::Constant(value) => *value,
            Node::Flag { column, expected } => row.get(*column) == Value::Bool(*expected),
            Node::CompareLiteral { column, op, literal } => {
                compare(row.get(*column), literal.as_value()).is_some_and(|ordering| op.holds(ordering))
            }
            Node::CompareColumns { left, op, right } => {
                compare(row.get(*left), row.get(*right)).is_some_and(|ordering| op.holds(ordering))
            }
            Node::In { column, members, negated } => {
                contains(members, row.get(*column)).is_some_and(|is| is != *negated)
            }
            Node::All(nodes) => nodes.iter().all(|node| node.is_true(row)),
            Node::Any(nodes) => nodes.iter().any(|node| node.is_true(row)),
        }
    }

    /// The condition that is true exactly when this one is false; unknown stays unknown.
    pub(super) fn negated(self) -> Node {
        match self {
            Node::Constant(value) => Node::Constant(!value),
            Node::Flag { column, expected } => Node::Flag { column, expected: !expected },
            Node::CompareLiteral { column, op, literal } => {
                Node::CompareLiteral { column, op: op.negated(), literal }
            }
            Node::CompareColumns { left, op, right } => {
                Node::CompareColumns { left, op: op.negated(), right }
            }
            Node::In { column, members, negated } => Node::In { column, members, negated: !negated },
            Node::All(nodes) => Node::Any(nodes.into_iter().map(Node::negated).collect()),
            Node::Any(nodes) => Node::All(nodes.into_iter().map(Node::negated).collect()),
        }
    }

    pub(super) fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Node::Constant(_) => {}
            Node::Flag { column, .. } | Node::CompareLiteral { column, .. } | Node::In { column, .. } => {
                visit(*column);
            }
            Node::CompareColumns { left, right, .. } => {
                visit(*left);
                visit(*right);
            }
            Node::All(nodes) | Node::Any(nodes) => {
                for node in nodes {
                    node.for_each_column(visit);
                }
            }
        }
    }
}

/// Whether the sorted `members` have the value; `None` for null.
fn contains(members: &[Literal], value: Value<'_>) -> Option<bool> {
    let mut low = 0;
    let mut high = members.len();
    // A value that compares with one member compares with all: the parser let only one type in.
    compare(members.first()?.as_value(), value)?;
    while low < high {
        let middle = usize::midpoint(low, high);
        match compare(members[middle].as_value(), value)? {
            Ordering::Equal => return Some(true),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Some(false)
}

/// The order of two values; `None` when one is null or not a number, or their types differ.
#[inline]
pub(super) fn compare(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(&right)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(&right),
        (Value::Int(left), Value::Float(right)) => compare_int_float(left, right),
        (Value::Float(left), Value::Int(right)) => compare_int_float(right, left).map(Ordering::reverse),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(&right)),
        _ => None,
    }
}

/// Compares by exact value: converting the whole number to a float first would round above 2^53.
fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        None
    } else if float >= TWO_POW_63 {
        Some(Ordering::Less)
    } else if float < -TWO_POW_63 {
        Some(Ordering::Greater)
    } else {
        let whole = float.trunc();
        Some(int.cmp(&(whole as i64)).then_with(|| whole.total_cmp(&float)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_and_fractions_compare_by_exact_value() {
        use Ordering::{Equal, Greater, Less};
        for (int, float, expected) in [
            (3, 3.0, Equal),
            (3, 3.5, Less),
            (-3, -3.5, Greater),
            (0, -0.5, Greater),
            (0, 0.5, Less),
            ((1 << 53) + 1, 9_007_199_254_740_992.0, Greater),
            (i64::MAX, 9_223_372_036_854_775_807.0, Less),
            (i64::MIN, -9_223_372_036_854_775_808.0, Equal),
            (i64::MIN, f64::NEG_INFINITY, Greater),
            (i64::MAX, f64::INFINITY, Less),
        ] {
            assert_eq!(compare(Value::Int(int), Value::Float(float)), Some(expected), "{int} {float}");
            assert_eq!(
                compare(Value::Float(float), Value::Int(int)),
                Some(expected.reverse()),
                "{float} {int}"
            );
        }
        assert_eq!(compare(Value::Int(0), Value::Float(-0.0)), Some(Equal));
        assert_eq!(compare(Value::Int(0), Value::Float(f64::NAN)), None);
        assert_eq!(compare(Value::Int(0), Value::Text("0")), None);
    }
}

//! The canonical text of an expression.

use std::fmt::{self, Display, Formatter, Write as _};

use super::Expr;
use super::eval::{Literal, Node};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.print(&self.root, f)
    }
}

impl Expr {
    fn print(&self, node: &Node, f: &mut Formatter<'_>) -> fmt::Result {
        match node {
            Node::Constant(value) => write!(f, "{value}"),
            Node::Flag { column, expected: true } => f.write_str(self.name(*column)),
            Node::Flag { column, expected: false } => write!(f, "not {}", self.name(*column)),
            Node::CompareLiteral { column, op, literal } => {
                write!(f, "{} {} ", self.name(*column), op.as_str())?;
                print_literal(literal, f)
            }
            Node::CompareColumns { left, op, right } => {
                write!(f, "{} {} {}", self.name(*left), op.as_str(), self.name(*right))
            }
            Node::In { column, members, negated } => {
                write!(f, "{} {}in [", self.name(*column), if *negated { "not " } else { "" })?;
                for (place, member) in members.iter().enumerate() {
                    f.write_str(if place == 0 { "" } else { ", " })?;
                    print_literal(member, f)?;
                }
                f.write_char(']')
            }
            Node::All(nodes) => self.print_joined(nodes, " and ", f),
            Node::Any(nodes) => self.print_joined(nodes, " or ", f),
        }
    }

    fn print_joined(&self, nodes: &[Node], joint: &str, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, node) in nodes.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { joint })?;
            // An `and` inside an `or` would need none, but readers do.
            if matches!(node, Node::All(_) | Node::Any(_)) {
                f.write_char('(')?;
                self.print(node, f)?;
                f.write_char(')')?;
            } else {
                self.print(node, f)?;
            }
        }
        Ok(())
    }

    fn name(&self, index: usize) -> &str {
        let place = self.columns.binary_search_by_key(&index, |column| column.index);
        place.map_or("", |place| &self.columns[place].name)
    }
}

fn print_literal(literal: &Literal, f: &mut Formatter<'_>) -> fmt::Result {
    match literal {
        Literal::Int(value) => write!(f, "{value}"),
        // The debug form keeps the point (`20.0`), and so the type.
        Literal::Float(value) => write!(f, "{value:?}"),
        Literal::Bool(value) => write!(f, "{value}"),
        Literal::Text(value) => {
            f.write_char('"')?;
            for c in value.chars() {
                match c {
                    '"' => f.write_str("\\\"")?,
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    other => f.write_char(other)?,
                }
            }
            f.write_char('"')
        }
    }
}

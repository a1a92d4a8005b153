//! Recursive descent from tokens to a checked condition.

use std::ops::Range;

use super::error::{ExprError, ExprErrorKind};
use super::eval::{CompareOp, Literal, Node, compare};
use super::lexer::{Spanned, Token, syntax, tokens};
use super::nearest::{nearest, word_list};
use super::{Column, ColumnType};

/// How deep parentheses may nest; more is a mistake or an attack on the stack.
const MAX_DEPTH: usize = 64;

/// What a part of an expression is, until its use decides whether that is right.
enum Term {
    Condition(Node),
    Value(Operand),
}

/// A side of a comparison.
enum Operand {
    Column(usize),
    Literal(Literal),
}

/// A term with its place in the source.
struct Placed {
    term: Term,
    span: Range<usize>,
}

struct Parser<'s> {
    source: &'s str,
    columns: &'s [Column],
    tokens: Vec<Spanned<'s>>,
    next: usize,
    depth: usize,
}

/// Parses the whole of `source`.
pub(super) fn parse(source: &str, columns: &[Column]) -> Result<Node, ExprError> {
    let mut parser = Parser { source, columns, tokens: tokens(source)?, next: 0, depth: 0 };
    if matches!(parser.peek(), Token::End) {
        let hint = Some("write a condition, as in `word_count >= 20`".into());
        return Err(syntax(&(0..0), "the condition is empty".into(), hint));
    }
    let term = parser.any()?;
    if !matches!(parser.peek(), Token::End) {
        let span = parser.span();
        let hint = match parser.peek() {
            Token::CloseParen => "no parenthesis is open here",
            _ => "join conditions with `and` or `or`",
        };
        return Err(syntax(
            &span,
            format!("unexpected {} after the condition", parser.written(&span)),
            Some(hint.into()),
        ));
    }
    parser.condition(term)
}

impl<'s> Parser<'s> {
    fn peek(&self) -> &Token<'s> {
        &self.tokens[self.next].token
    }

    fn span(&self) -> Range<usize> {
        self.tokens[self.next].span.clone()
    }

    /// Steps over the current token; the last one, the end, stays.
    fn advance(&mut self) {
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
    }

    fn accept(&mut self, token: &Token<'_>) -> bool {
        let found = self.peek() == token;
        if found {
            self.advance();
        }
        found
    }

    /// The source at `span` for a message.
    fn written(&self, span: &Range<usize>) -> String {
        if span.is_empty() { "the end".into() } else { format!("`{}`", &self.source[span.clone()]) }
    }

    fn any(&mut self) -> Result<Placed, ExprError> {
        self.chain(&Token::Or, Self::all, |nodes| {
            Node::Any(flatten(nodes, |node| match node {
                Node::Any(inner) => Ok(inner),
                other => Err(other),
            }))
        })
    }

    fn all(&mut self) -> Result<Placed, ExprError> {
        self.chain(&Token::And, Self::negation, |nodes| {
            Node::All(flatten(nodes, |node| match node {
                Node::All(inner) => Ok(inner),
                other => Err(other),
            }))
        })
    }

    /// Operands joined by one operator, or a single operand as it is.
    fn chain(
        &mut self,
        joint: &Token<'_>,
        operand: fn(&mut Self) -> Result<Placed, ExprError>,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Placed, ExprError> {
        let first = operand(self)?;
        if self.peek() != joint {
            return Ok(first);
        }
        let mut span = first.span.clone();
        let mut nodes = vec![self.condition(first)?];
        while self.accept(joint) {
            let next = operand(self)?;
            span.end = next.span.end;
            nodes.push(self.condition(next)?);
        }
        Ok(Placed { term: Term::Condition(join(nodes)), span })
    }

    fn negation(&mut self) -> Result<Placed, ExprError> {
        let start = self.span().start;
        let mut negations = 0_usize;
        while self.accept(&Token::Not) {
            negations += 1;
        }
        let term = self.comparison()?;
        if negations == 0 {
            return Ok(term);
        }
        let span = start..term.span.end;
        let node = self.condition(term)?;
        let node = if negations % 2 == 1 { node.negated() } else { node };
        Ok(Placed { term: Term::Condition(node), span })
    }

    fn comparison(&mut self) -> Result<Placed, ExprError> {
        let left = self.operand()?;
        let operator = self.span();
        match *self.peek() {
            Token::Compare(op) => {
                self.advance();
                let right = self.operand().map_err(|error| self.quote_hint(error, &left))?;
                if matches!(self.peek(), Token::Compare(_)) {
                    return Err(self.chained(&left, &operator, &right));
                }
                let span = left.span.start..right.span.end;
                let node = self.compared(&left, op, &right)?;
                Ok(Placed { term: Term::Condition(node), span })
            }
            Token::In => {
                self.advance();
                self.membership(&left, false)
            }
            Token::Not if self.tokens.get(self.next + 1).is_some_and(|next| next.token == Token::In) => {
                self.advance();
                self.advance();
                self.membership(&left, true)
            }
            _ => Ok(left),
        }
    }

    fn operand(&mut self) -> Result<Placed, ExprError> {
        let span = self.span();
        let operand = match self.peek().clone() {
            Token::Name(name) => Operand::Column(self.column(name, &span)?),
            Token::Int(value) => Operand::Literal(Literal::Int(value)),
            Token::Float(value) => Operand::Literal(Literal::Float(value)),
            Token::Text(value) => Operand::Literal(Literal::Text(value)),
            Token::True => Operand::Literal(Literal::Bool(true)),
            Token::False => Operand::Literal(Literal::Bool(false)),
            Token::OpenParen => return self.parenthesis(),
            _ => {
                let message = format!("expected a column or a value, found {}", self.written(&span));
                return Err(syntax(&span, message, None));
            }
        };
        self.advance();
        Ok(Placed { term: Term::Value(operand), span })
    }

    fn parenthesis(&mut self) -> Result<Placed, ExprError> {
        let open = self.span();
        if self.depth == MAX_DEPTH {
            let message = format!("parentheses nest deeper than `{MAX_DEPTH}`");
            return Err(syntax(
                &open,
                message,
                Some("split the condition into several `filter` stages".into()),
            ));
        }
        self.advance();
        self.depth += 1;
        let inner = self.any()?;
        self.depth -= 1;
        let close = self.span();
        if !self.accept(&Token::CloseParen) {
            let message = format!("expected `)`, found {}", self.written(&close));
            let hint = format!(
                "close the parenthesis opened at character {}",
                self.source[..=open.start].chars().count()
            );
            return Err(syntax(&close, message, Some(hint)));
        }
        Ok(Placed { term: inner.term, span: open.start..close.end })
    }

    fn column(&self, name: &str, span: &Range<usize>) -> Result<usize, ExprError> {
        if let Some(index) = self.columns.iter().position(|column| column.name == name) {
            return Ok(index);
        }
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.columns.is_empty() => "rows have no columns here".into(),
            None => format!("the columns are {}", word_list(names(), "and")),
        };
        Err(ExprError {
            kind: ExprErrorKind::UnknownColumn { name: name.into() },
            offset: span.start,
            len: span.len(),
            message: format!("there is no column `{name}`"),
            hint: Some(hint),
        })
    }

    /// A name that is no column, compared with a text column, was probably meant as text.
    fn quote_hint(&self, mut error: ExprError, left: &Placed) -> ExprError {
        if let (ExprErrorKind::UnknownColumn { name }, Some(ColumnType::Text)) =
            (&error.kind, self.kind(left))
        {
            error.hint = Some(format!("put text in quotes: `'{name}'`"));
        }
        error
    }

    /// The type of a column or literal; `None` for a condition.
    fn kind(&self, placed: &Placed) -> Option<ColumnType> {
        match &placed.term {
            Term::Condition(_) => None,
            Term::Value(operand) => Some(self.operand_kind(operand)),
        }
    }

    fn operand_kind(&self, operand: &Operand) -> ColumnType {
        match operand {
            Operand::Column(index) => self.columns[*index].kind,
            Operand::Literal(Literal::Int(_)) => ColumnType::Int,
            Operand::Literal(Literal::Float(_)) => ColumnType::Float,
            Operand::Literal(Literal::Text(_)) => ColumnType::Text,
            Operand::Literal(Literal::Bool(_)) => ColumnType::Bool,
        }
    }

    /// The term as a condition, where one is needed.
    fn condition(&self, placed: Placed) -> Result<Node, ExprError> {
        let operand = match placed.term {
            Term::Condition(node) => return Ok(node),
            Term::Value(operand) => operand,
        };
        match (self.operand_kind(&operand), operand) {
            (_, Operand::Literal(Literal::Bool(value))) => Ok(Node::Constant(value)),
            (ColumnType::Bool, Operand::Column(column)) => Ok(Node::Flag { column, expected: true }),
            (kind, _) => {
                let (written, kind) = (self.written(&placed.span), kind.describe());
                let hint = "compare it with something, as in `word_count >= 20`";
                Err(type_error(
                    &placed.span,
                    format!("{written} is {kind}, not a condition"),
                    Some(hint.into()),
                ))
            }
        }
    }

    fn compared(&self, left: &Placed, op: CompareOp, right: &Placed) -> Result<Node, ExprError> {
        let span = left.span.start..right.span.end;
        let (Term::Value(first), Term::Value(second)) = (&left.term, &right.term) else {
            let hint = "join conditions with `and`, `or` and `not`";
            return Err(type_error(
                &span,
                format!("`{}` compares conditions, not values", op.as_str()),
                Some(hint.into()),
            ));
        };
        let (left_kind, right_kind) = (self.operand_kind(first), self.operand_kind(second));
        if !left_kind.comparable_with(right_kind) {
            return Err(self.mismatch(left, left_kind, right, right_kind));
        }
        if left_kind == ColumnType::Bool && !op.is_equality() {
            let message = format!("`{}` does not order true and false", op.as_str());
            return Err(type_error(&span, message, Some("use `==` or `!=`".into())));
        }
        Ok(match (first, second) {
            (&Operand::Column(column), Operand::Literal(literal)) => {
                compare_literal(column, op, literal.clone())
            }
            (Operand::Literal(literal), &Operand::Column(column)) => {
                compare_literal(column, op.swapped(), literal.clone())
            }
            (&Operand::Column(left), &Operand::Column(right)) => Node::CompareColumns { left, op, right },
            (Operand::Literal(left), Operand::Literal(right)) => Node::Constant(
                compare(left.as_value(), right.as_value()).is_some_and(|ordering| op.holds(ordering)),
            ),
        })
    }

    fn membership(&mut self, left: &Placed, negated: bool) -> Result<Placed, ExprError> {
        let Term::Value(Operand::Column(column)) = left.term else {
            let message = format!("{} is not a column", self.written(&left.span));
            return Err(type_error(&left.span, message, Some("`in` asks for a column on its left".into())));
        };
        let open = self.span();
        if !self.accept(&Token::OpenBracket) {
            let message = format!("expected `[` after `in`, found {}", self.written(&open));
            return Err(syntax(
                &open,
                message,
                Some("write a list, as in `language in ['en', 'de']`".into()),
            ));
        }
        let mut members = Vec::new();
        let close = loop {
            let close = self.span();
            if self.accept(&Token::CloseBracket) {
                break close;
            }
            members.push(self.member(left)?);
            let after = self.span();
            if !self.accept(&Token::Comma) && *self.peek() != Token::CloseBracket {
                let message = format!("expected `,` or `]`, found {}", self.written(&after));
                return Err(syntax(&after, message, None));
            }
        };
        if members.is_empty() {
            let hint = "list at least one value";
            return Err(syntax(
                &(open.start..close.end),
                "the list after `in` is empty".into(),
                Some(hint.into()),
            ));
        }
        // Equal lists in another order are the same condition, so they get the same form; of an equal whole
        // number and fraction the whole number stays.
        members.sort_by(|a, b| {
            let fraction = |literal: &Literal| matches!(literal, Literal::Float(_));
            compare(a.as_value(), b.as_value())
                .unwrap_or(std::cmp::Ordering::Equal)
                .then_with(|| fraction(a).cmp(&fraction(b)))
        });
        members.dedup_by(|a, b| compare(a.as_value(), b.as_value()).is_some_and(std::cmp::Ordering::is_eq));
        let term = Term::Condition(Node::In { column, members, negated });
        Ok(Placed { term, span: left.span.start..close.end })
    }

    fn member(&mut self, left: &Placed) -> Result<Literal, ExprError> {
        let member = self.operand().map_err(|error| self.quote_hint(error, left))?;
        if let (Some(left_kind), Some(kind)) = (self.kind(left), self.kind(&member))
            && !left_kind.comparable_with(kind)
        {
            return Err(self.mismatch(left, left_kind, &member, kind));
        }
        match member.term {
            Term::Value(Operand::Literal(literal)) => Ok(literal),
            Term::Value(Operand::Column(_)) | Term::Condition(_) => {
                let message = format!("{} is not a literal", self.written(&member.span));
                Err(type_error(
                    &member.span,
                    message,
                    Some("a list has only numbers or only text in quotes".into()),
                ))
            }
        }
    }

    fn mismatch(
        &self,
        left: &Placed,
        left_kind: ColumnType,
        right: &Placed,
        right_kind: ColumnType,
    ) -> ExprError {
        let message = format!(
            "{} is {} and {} is {}: they cannot be compared",
            self.written(&left.span),
            left_kind.describe(),
            self.written(&right.span),
            right_kind.describe()
        );
        let number_in_quotes = [left, right].into_iter().find_map(|placed| match &placed.term {
            Term::Value(Operand::Literal(Literal::Text(text)))
                if text.parse::<f64>().is_ok_and(f64::is_finite) =>
            {
                Some(text)
            }
            _ => None,
        });
        let hint = match number_in_quotes {
            Some(number) => format!("write `{number}` without quotes"),
            None if matches!(left.term, Term::Value(Operand::Column(_))) => {
                format!("compare {} with {}", self.written(&left.span), left_kind.describe())
            }
            None => format!("compare {} with {}", self.written(&right.span), right_kind.describe()),
        };
        type_error(&right.span, message, Some(hint))
    }

    fn chained(&mut self, left: &Placed, operator: &Range<usize>, right: &Placed) -> ExprError {
        let second = self.span();
        self.advance();
        let first = &self.source[left.span.start..right.span.end];
        let middle = &self.source[right.span.clone()];
        let hint = match self.operand() {
            Ok(last) => format!("write `{first} and {middle} {}`", &self.source[second.start..last.span.end]),
            Err(_) => "join two comparisons with `and`".into(),
        };
        let operators =
            format!("`{}` and `{}`", &self.source[operator.clone()], &self.source[second.clone()]);
        syntax(&second, format!("the comparisons {operators} are chained"), Some(hint))
    }
}

fn type_error(span: &Range<usize>, message: String, hint: Option<String>) -> ExprError {
    ExprError { kind: ExprErrorKind::Type, offset: span.start, len: span.len(), message, hint }
}

/// A comparison with a literal; with `true` or `false` it is the flag itself.
fn compare_literal(column: usize, op: CompareOp, literal: Literal) -> Node {
    match literal {
        Literal::Bool(value) => Node::Flag { column, expected: value == (op == CompareOp::Eq) },
        literal => Node::CompareLiteral { column, op, literal },
    }
}

/// Opens members that are of the same kind as the list they stand in.
fn flatten(nodes: Vec<Node>, open: fn(Node) -> Result<Vec<Node>, Node>) -> Vec<Node> {
    let mut flat = Vec::with_capacity(nodes.len());
    for node in nodes {
        match open(node) {
            Ok(inner) => flat.extend(inner),
            Err(node) => flat.push(node),
        }
    }
    flat
}

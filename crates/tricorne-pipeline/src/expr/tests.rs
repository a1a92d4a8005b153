//! Expressions against a naive model of three-valued logic, and the texts of their errors.

use proptest::prelude::*;

use super::{Column, ColumnType, Expr, ExprErrorKind, Row, Value};

fn columns() -> Vec<Column> {
    vec![
        Column::new("words", ColumnType::Int),
        Column::new("status", ColumnType::Int),
        Column::new("mean", ColumnType::Float),
        Column::new("language", ColumnType::Text),
        Column::new("keep", ColumnType::Bool),
    ]
}

#[derive(Clone, Debug)]
enum Cell {
    Int(i64),
    Float(f64),
    Text(String),
    Bool(bool),
    Null,
}

/// A row with the cells of [`columns`].
#[derive(Clone, Debug)]
struct Cells(Vec<Cell>);

impl Row for Cells {
    fn get(&self, column: usize) -> Value<'_> {
        match &self.0[column] {
            Cell::Int(value) => Value::Int(*value),
            Cell::Float(value) => Value::Float(*value),
            Cell::Text(value) => Value::Text(value),
            Cell::Bool(value) => Value::Bool(*value),
            Cell::Null => Value::Null,
        }
    }
}

fn cells() -> impl Strategy<Value = Cells> {
    let int = || prop_oneof![4 => (-3_i64..4).prop_map(Cell::Int), 1 => Just(Cell::Null)];
    let float = prop_oneof![
        4 => (-6_i32..8).prop_map(|halves| Cell::Float(f64::from(halves) / 2.0)),
        1 => Just(Cell::Float(f64::NAN)),
        1 => Just(Cell::Null),
    ];
    let text = prop_oneof![4 => text().prop_map(Cell::Text), 1 => Just(Cell::Null)];
    let flag = prop_oneof![4 => any::<bool>().prop_map(Cell::Bool), 1 => Just(Cell::Null)];
    (int(), int(), float, text, flag).prop_map(|(a, b, c, d, e)| Cells(vec![a, b, c, d, e]))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just("en".into()), Just("de".into()), Just(String::new()), "[a-c\"'\\\\\n\tü]{0,3}"]
}

/// A side of a comparison in the model.
#[derive(Clone, Debug)]
enum Side {
    Column(usize),
    Literal(Cell),
}

/// A condition as written, before anything is checked or simplified.
#[derive(Clone, Debug)]
enum Model {
    Constant(bool),
    Flag,
    Compare(Side, &'static str, Side),
    In(usize, Vec<Cell>, bool),
    Not(Box<Model>),
    And(Vec<Model>),
    Or(Vec<Model>),
}

fn number_side() -> impl Strategy<Value = Side> {
    prop_oneof![
        (0_usize..3).prop_map(Side::Column),
        (-3_i64..4).prop_map(|value| Side::Literal(Cell::Int(value))),
        (-6_i32..8).prop_map(|halves| Side::Literal(Cell::Float(f64::from(halves) / 2.0))),
    ]
}

fn text_side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Column(3)), text().prop_map(|value| Side::Literal(Cell::Text(value)))]
}

fn flag_side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Column(4)), any::<bool>().prop_map(|value| Side::Literal(Cell::Bool(value)))]
}

fn model() -> impl Strategy<Value = Model> {
    let order = || prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let equality = prop::sample::select(vec!["==", "!="]);
    let number = prop_oneof![
        (-3_i64..4).prop_map(Cell::Int),
        (-6_i32..8).prop_map(|halves| Cell::Float(f64::from(halves) / 2.0)),
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Model::Constant),
        Just(Model::Flag),
        (number_side(), order(), number_side()).prop_map(|(l, op, r)| Model::Compare(l, op, r)),
        (text_side(), order(), text_side()).prop_map(|(l, op, r)| Model::Compare(l, op, r)),
        (flag_side(), equality, flag_side()).prop_map(|(l, op, r)| Model::Compare(l, op, r)),
        (0_usize..3, prop::collection::vec(number, 1..4), any::<bool>())
            .prop_map(|(column, members, negated)| Model::In(column, members, negated)),
        (prop::collection::vec(text().prop_map(Cell::Text), 1..4), any::<bool>())
            .prop_map(|(members, negated)| Model::In(3, members, negated)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|model| Model::Not(Box::new(model))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Model::And),
            prop::collection::vec(inner, 2..4).prop_map(Model::Or),
        ]
    })
}

fn write_cell(cell: &Cell) -> String {
    match cell {
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => format!("{value:?}"),
        Cell::Bool(value) => value.to_string(),
        Cell::Text(value) => {
            let escaped = value.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
            format!("'{escaped}'")
        }
        Cell::Null => unreachable!("the language has no null"),
    }
}

fn write_side(side: &Side) -> String {
    match side {
        Side::Column(column) => columns()[*column].name.clone(),
        Side::Literal(cell) => write_cell(cell),
    }
}

fn write(model: &Model) -> String {
    let join = |models: &[Model], joint: &str| {
        let parts: Vec<String> = models.iter().map(|model| format!("({})", write(model))).collect();
        parts.join(joint)
    };
    match model {
        Model::Constant(value) => value.to_string(),
        Model::Flag => "keep".into(),
        Model::Compare(left, op, right) => format!("{}{op} {}", write_side(left), write_side(right)),
        Model::In(column, members, negated) => {
            let members: Vec<String> = members.iter().map(write_cell).collect();
            let not = if *negated { "not " } else { "" };
            format!("{} {not}in [{},]", columns()[*column].name, members.join(" ,"))
        }
        Model::Not(inner) => format!("not ({})", write(inner)),
        Model::And(models) => join(models, " and "),
        Model::Or(models) => join(models, "\n or "),
    }
}

/// The value of a comparison: unknown if a side is null.
fn model_compare(left: &Cell, op: &str, right: &Cell) -> Option<bool> {
    // The generated numbers are small: converting them to floats is exact.
    let number = |cell: &Cell| match cell {
        Cell::Int(value) => Some(*value as f64),
        Cell::Float(value) if !value.is_nan() => Some(*value),
        _ => None,
    };
    let ordering = match (left, right) {
        (Cell::Text(left), Cell::Text(right)) => left.chars().cmp(right.chars()),
        (Cell::Bool(left), Cell::Bool(right)) => left.cmp(right),
        _ => number(left)?.partial_cmp(&number(right)?)?,
    };
    Some(match op {
        "==" => ordering.is_eq(),
        "!=" => ordering.is_ne(),
        "<" => ordering.is_lt(),
        "<=" => ordering.is_le(),
        ">" => ordering.is_gt(),
        _ => ordering.is_ge(),
    })
}

fn model_eval(model: &Model, row: &Cells) -> Option<bool> {
    let side = |side: &Side| match side {
        Side::Column(column) => row.0[*column].clone(),
        Side::Literal(cell) => cell.clone(),
    };
    match model {
        Model::Constant(value) => Some(*value),
        Model::Flag => match row.0[4] {
            Cell::Bool(value) => Some(value),
            _ => None,
        },
        Model::Compare(left, op, right) => model_compare(&side(left), op, &side(right)),
        Model::In(column, members, negated) => {
            let mut found = false;
            for member in members {
                found |= model_compare(&row.0[*column], "==", member)?;
            }
            Some(found != *negated)
        }
        Model::Not(inner) => model_eval(inner, row).map(|value| !value),
        Model::And(models) => {
            let values: Vec<_> = models.iter().map(|model| model_eval(model, row)).collect();
            if values.contains(&Some(false)) {
                Some(false)
            } else {
                values.into_iter().collect::<Option<Vec<_>>>().map(|_| true)
            }
        }
        Model::Or(models) => {
            let values: Vec<_> = models.iter().map(|model| model_eval(model, row)).collect();
            if values.contains(&Some(true)) {
                Some(true)
            } else {
                values.into_iter().collect::<Option<Vec<_>>>().map(|_| false)
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn evaluation_equals_three_valued_logic(model in model(), rows in prop::collection::vec(cells(), 8)) {
        let source = write(&model);
        let expr = Expr::parse(&source, &columns()).map_err(|error| TestCaseError::fail(format!("{source}: {error:?}")))?;
        for row in rows {
            prop_assert_eq!(expr.eval(&row), model_eval(&model, &row) == Some(true), "{} on {:?}", source, row);
        }
    }

    #[test]
    fn the_print_parses_to_an_equal_expression(model in model()) {
        let expr = Expr::parse(&write(&model), &columns()).unwrap();
        let printed = expr.to_string();
        let again = Expr::parse(&printed, &columns());
        prop_assert_eq!(again.as_ref(), Ok(&expr), "{}", printed);
        prop_assert_eq!(again.unwrap().to_string(), printed);
    }

    #[test]
    fn any_text_gives_an_expression_or_an_error_within_it(
        parts in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "words", "language", "keep", "nope", "and", "or", "not", "in", "(", ")", "[", "]", ",", "<", "==",
                "=", "1", "-2.5", "1e999", "20k", "'en'", "\"", "\\", "true", "é", " ", "- ", "NOT", "<>",
            ]).prop_map(str::to_owned),
            "\\PC{0,2}",
        ], 0..12),
        spaced in any::<bool>(),
    ) {
        let source = parts.join(if spaced { " " } else { "" });
        if let Err(error) = Expr::parse(&source, &columns()) {
            prop_assert!(source.get(error.offset..error.offset + error.len).is_some(), "{source}: {error:?}");
            prop_assert!(!error.message.is_empty());
        }
    }
}

#[test]
fn equal_conditions_have_one_canonical_text() {
    for (source, canonical) in [
        ("words>=20", "words >= 20"),
        ("20 <= words", "words >= 20"),
        ("( ((words)) >= (20) )", "words >= 20"),
        ("not words < 20", "words >= 20"),
        ("not not words < 20", "words < 20"),
        ("not (words < 1 or keep)", "words >= 1 and not keep"),
        ("not (keep and (words < 1 or not keep))", "not keep or (words >= 1 and keep)"),
        ("(keep and words < 1) and status == 200", "keep and words < 1 and status == 200"),
        ("keep or words < 1 and status == 200", "keep or (words < 1 and status == 200)"),
        ("language not in ['en', \"de\", 'en']", "language not in [\"de\", \"en\"]"),
        ("not language in ['en']", "language not in [\"en\"]"),
        ("words in [3, 1.5, 3.0, 10_000]", "words in [1.5, 3, 10000]"),
        ("keep == true", "keep"),
        ("false == keep", "not keep"),
        ("keep != true", "not keep"),
        ("mean < -0.0", "mean < 0.0"),
        ("mean >= 1e3", "mean >= 1000.0"),
        ("language == 'a\\'b\\n\"'", "language == \"a'b\\n\\\"\""),
        ("words < status", "words < status"),
        ("1 < 2", "true"),
    ] {
        let expr = Expr::parse(source, &columns()).unwrap_or_else(|error| panic!("{source}: {error:?}"));
        assert_eq!(expr.to_string(), canonical, "{source}");
    }
}

#[test]
fn errors_say_where_what_and_the_way_out() {
    // Source, what the error points at, message, hint.
    for (source, place, message, hint) in [
        ("", "", "the condition is empty", "write a condition, as in `word_count >= 20`"),
        ("wrods > 1", "wrods", "there is no column `wrods`", "did you mean `words`?"),
        (
            "size > 1",
            "size",
            "there is no column `size`",
            "the columns are `words`, `status`, `mean`, `language` and `keep`",
        ),
        ("language == en", "en", "there is no column `en`", "put text in quotes: `'en'`"),
        ("language in [en]", "en", "there is no column `en`", "put text in quotes: `'en'`"),
        (
            "words > '20'",
            "'20'",
            "`words` is a whole number and `'20'` is text: they cannot be compared",
            "write `20` without quotes",
        ),
        (
            "language == 20",
            "20",
            "`language` is text and `20` is a whole number: they cannot be compared",
            "compare `language` with text",
        ),
        (
            "language in ['en', 3]",
            "3",
            "`language` is text and `3` is a whole number: they cannot be compared",
            "compare `language` with text",
        ),
        ("keep < true", "keep < true", "`<` does not order true and false", "use `==` or `!=`"),
        (
            "1 < words <= 20",
            "<=",
            "the comparisons `<` and `<=` are chained",
            "write `1 < words and words <= 20`",
        ),
        (
            "words > 1 status == 200",
            "status",
            "unexpected `status` after the condition",
            "join conditions with `and` or `or`",
        ),
        ("words > 1)", ")", "unexpected `)` after the condition", "no parenthesis is open here"),
        (
            "keep and (words > 1",
            "",
            "expected `)`, found the end",
            "close the parenthesis opened at character 10",
        ),
        (
            "words",
            "words",
            "`words` is a whole number, not a condition",
            "compare it with something, as in `word_count >= 20`",
        ),
        (
            "keep and 'en'",
            "'en'",
            "`'en'` is text, not a condition",
            "compare it with something, as in `word_count >= 20`",
        ),
        (
            "(words > 1) == (status > 2)",
            "(words > 1) == (status > 2)",
            "`==` compares conditions, not values",
            "join conditions with `and`, `or` and `not`",
        ),
        ("words = 1", "=", "`=` is not an operator", "write `==`"),
        ("keep && keep", "&&", "`&&` is not an operator", "write `and`"),
        ("words <> 1", "<>", "`<>` is not an operator", "write `!=`"),
        ("!keep", "!", "`!` is not an operator", "write `not`"),
        ("keep AND keep", "AND", "unexpected `AND`", "write `and`, in lower case"),
        ("words > 20k", "20k", "`20k` is not a number", "write numbers like `20`, `-1.5`, `1e3` or `10_000`"),
        (
            "words > 9223372036854775808",
            "9223372036854775808",
            "`9223372036854775808` is not a number",
            "it is too large for a whole number of 64 bits",
        ),
        ("mean > 1e999", "1e999", "`1e999` is not a number", "it is too large for a number of 64 bits"),
        ("language == 'en", "'", "the text after `'` has no end", "close it with `'`"),
        (
            "language == 'a\\q'",
            "\\q",
            "`\\q` is not an escape",
            r"the escapes are `\\`, `\n`, `\t`, `\r`, and a backslash before a quote",
        ),
        (
            "words in 3",
            "3",
            "expected `[` after `in`, found `3`",
            "write a list, as in `language in ['en', 'de']`",
        ),
        ("words in []", "[]", "the list after `in` is empty", "list at least one value"),
        (
            "words in [status]",
            "status",
            "`status` is not a literal",
            "a list has only numbers or only text in quotes",
        ),
        ("1 in [1]", "1", "`1` is not a column", "`in` asks for a column on its left"),
        (
            "words > 1 # few",
            "#",
            "unexpected `#`",
            "a condition has columns, numbers, text in quotes, comparisons, `and`, `or`, `not`, `in`",
        ),
    ] {
        let error = Expr::parse(source, &columns()).expect_err(source);
        let found =
            (&source[error.offset..error.offset + error.len], error.message.as_str(), error.hint.as_deref());
        assert_eq!(found, (place, message, Some(hint)), "{source}");
    }
    let error = Expr::parse("keep and", &columns()).unwrap_err();
    assert_eq!((error.offset, error.message.as_str()), (8, "expected a column or a value, found the end"));
    let error = Expr::parse("keep and nope", &columns()).unwrap_err();
    assert_eq!(error.kind, ExprErrorKind::UnknownColumn { name: "nope".into() });
    assert_eq!(error.offset, 9);
}

#[test]
fn deep_nesting_is_refused_and_long_chains_are_not() {
    let nested = |depth: usize| format!("{}keep{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expr::parse(&nested(64), &columns()).is_ok());
    for depth in [65, 200_000] {
        let error = Expr::parse(&nested(depth), &columns()).unwrap_err();
        assert_eq!((error.offset, error.message.as_str()), (64, "parentheses nest deeper than `64`"));
    }
    let row = Cells(vec![Cell::Int(5), Cell::Null, Cell::Null, Cell::Null, Cell::Bool(true)]);
    let negations = format!("{}keep", "not ".repeat(100_001));
    assert_eq!(Expr::parse(&negations, &columns()).unwrap().to_string(), "not keep");
    let chain = format!("keep{}", " and words > 1".repeat(100_000));
    assert!(Expr::parse(&chain, &columns()).unwrap().eval(&row));
}

#[test]
fn null_is_neither_true_nor_false() {
    let row = Cells(vec![Cell::Int(5), Cell::Null, Cell::Float(f64::NAN), Cell::Null, Cell::Null]);
    for source in [
        "language == 'en'",
        "not language == 'en'",
        "language in ['en']",
        "language not in ['en']",
        "status == status",
        "mean == mean",
        "mean != 1",
        "keep",
        "not keep",
        "not (keep and words > 1)",
    ] {
        assert!(!Expr::parse(source, &columns()).unwrap().eval(&row), "{source}");
    }
    for source in ["words == 5 or keep", "not (keep and words > 9)"] {
        assert!(Expr::parse(source, &columns()).unwrap().eval(&row), "{source}");
    }
}

#[test]
fn a_cell_of_another_type_than_promised_counts_as_null() {
    let row = Cells(vec![Cell::Text("5".into()), Cell::Null, Cell::Int(2), Cell::Int(1), Cell::Int(1)]);
    for (source, expected) in [
        ("words == 5", false),
        ("words != 5", false),
        ("language != 'en'", false),
        ("keep", false),
        ("mean == 2", true),
    ] {
        assert_eq!(Expr::parse(source, &columns()).unwrap().eval(&row), expected, "{source}");
    }
}

#[test]
fn an_expression_names_the_columns_it_reads() {
    let expr = Expr::parse("status == 200 and (words > 1 or words < status)", &columns()).unwrap();
    let read: Vec<_> = expr.columns().iter().map(|column| (column.index, column.name.as_str())).collect();
    assert_eq!(read, [(0, "words"), (1, "status")]);
}

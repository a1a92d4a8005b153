//! Runs of the product: a plan in, a report and a table out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::child::{self, Finished};
use crate::corpus::Corpus;

/// The first word with which this program is the `tricorne` command.
pub(crate) const AS_THE_COMMAND: &str = "tricorne";

/// A finished run.
pub(crate) struct Run {
    /// `run.json`.
    pub(crate) report: Value,
    /// What the process cost, from outside.
    pub(crate) cost: Finished,
    out: PathBuf,
}

impl Run {
    /// Runs a plan on the corpus, from nothing, in a process of its own. `rest` is the plan from within its sink on:
    /// more keys of the sink, if any, then the stages.
    pub(crate) fn of(corpus: &Corpus, name: &str, rest: &str, arguments: &[&str]) -> Result<Run, String> {
        let folder = corpus.scratch(name)?;
        let plan = format!(
            "[source]\nurls = {:?}\n[sink]\npath = \"out\"\n{rest}",
            corpus.urls_file.display().to_string()
        );
        let plan_path = folder.join("plan.toml");
        fs::write(&plan_path, plan)
            .map_err(|error| format!("cannot write `{}`: {error}", plan_path.display()))?;
        let program = std::env::current_exe().map_err(|error| format!("no program to run: {error}"))?;
        let mut command = Command::new(program);
        command.args([AS_THE_COMMAND, "run", "--quiet"]).args(arguments).arg(&plan_path);
        let cost = child::measure(&mut command)?;
        let out = folder.join("out");
        let report = fs::read(out.join("run.json")).map_err(|error| format!("no `run.json`: {error}"))?;
        let report = serde_json::from_slice(&report).map_err(|error| format!("`run.json`: {error}"))?;
        Ok(Run { report, cost, out })
    }

    /// A number of the report, such as `wall_secs` or `cpu_secs/total`.
    pub(crate) fn number(&self, path: &str) -> Result<f64, String> {
        self.report
            .pointer(&format!("/{path}"))
            .and_then(Value::as_f64)
            .ok_or_else(|| format!("`run.json` has no number `{path}`"))
    }

    /// Gives one row after the other to `each`: the cells of these columns, in this order.
    pub(crate) fn rows(&self, columns: &[&str], mut each: impl FnMut(&[Cell<'_>])) -> Result<(), String> {
        for shard in self.report["shards"].as_array().ok_or("`run.json` has no shards")? {
            let path = self.out.join(shard["file"].as_str().unwrap_or_default());
            read_shard(&path, columns, &mut each)
                .map_err(|error| format!("`{}`: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Removes what it wrote.
    pub(crate) fn remove(self) -> Result<(), String> {
        fs::remove_dir_all(&self.out).map_err(|error| format!("cannot remove the output: {error}"))
    }
}

/// A value of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
}

impl<'a> Cell<'a> {
    pub(crate) fn text(self) -> &'a str {
        if let Cell::Text(text) = self { text } else { "" }
    }
}

fn read_shard(
    path: &Path,
    columns: &[&str],
    each: &mut impl FnMut(&[Cell<'_>]),
) -> Result<(), Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let arrays = columns
            .iter()
            .map(|name| batch.column_by_name(name).ok_or(format!("no column `{name}`")))
            .collect::<Result<Vec<_>, _>>()?;
        let mut cells = Vec::with_capacity(arrays.len());
        for row in 0..batch.num_rows() {
            cells.clear();
            for array in &arrays {
                cells.push(if let Some(texts) = array.as_string_opt::<i32>() {
                    Cell::Text(texts.value(row))
                } else if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
                    Cell::Int(numbers.value(row))
                } else if let Some(numbers) = array.as_primitive_opt::<Float64Type>() {
                    Cell::Float(numbers.value(row))
                } else {
                    return Err(format!("no values of type `{}` are expected", array.data_type()).into());
                });
            }
            each(&cells);
        }
    }
    Ok(())
}

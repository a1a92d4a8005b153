//! Nothing is built twice: cargo builds a dependency again when it is asked for with other features, and the tests of the workspace
//! switch on features that the product alone does not need. So the wheel of the check is built with the feature `as-in-tests` of
//! `tricorne-py`, which asks for the same; this file sees to it that it does.

use std::collections::BTreeSet;

use crate::command::{Workspace, capture, cargo};

/// The feature to build the wheel with.
pub(crate) const AS_IN_TESTS: &str = "as-in-tests";

/// Compares what the wheel is made of with what the tests were made of.
///
/// # Errors
/// Names the crates that the wheel would have built again.
pub(crate) fn check(workspace: &Workspace) -> Result<(), String> {
    let tree = |words: &[&str]| {
        let mut command = cargo();
        command.current_dir(&workspace.root).args(["tree", "--prefix", "none", "--format", "{p} [{f}]"]);
        capture(command.args(words))
    };
    let tests = tree(&["--workspace", "--edges", "normal,build,dev"])?;
    let wheel = tree(&["--package", "tricorne-py", "--features", AS_IN_TESTS, "--edges", "normal,build"])?;
    let again = only_in(&wheel, &tests);
    if again.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the wheel would build these again, with other features than the tests:\n  {}\n  \
         make the feature `{AS_IN_TESTS}` of crates/tricorne-py/Cargo.toml ask for what the tests ask for",
        again.join("\n  ")
    ))
}

/// The lines of one tree that the other has not. The extension crate itself has the feature, and no tests.
fn only_in<'a>(one: &'a str, other: &'a str) -> Vec<&'a str> {
    fn lines(tree: &str) -> BTreeSet<&str> {
        let crates = tree.lines().filter(|line| !line.is_empty() && !line.starts_with("tricorne-py "));
        // The star stands where cargo does not repeat what is below.
        crates.map(|line| line.trim_end_matches(" (*)")).collect()
    }
    lines(one).difference(&lines(other)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_set_of_features_is_another_build() {
        let tests = "tricorne-py v0.1.0 []\nlibc v0.2.1 [std]\n\ntokio v1.5.0 [net,test-util] (*)\nproptest v1.0.0 [std]\n";
        let wheel = "tricorne-py v0.1.0 [as-in-tests]\nlibc v0.2.1 [std] (*)\ntokio v1.5.0 [net]\n";
        assert_eq!(only_in(wheel, tests), ["tokio v1.5.0 [net]"]);
        assert_eq!(only_in(&wheel.replace("[net]", "[net,test-util]"), tests), Vec::<&str>::new());
    }
}

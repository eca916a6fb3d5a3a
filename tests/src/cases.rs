//! Tables in which each case is a test: it has a name, and can be run by itself.
//!
//! A test binary with `harness = false` hands its cases to [`run`].

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

/// A test of this name, in which white space becomes `_`.
pub fn case(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let words: Vec<&str> = name.split_whitespace().collect();
    Trial::test(words.join("_"), || {
        test().map_err(|error| format!("{error:?}").into())
    })
}

/// Runs the tests that the command line asks for, as any test binary does.
pub fn run(cases: Vec<Trial>) -> ExitCode {
    let mut names = BTreeSet::new();
    for case in &cases {
        assert!(names.insert(case.name()), "two cases are {}", case.name());
    }
    libtest_mimic::run(&Arguments::from_args(), cases).exit_code()
}

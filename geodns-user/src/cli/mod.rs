//! The command line.
//!
//! - [`args`]: the top level: commands, options of all of them, and which module runs each
//! - `acme`, `announce`, `block`, `bundle`, `capture`, `check`, `detach`, `doctor`, `event`, `explain`, `fleet`, `map`, `mirror`, `preview`, `rollout`, `run`, `stats`, `status` (and `reload`),
//!   `top`, `zone`: the commands, each with its arguments, its requests and its text
//! - [`values`]: values that several commands take; `output`: how they print
//!
//! Exit codes: 0; 1 for a failure, with one line on standard error (`check`: a line for each error; `zone
//! check` and `doctor`: on standard output), or with `--json` as JSON on standard output; 2 for wrong
//! usage; 3 if `explain` finds that the kernel answers otherwise than it should; 4 if `preview` finds that
//! clients would move. `status --check` has those of monitoring: 0, 1 and 2.

mod acme;
mod announce;
pub mod args;
mod block;
mod bundle;
mod capture;
mod check;
mod detach;
mod doctor;
mod event;
mod explain;
mod fleet;
mod map;
mod mirror;
mod output;
mod preview;
mod rollout;
mod run;
mod stats;
mod status;
mod top;
pub mod values;
mod zone;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::base::complaint::{Error, Errors};
use crate::printable;
use args::{Arguments, Command};
use output::print;

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::of_process() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to standard output.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    // Logs of the daemon have their own format.
    let json = arguments.global.json && !matches!(arguments.command, Command::Run(_));
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        // Which has been said on standard output.
        Err(error) if error.is::<zone::Broken>() || error.is::<doctor::Problems>() => {
            ExitCode::FAILURE
        }
        Err(error) if error.is::<status::Trouble>() => {
            let trouble = error.downcast_ref::<status::Trouble>();
            trouble.map_or(ExitCode::FAILURE, |trouble| {
                ExitCode::from(trouble.exit_code())
            })
        }
        Err(error) if error.is::<preview::Moves>() => ExitCode::from(preview::MOVES),
        Err(error) => {
            // Beside an explanation, which is on standard output, a disagreement is said for people.
            if json && !error.is::<explain::Disagreement>() {
                let _ = print(&format!("{}\n", failure(&error)));
            } else {
                for line in format!("{error:#}").lines() {
                    let _ = writeln!(io::stderr(), "geodns: {}", printable::line(line));
                }
            }
            match error.is::<explain::Disagreement>() {
                true => ExitCode::from(explain::DISAGREEMENT),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// A failure, for programs.
fn failure(error: &anyhow::Error) -> serde_json::Value {
    let one = |error: &Error| {
        serde_json::json!({
            "file": error.file.display().to_string(),
            "line": error.line,
            "column": error.column,
            "key": error.key,
            "message": error.message,
        })
    };
    let (errors, more): (Vec<_>, _) = match error.downcast_ref::<Errors>() {
        Some(errors) => (errors.iter().map(one).collect(), errors.more()),
        None => match error.downcast_ref::<Error>() {
            Some(error) => (vec![one(error)], 0),
            None => (
                vec![serde_json::json!({ "message": format!("{error:#}") })],
                0,
            ),
        },
    };
    serde_json::json!({ "errors": errors, "more": more })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

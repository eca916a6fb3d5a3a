//! The report that a guest writes to its console.

use anyhow::{Result, bail};

/// Begins the lines that are for us.
pub const MARK: &str = "guest: ";

/// The lines of the guest's console.
#[derive(Debug, Default)]
pub struct Report {
    pub release: Option<String>,
    batteries: Vec<Battery>,
    /// The lines on how many instructions the verifier walked.
    verified: Vec<String>,
    /// The lines of tables, their cells separated by `|`.
    rows: Vec<String>,
    /// Tests that were skipped, and why.
    skipped: Vec<String>,
    /// The kernel warned, or worse.
    complained: bool,
    /// It came to its end.
    done: bool,
}

#[derive(Debug, Default)]
pub struct Battery {
    name: String,
    /// As the test runner counts; `None`: it never got there.
    passed: Option<u32>,
    failed: u32,
    /// Exit status.
    status: Option<i32>,
}

impl Report {
    /// Takes a line of the console.
    pub fn read(&mut self, line: &str) {
        if let Some(mark) = line.strip_prefix(MARK) {
            match mark.split_once(' ') {
                Some(("release", release)) => self.release = Some(release.to_owned()),
                Some(("row", row)) => self.rows.push(row.to_owned()),
                Some(("skipped", test)) => self.skipped.push(test.to_owned()),
                Some(("begin", name)) => self.batteries.push(Battery {
                    name: name.to_owned(),
                    ..Battery::default()
                }),
                Some(("end", status)) => {
                    if let Some(battery) = self.batteries.last_mut() {
                        let before = battery.status.unwrap_or(0);
                        battery.status = status.parse().ok().map(|status| before.max(status));
                    }
                }
                _ => {
                    self.complained |= mark == "complained";
                    self.done |= mark == "done";
                }
            }
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| -> Option<u32> {
                let (number, _) = counts.split_once(what)?;
                number.split_whitespace().last()?.parse().ok()
            };
            // A battery is run for each filter.
            if let Some(battery) = self.batteries.last_mut() {
                let before = battery.passed.unwrap_or(0);
                battery.passed = count(" passed").map(|count| before + count);
                battery.failed += count(" failed").unwrap_or(0);
            }
        } else if line.ends_with(" instructions verified") {
            self.verified.push(line.to_owned());
        }
    }

    /// Whether the guest has come to its end.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The results: a line for each battery, what the verifier walked, and the tables.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for battery in &self.batteries {
            let counts = match (battery.passed, battery.failed) {
                (None, _) => "did not come to its end".to_owned(),
                (Some(passed), 0) => format!("{passed} passed"),
                (Some(passed), failed) => format!("{passed} passed, {failed} FAILED"),
            };
            lines.push(format!("{:14} {counts}", battery.name));
        }
        lines.extend(self.verified.iter().cloned());
        lines.extend(aligned(&self.rows));
        lines
    }

    /// Fails unless all these batteries went as they should on a kernel of this release.
    pub fn judge(&self, release: &str, batteries: &[&str]) -> Result<()> {
        if self.release.as_deref() != Some(release) {
            bail!("the guest did not come up");
        }
        if !self.done {
            bail!("the guest ended before it was done");
        }
        for battery in &self.batteries {
            if battery.status != Some(0) || battery.passed.is_none() || battery.failed != 0 {
                bail!("tests failed under Linux {release}: {}", battery.name);
            }
        }
        if let Some(test) = self.skipped.first() {
            bail!("nothing is skipped here, and yet was {test}");
        }
        if self.batteries.len() != batteries.len() {
            bail!("not all tests were run");
        }
        if self
            .batteries
            .iter()
            .all(|battery| battery.passed == Some(0))
        {
            bail!("no test has such a name");
        }
        Ok(())
    }

    /// Fails if the kernel warned, or worse.
    pub fn judge_kernel(&self) -> Result<()> {
        if self.complained {
            bail!("the kernel complained: see above");
        }
        Ok(())
    }
}

/// Rows of cells that are separated by `|`, each column as wide as its widest cell.
fn aligned(rows: &[String]) -> Vec<String> {
    let cells: Vec<Vec<&str>> = rows
        .iter()
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    let width = |column: usize| {
        let of = cells.iter().filter_map(|row| row.get(column));
        of.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<&str>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(&format!("{cell:width$}  ", width = width(column)));
        }
        line.trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "6.1.0-56-amd64";
    const TESTS: [&str; 2] = ["kernel", "vlan"];

    fn report(console: &str) -> Report {
        let mut report = Report::default();
        console.lines().for_each(|line| report.read(line));
        report
    }

    fn console() -> String {
        let mut console = format!("guest: release {RELEASE}\n");
        for name in TESTS {
            console.push_str(&format!(
                "guest: begin {name}\nrig: pass: 2 instructions verified\ntest result: ok. 3 passed; \
                 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s\nguest: end 0\n"
            ));
        }
        console + "guest: done\n"
    }

    #[test]
    fn a_report_has_what_each_battery_passed_and_what_was_verified() {
        let report = report(&console());
        report.judge(RELEASE, &TESTS).unwrap();
        report.judge_kernel().unwrap();
        let summary = report.summary();
        assert_eq!(summary[0], "kernel         3 passed");
        assert_eq!(summary[TESTS.len()], "rig: pass: 2 instructions verified");
    }

    #[test]
    fn a_battery_counts_what_each_filter_ran() {
        let run = |failed| {
            format!("test result: . 1 passed; {failed} failed; 0 ignored\nguest: end {failed}\n")
        };
        let of = |first, second| {
            let console = format!("guest: begin cards\n{}{}", run(first), run(second));
            report(&console)
        };
        assert_eq!(of(0, 0).summary(), ["cards          2 passed"]);
        for bad in [of(0, 1), of(1, 0)] {
            assert_eq!(bad.summary(), ["cards          2 passed, 1 FAILED"]);
            assert_eq!(bad.batteries[0].status, Some(1));
        }
    }

    #[test]
    fn rows_of_a_table_stand_below_each_other() {
        let report = report("guest: row card | mode\nguest: row virtio | generic | slow\n");
        assert_eq!(report.summary(), ["card    mode", "virtio  generic  slow"]);
    }

    #[test]
    fn nothing_but_a_whole_and_good_report_passes() {
        let good = console();
        for (from, to) in [
            (RELEASE, "6.1.0-9-amd64"),
            ("guest: done", "Kernel panic - not syncing"),
            ("guest: done", "guest: complained\nguest: done"),
            ("guest: done", "guest: skipped dig: no dig\nguest: done"),
            ("end 0", "end 101"),
            ("0 failed", "1 failed"),
            ("test result", "Segmentation fault"),
            ("3 passed", "0 passed"),
            ("begin vlan", "vlan"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(good, bad);
            let bad = report(&bad);
            let judged = bad.judge(RELEASE, &TESTS).and_then(|()| bad.judge_kernel());
            assert!(judged.is_err(), "{from} -> {to}");
        }
    }
}

//! One picture as plain text: for `--once`, and where there is no terminal.

use std::fmt::Write as _;

use super::super::output::grouped;
use crate::control::watch::{Share, Top};

/// A picture as text.
pub fn text(top: &Top, columns: usize, rows: usize) -> String {
    let a_second = |count: u64| (count as f64 / top.seconds.max(f64::EPSILON)).round() as u64;
    let mut text = format!(
        "{} queries/s: {} answered in the kernel, {} passed, {} dropped; {} answered in userspace\n",
        grouped(a_second(top.queries)),
        grouped(a_second(top.answered)),
        grouped(a_second(top.passed)),
        grouped(a_second(top.dropped)),
        grouped(a_second(top.answered_in_userspace)),
    );
    let _ = writeln!(
        text,
        "one in {} sampled, {} lost\n",
        grouped(top.queries.checked_div(top.sampled).unwrap_or(1).max(1)),
        grouped(top.lost)
    );
    let few = rows.min(8);
    let list = |heading: &str, shares: &[Share], rows: usize| column(heading, shares, rows, top);
    let half = columns / 2;
    text += &beside(
        &list("RCODE", &top.rcodes, few),
        &list("VERDICT", &top.verdicts, few),
        half,
    );
    text += &beside(
        &list("NAME", &top.names, rows),
        &list("CLIENTS", &top.prefixes, rows),
        half,
    );
    text += &beside(
        &list("REGION", &top.regions, few),
        &list("MIRROR", &top.mirrors, few),
        half,
    );
    text += &latency(top);
    text
}

/// A list under its heading: queries a second, and the share of all.
fn column(heading: &str, shares: &[Share], rows: usize, top: &Top) -> Vec<String> {
    let mut lines = vec![format!("{:>11} {:>6}  {heading}", "QUERIES/S", "SHARE")];
    for share in shares.iter().take(rows) {
        let a_second = share.queries as f64 / top.seconds.max(f64::EPSILON);
        let part = 100.0 * share.queries as f64 / top.queries.max(1) as f64;
        lines.push(format!(
            "{:>11} {part:>5.1}%  {}",
            grouped(a_second.round() as u64),
            share.what
        ));
    }
    if shares.is_empty() {
        lines.push(format!("{:>11} {:>6}  none", "-", "-"));
    }
    lines
}

/// Two lists side by side, and an empty line.
fn beside(left: &[String], right: &[String], width: usize) -> String {
    let mut text = String::new();
    for at in 0..left.len().max(right.len()) {
        let left = left.get(at).map_or("", String::as_str);
        let left: String = left.chars().take(width.saturating_sub(1)).collect();
        let right = right.get(at).map_or("", String::as_str);
        let _ = writeln!(text, "{}", format!("{left:<width$}{right}").trim_end());
    }
    text + "\n"
}

/// How long the program took.
fn latency(top: &Top) -> String {
    const BAR: usize = 40;
    let latency = &top.latency;
    let mut text = format!(
        "time in the program, ns: median {}, 90 % {}, 99 % {}, most {}\n",
        grouped(latency.p50_ns.into()),
        grouped(latency.p90_ns.into()),
        grouped(latency.p99_ns.into()),
        grouped(latency.most_ns.into()),
    );
    let most = latency.below_ns.values().max().copied().unwrap_or(0).max(1);
    for (below, samples) in &latency.below_ns {
        let bar = "#".repeat((*samples as usize * BAR).div_ceil(most as usize));
        let _ = writeln!(
            text,
            "{:>11}  {bar}",
            format!("< {}", grouped((*below).into()))
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::screen::tests::sample;

    #[test]
    fn a_picture_fits_a_page() {
        let share = |what: &str, queries| Share {
            what: what.to_owned(),
            queries,
        };
        let top = Top {
            names: vec![share("www.example.org. A", 3_000)],
            regions: Vec::new(),
            prefixes: vec![share("192.0.2.0/24", 1_000)],
            ..sample()
        };
        assert_eq!(
            text(&top, 90, 5),
            "\
2,000 queries/s: 1,500 answered in the kernel, 300 passed, 200 dropped; 295 answered in userspace
one in 4 sampled, 0 lost

  QUERIES/S  SHARE  RCODE                      QUERIES/S  SHARE  VERDICT
      1,795  89.8%  NOERROR                        1,500  75.0%  answered
                                                     300  15.0%  pass_qtype

  QUERIES/S  SHARE  NAME                       QUERIES/S  SHARE  CLIENTS
      1,500  75.0%  www.example.org. A               500  25.0%  192.0.2.0/24

  QUERIES/S  SHARE  REGION                     QUERIES/S  SHARE  MIRROR
          -      -  none                           1,500  75.0%  ams

time in the program, ns: median 200, 90 % 300, 99 % 1,200, most 5,000
      < 256  ########################################
      < 512  ##########
    < 8,192  #
"
        );
    }
}

//! Figures, their goals, and how both are shown.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The bench that measured it.
    pub bench: &'static str,
    /// The quantity measured.
    pub what: String,
    /// The unit of all values.
    pub unit: &'static str,
    /// One value a round.
    pub rounds: Vec<f64>,
    /// The goal for its median, if there is one.
    pub goal: Option<Goal>,
}

/// The figures so far. A measurement that fails does not lose those of others.
#[derive(Debug, Default)]
pub struct Results {
    /// Measured.
    pub figures: Vec<Figure>,
    /// Measurements that failed, and why.
    pub failures: Vec<String>,
}

impl Results {
    /// Measures, and takes what comes of it.
    pub fn take(&mut self, name: &str, measure: impl FnOnce() -> anyhow::Result<Vec<Figure>>) {
        eprintln!("bench: {name}");
        match measure() {
            Ok(figures) => self.figures.extend(figures),
            Err(error) => {
                let failure = format!("{name}: {error:#}");
                eprintln!("bench: {failure}");
                self.failures.push(failure);
            }
        }
    }

    /// Whether everything was measured and reaches its goals.
    pub fn met(&self) -> bool {
        self.failures.is_empty() && self.figures.iter().all(Figure::met)
    }
}

/// A goal for a figure's median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// This value, or more.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::Below(limit) => value < limit,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {}", shown(*least)),
            Self::Below(limit) => write!(f, "< {}", shown(*limit)),
        }
    }
}

impl Figure {
    /// A figure without a goal.
    pub fn new(
        bench: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        rounds: Vec<f64>,
    ) -> Self {
        Self {
            bench,
            what: what.into(),
            unit,
            rounds,
            goal: None,
        }
    }

    /// With a goal.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        quantile(&self.rounds, 0.5)
    }

    /// Whether the goal, if there is one, is met.
    pub fn met(&self) -> bool {
        self.goal.is_none_or(|goal| goal.met(self.median()))
    }

    fn json(&self) -> Value {
        json!({
            "bench": self.bench,
            "what": self.what,
            "unit": self.unit,
            "median": self.median(),
            "rounds": self.rounds,
            "met": self.goal.map(|goal| goal.met(self.median())),
        })
    }
}

/// The value that this share of the others does not exceed; 0 where there is none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.max(1) - 1).copied().unwrap_or_default()
}

/// The figures as a table for people.
pub fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["BENCH", "FIGURE", "MEDIAN", "MIN", "MAX", "UNIT", "GOAL"]);
    for figure in figures {
        let goal = figure.goal.map_or(String::new(), |goal| {
            let verdict = if figure.met() { "met" } else { "MISSED" };
            format!("{goal} {verdict}")
        });
        table.add_row([
            figure.bench.to_owned(),
            figure.what.clone(),
            shown(figure.median()),
            shown(quantile(&figure.rounds, 0.0)),
            shown(quantile(&figure.rounds, 1.0)),
            figure.unit.to_owned(),
            goal,
        ]);
    }
    for column in 2..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// The figures for programs.
pub fn to_json(figures: &[Figure]) -> Value {
    figures.iter().map(Figure::json).collect()
}

/// Three digits that say something, thousands apart.
pub fn shown(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        let digits = if value.abs() < 10.0 { 2 } else { 1 };
        return format!("{value:.digits$}");
    }
    let whole = format!("{value:.0}");
    let (sign, digits) = whole
        .strip_prefix('-')
        .map_or(("", whole.as_str()), |digits| ("-", digits));
    let mut text = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 1.0), 5.0);
        assert_eq!(quantile(&values, 0.99), 5.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_measurement_that_fails_loses_no_other() {
        let figure = Figure::new("b", "w", "x", vec![1.0]);
        let mut results = Results::default();
        results.take("one", || Ok(vec![figure.clone()]));
        assert!(results.met());
        results.take("two", || anyhow::bail!("no route"));
        results.take("three", || Ok(vec![figure.clone()]));
        assert_eq!(results.failures, ["two: no route"]);
        assert_eq!(results.figures.len(), 2);
        assert!(!results.met());
    }

    #[test]
    fn a_goal_that_is_missed_is_said() {
        let figure = |goal| Figure::new("b", "w", "x", vec![0.6, 0.7, 0.5]).goal(goal);
        assert!(figure(Goal::AtLeast(0.6)).met());
        assert!(!figure(Goal::AtLeast(0.65)).met());
        assert!(!figure(Goal::Below(0.6)).met());
        assert!(table(&[figure(Goal::AtLeast(0.65))]).contains("MISSED"));
    }

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (0.7543, "0.75"),
            (12.34, "12.3"),
            (999.6, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(shown(value), text);
        }
    }
}

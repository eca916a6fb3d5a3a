//! The report: a page of Markdown, figures for programs, and every server's configuration beside them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use geodns_tests::net::run as output;
use serde_json::{Value, json};

use super::load::{Half, Measured, Point};
use super::servers::{Missing, Role, Server};
use super::sizes::{Cost, Of, QUESTIONS};
use super::{Outcome, plot};
use crate::figure::{Figure, quantile, shown};

/// The machine that it ran on, and the time.
pub struct Place {
    /// Day.
    pub date: String,
    cpu: String,
    cpus: usize,
    kernel: String,
}

impl Place {
    /// This machine, today.
    pub fn here() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        Ok(Self {
            date: output(Command::new("date").arg("+%F"))?.trim().to_owned(),
            cpu: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: std::thread::available_parallelism()?.get(),
            // Without what whoever built it adds.
            kernel: output(Command::new("uname").arg("-r"))?
                .trim()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
        })
    }
}

/// All that is reported.
pub struct Report<'a> {
    /// Where and when.
    pub place: &'a Place,
    /// The servers that took part.
    pub servers: &'a [Server],
    /// Those that could not, each with its reason.
    pub missing: &'a [Missing],
    /// The outcome of each scenario.
    pub outcomes: &'a [Outcome],
    /// The cost of an answer of geodns by size.
    pub costs: &'a [Cost],
    /// Figures that have goals.
    pub figures: &'a [Figure],
    /// Prefixes in the list.
    pub prefixes: usize,
    /// Rounds of each scenario.
    pub rounds: usize,
}

impl Report<'_> {
    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let configs = folder.join("configs");
        fs::create_dir_all(&configs)
            .with_context(|| format!("cannot make {}", configs.display()))?;
        let home = std::env::var("HOME").unwrap_or_default();
        for (name, text) in self.servers.iter().filter_map(|one| one.config.as_ref()) {
            let text = match home.is_empty() {
                true => text.clone(),
                false => text.replace(&home, "~"),
            };
            fs::write(configs.join(name), text)?;
        }
        for outcome in self.outcomes {
            let id = outcome.scenario.id;
            let path = folder.join(format!("answered-{id}.svg"));
            plot::answered(&path, self.servers, outcome)?;
            let path = folder.join(format!("latency-{id}.svg"));
            plot::latency(&path, self.servers, outcome)?;
        }
        for of in Of::ALL.into_iter().filter(|of| self.sizes(*of).len() > 0) {
            let path = folder.join(format!("cost-{}.svg", of.word()));
            plot::cost(&path, of, self.costs)?;
        }
        fs::write(folder.join("results.json"), format!("{:#}\n", self.json()))?;
        fs::write(folder.join("report.md"), self.markdown())?;
        Ok(())
    }

    /// Those that are shown: all but the one that only drops.
    fn shown(&self) -> impl Iterator<Item = (usize, &Server)> {
        let servers = self.servers.iter().enumerate();
        servers.filter(|(_, server)| server.role != Role::Discard)
    }

    fn json(&self) -> Value {
        let servers: Vec<Value> = self
            .shown()
            .map(|(_, server)| {
                json!({
                    "name": server.name,
                    "limits": server.limits,
                    "version": server.version,
                    "note": server.note,
                    "start_seconds": server.start.as_secs_f64(),
                    "memory_octets": server.memory,
                    "counting_ns": server.counting.map(|counting| counting.nanoseconds),
                    "counting_percent": server.counting.map(|counting| counting.percent),
                })
            })
            .collect();
        let scenarios: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let names = self.names().into_iter();
                let measured =
                    names.map(|name| (name.to_owned(), of_server(&self.of_name(name, outcome))));
                json!({
                    "id": outcome.scenario.id,
                    "what": outcome.scenario.what,
                    "servers": measured.collect::<serde_json::Map<_, _>>(),
                })
            })
            .collect();
        json!({
            "date": self.place.date,
            "cpu": self.place.cpu,
            "cpus": self.place.cpus,
            "kernel": self.place.kernel,
            "prefixes": self.prefixes,
            "rounds": self.rounds,
            "servers": servers,
            "missing": self.missing.iter().map(|(name, why)| json!({"name": name, "why": why})).collect::<Vec<_>>(),
            "scenarios": scenarios,
            "sizes": self.costs.iter().map(of_size).collect::<Vec<_>>(),
            "figures": crate::figure::to_json(self.figures),
        })
    }

    fn markdown(&self) -> String {
        let Place {
            date,
            cpu,
            cpus,
            kernel,
        } = self.place;
        let mut text = format!(
            "# geodns beside other name servers\n\n\
             {date}, {cpu}, {cpus} CPUs, Linux {kernel}; rounds: {}, of which medians are shown. Every server \
             has the same zone, and one steered name with {} prefixes to six mirrors, derived from DB-IP City Lite \
             (https://db-ip.com, CC BY 4.0). Repeat it with `cargo xtask bench --peers`.\n\n## What must be\n\n",
            self.rounds, self.prefixes
        );
        text += "| | median | lowest | highest | must be | |\n| --- | ---: | ---: | ---: | ---: | --- |\n";
        for figure in self.figures.iter().filter(|figure| figure.goal.is_some()) {
            let _ = writeln!(
                text,
                "| {} | {} {} | {} | {} | {} | {} |",
                figure.what,
                shown(figure.median()),
                figure.unit,
                shown(quantile(&figure.rounds, 0.0)),
                shown(quantile(&figure.rounds, 1.0)),
                figure.goal.map_or(String::new(), |goal| goal.to_string()),
                if figure.met() { "met" } else { "**missed**" }
            );
        }
        text += "\n## Answers a second, a core for the server alone\n\n\
                 Servers in userspace have a core to themselves; generator and sink are on another. Those in the kernel \
                 (geodns, reflector) still share theirs with generator and sink: of them it is a lower bound.\n\n";
        self.rows(&mut text, |of| shown(of.rate_alone()));
        text += "\n## Answers a second, one core for all\n\n\
                 Server, generator and sink share a core.\n\n";
        self.rows(&mut text, |of| {
            let (low, high) = (quantile(&of.rates, 0.0), quantile(&of.rates, 1.0));
            let spread = 100.0 * (high - low) / of.rate().max(1.0);
            format!("{} ±{:.0} %", shown(of.rate()), spread / 2.0)
        });
        text += "\n## Latency at half load, microseconds: median / 99 %\n\n";
        self.rows(&mut text, |of| {
            let [p50, p99] = [of.half(|half| half.p50), of.half(|half| half.p99)];
            format!("{} / {}", shown(p50), shown(p99))
        });
        text += "\n## CPU for an answer at half load, nanoseconds\n\n";
        self.rows(&mut text, |of| of.cpu().map_or("?".to_owned(), shown));
        text += "\n## Answered at half load, percent\n\n";
        self.rows(&mut text, |of| shown(of.half(|half| half.answered)));
        self.cost_rows(&mut text);
        text += "\n## Plots\n\n";
        for outcome in self.outcomes {
            let (id, what) = (outcome.scenario.id, outcome.scenario.what);
            let _ = writeln!(
                text,
                "![answered of what is offered: {what}](answered-{id}.svg)\n\n\
                 ![latency: {what}](latency-{id}.svg)\n"
            );
        }
        text += "## Who took part\n\nThe configurations are in [configs](configs).\n\n\
                 | server | version | how it steers | start, s | memory, MB | counting an answer, ns |\n\
                 | --- | --- | --- | ---: | ---: | ---: |\n";
        for (_, server) in self.shown().filter(|(_, one)| one.role != Role::Reflector) {
            let counting = server.counting.map_or(String::new(), |counting| {
                format!("{:.0} ({:.0} %)", counting.nanoseconds, counting.percent)
            });
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} | {} | {counting} |",
                server.name,
                server.version,
                server.note,
                server.start.as_secs_f64(),
                server.memory / 1_000_000
            );
        }
        for (name, why) in self.missing {
            let why = why.lines().next().unwrap_or_default();
            let _ = writeln!(text, "| {name} | | left out: {why} | | | |");
        }
        text += METHOD;
        text
    }

    /// Numbers of names or prefixes that were served.
    fn sizes(&self, of: Of) -> impl ExactSizeIterator<Item = usize> {
        let costs = self.costs.iter().filter(|cost| cost.question.of == of);
        costs
            .map(|cost| cost.size)
            .collect::<BTreeSet<_>>()
            .into_iter()
    }

    /// Tables of what an answer takes by how much is served, each with its plot.
    fn cost_rows(&self, text: &mut String) {
        for of in Of::ALL.into_iter().filter(|of| self.sizes(*of).len() > 0) {
            let word = of.word();
            let _ = write!(
                text,
                "\n## What an answer of ours takes, by number of {word}\n\n\
                 Nanoseconds above a bare reflector, and answers a second, from random sources.\n\n| {word} |"
            );
            self.sizes(of).for_each(|size| {
                let _ = write!(text, " {} |", shown(size as f64));
            });
            let _ = writeln!(text, "\n| --- |{}", " ---: |".repeat(self.sizes(of).len()));
            for question in QUESTIONS.into_iter().filter(|question| question.of == of) {
                let _ = write!(text, "| {} |", question.what);
                let costs = self.costs.iter();
                for cost in costs.filter(|cost| cost.question == question) {
                    let (above, rate) = (cost.above(), shown(cost.rate()));
                    let _ = write!(text, " {above:.0} ns, {rate} |");
                }
                text.push('\n');
            }
            let _ = writeln!(
                text,
                "\n![what an answer takes by number of {word}](cost-{word}.svg)"
            );
        }
    }

    /// Finds the figures of the server of this name in a scenario, in any of its configurations.
    fn of_name(&self, name: &str, outcome: &'_ Outcome) -> Measured {
        let of_name = self.shown().filter(|(_, server)| server.name == name);
        let mut parts = of_name.filter(|(_, server)| server.takes_part(outcome.scenario));
        parts
            .next()
            .map_or_else(Measured::default, |(at, _)| outcome.measured[at].clone())
    }

    /// Names of servers, each once.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for (_, server) in self.shown() {
            if !names.contains(&server.name) {
                names.push(server.name);
            }
        }
        names
    }

    /// A table of one figure: a row for each scenario, a column for each server.
    fn rows(&self, text: &mut String, figure: impl Fn(&Measured) -> String) {
        let names = self.names();
        let _ = writeln!(text, "| | {} |", names.join(" | "));
        let _ = writeln!(text, "| --- |{}", " ---: |".repeat(names.len()));
        for outcome in self.outcomes {
            let _ = write!(text, "| {} |", outcome.scenario.what);
            for name in &names {
                let of = self.of_name(name, outcome);
                let value = match of.rates.is_empty() {
                    true => "–".to_owned(),
                    false => figure(&of),
                };
                let _ = write!(text, " {value} |");
            }
            text.push('\n');
        }
    }
}

/// How it was measured.
const METHOD: &str = "
## How it is measured

- Each server is in a network namespace, at one end of a veth pair; the generator, and what counts answers,
  at the other. Where one core is for all, that is the machine's last CPU. Before it is measured, each server is asked from 20
  addresses, and must give each the mirror that the list says.
- Who answers in the kernel is flooded by an XDP program (`BPF_PROG_TEST_RUN` with live frames), which makes
  every query anew; each is answered before the next ones are made. So is the reflector, which does nothing
  but swap addresses and ports: the most that this wire takes. A flood in which the wire lost frames does not
  count.
- A server in userspace would never run beside a flood. It is offered paced loads by a packet socket, of
  65,536 queries that the same program made, in bursts every 100 microseconds; its figure is the most that it
  answers at any load. Servers run with a real-time priority (SCHED_RR), so that nothing else of the machine takes
  their turn, and below the generator, as a network card's interrupt is before a server.
- With a core to itself, a server in userspace receives on the machine's last CPU by threads of the kernel's (threaded
  NAPI), which come before its own threads as a network card's interrupts do; generator and sink are on the first.
  Loads come by live frames from there, more and more, until it answers half of its best or the generator is at its
  end; its figure is the most that it answers at any.
- Answers of a server in userspace leave as socket buffers, which the veth copies for the XDP program that counts
  them: part of what each of them costs here, as the generator's frames are part of what ours cost. How much of
  it, the table above says: what the same load takes more than where nothing is attached to the generator's end,
  and the stack drops each answer as one for somebody else.
- Below saturation nothing may be lost: at half load, and at each load of the first round up to 90 % of the best,
  ours must answer every query that is sent; some arrive up to 100 ms after the last was sent. Such a load is
  repeated, three times at the most, where the wire lost frames.
- Only an answer with AA, NOERROR (or NXDOMAIN with an SOA) counts. What counts them is an XDP program.
- Latency is from a query's making to its answer's arrival, at half of each server's own best load, in steps
  of an eighth of a power of two.
- CPU for an answer is how long the core was not idle, less the same for a load as great that is dropped on
  arrival, for each answer: the way through the network stack counts, and so does the answer's arrival at the
  counter. It means little where other work runs on the machine, and nothing where that left the core no time (?).
- Where responses are limited, each server limits them in its own way, to far more than any source asks for; those
  without a limit are left out. All that have cookies as in RFC 9018 make them with one secret; a good one is made
  with it just before it is asked with.
- The mix is a guess: half of it steered names, a third hosts, an eighth names that do not exist, most with
  EDNS, a few with a client subnet.
";

fn of_size(cost: &Cost) -> Value {
    json!({
        "of": cost.question.of.word(),
        "what": cost.question.what,
        "size": cost.size,
        "answers_per_second": cost.rates,
        "ns_above_reflector": cost.above,
    })
}

fn of_server(measured: &Measured) -> Value {
    let half = |half: &Half| {
        json!({
            "offered": half.offered,
            "answered_percent": half.answered,
            "p50_us": half.p50,
            "p90_us": half.p90,
            "p99_us": half.p99,
            "cpu_ns": half.cpu,
        })
    };
    let point = |point: &Point| {
        json!({
            "offered": point.offered,
            "answered": point.answered,
            "answered_percent": point.share,
        })
    };
    let alone: Vec<f64> = measured.alone.iter().map(|one| one.answered).collect();
    json!({
        "answers_per_second": measured.rates,
        "answers_per_second_alone": alone,
        "curve": measured.curve.iter().map(point).collect::<Vec<_>>(),
        "half_load": measured.halves.iter().map(half).collect::<Vec<_>>(),
        "failed": measured.failed,
    })
}

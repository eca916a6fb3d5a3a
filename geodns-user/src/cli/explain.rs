//! `geodns explain`: from a question to its answer, step by step, and what the kernel says beside it.

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::output::{NUMBER, TEXT, pairs, print, print_json, table};
use super::values::address;
use crate::base::prefix;
use crate::control::client::Client;
use crate::control::explain::{Candidate, ExplainQuery, Explanation, InKernel, Response};
use crate::control::mirror::AdminState;

/// `geodns explain`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Name of the query
    pub name: String,
    /// Source address of the query
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub client: IpAddr,
    /// Client subnet in the query, such as 192.0.2.0/24 [default: none]
    #[arg(long, value_name = "PREFIX", value_parser = subnet)]
    pub ecs: Option<IpNet>,
    /// Type of the query
    #[arg(long = "type", value_name = "TYPE", default_value = "A")]
    pub qtype: String,
}

/// A client subnet, which may have mapped addresses.
fn subnet(text: &str) -> Result<IpNet, String> {
    match prefix::spelled(text) {
        Some(subnet) => prefix::check_host_bits(subnet),
        None => prefix::parse(text),
    }
}

/// Exit code for a [`Disagreement`].
pub const DISAGREEMENT: u8 = 3;

/// The kernel answers otherwise than it should.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Disagreement(String);

/// Asks the daemon and prints what it says; an error if the kernel disagrees.
pub async fn ask(
    question: Arguments,
    client: &Client,
    json: bool,
    verbose: bool,
) -> anyhow::Result<()> {
    let question = ExplainQuery {
        name: question.name,
        client: question.client,
        ecs: question.ecs,
        qtype: Some(question.qtype),
    };
    let reply = client.explain(&question).await?;
    let explanation: Explanation = reply.json()?;
    if json {
        print_json(&reply.body)?;
    } else {
        print(&text(&explanation, verbose))?;
    }
    if explanation.agrees {
        return Ok(());
    }
    let Explanation { name, qtype, .. } = &explanation;
    let what = format!("{name} {qtype}: {}", explanation.summary);
    Err(Disagreement(what).into())
}

/// The text for people, with places in the kernel's tables if they are wanted.
fn text(explanation: &Explanation, verbose: bool) -> String {
    let Explanation {
        name,
        qtype,
        client,
        summary,
        ..
    } = explanation;
    let subnet = match explanation.ecs {
        Some(ecs) => format!(" with client subnet {ecs}"),
        None => String::new(),
    };
    let mut before = "";
    let steps = table(
        &[("STEP", TEXT), ("SAYS", TEXT), ("FROM", TEXT)],
        explanation.steps.iter().map(|step| {
            // What several say of the same has one heading.
            let again = std::mem::replace(&mut before, &step.step) == step.step;
            let heading = if again { "" } else { &step.step };
            let mut from = step.from.clone();
            if verbose && !step.detail.is_empty() {
                let between = if from.is_empty() { "" } else { "; " };
                from = format!("{from}{between}{}", step.detail);
            }
            [heading.to_owned(), step.says.clone(), from]
        }),
    );
    let mirrors = match &*explanation.mirrors {
        [] => String::new(),
        mirrors => format!("{}\n", candidates(mirrors)),
    };
    let answers = pairs(&answers(explanation));
    format!("{name} {qtype} from {client}{subnet}: {summary}\n\n{steps}\n{mirrors}{answers}")
}

fn candidates(mirrors: &[Candidate]) -> String {
    let service = |is: bool| if is { "in" } else { "out" }.to_owned();
    let admin = |state: AdminState| match state {
        AdminState::Auto => "auto",
        AdminState::Up => "up",
        AdminState::Down => "down",
        AdminState::Drain => "drain",
    };
    table(
        &[
            ("MIRROR", TEXT),
            ("BECAUSE OF", TEXT),
            ("CHOSEN", TEXT),
            ("FOR THIS CLIENT", TEXT),
            ("SERVICE", TEXT),
            ("ADMIN", TEXT),
            ("WEIGHT", NUMBER),
            ("WHY", TEXT),
        ],
        mirrors.iter().map(|candidate| {
            [
                match &candidate.group {
                    Some(group) => format!("{} of {group}", candidate.mirror),
                    None => candidate.mirror.clone(),
                },
                candidate.because.clone(),
                if candidate.chosen { "yes" } else { "" }.to_owned(),
                match candidate.has_records {
                    true => service(candidate.in_row),
                    false => "no such address".to_owned(),
                },
                service(candidate.in_service),
                admin(candidate.admin).to_owned(),
                candidate.weight.to_string(),
                candidate.why.clone(),
            ]
        }),
    )
}

/// The right answer, and the kernel's.
fn answers(explanation: &Explanation) -> Vec<(&'static str, String)> {
    let ought = &explanation.response;
    let mut lines = vec![("answer", response(ought))];
    match &explanation.kernel {
        None => lines.push(("kernel", "off".to_owned())),
        Some(kernel) => {
            lines.push(("kernel", in_kernel(kernel, ought)));
            let difference = kernel.difference.iter();
            lines.extend(difference.map(|difference| ("DIFFERENT", difference.clone())));
        }
    }
    lines
}

fn in_kernel(kernel: &InKernel, ought: &Response) -> String {
    let verdict = &kernel.verdict;
    let plan = format!("plan {}", kernel.generation);
    let Some(given) = &kernel.response else {
        let meaning = kernel.meaning.trim().trim_end_matches('.');
        let meaning = meaning.strip_prefix("Passed: ").unwrap_or(meaning);
        return format!("passes it up, {verdict}: {meaning} ({plan})");
    };
    if !kernel.compared {
        let given = response(given);
        return format!(
            "{verdict}: {given}; not compared, since each query gets a mirror at random ({plan})"
        );
    }
    let octets = given.octets.len() / 2;
    if given == ought {
        format!("{verdict}: the same {octets} octets ({plan})")
    } else {
        format!("{verdict}: {} ({plan})", response(given))
    }
}

/// A response in a line.
fn response(response: &Response) -> String {
    let mut parts = vec![response.rcode.clone()];
    if response.truncated {
        parts.push("truncated".to_owned());
    } else if response.records.is_empty() && response.rcode == "NOERROR" {
        parts.push("no data".to_owned());
    }
    parts.extend(response.records.iter().cloned());
    parts.extend(response.ttl.map(|ttl| format!("TTL {ttl}")));
    parts.extend(response.scope.map(|scope| format!("scope /{scope}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::explain::Step;

    fn response(record: &str) -> Response {
        Response {
            rcode: "NOERROR".into(),
            records: vec![record.into()],
            ttl: Some(60),
            scope: Some(16),
            truncated: false,
            octets: "00".repeat(62),
        }
    }

    fn sample() -> Explanation {
        let step = |step: &str, says: &str, from: &str| Step {
            step: step.into(),
            says: says.into(),
            from: from.into(),
            detail: format!("row of {step}"),
        };
        let mirror = |id: &str, group: Option<&str>, has_records, in_row| Candidate {
            mirror: id.into(),
            group: group.map(Into::into),
            because: "212 km, counts as 191".into(),
            has_records,
            in_row,
            chosen: in_row,
            in_service: in_row,
            why: "the operator says down".into(),
            admin: AdminState::Down,
            weight: 100,
        };
        Explanation {
            name: "www.example.org.".into(),
            qtype: "A".into(),
            client: "10.1.0.1".parse().unwrap(),
            ecs: Some("10.1.0.0/16".parse().unwrap()),
            zone: None,
            steered: None,
            lookup: None,
            a: Vec::new(),
            aaaa: Vec::new(),
            ttl: None,
            steps: vec![
                step("database", "10.0.0.0/8: NL EU", "city.mmdb: country"),
                step("database", "10.1.0.0/16: AS64500", "asn.mmdb: asn"),
            ],
            mirrors: vec![
                mirror("ams", Some("europe"), true, true),
                mirror("sin", None, true, false),
                mirror("iad", None, false, false),
            ],
            response: response("192.0.2.10"),
            kernel: Some(InKernel {
                generation: 7,
                verdict: "answered".into(),
                meaning: "Answered with a pool's records.".into(),
                response: Some(response("192.0.2.10")),
                compared: true,
                difference: None,
            }),
            agrees: true,
            summary: "answered in the kernel".into(),
        }
    }

    #[test]
    fn steps_and_mirrors_stand_in_columns_and_what_is_repeated_is_said_once() {
        let expected = "\
www.example.org. A from 10.1.0.1 with client subnet 10.1.0.0/16: answered in the kernel

STEP      SAYS                  FROM
database  10.0.0.0/8: NL EU     city.mmdb: country
          10.1.0.0/16: AS64500  asn.mmdb: asn

MIRROR         BECAUSE OF             CHOSEN  FOR THIS CLIENT  SERVICE  ADMIN  WEIGHT  WHY
ams of europe  212 km, counts as 191  yes     in               in       down      100  the operator says down
sin            212 km, counts as 191          out              out      down      100  the operator says down
iad            212 km, counts as 191          no such address  out      down      100  the operator says down

answer  NOERROR, 192.0.2.10, TTL 60, scope /16
kernel  answered: the same 62 octets (plan 7)
";
        assert_eq!(text(&sample(), false), expected);
    }

    #[test]
    fn where_the_tables_have_it_is_shown_to_those_who_ask() {
        let text = text(&sample(), true);
        assert!(
            text.contains("city.mmdb: country; row of database\n"),
            "{text}"
        );
    }

    #[test]
    fn what_the_kernel_does_stands_beside_the_answer() {
        let mut explanation = sample();
        explanation.mirrors.clear();
        let last = |explanation: &Explanation| {
            let text = text(explanation, false);
            let (_, answers) = text.split_once("\nanswer").unwrap();
            answers.lines().skip(1).collect::<Vec<_>>().join("\n")
        };
        let kernel = explanation.kernel.as_mut().unwrap();
        kernel.response = Some(response("203.0.113.10"));
        kernel.difference = Some("from octet 43 on".into());
        assert_eq!(
            last(&explanation),
            "kernel     answered: NOERROR, 203.0.113.10, TTL 60, scope /16 (plan 7)\n\
             DIFFERENT  from octet 43 on"
        );
        let kernel = explanation.kernel.as_mut().unwrap();
        (kernel.compared, kernel.difference) = (false, None);
        assert!(
            last(&explanation).contains("not compared, since each query gets a mirror at random")
        );
        let kernel = explanation.kernel.as_mut().unwrap();
        kernel.response = None;
        kernel.verdict = "pass_qtype".into();
        kernel.meaning = " Passed: a type for the slow path.".into();
        assert_eq!(
            last(&explanation),
            "kernel  passes it up, pass_qtype: a type for the slow path (plan 7)"
        );
        explanation.kernel = None;
        assert_eq!(last(&explanation), "kernel  off");
    }
}

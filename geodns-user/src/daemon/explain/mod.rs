//! `explain`: the way of a question to its answer, each step with its source. Beside it stands the answer that the maps
//! in the kernel really give.
//!
//! Both are asked the same message: the slow path, which answers from the plan, and the fast path's own
//! code, over the kernel's maps. Nothing is sent and nothing counted.
//!
//! - `question`: a question, checked
//! - `decided`: a decision of the fast path, and a response for people and programs
//! - `steps`: the steps from a question to its answer; needs no daemon

mod decided;
mod question;
mod steps;

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use geodns_common::tables::Tables;

use super::Daemon;
use super::control::Control;
use super::cookies::identity;
use super::force::internal;
use crate::base::lock::read;
use crate::control::explain::{ExplainQuery, Explanation, InKernel, Response};
use crate::control::problem::Failure;
use crate::kernel::Kernel;
use crate::kernel::tables::KernelTables;
use crate::serve::{self, Transport};
use crate::world::World;
pub use decided::Decided;
use decided::response;
use question::Question;
use steps::Explained;

/// How often, and how long apart, the kernel and the world are looked at until they are of one plan.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

impl Daemon {
    /// `GET /v1/explain`
    pub fn explain(&self, asked: &ExplainQuery) -> Result<Explanation, Failure> {
        let question = Question::of(asked)?;
        let message = question.message();
        // Who holds the kernel keeps everybody from changing it, and the plan that it is a copy of.
        let (kernel, world) = self.in_step()?;
        let config = &world.inputs.config;
        let mut octets = Vec::new();
        let identity = identity(config, None);
        let client = question.client;
        if !serve::answer(
            &world,
            &identity,
            &message,
            client,
            Transport::Udp,
            &mut octets,
        ) {
            return Err(Failure::Internal(
                "the slow path gives no answer to a query".to_owned(),
            ));
        }
        let plan = read(&world.plan);
        let mut explained = Explained {
            config,
            world: &world,
            plan: &plan,
            question: &question,
            drawn_anew: false,
            explanation: Explanation {
                name: question.name.fmt_with_dot().to_string(),
                qtype: question.qtype.to_string(),
                client,
                ecs: question.ecs,
                zone: None,
                steered: None,
                lookup: None,
                a: Vec::new(),
                aaaa: Vec::new(),
                ttl: None,
                steps: Vec::new(),
                mirrors: Vec::new(),
                response: response(&octets)?,
                kernel: None,
                agrees: true,
                summary: String::new(),
            },
        };
        explained.name();
        explained.size(octets.len());
        let compared = !explained.drawn_anew;
        let mut explanation = explained.explanation;
        if let Some(kernel) = &kernel {
            let tables = KernelTables::of(kernel.instance()).map_err(internal)?;
            let given = Decided::of(&tables, &message, client);
            let copied = Decided::of(&*plan, &message, client);
            let difference = match compared {
                true => given.difference(&copied, &octets),
                false => None,
            };
            let given_response = given.response.as_deref().map(response).transpose()?;
            explanation.agrees = difference.is_none();
            explanation.kernel = Some(InKernel {
                generation: tables.settings().generation,
                verdict: given.verdict.name().to_owned(),
                meaning: given.verdict.meaning().trim().to_owned(),
                response: given_response,
                compared,
                difference,
            });
        }
        drop(plan);
        drop(kernel);
        for candidate in &mut explanation.mirrors {
            let mirror = self.mirror(&candidate.mirror)?;
            candidate.in_service = mirror.in_service;
            candidate.why = mirror.why;
            candidate.admin = mirror.admin.state;
            candidate.weight = mirror.weight.in_force;
        }
        explanation.summary = summary(&explanation);
        Ok(explanation)
    }

    /// The kernel, and the world that it has a copy of: a new one comes in force in the kernel first.
    fn in_step(&self) -> Result<(Option<MutexGuard<'_, Kernel>>, Arc<World>), Failure> {
        for _ in 0..ATTEMPTS {
            let kernel = self.lock_kernel();
            let world = self.world.load_full();
            let generation =
                |kernel: &MutexGuard<'_, Kernel>| kernel.instance().settings().generation;
            if kernel
                .as_ref()
                .is_none_or(|kernel| generation(kernel) == world.generation)
            {
                return Ok((kernel, world));
            }
            drop(kernel);
            std::thread::sleep(PAUSE);
        }
        Err(Failure::Internal(
            "the kernel has another plan than the daemon: `geodns reload` makes it one".to_owned(),
        ))
    }
}

/// Says in a line what happens to such a query.
fn summary(explanation: &Explanation) -> String {
    let Some(kernel) = &explanation.kernel else {
        return "kernel.mode is off, the slow path answers".to_owned();
    };
    let of = |response: &Response| match &*response.records {
        [] => response.rcode.clone(),
        records => records.join(", "),
    };
    match (&kernel.response, &kernel.difference) {
        (given, Some(_)) => {
            let ought = of(&explanation.response);
            let does = match given {
                Some(given) => format!("answers {}", of(given)),
                None => format!("passes it up ({})", kernel.verdict),
            };
            format!(
                "the kernel DISAGREES: it {does}, where {ought} ought to be answered; `geodns reload` \
                 writes its tables anew"
            )
        }
        (None, _) => "the kernel passes it up to the slow path, which answers".to_owned(),
        (Some(_), _) if !kernel.compared => {
            "answered in the kernel, by a mirror that is chosen at random for each query".to_owned()
        }
        (Some(_), _) => "answered in the kernel, just as the slow path would".to_owned(),
    }
}

#[async_trait]
impl crate::control::explain::Service for Control {
    async fn explain(&self, question: ExplainQuery) -> Result<Explanation, Failure> {
        // It maps the kernel's tables, and waits for locks.
        let explain = move |daemon: &Daemon| daemon.explain(&question);
        self.0.blocking(explain).await
    }
}

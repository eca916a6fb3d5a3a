//! Asks the routing daemon now and then whether neighbours are told of the routes, beside the rounds.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::task::JoinHandle;

use crate::announce::told::{self, Told};
use crate::config::Announce;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(5);
/// Answers in a row that say so before it is a fault: a session that was reset is up again by then.
const FALL: u32 = 2;

/// What is known of the neighbours.
#[derive(Default)]
pub struct Neighbours {
    asked: Option<(Instant, JoinHandle<Option<Told>>)>,
    /// Answers in a row that no neighbour is told.
    untold: u32,
    fault: Option<String>,
    /// Why the routing daemon cannot be asked: said once.
    unknown: Option<String>,
}

impl Neighbours {
    /// Asks when it is time, and gives why no neighbour is told of these routes, which are in force.
    pub fn poll(&mut self, config: &Announce, routes: &[IpNet]) -> Option<String> {
        if routes.is_empty() || config.routing.is_empty() {
            *self = Self {
                unknown: self.unknown.take(),
                ..Self::default()
            };
            return None;
        }
        let is_due = match &mut self.asked {
            None => true,
            Some((at, asked)) => asked.is_finished() && at.elapsed() >= EVERY,
        };
        if is_due {
            let before = self.asked.take();
            if let Some((_, asked)) = before {
                // It is finished, so this waits for nothing.
                let told = futures_util::FutureExt::now_or_never(asked);
                self.note(told.and_then(Result::ok).flatten());
            }
            let (sockets, routes) = (config.routing.clone(), routes.to_vec());
            let asked = tokio::task::spawn_blocking(move || told::ask(&sockets, &routes));
            self.asked = Some((Instant::now(), asked));
        }
        self.fault.clone()
    }

    fn note(&mut self, told: Option<Told>) {
        let unknown = match told {
            Some(Told::Not(why)) => {
                self.untold += 1;
                self.fault = (self.untold >= FALL).then_some(why);
                return;
            }
            Some(Told::Unknown(why)) => Some(why),
            Some(Told::All) | None => None,
        };
        self.untold = 0;
        self.fault = None;
        if let Some(why) = &unknown
            && self.unknown.as_ref() != Some(why)
        {
            tracing::info!("{why}");
        }
        self.unknown = unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_that_no_neighbour_is_told_is_no_fault() {
        let not = || Some(Told::Not("rejected".to_owned()));
        let mut neighbours = Neighbours::default();
        neighbours.note(not());
        assert_eq!(neighbours.fault, None);
        neighbours.note(Some(Told::All));
        neighbours.note(not());
        assert_eq!(neighbours.fault, None);
        neighbours.note(not());
        assert_eq!(neighbours.fault.as_deref(), Some("rejected"));
        neighbours.note(None);
        assert_eq!(neighbours.fault, None);
    }
}

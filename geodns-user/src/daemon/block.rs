//! Block rules drop queries: those of the configuration, and those of `geodns block`, which the state has.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Daemon;
use super::audit::{self, Who};
use super::control::Control;
use super::force::{Edit, internal};
use crate::base::lock::lock;
use crate::block::{Blocks, Counters, Rule, RuleText};
use crate::config::{Config, check_note};
use crate::control::block::{BlockAdd, BlockChanged, BlockRemove, BlockRule};
use crate::control::problem::Failure;
use crate::state::{Item, KeptBlock, State};

/// The object of an edit of them.
const WHAT: &str = "rules of what is dropped";

/// A block rule, and where it is from.
struct Known {
    rule: Rule,
    note: String,
    /// Its number in the state; `None`: the configuration has it.
    number: Option<u32>,
}

/// Rules of the configuration and of the state. A rule that both have is the configuration's.
fn known(config: &Config, kept: Vec<KeptBlock>) -> Result<Vec<Known>, String> {
    let of_file = config.blocks.iter().map(|block| Known {
        rule: block.rule.clone(),
        note: block.note.clone(),
        number: None,
    });
    let mut all: Vec<Known> = of_file.collect();
    let mut there: HashSet<Rule> = all.iter().map(|known| known.rule.clone()).collect();
    for KeptBlock { number, said, note } in kept {
        let rule = Rule::new(&said).map_err(|why| format!("rule {number} of the state: {why}"))?;
        if there.insert(rule.clone()) {
            all.push(Known {
                rule,
                note,
                number: Some(number),
            });
        }
    }
    Ok(all)
}

fn judged(config: &Config, kept: Vec<KeptBlock>) -> Result<Vec<Rule>, Failure> {
    let rules = known(config, kept).map_err(Failure::Invalid)?;
    let rules: Vec<Rule> = rules.into_iter().map(|known| known.rule).collect();
    Blocks::new(Counters::default().assign(&rules).0).map_err(Failure::Invalid)?;
    Ok(rules)
}

/// The rules in force, by their counters.
#[derive(Debug, Default)]
pub struct BlockRules(Mutex<Counters>);

/// Rules that can be in force.
pub struct Compiled {
    pub blocks: Arc<Blocks>,
    /// Numbers of the kernel's counters that start anew.
    pub fresh: Vec<u32>,
    counters: Counters,
}

impl BlockRules {
    /// Compiles the rules of a configuration and of the state. They are counted once they are [`put`](Self::put).
    pub fn compile(&self, config: &Config, state: &State) -> Result<Compiled, Failure> {
        let rules = judged(config, state.blocks().map_err(internal)?)?;
        let counters = lock(&self.0);
        let mut counters = counters.clone();
        let (in_force, fresh) = counters.assign(&rules);
        let blocks = Blocks::new(in_force).map_err(Failure::Invalid)?;
        Ok(Compiled {
            blocks: Arc::new(blocks),
            fresh,
            counters,
        })
    }

    /// Takes over the counters of rules that are in force now.
    pub fn put(&self, compiled: Compiled) {
        *lock(&self.0) = compiled.counters;
    }

    fn of(&self, rule: &Rule) -> Option<(u32, u64)> {
        let counters = lock(&self.0);
        counters.of(rule)
    }
}

impl Daemon {
    /// Puts the rules of the configuration and of the state in force in both paths, or in neither.
    pub fn put_blocks(&self) -> Result<(), Failure> {
        let world = self.world.load();
        let config = &world.inputs.config;
        let compiled = self.block_rules.compile(config, &self.state)?;
        // The slow path first: what the kernel no longer drops, it may not answer.
        let before = self.server.set_blocks(Arc::clone(&compiled.blocks));
        if let Some(mut kernel) = self.lock_kernel() {
            let blocks = Arc::clone(&compiled.blocks);
            kernel
                .set_blocks(blocks, &compiled.fresh)
                .map_err(internal)
                .inspect_err(|_| {
                    self.server.set_blocks(before);
                    // Some of them may be in force.
                    self.upkeep.mend();
                })?;
        }
        self.block_rules.put(compiled);
        Ok(())
    }

    /// `block list`
    pub fn block_list(&self) -> Result<Vec<BlockRule>, Failure> {
        let world = self.world.load();
        let config = &world.inputs.config;
        let kept = self.state.blocks().map_err(internal)?;
        let mut rules = Vec::new();
        for known in known(config, kept).map_err(Failure::Internal)? {
            rules.push(self.shown(known));
        }
        Ok(rules)
    }

    /// A rule, as the API shows it. A counter that cannot be read counts as 0: it is no reason to say that a change has
    /// failed.
    fn shown(&self, known: Known) -> BlockRule {
        let (counter, in_userspace) = self.block_rules.of(&known.rule).unwrap_or_default();
        let in_kernel = self.lock_kernel().map_or(0, |kernel| {
            kernel.dropped(counter).unwrap_or_else(|error| {
                tracing::warn!("what a rule has dropped is not known: {error}");
                0
            })
        });
        let RuleText {
            name,
            below,
            qtype,
            from,
        } = known.rule.text();
        BlockRule {
            number: known.number,
            name,
            below,
            qtype,
            from,
            note: known.note,
            dropped: in_kernel + in_userspace,
        }
    }

    fn shown_all(&self, blocks: &[KeptBlock]) -> Vec<BlockRule> {
        let known = blocks.iter().filter_map(|block| {
            Some(Known {
                rule: Rule::new(&block.said).ok()?,
                note: block.note.clone(),
                number: Some(block.number),
            })
        });
        known.map(|known| self.shown(known)).collect()
    }

    /// `block add`
    pub fn block_add(&self, add: &BlockAdd) -> Result<Edit<BlockChanged>, Failure> {
        check_note(&add.note).map_err(Failure::Invalid)?;
        let from = add.from.iter().copied().map(Some);
        let from: Vec<_> = match add.from.is_empty() {
            true => vec![None],
            false => from.collect(),
        };
        let world = self.world.load();
        let config = &world.inputs.config;
        let kept = self.state.blocks().map_err(internal)?;
        let mut next = kept.clone();
        let mut number = kept.iter().map(|block| block.number).max().unwrap_or(0);
        let all = known(config, kept).map_err(Failure::Internal)?;
        let all: Vec<Rule> = all.into_iter().map(|known| known.rule).collect();
        let mut there: HashSet<Rule> = all.iter().cloned().collect();
        let (mut new, mut before) = (Vec::new(), 0);
        for from in from {
            let said = RuleText {
                name: add.name.clone(),
                below: add.below.clone(),
                qtype: add.qtype.clone(),
                from,
            };
            let rule = Rule::new(&said).map_err(Failure::Invalid)?;
            if !there.insert(rule.clone()) {
                before += 1;
                continue;
            }
            number += 1;
            new.push(KeptBlock {
                number,
                said: rule.text(),
                note: add.note.clone(),
            });
        }
        next.extend(new.iter().cloned());
        judged(config, next)?;
        let all = (all.len() + new.len()) as u64;
        let items = new.iter().map(|block| Item::Block {
            number: block.number,
            block: Some(block.clone()),
        });
        let items = items.collect();
        let tell = move |daemon: &Self, _| BlockChanged {
            rules: daemon.shown_all(&new),
            before,
            all,
        };
        Ok(Edit::new(WHAT, items, tell))
    }

    /// `block remove`, `block clear`
    pub fn block_remove(&self, remove: &BlockRemove) -> Result<Edit<BlockChanged>, Failure> {
        let world = self.world.load();
        let config = &world.inputs.config;
        let kept = self.state.blocks().map_err(internal)?;
        let numbers = match &remove.numbers {
            None => kept.iter().map(|block| block.number).collect(),
            Some(numbers) => parse_numbers(numbers)?,
        };
        let of = |number: &u32| kept.iter().find(|block| block.number == *number).cloned();
        let mut gone = Vec::new();
        for number in &numbers {
            let block = of(number);
            gone.push(block.ok_or_else(|| {
                let why = "`geodns block list` has the numbers; rules without one are in";
                Failure::NotFound(format!(
                    "there is no rule {number}: {why} {}",
                    config.path.display()
                ))
            })?);
        }
        let removed = self.shown_all(&gone);
        let mut left = kept;
        left.retain(|block| !numbers.contains(&block.number));
        judged(config, left.clone())?;
        let left = known(config, left).map_err(Failure::Internal)?;
        let changed = BlockChanged {
            rules: removed,
            before: 0,
            all: left.len() as u64,
        };
        let items = gone.iter().map(|block| Item::Block {
            number: block.number,
            block: None,
        });
        Ok(Edit::new(WHAT, items.collect(), |_, _| changed))
    }
}

fn parse_numbers(text: &str) -> Result<Vec<u32>, Failure> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    let mut numbers = numbers
        .map_err(|_| Failure::Invalid(format!("{text:?} are no numbers: write them like 3,4")))?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

#[async_trait]
impl crate::control::block::Service for Control {
    async fn block_list(&self) -> Result<Vec<BlockRule>, Failure> {
        self.read_state(|daemon| daemon.block_list()).await
    }

    async fn block_add(&self, add: BlockAdd) -> Result<BlockChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.block_add(&add);
        let tell = |who: &Who, changed: &_| audit::block(who, "added", changed);
        self.edit("block add", change, tell).await
    }

    async fn block_remove(&self, remove: BlockRemove) -> Result<BlockChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.block_remove(&remove);
        let tell = |who: &Who, changed: &_| audit::block(who, "removed", changed);
        self.edit("block remove", change, tell).await
    }
}

//! `[[block]]`: judged.

use ipnet::IpNet;

use super::Error;
use super::check::Check;
use super::file::{self, Spanned};
use crate::block::{Blocks, Counters, Rule, Said};
use crate::geo::network;

/// `[[block]]`: queries that are dropped. One rule for each prefix of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which.
    pub rule: Rule,
    /// Why.
    pub note: String,
}

/// Characters of a note, at the most.
pub const MAX_NOTE: usize = 255;

/// What is wrong with a note, if anything.
pub fn check_note(note: &str) -> Result<(), String> {
    if note.chars().count() <= MAX_NOTE && !note.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "note: write one line of {MAX_NOTE} characters at the most"
    ))
}

impl Check<'_> {
    pub(super) fn blocks(&self, file: Vec<Spanned<file::Block>>) -> Result<Vec<Block>, Error> {
        let mut blocks: Vec<Block> = Vec::new();
        for entry in file {
            let span = entry.span();
            let entry = entry.into_inner();
            let note = entry.note.unwrap_or_default();
            if let Err(message) = check_note(&note) {
                return self.error(span, "block", message);
            }
            let said = Said {
                name: entry.name,
                below: entry.below,
                qtype: entry.qtype,
                from: None,
            };
            for from in self.sources(entry.from)? {
                let rule = match Rule::new(&Said {
                    from,
                    ..said.clone()
                }) {
                    Ok(rule) => rule,
                    Err(message) => return self.error(span, "block", message),
                };
                if blocks.iter().any(|block| block.rule == rule) {
                    return self.error(span, "block", format!("{rule} is there twice"));
                }
                let note = note.clone();
                blocks.push(Block { rule, note });
            }
            let rules: Vec<Rule> = blocks.iter().map(|block| block.rule.clone()).collect();
            if let Err(message) = Blocks::new(Counters::default().assign(&rules).0) {
                return self.error(span, "block", message);
            }
        }
        Ok(blocks)
    }

    /// Where queries come from: each of these, or anywhere.
    fn sources(&self, from: Option<Vec<Spanned<String>>>) -> Result<Vec<Option<IpNet>>, Error> {
        let Some(list) = from.filter(|list| !list.is_empty()) else {
            return Ok(vec![None]);
        };
        let mut prefixes = Vec::new();
        for text in &list {
            match network::parse(text.get_ref()) {
                Ok(prefix) => prefixes.push(Some(prefix)),
                Err(message) => return self.error(text.span(), "block.from", message),
            }
        }
        Ok(prefixes)
    }
}

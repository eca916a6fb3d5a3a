//! `[[block]]`: judged.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, all};
use crate::base::prefix;
use crate::block::{Blocks, Counters, Rule, RuleText};

/// `[[block]]`: queries that are dropped. One rule for each prefix of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The rule.
    pub rule: Rule,
    /// The reason.
    pub note: String,
}

/// Characters of a note, at the most.
pub const MAX_NOTE: usize = 255;

/// A prefix for rules of which another part is judged.
const SOMEWHERE: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24));

/// Checks a note.
pub fn check_note(note: &str) -> Result<(), String> {
    if note.chars().count() <= MAX_NOTE && !note.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "note: write one line of {MAX_NOTE} characters at the most"
    ))
}

impl Reader<'_> {
    pub(super) fn blocks(&self, file: Vec<Spanned<file::Block>>) -> Judged<Vec<Block>> {
        let mut blocks: Vec<Block> = Vec::new();
        for entry in file {
            let span = entry.span();
            let entry = entry.into_inner();
            let note = entry.note.as_ref().map(|note| self.note(note));
            let sources = self.sources(entry.from.as_deref());
            let parts = self.parts(&entry);
            let (Ok(note), Ok(sources), Ok(said)) = (note.transpose(), sources, parts) else {
                continue;
            };
            for from in sources {
                let said = RuleText {
                    from,
                    ..said.clone()
                };
                let rule = match Rule::new(&said) {
                    Ok(rule) => rule,
                    Err(message) => {
                        self.misfit(span.clone(), "block", message);
                        continue;
                    }
                };
                if blocks.iter().any(|block| block.rule == rule) {
                    self.misfit(span.clone(), "block", format!("{rule} is there twice"));
                    continue;
                }
                let note = note.clone().unwrap_or_default();
                blocks.push(Block { rule, note });
            }
            let rules: Vec<Rule> = blocks.iter().map(|block| block.rule.clone()).collect();
            if let Err(message) = Blocks::new(Counters::default().assign(&rules).0) {
                return self.error(span, "block", message);
            }
        }
        Ok(blocks)
    }

    fn note(&self, note: &Spanned<String>) -> Judged<String> {
        match check_note(note.get_ref()) {
            Ok(()) => Ok(note.get_ref().clone()),
            Err(message) => {
                let message = message.trim_start_matches("note: ");
                self.error(note.span(), "block.note", message)
            }
        }
    }

    /// A rule without where queries come from.
    fn parts(&self, entry: &file::Block) -> Judged<RuleText> {
        let none = RuleText::default;
        let name = |name| RuleText { name, ..none() };
        let name = self.part(entry.name.as_ref(), "block.name", name);
        let below = |below| RuleText { below, ..none() };
        let below = self.part(entry.below.as_ref(), "block.below", below);
        let qtype = |qtype| RuleText { qtype, ..none() };
        let qtype = self.part(entry.qtype.as_ref(), "block.type", qtype);
        Ok(RuleText {
            name: name?,
            below: below?,
            qtype: qtype?,
            from: None,
        })
    }

    /// A part of a rule, by a rule that has no other.
    fn part(
        &self,
        text: Option<&Spanned<String>>,
        key: &str,
        rule: impl FnOnce(Option<String>) -> RuleText,
    ) -> Judged<Option<String>> {
        let Some(text) = text else { return Ok(None) };
        let part = Some(text.get_ref().clone());
        let rule = RuleText {
            from: Some(SOMEWHERE),
            ..rule(part.clone())
        };
        match Rule::new(&rule) {
            Ok(_) => Ok(part),
            Err(message) => self.error(text.span(), key, message),
        }
    }

    /// Where queries come from: each of these, or anywhere.
    fn sources(&self, from: Option<&[Spanned<String>]>) -> Judged<Vec<Option<IpNet>>> {
        let Some(list) = from.filter(|list| !list.is_empty()) else {
            return Ok(vec![None]);
        };
        all(list.iter().map(|text| {
            let prefix = prefix::parse(text.get_ref()).map(Some);
            prefix.or_else(|message| self.error(text.span(), "block.from", message))
        }))
    }
}

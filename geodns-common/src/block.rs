//! Block rules: queries that the program drops, by name, type, and where they come from.
//!
//! A rule is matched with the question of any message that has one, whether the fast path would answer it
//! or not.
//!
//! Rules with a name or a type stand in a list of 64, sorted by the labels of their names, so that each suffix of a
//! name is hashed once. Rules that are a prefix alone stand in an LPM trie. Both belong to an instance, whose key
//! hashes the names. There are two lists, of which one may be written, and a row that says which is in force, how long
//! it is, and whether there are prefixes. Each CPU keeps that row for a tick of the clock. So a packet pays one branch
//! where there are no rules, and a change waits for two ticks. [`watch`](crate::watch) filters
//! captures by such a rule, too, and hangs on that branch.

use bytemuck::{Pod, Zeroable};

use crate::abi::Row;
use crate::address;
use crate::scratch::{MAX_LABELS, Scratch};
use crate::tables::Tables;

/// Rules with a name or a type, at the most.
pub const MAX: usize = 64;

/// Conditions that a query must meet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockRule {
    /// [`BlockRule::NAME`] and [`BlockRule::BELOW`].
    pub flags: u32,
    /// Labels of the name, the root not counted.
    pub labels: u32,
    /// Type; 0: any.
    pub qtype: u32,
    /// Its counter.
    pub counter: u32,
    /// Hash of the lowercased name, by the plan's key.
    pub hash: [u64; 2],
    /// Where the packet comes from, as [`address::trie_key`] has it: the bits of `mask` must be these.
    pub address: [u32; 4],
    /// See `address`; all zeros: anywhere.
    pub mask: [u32; 4],
}

impl BlockRule {
    /// There is a name.
    pub const NAME: u32 = 1;
    /// Names below it match too.
    pub const BELOW: u32 = 2;
}

/// A list of rules, sorted by the labels of their names, so that few suffixes are hashed.
pub type List = [BlockRule; MAX];

/// The block rules of an instance that have a name or a type. Rules of a prefix alone are in a trie.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct BlockTable {
    /// [`BlockTable::row`]. One that is no longer in force may be for a tick of the kernel's clock.
    pub row: Row,
    /// Two lists, of which one may be written.
    pub lists: [RuleList; 2],
}

/// [`List`], with a default.
#[repr(transparent)]
#[derive(Clone, Debug)]
pub struct RuleList(pub List);

impl Default for RuleList {
    fn default() -> Self {
        Self([BlockRule::zeroed(); MAX])
    }
}

impl BlockTable {
    /// In a row: there are prefixes.
    pub const PREFIXES: u64 = 1 << 32;

    /// A row: how many rules are in the list that is in force, and whether there are prefixes. 0: there are
    /// no rules.
    pub const fn row(second: bool, rules: u32, prefixes: bool) -> u64 {
        (second as u64) << 16 | rules as u64 | if prefixes { Self::PREFIXES } else { 0 }
    }

    /// The list that a row names, and how many of it count.
    #[inline(always)]
    pub fn list(&self, row: u64) -> (&List, u32) {
        let list = &self.lists[(row >> 16) as usize & 1];
        (&list.0, row as u32 & 0xffff)
    }
}

/// The first of the rules that the query in the scratch matches. The question must have been read
/// ([`Scratch::read_question`]); if there is none, no name and no type matches.
#[inline(always)]
pub fn find<T: Tables>(scratch: &mut Scratch, tables: &T, list: &List, rules: u32) -> Option<u32> {
    let from = scratch.source_key();
    let mut at = 0;
    while at < MAX as u32 {
        if at >= rules {
            break;
        }
        let rule = &list[at as usize & (MAX - 1)];
        if matches(scratch, tables, rule, from) {
            return Some(rule.counter);
        }
        at += 1;
    }
    None
}

/// Whether the query in the scratch matches a rule. `from` is where it comes from.
#[inline(always)]
pub fn matches<T: Tables>(
    scratch: &mut Scratch,
    tables: &T,
    rule: &BlockRule,
    from: [u32; 4],
) -> bool {
    let mut other = 0;
    let mut word = 0;
    while word < 4 {
        other |= from[word] & rule.mask[word] ^ rule.address[word];
        word += 1;
    }
    let (name_len, labels, qtype) = scratch.question();
    if other != 0 || rule.qtype != 0 && (name_len == 0 || rule.qtype != qtype) {
        return false;
    }
    if rule.flags & BlockRule::NAME == 0 {
        return true;
    }
    let deeper = labels.wrapping_sub(rule.labels);
    if name_len == 0
        || deeper > MAX_LABELS as u32
        || rule.flags & BlockRule::BELOW == 0 && deeper != 0
    {
        return false;
    }
    hash_suffix(scratch, tables, deeper);
    scratch.hash[0] == rule.hash[0] && scratch.hash[1] == rule.hash[1]
}

/// Hashes the question's name without its first N labels, unless that was hashed last.
#[inline(always)]
fn hash_suffix<T: Tables>(scratch: &mut Scratch, tables: &T, labels: u32) {
    if scratch.hashed == labels {
        return;
    }
    scratch.hashed = labels;
    let from = if labels >= scratch.query.labels {
        scratch.name_len.wrapping_sub(1)
    } else {
        scratch.labels[labels as usize & (MAX_LABELS - 1)]
    };
    tables.hash(scratch, from);
}

/// An address's bits that a prefix length leaves, as a mask of a rule; IPv4 is mapped, 96 bits down.
pub fn mask(len: u32) -> [u32; 4] {
    let bits = u128::MAX
        .checked_shl(128 - len.min(128))
        .unwrap_or_default();
    address::trie_words(bits.to_be_bytes())
}

//! The log of changes: a line for each, with its objects and whoever asked for it as fields. Each is an event, too.
//!
//! The daemon learns user, uid and pid from the control socket (SO_PEERCRED). A person reads a sentence, followed by the
//! fields that it does not mention. JSON has all fields.

use std::fmt::Write;

use crate::base::name::Name;
use crate::control::acme::AcmeChanged;
use crate::control::announce::{AnnounceWord, SetAnnouncement};
use crate::control::block::{BlockChanged, BlockRule};
use crate::control::by::By;
use crate::control::map::{Imported, MapChanged};
use crate::control::mirror::{Mirror, MirrorChanged};
use crate::control::problem::Failure;
use crate::control::reload::Reloaded;
use crate::event::Kind;

/// The user and process that asked for a change, in words and in fields.
pub struct Who {
    /// For a sentence: `root (pid 4711)`.
    by: String,
    user: Option<String>,
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Who {
    /// Looks the user's name up: it may block.
    pub fn of(by: &By) -> Self {
        let user = by.user();
        Self {
            by: by.words(user.as_deref()),
            user,
            uid: by.uid(),
            pid: by.pid(),
        }
    }
}

/// A line of the log, at a level, with who asked for it.
macro_rules! told {
    ($level:ident, $who:expr, $($rest:tt)*) => {
        tracing::$level!(
            user = $who.user,
            uid = $who.uid,
            pid = $who.pid,
            by = $who.by,
            $($rest)*
        )
    };
}

/// A change that has failed for a reason on this side. A request that was wrong is not logged: its sender knows.
pub fn failed(who: &Who, what: &str, failure: &Failure) {
    if matches!(failure, Failure::Internal(_)) {
        let cause = failure.to_string();
        let by = &who.by;
        told!(
            error,
            who,
            edit = what,
            cause,
            "{what}: failed, nothing has changed: {cause}; asked for by {by}"
        );
    }
}

/// `mirror up | down | drain | auto | weight`
pub fn mirror(who: &Who, changed: &MirrorChanged) {
    mirror_as(Kind::Admin, who, changed);
}

/// `mirror set-health`
pub fn health(who: &Who, changed: &MirrorChanged) {
    mirror_as(Kind::Monitor, who, changed);
}

/// A word on a mirror. One that only repeats another is not logged.
fn mirror_as(kind: Kind, who: &Who, changed: &MirrorChanged) {
    let MirrorChanged {
        before,
        after,
        warnings,
    } = changed;
    let says = |mirror: &Mirror| {
        let word = if mirror.in_service { "in" } else { "out of" };
        let weight = mirror.weight.in_force;
        format!("{word} service: {}; weight {weight}", mirror.why)
    };
    let (was, is) = (says(before), says(after));
    if was == is && before.admin == after.admin && before.weight == after.weight {
        return;
    }
    let (mirror, by) = (after.id.as_str(), &who.by);
    let pools = after.pools.join(",");
    let state = after.admin.state;
    told!(
        info,
        who,
        event = kind.name(),
        mirror,
        pools,
        state = ?state,
        in_service = after.in_service,
        weight = after.weight.in_force,
        cause = after.why,
        "mirror {mirror}: {is}; by {by}"
    );
    for warning in warnings {
        told!(warn, who, mirror, "mirror {mirror}: {warning}; by {by}");
    }
}

/// `announce up | drain | withdraw`
pub fn announce(who: &Who, set: &SetAnnouncement) {
    let by = &who.by;
    let word = match (set.word, set.for_ms) {
        (AnnounceWord::Up, _) => "as its checks say".to_owned(),
        (AnnounceWord::Drain, None) => "draining".to_owned(),
        (AnnounceWord::Drain, Some(time)) => format!("draining for {} s", time.div_ceil(1000)),
        (AnnounceWord::Withdraw, _) => "withdrawn after a drain".to_owned(),
    };
    let force = set.force;
    told!(
        info,
        who,
        event = Kind::Announce.name(),
        word,
        force,
        "this node is to be announced {word}; by {by}"
    );
}

/// `map set | del`
pub fn map(who: &Who, changed: &MapChanged) {
    let (prefix, by) = (changed.prefix, &who.by);
    for change in &changed.changes {
        let pool = change.pool.as_str();
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        let was = before.unwrap_or("no override");
        let is = after.unwrap_or("no override");
        told!(info, who, event = Kind::Override.name(),
            %prefix,
            pool,
            mirror = after,
            before,
            "map, pool {pool}: {prefix} is {is}, was {was}; by {by}"
        );
    }
}

/// `map import`
pub fn import(who: &Who, name: &str, imported: &Imported) {
    let by = &who.by;
    for (pool, prefixes) in &imported.prefixes {
        told!(
            info,
            who,
            event = Kind::Import.name(),
            file = name,
            pool = pool.as_str(),
            prefixes,
            "map, pool {pool}: {prefixes} prefixes imported from {name}; by {by}"
        );
    }
}

/// `block add`, and `block remove | clear`
pub fn block(who: &Who, does: &str, changed: &BlockChanged) {
    let by = &who.by;
    for rule in &changed.rules {
        let number = rule.number.unwrap_or_default();
        let drops = drops(rule);
        told!(
            info,
            who,
            event = Kind::Block.name(),
            rule = number,
            drops,
            note = rule.note,
            "block, rule {number} {does}: {drops}; by {by}"
        );
    }
}

fn drops(rule: &BlockRule) -> String {
    let mut words = String::from("queries");
    if let Some(name) = &rule.name {
        let _ = write!(words, " for {name}");
    }
    if let Some(name) = &rule.below {
        let _ = write!(words, " for {name} and below it");
    }
    if let Some(qtype) = &rule.qtype {
        let _ = write!(words, " of type {qtype}");
    }
    if let Some(from) = &rule.from {
        let _ = write!(words, " from {from}");
    }
    words
}

/// `acme set | clear`, and tokens that have expired
pub fn acme(who: &Who, changed: &AcmeChanged) {
    let AcmeChanged {
        name,
        zone,
        serial,
        tokens,
    } = changed;
    let (count, by) = (tokens.len(), &who.by);
    let said = serial.map_or_else(String::new, |serial| format!(", serial {serial}"));
    told!(
        info,
        who,
        event = Kind::Acme.name(),
        name,
        zone = zone.as_deref(),
        serial,
        tokens = count,
        "acme, {name}: {count} tokens{said}; by {by}"
    );
}

/// `reload`, SIGHUP
pub fn reload(who: &Who, reloaded: &Result<Reloaded, Failure>) {
    let by = &who.by;
    match reloaded {
        Ok(reloaded) => {
            let plan = reloaded.generation;
            told!(
                info,
                who,
                event = Kind::Reload.name(),
                plan,
                "reloaded: plan {plan}; by {by}"
            );
            if let Some(warning) = &reloaded.warning {
                told!(warn, who, cause = warning, "{warning}");
            }
        }
        Err(failure) => {
            let cause = failure.to_string();
            told!(
                error,
                who,
                event = Kind::Reload.name(),
                cause,
                "not reloaded, nothing has changed: {cause}; by {by}"
            );
        }
    }
}

/// `reload ZONE`
pub fn reload_zone(who: &Who, apex: &Name, put: &Result<(), Failure>) {
    let by = &who.by;
    match put {
        Ok(()) => {
            told!(info, who, event = Kind::Reload.name(), zone = %apex, "zone {apex}: read again; by {by}")
        }
        Err(failure) => {
            let cause = failure.to_string();
            told!(error, who, event = Kind::Reload.name(),
                zone = %apex,
                cause,
                "zone {apex}: not read again, nothing has changed: {cause}; by {by}"
            );
        }
    }
}

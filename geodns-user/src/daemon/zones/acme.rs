//! Tokens of ACME DNS-01 challenges: kept, put over zones, taken away when they expire.
//!
//! The state is the truth: a token is in it before it is answered, and so is the serial that its zone is served with. A
//! zone that is read from its file gets its tokens, and never an older serial.
//!
//! The state also has, for each zone, the serial that was served last and the serial of the file whose content it had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use crate::base::clock::now_unix_ms;
use crate::base::name::{Name, parse_name};
use crate::config::{Config, ZoneFile};
use crate::control::acme::{AcmeChanged, AcmeClear, AcmeSet, AcmeToken};
use crate::control::by::By;
use crate::control::problem::Failure;
use crate::daemon::Daemon;
use crate::daemon::audit::{self, Who};
use crate::daemon::control::Control;
use crate::daemon::force::{Edit, Ready, internal};
use crate::state::{Change, Item, Serials, State, Token};
use crate::supervise::Never;
use crate::zone::{self, Zone, Zones, acme};

/// Tokens of a name, at the most.
const MAX_OF_NAME: usize = 16;
/// Tokens in all, at the most.
const MAX_TOKENS: usize = 1000;
/// Before the next attempt, after an expiry that could not be kept.
const AGAIN: Duration = Duration::from_secs(10);

/// Tells whoever takes tokens away that one was set, which expires.
#[derive(Debug, Default)]
pub struct Tokens(Notify);

/// The zone of the configuration that a name belongs to.
fn zone_of<'a>(config: &'a Config, owner: &Name) -> Option<&'a ZoneFile> {
    let holding = config.zones.iter();
    let holding = holding.filter(|zone| owner.ends_with(&zone.name));
    holding.max_by_key(|zone| zone.name.len())
}

/// The tokens among these that belong to a zone.
fn of_zone(config: &Config, apex: &Name, mut tokens: Vec<Token>) -> Vec<Token> {
    tokens.retain(|token| {
        let owner = parse_name(&token.owner);
        owner.is_ok_and(|owner| zone_of(config, &owner).is_some_and(|zone| zone.name == *apex))
    });
    tokens
}

fn texts<'a>(tokens: &'a [Token], owner: &str) -> Vec<acme::Text<'a>> {
    let here = tokens.iter().filter(|token| token.owner == owner);
    here.map(|token| (token.ttl, token.text.as_str())).collect()
}

fn not_in_force(zone: &Zone, owner: &Name, why: &str) {
    warn!(name = %owner, zone = %zone.apex, cause = why, "tokens at {owner} are not in force: {why}");
}

/// Puts its tokens over a zone that was read from its file, and gives it the serial that goes with them. Removes tokens
/// that have expired.
pub fn put_over(config: &Config, state: &State, zone: &mut Zone) -> Result<(), Failure> {
    let of = config.zones.iter().find(|of| of.name == zone.apex);
    if of.is_none_or(|of| of.file.is_none()) {
        return Ok(());
    }
    let apex = zone.apex.to_string();
    let known = state.serials(&apex).map_err(internal)?;
    let tokens = of_zone(config, &zone.apex, state.tokens().map_err(internal)?);
    if known.is_none() && tokens.is_empty() {
        return Ok(());
    }
    let now = now_unix_ms();
    // In a fleet a token goes on all nodes by one commit.
    let stays = |token: &Token| token.until_unix_ms > now || config.fleet.is_some();
    let (tokens, gone): (Vec<_>, Vec<_>) = tokens.into_iter().partition(stays);
    let owners: BTreeSet<_> = tokens.iter().map(|token| token.owner.as_str()).collect();
    for owner in owners {
        let name = parse_name(owner).map_err(internal)?;
        if let Err(why) = acme::may_stand(&config.steers, zone, &name) {
            not_in_force(zone, &name, &why);
            continue;
        }
        acme::put(zone, &name, &[], &texts(&tokens, owner)).map_err(internal)?;
    }
    let from_file = zone.serial();
    let serial = match known {
        // What was served with it is not what there is now.
        Some(known) if !gone.is_empty() => acme::serial_of(from_file, None, known.served),
        Some(known) => acme::serial_of(from_file, known.file, known.served),
        None => acme::next(from_file),
    };
    if serial != from_file {
        acme::set_serial(zone, serial).map_err(internal)?;
    }
    let is_needed = !tokens.is_empty() || serial != from_file;
    let serials = is_needed.then_some(Serials {
        file: Some(from_file),
        served: serial,
    });
    if serials != known || !gone.is_empty() {
        let mut items: Vec<_> = gone.iter().map(Item::no_token).collect();
        items.push(Item::Serials { apex, serials });
        state.keep(&Change(items)).map_err(internal)?;
    }
    Ok(())
}

/// Puts tokens over every zone of a configuration that was read: see [`put_over`].
pub fn put_over_all(config: &Config, state: &State, zones: &mut Zones) -> Result<(), Failure> {
    let tokens = state.tokens().map_err(internal)?;
    let owners = tokens
        .iter()
        .filter_map(|token| parse_name(&token.owner).ok());
    let with_tokens: BTreeSet<_> = owners
        .filter_map(|owner| Some(&zone_of(config, &owner)?.name))
        .collect();
    for number in 0..zones.len() {
        let apex = &zones[number].apex;
        let known = state.serials(&apex.to_string()).map_err(internal)?;
        if known.is_none() && !with_tokens.contains(apex) {
            continue;
        }
        let mut zone = Zone::clone(&zones[number]);
        put_over(config, state, &mut zone)?;
        zones.replace(number, Arc::new(zone));
    }
    Ok(())
}

impl Daemon {
    /// `acme set`
    pub fn acme_set(&self, set: &AcmeSet) -> Result<Edit<AcmeChanged>, Failure> {
        let owner = acme::owner(&set.name).map_err(Failure::Invalid)?;
        let now = now_unix_ms();
        let token = Token {
            owner: owner.to_string(),
            text: set.token.clone(),
            ttl: set.ttl,
            until_unix_ms: now.saturating_add(set.for_ms),
        };
        let tokens = self.state.tokens().map_err(internal)?;
        let others = tokens.iter();
        let others =
            others.filter(|other| (&other.owner, &other.text) != (&token.owner, &token.text));
        let others: Vec<_> = others.collect();
        let here = others.iter().filter(|other| other.owner == token.owner);
        if here.count() >= MAX_OF_NAME {
            return Err(Failure::Invalid(format!(
                "{owner} has {MAX_OF_NAME} tokens, which is all it may; clear some"
            )));
        }
        if others.len() >= MAX_TOKENS {
            return Err(Failure::Invalid(format!(
                "there are {MAX_TOKENS} tokens, which is all there may be; clear some"
            )));
        }
        self.acme_edit(&owner, vec![token], Vec::new())
    }

    /// `acme clear`
    pub fn acme_clear(&self, clear: &AcmeClear) -> Result<Edit<AcmeChanged>, Failure> {
        let owner = acme::owner(&clear.name).map_err(Failure::Invalid)?;
        let name = owner.to_string();
        let mut gone = self.state.tokens().map_err(internal)?;
        gone.retain(|token| {
            let is_it = clear.token.as_ref().is_none_or(|text| *text == token.text);
            token.owner == name && is_it
        });
        if gone.is_empty() {
            return Err(Failure::NotFound(match &clear.token {
                Some(_) => format!("{owner} has no such token"),
                None => format!("{owner} has no token"),
            }));
        }
        self.acme_edit(&owner, Vec::new(), gone)
    }

    /// `acme list`
    pub fn acme_list(&self) -> Result<Vec<AcmeToken>, Failure> {
        let tokens = self.state.tokens().map_err(internal)?;
        let world = self.world.load();
        Ok(shown(&world.inputs.config, tokens))
    }

    /// Prepares a change of tokens of one name.
    fn acme_edit(
        &self,
        owner: &Name,
        set: Vec<Token>,
        gone: Vec<Token>,
    ) -> Result<Edit<AcmeChanged>, Failure> {
        let world = self.world.load_full();
        let config = &world.inputs.config;
        let name = owner.to_string();
        let setting = !set.is_empty();
        let home = zone_of(config, owner);
        if setting {
            let Some(home) = home else {
                let message = format!("{owner} is in no zone of this server");
                return Err(Failure::NotFound(message));
            };
            if home.catalog.is_some() {
                return Err(Failure::Invalid(format!(
                    "{} is a catalog, which nobody is answered from",
                    home.name
                )));
            }
            if home.file.is_none() {
                return Err(Failure::Invalid(format!(
                    "{} comes from its primaries: set the token there",
                    home.name
                )));
            }
        }
        let before = self.state.tokens().map_err(internal)?;
        let mut after = before.clone();
        after.retain(|token| {
            let mut changed = set.iter().chain(&gone);
            !changed.any(|other| token.is_same(other))
        });
        after.extend(set.iter().cloned());
        let mut items: Vec<_> = gone.iter().map(Item::no_token).collect();
        items.extend(set.into_iter().map(Item::token));
        let (was, now) = (texts(&before, &name), texts(&after, &name));

        let (mut ready, mut serial) = (Ready::Nothing, None);
        if let Some(home) = home.filter(|home| home.file.is_some()) {
            let number = world.zone_number(&home.name);
            let there = number.map(|number| Arc::clone(&world.zones.load()[number]));
            let mut next =
                there.map_or_else(|| Zone::empty(home.name.clone()), Arc::unwrap_or_clone);
            let may = acme::may_stand(&config.steers, &next, owner);
            if setting {
                may.clone().map_err(Failure::Invalid)?;
            }
            // What is only to hold for longer changes no answer.
            let sorted = |texts: &[acme::Text<'_>]| {
                texts
                    .iter()
                    .map(|&(ttl, text)| (ttl, text.to_owned()))
                    .collect::<BTreeSet<_>>()
            };
            if may.is_ok() && sorted(&was) != sorted(&now) {
                let apex = home.name.to_string();
                let known = self.state.serials(&apex).map_err(internal)?;
                let served = next.serial();
                acme::put(&mut next, owner, &was, &now).map_err(internal)?;
                zone::fits(&next, owner).map_err(Failure::Invalid)?;
                let serials = match known {
                    // What was kept came of a reload that failed: no file's content is known to be served.
                    Some(known) if known.served != served => Serials {
                        file: None,
                        served: acme::next(acme::later(served, known.served)),
                    },
                    Some(known) => Serials {
                        served: acme::next(served),
                        ..known
                    },
                    None => Serials {
                        file: Some(served),
                        served: acme::next(served),
                    },
                };
                acme::set_serial(&mut next, serials.served).map_err(internal)?;
                items.push(Item::Serials {
                    apex,
                    serials: Some(serials),
                });
                serial = Some(serials.served);
                ready = Ready::Zone(next);
            }
        }
        let left = after.into_iter().filter(|token| token.owner == name);
        let tokens = shown(config, left.collect());
        let what = format!("tokens of {name}");
        let changed = AcmeChanged {
            name,
            zone: home.map(|home| home.name.to_string()),
            serial,
            tokens,
        };
        Ok(Edit::new(what, items, |_, _| changed).with(ready))
    }

    /// Puts tokens in force, and the serials that go with them: those of each zone, or none of them.
    pub fn put_tokens(
        &self,
        tokens: &[(&str, &str)],
        serials: &[(&str, Option<&Serials>)],
        ready: Ready,
    ) -> Result<(), Failure> {
        self.zones.tokens.0.notify_one();
        if let Ready::Zone(zone) = ready {
            return self.put_zone(zone);
        }
        let world = self.world.load_full();
        let config = &world.inputs.config;
        for &(apex, serials) in serials {
            let apex = parse_name(apex).map_err(internal)?;
            let of_file = config.zones.iter().find(|zone| zone.name == apex);
            let number = world.zone_number(&apex);
            let (Some(serials), Some(number)) = (serials, number) else {
                continue;
            };
            if of_file.is_none_or(|zone| zone.file.is_none()) {
                continue;
            }
            let mut zone = Zone::clone(&world.zones.load()[number]);
            let mut owners: BTreeMap<Name, Vec<&str>> = BTreeMap::new();
            for &(owner, text) in tokens {
                let name = parse_name(owner).map_err(internal)?;
                if zone_of(config, &name).is_some_and(|zone| zone.name == apex) {
                    owners.entry(name).or_default().push(text);
                }
            }
            // Serials alone are of a file that another node has read.
            if owners.is_empty() {
                continue;
            }
            let all = self.state.tokens().map_err(internal)?;
            for (owner, changed) in owners {
                if let Err(why) = acme::may_stand(&config.steers, &zone, &owner) {
                    not_in_force(&zone, &owner, &why);
                    continue;
                }
                let now = texts(&all, &owner.to_string());
                let changed = changed.into_iter().map(|text| (0, text));
                let before: Vec<_> = now.iter().copied().chain(changed).collect();
                acme::put(&mut zone, &owner, &before, &now).map_err(internal)?;
            }
            acme::set_serial(&mut zone, serials.served).map_err(internal)?;
            self.put_zone(zone)?;
        }
        Ok(())
    }

    /// Takes away tokens that have expired. Gives when the next one expires.
    async fn acme_expire(self: &Arc<Self>) -> Result<Option<u64>, Failure> {
        let now = now_unix_ms();
        let read = |daemon: &Self| daemon.state.tokens().map_err(internal);
        let (gone, left): (Vec<_>, Vec<_>) = self
            .blocking(read)
            .await?
            .into_iter()
            .partition(|token| token.until_unix_ms <= now);
        let owners: BTreeSet<_> = gone.into_iter().map(|token| token.owner).collect();
        for name in owners {
            let owner = parse_name(&name).map_err(internal)?;
            let prepare = move |daemon: &Self| {
                let mut gone = daemon.state.tokens().map_err(internal)?;
                gone.retain(|token| token.owner == name && token.until_unix_ms <= now);
                if gone.is_empty() {
                    // Another node of the fleet was faster.
                    return Ok(Edit::new(name.as_str(), Vec::new(), |_, _| None));
                }
                Ok(daemon.acme_edit(&owner, Vec::new(), gone)?.map(Some))
            };
            let told = |changed: &Result<Option<AcmeChanged>, Failure>| {
                if let Ok(Some(changed)) = changed {
                    audit::acme(&Who::of(&By::Itself), changed);
                }
            };
            self.edit(prepare, told).await?;
        }
        Ok(left.iter().map(|token| token.until_unix_ms).min())
    }

    /// Takes tokens away when they expire, for ever.
    pub async fn follow_tokens(self: Arc<Self>) -> Never {
        loop {
            let wait = match self.acme_expire().await {
                Ok(next) => next.map(|next| {
                    Duration::from_millis(next.saturating_sub(now_unix_ms()))
                        + Duration::from_millis(1)
                }),
                // Without the fleet's store, which the log has said.
                Err(Failure::Unavailable(why)) => {
                    debug!("tokens that have expired stay: {why}");
                    Some(AGAIN)
                }
                Err(failure) => {
                    error!("tokens that have expired could not be taken away: {failure}");
                    Some(AGAIN)
                }
            };
            // A clock may be set: looked at again now and then.
            let wait = wait.unwrap_or(Duration::MAX).min(Duration::from_secs(60));
            let _ = tokio::time::timeout(wait, self.zones.tokens.0.notified()).await;
        }
    }
}

fn shown(config: &Config, tokens: Vec<Token>) -> Vec<AcmeToken> {
    let zone = |token: &Token| {
        let owner = parse_name(&token.owner).ok()?;
        zone_of(config, &owner).map(|zone| zone.name.to_string())
    };
    let now = now_unix_ms();
    let shown = tokens.into_iter().map(|token| AcmeToken {
        zone: zone(&token),
        name: token.owner,
        token: token.text,
        ttl: token.ttl,
        until_unix_ms: token.until_unix_ms,
        now_unix_ms: now,
    });
    shown.collect()
}

#[async_trait]
impl crate::control::acme::Service for Control {
    async fn acme_list(&self) -> Result<Vec<AcmeToken>, Failure> {
        self.read_state(|daemon| daemon.acme_list()).await
    }

    async fn acme_set(&self, set: AcmeSet) -> Result<AcmeChanged, Failure> {
        self.edit("acme set", move |daemon| daemon.acme_set(&set), audit::acme)
            .await
    }

    async fn acme_clear(&self, clear: AcmeClear) -> Result<AcmeChanged, Failure> {
        let change = move |daemon: &Daemon| daemon.acme_clear(&clear);
        self.edit("acme clear", change, audit::acme).await
    }
}

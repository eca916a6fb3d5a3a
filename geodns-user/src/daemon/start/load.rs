//! Everything is read and compiled before anybody is answered. Privileges are given up at the end.

use std::sync::Arc;

use crate::config::{self, Config, Mode, ZoneFile};
use crate::daemon::event::Events;
use crate::daemon::inputs::{end_trial, load_running, read, warn_of};
use crate::daemon::zones::{self, acme, catalogs};
use crate::daemon::{Options, mirrors, overrides, privileges};
use crate::event::Journal;
use crate::health::Feed;
use crate::kernel::{self, bpffs};
use crate::service::Standings;
use crate::state::{Out, State};
use crate::transfer::kept::KeptZones;
use crate::world::{Warning, World};
use crate::zone::Zones;

/// Everything that there is before anybody is answered.
pub struct Loaded {
    pub config: Arc<Config>,
    pub state: State,
    pub events: Events,
    /// Mirrors and pools that are out by the history.
    pub out: Out,
    pub kept: KeptZones,
    pub standings: Standings,
    pub world: World,
    pub feed: Option<Feed>,
    /// Why the program cannot be loaded, though `kernel.mode` is not off.
    pub not_loaded: Option<anyhow::Error>,
}

/// Reads the configuration, the state and every file, compiles the world, and gives up privileges.
pub fn load(options: &Options, journal: Arc<Journal>) -> anyhow::Result<Loaded> {
    end_trial(options)?;
    let config = load_running(options)?;
    let state = State::open(&config.state)?;
    let (last, out) = state.begin_events()?;
    let events = Events::new(journal, last);
    let kept = KeptZones::beside(&config.state);
    let members = state.members()?;
    let of = config.clone();
    let kept_zone = |zone: &ZoneFile| zones::kept_for(&of, &kept, zone);
    let mut inputs = read(config, &members, None, &kept_zone)?;
    warn_of(&inputs);
    let config = Arc::clone(&inputs.config);
    kept.sweep(config.zones.iter().map(|zone| &zone.name));
    let zones = Arc::make_mut(&mut inputs.zones);
    acme::put_over_all(&config, &state, zones)?;
    catalogs::save(&state, &catalogs::produce(&config, &state, zones)?)?;
    zones.make_offers(&config, &Zones::default(), None);
    let layers = overrides::layers(&inputs, &state)?;
    let standings = mirrors::load(&config, &state)?;
    let world = inputs.compile(&layers, 1, rand::random())?;
    inputs.unmatched().iter().for_each(Warning::log);
    let not_loaded = match ready_for_program(&config.kernel) {
        Err(error) if config.kernel.required => return Err(error),
        ready => ready.err(),
    };
    // Before there are handlers of signals: on some file systems it may take for ever.
    let feed = config.health_feed.as_deref().map(|path| {
        let mut feed = Feed::new(path);
        feed.look();
        feed
    });
    if let Some(readers) = config.readers() {
        privileges::join(readers);
    }
    privileges::raise_file_limit();
    privileges::drop_all_but_needed()?;
    Ok(Loaded {
        config,
        state,
        events,
        out,
        kept,
        standings,
        world,
        feed,
        not_loaded,
    })
}

/// Sees to what the program needs before it can be loaded, some of it with privileges that the daemon gives up.
fn ready_for_program(config: &config::Kernel) -> anyhow::Result<()> {
    if config.mode != Mode::Off {
        kernel::object()?;
        privileges::require_for_program()?;
        bpffs::ensure(&config.pin)?;
    }
    Ok(())
}

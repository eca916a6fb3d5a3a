//! The world of `world/`, which the targets ask, and their clients.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use domain::tsig;
use geodns::base::name::parse_name;
use geodns::config::Config;
use geodns::serve::Identity;
use geodns::world::{Inputs, World};
use geodns::zone::{self, Zones};

/// The world.
pub static WORLD: LazyLock<World> = LazyLock::new(world);

/// The identity of the slow path.
pub static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity {
    id: WORLD.inputs.config.server.id(),
    nsid: WORLD.inputs.config.server.nsid(),
    version: Some("0".into()),
    cookies: None,
});

/// A key that it knows.
pub static KEY: LazyLock<Arc<tsig::Key>> = LazyLock::new(|| {
    let name = parse_name("key").expect("a name");
    let key = WORLD.inputs.config.keys.get(&name);
    Arc::clone(&key.expect("the configuration has it").key)
});

/// One of those who ask: a primary that may have zones, and others.
pub fn client(number: u8) -> IpAddr {
    const CLIENTS: [&str; 4] = ["192.0.2.7", "10.1.2.3", "2a00::8001", "::ffff:192.0.2.7"];
    CLIENTS[usize::from(number) % CLIENTS.len()]
        .parse()
        .expect("an address")
}

fn world() -> World {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("world/geodns.toml");
    let mut inputs = Inputs::of(Config::load(&path).expect("it is valid")).expect("and its files");
    inputs.zones = Arc::new(changed(&inputs.config, &inputs.zones));
    inputs
        .compile(&inputs.layers(), 1, [1, 2])
        .expect("it compiles")
}

/// The zones, to be transferred; the first has changed, so that there is a delta.
fn changed(config: &Config, zones: &Zones) -> Zones {
    let mut zones = zones.clone();
    zones.make_offers(config, &Zones::default(), None);
    let before = zones.clone();
    let file = config.zones[0].file.as_deref().expect("it has a file");
    let text = std::fs::read_to_string(file).expect("it is there");
    let text = text.replacen("hostmaster 1 ", "hostmaster 2 ", 1) + "new IN A 192.0.2.99\n";
    let reading = zone::parse(&config.zones[0].name, file, text.as_bytes());
    let zone = reading.zone.expect("it is valid still");
    zone::put(config, &mut zones, 0, zone).expect("it fits");
    zones.make_offers(config, &before, Some(0));
    zones
}

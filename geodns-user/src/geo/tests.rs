//! Lists as people write them, and lookups against the plain definition.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Layer, String> {
    let mirror = |id: &str| match id {
        "ams" => Ok(Some(0)),
        "iad" => Ok(Some(1)),
        "elsewhere" => Ok(None),
        other => Err(format!("no mirror \"{other}\"")),
    };
    Layer::parse(text, Path::new("world.csv"), mirror).map_err(|error| error.to_string())
}

fn nets(layer: &Layer) -> Vec<(String, u8)> {
    let all = layer.iter();
    all.map(|(net, mirror)| (net.to_string(), mirror)).collect()
}

#[test]
fn a_list_is_read_and_sorted() {
    let text = "\u{feff}prefix,mirror\r\n\
        # Europe\r\n\
        2001:db8::/32,ams\r\n\
        \r\n\
        192.0.2.128/25 , iad\n\
        \"192.0.2.0/24\",\"ams\"\n\
        10.0.0.0/8,elsewhere\n\
        0.0.0.0/0,iad\n\
        255.255.255.255/32,ams";
    let expected = [
        ("0.0.0.0/0", 1),
        ("192.0.2.0/24", 0),
        ("192.0.2.128/25", 1),
        ("255.255.255.255/32", 0),
        ("2001:db8::/32", 0),
    ];
    let layer = parse(text).unwrap();
    assert_eq!(nets(&layer), expected.map(|(net, m)| (net.to_owned(), m)));
    assert_eq!(layer.len(), 5);
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, expected) in [
        (
            "10.0.0.0/8",
            "world.csv:1: \"10.0.0.0/8\" is not of the form prefix,mirror",
        ),
        (
            "10.0.0.0/8,ams\n\n10.0.0.1/8,ams",
            "world.csv:3: 10.0.0.1/8 has bits set past its length; write 10.0.0.0/8",
        ),
        (
            "::ffff:10.0.0.0/104,ams\n",
            "world.csv:1: ::ffff:10.0.0.0/104 is of IPv4 addresses, mapped; write 10.0.0.0/8",
        ),
        (
            "2001:db8::1/32,ams",
            "world.csv:1: 2001:db8::1/32 has bits set past its length; write 2001:db8::/32",
        ),
        (
            "10.0.0.1/0,ams",
            "world.csv:1: 10.0.0.1/0 has bits set past its length; write 0.0.0.0/0",
        ),
        ("# x\n10.0.0.0/8,sin", "world.csv:2: no mirror \"sin\""),
        (
            "10.0.0.0/8,ams\n11.0.0.0/8,ams\n10.0.0.0/8,iad",
            "world.csv:3: 10.0.0.0/8 stands in line 1 already; keep one of the two",
        ),
        (
            "::/0,ams\n0.0.0.0/0,ams\n::/0,iad",
            "world.csv:3: ::/0 stands in line 1 already; keep one of the two",
        ),
        (
            "10.0.0.0/8,ams\nprefix,mirror",
            "world.csv:2: no mirror \"mirror\"",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected);
    }
    for prefix in [
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0/8",
        "10.0.0.256/32",
        "10.0.0.0.0/8",
        "10.0.0.0/8/8",
        "1000.0.0.0/8",
        "10.0.0.0/",
        "/8",
        "",
        "2001:db8::/129",
        "10.0.0.0/+8",
        "-1.0.0.0/8",
    ] {
        assert_eq!(
            parse(&format!("{prefix},ams")).unwrap_err(),
            format!(
                "world.csv:1: {prefix:?} is not an address prefix such as 192.0.2.0/24 or \
                 2001:db8::/32"
            )
        );
    }
}

#[test]
fn damage_to_a_packed_list_is_noticed() {
    let layer = parse("10.0.0.0/8,ams\n10.0.0.0/9,iad\n2001:db8::/32,iad").unwrap();
    let bytes = layer.to_bytes();
    assert_eq!(Layer::from_bytes(&bytes).as_ref(), Some(&layer));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert_eq!(Layer::from_bytes(&damaged), None, "octet {at}");
        assert_eq!(Layer::from_bytes(&bytes[..at]), None, "cut at {at}");
    }
    // Whole, but not what a list may be.
    let unsorted = Layer {
        v4: vec![(1 << 24, 8, 0), (0, 8, 0)],
        v6: Vec::new(),
    };
    assert_eq!(Layer::from_bytes(&unsorted.to_bytes()), None);
    let host_bits = Layer {
        v4: vec![(1, 8, 0)],
        v6: Vec::new(),
    };
    assert_eq!(Layer::from_bytes(&host_bits.to_bytes()), None);
}

fn net() -> impl Strategy<Value = IpNet> {
    // Few addresses and all lengths, so that prefixes nest.
    let v4 = (0..4u32, 0..4u32, 0..=32u8).prop_map(|(high, low, len)| {
        let address = IpAddr::V4((high << 30 | low).into());
        IpNet::new(address, len).unwrap().trunc()
    });
    let v6 = (0..4u128, 0..4u128, 0..=128u8).prop_map(|(high, low, len)| {
        let address = IpAddr::V6((high << 126 | low).into());
        IpNet::new(address, len).unwrap().trunc()
    });
    prop_oneof![v4, v6]
}

fn layer() -> impl Strategy<Value = Layer> {
    btree_map(net(), 0..3u8, 0..12).prop_map(|all| {
        let text: String = all.iter().map(|(net, m)| format!("{net},{m}\n")).collect();
        let number = |id: &str| id.parse().map(Some).map_err(|_| "no number".to_owned());
        Layer::parse(&text, Path::new("list"), number).unwrap()
    })
}

fn layers() -> impl Strategy<Value = Layers> {
    (layer(), layer(), btree_map(net(), 0..3u8, 0..8)).prop_map(|(base, imported, overrides)| {
        Layers {
            base: Arc::new(base),
            imported: Arc::new(imported),
            overrides,
        }
    })
}

fn naive(all: impl Iterator<Item = (IpNet, u8)>, address: IpAddr) -> Option<(IpNet, u8)> {
    all.filter(|(net, _)| net.contains(&address))
        .max_by_key(|(net, _)| net.prefix_len())
}

fn addresses(window: IpNet) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = (0..16u32)
        .flat_map(|n| {
            [
                n << 30,
                ((n % 4) << 30) | (n / 4),
                (n << 30).wrapping_sub(1),
            ]
        })
        .map(|address| IpAddr::V4(address.into()))
        .collect();
    all.extend((0..16u128).flat_map(|n| {
        [
            n << 126,
            ((n % 4) << 126) | (n / 4),
            (n << 126).wrapping_sub(1),
        ]
        .map(|address| IpAddr::V6(address.into()))
    }));
    all.extend([window.network(), window.broadcast()]);
    all
}

proptest! {
    #[test]
    fn lookups_find_the_longest_prefix(layers in layers()) {
        for address in addresses("0.0.0.0/0".parse().unwrap()) {
            let list = &layers.base;
            prop_assert_eq!(list.lookup(address), naive(list.iter(), address));
            let overrides = layers.overrides.iter().map(|(&net, &m)| (net, m));
            prop_assert_eq!(layers.overriding(address), naive(overrides, address));
        }
    }

    #[test]
    fn a_walk_is_its_window_and_says_what_lookups_say(layers in layers(), window in net()) {
        let whole = Prefix::of(window);
        let runs: Vec<_> = Walk::new(&layers, whole).collect();
        prop_assert_eq!(runs.first().map(|run| run.first), Some(whole.first));
        prop_assert_eq!(runs.last().map(|run| run.last), Some(whole.last()));
        for pair in runs.windows(2) {
            prop_assert_eq!(pair[0].last + 1, pair[1].first);
        }
        for address in addresses(window) {
            let host = Prefix::host(address);
            if !whole.covers(&host) || whole.family != host.family {
                continue;
            }
            let run = runs.iter().find(|run| (run.first..=run.last).contains(&host.first));
            let run = run.unwrap();
            prop_assert_eq!(run.listed, layers.listed(address).map(|(_, m, _)| m));
            prop_assert_eq!(run.overriding, layers.overriding(address).map(|(_, m)| m));
        }
    }

    #[test]
    fn one_list_in_force_says_what_the_layers_say(layers in layers()) {
        let merged = layers.in_force();
        for address in addresses("::/0".parse().unwrap()) {
            let expected = layers.overriding(address);
            let expected = expected.or(layers.listed(address).map(|(net, m, _)| (net, m)));
            prop_assert_eq!(naive(merged.iter().copied(), address), expected);
        }
    }

    #[test]
    fn packing_keeps_everything(layer in layer()) {
        let unpacked = Layer::from_bytes(&layer.to_bytes());
        prop_assert_eq!(unpacked, Some(layer));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9a-f:./,\"# \n]{0,80}", noise in vec(any::<u8>(), 0..60)) {
        let _ = parse(&text);
        let _ = parse(&String::from_utf8_lossy(&noise));
        let _ = Layer::from_bytes(&noise);
    }
}

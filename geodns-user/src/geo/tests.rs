//! Lists as people write them, and lookups against the plain definition.

use std::net::Ipv4Addr;

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
    Layer::parse(text, Path::new("world.csv"), None, mirror).map_err(|error| error.to_string())
}

fn nets(layer: &Layer) -> Vec<(String, &[u8])> {
    let all = layer.iter();
    all.map(|(net, number)| (net.to_string(), layer.members(number)))
        .collect()
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
    let expected: [(_, &[u8]); 5] = [
        ("0.0.0.0/0", &[1]),
        ("192.0.2.0/24", &[0]),
        ("192.0.2.128/25", &[1]),
        ("255.255.255.255/32", &[0]),
        ("2001:db8::/32", &[0]),
    ];
    let layer = parse(text).unwrap();
    assert_eq!(nets(&layer), expected.map(|(net, m)| (net.to_owned(), m)));
    assert_eq!(layer.len(), 5);
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn a_line_may_have_an_order_of_mirrors() {
    let text = "prefix,mirror,mirror,mirror\n\
        192.0.2.0/24,iad,ams\n\
        # Padded, as spreadsheets do it.\n\
        198.51.100.0/24, \"ams\" ,iad,,\n\
        203.0.113.0/24,elsewhere,iad,\n\
        10.0.0.0/8,elsewhere,ams,iad\n\
        11.0.0.0/8,elsewhere,,\n";
    let expected: [(_, &[u8]); 4] = [
        ("10.0.0.0/8", &[0, 1]),
        ("192.0.2.0/24", &[1, 0]),
        ("198.51.100.0/24", &[0, 1]),
        ("203.0.113.0/24", &[1]),
    ];
    let layer = parse(text).unwrap();
    assert_eq!(nets(&layer), expected.map(|(net, m)| (net.to_owned(), m)));
    // Members that have other numbers now, or are gone.
    let swapped = layer.clone().renumber(|member| Some(1 - member));
    let others: [&[u8]; 4] = [&[1, 0], &[0, 1], &[1, 0], &[0]];
    let orders: Vec<_> = nets(&swapped).into_iter().map(|(_, order)| order).collect();
    assert_eq!(orders, others);
    let one = layer.renumber(|member| (member == 0).then_some(5));
    assert_eq!(one.len(), 3);
    assert!(nets(&one).iter().all(|(_, order)| *order == [5]));
}

#[test]
fn orders_are_bounded_and_prefixes_are_not() {
    // All orders of eight mirrors are fewer than the bound, those of nine are more.
    let mut order: Vec<u8> = (0..9).collect();
    let mut text = String::new();
    let mut count = 0usize;
    loop {
        let ids: Vec<_> = order.iter().map(u8::to_string).collect();
        let net = Ipv4Addr::from_bits((count as u32) << 8);
        text += &format!("{net}/24,{}\n", ids.join(","));
        count += 1;
        // The next permutation.
        let Some(at) = order.windows(2).rposition(|pair| pair[0] < pair[1]) else {
            break;
        };
        let next = order
            .iter()
            .rposition(|&member| member > order[at])
            .unwrap();
        order.swap(at, next);
        order[at + 1..].reverse();
    }
    let number = |id: &str| Ok(Some(id.parse().unwrap()));
    let parse = |text: &str| Layer::parse(text, Path::new("list.csv"), None, number);
    let fits: Vec<_> = text.lines().take(MAX_ORDERS).collect();
    let mut fits = fits.join("\n");
    assert_eq!(parse(&fits).unwrap().len(), MAX_ORDERS);
    fits += "\n255.0.0.0/8,0,1,2,3,4,5,6,7,8\n254.0.0.0/8,3\n";
    let layer = parse(&fits).unwrap();
    assert_eq!(layer.len(), MAX_ORDERS + 2);
    assert_eq!(Layer::from_bytes(&layer.to_bytes()), Some(layer));
    let error = parse(&text).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("list.csv:{}: {TooMany}", MAX_ORDERS + 1)
    );
    assert!(
        TooMany
            .to_string()
            .contains("more than 65408 different orders")
    );
}

#[test]
fn rules_go_before_lines_of_a_list() {
    let mut layer = parse("10.0.0.0/8,ams\n192.0.2.0/24,ams\n::/0,ams").unwrap();
    let rules: [(&str, &[u8]); 3] = [
        ("192.0.2.0/24", &[1, 0]),
        ("0.0.0.0/0", &[1]),
        ("2001:db8::/32", &[1, 0]),
    ];
    let rules = rules.map(|(net, order)| (net.parse().unwrap(), order));
    layer.insert_all(rules.into_iter()).unwrap();
    let expected: [(_, &[u8]); 5] = [
        ("0.0.0.0/0", &[1]),
        ("10.0.0.0/8", &[0]),
        ("192.0.2.0/24", &[1, 0]),
        ("::/0", &[0]),
        ("2001:db8::/32", &[1, 0]),
    ];
    assert_eq!(nets(&layer), expected.map(|(net, m)| (net.to_owned(), m)));
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
        ("10.0.0.0/8,ams,sin", "world.csv:1: no mirror \"sin\""),
        ("10.0.0.0/8,", "world.csv:1: no mirror \"\""),
        ("10.0.0.0/8,ams,,iad", "world.csv:1: no mirror \"\""),
        (
            "10.0.0.0/8,iad,ams,iad",
            "world.csv:1: mirror \"iad\" stands in it twice; remove one",
        ),
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
                "world.csv:1: {prefix:?} is not an address prefix; write one, as 192.0.2.0/24 or \
                 2001:db8::/32, or an address"
            )
        );
    }
}

#[test]
fn damage_to_a_packed_list_is_noticed() {
    for text in [
        "10.0.0.0/8,ams\n10.0.0.0/9,iad\n2001:db8::/32,iad",
        "10.0.0.0/8,ams,iad\n10.0.0.0/9,iad,ams\n2001:db8::/32,iad",
    ] {
        let layer = parse(text).unwrap();
        let bytes = layer.to_bytes();
        assert_eq!(Layer::from_bytes(&bytes).as_ref(), Some(&layer));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Layer::from_bytes(&damaged), None, "octet {at}");
            assert_eq!(Layer::from_bytes(&bytes[..at]), None, "cut at {at}");
        }
    }
    // Whole, but not what a list may be.
    let mut unsorted = Layer::default();
    unsorted.v4 = vec![(1 << 24, 8, 0), (0, 8, 0)];
    assert_eq!(Layer::from_bytes(&unsorted.to_bytes()), None);
    let mut host_bits = Layer::default();
    host_bits.v4 = vec![(1, 8, 0)];
    assert_eq!(Layer::from_bytes(&host_bits.to_bytes()), None);
    let mut no_such_order = parse("10.0.0.0/8,ams,iad").unwrap();
    no_such_order.v4[0].2 += 1;
    assert_eq!(Layer::from_bytes(&no_such_order.to_bytes()), None);
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
    let order = prop::sample::select(vec!["0", "1", "2", "0,1", "2,1", "0,2,1"]);
    btree_map(net(), order, 0..12).prop_map(|all| {
        let text: String = all.iter().map(|(net, m)| format!("{net},{m}\n")).collect();
        let number = |id: &str| id.parse().map(Some).map_err(|_| "no number".to_owned());
        Layer::parse(&text, Path::new("list"), None, number).unwrap()
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

fn naive<T>(all: impl Iterator<Item = (IpNet, T)>, address: IpAddr) -> Option<(IpNet, T)> {
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
        let runs: Vec<_> = Walk::new(&layers, &Layer::default(), whole).collect();
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
            prop_assert_eq!(run.listed, layers.listed(address).map(|(_, listed)| listed));
            prop_assert_eq!(run.overriding, layers.overriding(address).map(|(_, m)| m));
        }
    }

    #[test]
    fn one_list_in_force_says_what_the_layers_say(layers in layers()) {
        let merged = layers.in_force();
        for address in addresses("::/0".parse().unwrap()) {
            let expected = layers.overriding(address).map(|(net, m)| (net, members(m)));
            let listed = layers.listed(address);
            let expected = expected.or(listed.map(|(net, m)| (net, layers.members(m))));
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

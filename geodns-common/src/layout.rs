//! What the pinned maps hold, which daemons of different versions may meet: its fingerprint.
//!
//! All else in [`abi`](crate::abi) is an instance's own, and goes with the binary that made it.

/// The maps that are pinned, and shared by all instances of the program.
pub const MAPS: [&str; 7] = [
    "COUNTERS",
    "HEARTBEAT",
    "LISTEN",
    "COOKIES",
    "DROPPED",
    "SIGHTINGS",
    "SKETCHES",
];

#[cfg(test)]
mod tests {
    extern crate std;

    use core::mem::offset_of;
    use std::collections::BTreeSet;

    use super::MAPS;
    use crate::abi::{Cookies, Heartbeat, LAYOUTS, Listen, VERSION};
    use crate::verdict::{COUNTERS, Tally, Verdict};
    use crate::watch::{
        Place, SIGHTINGS_OCTETS, SKETCH_BITS, SKETCH_ROWS, Sighting, Sketch, Watch,
    };
    use crate::{address, rules};

    /// FNV-1a, of 64 bits.
    struct Fingerprint(u64);

    impl Fingerprint {
        fn text(&mut self, text: &str) {
            for octet in text.bytes().chain([0]) {
                self.0 = (self.0 ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
            }
        }

        fn number(&mut self, name: &str, number: u64) {
            self.text(name);
            self.text(&std::format!("{number}"));
        }
    }

    /// Size of what a field of a type is.
    fn size<T, F>(_: impl Fn(&T) -> &F) -> u64 {
        size_of::<F>() as u64
    }

    /// Takes a type's name, and each field's name, place and size. Does not build if a field is left out.
    macro_rules! take {
        ($into:ident: $type:ident { $($field:ident),+ $(,)? }) => {
            let _ = |of: $type| {
                let $type { $($field: _),+ } = of;
            };
            $into.number(stringify!($type), size_of::<$type>() as u64);
            $(
                $into.number(stringify!($field), offset_of!($type, $field) as u64);
                $into.number("size", size::<$type, _>(|of| &of.$field));
            )+
        };
    }

    fn fingerprint() -> u64 {
        let mut all = Fingerprint(0xcbf2_9ce4_8422_2325);
        for map in MAPS {
            all.text(map);
        }
        all.number("counters", COUNTERS as u64);
        for (at, verdict) in Verdict::ALL.iter().enumerate() {
            all.number(verdict.name(), at as u64);
        }
        all.number("over budget", u64::from(Verdict::OVER_BUDGET));
        for tally in Tally::ALL {
            all.number(tally.name(), u64::from(tally.index()));
        }
        all.number("rules", u64::from(rules::COUNTERS));

        take!(all: Heartbeat { deadline, epoch });

        take!(all: Cookies { row, secrets });
        all.number("secrets", Cookies::SECRETS as u64);
        all.number("cookies", Cookies::row(1, 2));

        take!(all: Listen { address, ifindex, _pad, mac });
        all.number("slots", Listen::SLOTS.into());
        all.number("probes", Listen::PROBES.into());
        all.number("in use", Listen::IN_USE);
        all.number("home", Listen::home([1, 2], 3).into());

        take!(all: Sighting {
            at, order, source, is_v6, took, verdict, kinds, ifindex, pool, mirror, qtype, name_len, query_len,
            answer_len, _pad, name, query, answer,
        });
        all.number("octets", SIGHTINGS_OCTETS.into());
        all.number("sample", Watch::SAMPLE.into());
        all.number("capture", Watch::CAPTURE.into());

        take!(all: Place { prefix, total, lead });
        all.number("sketch", size_of::<Sketch>() as u64);
        all.number("rows", SKETCH_ROWS.into());
        all.number("bits", SKETCH_BITS.into());
        all.number("prefix", address::prefix([u64::MAX, 2], true));
        all.0
    }

    #[test]
    fn a_change_of_what_is_pinned_is_a_new_version() {
        let (now, last) = (fingerprint(), LAYOUTS.last().copied().unwrap_or_default());
        assert!(
            now == last,
            "what is pinned has changed since layout {VERSION}. If that layout has been released, append {now:#x} \
             to abi::LAYOUTS, which raises abi::VERSION; else put it in the place of {last:#x}"
        );
        let different: BTreeSet<&u64> = LAYOUTS.iter().collect();
        assert_eq!(
            different.len(),
            LAYOUTS.len(),
            "each layout has a version of its own"
        );
    }
}

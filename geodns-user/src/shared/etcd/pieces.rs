//! Values as etcd has them. A large value stands in pieces below keys of their own, and a header that names them stands
//! in its place.

use super::super::{MOST_OCTETS, Put};

/// A value with more octets goes in pieces. etcd takes requests of 1.5 MiB by default.
const WHOLE: usize = 512 << 10;
/// Octets of all values of a write that stand in their places.
const WHOLE_TOGETHER: usize = 1 << 20;
/// Octets of a piece.
pub const PIECE: usize = 1 << 20;
/// First octet of a header, and of a plain value that begins with it; the second octet tells them apart.
const MARK: u8 = 0;
const PLAIN: u8 = b'=';
const HEADER: u8 = b'/';

/// A value as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The value.
    Whole(Vec<u8>),
    /// A header.
    Pieces(Header),
}

/// The pieces of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Their name below the key.
    pub id: String,
    /// Octets of the value.
    pub octets: usize,
}

impl Header {
    /// The number of pieces.
    pub const fn count(&self) -> usize {
        self.octets.div_ceil(PIECE)
    }

    /// The value that stands in the place of the large one.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![MARK, HEADER];
        octets.extend(format!("{} {}", self.id, self.octets).into_bytes());
        octets
    }
}

/// A value that stands in its place.
pub fn whole(value: &[u8]) -> Vec<u8> {
    match value.first() {
        Some(&MARK) => [&[MARK, PLAIN], value].concat(),
        _ => value.to_vec(),
    }
}

/// Reads a value. `None`: it is none of ours.
pub fn read(mut value: Vec<u8>) -> Option<Stored> {
    match *value.as_slice() {
        [MARK, PLAIN, ..] => {
            value.drain(..2);
            Some(Stored::Whole(value))
        }
        [MARK, HEADER, ref header @ ..] => {
            let (id, octets) = std::str::from_utf8(header).ok()?.split_once(' ')?;
            let octets = octets.parse().ok()?;
            let good = !id.is_empty() && !id.contains('/') && octets <= MOST_OCTETS;
            good.then(|| {
                Stored::Pieces(Header {
                    id: id.to_owned(),
                    octets,
                })
            })
        }
        [MARK, ..] => None,
        _ => Some(Stored::Whole(value)),
    }
}

/// Which values of a write go in pieces, by their places.
pub fn split(puts: &[Put]) -> Vec<bool> {
    let mut room = WHOLE_TOGETHER;
    let goes_in_pieces = |put: &Put| {
        let octets = put.value.len();
        let large = octets > WHOLE || octets > room;
        if !large {
            room -= octets;
        }
        large
    };
    puts.iter().map(goes_in_pieces).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        for value in [&b""[..], b"a", b"\0", b"\0/x 5", b"\0=", b"{}"] {
            let read = read(whole(value));
            assert_eq!(read, Some(Stored::Whole(value.to_vec())), "{value:?}");
        }
        let header = Header {
            id: "ab12".to_owned(),
            octets: 3 * PIECE + 1,
        };
        assert_eq!(header.count(), 4);
        assert_eq!(read(header.encode()), Some(Stored::Pieces(header)));
        for bad in [
            "\0",
            "\0/",
            "\0/a",
            "\0/ 5",
            "\0/a b",
            "\0/a/b 5",
            "\0/a 99999999999",
            "\0x",
        ] {
            assert_eq!(read(bad.as_bytes().to_vec()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_write_stays_below_the_size_of_a_request() {
        let puts = |sizes: &[usize]| -> Vec<Put> {
            sizes
                .iter()
                .map(|size| Put::new("a", vec![0; *size]))
                .collect()
        };
        assert_eq!(split(&puts(&[WHOLE, WHOLE + 1, 3])), [false, true, false]);
        assert_eq!(split(&puts(&[WHOLE, WHOLE, 3])), [false, false, true]);
        assert_eq!(
            split(&puts(&[0, WHOLE, WHOLE, 0])),
            [false, false, false, false]
        );
    }
}

//! SHA-256 in hexadecimal digits.

use ring::digest::{SHA256, digest};

/// All 64 digits.
pub fn sha256(octets: &[u8]) -> String {
    let digest = digest(&SHA256, octets);
    let digits = digest.as_ref().iter();
    digits.map(|octet| format!("{octet:02x}")).collect()
}

/// The first 16 digits: enough to tell things apart, and short enough to show.
pub fn short(octets: &[u8]) -> String {
    let mut digits = sha256(octets);
    digits.truncate(16);
    digits
}

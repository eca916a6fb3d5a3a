//! Files that change: read again, and in force when they are good. A broken one changes nothing.
//!
//! - `certificate`: the certificate of DNS over TLS
//! - `databases`: GeoIP databases

mod certificate;
mod databases;

pub use databases::folder;

//! The ground floor: words that every room shares. It uses no other room.
//!
//! - [`bandwidth`]: bits a second, as people read them
//! - [`capability`]: capabilities of the process
//! - [`clock`]: the time of day, as a number
//! - [`complaint`]: what is wrong with an input file, where, and what to do
//! - [`country`]: codes of countries and continents
//! - [`lock`]: locks that outlive a panic
//! - [`name`]: domain names
//! - [`prefix`]: address prefixes, as people write them and as the kernel's tries have them
//! - [`seats`]: seats for connections, and who loses one when there are too few
//! - [`sha256`]: SHA-256 in hexadecimal digits
//! - [`socket`]: Unix sockets that only their owner and root may use

pub mod bandwidth;
pub mod capability;
pub mod clock;
pub mod complaint;
pub mod country;
pub mod lock;
pub mod name;
pub mod prefix;
pub mod seats;
pub mod sha256;
pub mod socket;

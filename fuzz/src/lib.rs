//! The fuzz targets, as functions: any octets in, and a panic if something that must hold does not.
//!
//! `fuzz_targets` puts libFuzzer before them; a test (`tests/tests/corpora.rs`) feeds them what is in
//! `seeds`, which past runs have found, without it.
//!
//! - [`answer`]: the fast path; [`respond`]: the slow path; [`transfer`]: what primaries send; [`zone_file`]: files
//! - [`config`]: configurations; [`votes`]: what nodes of a fleet say of mirrors
//! - `world`: what is asked; `message`: a second reader of what is answered

pub mod answer;
pub mod config;
mod message;
pub mod respond;
pub mod transfer;
pub mod votes;
mod world;
pub mod zone_file;

//! Code and layouts that the XDP program and userspace share.
//!
//! Everything here runs unchanged in the kernel and on the host: no allocation, no aya, no I/O. A module uses only
//! modules that stand before it here, which `cargo xtask check` makes sure of:
//!
//! - [`opaque`]: numbers that LLVM must not know
//! - [`wire`]: DNS wire format: names, header, EDNS, checksums
//! - [`address`]: addresses as numbers
//! - [`subnet`]: which client subnets say nothing
//! - [`cookie`]: DNS cookies
//! - [`verdict`]: decisions on a packet, each with its counter
//! - [`abi`]: the layout of the tables, written by userspace and read by the program
//! - [`layout`]: the maps that are pinned and shared, and their version
//! - [`limit`]: response rate limiting
//! - [`scratch`]: a frame, and what becomes known of the query in it
//! - [`tables`]: the trait behind which the tables stand, and the lookups over it
//! - [`block`]: block rules: which queries are dropped
//! - [`watch`]: samples of queries and answers, and the clients that ask most
//! - [`respond`]: the fast path: a DNS message in, a DNS message out, or a reason to pass

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod address;
pub mod block;
pub mod cookie;
pub mod layout;
pub mod limit;
pub mod opaque;
pub mod respond;
pub mod scratch;
pub mod subnet;
pub mod tables;
pub mod verdict;
pub mod watch;
pub mod wire;

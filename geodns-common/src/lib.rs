//! What the XDP program and userspace share.
//!
//! Everything here runs unchanged in the kernel and on the host: no allocation, no aya, no I/O.
//!
//! - [`abi`]: the layout of the tables, written by userspace and read by the program
//! - [`layout`]: what of it is pinned, and so has a version
//! - [`wire`]: DNS wire format: names, header, EDNS, checksums
//! - [`cookie`]: DNS cookies
//! - [`limit`]: response rate limiting
//! - [`rules`]: which queries are dropped
//! - [`watch`]: samples of what is asked and answered, and who asks most
//! - [`subnet`]: which client subnets say nothing
//! - [`opaque`]: what LLVM is not to know
//! - [`tables`]: the trait behind which the tables stand, and the lookups over it
//! - [`verdict`]: what is decided for a packet, and its counter
//! - [`respond`]: the fast path: a DNS message in, a DNS message out, or a reason to pass

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod cookie;
pub mod layout;
pub mod limit;
pub mod opaque;
pub mod respond;
pub mod rules;
pub mod subnet;
pub mod tables;
pub mod verdict;
pub mod watch;
pub mod wire;

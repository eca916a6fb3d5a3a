//! The slow path answers without asking for memory: the allocator is a place where all cores meet.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use geodns::serve::{Identity, Transport, answer};
use geodns_tests::dns::{A, AAAA, MX, Query, Reply, TXT};
use geodns_tests::real;

/// The system's allocator, counting what each thread asks it for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting asks for no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_answer_allocates_nothing() -> Result<()> {
    let world = real::compiled(None)?;
    let identity = Identity {
        id: Some("test".to_owned()),
        nsid: Some("test".to_owned()),
        version: Some("geodns test".to_owned()),
        cookies: None,
    };
    let client: IpAddr = "192.0.2.1".parse()?;
    for (name, qtype, rcode) in [
        ("mail.example.org", A, 0),
        ("MAIL.example.ORG", A, 0),
        ("mail.example.org", AAAA, 0),
        ("example.org", MX, 0),
        ("no.such.example.org", A, 3),
        ("www.example.org", A, 0),
        ("www.example.org", AAAA, 0),
        ("www.example.org", TXT, 0),
        ("any.cdn.example.org", A, 0),
        ("example.com", A, 5),
    ] {
        for edns in [false, true] {
            let mut query = Query::new(name, qtype);
            if edns {
                query = query.edns(1232);
            }
            let query = query.bytes();
            let mut response = Vec::with_capacity(1232);
            // What is made once is made now.
            let mut once = || {
                answer(
                    &world,
                    &identity,
                    &query,
                    client,
                    Transport::Udp,
                    &mut response,
                )
            };
            ensure!(once());
            let before = ASKED.get();
            for _ in 0..100 {
                once();
            }
            let asked = ASKED.get() - before;
            ensure!(
                asked == 0,
                "{name} {qtype}: {asked} allocations in 100 answers"
            );
            ensure!(Reply::parse(&response)?.rcode == rcode);
        }
    }
    Ok(())
}

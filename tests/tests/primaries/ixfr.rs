//! Ways in which a primary may say what has changed (IXFR), from serial 1 to serial 2: one record goes, and one
//! comes.

use geodns_tests::dns::{A, CNAME, NS, SOA, TC, TXT};
use geodns_tests::primary::{Act, Asked, Message, record};

use super::axfr::Manner;

/// The record that goes; `new` is the one that comes.
fn gone(q: &Asked) -> Vec<u8> {
    q.rr("old", A, &[192, 0, 2, 3])
}

fn new(q: &Asked) -> Vec<u8> {
    q.rr("how", TXT, b"\x04ixfr")
}

/// The whole zone of serial 2, which says how it came.
pub fn whole(q: &Asked, how: &str) -> Vec<Vec<u8>> {
    let how = [&[how.len() as u8], how.as_bytes()].concat();
    let records = [
        vec![q.soa(2)],
        q.body(),
        vec![q.rr("how", TXT, &how), q.soa(2)],
    ];
    records.concat()
}

/// One delta of these.
fn delta(q: &Asked, removed: &[Vec<u8>], added: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let records = [
        &[q.soa(2), q.soa(1)],
        removed,
        &[q.soa(2)],
        added,
        &[q.soa(2)],
    ];
    records.concat()
}

/// The right one, and these more.
fn with(q: &Asked, removed: &[Vec<u8>], added: &[Vec<u8>]) -> Vec<Act> {
    let removed = [&[gone(q)], removed].concat();
    let added = [&[new(q)], added].concat();
    vec![q.message(&delta(q, &removed, &added)).send()]
}

fn plain(q: &Asked) -> Message {
    q.message(&delta(q, &[gone(q)], &[new(q)]))
}

fn all(q: &Asked, records: &[Vec<u8>]) -> Vec<Act> {
    vec![q.message(records).send()]
}

fn code(q: &Asked, rcode: u16) -> Vec<Act> {
    vec![q.message(&[]).turned(rcode).send()]
}

pub const ALL: &[Manner] = &[
    ("delta", |q| vec![plain(q).send()]),
    ("two-deltas", |q| {
        let between = q.rr("between", A, &[192, 0, 2, 4]);
        let three = [
            q.soa(3),
            q.soa(1),
            gone(q),
            q.soa(2),
            between.clone(),
            q.soa(2),
            between,
            q.soa(3),
            new(q),
            q.soa(3),
        ];
        all(q, &three)
    }),
    ("record-by-record", |q| {
        let records = delta(q, &[gone(q)], &[new(q)]);
        let of = |record: &Vec<u8>| q.message(std::slice::from_ref(record)).send();
        records.iter().map(of).collect()
    }),
    ("whole-zone", |q| all(q, &whole(q, "ixfr"))),
    ("whole-zone-record-by-record", |q| {
        let records = whole(q, "ixfr");
        let of = |record: &Vec<u8>| q.message(std::slice::from_ref(record)).send();
        records.iter().map(of).collect()
    }),
    ("newer-soa-alone", |q| all(q, &[q.soa(2)])),
    ("same-soa-alone", |q| all(q, &[q.soa(1)])),
    ("older-soa-alone", |q| all(q, &[q.soa(0)])),
    ("newer-soa-twice", |q| all(q, &[q.soa(2), q.soa(2)])),
    ("empty-message-between", |q| {
        let records = delta(q, &[gone(q)], &[new(q)]);
        let (one, two) = records.split_at(3);
        vec![
            q.message(one).send(),
            q.message(&[]).send(),
            q.message(two).send(),
        ]
    }),
    ("no-question", |q| vec![plain(q).without_question().send()]),
    ("question-is-of-an-axfr", |q| {
        let mut message = plain(q);
        let at = message.questions[0].len() - 3;
        message.questions[0][at] = 252;
        vec![message.send()]
    }),
    ("tc", |q| vec![plain(q).turned(TC).send()]),
    ("notimp", |q| code(q, 4)),
    ("formerr", |q| code(q, 1)),
    ("refused", |q| code(q, 5)),
    ("servfail", |q| code(q, 2)),
    ("closed-at-once", |_| vec![Act::Close]),
    ("no-records", |q| all(q, &[])),
    ("no-end", |q| {
        let mut records = delta(q, &[gone(q)], &[new(q)]);
        records.pop();
        vec![q.message(&records).send(), Act::Close]
    }),
    ("records-after-the-end", |q| {
        let late = q.rr("late", A, &[192, 0, 2, 9]);
        all(q, &[delta(q, &[gone(q)], &[new(q)]), vec![late]].concat())
    }),
    ("removes-nothing", |q| all(q, &delta(q, &[], &[new(q)]))),
    ("adds-nothing", |q| all(q, &delta(q, &[gone(q)], &[]))),
    ("removes-what-is-not-there", |q| {
        with(q, &[q.rr("never", A, &[192, 0, 2, 9])], &[])
    }),
    ("removes-twice", |q| with(q, &[gone(q)], &[])),
    ("adds-what-is-there", |q| {
        with(q, &[], &[q.rr("www", A, &[192, 0, 2, 2])])
    }),
    ("removes-and-adds-the-same", |q| {
        let www = q.rr("www", A, &[192, 0, 2, 2]);
        with(q, std::slice::from_ref(&www), std::slice::from_ref(&www))
    }),
    ("removes-with-another-ttl", |q| {
        let www = record(&q.owner("old"), A, 1, 7, &[192, 0, 2, 3]);
        all(q, &delta(q, &[www], &[new(q)]))
    }),
    ("removes-outside", |q| {
        with(q, &[q.rr("ns.example.com.", A, &[192, 0, 2, 9])], &[])
    }),
    ("adds-outside", |q| {
        with(q, &[], &[q.rr("ns.example.com.", A, &[192, 0, 2, 9])])
    }),
    ("adds-of-class-ch", |q| {
        with(q, &[], &[record(&q.owner("ch"), A, 3, 60, &[192, 0, 2, 3])])
    }),
    ("begins-at-another-serial", |q| {
        let records = [q.soa(2), q.soa(0), gone(q), q.soa(2), new(q), q.soa(2)];
        all(q, &records)
    }),
    ("deltas-with-a-gap", |q| {
        let records = [
            q.soa(4),
            q.soa(1),
            gone(q),
            q.soa(2),
            q.soa(3),
            q.soa(4),
            new(q),
            q.soa(4),
        ];
        all(q, &records)
    }),
    ("ends-at-another-serial", |q| {
        let records = [q.soa(2), q.soa(1), gone(q), q.soa(2), new(q), q.soa(5)];
        [all(q, &records), vec![Act::Close]].concat()
    }),
    ("old-soa-differs", |q| {
        let mut rdata = q.soa_rdata(1);
        let last = rdata.len() - 1;
        rdata[last] = 61;
        let old = q.rr("@", SOA, &rdata);
        all(q, &[q.soa(2), old, gone(q), q.soa(2), new(q), q.soa(2)])
    }),
    ("removes-all-ns", |q| {
        with(q, &[q.rr("@", NS, &q.owner("ns"))], &[])
    }),
    ("adds-cname-beside-data", |q| {
        with(q, &[], &[q.rr("www", CNAME, &q.owner("ns"))])
    }),
];

//! Ways in which a primary may send a zone (AXFR), each of a zone with its name.

use std::slice;
use std::time::Duration;

use geodns_tests::dns::{A, AA, AD, CNAME, MX, NS, OPT, QR, RA, RD, SOA, SRV, TC, TXT, Z};
use geodns_tests::primary::{Act, Asked, Message, record};

/// The primary's manners when it is asked for an AXFR.
pub type Manner = (&'static str, fn(&Asked) -> Vec<Act>);

const DNAME: u16 = 39;
const CH: u16 = 3;

/// SOA, these, SOA in one message.
fn with(asked: &Asked, more: &[Vec<u8>]) -> Message {
    let soa = asked.soa(1);
    let body = asked.body();
    asked.message(&[slice::from_ref(&soa), &*body, more, slice::from_ref(&soa)].concat())
}

/// The same, sent.
fn one(asked: &Asked, more: &[Vec<u8>]) -> Vec<Act> {
    vec![with(asked, more).send()]
}

/// Three messages: SOA; the records; SOA.
fn three(asked: &Asked) -> [Message; 3] {
    let soa = asked.soa(1);
    [
        asked.message(slice::from_ref(&soa)),
        asked.message(&asked.body()),
        asked.message(&[soa]),
    ]
}

fn send(messages: &[Message]) -> Vec<Act> {
    messages.iter().map(Message::send).collect()
}

/// One message of these records alone.
fn all(asked: &Asked, records: &[Vec<u8>]) -> Vec<Act> {
    vec![asked.message(records).send()]
}

/// SOA with other RDATA at the end.
fn ends_with(asked: &Asked, last: Vec<u8>) -> Vec<Act> {
    let records = [vec![asked.soa(1)], asked.body(), vec![last]].concat();
    all(asked, &records)
}

pub const ALL: &[Manner] = &[
    ("plain", |q| one(q, &[])),
    ("three-messages", |q| send(&three(q))),
    ("record-by-record", |q| {
        let records = [vec![q.soa(1)], q.body(), vec![q.soa(1)]].concat();
        let of = |record: &Vec<u8>| q.message(slice::from_ref(record)).send();
        records.iter().map(of).collect()
    }),
    ("question-in-the-first-only", |q| {
        let [one, two, three] = three(q);
        send(&[one, two.without_question(), three.without_question()])
    }),
    ("no-question", |q| {
        send(&three(q).map(Message::without_question))
    }),
    ("other-question-later", |q| {
        let [one, mut two, three] = three(q);
        two.questions = vec![[q.owner("other"), vec![0, 252, 0, 1]].concat()];
        send(&[one, two, three])
    }),
    ("other-question-at-first", |q| {
        let [mut one, two, three] = three(q);
        one.questions = vec![[q.owner("other"), vec![0, 252, 0, 1]].concat()];
        send(&[one, two, three])
    }),
    ("question-in-capitals", |q| {
        let mut message = with(q, &[]);
        message.questions = vec![q.question.to_ascii_uppercase()];
        vec![message.send()]
    }),
    ("two-questions", |q| {
        let mut message = with(q, &[]);
        message.questions = vec![q.question.clone(), q.question.clone()];
        vec![message.send()]
    }),
    ("other-id-at-first", |q| {
        let [mut one, two, three] = three(q);
        one.id ^= 1;
        send(&[one, two, three])
    }),
    ("other-id-later", |q| {
        let [one, mut two, three] = three(q);
        two.id ^= 1;
        send(&[one, two, three])
    }),
    ("empty-message-first", |q| {
        let [one, two, three] = three(q);
        send(&[q.message(&[]), one, two, three])
    }),
    ("empty-message-between", |q| {
        let [one, two, three] = three(q);
        send(&[one, q.message(&[]), two, three])
    }),
    ("empty-message-before-the-end", |q| {
        let [one, two, three] = three(q);
        send(&[one, two, q.message(&[]), three])
    }),
    ("tc", |q| vec![with(q, &[]).turned(TC).send()]),
    ("tc-at-first", |q| {
        let [one, two, three] = three(q);
        send(&[one.turned(TC), two, three])
    }),
    ("tc-between", |q| {
        let [one, two, three] = three(q);
        send(&[one, two.turned(TC), three])
    }),
    ("not-authoritative", |q| {
        vec![with(q, &[]).turned(AA).send()]
    }),
    ("not-authoritative-later", |q| {
        let [one, two, three] = three(q);
        send(&[one, two.turned(AA), three.turned(AA)])
    }),
    ("header-bits", |q| {
        vec![with(q, &[]).turned(RD | RA | AD).send()]
    }),
    ("reserved-bit", |q| vec![with(q, &[]).turned(Z).send()]),
    ("no-response-bit", |q| vec![with(q, &[]).turned(QR).send()]),
    ("other-opcode", |q| {
        vec![with(q, &[]).turned(4 << 11).send()]
    }),
    ("refused-with-records", |q| {
        vec![with(q, &[]).turned(5).send()]
    }),
    ("servfail-between", |q| {
        let [one, two, three] = three(q);
        send(&[one, two.turned(2), three])
    }),
    ("authority-section", |q| {
        let mut message = with(q, &[]);
        message.authority = vec![q.rr("@", NS, &q.owner("ns"))];
        vec![message.send()]
    }),
    ("additional-section", |q| {
        let mut message = with(q, &[]);
        message.additional = vec![q.rr("extra", A, &[192, 0, 2, 9])];
        vec![message.send()]
    }),
    ("edns", |q| {
        let opt = record(&[0], OPT, 1232, 0, &[]);
        send(&three(q).map(|mut message| {
            message.additional = vec![opt.clone()];
            message
        }))
    }),
    ("octets-after-the-message", |q| {
        let mut message = with(q, &[]);
        message.trailer = vec![1, 2, 3];
        vec![message.send()]
    }),
    ("records-after-the-end", |q| {
        let records = [
            vec![q.soa(1)],
            q.body(),
            vec![q.soa(1), q.rr("late", A, &[192, 0, 2, 9])],
        ];
        all(q, &records.concat())
    }),
    ("message-after-the-end", |q| {
        vec![
            with(q, &[]).send(),
            q.message(&[q.rr("late", A, &[192, 0, 2, 9])]).send(),
        ]
    }),
    ("no-end", |q| {
        let [one, two, _] = three(q);
        [send(&[one, two]), vec![Act::Close]].concat()
    }),
    ("cut-in-a-message", |q| {
        let message = with(q, &[]).bytes();
        let len = (message.len() as u16).to_be_bytes();
        let half = [&len, &message[..40]].concat();
        vec![Act::Raw(half), Act::Close]
    }),
    ("closed-at-once", |_| vec![Act::Close]),
    ("message-of-no-octets", |q| {
        vec![Act::Raw(vec![0, 0]), with(q, &[]).send()]
    }),
    ("half-a-header", |q| {
        vec![Act::Send(vec![1, 2, 3, 4, 5]), with(q, &[]).send()]
    }),
    ("octet-by-octet", |q| {
        let message = with(q, &[]).bytes();
        let octets = [&(message.len() as u16).to_be_bytes(), &*message].concat();
        let one = |octet: u8| [Act::Raw(vec![octet]), Act::Pause(Duration::from_millis(1))];
        octets.into_iter().flat_map(one).collect()
    }),
    ("ends-with-other-serial", |q| ends_with(q, q.soa(2))),
    ("ends-with-other-ttl", |q| {
        ends_with(q, record(&q.owner("@"), SOA, 1, 61, &q.soa_rdata(1)))
    }),
    ("ends-with-other-times", |q| {
        let mut rdata = q.soa_rdata(1);
        let last = rdata.len() - 1;
        rdata[last] = 61;
        ends_with(q, q.rr("@", SOA, &rdata))
    }),
    ("ends-in-capitals", |q| {
        let rdata: Vec<u8> = q.soa_rdata(1).to_ascii_uppercase();
        ends_with(q, q.rr("@", SOA, &rdata))
    }),
    ("begins-with-another-record", |q| {
        all(q, &[q.body(), vec![q.soa(1), q.soa(1)]].concat())
    }),
    ("begins-with-another-soa", |q| {
        let other = q.rr("below", SOA, &q.soa_rdata(1));
        all(q, &[vec![other], q.body(), vec![q.soa(1)]].concat())
    }),
    ("soa-alone", |q| all(q, &[q.soa(1), q.soa(1)])),
    ("no-ns", |q| {
        all(q, &[q.soa(1), q.rr("www", A, &[192, 0, 2, 2]), q.soa(1)])
    }),
    ("another-soa-between", |q| one(q, &[q.soa(7)])),
    ("soa-below-the-apex", |q| {
        one(q, &[q.rr("below", SOA, &q.soa_rdata(1))])
    }),
    ("other-soa-below-the-apex", |q| {
        one(q, &[q.rr("below", SOA, &q.soa_rdata(9))])
    }),
    ("a-outside", |q| {
        one(q, &[q.rr("ns.example.com.", A, &[192, 0, 2, 9])])
    }),
    ("ns-outside", |q| {
        one(q, &[q.rr("test.", NS, &q.owner("ns"))])
    }),
    ("soa-outside", |q| {
        one(q, &[q.rr("example.com.", SOA, &q.soa_rdata(1))])
    }),
    ("cname-outside", |q| {
        one(q, &[q.rr("example.com.", CNAME, &q.owner("www"))])
    }),
    ("record-of-class-ch", |q| {
        one(q, &[record(&q.owner("ch"), A, CH, 60, &[192, 0, 2, 3])])
    }),
    ("record-of-class-none", |q| {
        one(q, &[record(&q.owner("none"), A, 254, 60, &[192, 0, 2, 3])])
    }),
    ("soa-of-class-ch", |q| {
        let soa = record(&q.owner("@"), SOA, CH, 60, &q.soa_rdata(1));
        all(q, &[vec![soa.clone()], q.body(), vec![soa]].concat())
    }),
    ("twice-the-same", |q| {
        one(q, &[q.rr("www", A, &[192, 0, 2, 2])])
    }),
    ("twice-with-other-ttl", |q| {
        one(q, &[record(&q.owner("www"), A, 1, 30, &[192, 0, 2, 2])])
    }),
    ("ttls-of-one-rrset-differ", |q| {
        one(q, &[record(&q.owner("www"), A, 1, 30, &[192, 0, 2, 3])])
    }),
    ("ttl-of-32-bits", |q| {
        one(q, &[record(&q.owner("x"), A, 1, u32::MAX, &[192, 0, 2, 3])])
    }),
    ("cname-and-other-data", |q| {
        one(q, &[q.rr("www", CNAME, &q.owner("ns"))])
    }),
    ("two-cnames", |q| {
        one(
            q,
            &[
                q.rr("c", CNAME, &q.owner("ns")),
                q.rr("c", CNAME, &q.owner("www")),
            ],
        )
    }),
    ("cname-at-the-apex", |q| {
        one(q, &[q.rr("@", CNAME, &q.owner("www"))])
    }),
    ("below-a-dname", |q| {
        one(
            q,
            &[
                q.rr("d", DNAME, &q.owner("www")),
                q.rr("x.d", A, &[192, 0, 2, 3]),
            ],
        )
    }),
    ("two-dnames", |q| {
        one(
            q,
            &[
                q.rr("d", DNAME, &q.owner("www")),
                q.rr("d", DNAME, &q.owner("ns")),
            ],
        )
    }),
    ("hidden-below-a-cut", |q| {
        one(
            q,
            &[
                q.rr("sub", NS, &q.owner("ns.sub")),
                q.rr("sub", TXT, b"\x01x"),
                q.rr("x.sub", TXT, b"\x01x"),
            ],
        )
    }),
    ("unknown-type", |q| one(q, &[q.rr("u", 65280, &[1, 2, 3])])),
    ("opt-in-the-answer", |q| {
        one(q, &[record(&[0], OPT, 1232, 0, &[])])
    }),
    ("type-any", |q| one(q, &[q.rr("any", 255, &[])])),
    ("type-0", |q| one(q, &[q.rr("zero", 0, &[])])),
    ("type-axfr", |q| one(q, &[q.rr("axfr", 252, &[])])),
    ("a-of-5-octets", |q| {
        one(q, &[q.rr("x", A, &[1, 2, 3, 4, 5])])
    }),
    ("a-of-no-octets", |q| one(q, &[q.rr("x", A, &[])])),
    ("txt-of-no-octets", |q| one(q, &[q.rr("x", TXT, &[])])),
    ("mx-without-a-name", |q| one(q, &[q.rr("x", MX, &[0, 1])])),
    ("srv-with-a-compressed-name", |q| {
        one(q, &[q.rr("s", SRV, &[0, 1, 0, 1, 0, 53, 0xc0, 12])])
    }),
    ("pointer-to-itself", |q| {
        one(q, &[record(&[0xc0, 0xff], A, 1, 60, &[192, 0, 2, 3])])
    }),
    ("unknown-label-type", |q| {
        one(q, &[record(&[0x41, 1, 0], A, 1, 60, &[192, 0, 2, 3])])
    }),
    ("owners-in-capitals", |q| {
        let owner = q.owner("CAPITALS").to_ascii_uppercase();
        one(q, &[record(&owner, A, 1, 60, &[192, 0, 2, 3])])
    }),
    ("fewer-records-than-counted", |q| {
        let mut octets = with(q, &[]).bytes();
        octets[7] += 1;
        vec![Act::Send(octets)]
    }),
    ("wildcards", |q| {
        one(
            q,
            &[
                q.rr("*", TXT, b"\x01x"),
                q.rr("*.w", NS, &q.owner("ns")),
                q.rr("x.*.y", A, &[192, 0, 2, 3]),
            ],
        )
    }),
    ("ns-is-an-alias", |q| {
        one(
            q,
            &[
                q.rr("@", NS, &q.owner("al")),
                q.rr("al", CNAME, &q.owner("ns")),
            ],
        )
    }),
    ("names-of-255-octets", |q| {
        let label = [&[63u8][..], &[b'a'; 63]].concat();
        let apex = q.owner("@");
        let mut owner = label.repeat(3);
        let rest = 255 - owner.len() - apex.len();
        owner.push((rest - 1) as u8);
        owner.extend(vec![b'b'; rest - 1]);
        owner.extend(apex);
        one(q, &[record(&owner, A, 1, 60, &[192, 0, 2, 3])])
    }),
];

//! The server at work with other handlers: panics, and answers of many messages.
//!
//! The first label of the question tells a handler what to do.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::sockets::{SOON, count, counted, framed, is_closed, options, over_udp, read_message};
use super::*;
use crate::serve::request::Handler;

const NOERROR: Outcome = Outcome {
    rcode: 0,
    steered: false,
    truncated: false,
    ecs: false,
    sample: None,
    counter: None,
    wants_cookie: false,
};

async fn with(handler: Handler, options: Options) -> (Server, SocketAddr) {
    let world = Arc::new(ArcSwap::new(Arc::clone(&WORLD)));
    let server = Server::with_handler(options, world, identity(), handler);
    let errors = server.set_listen(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]).await;
    assert!(errors.is_empty(), "{errors:?}");
    let at = server.listening().await[0];
    (server, at)
}

/// Whether the first label of a request's question is this.
fn asks(request: &Request<'_>, label: &str) -> bool {
    request.message.get(12).map(|&len| usize::from(len)) == Some(label.len())
        && request.message.get(13..13 + label.len()) == Some(label.as_bytes())
}

/// Panics where it is asked to: before it has written anything, or after.
fn panics(request: &Request<'_>, response: &mut Vec<u8>) -> Answer {
    if asks(request, "death") {
        panic!("asked to");
    }
    if asks(request, "late") {
        response.extend_from_slice(&[1; 3000]);
        let nothing: &[u8] = &[];
        // What a fault looks like.
        let _ = nothing[request.message.len()];
    }
    authority(request, response)
}

/// SERVFAIL for this query: its header and question.
fn servfail(query: &[u8]) -> Vec<u8> {
    let mut response = query.to_vec();
    response[2] |= 0x80;
    response[3] = 2;
    response
}

#[tokio::test]
async fn a_panic_is_answered_servfail_and_ends_nobody() {
    let (server, at) = with(
        panics,
        Options {
            workers: 1,
            ..options()
        },
    )
    .await;
    let deadly: Vec<_> = ["death.example.org A", "late.example.org TXT"]
        .iter()
        .map(|question| ask(question).wire())
        .collect();
    let good = ask("mail.example.org A").wire();
    let expected = send(&good, at.ip(), Transport::Udp).unwrap();
    let mut stream = TcpStream::connect(at).await.unwrap();
    for _ in 0..50 {
        for deadly in &deadly {
            assert_eq!(over_udp(at, deadly).await, servfail(deadly));
            assert_eq!(over_udp(at, &good).await, expected);
            stream.write_all(&framed(deadly)).await.unwrap();
            stream.write_all(&framed(&good)).await.unwrap();
            assert_eq!(read_message(&mut stream).await, servfail(deadly));
            assert_eq!(read_message(&mut stream).await, expected);
        }
    }
    assert_eq!(count(&server, "panics"), 200);
    assert_eq!(count(&server, "rcode_servfail"), 200);
    assert_eq!(count(&server, "rcode_noerror"), 200);
}

#[tokio::test]
async fn servfail_after_a_panic_has_opt_and_a_question_if_that_can_be_read() {
    fn always(_: &Request<'_>, _: &mut Vec<u8>) -> Answer {
        panic!("always")
    }
    let (_server, at) = with(always, options()).await;
    let query = ask("www.example.org A").opt(1232, 0, 0x8000, &[]).wire();
    let response = over_udp(at, &query).await;
    assert_eq!(response.len(), query.len());
    assert_eq!((response[3] & 15, response[11]), (2, 1));
    // A question that is cut; the id and RD come back all the same.
    let mut cut = ask("www.example.org A").wire();
    cut[2] = 1;
    cut.truncate(20);
    let response = over_udp(at, &cut).await;
    let header = [cut[0], cut[1], 0x81, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(response, header);
}

/// Answers AXFR and the like: `many` with 1,000 messages, `slow` with one each 20 ms, `broken` with one
/// and then an error, `endless` without end; each has its number in place of its answers.
fn streams(request: &Request<'_>, response: &mut Vec<u8>) -> Answer {
    let message = |request: &Request<'_>, number: u32| {
        let mut message = servfail(request.message);
        message[3] = 0;
        message.extend_from_slice(&number.to_be_bytes());
        message.resize(message.len() + 600, 0);
        message
    };
    let first = message(request, 0);
    let at = first.len() - 604;
    let numbered = move |number: u32| {
        let mut message = first.clone();
        message[at..at + 4].copy_from_slice(&number.to_be_bytes());
        io::Result::Ok(message)
    };
    let messages = if asks(request, "many") {
        stream::iter((0..1000).map(numbered)).boxed()
    } else if asks(request, "slow") {
        let pace = stream::unfold(0, |number| async move {
            sleep(Duration::from_millis(20)).await;
            (number < 50).then_some((number, number + 1))
        });
        pace.map(numbered).boxed()
    } else if asks(request, "broken") {
        let fails = [numbered(0), Err(io::Error::other("no more"))];
        stream::iter(fails).boxed()
    } else if asks(request, "endless") {
        ENDLESS.fetch_add(1, Ordering::Relaxed);
        let end = Ended;
        let numbers = (0..).inspect(move |_| {
            let _ = &end;
        });
        stream::iter(numbers.map(numbered)).boxed()
    } else {
        return authority(request, response);
    };
    Answer::Stream(NOERROR, messages)
}

/// Streams without end that there are.
static ENDLESS: AtomicUsize = AtomicUsize::new(0);

struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        ENDLESS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn query(question: &str, id: u16) -> Vec<u8> {
    let mut query = ask(question).wire();
    query[..2].copy_from_slice(&id.to_be_bytes());
    framed(&query)
}

/// Id and number of a message; none in an answer of one.
fn read(message: &[u8]) -> (u16, Option<u32>) {
    let id = u16::from_be_bytes([message[0], message[1]]);
    let number = message.len().checked_sub(604).filter(|_| id < 100);
    let number = number.map(|at| u32::from_be_bytes(message[at..at + 4].try_into().unwrap()));
    (id, number)
}

#[tokio::test]
async fn an_answer_of_many_messages_is_whole_and_in_order() {
    let (server, at) = with(streams, options()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let asked = query("many.example.org AXFR", 1);
    stream.write_all(&asked).await.unwrap();
    for number in 0..1000 {
        assert_eq!(read(&read_message(&mut stream).await), (1, Some(number)));
    }
    // The client says that it is done, and gets what it asked for all the same.
    stream.write_all(&asked).await.unwrap();
    stream.shutdown().await.unwrap();
    for number in 0..1000 {
        assert_eq!(read(&read_message(&mut stream).await), (1, Some(number)));
    }
    assert!(is_closed(&mut stream).await);
    assert_eq!(count(&server, "queries_tcp"), 2);
    counted(&server, "tcp_open", 0).await;
}

#[tokio::test]
async fn queries_are_answered_while_streams_are_written() {
    let (_server, at) = with(streams, options()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    for id in [1, 2] {
        let asked = query("slow.example.org AXFR", id);
        stream.write_all(&asked).await.unwrap();
    }
    let began = Instant::now();
    for id in 100..200 {
        let asked = query("mail.example.org A", id);
        stream.write_all(&asked).await.unwrap();
    }
    let mut next = [0; 3];
    let mut answered_after = None;
    while next != [50, 50, 100] {
        match read(&read_message(&mut stream).await) {
            (id @ (1 | 2), number) => {
                let next = &mut next[usize::from(id) - 1];
                assert_eq!(number, Some(*next));
                *next += 1;
            }
            (id, _) => {
                assert_eq!(u32::from(id), 100 + next[2]);
                next[2] += 1;
                answered_after = Some(began.elapsed());
            }
        }
    }
    let all_after = began.elapsed();
    assert!(all_after > Duration::from_millis(900), "{all_after:?}");
    assert!(answered_after.unwrap() < all_after / 2);
}

#[tokio::test]
async fn streams_of_a_connection_are_bounded_and_the_next_waits() {
    let (server, at) = with(streams, options()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    for id in 1..=5 {
        let asked = query("slow.example.org AXFR", id);
        stream.write_all(&asked).await.unwrap();
    }
    stream
        .write_all(&query("mail.example.org A", 100))
        .await
        .unwrap();
    let mut order = Vec::new();
    for _ in 0..251 {
        order.push(read(&read_message(&mut stream).await));
    }
    let place = |wanted| order.iter().position(|&at| at == wanted).unwrap();
    // The fifth begins, and what comes behind it is answered, when one of four is done.
    let done = (1..=4).map(|id| place((id, Some(49)))).min().unwrap();
    assert!(place((5, Some(0))) > done);
    assert!(place((100, None)) > done);
    assert_eq!(count(&server, "queries_tcp"), 6);
}

#[tokio::test]
async fn a_stream_that_breaks_closes_the_connection() {
    let (server, at) = with(streams, options()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let asked = query("broken.example.org AXFR", 1);
    stream.write_all(&asked).await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
    counted(&server, "tcp_open", 0).await;
    assert_eq!(count(&server, "tcp_timeouts"), 0);
}

#[tokio::test]
async fn who_does_not_take_a_stream_is_disconnected_and_who_does_is_not() {
    let options = Options {
        tcp_idle: Duration::from_millis(300),
        ..options()
    };
    let (server, at) = with(streams, options).await;
    let mut takes = TcpStream::connect(at).await.unwrap();
    let mut stalls = TcpStream::connect(at).await.unwrap();
    let asked = query("endless.example.org AXFR", 1);
    stalls.write_all(&asked).await.unwrap();
    // A second long, and nothing is asked meanwhile.
    let asked = query("slow.example.org AXFR", 1);
    takes.write_all(&asked).await.unwrap();
    for number in 0..50 {
        assert_eq!(read(&read_message(&mut takes).await), (1, Some(number)));
    }
    counted(&server, "tcp_timeouts", 1).await;
    assert!(is_closed(&mut takes).await);
    counted(&server, "tcp_timeouts", 2).await;
    counted(&server, "tcp_open", 0).await;
    // One ends with its connection, as when the client goes.
    let mut goes = TcpStream::connect(at).await.unwrap();
    let asked = query("endless.example.org AXFR", 1);
    goes.write_all(&asked).await.unwrap();
    read_message(&mut goes).await;
    drop(goes);
    counted(&server, "tcp_open", 0).await;
    let deadline = Instant::now() + SOON;
    while ENDLESS.load(Ordering::Relaxed) > 0 {
        assert!(Instant::now() < deadline, "a stream lives on");
        sleep(Duration::from_millis(5)).await;
    }
}

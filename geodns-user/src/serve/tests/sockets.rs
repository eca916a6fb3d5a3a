//! The server at work, on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

use super::*;

/// Longer than anything here should take.
pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) fn options() -> Options {
    Options {
        // One that is free, for each address its own.
        port: 0,
        workers: 2,
        ..Options::default()
    }
}

pub(super) fn server(options: Options) -> Server {
    let world = Arc::new(ArcSwap::new(Arc::clone(&WORLD)));
    Server::new(options, world, identity())
}

/// A server on 127.0.0.1, and where it is.
pub(super) async fn on_loopback(options: Options) -> (Server, SocketAddr) {
    let server = server(options);
    let errors = server.set_listen(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]).await;
    assert!(errors.is_empty(), "{errors:?}");
    let at = server.listening().await[0];
    (server, at)
}

pub(super) fn count(server: &Server, counter: &str) -> u64 {
    server.stats().snapshot()[counter]
}

/// Waits until a counter has a value.
pub(super) async fn counted(server: &Server, counter: &str, value: u64) {
    let deadline = Instant::now() + SOON;
    while count(server, counter) != value {
        assert!(
            Instant::now() < deadline,
            "{counter} is {}, not {value}",
            count(server, counter)
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// The answer to a query over UDP.
pub(super) async fn over_udp(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    let from = SocketAddr::new(at.ip(), 0);
    let socket = UdpSocket::bind(from).await.unwrap();
    // Connected: an answer from another address would not arrive.
    socket.connect(at).await.unwrap();
    socket.send(query).await.unwrap();
    let mut response = vec![0; 65535];
    let len = timeout(SOON, socket.recv(&mut response))
        .await
        .expect("an answer")
        .unwrap();
    response.truncate(len);
    response
}

pub(super) async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    timeout(SOON, async {
        let len = stream.read_u16().await.unwrap();
        let mut response = vec![0; len.into()];
        stream.read_exact(&mut response).await.unwrap();
        response
    })
    .await
    .expect("an answer")
}

pub(super) fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes(), query].concat()
}

/// Whether the server closes the connection, soon, without a word.
pub(super) async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut rest)).await;
    // A reset closes as well.
    read.is_ok() && rest.is_empty()
}

#[tokio::test]
async fn answers_over_udp_and_tcp_on_each_address() {
    let server = server(options());
    let addresses = [
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from([127, 0, 0, 2]),
        IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    ];
    let errors = server.set_listen(&addresses).await;
    assert!(errors.is_empty(), "{errors:?}");
    let listening = server.listening().await;
    assert_eq!(listening.len(), 3);
    let query = ask("www.example.org A");
    for at in listening {
        let expected = send(&query.wire(), at.ip(), Transport::Udp).unwrap();
        for _ in 0..20 {
            assert_eq!(over_udp(at, &query.wire()).await, expected);
        }
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..3 {
            stream.write_all(&framed(&query.wire())).await.unwrap();
            assert_eq!(read_message(&mut stream).await, expected);
        }
    }
    assert_eq!(count(&server, "queries_udp"), 60);
    assert_eq!(count(&server, "queries_tcp"), 9);
    assert_eq!(count(&server, "steered"), 69);
    assert_eq!(count(&server, "rcode_noerror"), 69);
}

#[tokio::test]
async fn responses_and_fragments_of_headers_get_no_answer() {
    let (server, at) = on_loopback(options()).await;
    let mut response = ask("www.example.org A").wire();
    response[2] = 0x80;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(at).await.unwrap();
    for silent in [&response[..], &response[..5], &[]] {
        socket.send(silent).await.unwrap();
    }
    counted(&server, "dropped", 3).await;
    let nothing = socket.try_recv(&mut [0; 512]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    // Over TCP, nobody who does this is a client.
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&framed(&response)).await.unwrap();
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn truncated_over_udp_is_whole_over_tcp() {
    let (server, at) = on_loopback(options()).await;
    let query = ask("big.example.org TXT").wire();
    let response = over_udp(at, &query).await;
    assert_eq!((response[2] & 2, response.len()), (2, query.len()));
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&framed(&query)).await.unwrap();
    let response = read_message(&mut stream).await;
    assert_eq!(response[2] & 2, 0);
    assert!(response.len() > 2000);
    assert_eq!(count(&server, "truncated"), 1);
}

#[tokio::test]
async fn rfc_7766_queries_are_pipelined() {
    let (_server, at) = on_loopback(options()).await;
    let mut queries = Vec::new();
    for id in 0..500u16 {
        let question = if id % 7 == 0 {
            "big.example.org TXT"
        } else {
            "www.example.org A"
        };
        let mut query = ask(question).wire();
        query[..2].copy_from_slice(&id.to_be_bytes());
        queries.extend(framed(&query));
    }
    let (mut reader, mut writer) = TcpStream::connect(at).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        // In pieces that are no messages.
        for piece in queries.chunks(13) {
            writer.write_all(piece).await.unwrap();
        }
        writer
    });
    let mut seen = [false; 500];
    for _ in 0..500 {
        let len = timeout(SOON, reader.read_u16()).await.unwrap().unwrap();
        let mut response = vec![0; len.into()];
        reader.read_exact(&mut response).await.unwrap();
        let id = usize::from(u16::from_be_bytes([response[0], response[1]]));
        assert!(!std::mem::replace(&mut seen[id], true), "{id} twice");
    }
    // The client says that it is done, and the server closes.
    drop(writing.await.unwrap());
    assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_message_may_be_as_long_as_tcp_carries() {
    let (_server, at) = on_loopback(options()).await;
    let mut padding = vec![0, 12];
    let len = 65535 - ask("www.example.org A").opt(0, 0, 0, &[]).wire().len() - 4;
    padding.extend_from_slice(&(len as u16).to_be_bytes());
    padding.resize(4 + len, 0);
    let query = ask("www.example.org A").opt(1232, 0, 0, &padding).wire();
    assert_eq!(query.len(), 65535);
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&framed(&query)).await.unwrap();
    assert_eq!(read_message(&mut stream).await[3] & 15, 0);
}

#[tokio::test]
async fn who_sends_too_slowly_is_disconnected() {
    let (server, at) = on_loopback(Options {
        tcp_idle: Duration::from_millis(300),
        ..options()
    })
    .await;
    let mut silent = TcpStream::connect(at).await.unwrap();
    let mut trickling = TcpStream::connect(at).await.unwrap();
    let query = framed(&ask("www.example.org A").wire());
    let began = Instant::now();
    for octet in &query {
        if trickling.write_all(&[*octet]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(25)).await;
    }
    assert!(is_closed(&mut trickling).await);
    assert!(is_closed(&mut silent).await);
    assert!(began.elapsed() > Duration::from_millis(290));
    counted(&server, "tcp_timeouts", 2).await;
    counted(&server, "tcp_open", 0).await;
}

#[tokio::test]
async fn who_reads_too_slowly_is_disconnected() {
    let (server, at) = on_loopback(Options {
        tcp_idle: Duration::from_millis(300),
        ..options()
    })
    .await;
    let query = framed(&ask("big.example.org TXT").wire());
    let mut stream = TcpStream::connect(at).await.unwrap();
    let flood = async { while stream.write_all(&query.repeat(1000)).await.is_ok() {} };
    timeout(SOON, flood).await.expect("disconnected");
    counted(&server, "tcp_timeouts", 1).await;
    counted(&server, "tcp_open", 0).await;
}

/// A connection from an address.
async fn connect(at: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(at).await.unwrap()
}

/// Asks and is answered over a connection.
async fn is_served(stream: &mut TcpStream) -> bool {
    let query = framed(&ask("www.example.org A").wire());
    // What has been closed is told by the answer that does not come.
    let _ = stream.write_all(&query).await;
    let read = timeout(SOON, stream.read_u16()).await.expect("a word");
    let Ok(len) = read else { return false };
    let mut response = vec![0; len.into()];
    stream.read_exact(&mut response).await.is_ok()
}

#[tokio::test]
async fn the_longest_idle_of_whoever_holds_most_makes_room() {
    let (server, at) = on_loopback(Options {
        tcp_connections: 3,
        ..options()
    })
    .await;
    let mut first = connect(at, [127, 0, 0, 1]).await;
    let mut second = connect(at, [127, 0, 0, 200]).await;
    let mut alone = connect(at, [127, 0, 1, 1]).await;
    counted(&server, "tcp_open", 3).await;
    sleep(Duration::from_millis(20)).await;
    assert!(is_served(&mut first).await);
    // The second one has been idle for longer than the first, and the third network holds one only.
    let mut new = connect(at, [127, 0, 2, 1]).await;
    assert!(is_closed(&mut second).await);
    for stream in [&mut first, &mut alone, &mut new] {
        assert!(is_served(stream).await);
    }
    counted(&server, "tcp_open", 3).await;
    assert_eq!(count(&server, "tcp_displaced"), 1);
    // A place that is given back can be taken.
    drop(first);
    counted(&server, "tcp_open", 2).await;
    let mut fourth = connect(at, [127, 0, 0, 1]).await;
    assert!(is_served(&mut fourth).await);
    assert_eq!(count(&server, "tcp_displaced"), 1);
}

#[tokio::test]
async fn who_does_not_take_answers_goes_after_the_idle_and_before_newcomers() {
    let (server, at) = on_loopback(Options {
        tcp_connections: 4,
        ..options()
    })
    .await;
    let query = framed(&ask("big.example.org TXT").wire()).repeat(100);
    let deaf = async || {
        let stream = connect(at, [127, 0, 0, 1]).await;
        // Until neither side takes any more.
        while let Ok(Ok(())) = timeout(Duration::from_secs(1), stream.writable()).await {
            let _ = stream.try_write(&query);
        }
        stream
    };
    let _first = deaf().await;
    let _second = deaf().await;
    let mut idle = connect(at, [127, 0, 0, 2]).await;
    let mut third = deaf().await;
    counted(&server, "tcp_open", 4).await;
    let mut one = connect(at, [127, 0, 1, 1]).await;
    assert!(is_closed(&mut idle).await);
    assert!(is_served(&mut one).await);
    // From now on the deaf ones go: who came to be served stays.
    let mut two = connect(at, [127, 0, 2, 1]).await;
    let mut three = connect(at, [127, 0, 3, 1]).await;
    for stream in [&mut one, &mut two, &mut three] {
        assert!(is_served(stream).await);
    }
    counted(&server, "tcp_displaced", 3).await;
    let mut rest = Vec::new();
    let end = timeout(Duration::from_millis(300), third.read_to_end(&mut rest)).await;
    assert!(end.is_err(), "the last that was deaf is closed too");
}

#[tokio::test]
async fn there_are_as_many_connections_as_the_addresses_leave_files_for() {
    // With two workers, an address takes four files: 12 addresses leave 144, of which half are for connections.
    let (server, at) = on_loopback(Options {
        files: 128 + 12 * 4 + 144,
        ..options()
    })
    .await;
    let addresses = |count: u8| -> Vec<IpAddr> {
        let others = (2..=count).map(|host| IpAddr::from([127, 0, 0, host]));
        std::iter::once(at.ip()).chain(others).collect()
    };
    let mut open = Vec::new();
    let mut fill = async |places: u64| {
        while count(&server, "tcp_displaced") == 0 {
            open.push(connect(at, [127, 0, 9, 1]).await);
            counted(&server, "tcp_connections", open.len() as u64).await;
            assert!(open.len() < 200);
        }
        counted(&server, "tcp_open", places).await;
        assert!(is_served(open.last_mut().unwrap()).await);
    };
    fill((11 * 4 + 144) / 2).await;
    // Those that there are too many of go at once.
    assert!(server.set_listen(&addresses(12)).await.is_empty());
    counted(&server, "tcp_open", 144 / 2).await;
    assert!(is_served(open.last_mut().unwrap()).await);
    // As many as there have been come again when the addresses have gone.
    assert!(server.set_listen(&addresses(1)).await.is_empty());
    let displaced = count(&server, "tcp_displaced");
    for place in 72..94 {
        open.push(connect(at, [127, 0, 9, 1]).await);
        counted(&server, "tcp_open", place + 1).await;
    }
    assert_eq!(count(&server, "tcp_displaced"), displaced);
    open.push(connect(at, [127, 0, 9, 1]).await);
    counted(&server, "tcp_displaced", displaced + 1).await;
}

#[tokio::test]
async fn addresses_come_and_go() {
    let query = ask("mail.example.org A").wire();
    let (server, first) = on_loopback(options()).await;
    let mut kept = TcpStream::connect(first).await.unwrap();
    let both = [first.ip(), IpAddr::from([127, 0, 0, 2])];
    assert!(server.set_listen(&both).await.is_empty());
    let listening = server.listening().await;
    assert!(
        listening.contains(&first),
        "an address that stays keeps its sockets"
    );
    for at in listening {
        over_udp(at, &query).await;
    }
    kept.write_all(&framed(&query)).await.unwrap();
    read_message(&mut kept).await;
    assert!(server.set_listen(&both[1..]).await.is_empty());
    // At once: its sockets are closed, and its connections.
    let _free = std::net::UdpSocket::bind(first).unwrap();
    assert!(TcpStream::connect(first).await.is_err());
    assert!(is_closed(&mut kept).await);
    assert!(server.set_listen(&both).await.is_empty());
    assert_eq!(server.listening().await.len(), 2);
}

#[tokio::test]
async fn an_address_that_fails_says_why_and_leaves_the_others() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let first = server(Options { port, ..options() });
    let addresses = [
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from([127, 0, 0, 2]),
        IpAddr::from([192, 0, 2, 1]),
        IpAddr::from([0, 0, 0, 0]),
    ];
    let errors = first.set_listen(&addresses).await;
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!(
            "127.0.0.1 port {port} (TCP): address already in use; "
        )),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(&format!(
            "192.0.2.1 port {port} (TCP): no interface has this address; "
        )),
        "{lines:?}"
    );
    assert!(lines[2].contains("name each address"), "{lines:?}");
    assert_eq!(first.listening().await.len(), 1);
    // Neither is UDP shared, whatever SO_REUSEPORT would allow.
    drop(taken);
    let _udp = std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let errors = first.set_listen(&addresses[..2]).await;
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0]
            .to_string()
            .contains("(UDP): address already in use")
    );
    let second = server(Options { port, ..options() });
    assert_eq!(second.set_listen(&addresses[1..2]).await.len(), 1);
    // With IP_FREEBIND, an address may come later.
    let early = server(Options {
        freebind: true,
        ..options()
    });
    let later = [
        IpAddr::from([192, 0, 2, 1]),
        "2001:db8::53".parse().unwrap(),
    ];
    let errors = early.set_listen(&later).await;
    assert!(errors.is_empty(), "{errors:?}");
}

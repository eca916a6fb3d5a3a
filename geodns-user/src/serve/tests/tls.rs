//! DNS over TLS (RFC 7858), on loopback.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

use super::sockets::{SOON, count, counted, framed, is_closed, options, read_message, server};
use super::*;
use crate::certificate::Certificate;
use crate::config::CertificateFiles;

const NAME: &str = "ns1.example.org";

/// A certificate as the server has it, and a client that believes in it.
fn certificate() -> (Arc<Certificate>, ClientConfig) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tls = CertificateFiles {
        certificate: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
    };
    std::fs::write(&tls.certificate, cert.pem()).unwrap();
    std::fs::write(&tls.key, signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"dot".to_vec()];
    (Arc::new(Certificate::read(&tls).unwrap()), client)
}

/// A server on 127.0.0.1 that speaks TLS, and where it does.
async fn speaking(options: Options, certificate: Arc<Certificate>) -> (Server, SocketAddr) {
    let server = server(options);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    server.set_tls(Some(at.port()));
    server.set_certificate(Some(certificate));
    let errors = server.set_listen(&[at.ip()]).await;
    assert!(errors.is_empty(), "{errors:?}");
    (server, at)
}

async fn connect(at: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from(NAME).unwrap();
    let connector = TlsConnector::from(Arc::clone(client));
    timeout(SOON, connector.connect(name, stream)).await?
}

/// The server closes the connection, soon, with or without a word.
async fn assert_cut(stream: &mut TlsStream<TcpStream>) {
    let read = timeout(SOON, stream.read(&mut [0])).await;
    assert!(matches!(read.expect("closed"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn queries_are_pipelined_over_tls() {
    let (certificate, client) = certificate();
    let client = Arc::new(client);
    let (server, at) = speaking(options(), certificate).await;
    for round in 0..2 {
        let mut stream = connect(at, &client).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), Some(&b"dot"[..]));
        // The second time without a handshake of both keys.
        let kind = [HandshakeKind::Full, HandshakeKind::Resumed][round];
        assert_eq!(session.handshake_kind(), Some(kind));
        let questions = [
            "www.example.org A",
            "big.example.org TXT",
            "mail.example.org A",
        ];
        let queries: Vec<_> = questions
            .iter()
            .map(|question| ask(question).tcp().wire())
            .collect();
        let all: Vec<u8> = queries.iter().flat_map(|query| framed(query)).collect();
        for _ in 0..50 {
            stream.write_all(&all).await.unwrap();
        }
        for query in queries.iter().cycle().take(150) {
            let expected = send(query, at.ip(), Transport::Tcp).unwrap();
            assert_eq!(read_message(&mut stream).await, expected);
        }
        stream.shutdown().await.unwrap();
        // With a word of farewell, so that the client knows that nothing is missing.
        let end = timeout(SOON, stream.read(&mut [0])).await.unwrap();
        assert_eq!(end.unwrap(), 0);
    }
    assert_eq!(count(&server, "queries_tcp"), 300);
    assert_eq!(count(&server, "tls_connections"), 2);
    assert_eq!(count(&server, "tcp_connections"), 2);
    counted(&server, "tcp_open", 0).await;
}

#[tokio::test]
async fn handshakes_that_fail_or_never_end_are_counted_and_closed() {
    let (certificate, client) = certificate();
    let options = Options {
        tcp_idle: Duration::from_millis(300),
        ..options()
    };
    let (server, at) = speaking(options, certificate).await;
    // Plain DNS: no handshake. The server's alert comes back, and no answer.
    let mut plain = TcpStream::connect(at).await.unwrap();
    let query = framed(&ask("www.example.org A").wire());
    plain.write_all(&query.repeat(20)).await.unwrap();
    counted(&server, "tls_failed", 1).await;
    // Another protocol.
    let mut web = client.clone();
    web.alpn_protocols = vec![b"h2".to_vec()];
    assert!(connect(at, &Arc::new(web)).await.is_err());
    counted(&server, "tls_failed", 2).await;
    // A client that says nothing.
    let mut silent = TcpStream::connect(at).await.unwrap();
    assert!(is_closed(&mut silent).await);
    counted(&server, "tls_failed", 3).await;
    assert_eq!(count(&server, "tcp_timeouts"), 1);
    // One that says nothing after the handshake.
    let mut idle = connect(at, &Arc::new(client)).await.unwrap();
    assert_cut(&mut idle).await;
    counted(&server, "tcp_timeouts", 2).await;
    assert_eq!(count(&server, "queries_tcp"), 0);
    counted(&server, "tcp_open", 0).await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_tls_comes_and_goes() {
    let (first, old) = certificate();
    let (second, new) = certificate();
    let (old, new) = (Arc::new(old), Arc::new(new));
    let (server, at) = speaking(options(), first).await;
    let query = ask("mail.example.org A").tcp().wire();
    let expected = send(&query, at.ip(), Transport::Tcp).unwrap();
    let mut kept = connect(at, &old).await.unwrap();
    server.set_certificate(Some(second));
    kept.write_all(&framed(&query)).await.unwrap();
    assert_eq!(read_message(&mut kept).await, expected);
    assert!(connect(at, &old).await.is_err());
    let mut stream = connect(at, &new).await.unwrap();
    stream.write_all(&framed(&query)).await.unwrap();
    assert_eq!(read_message(&mut stream).await, expected);

    // Plain DNS over TCP goes on.
    let plain = server.listening().await[0];
    let mut other = TcpStream::connect(plain).await.unwrap();
    server.set_tls(None);
    assert!(server.set_listen(&[at.ip()]).await.is_empty());
    assert!(TcpStream::connect(at).await.is_err());
    assert_cut(&mut kept).await;
    other.write_all(&framed(&query)).await.unwrap();
    assert_eq!(read_message(&mut other).await, expected);
    // A port that another has is one error, and comes when it is free.
    let taken = std::net::TcpListener::bind(at).unwrap();
    server.set_tls(Some(at.port()));
    let errors = server.set_listen(&[at.ip()]).await;
    assert_eq!(errors.len(), 1);
    let line = errors[0].to_string();
    assert!(line.contains("(TLS): address already in use"), "{line}");
    assert!(line.ends_with("change server.listen or tls.port"), "{line}");
    drop(taken);
    assert!(server.set_listen(&[at.ip()]).await.is_empty());
    connect(at, &new).await.unwrap();
}

#[tokio::test]
async fn tls_has_places_of_its_own_and_who_does_not_shake_hands_holds_none_for_long() {
    let (certificate, client) = certificate();
    let client = Arc::new(client);
    let options = Options {
        tcp_connections: 8,
        ..options()
    };
    let (server, at) = speaking(options, certificate).await;
    let plain = server.listening().await[0];
    let query = ask("mail.example.org A").tcp().wire();
    let mut kept = connect(at, &client).await.unwrap();
    let mut open = Vec::new();
    // Floods of TCP take nothing from TLS.
    for _ in 0..20 {
        open.push(TcpStream::connect(plain).await.unwrap());
    }
    counted(&server, "tcp_displaced", 16).await;
    kept.write_all(&framed(&query)).await.unwrap();
    read_message(&mut kept).await;
    // Nor the other way round: handshakes that hang give way, to each other and to one that does not.
    for _ in 0..20 {
        open.push(TcpStream::connect(at).await.unwrap());
    }
    counted(&server, "tcp_displaced", 16 + 17).await;
    let mut last = connect(at, &client).await.unwrap();
    last.write_all(&framed(&query)).await.unwrap();
    read_message(&mut last).await;
    let mut other = open.swap_remove(19);
    other.write_all(&framed(&query)).await.unwrap();
    read_message(&mut other).await;
    counted(&server, "tcp_open", 8).await;
}

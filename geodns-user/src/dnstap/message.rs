//! The messages of dnstap.proto (<https://dnstap.info>), as far as an authoritative server has something to say.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;

use super::{Exchange, Protocol};
use crate::base::clock::since_1970;

/// `Dnstap`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub version: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub message: Option<Message>,
    /// 1: `MESSAGE`.
    #[prost(int32, required, tag = "15")]
    pub kind: i32,
}

/// `Message`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub kind: i32,
    /// 1: IPv4; 2: IPv6.
    #[prost(int32, optional, tag = "2")]
    pub socket_family: Option<i32>,
    /// 1: UDP; 2: TCP; 3: DNS over TLS.
    #[prost(int32, optional, tag = "3")]
    pub socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    pub query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    pub query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub response_message: Option<Vec<u8>>,
}

/// `Message.Type`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    AuthQuery = 1,
    AuthResponse = 2,
}

/// `Dnstap.Type.MESSAGE`
const MESSAGE: i32 = 1;

/// The messages of an exchange: its query, and its response if there is one.
pub(super) fn messages(exchange: Exchange, identity: &[u8], version: &[u8]) -> Vec<Vec<u8>> {
    let Exchange {
        asked,
        answered,
        client,
        server,
        protocol,
        query,
        response,
    } = exchange;
    let asked = since_1970(asked);
    let message = Message {
        kind: Kind::AuthQuery.into(),
        socket_family: Some(if client.is_ipv4() { 1 } else { 2 }),
        socket_protocol: Some(match protocol {
            Protocol::Udp => 1,
            Protocol::Tcp => 2,
            Protocol::Tls => 3,
        }),
        query_address: Some(octets(client)),
        response_address: Some(octets(server)),
        query_port: Some(client.port().into()),
        response_port: Some(server.port().into()),
        query_time_sec: Some(asked.as_secs()),
        query_time_nsec: Some(asked.subsec_nanos()),
        ..Message::default()
    };
    let response = response.map(|response| {
        let answered = since_1970(answered);
        Message {
            kind: Kind::AuthResponse.into(),
            response_time_sec: Some(answered.as_secs()),
            response_time_nsec: Some(answered.subsec_nanos()),
            response_message: Some(response),
            ..message.clone()
        }
    });
    let query = Message {
        query_message: Some(query),
        ..message
    };
    let encoded = [Some(query), response].into_iter().flatten();
    encoded
        .map(|message| {
            let dnstap = Dnstap {
                identity: Some(identity.to_vec()),
                version: Some(version.to_vec()),
                message: Some(message),
                kind: MESSAGE,
            };
            dnstap.encode_to_vec()
        })
        .collect()
}

fn octets(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn exchange(response: Option<&[u8]>) -> Exchange {
        let asked = SystemTime::UNIX_EPOCH + Duration::new(7, 9);
        Exchange {
            asked,
            answered: asked + Duration::from_nanos(100),
            client: "192.0.2.1:4000".parse().unwrap(),
            server: "198.51.100.53:53".parse().unwrap(),
            protocol: Protocol::Udp,
            query: b"query".to_vec(),
            response: response.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn an_exchange_is_a_query_and_a_response() {
        let messages = messages(exchange(Some(b"response")), b"here", b"geodns");
        let [query, response] = &*messages else {
            panic!("{} messages", messages.len());
        };
        let query = Dnstap::decode(&**query).unwrap();
        assert_eq!(query.identity.unwrap(), b"here");
        let query = query.message.unwrap();
        assert_eq!(query.kind(), Kind::AuthQuery);
        assert_eq!(query.query_message.unwrap(), b"query");
        assert_eq!(query.response_message, None);
        assert_eq!(query.query_address.unwrap(), [192, 0, 2, 1]);
        let response = Dnstap::decode(&**response).unwrap().message.unwrap();
        assert_eq!(response.kind(), Kind::AuthResponse);
        assert_eq!(response.query_message, None);
        assert_eq!(response.response_message.unwrap(), b"response");
        assert_eq!(
            (response.query_time_sec, response.response_time_nsec),
            (Some(7), Some(109))
        );
    }

    #[test]
    fn a_query_that_was_dropped_is_alone() {
        assert_eq!(messages(exchange(None), b"", b"").len(), 1);
    }
}

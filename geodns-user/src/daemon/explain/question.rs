//! A question, checked.

use std::net::IpAddr;

use domain::base::Rtype;
use geodns_common::wire;
use ipnet::IpNet;

use crate::base::name::{Name, parse_name};
use crate::control::explain::ExplainQuery;
use crate::control::problem::Failure;
use crate::serve::subnet;

/// A question, checked.
pub struct Question {
    pub name: Name,
    pub qtype: Rtype,
    pub client: IpAddr,
    pub ecs: Option<IpNet>,
}

impl Question {
    /// Checks a question of the API.
    pub fn of(asked: &ExplainQuery) -> Result<Self, Failure> {
        let qtype = asked.qtype.as_deref().unwrap_or("A");
        Ok(Self {
            name: parse_name(&asked.name).map_err(Failure::Invalid)?,
            qtype: qtype.to_ascii_uppercase().parse().map_err(|_| {
                Failure::Invalid(format!(
                    "{qtype:?} is not a type: write it like A, AAAA, MX or TYPE65"
                ))
            })?,
            client: asked.client.to_canonical(),
            ecs: asked.ecs,
        })
    }

    /// The question as a resolver sends it: RD, and EDNS, with the client subnet if there is one.
    pub fn message(&self) -> Vec<u8> {
        let mut message = vec![0, 0, wire::RD, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        message.extend_from_slice(self.name.as_slice());
        let mut options = Vec::new();
        if let Some(ecs) = self.ecs {
            let (family, address) = match ecs.addr() {
                IpAddr::V4(address) => (1u16, address.octets().to_vec()),
                IpAddr::V6(address) => (2, address.octets().to_vec()),
            };
            let source = ecs.prefix_len();
            let address = &address[..usize::from(source).div_ceil(8)];
            options.extend_from_slice(&wire::OPTION_ECS.to_be_bytes());
            options.extend_from_slice(&(4 + address.len() as u16).to_be_bytes());
            options.extend_from_slice(&family.to_be_bytes());
            options.extend_from_slice(&[source, 0]);
            options.extend_from_slice(address);
        }
        for word in [self.qtype.to_int(), wire::CLASS_IN] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message.push(0);
        let size = wire::MAX_UDP_SIZE as u16;
        for word in [wire::TYPE_OPT, size, 0, 0, options.len() as u16] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message.extend_from_slice(&options);
        message
    }

    /// The address whose place counts, and why it does.
    pub fn counts(&self) -> (IpAddr, String) {
        let client = self.client;
        match self.ecs {
            None => (client, "it asks itself: no client subnet".to_owned()),
            Some(ecs) if ecs.prefix_len() == 0 => {
                (client, "it asks; the client subnet opts out".to_owned())
            }
            Some(ecs) => match subnet::special_purpose(ecs) {
                Some(block) => {
                    let why = format!("it asks; {ecs} begins in {block}, which is no place");
                    (client, why)
                }
                None => (ecs.network(), format!("client subnet {ecs}")),
            },
        }
    }
}

//! Where to listen: an address, and the VRF that it is in.

use std::fmt;
use std::net::IpAddr;

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Name of the VRF that its interface is in. The same address may be in others, and be another one there.
    pub vrf: Option<String>,
}

impl From<IpAddr> for Endpoint {
    /// In no VRF.
    fn from(address: IpAddr) -> Self {
        Self { address, vrf: None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.vrf {
            None => write!(f, "{}", self.address),
            Some(vrf) => write!(f, "{} in VRF {vrf}", self.address),
        }
    }
}

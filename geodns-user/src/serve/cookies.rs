//! DNS cookies in the slow path: see [`geodns_common::cookie`].

use std::net::IpAddr;

use geodns_common::cookie;

use crate::base::clock::now_unix_s;
use crate::config::Secrets;

/// The cookie that goes back.
#[derive(Clone, Copy, Debug)]
pub struct Cookie {
    /// The option's data.
    pub data: [u8; cookie::LEN as usize],
    /// The client has shown a good one: it is where it says.
    pub is_good: bool,
    /// There was a server's cookie, and it was not good.
    pub is_bad: bool,
}

/// An option that breaks the rules of its format.
#[derive(Clone, Copy, Debug)]
pub struct Malformed;

/// The cookie that goes back to a client, for the option that came.
pub fn serve(
    Secrets(secrets): &Secrets,
    data: &[u8],
    client: IpAddr,
) -> Result<Option<Cookie>, Malformed> {
    if !cookie::is_well_formed(data.len() as u32) {
        return Err(Malformed);
    }
    let (words, _) = data.as_chunks::<8>();
    let word = |at: usize| words.get(at).map(|&octets| u64::from_ne_bytes(octets));
    let client_cookie = word(0).ok_or(Malformed)?;
    let theirs = match (word(1), word(2)) {
        (Some(head), Some(hash)) if data.len() == cookie::LEN as usize => Some([head, hash]),
        _ => None,
    };
    let mut address = [0; 16];
    match client {
        IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => address = v6.octets(),
    }
    let address = bytemuck::cast(address);
    let served = cookie::serve(theirs, now_unix_s(), |is_first, head| {
        let secret = secrets[usize::from(!is_first)];
        cookie::hash(secret, client_cookie, head, address, client.is_ipv6())
    });
    Ok(Some(Cookie {
        data: bytemuck::cast([client_cookie, served.head, served.hash]),
        is_good: served.is_good,
        is_bad: data.len() > cookie::CLIENT_LEN as usize && !served.is_good,
    }))
}

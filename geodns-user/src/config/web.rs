//! `[web]`: judged.

use std::fmt;
use std::net::SocketAddr;

use ring::digest::{SHA256, digest};

use super::CertificateFiles;
use super::file::{self, Spanned};
use super::reader::{Judged, Reader, all};

/// Addresses, and hosts, at the most.
const MAX_LIST: usize = 64;
/// Octets of a token.
const TOKEN: std::ops::RangeInclusive<usize> = 16..=1024;

/// `[web]`: the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Web {
    /// Addresses that it listens on; none: there is no dashboard.
    pub listen: Vec<SocketAddr>,
    /// Names that requests may be for, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The token that requests must have.
    pub token: Option<Token>,
    /// HTTPS with this certificate; `None`: HTTP.
    pub tls: Option<CertificateFiles>,
}

/// A secret that a visitor must show.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Makes a token of its text.
    pub fn new(text: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text).as_ref());
        Self(hash)
    }

    /// Compares it with a text, in a time that says nothing of where they differ.
    pub fn is(&self, text: &[u8]) -> bool {
        let pairs = self.0.iter().zip(Self::new(text).0);
        pairs.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is nobody's business.
        f.write_str("Token")
    }
}

impl Reader<'_> {
    pub(super) fn web(&self, file: file::Web) -> Judged<Web> {
        let listen = self.sockets(file.listen.as_ref(), "web.listen", 8053);
        let host = file.host.map(Spanned::into_inner).unwrap_or_default();
        if let Some(extra) = host.get(MAX_LIST) {
            let message = format!("more than {MAX_LIST} names; remove some");
            self.complain(extra.span(), "web.host", message);
        }
        let hosts = all(host.into_iter().map(|host| self.host(host)));
        let has_token = file.token_file.is_some();
        let token = file.token_file.map(|file| self.token(file)).transpose();
        let has_tls = file.certificate.is_some() || file.key.is_some();
        let tls = self.certificate_files(file.certificate, file.key, "web");
        let is_safe = has_token && (has_tls || file.behind_proxy == Some(true));
        let texts = file.listen.iter().flat_map(|list| list.get_ref());
        for text in texts.filter(|_| !is_safe) {
            let at: Option<SocketAddr> = text.get_ref().parse().ok();
            let Some(at) = at.filter(|at| !at.ip().to_canonical().is_loopback()) else {
                continue;
            };
            let lacks = match has_token {
                true => {
                    "certificate and key, or behind_proxy = true if a proxy in front of it speaks HTTPS"
                }
                false => {
                    "token_file, and certificate and key (or behind_proxy = true if a proxy in front of it speaks HTTPS)"
                }
            };
            let message = format!(
                "{at} is no loopback address, so strangers may reach it; name {lacks}, or listen on 127.0.0.1:{}",
                at.port()
            );
            self.misfit(text.span(), "web.listen", message);
        }
        Ok(Web {
            listen: listen?,
            hosts: hosts?,
            token: token?,
            tls: tls?,
        })
    }

    /// Addresses with a port, none twice. A message shows how one is written with `port`.
    pub(super) fn sockets(
        &self,
        list: Option<&Spanned<Vec<Spanned<String>>>>,
        key: &str,
        port: u16,
    ) -> Judged<Vec<SocketAddr>> {
        let list = list.map_or(&[][..], |list| list.get_ref());
        if let Some(extra) = list.get(MAX_LIST) {
            let message = format!("more than {MAX_LIST} addresses; remove some");
            self.complain(extra.span(), key, message);
        }
        let mut known = Vec::new();
        all(list.iter().map(|span| {
            let text = span.get_ref();
            let message = match text.parse::<SocketAddr>() {
                Ok(at) if at.port() == 0 => {
                    format!("{text:?} has port 0; write a port from 1 to 65535")
                }
                Ok(at) if at.ip().is_multicast() => {
                    format!("{text:?} is a multicast address; write one of this machine's own")
                }
                Ok(at) if known.contains(&at) => format!("{text:?} stands here twice; remove one"),
                Ok(at) => {
                    known.push(at);
                    return Ok(at);
                }
                Err(_) => format!(
                    "{text:?} is not an address with a port; write one as \"127.0.0.1:{port}\" or \"[::1]:{port}\""
                ),
            };
            self.error(span.span(), key, message)
        }))
    }

    /// The name of a host, without a port.
    fn host(&self, text: Spanned<String>) -> Judged<String> {
        let name = text.get_ref().strip_suffix('.').unwrap_or(text.get_ref());
        let is_good =
            |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > 253 || !name.bytes().all(is_good) {
            let message = format!(
                "{:?} is not the name of a host; write it without scheme and port, as \"dns.example.org\"",
                text.get_ref()
            );
            return self.error(text.span(), "web.host", message);
        }
        Ok(name.to_owned())
    }

    /// The token of a file.
    fn token(&self, file: Spanned<String>) -> Judged<Token> {
        const KEY: &str = "web.token_file";
        let (text, span) = self.text_of(file, KEY)?;
        let token = text.trim();
        let is_good = token.bytes().all(|octet| octet.is_ascii_graphic());
        if !is_good || !TOKEN.contains(&token.len()) {
            let message = format!(
                "its text is not a token of {} to {} visible ASCII characters in one line; write what `openssl rand \
                 -hex 16` gives",
                TOKEN.start(),
                TOKEN.end()
            );
            return self.error(span, KEY, message);
        }
        Ok(Token::new(token.as_bytes()))
    }
}

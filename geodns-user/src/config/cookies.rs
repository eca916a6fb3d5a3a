//! `[cookies]`: judged.

use std::fmt;

use geodns_common::cookie::Secret;

use super::file::{self, Spanned};
use super::reader::{Judged, Reader, Said, all};

/// `[cookies]`: DNS cookies (RFC 7873).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// None are made, and those that come are ignored.
    Off,
    /// With secrets of this server's own, which the state has.
    Generated,
    /// With these, which other servers have too.
    Shared(Secrets),
}

/// The secret that cookies are made with, and another one that is good as well: the one before it, or the
/// one to come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secrets(pub [Secret; 2]);

impl Secrets {
    /// Makes secrets of the octets of one or two.
    pub fn new(first: [u8; 16], second: Option<[u8; 16]>) -> Self {
        Self([first, second.unwrap_or(first)].map(bytemuck::cast))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They are nobody's business.
        f.write_str("Secrets")
    }
}

impl Reader<'_> {
    pub(super) fn cookies(&self, file: file::Cookies) -> Judged<Cookies> {
        let lines = match (file.secrets, file.secrets_file) {
            (Some(_), Some(file)) => {
                let message = "secrets or a file with them, not both; remove one";
                return self.error(file.span(), "cookies.secrets_file", message);
            }
            (Some(secrets), None) => {
                let span = secrets.span();
                let secrets = secrets.into_inner().into_iter();
                let secrets = secrets.map(|secret| (secret.span(), secret.into_inner()));
                Some((span, "cookies.secrets", secrets.collect()))
            }
            (None, Some(file)) => Some(self.secrets_file(file)?),
            (None, None) => None,
        };
        let shared = match lines {
            None => None,
            Some((span, key, lines)) => {
                let count = lines.len();
                let secrets = all(lines.into_iter().map(|(span, text)| {
                    let message =
                        "not 32 hexadecimal digits; write what `openssl rand -hex 16` gives";
                    secret(&text).ok_or_else(|| self.complain(span, key, message))
                }));
                if !(1..=2).contains(&count) {
                    let message = format!(
                        "{count} secrets; write one, or two: the first makes cookies, both are good"
                    );
                    self.complain(span, key, message);
                }
                match *secrets? {
                    [first] => Some(Secrets::new(first, None)),
                    [first, second] => Some(Secrets::new(first, Some(second))),
                    _ => return Err(Said),
                }
            }
        };
        Ok(match (file.enabled, shared) {
            (Some(false), _) => Cookies::Off,
            (_, Some(secrets)) => Cookies::Shared(secrets),
            (_, None) => Cookies::Generated,
        })
    }

    /// The lines of a file of secrets.
    fn secrets_file(&self, file: Spanned<String>) -> Judged<Lines> {
        const KEY: &str = "cookies.secrets_file";
        let (text, span) = self.text_of(file, KEY)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.map(|line| (span.clone(), line.to_owned())).collect();
        Ok((span, KEY, lines))
    }
}

/// Where secrets are written, under which key, and each with its own place.
type Lines = (
    std::ops::Range<usize>,
    &'static str,
    Vec<(std::ops::Range<usize>, String)>,
);

/// A secret's octets.
fn secret(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(text, 16).ok())??;
    Some(number.to_be_bytes())
}

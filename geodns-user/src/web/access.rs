//! The token of visitors: HTTP Basic, with any user name and the token as the password, or a Bearer token.
//!
//! A network that gives ten wrong ones within a minute waits for the rest of it. Tokens are too long to be guessed; this
//! keeps the log of a proxy short, and this server idle.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::base::lock::lock;
use crate::base::seats::network;
use crate::config::Token;

/// Wrong tokens of a network within [`MINUTE`], at the most.
const TRIES: u32 = 10;
/// Time until they are forgotten.
const MINUTE: Duration = Duration::from_secs(60);
/// Networks that are remembered, at the most. When there are more, all wait.
const NETWORKS: usize = 4096;

/// Lets visitors in that have the token.
pub struct Door {
    token: Token,
    failed: Mutex<Failed>,
}

struct Failed {
    since: Instant,
    tries: HashMap<IpAddr, u32>,
}

impl Door {
    /// For visitors with this token.
    pub fn new(token: Token) -> Self {
        Self {
            token,
            failed: Mutex::new(Failed {
                since: Instant::now(),
                tries: HashMap::new(),
            }),
        }
    }

    fn judge(&self, client: IpAddr, headers: &HeaderMap, now: Instant) -> Result<(), StatusCode> {
        let network = network(client);
        let mut failed = lock(&self.failed);
        if now.duration_since(failed.since) >= MINUTE {
            failed.since = now;
            failed.tries.clear();
        }
        let tries = failed.tries.get(&network).copied().unwrap_or(0);
        let is_full = tries == 0 && failed.tries.len() >= NETWORKS;
        if tries >= TRIES || is_full {
            return Err(StatusCode::TOO_MANY_REQUESTS);
        }
        let given = headers.get(header::AUTHORIZATION);
        let Some(given) = given else {
            return Err(StatusCode::UNAUTHORIZED);
        };
        let token = given.to_str().ok().and_then(token_of);
        if token.is_some_and(|token| self.token.is(&token)) {
            return Ok(());
        }
        failed.tries.insert(network, tries + 1);
        Err(StatusCode::UNAUTHORIZED)
    }
}

/// Answers those who have the token, and asks all others for it.
pub async fn check(
    State(door): State<Arc<Door>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match door.judge(client.ip(), request.headers(), Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(status) => {
            let challenge = [(
                header::WWW_AUTHENTICATE,
                "Basic realm=\"geodns\", charset=\"UTF-8\"",
            )];
            let wait = [(header::RETRY_AFTER, "60")];
            match status {
                StatusCode::UNAUTHORIZED => {
                    let text = "give the token of web.token_file as the password\n";
                    (status, challenge, text).into_response()
                }
                _ => (status, wait, "too many wrong tokens; wait a minute\n").into_response(),
            }
        }
    }
}

/// The token of an `Authorization` header.
fn token_of(given: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = given.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64(rest)?;
    let colon = pair.iter().position(|octet| *octet == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

/// Decodes base64, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut octets = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, given.parse().unwrap());
        headers
    }

    #[test]
    fn a_token_comes_as_a_password_or_by_itself() {
        let door = Door::new(Token::new(b"0123456789:bcdef"));
        let client = IpAddr::from([192, 0, 2, 1]);
        let now = Instant::now();
        for (given, expected) in [
            ("Bearer 0123456789:bcdef", Ok(())),
            ("bearer 0123456789:bcdef", Ok(())),
            // any:0123456789:bcdef
            ("Basic YW55OjAxMjM0NTY3ODk6YmNkZWY=", Ok(())),
            ("Basic YW55OjAxMjM0NTY3ODk6YmNkZWY", Ok(())),
            ("Basic YW55", Err(StatusCode::UNAUTHORIZED)),
            ("Basic !", Err(StatusCode::UNAUTHORIZED)),
            ("Digest 0123456789:bcdef", Err(StatusCode::UNAUTHORIZED)),
            ("Bearer 0123456789:bcdeF", Err(StatusCode::UNAUTHORIZED)),
        ] {
            assert_eq!(
                door.judge(client, &headers(given), now),
                expected,
                "{given}"
            );
        }
        let none = HeaderMap::new();
        assert_eq!(
            door.judge(client, &none, now),
            Err(StatusCode::UNAUTHORIZED)
        );
    }

    #[test]
    fn a_network_that_guesses_waits_and_others_do_not() {
        let door = Door::new(Token::new(b"0123456789abcdef"));
        let (now, wrong) = (Instant::now(), headers("Bearer wrong"));
        let good = headers("Bearer 0123456789abcdef");
        let client = |last| IpAddr::from([192, 0, 2, last]);
        for last in 0..TRIES as u8 {
            let judged = door.judge(client(last), &wrong, now);
            assert_eq!(judged, Err(StatusCode::UNAUTHORIZED));
        }
        let waits = Err(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(door.judge(client(99), &good, now), waits);
        assert_eq!(
            door.judge(IpAddr::from([198, 51, 100, 1]), &good, now),
            Ok(())
        );
        assert_eq!(door.judge(client(99), &good, now + MINUTE), Ok(()));
    }
}

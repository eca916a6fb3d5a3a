//! Values that several commands take: each is understood, or refused with what to write instead.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::base::prefix;
use crate::config::time;
use crate::control::values::MAX_TIME;

/// A prefix; an address alone is the prefix of just that address.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    prefix::parse(text)
}

/// An address.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "not an address: write it like 192.0.2.7 or 2001:db8::7".to_owned())
}

/// A time that a change takes.
pub fn over(text: &str) -> Result<Duration, String> {
    time::duration(text)
        .filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| {
            "write a number and ms, s, m, h or d, such as 10m; 365d at the most".to_owned()
        })
}

/// A time that something holds.
pub fn holding(text: &str) -> Result<Duration, String> {
    let time = over(text)?;
    if time.is_zero() {
        return Err("it would never hold: write a time such as 10m".to_owned());
    }
    Ok(time)
}

/// `--wait`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until this node has the change.
    Here,
    /// Until all nodes that live have it.
    All,
    /// This long: a canary.
    For(Duration),
}

/// `here`, `all`, or a time.
pub fn waiting(text: &str) -> Result<Wait, String> {
    match text {
        "here" => Ok(Wait::Here),
        "all" => Ok(Wait::All),
        time => {
            let time = over(time).map_err(|_| "write here, all, or a time such as 5m".to_owned());
            Ok(Wait::For(time?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::tests::usage;

    #[test]
    fn prefixes_are_checked_before_anybody_is_asked() {
        for (text, parsed) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(prefix(text).unwrap().to_string(), parsed);
        }
        let message = usage("geodns map set 192.0.2.1/24 ams");
        assert!(
            message.contains("192.0.2.1/24 has bits set past its length; write 192.0.2.0/24"),
            "{message}"
        );
        for wrong in ["192.0.2.0/33", "192.0.2/24", "::/129", "ams", "/8"] {
            let message = usage(&format!("geodns map set {wrong} ams"));
            assert!(message.contains("not an address prefix"), "{message}");
        }
        usage("geodns map get 192.0.2.0/24");
        usage("geodns map");
        usage("geodns explain www.example.org");
    }
}

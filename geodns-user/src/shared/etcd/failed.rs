//! Judges a failed call: whether the write may be done, whether another member may help, and a line with the remedy.

use super::grpc::{Failure, code};
use crate::config::Endpoint;
use crate::shared::{Kind, Trouble};

/// A failed call, judged.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The line.
    pub trouble: Trouble,
    /// Whether the write may have been done.
    pub maybe_done: bool,
    /// Whether another member may do better.
    pub elsewhere: bool,
    /// Whether the connection is of no use any more.
    pub broken: bool,
    /// Whether a member has answered at all.
    pub answered: bool,
}

/// Words of etcd, and the kind of trouble that they tell of. A write that they refuse has not been done.
const WORDS: [(&str, Kind); 8] = [
    ("no leader", Kind::NoQuorum),
    ("database space exceeded", Kind::Full),
    ("too many requests", Kind::Slow),
    ("permission denied", Kind::Forbidden),
    ("user name is empty", Kind::Forbidden),
    ("user name not found", Kind::Forbidden),
    ("authentication", Kind::Forbidden),
    ("auth token", Kind::Forbidden),
];

/// Judges a failed call to a member.
pub fn judge(endpoint: &Endpoint, failure: Failure) -> Failed {
    let (maybe_done, broken) = match &failure {
        Failure::NotSent(_) | Failure::Stranger(_) => (false, true),
        Failure::Broken(_) | Failure::Late(_) => (true, true),
        Failure::Status { code, message } => (known(message).is_none() && !refuses(*code), false),
    };
    let answered = matches!(failure, Failure::Status { .. });
    let trouble = trouble(endpoint, failure);
    Failed {
        answered,
        maybe_done,
        elsewhere: !matches!(trouble.kind, Kind::Full | Kind::Forbidden),
        broken,
        trouble,
    }
}

/// Whether a status says that nothing was done.
fn refuses(number: u32) -> bool {
    matches!(
        number,
        code::INVALID_ARGUMENT
            | code::PERMISSION_DENIED
            | code::RESOURCE_EXHAUSTED
            | code::FAILED_PRECONDITION
            | code::OUT_OF_RANGE
            | code::UNIMPLEMENTED
            | code::UNAUTHENTICATED
    )
}

fn known(message: &str) -> Option<Kind> {
    let found = WORDS.iter().find(|(words, _)| message.contains(words));
    found.map(|(_, kind)| *kind)
}

/// A failed call in one line.
pub fn trouble(endpoint: &Endpoint, failure: Failure) -> Trouble {
    match failure {
        Failure::NotSent(why) | Failure::Broken(why) => broken(endpoint, &why, ""),
        Failure::Late(time) => Trouble::new(
            Kind::Slow,
            format!(
                "etcd at {endpoint} has not answered within {time:?}: look at its disk, its load, and the network"
            ),
        ),
        Failure::Stranger(why) => Trouble::new(
            Kind::Other,
            format!(
                "{endpoint} does not answer as etcd does ({why}): fleet.etcd must name its client port"
            ),
        ),
        Failure::Status { code, message } => said(endpoint, code, &message),
    }
}

/// The first call over a new connection that failed, in one line.
pub fn first_trouble(endpoint: &Endpoint, failure: Failure) -> Trouble {
    let help = match endpoint.tls {
        true => "; its own log says why, if it does not take our certificate",
        false => "; if it takes TLS alone, write https:// in fleet.etcd",
    };
    match failure {
        Failure::NotSent(why) | Failure::Broken(why) => broken(endpoint, &why, help),
        failure => trouble(endpoint, failure),
    }
}

fn broken(endpoint: &Endpoint, why: &str, help: &str) -> Trouble {
    // In TLS 1.3 a client learns of a refusal after its handshake.
    if let Some((_, alert)) = why.split_once("received fatal alert: ") {
        return Trouble::new(Kind::Certificate, self::alert(endpoint, alert));
    }
    Trouble::new(
        Kind::Unreachable,
        format!("etcd at {endpoint}: the connection broke ({why}){help}"),
    )
}

/// An alert of TLS, in a line.
pub fn alert(endpoint: &Endpoint, alert: &str) -> String {
    format!(
        "etcd at {endpoint} refuses us (TLS alert {alert}): fleet.certificate must be signed by whom its \
         --trusted-ca-file names, for clients, and be in date"
    )
}

/// Words of etcd, in a line.
pub fn said(endpoint: &Endpoint, number: u32, message: &str) -> Trouble {
    let message = message.trim_start_matches("etcdserver: ");
    let at = format!("etcd at {endpoint}");
    let kind = known(message).unwrap_or(match number {
        code::UNIMPLEMENTED => Kind::Version,
        code::PERMISSION_DENIED | code::UNAUTHENTICATED => Kind::Forbidden,
        _ if message.contains("timed out") => Kind::NoQuorum,
        _ => Kind::Other,
    });
    let line = match kind {
        Kind::NoQuorum if message.contains("no leader") => format!(
            "{at} has no leader: more than half of its members must be up, and reach each other"
        ),
        Kind::NoQuorum => format!(
            "{at}: {message}: more than half of its members must be up, and reach each other"
        ),
        Kind::Full => format!(
            "{at} is full: compact and defragment it or raise --quota-backend-bytes, then `etcdctl alarm disarm`"
        ),
        Kind::Slow => format!("{at} has too many requests to do: look at its disk and its load"),
        Kind::Forbidden if message.contains("permission denied") => format!(
            "{at} forbids us this: grant a role with readwrite on the fleet's prefix to the user that \
             fleet.certificate's common name is"
        ),
        Kind::Forbidden => format!(
            "{at} does not know who we are ({message}): start it with --client-cert-auth, and make \
             fleet.certificate's common name a user"
        ),
        Kind::Version => format!("{at} lacks what geodns needs ({message}): use etcd 3.4 or later"),
        _ => format!("{at}: {message}"),
    };
    Trouble::new(kind, line)
}

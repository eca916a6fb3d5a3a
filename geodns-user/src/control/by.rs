//! The user and process that ask for a change, for the log.

use nix::unistd::{Uid, User};

tokio::task_local! {
    static BY: By;
}

/// Runs what somebody asks.
pub async fn scope<F: Future>(by: By, run: F) -> F::Output {
    BY.scope(by, run).await
}

/// The user and process that ask for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A process, at the other end of the control socket.
    Peer {
        /// User that it runs as.
        uid: Option<u32>,
        /// Its number, in our namespace.
        pid: Option<i32>,
    },
    /// Somebody who sent a signal, which does not tell who.
    Signal(&'static str),
    /// The daemon itself.
    Itself,
}

impl By {
    /// A process at the other end of a socket.
    pub fn peer(uid: Option<u32>, pid: Option<i32>) -> Self {
        Self::Peer { uid, pid }
    }

    /// The client whose request the current task runs.
    pub fn current() -> Self {
        BY.try_with(Clone::clone).unwrap_or(Self::Itself)
    }

    /// Number of the user.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Peer { uid, .. } => *uid,
            Self::Signal(_) | Self::Itself => None,
        }
    }

    /// Number of the process.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Peer { pid, .. } => *pid,
            Self::Signal(_) | Self::Itself => None,
        }
    }

    /// In words, for a sentence: `root (pid 4711)`.
    pub fn words(&self, user: Option<&str>) -> String {
        let (uid, pid) = match self {
            Self::Peer { uid, pid } => (uid, pid),
            Self::Signal(name) => return (*name).to_owned(),
            Self::Itself => return "the daemon".to_owned(),
        };
        let who = match (user, uid) {
            (Some(user), _) => user.to_owned(),
            (None, Some(uid)) => format!("uid {uid}"),
            (None, None) => "an unknown user".to_owned(),
        };
        match pid {
            Some(pid) => format!("{who} (pid {pid})"),
            None => who,
        }
    }

    /// Name of the user, if it has one. Looks into the system's list of users: it may block.
    pub fn user(&self) -> Option<String> {
        let user = User::from_uid(Uid::from_raw(self.uid()?));
        user.ok().flatten().map(|user| user.name)
    }
}

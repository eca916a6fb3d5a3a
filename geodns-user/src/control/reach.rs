//! How far a change is to reach before its caller is told, and whether only this node is to have it. A header of the
//! request says so; the command line has `--wait all` and `--local`.

use axum::http::HeaderMap;

tokio::task_local! {
    static REACH: Reach;
}

/// The header.
pub const HEADER: &str = "geodns-reach";

/// How far a change reaches. A node that is in no fleet takes each as [`Reach::Here`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// All nodes get it. It is in force here when its caller is told.
    #[default]
    Here,
    /// All nodes get it, and all that live have it in force when its caller is told.
    All,
    /// This node alone gets it.
    Local,
}

impl Reach {
    /// Its word in the header.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::All => "all",
            Self::Local => "local",
        }
    }

    /// What the header of a request says; an error in one line.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        let Some(value) = headers.get(HEADER) else {
            return Ok(Self::Here);
        };
        let all = [Self::Here, Self::All, Self::Local];
        let known = all.into_iter().find(|reach| value == reach.word());
        known.ok_or_else(|| format!("header {HEADER}: write here, all or local"))
    }

    /// The reach that the request of the current task asks for.
    pub fn current() -> Self {
        REACH.try_with(|reach| *reach).unwrap_or_default()
    }

    /// Runs what a request asks.
    pub async fn scope<F: Future>(self, run: F) -> F::Output {
        REACH.scope(self, run).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_how_far() {
        let mut headers = HeaderMap::new();
        assert_eq!(Reach::of(&headers), Ok(Reach::Here));
        for reach in [Reach::Here, Reach::All, Reach::Local] {
            headers.insert(HEADER, reach.word().parse().unwrap());
            assert_eq!(Reach::of(&headers), Ok(reach));
        }
        headers.insert(HEADER, "far".parse().unwrap());
        assert!(
            Reach::of(&headers)
                .unwrap_err()
                .contains("here, all or local")
        );
    }
}

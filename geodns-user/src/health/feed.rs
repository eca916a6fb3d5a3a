//! The file in which other monitors say which mirrors are up.
//!
//! A line for each: `mirror,up`, `mirror,down,reason`, or `mirror,address,down,reason` for one of its
//! addresses; a reason may be left out, and hold commas. Blank lines and `#` comments are skipped.
//!
//! The file is looked at each second. Polling sees what inotify sees on some file systems only, and
//! there is no watch that ends with the file that was renamed over. A file that is put in place by
//! renaming is read at once; one that is rewritten in place is half there for moments, and so is read
//! when a second has gone by without a change.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::base::complaint::Error;
use crate::base::lock::lock;
use crate::files;
use crate::supervise::Never;

/// The key of the configuration that names the file.
const KEY: &str = "health.feed";
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The most octets that are read.
const MAX_LEN: u64 = 4 << 20;
/// Two changes so close together may leave the same time in the file: some file systems count in
/// seconds or two.
const COARSE: Duration = Duration::from_secs(2);

/// How often in a row a file that is being written is left alone: one that changes each second is
/// read all the same.
const PATIENCE: u32 = 3;

/// Another monitor's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The mirror's id. There may be no such mirror.
    pub mirror: String,
    /// One of its addresses; `None`: all of them.
    pub address: Option<IpAddr>,
    /// Whether it is up.
    pub up: bool,
    /// Why, if the file says.
    pub reason: Option<String>,
    /// Line in the file, from 1.
    pub line: usize,
}

/// A feed that is watched.
#[derive(Debug)]
pub struct Feed {
    path: PathBuf,
    /// The stamp of the file when it was last looked at.
    seen: Option<Stamp>,
    /// How often it has been left alone because somebody was writing.
    waited: u32,
    /// The stamp of the file when it was read.
    read: Option<Stamp>,
    /// The verdicts in force.
    verdicts: Vec<Verdict>,
    /// Complaints so far, so that each is logged once.
    complaint: Option<String>,
}

/// The parts of a file's metadata that change with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether another change now would show.
    fn settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.map_or(0, |since| since.as_secs());
        since.cast_signed() - self.changed.0 > COARSE.as_secs().cast_signed()
    }
}

impl Feed {
    /// Watches a file, which need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: None,
            waited: 0,
            read: None,
            verdicts: Vec::new(),
            complaint: None,
        }
    }

    /// Looks each second, for ever, and calls `tell` with all verdicts whenever they changed. A fault in the file is
    /// logged once; its verdicts from before stay in force.
    pub async fn watch(feed: Arc<Mutex<Self>>, mut tell: impl FnMut(&[Verdict])) -> Never {
        loop {
            let feed = Arc::clone(&feed);
            let look = move || {
                let mut feed = lock(&feed);
                feed.look().then(|| feed.verdicts.clone())
            };
            // One that panics has said so; the next look may go well.
            if let Ok(Some(verdicts)) = tokio::task::spawn_blocking(look).await {
                tell(&verdicts);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The verdicts in force.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Looks once. Gives whether the verdicts have changed.
    pub fn look(&mut self) -> bool {
        match self.news() {
            Ok(Some(verdicts)) => {
                if self.complaint.take().is_some() {
                    let feed = self.path.display();
                    tracing::info!(%feed, "{feed}: good again");
                }
                let changed = verdicts != self.verdicts;
                self.verdicts = verdicts;
                changed
            }
            Ok(None) => false,
            Err(error) => {
                let line = error.to_string();
                if self.complaint.as_ref() != Some(&line) {
                    let kept = "what it said before stays in force";
                    tracing::warn!(
                        feed = %error.file.display(),
                        line = error.line,
                        cause = error.message,
                        "{line}; {kept}"
                    );
                    self.complaint = Some(line);
                }
                false
            }
        }
    }

    /// Reads the verdicts of the file, if it is to be read.
    fn news(&mut self) -> Result<Option<Vec<Verdict>>, Error> {
        let now = match fs::metadata(&self.path) {
            Ok(meta) => Stamp::of(&meta),
            Err(error) => {
                (self.seen, self.read) = (None, None);
                return Err(Error::cannot_read(&self.path, &error));
            }
        };
        if self.read == Some(now) {
            return Ok(None);
        }
        let before = self.seen.replace(now);
        let in_place = before.is_some_and(|before| before != now && before.same_file(&now));
        if in_place && self.waited < PATIENCE {
            self.waited += 1;
            return Ok(None);
        }
        self.waited = 0;
        let read = files::read_at_most(&self.path, MAX_LEN);
        let is_final = |error: &io::Error| error.kind() == io::ErrorKind::FileTooLarge;
        if now.settled(SystemTime::now()) && read.as_ref().err().is_none_or(is_final) {
            self.read = Some(now);
        }
        Self::decode(&self.path, read).map(Some)
    }

    /// Reads a feed once.
    pub fn read(path: &Path) -> Result<Vec<Verdict>, Error> {
        Self::decode(path, files::read_at_most(path, MAX_LEN))
    }

    fn decode(path: &Path, read: io::Result<Vec<u8>>) -> Result<Vec<Verdict>, Error> {
        let text = read.map_err(|error| Error::cannot_read(path, &error))?;
        let text = String::from_utf8(text).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            Error {
                file: path.to_owned(),
                line: Some(1 + before.iter().filter(|&&byte| byte == b'\n').count()),
                column: None,
                key: Some(KEY.to_owned()),
                message: "not UTF-8; save the file as UTF-8".to_owned(),
            }
        })?;
        Self::parse(path, &text)
    }

    /// Reads a feed's text; `path` is for errors. Each mirror, and each address of one, may stand
    /// there once.
    pub fn parse(path: &Path, text: &str) -> Result<Vec<Verdict>, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut verdicts: Vec<Verdict> = Vec::new();
        let mut lines: HashMap<(String, Option<IpAddr>), usize> = HashMap::new();
        for (content, line) in text.lines().map(str::trim).zip(1..) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let wrong = |message| Error {
                file: path.to_owned(),
                line: Some(line),
                column: None,
                key: Some(KEY.to_owned()),
                message,
            };
            let verdict = verdict(content, line).map_err(wrong)?;
            let of = (verdict.mirror.clone(), verdict.address);
            if let Some(first) = lines.insert(of, line) {
                let what = match verdict.address {
                    Some(address) => format!("{},{address}", verdict.mirror),
                    None => verdict.mirror,
                };
                return Err(wrong(format!(
                    "{what} is already in line {first}; remove one"
                )));
            }
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }
}

/// One line.
fn verdict(content: &str, line: usize) -> Result<Verdict, String> {
    let usage = || {
        format!(
            "{content:?} is not a verdict; write mirror,up or mirror,down,reason or \
             mirror,address,down"
        )
    };
    let (mirror, rest) = content.split_once(',').ok_or_else(usage)?;
    let mirror = mirror.trim();
    if mirror.is_empty() {
        return Err(usage());
    }
    let (second, after) = field(rest);
    let (address, word, reason) = match (is_up(second), after) {
        (Some(up), reason) => (None, up, reason),
        (None, Some(after)) => {
            let address = second.parse().map_err(|_| {
                format!("{second:?} is neither up nor down nor an address; write one of them")
            })?;
            let (word, reason) = field(after);
            let up = is_up(word)
                .ok_or_else(|| format!("{word:?} is neither up nor down; write one of them"))?;
            (Some(address), up, reason)
        }
        (None, None) => {
            return Err(format!(
                "{second:?} is neither up nor down; write one of them"
            ));
        }
    };
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    Ok(Verdict {
        mirror: mirror.to_owned(),
        address,
        up: word,
        reason: reason.map(str::to_owned),
        line,
    })
}

/// The first field, and what is behind it.
fn field(text: &str) -> (&str, Option<&str>) {
    match text.split_once(',') {
        Some((first, rest)) => (first.trim(), Some(rest)),
        None => (text.trim(), None),
    }
}

fn is_up(word: &str) -> Option<bool> {
    match word {
        "up" => Some(true),
        "down" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

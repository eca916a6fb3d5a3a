//! Files that somebody names: in the configuration, in another file, on the command line.
//!
//! They must be regular files. Opening a pipe waits for somebody to write to it, a device may never end, and
//! reading either takes away what was in it, so that the next reload finds something else.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Kind of a file that is not a regular one.
pub fn kind(metadata: &Metadata) -> Option<&'static str> {
    let of = metadata.file_type();
    match () {
        () if of.is_file() => None,
        () if of.is_dir() => Some("a folder"),
        () if of.is_fifo() => Some("a pipe"),
        () if of.is_socket() => Some("a socket"),
        () if of.is_char_device() || of.is_block_device() => Some("a device"),
        () => Some("no file"),
    }
}

fn must_be_regular(metadata: &Metadata) -> io::Result<()> {
    kind(metadata).map_or(Ok(()), |kind| {
        let message = format!("it is {kind}, and must be a regular file");
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    })
}

/// Opens a regular file for reading; anything else is an error that says what it is, at once.
pub fn open(path: &Path) -> io::Result<File> {
    // Before it is opened, which some devices take for an order.
    must_be_regular(&fs::metadata(path)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    // It may have become another one meanwhile.
    must_be_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let size = file.metadata()?.len();
    let mut octets = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut octets)?;
    Ok(octets)
}

/// Reads a regular file of no more than `most` octets.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > most {
        let message = match most >> 20 {
            0 => format!("it is larger than {most} octets"),
            mib => format!("it is larger than {mib} MiB"),
        };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(octets)
}

/// Reads a regular file that is UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let why = |path: &Path| open(path).unwrap_err().to_string();
        fs::write(at("file"), "text").unwrap();
        assert_eq!(read_to_string(&at("file")).unwrap(), "text");
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        assert_eq!(read(&at("link")).unwrap(), b"text");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(why(&at("pipe")), "it is a pipe, and must be a regular file");
        let _socket = UnixListener::bind(at("socket")).unwrap();
        assert!(why(&at("socket")).starts_with("it is a socket"));
        assert!(why(Path::new("/dev/zero")).starts_with("it is a device"));
        assert!(why(folder.path()).starts_with("it is a folder"));
        let none = open(&at("none")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_bound_is_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [0; 2048]).unwrap();
        assert_eq!(read_at_most(&path, 2048).unwrap().len(), 2048);
        let error = read_at_most(&path, 2047).unwrap_err().to_string();
        assert_eq!(error, "it is larger than 2047 octets");
    }
}

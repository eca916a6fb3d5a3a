//! An archive of files, in the form that the kernel unpacks at its start.

/// An archive of the format `newc`: for each file a header in hexadecimal, its name and its bytes, all
/// padded to four.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    count: u32,
}

impl Cpio {
    /// Adds a folder.
    pub fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), &[]);
    }

    /// Adds a device by its numbers.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, (major, minor), &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.entry(name, 0o100_000 | mode, (0, 0), bytes);
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), bytes: &[u8]) {
        self.count += 1;
        let fields = [
            self.count, // inode
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            bytes.len() as u32,
            0, // device that it is on
            0,
            major, // device that it is
            minor,
            name.len() as u32 + 1,
            0, // checksum, in another format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole archive.
    pub fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_headers_names_and_bytes_each_padded_to_four() {
        let mut cpio = Cpio::default();
        cpio.file("init", 0o755, b"hello");
        cpio.device("dev/console", 5, 1);
        let bytes = cpio.end();
        let file = "070701\
            00000001000081ed00000000000000000000000100000000\
            000000050000000000000000000000000000000000000005\
            00000000init\0\0hello\0\0\0";
        let device = "070701\
            000000020000218000000000000000000000000100000000\
            00000000000000000000000000000005000000010000000c\
            00000000dev/console\0\0\0";
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with(&format!("{file}{device}070701")),
            "{text:?}"
        );
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
        assert_eq!(text.len() % 4, 0);
    }
}

//! Lines that a feed takes, and moments when it is read.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Vec<Verdict>, String> {
    Feed::parse(Path::new("up.csv"), text).map_err(|error| error.to_string())
}

fn verdict(mirror: &str, address: Option<&str>, up: bool, reason: Option<&str>) -> Verdict {
    Verdict {
        mirror: mirror.to_owned(),
        address: address.map(|address| address.parse().unwrap()),
        up,
        reason: reason.map(str::to_owned),
        line: 0,
    }
}

#[test]
fn every_form_of_a_line_is_read() {
    let text = "\u{feff}# ours\r\n\r\nams,up\n iad , down , power, and cooling \nsin,down,\n\
                ams,192.0.2.10,down\nams,2001:DB8::1,up,all well\nup,down";
    let expect = [
        (3, verdict("ams", None, true, None)),
        (4, verdict("iad", None, false, Some("power, and cooling"))),
        (5, verdict("sin", None, false, None)),
        (6, verdict("ams", Some("192.0.2.10"), false, None)),
        (
            7,
            verdict("ams", Some("2001:db8::1"), true, Some("all well")),
        ),
        (8, verdict("up", None, false, None)),
    ];
    let expect = expect.map(|(line, verdict)| Verdict { line, ..verdict });
    assert_eq!(parse(text).unwrap(), expect);
    assert_eq!(parse("").unwrap(), []);
}

#[test]
fn each_wrong_line_is_one_clear_line() {
    for (text, expect) in [
        (
            "ams",
            "1: \"ams\" is not a verdict; write mirror,up or mirror,down,reason or mirror,address,down",
        ),
        (
            "\n,up",
            "2: \",up\" is not a verdict; write mirror,up or mirror,down,reason or mirror,address,down",
        ),
        (
            "ams,UP",
            "1: \"UP\" is neither up nor down; write one of them",
        ),
        ("ams,", "1: \"\" is neither up nor down; write one of them"),
        (
            "ams,192.0.2.10",
            "1: \"192.0.2.10\" is neither up nor down; write one of them",
        ),
        (
            "ams,192.0.2.256,up",
            "1: \"192.0.2.256\" is neither up nor down nor an address; write one of them",
        ),
        (
            "ams,192.0.2.1,sideways",
            "1: \"sideways\" is neither up nor down; write one of them",
        ),
        (
            "ams,up\n#\nams,down",
            "3: ams is already in line 1; remove one",
        ),
        (
            "ams,::1,up\nams,0::1,down",
            "2: ams,::1 is already in line 1; remove one",
        ),
    ] {
        let (line, message) = expect.split_once(": ").unwrap();
        let expect = format!("up.csv:{line}: health.feed: {message}");
        assert_eq!(parse(text).unwrap_err(), expect);
    }
    assert_eq!(parse("ams,up\nams,::1,up\nAMS,up").unwrap().len(), 3);
}

/// A feed in a folder of its own.
fn feed() -> (tempfile::TempDir, PathBuf, Feed) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.csv");
    let feed = Feed::new(&path);
    (folder, path, feed)
}

fn ups(feed: &Feed) -> Vec<bool> {
    feed.verdicts().iter().map(|verdict| verdict.up).collect()
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_file_that_is_renamed_over_is_read_at_once() {
    let (_folder, path, mut feed) = feed();
    assert!(!feed.look());
    replace(&path, "ams,up\n");
    assert!(feed.look());
    assert_eq!(ups(&feed), [true]);
    for up in [false, true, false] {
        let word = if up { "up" } else { "down" };
        replace(&path, &format!("ams,{word}\n"));
        assert!(feed.look());
        assert_eq!(ups(&feed), [up]);
        assert!(!feed.look());
    }
}

#[test]
fn a_file_that_is_rewritten_in_place_is_read_when_it_rests() {
    let (_folder, path, mut feed) = feed();
    fs::write(&path, "ams,up\niad,up\n").unwrap();
    assert!(feed.look());
    // Half there, and good as it stands.
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"ams,down\n").unwrap();
    assert!(!feed.look());
    assert_eq!(ups(&feed), [true, true]);
    file.write_all(b"iad,down\n").unwrap();
    assert!(!feed.look());
    assert!(feed.look());
    assert_eq!(ups(&feed), [false, false]);
    // As long as before, within the same tick of the clock.
    fs::write(&path, "ams,down\niad,up \n").unwrap();
    feed.look();
    feed.look();
    assert_eq!(ups(&feed), [false, true]);
}

#[test]
fn a_file_that_never_rests_is_read_all_the_same() {
    let (_folder, path, mut feed) = feed();
    fs::write(&path, "ams,up\n").unwrap();
    feed.look();
    let read = (0..10).any(|n| {
        fs::write(&path, format!("ams,down,{}\n", "x".repeat(n))).unwrap();
        feed.look()
    });
    assert!(read);
    assert_eq!(ups(&feed), [false]);
}

#[test]
fn what_is_broken_or_gone_leaves_the_last_good_one_in_force() {
    let (folder, path, mut feed) = feed();
    replace(&path, "ams,down\n");
    assert!(feed.look());
    let complaint = |feed: &Feed| feed.complaint.clone().unwrap();
    let name = path.display().to_string();
    for (text, expect) in [
        (
            &b"ams,maybe\n"[..],
            ":1: health.feed: \"maybe\" is neither up nor down",
        ),
        (b"ams,up\n\xff", ":2: health.feed: not UTF-8"),
        (
            &[b'#'; (MAX_LEN + 1) as usize],
            ": cannot read: it is larger than 4 MiB",
        ),
    ] {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &path).unwrap();
        for _ in 0..3 {
            assert!(!feed.look());
        }
        assert!(complaint(&feed).starts_with(&format!("{name}{expect}")));
        assert_eq!(ups(&feed), [false]);
    }
    fs::remove_file(&path).unwrap();
    assert!(!feed.look());
    assert!(complaint(&feed).contains("cannot read: No such file"));
    // Opening a FIFO would hang.
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(!feed.look());
    assert!(complaint(&feed).contains("cannot read: it is a pipe"));
    assert_eq!(ups(&feed), [false]);
    replace(&path, "ams,up\n");
    assert!(feed.look());
    assert_eq!((ups(&feed), feed.complaint), (vec![true], None));
    drop(folder);
}

#[tokio::test]
async fn a_watched_file_is_told_of_when_it_changes() {
    let (_folder, path, feed) = feed();
    replace(&path, "ams,up\n");
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let watch = tokio::spawn(Feed::watch(Arc::new(Mutex::new(feed)), move |verdicts| {
        let _ = sender.send(verdicts.to_vec());
    }));
    let up = |told: Option<Vec<Verdict>>| told.unwrap()[0].up;
    assert!(up(told.recv().await));
    replace(&path, "ams,down\n");
    assert!(!up(told.recv().await));
    fs::write(&path, "ams,up\n").unwrap();
    assert!(up(told.recv().await));
    watch.abort();
}

proptest! {
    #[test]
    fn no_text_panics_and_every_error_is_one_line(text in "([a-z:.,#\" 0-9]{0,12}|,up|,down|\n|\r){0,20}") {
        if let Err(error) = parse(&text) {
            prop_assert_eq!(error.lines().count(), 1);
        }
    }
}

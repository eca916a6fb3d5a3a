//! What a bundle takes, and what it refuses.

use std::io::Cursor;

use minisign::KeyPair;
use proptest::prelude::*;

use super::*;

fn bundle(files: &[(&str, &str)]) -> Bundle {
    let file = |(path, content): &(&str, &str)| ((*path).to_owned(), content.as_bytes().to_vec());
    Bundle {
        serial: 7,
        files: files.iter().map(file).collect(),
        databases: BTreeMap::from([("/var/lib/city.mmdb".to_owned(), sha256(b"city"))]),
    }
}

fn sample() -> Bundle {
    bundle(&[
        ("geodns.toml", "[server]\n"),
        ("zones/example.org.zone", "@ SOA\n"),
    ])
}

/// A key pair, and its public half in base64.
fn key() -> (KeyPair, String) {
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let key = pair.pk.to_base64();
    (pair, key)
}

fn sign(pair: &KeyPair, octets: &[u8]) -> String {
    let comment = Some("of a test");
    let signature = minisign::sign(None, &pair.sk, Cursor::new(octets), comment, None);
    signature.unwrap().into_string()
}

/// An archive with one entry behind a manifest that fits.
fn archive(path: &str, kind: EntryType) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    let manifest = Manifest {
        version: 1,
        serial: 1,
        files: BTreeMap::from([(path.to_owned(), sha256(b"x"))]),
        databases: BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    for (name, kind, content) in [
        (Manifest::NAME, EntryType::Regular, manifest.as_slice()),
        (path, kind, b"x"),
    ] {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_entry_type(kind);
        // By hand: the library refuses to write such paths.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn the_same_files_make_the_same_octets() {
    let octets = sample().to_octets().unwrap();
    assert_eq!(sample().to_octets().unwrap(), octets);
    assert_eq!(Bundle::parse(&octets), Ok(sample()));
    assert!(is_id(&id(&octets)));
    let long = format!("{}/zone", "a".repeat(LONGEST_PATH - 5));
    let long = bundle(&[("geodns.toml", ""), (&long, "x")]);
    assert_eq!(Bundle::parse(&long.to_octets().unwrap()), Ok(long));
}

#[test]
fn a_bundle_that_a_trusted_key_has_signed_is_opened() {
    let octets = sample().to_octets().unwrap();
    let ((pair, own), (_, other)) = (key(), key());
    let signature = sign(&pair, &octets);
    let keys = [other.clone(), own.clone()];
    let (opened, signed) = open(&octets, &signature, &keys).unwrap();
    assert_eq!(opened, sample());
    assert_eq!((signed.key, signed.comment.as_str()), (own, "of a test"));

    let refused = |signature: &str, keys: &[String]| open(&octets, signature, keys).unwrap_err();
    assert_eq!(refused(&signature, &[other]), Refused::Stranger);
    assert_eq!(refused(&signature, &[]), Refused::NoKeys);
    let nothing = refused("nothing", &keys).to_string();
    assert!(
        nothing.starts_with("the signature is not one of this bundle"),
        "{nothing}"
    );
    let long = refused(&"x".repeat(5000), &keys).to_string();
    assert!(long.contains("too long"), "{long}");
    let comment = signature.replace("of a test", "of another");
    assert!(matches!(refused(&comment, &keys), Refused::Signature(_)));
    let mut damaged = octets.clone();
    damaged[700] ^= 1;
    let damaged = open(&damaged, &signature, &keys).unwrap_err();
    assert!(matches!(damaged, Refused::Signature(_)), "{damaged}");
}

#[test]
fn no_path_leaves_the_folder() {
    for path in [
        "../geodns.toml",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./a",
        "a/",
        "a/.",
        "..",
        ".hidden",
        "a/.ssh/keys",
        "",
        "a\nb",
        Manifest::NAME,
    ] {
        let refused = require_paths([path.to_owned()].iter());
        assert_eq!(refused, Err(Refused::Path(path.to_owned())));
        let parsed = Bundle::parse(&archive(path, EntryType::Regular));
        assert!(parsed.is_err(), "{path}");
    }
    let long = "a".repeat(LONGEST_PATH + 1);
    assert!(!is_path(&long) && is_path(&long[1..]) && is_path("a/b.c/d"));
    let both = bundle(&[("geodns.toml", ""), ("a", ""), ("a/b", "")]);
    assert_eq!(both.to_octets(), Err(Refused::Path("a/b".to_owned())));
}

#[test]
fn there_are_regular_files_alone() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Char,
        EntryType::Fifo,
        EntryType::Continuous,
    ] {
        let refused = Bundle::parse(&archive("geodns.toml", kind)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "geodns.toml is no regular file: a bundle has no links, folders or devices"
        );
    }
    assert!(Bundle::parse(&archive("geodns.toml", EntryType::Regular)).is_ok());
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    let octets = sample().to_octets().unwrap();
    let short = &octets[..octets.len() / 3];
    for octets in [short, b"", &[0; 1024], &[b'x'; 2048]] {
        let refused = Bundle::parse(octets).unwrap_err();
        assert!(matches!(refused, Refused::Damaged(_)), "{refused}");
        assert_eq!(refused.to_string().lines().count(), 1);
    }
    let without = bundle(&[("a", "x")]).to_octets().unwrap_err();
    assert_eq!(
        without.to_string(),
        "the bundle is damaged: it has no geodns.toml; make it anew, or copy it again"
    );
    let at = octets.windows(5).position(|five| five == b"@ SOA").unwrap();
    let mut other = octets.clone();
    other[at] = b'x';
    assert_eq!(
        Bundle::parse(&other).unwrap_err(),
        Refused::Damaged("zones/example.org.zone is not as the manifest has it".to_owned())
    );
    let mut later = octets.clone();
    let at = octets
        .windows(12)
        .position(|this| this == b"\"version\": 1")
        .unwrap();
    later[at + 11] = b'2';
    assert_eq!(Bundle::parse(&later), Err(Refused::Version(2)));
    let large = vec![0; MOST_OCTETS + 1];
    assert!(matches!(Bundle::parse(&large), Err(Refused::TooLarge(_))));
}

#[test]
fn an_older_bundle_is_refused() {
    let bundle = sample();
    assert_eq!(bundle.require_newer(None), Ok(()));
    assert_eq!(bundle.require_newer(Some(6)), Ok(()));
    for running in [7, 8] {
        let refused = bundle.require_newer(Some(running)).unwrap_err().to_string();
        let begins = format!("the bundle has serial 7, and bundle {running} is in force");
        assert!(refused.starts_with(&begins), "{refused}");
    }
}

#[test]
fn bundles_are_compared_file_by_file() {
    let before = bundle(&[("geodns.toml", "a"), ("same", "s"), ("gone", "g")]);
    let after = bundle(&[("geodns.toml", "b"), ("same", "s"), ("new", "n")]);
    let difference = before.manifest().difference(&after.manifest());
    let lines: Vec<String> = difference
        .iter()
        .map(|(mark, path)| format!("{mark} {path}"))
        .collect();
    assert_eq!(lines, ["~ geodns.toml", "- gone", "+ new"]);
}

proptest! {
    #[test]
    fn any_damage_is_refused_or_harmless(at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let octets = sample().to_octets().unwrap();
        let mut damaged = octets.clone();
        damaged[at.index(octets.len())] ^= 1 << bit;
        if let Ok(parsed) = Bundle::parse(&damaged) {
            prop_assert_eq!(parsed.files, sample().files);
        }
    }

    #[test]
    fn any_octets_are_refused(octets in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(Bundle::parse(&octets).is_err());
    }
}

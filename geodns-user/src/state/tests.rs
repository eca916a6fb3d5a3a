//! Everything saved is there after a restart, and after faults.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::steering::standing::{Admin, External, Ramp, Weight};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/state.redb");
    (folder, path)
}

impl State {
    fn change(&self, items: Vec<Item>) -> Change {
        self.keep(&Change(items)).unwrap()
    }

    fn overrides_are(&self, pools: &[&str], prefix: IpNet, mirror: Option<&str>) {
        let item = |pool: &&str| Item::Override {
            pool: (*pool).to_owned(),
            prefix,
            mirror: mirror.map(str::to_owned),
        };
        self.change(pools.iter().map(item).collect());
    }
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let (_folder, path) = file();
    let import = Import {
        pool: "www".into(),
        mirrors: vec!["ams".into(), "iad".into()],
        layer: (0..200_000u32).flat_map(u32::to_le_bytes).collect(),
    };
    {
        let state = State::open(&path).unwrap();
        assert_eq!(state.overrides().unwrap(), []);
        assert_eq!(state.imports().unwrap(), []);
        state.overrides_are(&["www", "cdn"], net("192.0.2.0/24"), Some("iad"));
        state.overrides_are(&["www"], net("2001:db8::/32"), Some("ams"));
        state.overrides_are(&["www"], net("0.0.0.0/0"), Some("ams"));
        state.overrides_are(&["www"], net("192.0.2.0/24"), Some("ams"));
        state.overrides_are(&["www"], net("198.51.100.7/32"), Some("ams"));
        state.overrides_are(&["www", "cdn"], net("198.51.100.7/32"), None);
        state.change(vec![Item::import(import.clone())]);
    }
    let state = State::open(&path).unwrap();
    let overrides: Vec<_> = state
        .overrides()
        .unwrap()
        .into_iter()
        .map(|o| (o.pool, o.prefix.to_string(), o.mirror))
        .collect();
    let row = |pool: &str, prefix: &str, mirror: &str| {
        (pool.to_owned(), prefix.to_owned(), mirror.to_owned())
    };
    assert_eq!(
        overrides,
        [
            row("cdn", "192.0.2.0/24", "iad"),
            row("www", "0.0.0.0/0", "ams"),
            row("www", "192.0.2.0/24", "ams"),
            row("www", "2001:db8::/32", "ams"),
        ]
    );
    assert_eq!(state.imports().unwrap(), [import]);
}

#[test]
fn an_import_replaces_the_one_before() {
    let (_folder, path) = file();
    let state = State::open(&path).unwrap();
    let import = |pool: &str, layer: &[u8]| Import {
        pool: pool.into(),
        mirrors: vec!["ams".into()],
        layer: layer.into(),
    };
    state.change(vec![
        Item::import(import("a", b"one")),
        Item::import(import("b", b"two")),
    ]);
    state.change(vec![Item::import(import("b", b"three"))]);
    assert_eq!(
        state.imports().unwrap(),
        [import("a", b"one"), import("b", b"three")]
    );
}

fn standing() -> Standing {
    let ramp = Ramp {
        since_unix_ms: 1_767_225_600_000,
        over_ms: 600_000,
    };
    let verdict = External {
        up: false,
        address: Some("2001:db8::1".parse().unwrap()),
        until_unix_ms: Some(u64::MAX),
        reason: "a \"quoted\" reason, größer".into(),
        since_unix_ms: 1_767_225_600_001,
    };
    Standing {
        admin: Admin::Drain(ramp),
        admin_since_unix_ms: Some(ramp.since_unix_ms),
        weight: Some(Weight {
            value: 50,
            from: 100,
            ramp,
        }),
        external: vec![
            verdict.clone(),
            External {
                up: true,
                address: None,
                until_unix_ms: None,
                ..verdict
            },
        ],
    }
}

#[test]
fn what_is_said_and_found_of_mirrors_is_there_after_a_restart() {
    let (_folder, path) = file();
    let saved = |up, since_unix_ms| Saved { up, since_unix_ms };
    {
        let state = State::open(&path).unwrap();
        assert!(state.standings().unwrap().is_empty());
        assert!(state.health().unwrap().is_empty());
        state.change(vec![Item::standing("ams", standing())]);
        for admin in [Admin::Up, Admin::Down] {
            let standing = Standing {
                admin,
                ..Standing::default()
            };
            state.change(vec![Item::standing("iad", standing)]);
        }
        state.change(vec![Item::standing("sin", standing())]);
        state.change(vec![Item::standing("sin", Standing::default())]);
        let found = |key: &str, up, since| (key.to_owned(), saved(up, since));
        state
            .save_health(&[found("a", true, 1), found("b", false, u64::MAX)])
            .unwrap();
        state.save_health(&[found("a", false, 2)]).unwrap();
    }
    let state = State::open(&path).unwrap();
    let standings = state.standings().unwrap();
    assert_eq!(standings.len(), 2);
    assert_eq!(standings["ams"], standing());
    assert_eq!(standings["iad"].admin, Admin::Down);
    assert_eq!(
        state.health().unwrap(),
        HashMap::from([
            ("a".to_owned(), saved(false, 2)),
            ("b".to_owned(), saved(false, u64::MAX))
        ])
    );
    let keys = |keys: &[&str]| keys.iter().map(|key| key.to_string()).collect();
    state.retain_health(&keys(&["a", "b", "c"])).unwrap();
    assert_eq!(state.health().unwrap().len(), 2);
    state.retain_health(&keys(&["a"])).unwrap();
    assert_eq!(state.health().unwrap().len(), 1);
    assert!(state.health().unwrap().contains_key("a"));
}

#[test]
fn tokens_and_serials_are_there_after_a_restart() {
    let (_folder, path) = file();
    let token = |text: &str, ttl| Token {
        owner: "_acme-challenge.example.org".into(),
        text: text.into(),
        ttl,
        until_unix_ms: u64::MAX,
    };
    let serials = |file, served| Some(Serials { file, served });
    {
        let state = State::open(&path).unwrap();
        let of = |apex: &str, serials| Item::Serials {
            apex: apex.into(),
            serials,
        };
        state.change(vec![
            Item::token(token("a", 1)),
            Item::token(token("b", 1)),
            Item::token(token("a", 2)),
            of("example.org", serials(Some(u32::MAX), 0)),
            of("example.net", serials(None, 7)),
        ]);
        state.change(vec![
            Item::no_token(&token("b", 9)),
            of("example.net", None),
        ]);
    }
    let state = State::open(&path).unwrap();
    assert_eq!(state.tokens().unwrap(), [token("a", 2)]);
    let known = state.serials("example.org").unwrap();
    assert_eq!(known, serials(Some(u32::MAX), 0));
    assert_eq!(state.serials("example.net").unwrap(), None);
}

#[test]
fn members_and_ledgers_of_catalogs_are_there_after_a_restart() {
    let (_folder, path) = file();
    let member = |name: &str, id: &[u8]| Member {
        name: parse_name(name).unwrap(),
        catalog: parse_name("cat\\.alog.test").unwrap(),
        id: id.to_vec(),
        groups: vec![b"g".to_vec(), vec![0, 255]],
    };
    let [a, b] = [
        member("a.example", b"1"),
        member("b\\032b.example", &[0, 200]),
    ];
    let state = State::open(&path).unwrap();
    state.save_members(&[a.clone(), b.clone()]).unwrap();
    let mut ledger = Ledger::default();
    ledger.list(&[("a.example".to_owned(), Some("g".to_owned()))].into(), 7);
    state.change(vec![Item::Ledger {
        catalog: "cat.test".to_owned(),
        ledger: Some(ledger.clone()),
    }]);
    drop(state);
    let state = State::open(&path).unwrap();
    assert_eq!(state.members().unwrap(), [a, b.clone()]);
    assert_eq!(state.ledger("cat.test").unwrap(), Some(ledger));
    assert_eq!(state.ledger("other.test").unwrap(), None);
    state.save_members(std::slice::from_ref(&b)).unwrap();
    drop(state);
    assert_eq!(State::open(&path).unwrap().members().unwrap(), [b]);
}

/// Takes back whatever was there, the value before or nothing, also where a thing changes twice.
#[test]
fn a_change_is_taken_back_by_what_keeping_it_gives() {
    let (_folder, path) = file();
    let state = State::open(&path).unwrap();
    let token = |ttl| Token {
        owner: "_acme-challenge.example.org".into(),
        text: "a".into(),
        ttl,
        until_unix_ms: 5,
    };
    let over = |mirror: Option<&str>| Item::Override {
        pool: "www".into(),
        prefix: net("192.0.2.0/24"),
        mirror: mirror.map(str::to_owned),
    };
    let secrets = |current, previous| Item::Cookies {
        secrets: Some(CookieSecrets {
            current: [current; 16],
            since_unix_ms: 1,
            previous,
            next: None,
        }),
    };
    let block = |number, note: &str| Item::Block {
        number,
        block: Some(KeptBlock {
            number,
            said: crate::block::RuleText::default(),
            note: note.into(),
        }),
    };
    state.change(vec![
        over(Some("ams")),
        Item::token(token(1)),
        secrets(1, None),
        block(1, "old"),
    ]);
    let all = |state: &State| {
        (
            state.overrides().unwrap(),
            state.standings().unwrap(),
            state.tokens().unwrap(),
            state.cookie_secrets().unwrap(),
            state.blocks().unwrap(),
        )
    };
    let before = all(&state);
    let change = Change(vec![
        over(Some("iad")),
        over(None),
        Item::standing("ams", standing()),
        Item::token(token(2)),
        secrets(2, Some([1; 16])),
        block(1, "new"),
        block(2, "new"),
    ]);
    let back = state.keep(&change).unwrap();
    assert_ne!(all(&state), before);
    state.keep(&back).unwrap();
    assert_eq!(all(&state), before);
}

/// The file is as it was written before there were words on mirrors.
#[test]
fn a_file_without_the_newer_tables_opens_with_what_it_has() {
    let (_folder, path) = file();
    let state = State::open(&path).unwrap();
    state.overrides_are(&["www"], net("192.0.2.0/24"), Some("ams"));
    let database = state.database.lock().unwrap().take().unwrap();
    let write = database.begin_write().unwrap();
    assert!(write.delete_table(STANDINGS).unwrap());
    assert!(write.delete_table(HEALTH).unwrap());
    assert!(write.delete_table(ACME).unwrap());
    assert!(write.delete_table(SERIALS).unwrap());
    assert!(write.delete_table(MEMBERS).unwrap());
    assert!(write.delete_table(LEDGERS).unwrap());
    write.commit().unwrap();
    drop((database, state));
    let state = State::open(&path).unwrap();
    assert_eq!(state.overrides().unwrap().len(), 1);
    assert!(state.standings().unwrap().is_empty());
    assert!(state.health().unwrap().is_empty());
    assert!(state.tokens().unwrap().is_empty());
    assert_eq!(state.serials("example.org").unwrap(), None);
    assert!(state.members().unwrap().is_empty());
    assert_eq!(state.ledger("cat.test").unwrap(), None);
    state.change(vec![Item::standing("ams", standing())]);
    assert_eq!(state.standings().unwrap()["ams"], standing());
}

#[test]
fn a_standing_that_cannot_be_read_is_named() {
    let (_folder, path) = file();
    let state = State::open(&path).unwrap();
    let put = |json: &str| {
        let write = |transaction: &WriteTransaction| {
            let mut table = transaction.open_table(STANDINGS)?;
            table.insert("ams", json.as_bytes())?;
            Ok(())
        };
        state.write(write).unwrap();
    };
    put(r#"{"admin":"sideways"}"#);
    let error = state.standings().unwrap_err().to_string();
    assert!(error.contains("what is said of mirror ams"), "{error}");
    assert_eq!(error.lines().count(), 1);
    // What a later version says besides is no damage.
    put(r#"{"admin":"down","colour":"blue"}"#);
    assert_eq!(state.standings().unwrap()["ams"].admin, Admin::Down);
}

#[test]
fn only_the_owner_can_read_it() {
    let (_folder, path) = file();
    let _state = State::open(&path).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[test]
fn a_second_daemon_is_refused() {
    let (_folder, path) = file();
    let state = State::open(&path).unwrap();
    let error = State::open(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "state {}: in use by another geodns: stop that one first, or set state.path",
            path.display()
        )
    );
    drop(state);
    State::open(&path).unwrap();
}

#[test]
fn a_file_of_another_kind_is_named_and_left_alone() {
    let (_folder, path) = file();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = "prefix,mirror\n".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let error = State::open(&path).unwrap_err().to_string();
    assert!(error.contains("damaged (not a redb file)"), "{error}");
    assert_eq!(error.lines().count(), 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn an_empty_file_is_damage_and_left_alone() {
    let (_folder, path) = file();
    State::open(&path).unwrap();
    fs::write(&path, "").unwrap();
    let error = State::open(&path).unwrap_err().to_string();
    assert!(error.contains("damaged (it is empty): restore"), "{error}");
    assert_eq!(path.metadata().unwrap().len(), 0);
}

#[test]
fn what_is_no_file_of_ours_is_named_and_left_alone() {
    let (_folder, path) = file();
    fs::create_dir_all(&path).unwrap();
    let error = State::open(&path).unwrap_err().to_string();
    assert!(error.contains("it is a folder, and must be"), "{error}");
    assert_eq!(error.lines().count(), 1);
    fs::remove_dir(&path).unwrap();

    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = State::open(&path).unwrap_err().to_string();
    assert!(error.contains("it is a pipe, and must be"), "{error}");
    fs::remove_file(&path).unwrap();

    drop(Database::create(&path).unwrap());
    let error = State::open(&path).unwrap_err().to_string();
    assert!(error.contains("of another program"), "{error}");
    let other = Database::open(&path).unwrap();
    let tables = other.begin_read().unwrap().list_tables().unwrap().count();
    assert_eq!(tables, 0);
}

#[test]
fn another_layout_is_refused() {
    let (_folder, path) = file();
    let state = State::open(&path).unwrap();
    let database = state.database.lock().unwrap().take().unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("layout", 9).unwrap();
    write.commit().unwrap();
    drop((database, state));
    let error = State::open(&path).unwrap_err().to_string();
    assert!(error.contains("(layout 9, this one reads 1)"), "{error}");
}

/// Damage at any place: an error in one line, or the entries as they were.
#[test]
fn damage_is_an_error_never_a_panic_or_another_answer() {
    let (_folder, path) = file();
    let before = {
        let state = State::open(&path).unwrap();
        let pools: Vec<_> = (0..300).map(|i| format!("pool-{i}")).collect();
        let pools: Vec<_> = pools.iter().map(String::as_str).collect();
        state.overrides_are(&pools, net("192.0.2.0/24"), Some("ams"));
        state.change(vec![Item::standing("ams", standing())]);
        (state.overrides().unwrap(), state.standings().unwrap())
    };
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    let check = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let read = |state: State| Ok((state.overrides()?, state.standings()?));
        match State::open(&path).and_then(read) {
            Ok(read) => {
                assert_eq!(read, before);
                0
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1);
                1
            }
        }
    };
    // The first pages in turn, and places in the header.
    for at in (0..whole.len()).step_by(4096).take(40) {
        let mut bytes = whole.clone();
        bytes[at..][..16].fill(0xa5);
        refused += check(&bytes);
    }
    for at in (0..320).step_by(5) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        refused += check(&bytes);
    }
    assert!(refused > 10, "{refused}");
    // Cut short anywhere, it is never taken for a new one.
    let cuts = [0, 1, 9, 100, 320, 4095, 4096, 4097, whole.len() / 2];
    for length in cuts.into_iter().chain([whole.len() - 1]) {
        assert_eq!(check(&whole[..length]), 1, "cut after {length} octets");
    }
}

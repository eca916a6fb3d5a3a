//! The HTTP listeners of a daemon, `[web]`, `[metrics]` and `[public]`, which are opened, moved and secured alike.

use std::path::Path;

use anyhow::{Result, ensure};
use geodns_tests::authority::Authority;
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::net::{Space, output};
use geodns_tests::{needs_root, until};

const TOKEN: &str = "0123456789abcdef";
/// Each section with its port, the path of a page, and keys that it cannot do without.
const SECTIONS: [(&str, u16, &str, &str); 3] = [
    (
        "web",
        8053,
        "/zones",
        "token_file = \"web.token\"\nbehind_proxy = true\n",
    ),
    ("metrics", 9533, "/metrics", ""),
    ("public", 8080, "/mirrors.json", "pool = \"www\"\n"),
];

/// A daemon with one of the sections, listening on an address.
struct Case {
    space: Space,
    daemon: Daemon,
    section: (&'static str, u16, &'static str, &'static str),
}

fn setup((name, port, _, rest): (&str, u16, &str, &str), address: &str, more: &str) -> Setup {
    let section = format!("[{name}]\nlisten = [\"{address}:{port}\"]\n{rest}{more}");
    let mut setup = Setup::example(&["127.0.0.1"])
        .mode("off")
        .and(&section)
        .file("web.token", TOKEN);
    setup.interfaces.clear();
    setup
}

impl Case {
    fn new(
        section: (&'static str, u16, &'static str, &'static str),
        setup: &Setup,
    ) -> Result<Self> {
        let space = Space::new("listeners")?;
        let daemon = Daemon::start(&space, setup)?;
        Ok(Self {
            space,
            daemon,
            section,
        })
    }

    /// Whether the page is there by this scheme, from a server that the authority vouches for.
    fn shows(&self, scheme: &str, authority: &Path) -> Result<bool> {
        let (_, port, page, _) = self.section;
        let said = output(
            self.space
                .command("curl")
                .args(["--silent", "--fail", "--noproxy", "*", "--max-time", "30"])
                .args(["--user", &format!(":{TOKEN}"), "--cacert"])
                .arg(authority)
                .arg(format!("{scheme}://127.0.0.1:{port}{page}")),
        )?;
        Ok(said.status.success() && !said.stdout.is_empty())
    }
}

#[test]
fn a_listener_moves_to_an_address_that_covers_its_own_and_back() -> Result<()> {
    needs_root!();
    for section in SECTIONS {
        let (name, port, ..) = section;
        let on = |address: &str| setup(section, address, "");
        let case = Case::new(section, &on("127.0.0.1"))?;
        let none = Path::new("/dev/null");
        ensure!(case.shows("http", none)?, "{name}");
        for address in ["0.0.0.0", "127.0.0.1", "[::]", "0.0.0.0"] {
            case.daemon.home.write(&on(address))?;
            case.daemon.ok("reload")?;
            let is_there = address != "[::]";
            until("the listener has moved", || {
                Ok(case.shows("http", none)? == is_there)
            })?;
        }
        // Another's socket is in the way of the next one.
        let taken = case
            .space
            .enter(|| Ok(std::net::TcpListener::bind(("::", port + 1))?))?;
        let moved = on("[::]").but(&format!(":{port}\""), &format!(":{}\"", port + 1));
        case.daemon.home.write(&moved)?;
        let (_, said) = case.daemon.fails("reload")?;
        let expected = format!("{name}.listen: cannot listen on [::]:{}: ", port + 1);
        ensure!(said.contains(&expected), "{said}");
        ensure!(said.trim_end().lines().count() == 1, "{said}");
        ensure!(case.shows("http", none)?, "{name}");
        drop(taken);
        case.daemon.ok("reload")?;
        until("the old one is closed", || Ok(!case.shows("http", none)?))?;
    }
    Ok(())
}

#[test]
fn certificates_are_followed_and_broken_ones_change_nothing() -> Result<()> {
    needs_root!();
    for section in SECTIONS {
        let (name, ..) = section;
        let (one, other) = (Authority::new("one")?, Authority::new("other")?);
        let of = |authority: &Authority| authority.issue("geodns", &["127.0.0.1"]);
        let (certificate, key) = of(&one)?;
        let keys = "certificate = \"https.crt\"\nkey = \"https.key\"\n";
        let secure = setup(section, "127.0.0.1", keys)
            .file("https.crt", &certificate)
            .file("https.key", &key);
        let case = Case::new(section, &secure)?;
        let daemon = &case.daemon;
        let file = |name: &str| daemon.home.folder.path().join(name);
        std::fs::write(file("one.pem"), one.pem())?;
        std::fs::write(file("other.pem"), other.pem())?;
        let (by_one, by_other) = (file("one.pem"), file("other.pem"));
        ensure!(case.shows("https", &by_one)?, "{name}\n{}", daemon.log());
        ensure!(!case.shows("https", &by_other)?, "{name}");
        ensure!(!case.shows("http", &by_one)?, "{name}");
        // The key first, as some programs write them: it is not the certificate's for a while.
        let (certificate, key) = of(&other)?;
        std::fs::write(file("https.key"), key)?;
        daemon.logged("the certificate stays as it was: ")?;
        ensure!(case.shows("https", &by_one)?, "{name}");
        std::fs::write(file("https.crt"), certificate)?;
        until("the new certificate is shown", || {
            case.shows("https", &by_other)
        })?;
        // A reload with a broken one is refused in a line, and changes nothing.
        std::fs::write(file("https.crt"), "no certificate\n")?;
        let (_, said) = daemon.fails("reload")?;
        ensure!(
            said.contains("https.crt: there is no certificate in it; it must be PEM"),
            "{said}"
        );
        ensure!(said.trim_end().lines().count() == 1, "{said}");
        ensure!(case.shows("https", &by_other)?, "{name}");
        // Plain again.
        daemon.home.write(&setup(section, "127.0.0.1", ""))?;
        daemon.ok("reload")?;
        until("HTTP is spoken", || case.shows("http", &by_one))?;
    }
    Ok(())
}

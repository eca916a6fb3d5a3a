//! `geodns fleet bundle`: makes bundles, and looks into them. No daemon is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Subcommand;

use super::output::{NUMBER, TEXT, grouped, pairs, plural, table};
use crate::base::clock::now_unix_ms;
use crate::base::sha256::sha256;
use crate::config::Config;
use crate::files;
use crate::fleet::bundle::{Bundle, CONFIG, id, open};

/// Files that include one another, at the most.
const MAX_DEPTH: usize = 16;

/// `geodns fleet bundle`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a bundle of the configuration, its zone files and its lists; sign it with `minisign -Sm FILE` then
    Pack {
        /// File to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Number of the bundle, greater than that of the one before [default: seconds since 1970]
        #[arg(long, value_name = "NUMBER")]
        serial: Option<u64>,
    },
    /// Check that one of fleet.trusted_keys has signed a bundle; its signature is in FILE.minisig
    Verify {
        /// The bundle
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Public key, in place of fleet.trusted_keys; may be given several times
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
    },
    /// List what is in a bundle, whoever has signed it
    Show {
        /// The bundle
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Runs the command; the text to print.
pub fn run(command: Command, config: &Path, json: bool) -> anyhow::Result<String> {
    match command {
        Command::Pack { output, serial } => {
            let serial = serial.unwrap_or_else(|| now_unix_ms() / 1000);
            let bundle = collect(config, serial)?;
            let octets = bundle.to_octets()?;
            std::fs::write(&output, &octets).with_context(|| cannot("write", &output))?;
            let file = output.display();
            let files = plural(bundle.files.len() as u64, "file");
            Ok(format!(
                "bundle {} (serial {serial}, {files}) is in {file}; sign it: minisign -Sm {file}\n",
                id(&octets)
            ))
        }
        Command::Verify { file, keys } => {
            let keys = match keys.is_empty() {
                true => trusted_keys(config)?,
                false => keys,
            };
            let (octets, signature) = read_signed(&file)?;
            let (bundle, signed) = open(&octets, &signature, &keys)?;
            Ok(format!(
                "bundle {} (serial {}) is signed by {}: {}\n",
                id(&octets),
                bundle.serial,
                signed.key,
                signed.comment
            ))
        }
        Command::Show { file } => {
            let octets = read(&file)?;
            let bundle = Bundle::parse(&octets)?;
            if json {
                let manifest = serde_json::to_string_pretty(&bundle.manifest())?;
                return Ok(format!("{manifest}\n"));
            }
            Ok(show(&bundle, &octets))
        }
    }
}

fn show(bundle: &Bundle, octets: &[u8]) -> String {
    let mut text = pairs(&[
        ("bundle", id(octets)),
        ("serial", bundle.serial.to_string()),
        ("octets", grouped(octets.len() as u64)),
    ]);
    let manifest = bundle.manifest();
    let rows = bundle.files.iter().map(|(path, content)| {
        let sha256 = manifest.files.get(path).cloned().unwrap_or_default();
        [path.clone(), grouped(content.len() as u64), sha256]
    });
    let outside = bundle.databases.iter();
    let outside =
        outside.map(|(path, sha256)| [path.clone(), "outside".to_owned(), sha256.clone()]);
    text += &table(
        &[("FILE", TEXT), ("OCTETS", NUMBER), ("SHA-256", TEXT)],
        rows.chain(outside),
    );
    text
}

/// Reads a bundle and its signature.
pub fn read_signed(file: &Path) -> anyhow::Result<(Vec<u8>, String)> {
    let octets = read(file)?;
    let mut beside = file.as_os_str().to_owned();
    beside.push(".minisig");
    let beside = PathBuf::from(beside);
    let signature = files::read_to_string(&beside).with_context(|| {
        let file = file.display();
        format!("{}; sign it: minisign -Sm {file}", cannot("read", &beside))
    })?;
    Ok((octets, signature))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    files::read(file).with_context(|| cannot("read", file))
}

fn cannot(what: &str, file: &Path) -> String {
    format!("cannot {what} {}", file.display())
}

fn trusted_keys(config: &Path) -> anyhow::Result<Vec<String>> {
    let config =
        Config::load(config).context("give the public key by --key, or a configuration")?;
    Ok(config
        .fleet
        .map_or_else(Vec::new, |fleet| fleet.trusted_keys))
}

/// Collects a configuration and the files that it names.
fn collect(path: &Path, serial: u64) -> anyhow::Result<Bundle> {
    let config = Config::load(path)?;
    let text = files::read(path).with_context(|| cannot("read", path))?;
    own_files(path, &String::from_utf8_lossy(&text))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut collection = Collection {
        folder,
        files: BTreeMap::from([(CONFIG.to_owned(), text)]),
    };
    for zone in &config.zones {
        if let Some(file) = &zone.file {
            collection.zone(file, 0)?;
        }
    }
    let lists: BTreeSet<&PathBuf> = config
        .pools
        .iter()
        .filter_map(|pool| pool.prefixes.as_ref())
        .collect();
    for list in lists {
        collection.add(list)?;
    }
    let databases = config.databases.iter().map(|database| {
        let content = read(database)?;
        Ok((database.display().to_string(), sha256(&content)))
    });
    Ok(Bundle {
        serial,
        files: collection.files,
        databases: databases.collect::<anyhow::Result<_>>()?,
    })
}

/// Refuses files by relative paths that each node has for itself.
fn own_files(path: &Path, text: &str) -> anyhow::Result<()> {
    let table: toml::Table = text.parse()?;
    let section = |name: &str| table.get(name).and_then(toml::Value::as_table);
    let mut own: Vec<(&str, &toml::Value)> = Vec::new();
    own.extend(
        section("cookies").and_then(|of| Some(("cookies.secrets_file", of.get("secrets_file")?))),
    );
    own.extend(section("health").and_then(|of| Some(("health.feed", of.get("feed")?))));
    let databases = section("geoip").and_then(|of| of.get("databases")?.as_array());
    own.extend(
        databases
            .into_iter()
            .flatten()
            .map(|of| ("geoip.databases", of)),
    );
    let keys = table.get("tsig").and_then(toml::Value::as_array);
    let keys = keys
        .into_iter()
        .flatten()
        .filter_map(|of| of.get("secret_file"));
    own.extend(keys.map(|of| ("tsig.secret_file", of)));
    for (key, value) in own {
        let value = value.as_str().unwrap_or_default();
        ensure!(
            Path::new(value).is_absolute(),
            "{}: {key}: {value:?} does not go into a bundle, and is each node's own: write it from / on",
            path.display()
        );
    }
    Ok(())
}

/// Files of a bundle.
struct Collection<'a> {
    folder: &'a Path,
    files: BTreeMap<String, Vec<u8>>,
}

impl Collection<'_> {
    /// Adds a file. Gives whether it is new.
    fn add(&mut self, file: &Path) -> anyhow::Result<Option<Vec<u8>>> {
        let shown = file.display();
        let below = file.strip_prefix(self.folder).ok().and_then(Path::to_str);
        let Some(below) = below else {
            let folder = self.folder.display();
            bail!(
                "{shown} is not below {folder}: a bundle has files below the folder of {CONFIG} alone"
            );
        };
        if self.files.contains_key(below) {
            return Ok(None);
        }
        let content = read(file)?;
        self.files.insert(below.to_owned(), content.clone());
        Ok(Some(content))
    }

    /// Adds a zone file, and those that it includes.
    fn zone(&mut self, file: &Path, depth: usize) -> anyhow::Result<()> {
        ensure!(
            depth < MAX_DEPTH,
            "{}: includes go too deep",
            file.display()
        );
        let Some(content) = self.add(file)? else {
            return Ok(());
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        for name in included(&String::from_utf8_lossy(&content)) {
            self.zone(&folder.join(name), depth + 1)?;
        }
        Ok(())
    }
}

/// The files that a zone file includes.
fn included(text: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let is_include = words.next()?.eq_ignore_ascii_case("$INCLUDE");
        let name = words.next().filter(|_| is_include)?;
        Some(name.trim_matches('"').to_owned())
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use minisign::KeyPair;

    use super::*;

    const CONFIGURATION: &str = r#"
[kernel]
mode = "off"
[server]
listen = ["192.0.2.1"]
[[zone]]
name = "example.org"
file = "zones/example.org.zone"
"#;

    fn folder(configuration: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("zones")).unwrap();
        write(CONFIG, configuration);
        write(
            "zones/example.org.zone",
            "@ 60 SOA a b 1 2 3 4 5\n$include \"more\" ; x\n",
        );
        write("zones/more", "www A 192.0.2.1\n");
        write("zones/stray", "x");
        folder
    }

    fn pack(folder: &tempfile::TempDir) -> anyhow::Result<PathBuf> {
        let output = folder.path().join("a.bundle");
        let serial = Some(7);
        let pack = Command::Pack {
            output: output.clone(),
            serial,
        };
        run(pack, &folder.path().join(CONFIG), false).map(|_| output)
    }

    #[test]
    fn a_bundle_has_the_configuration_and_the_files_that_it_names() {
        let folder = folder(CONFIGURATION);
        let file = pack(&folder).unwrap();
        let bundle = Bundle::parse(&std::fs::read(&file).unwrap()).unwrap();
        let paths: Vec<&str> = bundle.files.keys().map(String::as_str).collect();
        assert_eq!(paths, [CONFIG, "zones/example.org.zone", "zones/more"]);
        let shown = run(Command::Show { file }, Path::new(""), false).unwrap();
        assert!(shown.contains("zones/more"), "{shown}");
    }

    #[test]
    fn files_of_each_node_and_files_elsewhere_are_refused() {
        let feed = format!("{CONFIGURATION}[health]\nfeed = \"feed.csv\"\n");
        let error = pack(&folder(&feed)).unwrap_err().to_string();
        assert!(
            error.contains("health.feed: \"feed.csv\" does not go into a bundle"),
            "{error}"
        );
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        let path = elsewhere.path().display().to_string();
        let zone = CONFIGURATION.replace("zones/example.org.zone", &path);
        let error = pack(&folder(&zone)).unwrap_err().to_string();
        assert!(error.contains("is not below"), "{error}");
    }

    #[test]
    fn a_signature_is_checked_by_the_keys_of_the_fleet() {
        let folder = folder(CONFIGURATION);
        let file = pack(&folder).unwrap();
        let verify = |key: &str| {
            let verify = Command::Verify {
                file: file.clone(),
                keys: vec![key.to_owned()],
            };
            run(verify, Path::new(""), false).map_err(|error| format!("{error:#}"))
        };
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let key = pair.pk.to_base64();
        let unsigned = verify(&key).unwrap_err();
        assert!(unsigned.contains("sign it: minisign -Sm"), "{unsigned}");
        let octets = std::fs::read(&file).unwrap();
        let signature = minisign::sign(None, &pair.sk, Cursor::new(octets), Some("mine"), None);
        let signature = signature.unwrap().into_string();
        std::fs::write(file.with_extension("bundle.minisig"), signature).unwrap();
        let signed = verify(&key).unwrap();
        assert!(
            signed.contains("(serial 7) is signed by") && signed.contains("mine"),
            "{signed}"
        );
    }
}

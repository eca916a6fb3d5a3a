//! Signed bundles, as operators make them.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use minisign::KeyPair;

use crate::built::binary;
use crate::daemon::Setup;
use crate::net::run;

/// A folder of bundles, and the key that signs them.
pub struct Bundles {
    pair: KeyPair,
    folder: tempfile::TempDir,
}

impl Bundles {
    /// None yet, and a new key.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pair: KeyPair::generate_unencrypted_keypair()?,
            folder: tempfile::tempdir()?,
        })
    }

    /// The line of `[fleet]` by which a node takes them.
    pub fn trusted_keys(&self) -> String {
        format!("trusted_keys = [{:?}]\n", self.pair.pk.to_base64())
    }

    /// Packs and signs the body of a setup with its files. Nodes have the sections about the machine of their own.
    pub fn make(&self, serial: u64, setup: &Setup) -> Result<PathBuf> {
        let folder = self.folder.path().join(serial.to_string());
        fs::create_dir(&folder)?;
        for (name, content) in &setup.files {
            fs::write(folder.join(name), content)?;
        }
        let config = folder.join("geodns.toml");
        let machine = format!("[server]\n{}[kernel]\nmode = \"off\"\n", setup.server);
        fs::write(&config, format!("{machine}{}", setup.body))?;
        let bundle = folder.join("bundle");
        let mut pack = Command::new(binary()?);
        pack.args(["fleet", "bundle", "pack", "--serial", &serial.to_string()]);
        run(pack.arg("--config").arg(config).arg("-o").arg(&bundle))?;
        self.sign(&bundle)?;
        Ok(bundle)
    }

    /// Signs a file, whatever is in it.
    pub fn sign(&self, bundle: &Path) -> Result<()> {
        let octets = Cursor::new(fs::read(bundle)?);
        let signature = minisign::sign(None, &self.pair.sk, octets, None, None)?;
        let mut beside = bundle.as_os_str().to_owned();
        beside.push(".minisig");
        Ok(fs::write(beside, signature.into_string())?)
    }
}

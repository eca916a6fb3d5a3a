//! A port of the machine's own loopback that leads into a namespace: a browser is not in there.

use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use geodns_tests::net::Space;
use nix::sched::{CloneFlags, setns};

/// Leads connections to `at` on to `to` in the namespace, until the process ends.
pub fn forward(at: SocketAddr, space: &Space, to: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?;
    let space = space.path();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let space = space.clone();
            thread::spawn(move || lead(client, space, to));
        }
    });
    Ok(())
}

/// Leads one connection on. The thread that calls this is in the namespace from then on.
fn lead(client: TcpStream, space: PathBuf, to: SocketAddr) -> io::Result<()> {
    setns(File::open(space)?, CloneFlags::CLONE_NEWNET)?;
    let server = TcpStream::connect(to)?;
    let (mut from, mut into) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut into);
        let _ = into.shutdown(Shutdown::Both);
    });
    let (mut from, mut into) = (server, client);
    let copied = io::copy(&mut from, &mut into);
    into.shutdown(Shutdown::Both)?;
    copied.map(|_| ())
}

//! The API keeps what its OpenAPI document says: the document is valid, and a schema fuzzer, which asks a running
//! daemon all that the document allows and forbids, finds no answer that it does not describe.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use geodns_tests::daemon::{Daemon, Setup};
use geodns_tests::needs_root;
use geodns_tests::net::Space;

/// Requests to each operation that the fuzzer makes up, beside those of its fixed phases.
const EXAMPLES: &str = "25";
/// The same requests each time.
const SEED: &str = "1";

fn start() -> Result<(Space, Daemon)> {
    let space = Space::new("openapi")?;
    let mut setup = Setup::example(&["127.0.0.1"]).mode("off");
    setup.interfaces.clear();
    let daemon = Daemon::start(&space, &setup)?;
    Ok((space, daemon))
}

/// Writes the document that a daemon serves.
fn write_document(daemon: &Daemon) -> Result<PathBuf> {
    let (status, document) = daemon.request("GET", "/v1/openapi.json", "")?;
    ensure!(status == 200, "{status}: {document}");
    let file = daemon.home.folder.path().join("openapi.json");
    std::fs::write(&file, document)?;
    Ok(file)
}

/// Runs a program, which must succeed.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(said)
}

#[test]
fn the_document_is_valid() -> Result<()> {
    needs_root!();
    let (_space, daemon) = start()?;
    let document = write_document(&daemon)?;
    let validator = geodns_tests::python_program("openapi-spec-validator")?;
    run(Command::new(validator)
        .args(["--validation-errors", "all"])
        .arg(&document))?;
    Ok(())
}

#[test]
fn a_schema_fuzzer_finds_no_answer_that_the_document_does_not_describe() -> Result<()> {
    needs_root!();
    let (_space, daemon) = start()?;
    let document = write_document(&daemon)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let socket = daemon.home.socket();
    thread::spawn(move || forward(&listener, &socket));
    let mut fuzzer = Command::new(geodns_tests::python_program("schemathesis")?);
    fuzzer
        .current_dir(daemon.home.folder.path())
        .args([
            "run",
            "--url",
            &url,
            "--seed",
            SEED,
            "--max-examples",
            EXAMPLES,
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--no-color"])
        // An override of a mirror that is not there is well-formed, and refused all the same.
        .args([
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        // They go on for ever, as they should.
        .args(["--exclude-path", "/v1/top", "--exclude-path", "/v1/capture"])
        .args(["--exclude-path", "/v1/events"])
        .arg(&document);
    let said = run(&mut fuzzer).with_context(|| daemon.log())?;
    ensure!(said.contains("generated"), "{said}");
    ensure!(!daemon.log().contains("panic"), "{}", daemon.log());
    Ok(())
}

/// Lets TCP clients talk to a Unix socket, as the fuzzer knows TCP alone.
fn forward(listener: &TcpListener, socket: &Path) {
    for client in listener.incoming() {
        let (Ok(client), Ok(server)) = (client, UnixStream::connect(socket)) else {
            return;
        };
        thread::spawn(move || pass_on(client, server));
    }
}

fn pass_on(client: TcpStream, server: UnixStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let upward = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.flush();
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = upward.join();
    Ok(())
}

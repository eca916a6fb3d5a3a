//! `geodns capture`: queries and the answers that the program gave, into a file for tcpdump and Wireshark.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use ipnet::IpNet;
use pcap_file::PcapError;
use pcap_file::pcap::PcapParser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::values::{holding, prefix};
use crate::control::client::Client;
use crate::control::status::Stats;
use crate::control::watch::CaptureQuery;

/// `geodns capture`
#[derive(Args, Debug)]
pub struct Arguments {
    /// Queries for this name
    #[arg(long, value_name = "NAME", conflicts_with = "below")]
    pub name: Option<String>,
    /// Queries for this name, or one below it
    #[arg(long, value_name = "NAME")]
    pub below: Option<String>,
    /// Queries for this type, such as ANY or TYPE65280
    #[arg(long = "type", value_name = "TYPE")]
    pub qtype: Option<String>,
    /// Queries from this prefix, such as 192.0.2.0/24
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub from: Option<IpNet>,
    /// Queries with this verdict, as `geodns stats` names it; may be given several times
    #[arg(long, value_name = "VERDICT")]
    pub verdict: Vec<String>,
    /// Record one in N, a power of two [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub every: Option<u32>,
    /// Stop after N packets
    #[arg(short = 'c', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Stop after this time, such as 10s
    #[arg(long = "for", value_name = "TIME", value_parser = holding)]
    pub seconds: Option<Duration>,
    /// File to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: PathBuf,
}

/// A far future.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Captures until it was enough or somebody says so; what it came to goes to standard error.
pub async fn capture(of: Arguments, client: &Client) -> anyhow::Result<()> {
    let query = CaptureQuery {
        name: of.name,
        below: of.below,
        qtype: of.qtype,
        from: of.from,
        verdicts: (!of.verdict.is_empty()).then(|| of.verdict.join(",")),
        every: of.every,
    };
    // Before the file is opened: what is refused leaves it as it is.
    let lost_before = lost(client).await?;
    let mut stream = client.capture(&query).await?;
    let mut file = open(&of.write)?;
    let mut packets = Packets::default();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let end = Instant::now() + of.seconds.unwrap_or(NEVER);
    let most = of.count.unwrap_or(u64::MAX);
    loop {
        let chunk = tokio::select! {
            chunk = stream.next() => chunk?,
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            () = sleep_until(end) => None,
        };
        let Some(chunk) = chunk else { break };
        let taken = packets.take(&chunk, most)?;
        file.write_all(&taken)
            .and_then(|()| file.flush())
            .with_context(|| format!("cannot write to {}", of.write.display()))?;
        if packets.count >= most {
            break;
        }
    }
    drop(stream);
    let lost = lost(client).await.unwrap_or(lost_before) - lost_before;
    writeln!(
        io::stderr(),
        "{} packets captured, {lost} lost",
        packets.count
    )?;
    Ok(())
}

/// Where it goes; `-`: standard output.
fn open(path: &Path) -> anyhow::Result<Box<dyn Write>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(path);
    let file = file.with_context(|| format!("cannot write to {}", path.display()))?;
    Ok(Box::new(file))
}

async fn lost(client: &Client) -> anyhow::Result<u64> {
    let stats: Stats = client.stats().await?.json()?;
    Ok(stats.kernel.get("watch_lost").copied().unwrap_or(0))
}

/// Takes a stream apart into packets, wherever its chunks end.
#[derive(Debug, Default)]
struct Packets {
    waiting: Vec<u8>,
    parser: Option<PcapParser>,
    /// Packets that were taken.
    count: u64,
}

impl Packets {
    /// The octets of whole packets, and of the header before them, up to N packets in all.
    fn take(&mut self, chunk: &[u8], most: u64) -> anyhow::Result<Vec<u8>> {
        self.waiting.extend_from_slice(chunk);
        let mut rest = self.waiting.as_slice();
        loop {
            let after = match &self.parser {
                None => PcapParser::new(rest).map(|(after, parser)| {
                    self.parser = Some(parser);
                    after
                }),
                Some(_) if self.count >= most => break,
                Some(parser) => parser.next_packet(rest).map(|(after, _)| {
                    self.count += 1;
                    after
                }),
            };
            match after {
                Ok(after) => rest = after,
                Err(PcapError::IncompleteBuffer) => break,
                Err(error) => bail!("not an answer of this version of geodns: {error}"),
            }
        }
        let taken = self.waiting.len() - rest.len();
        Ok(self.waiting.drain(..taken).collect())
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use geodns_common::layout::Sighting;

    use super::*;
    use crate::observe::pcap;

    #[test]
    fn whole_packets_are_taken_and_no_more_than_are_wanted() {
        let mut sighting: Box<Sighting> = Box::new(Sighting::zeroed());
        (sighting.query_len, sighting.answer_len) = (70, 90);
        let mut file = pcap::start();
        for _ in 0..5 {
            file.extend(pcap::records(&sighting, Duration::ZERO));
        }
        for size in [1, 7, 50, 1000] {
            let mut packets = Packets::default();
            let mut taken = Vec::new();
            for chunk in file.chunks(size) {
                taken.extend(packets.take(chunk, u64::MAX).unwrap());
            }
            assert_eq!((taken, packets.count), (file.clone(), 10));
            let mut packets = Packets::default();
            let mut taken = Vec::new();
            for chunk in file.chunks(size) {
                taken.extend(packets.take(chunk, 3).unwrap());
            }
            let three = 24 + 16 + 70 + 16 + 90 + 16 + 70;
            assert_eq!((taken.len(), packets.count), (three, 3));
        }
        assert!(Packets::default().take(&[7; 100], 1).is_err());
    }
}

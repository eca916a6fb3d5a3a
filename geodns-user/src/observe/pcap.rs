//! Frames that the program tells of, as a file for tcpdump and Wireshark.

use std::time::Duration;

use geodns_common::layout::{ANSWER, QUERY, Sighting};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};

/// Octets of a frame that are kept, at the most.
const SNAPLEN: u32 = if QUERY > ANSWER { QUERY } else { ANSWER } as u32;

fn header() -> PcapHeader {
    PcapHeader {
        snaplen: SNAPLEN,
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        endianness: Endianness::native(),
        ..PcapHeader::default()
    }
}

/// Head of a file.
pub fn start() -> Vec<u8> {
    match PcapWriter::with_header(Vec::new(), header()) {
        Ok(writer) => writer.into_writer(),
        // Memory takes all that is written.
        Err(_) => Vec::new(),
    }
}

/// The records of a query and, if the program gave one, of its answer. `epoch` is how far the clock of the day is
/// ahead of the kernel's.
pub fn records(sighting: &Sighting, epoch: Duration) -> Vec<u8> {
    let Ok(mut writer) = PcapWriter::with_header(Vec::new(), header()) else {
        return Vec::new();
    };
    let at = epoch + Duration::from_nanos(sighting.at);
    let answered = at + Duration::from_nanos(sighting.took.into());
    let frames: [(Duration, &[u8], u32); 2] = [
        (at, &sighting.query, sighting.query_len),
        (answered, &sighting.answer, sighting.answer_len),
    ];
    for (at, frame, len) in frames {
        let Some(kept) = frame.get(..(len as usize).min(frame.len())) else {
            continue;
        };
        if len > 0 {
            // As above.
            let _ = writer.write_packet(&PcapPacket::new(at, len, kept));
        }
    }
    let mut octets = writer.into_writer();
    octets.drain(..start().len().min(octets.len()));
    octets
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use pcap_file::pcap::PcapReader;

    use super::*;

    #[test]
    fn frames_are_read_again_with_their_times_and_lengths() {
        let mut sighting: Box<Sighting> = Box::new(Sighting::zeroed());
        (sighting.at, sighting.took) = (1_500_000_007, 400);
        (sighting.query_len, sighting.answer_len) = (700, 90);
        sighting.query.fill(1);
        sighting.answer.fill(2);
        let mut file = start();
        file.extend(records(&sighting, Duration::from_secs(100)));
        sighting.answer_len = 0;
        file.extend(records(&sighting, Duration::from_secs(100)));
        let mut reader = PcapReader::new(file.as_slice()).unwrap();
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            packets.push((
                packet.timestamp,
                packet.orig_len,
                packet.data.len(),
                packet.data[0],
            ));
        }
        let at = Duration::new(101, 500_000_007);
        let query = (at, 700, QUERY, 1);
        let answer = (at + Duration::from_nanos(400), 90, 90, 2);
        assert_eq!(packets, [query, answer, query]);
    }
}

//! Frame Streams: data frames behind their lengths, between control frames (<https://farsightsec.github.io/fstrm/>).
//!
//! To a file the writer says START and STOP. To a socket it says READY first and waits for ACCEPT; after STOP it waits
//! for FINISH.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The content that readers of dnstap know.
const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";
/// The field of a control frame that names the content.
const CONTENT_TYPE: u32 = 1;
/// Octets of a control frame, at the most.
const CONTROL_MAX: usize = 512;
/// The time that the reader has for each step of the handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// Types of control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Control {
    Accept = 1,
    Start = 2,
    Stop = 3,
    Ready = 4,
    Finish = 5,
}

fn control(kind: Control) -> Vec<u8> {
    let mut frame = (kind as u32).to_be_bytes().to_vec();
    if !matches!(kind, Control::Stop | Control::Finish) {
        frame.extend(CONTENT_TYPE.to_be_bytes());
        frame.extend((CONTENT.len() as u32).to_be_bytes());
        frame.extend(CONTENT);
    }
    let mut octets = 0_u32.to_be_bytes().to_vec();
    octets.extend((frame.len() as u32).to_be_bytes());
    octets.extend(frame);
    octets
}

/// Octets before the first data frame of a file.
pub(super) fn start() -> Vec<u8> {
    control(Control::Start)
}

/// Octets behind the last data frame of a file.
pub(super) fn stop() -> Vec<u8> {
    control(Control::Stop)
}

/// Puts a data frame behind others.
pub(super) fn put(message: &[u8], output: &mut Vec<u8>) {
    output.extend((message.len() as u32).to_be_bytes());
    output.extend(message);
}

/// Opens a stream to a reader that answers.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(&control(Control::Ready)).await?;
    expect(stream, Control::Accept).await?;
    stream.write_all(&start()).await
}

/// Closes it.
pub(super) async fn close<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(&stop()).await?;
    expect(stream, Control::Finish).await
}

/// Waits for a control frame.
async fn expect<S: AsyncRead + Unpin>(stream: &mut S, kind: Control) -> io::Result<()> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the reader does not answer");
    let payload = timeout(PATIENCE, read_control(stream))
        .await
        .map_err(late)??;
    let strange = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the reader speaks no Frame Streams",
        )
    };
    let mut fields = payload.as_slice();
    if take_u32(&mut fields) != Some(kind as u32) {
        return Err(strange());
    }
    if kind == Control::Finish {
        return Ok(());
    }
    // Readers that name no content take any.
    let mut named = false;
    while !fields.is_empty() {
        let (field, len) = (take_u32(&mut fields), take_u32(&mut fields));
        let (Some(CONTENT_TYPE), Some(len)) = (field, len) else {
            return Err(strange());
        };
        let Some((content, rest)) = fields.split_at_checked(len as usize) else {
            return Err(strange());
        };
        if content == CONTENT {
            return Ok(());
        }
        (named, fields) = (true, rest);
    }
    match named {
        false => Ok(()),
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the reader does not take dnstap (protobuf:dnstap.Dnstap)",
        )),
    }
}

async fn read_control<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let (escape, len) = (stream.read_u32().await?, stream.read_u32().await? as usize);
    if escape != 0 || len > CONTROL_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the reader speaks no Frame Streams",
        ));
    }
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

fn take_u32(octets: &mut &[u8]) -> Option<u32> {
    let (number, rest) = octets.split_first_chunk()?;
    *octets = rest;
    Some(u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    async fn answered(answer: Vec<u8>) -> io::Result<()> {
        let (mut here, mut there) = duplex(4096);
        there.write_all(&answer).await?;
        drop(tokio::spawn(async move {
            let mut all = Vec::new();
            there.read_to_end(&mut all).await
        }));
        open(&mut here).await
    }

    #[tokio::test]
    async fn a_reader_accepts_or_the_error_says_why() {
        answered(control(Control::Accept)).await.unwrap();
        // Without a content.
        answered([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1].to_vec())
            .await
            .unwrap();
        let mut other = control(Control::Accept);
        *other.last_mut().unwrap() = b'x';
        let error = answered(other).await.unwrap_err().to_string();
        assert!(error.contains("does not take dnstap"), "{error}");
        for strange in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            control(Control::Finish),
            [0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9].to_vec(),
            [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].to_vec(),
        ] {
            let error = answered(strange).await.unwrap_err().to_string();
            assert!(error.contains("speaks no Frame Streams"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_says_nothing_is_left() {
        let (mut here, _there) = duplex(4096);
        let error = open(&mut here).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

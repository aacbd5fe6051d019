//! A frame: four bytes of big-endian length, then that much JSON. Bounded before anything is allocated.
//!
//! Both sides speak it, and each treats the other's bytes as hostile: the length is compared with the caller's bound
//! before a byte of the body is read, the body grows only as it arrives, and the JSON must be exactly one value of
//! exactly the expected shape. This module must never log or keep a payload; an error carries at most serde's own
//! sentence, as [`Untrusted`] text, because that sentence can quote the sender.

use crate::wire::contract::MAX_FRAME;
use crate::wire::untrusted::Untrusted;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the length before the body.
const PREFIX: usize = 4;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The sender ended between two frames: the only clean end.
    #[error("the stream ended")]
    Closed,
    #[error("the stream ended inside a frame")]
    Truncated,
    #[error("a frame of {length} bytes, over the limit of {bound}")]
    TooLarge { length: usize, bound: usize },
    #[error("a malformed frame: {}", .0.one_line(160))]
    Malformed(Untrusted),
    #[error("the stream failed: {0}")]
    Io(#[source] io::Error),
}

/// Why a frame was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The other side would refuse it; nothing was written.
    #[error("a frame of {length} bytes, over the limit of {MAX_FRAME}")]
    TooLarge { length: usize },
    #[error("the frame can't be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
}

/// Reads one frame of at most `bound` bytes of JSON.
///
/// Not cancel-safe: when the future is dropped midway, the stream is left inside a frame.
pub async fn read<T: DeserializeOwned>(reader: &mut (impl AsyncRead + Unpin), bound: usize) -> Result<T, ReadError> {
    parse(&read_body(reader, bound).await?)
}

/// Reads one frame's JSON without parsing it, for a handshake that looks at the version first. Not cancel-safe.
pub async fn read_body(reader: &mut (impl AsyncRead + Unpin), bound: usize) -> Result<Vec<u8>, ReadError> {
    let mut prefix = [0; PREFIX];
    // One byte first: only an end before it is a clean one.
    if reader.read(&mut prefix[..1]).await.map_err(ReadError::Io)? == 0 {
        return Err(ReadError::Closed);
    }
    reader.read_exact(&mut prefix[1..]).await.map_err(end_inside)?;
    // A length that does not fit usize is over every bound.
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > bound {
        return Err(ReadError::TooLarge { length, bound });
    }
    // Grows as bytes arrive, so that announcing a large frame costs the reader nothing.
    let mut body = Vec::new();
    reader
        .take(length as u64)
        .read_to_end(&mut body)
        .await
        .map_err(ReadError::Io)?;
    if body.len() < length {
        return Err(ReadError::Truncated);
    }
    Ok(body)
}

/// Parses a frame's JSON: one whole value, nothing after it, nothing unknown in it (the contract's types deny it).
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(body).map_err(|error| ReadError::Malformed(Untrusted::new(error.to_string())))
}

/// Writes one frame with a single write, so that the opening of a new stream travels with the stream's first packet.
pub async fn write<T: Serialize>(writer: &mut (impl AsyncWrite + Unpin), value: &T) -> Result<(), WriteError> {
    let frame = encode(value)?;
    writer.write_all(&frame).await?;
    writer.flush().await?;
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, WriteError> {
    let mut frame = vec![0; PREFIX];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - PREFIX;
    match u32::try_from(length) {
        Ok(announced) if length <= MAX_FRAME => frame[..PREFIX].copy_from_slice(&announced.to_be_bytes()),
        _ => return Err(WriteError::TooLarge { length }),
    }
    Ok(frame)
}

fn end_inside(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Truncated,
        _ => ReadError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::contract::{FromGuest, ProcessEnd, ProcessNumber, ToGuest};
    use proptest::prelude::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::ReadBuf;

    /// Hands its bytes out in the given portions, each behind one `Pending`, then ends.
    struct Portions {
        bytes: Vec<u8>,
        at: usize,
        sizes: Vec<usize>,
        turn: usize,
        waited: bool,
    }

    impl Portions {
        fn new(bytes: Vec<u8>, sizes: Vec<usize>) -> Self {
            Self {
                bytes,
                at: 0,
                sizes,
                turn: 0,
                waited: false,
            }
        }
    }

    impl AsyncRead for Portions {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.waited = !self.waited;
            if self.waited {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let size = self.sizes.get(self.turn).copied().unwrap_or(usize::MAX).max(1);
            self.turn += 1;
            let end = self.at.saturating_add(size.min(buf.remaining())).min(self.bytes.len());
            buf.put_slice(&self.bytes[self.at..end]);
            self.at = end;
            Poll::Ready(Ok(()))
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn read_all(bytes: &[u8], bound: usize) -> Result<FromGuest, ReadError> {
        block_on(read(&mut &bytes[..], bound))
    }

    #[test]
    fn the_end_between_frames_is_clean_and_inside_one_is_not() {
        let frame = encode(&FromGuest::OutOfMemory { kills: 1 }).unwrap();
        assert!(matches!(read_all(&[], 64), Err(ReadError::Closed)));
        for cut in 1..frame.len() {
            assert!(
                matches!(read_all(&frame[..cut], 64), Err(ReadError::Truncated)),
                "cut at {cut}"
            );
        }
        assert_eq!(read_all(&frame, 64).unwrap(), FromGuest::OutOfMemory { kills: 1 });
    }

    #[test]
    fn the_bound_is_checked_before_the_body() {
        let announced = [0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            read_all(&announced, MAX_FRAME),
            Err(ReadError::TooLarge {
                length: 0xffff_ffff,
                ..
            })
        ));
        let frame = encode(&FromGuest::OutOfMemory { kills: 1 }).unwrap();
        let body = frame.len() - PREFIX;
        assert!(matches!(read_all(&frame, body - 1), Err(ReadError::TooLarge { .. })));
        assert!(read_all(&frame, body).is_ok());
    }

    #[test]
    fn what_is_unknown_doubled_or_trailing_is_malformed() {
        for text in [
            r#"{"out_of_memory":{"kills":1,"more":2}}"#,
            r#"{"out_of_memory":{"kills":1,"kills":1}}"#,
            r#"{"out_of_memory":{"kills":1}}{}"#,
            r#"{"out_of_memory":{"kills":1},"refused":{"reason":""}}"#,
            r#"{"out_of_memory":{}}"#,
            r#"{"invented":{}}"#,
            r#"{"out_of_memory":{"kills":-1}}"#,
            "",
        ] {
            let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend(text.as_bytes());
            assert!(
                matches!(read_all(&bytes, MAX_FRAME), Err(ReadError::Malformed(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_malformed_frame_cannot_put_control_characters_into_the_error() {
        let text = "{\"\\u001b[2Jevil\":1}";
        let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(text.as_bytes());
        let shown = read_all(&bytes, MAX_FRAME).unwrap_err().to_string();
        assert!(shown.contains("evil") && !shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn a_frame_the_other_side_would_refuse_is_not_written() {
        let mut written = Vec::new();
        let refused = FromGuest::Refused {
            reason: "x".repeat(MAX_FRAME),
        };
        let error = block_on(write(&mut written, &refused)).unwrap_err();
        assert!(matches!(error, WriteError::TooLarge { .. }));
        assert!(written.is_empty());
    }

    fn messages() -> impl Strategy<Value = FromGuest> {
        prop_oneof![
            ".{0,80}".prop_map(|reason| FromGuest::Refused { reason }),
            any::<u64>().prop_map(|kills| FromGuest::OutOfMemory { kills }),
            (any::<u32>(), any::<i32>()).prop_map(|(number, code)| FromGuest::Exited {
                process: ProcessNumber(number),
                end: ProcessEnd::Code(code)
            }),
        ]
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_reads_the_same(sent in prop::collection::vec(messages(), 0..5),
                                                 sizes in prop::collection::vec(1usize..9, 0..200)) {
            let bytes: Vec<u8> = sent.iter().flat_map(|message| encode(message).unwrap()).collect();
            let mut reader = Portions::new(bytes, sizes);
            let received = block_on(async {
                let mut received = Vec::new();
                loop {
                    match read::<FromGuest>(&mut reader, MAX_FRAME).await {
                        Ok(message) => received.push(message),
                        Err(end) => break (received, end),
                    }
                }
            });
            prop_assert_eq!(received.0, sent);
            prop_assert!(matches!(received.1, ReadError::Closed));
        }

        #[test]
        fn arbitrary_bytes_never_allocate_past_the_bound_or_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = &bytes[..];
            match block_on(read_body(&mut reader, 64)) {
                Ok(body) => prop_assert!(body.len() <= 64 && bytes[PREFIX..].starts_with(&body)),
                Err(ReadError::TooLarge { length, .. }) => prop_assert!(length > 64 && reader.len() == bytes.len() - PREFIX),
                Err(ReadError::Closed) => prop_assert!(bytes.is_empty()),
                Err(ReadError::Truncated) => prop_assert!(bytes.len() < PREFIX + 64),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }

        #[test]
        fn arbitrary_json_text_parses_to_a_known_message_or_an_error(text in ".{0,120}") {
            if let Ok(message) = parse::<ToGuest>(text.as_bytes()) {
                prop_assert_eq!(parse::<ToGuest>(&serde_json::to_vec(&message).unwrap()).unwrap(), message);
            }
        }
    }
}

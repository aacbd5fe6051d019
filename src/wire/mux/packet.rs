//! What the two ends of the pipe write: packets of six bytes, some with data behind them.
//!
//! Pure. A packet that does not parse is the other side's fault, and ends the pipe.

use crate::wire::mux::{OPENED_BY_GUEST, OPENED_BY_HOST, Role};

/// Bytes of a packet without its data: kind, stream, amount (4, big-endian).
pub const HEADER: usize = 6;
/// The largest packet, in bytes. That is eight pages: a pipe holds sixteen and splits no page between two writes, so that a
/// byte more would have every second packet written in two pieces. The engines' clients copy 32 KiB at a time, too.
pub const MAX_PACKET: usize = 32 << 10;
/// The most data that one packet has.
pub const MAX_DATA: usize = MAX_PACKET - HEADER;
/// Streams of one pipe, both sides' together.
pub const STREAMS: usize = OPENED_BY_HOST + OPENED_BY_GUEST;
const _: () = assert!(STREAMS <= u8::MAX as usize + 1);

/// A stream's place in the table, the same on both sides. It is taken again once both have closed the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId(u8);

impl StreamId {
    fn new(place: u8) -> Option<Self> {
        (usize::from(place) < STREAMS).then_some(Self(place))
    }

    pub fn place(self) -> usize {
        self.0.into()
    }

    /// Who opens streams in this place.
    pub fn opener(self) -> Role {
        match self.place() < OPENED_BY_HOST {
            true => Role::Host,
            false => Role::Guest,
        }
    }

    /// All places, the host's first.
    pub const ALL: [Self; STREAMS] = {
        let mut all = [Self(0); STREAMS];
        let mut place = 0;
        while place < STREAMS {
            // No more than fit: see above.
            all[place] = Self(place as u8);
            place += 1;
        }
        all
    };
}

/// What a side says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// There is one. Only from the side whose place it is.
    Open,
    /// So many bytes follow: 1 to [`MAX_DATA`].
    Data(usize),
    /// So many more bytes may be sent. Never 0.
    Credit(usize),
    /// The sender has sent all that it will.
    End,
    /// The sender has let go of it, after its own end and the other's: nothing was lost.
    Close,
    /// The sender has let go of it before that. Nothing more of the sender's comes, and it reads nothing more.
    Reset,
    /// So many bytes of data have come out of the pipe, on all of the guest's streams together. Said of the first stream.
    Received(usize),
}

/// Bytes that are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("a packet of the unknown kind {0}")]
    Kind(u8),
    #[error("a packet for stream {0}, of which there is none")]
    Stream(u8),
    #[error("a packet of kind {0} with the amount {1}, or of the wrong stream")]
    Amount(u8, u32),
}

mod kind {
    pub const OPEN: u8 = 1;
    pub const DATA: u8 = 2;
    pub const CREDIT: u8 = 3;
    pub const END: u8 = 4;
    pub const CLOSE: u8 = 5;
    pub const RESET: u8 = 6;
    pub const RECEIVED: u8 = 7;
}

impl Packet {
    pub fn encode(self, stream: StreamId) -> [u8; HEADER] {
        let (kind, amount) = match self {
            Self::Open => (kind::OPEN, 0),
            Self::Data(length) => (kind::DATA, length),
            Self::Credit(more) => (kind::CREDIT, more),
            Self::End => (kind::END, 0),
            Self::Close => (kind::CLOSE, 0),
            Self::Reset => (kind::RESET, 0),
            Self::Received(bytes) => (kind::RECEIVED, bytes),
        };
        // All amounts are far below: a packet's data, a stream's window, what is on its way.
        let [a, b, c, d] = u32::try_from(amount).unwrap_or(u32::MAX).to_be_bytes();
        [kind, stream.0, a, b, c, d]
    }

    pub fn decode([kind, place, amount @ ..]: [u8; HEADER]) -> Result<(StreamId, Self), PacketError> {
        let stream = StreamId::new(place).ok_or(PacketError::Stream(place))?;
        let number = u32::from_be_bytes(amount);
        let amount = number as usize;
        let packet = match kind {
            kind::OPEN if amount == 0 => Self::Open,
            kind::DATA if (1..=MAX_DATA).contains(&amount) => Self::Data(amount),
            kind::CREDIT if amount > 0 => Self::Credit(amount),
            kind::END if amount == 0 => Self::End,
            kind::CLOSE if amount == 0 => Self::Close,
            kind::RESET if amount == 0 => Self::Reset,
            kind::RECEIVED if amount > 0 && place == 0 => Self::Received(amount),
            kind::OPEN..=kind::RECEIVED => return Err(PacketError::Amount(kind, number)),
            unknown => return Err(PacketError::Kind(unknown)),
        };
        Ok((stream, packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_parses_is_written_the_same(bytes: [u8; HEADER]) {
            if let Ok((stream, packet)) = Packet::decode(bytes) {
                prop_assert_eq!(packet.encode(stream), bytes);
            }
        }

        #[test]
        fn each_packet_is_read_as_it_was_written(place in 0..STREAMS, data in 1..=MAX_DATA, more in 1..=1usize << 20) {
            let stream = StreamId::ALL[place];
            prop_assert_eq!(Packet::decode(Packet::Received(data).encode(StreamId::ALL[0])), Ok((StreamId::ALL[0], Packet::Received(data))));
            for packet in [Packet::Open, Packet::Data(data), Packet::Credit(more), Packet::End, Packet::Close, Packet::Reset] {
                prop_assert_eq!(Packet::decode(packet.encode(stream)), Ok((stream, packet)));
            }
        }
    }

    #[test]
    fn text_is_no_packet() {
        assert_eq!(Packet::decode(*b"/bin/s"), Err(PacketError::Stream(b'b')));
        assert_eq!(Packet::decode([b'c', 0, 0, 0, 0, 0]), Err(PacketError::Kind(b'c')));
        assert_eq!(
            Packet::decode([kind::DATA, 0, 0, 0, 0, 0]),
            Err(PacketError::Amount(kind::DATA, 0))
        );
        assert_eq!(
            Packet::decode([kind::OPEN, 0, 0, 0, 0, 1]),
            Err(PacketError::Amount(kind::OPEN, 1))
        );
        assert_eq!(
            Packet::decode([kind::DATA, 0, 0, 0, 0x80, 0]),
            Err(PacketError::Amount(kind::DATA, 0x8000))
        );
    }
}

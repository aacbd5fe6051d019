//! Two tables against one another, and one against anything.

use super::*;
use crate::wire::mux::flow::WINDOW;
use proptest::prelude::*;
use std::collections::HashMap;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// What a test does on one of the two sides.
#[derive(Debug, Clone)]
enum Step {
    Open,
    Write {
        stream: usize,
        length: usize,
    },
    End {
        stream: usize,
    },
    LetGo {
        stream: usize,
    },
    Read {
        stream: usize,
        length: usize,
    },
    /// So many bytes cross the pipe, from this side.
    Carry {
        bytes: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0usize..8;
    prop_oneof![
        2 => Just(Step::Open),
        6 => (stream.clone(), 1usize..100_000).prop_map(|(stream, length)| Step::Write { stream, length }),
        2 => stream.clone().prop_map(|stream| Step::End { stream }),
        2 => stream.clone().prop_map(|stream| Step::LetGo { stream }),
        6 => (stream, 1usize..100_000).prop_map(|(stream, length)| Step::Read { stream, length }),
        8 => (1usize..100_000).prop_map(|bytes| Step::Carry { bytes }),
    ]
}

/// What one holder of a stream has seen.
#[derive(Debug)]
struct Holder {
    id: StreamId,
    /// Tells one use of a place from the next.
    use_of_place: usize,
    written: usize,
    ended: bool,
    read: usize,
    read_end: bool,
}

struct End {
    table: Table,
    held: Vec<Holder>,
    uses: HashMap<usize, usize>,
    outgoing: Vec<u8>,
}

impl End {
    fn new(role: Role, window: usize) -> Self {
        Self {
            table: Table::with_window(role, window),
            held: Vec::new(),
            uses: HashMap::new(),
            outgoing: Vec::new(),
        }
    }

    fn hold(&mut self, id: StreamId) {
        let use_of_place = self.uses.entry(id.place()).or_default();
        *use_of_place += 1;
        self.held.push(Holder {
            id,
            use_of_place: *use_of_place,
            written: 0,
            ended: false,
            read: 0,
            read_end: false,
        });
    }

    fn fill(&mut self) {
        let mut packet = Vec::new();
        loop {
            self.table.fill(&mut packet);
            assert!(packet.len() <= MAX_PACKET);
            if packet.is_empty() {
                return;
            }
            self.outgoing.extend(&packet);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.table.receive(bytes).expect("the other side keeps to the rules");
        while let Some(id) = self.table.next_arrived() {
            self.hold(id);
        }
    }
}

/// The byte at a place of what one side writes to one stream.
fn byte(host: bool, holder: &Holder, at: usize) -> u8 {
    let seed = holder.id.place() * 7 + holder.use_of_place * 31 + usize::from(host) * 101;
    (seed + at * 13 + at / 251) as u8
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What both sides know of each stream's use: written and ended by (host, guest).
type Said = HashMap<(usize, usize, bool), (usize, bool)>;

fn act(host: bool, this: &mut End, other: &mut End, said: &mut Said, step: &Step) {
    match *step {
        Step::Open => {
            if let Some(id) = this.table.open(None) {
                this.hold(id);
                let stream = this.held.len() - 1;
                act(host, this, other, said, &Step::Write { stream, length: 1 });
                // Announced, so that both sides count this use of the place.
                this.fill();
            }
        }
        Step::Write { stream, length } => {
            let Some(holder) = this.held.get_mut(stream) else {
                return;
            };
            let bytes: Vec<u8> = (holder.written..holder.written + length)
                .map(|at| byte(host, holder, at))
                .collect();
            let stream = this.table.stream(holder.id).expect("it is held");
            match stream.poll_write(&mut context(), &bytes) {
                Poll::Ready(Ok(written)) => {
                    assert!(!holder.ended);
                    holder.written += written;
                }
                Poll::Ready(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
                Poll::Pending => {}
            }
            said.insert(
                (holder.id.place(), holder.use_of_place, host),
                (holder.written, holder.ended),
            );
        }
        Step::End { stream } => {
            let Some(holder) = this.held.get_mut(stream) else {
                return;
            };
            let stream = this.table.stream(holder.id).expect("it is held");
            let _ = stream.poll_end(&mut context());
            holder.ended = true;
            said.insert((holder.id.place(), holder.use_of_place, host), (holder.written, true));
        }
        Step::LetGo { stream } => {
            if stream < this.held.len() {
                let holder = this.held.swap_remove(stream);
                this.table.let_go_of(holder.id);
            }
        }
        Step::Read { stream, length } => {
            let Some(holder) = this.held.get_mut(stream) else {
                return;
            };
            let mut space = vec![0; length];
            let mut buf = ReadBuf::new(&mut space);
            let stream = this.table.stream(holder.id).expect("it is held");
            match stream.poll_read(&mut context(), &mut buf) {
                Poll::Ready(Ok(())) => {
                    for (at, heard) in buf.filled().iter().enumerate() {
                        assert_eq!(*heard, byte(!host, holder, holder.read + at));
                    }
                    holder.read += buf.filled().len();
                    let (written, ended) = said[&(holder.id.place(), holder.use_of_place, !host)];
                    assert!(holder.read <= written);
                    if buf.filled().is_empty() {
                        assert!(
                            ended && holder.read == written,
                            "an end is one only behind all that was said"
                        );
                        holder.read_end = true;
                    }
                    assert!(!holder.read_end || buf.filled().is_empty());
                }
                Poll::Ready(Err(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    assert!(!holder.read_end);
                }
                Poll::Pending => {}
            }
        }
        Step::Carry { bytes } => {
            this.fill();
            let bytes = bytes.min(this.outgoing.len());
            let crossing: Vec<u8> = this.outgoing.drain(..bytes).collect();
            other.receive(&crossing);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever two honest sides do and however the pipe cuts it: neither ever breaks a rule, each byte arrives once and in
    /// order, an end is told from a reset, both sides mean the same stream by a place, and all places come back.
    #[test]
    fn two_sides_agree(
        window in prop_oneof![4usize..2000, Just(WINDOW)],
        steps in prop::collection::vec((any::<bool>(), step()), 0..150),
    ) {
        let (mut host, mut guest) = (End::new(Role::Host, window), End::new(Role::Guest, window));
        let mut said = Said::new();
        for (by_host, step) in &steps {
            match by_host {
                true => act(true, &mut host, &mut guest, &mut said, step),
                false => act(false, &mut guest, &mut host, &mut said, step),
            }
        }
        // What is on its way arrives at whoever still holds it; then all let go.
        for _ in 0..16 {
            act(true, &mut host, &mut guest, &mut said, &Step::Carry { bytes: usize::MAX });
            act(false, &mut guest, &mut host, &mut said, &Step::Carry { bytes: usize::MAX });
            while !host.held.is_empty() {
                act(true, &mut host, &mut guest, &mut said, &Step::LetGo { stream: 0 });
            }
            while !guest.held.is_empty() {
                act(false, &mut guest, &mut host, &mut said, &Step::LetGo { stream: 0 });
            }
        }
        prop_assert_eq!((host.table.live(), guest.table.live()), (0, 0));
    }

    /// Packets of anybody's, in any order: they are taken or refused, and what is held of them is bounded.
    #[test]
    fn nothing_that_arrives_costs_more_than_the_windows(
        packets in prop::collection::vec((OPENED_BY_HOST..OPENED_BY_HOST + 3, 0u8..40, 1usize..400), 0..60),
    ) {
        const NARROW: usize = 1000;
        let mut table = Table::with_window(Role::Host, NARROW);
        for id in &StreamId::ALL[OPENED_BY_HOST..OPENED_BY_HOST + 3] {
            table.receive(&Packet::Open.encode(*id)).unwrap();
        }
        for (place, kind, amount) in packets {
            let (packet, body) = match kind {
                0 => (Packet::Open, 0),
                1 => (Packet::End, 0),
                2 => (Packet::Reset, 0),
                3 => (Packet::Credit(amount), 0),
                _ => (Packet::Data(amount), amount),
            };
            let bytes = [&packet.encode(StreamId::ALL[place])[..], &vec![7; body]].concat();
            if table.receive(&bytes).is_err() {
                // The pipe ends with the first.
                break;
            }
            let held: usize = table.streams.iter().flatten().map(Stream::holds).sum();
            prop_assert!(held <= table.live() * NARROW, "{held} bytes of {} streams", table.live());
        }
    }
}

/// Whoever lets go of a stream on which more waits than the other side has room for says its reset, and nothing behind it,
/// whatever comes back.
#[test]
fn nothing_follows_a_reset() {
    let window = 100;
    let (mut host, mut guest) = (
        Table::with_window(Role::Host, window),
        Table::with_window(Role::Guest, window),
    );
    let id = host.open(None).unwrap();
    assert!(
        host.stream(id)
            .unwrap()
            .poll_write(&mut context(), &[7; 300])
            .is_ready()
    );
    let mut out = Vec::new();
    host.fill(&mut out);
    guest.receive(&out).unwrap();
    // What it read gives new credit, which crosses the reset.
    let mut space = [0; 100];
    assert!(
        guest
            .stream(id)
            .unwrap()
            .poll_read(&mut context(), &mut ReadBuf::new(&mut space))
            .is_ready()
    );
    let mut credit = Vec::new();
    guest.fill(&mut credit);
    host.let_go_of(id);
    host.fill(&mut out);
    assert_eq!(out, Packet::Reset.encode(id));
    host.receive(&credit).unwrap();
    host.fill(&mut out);
    assert_eq!(out, [0; 0]);
}

/// However many streams have something to send: the pipe holds so much of it, and Codex's line goes out all the same.
#[test]
fn bulk_on_many_streams_fills_no_pipe() {
    let mut host = Table::new(Role::Host);
    let mut out = Vec::new();
    let codex = host.open(None).unwrap();
    let guests = &StreamId::ALL[OPENED_BY_HOST..];
    for &id in guests {
        host.receive(&Packet::Open.encode(id)).unwrap();
        assert!(
            host.stream(id)
                .unwrap()
                .poll_write(&mut context(), &[7; 60_000])
                .is_ready()
        );
    }
    let mut sent = |host: &mut Table| {
        let mut sent = 0;
        loop {
            host.fill(&mut out);
            sent += out.len();
            if out.is_empty() {
                return sent;
            }
        }
    };
    let first = sent(&mut host);
    let most = in_flight(Role::Host);
    assert!((most..most + 1000).contains(&first), "{first}");
    assert!(
        host.stream(codex)
            .unwrap()
            .poll_write(&mut context(), b"line")
            .is_ready()
    );
    assert_eq!(sent(&mut host), 2 * HEADER + 4);
    host.receive(&Packet::Received(1000).encode(StreamId::ALL[0])).unwrap();
    assert_eq!(sent(&mut host), HEADER + 1000);
    let more = Packet::Received(most + 1).encode(StreamId::ALL[0]);
    assert_eq!(host.receive(&more), Err(Violation::NeverSent));
}

/// A byte at a time and never read: what it costs is the window, and not a hundred times that.
#[test]
fn many_small_packets_cost_no_more_than_a_few_large_ones() {
    let mut table = Table::new(Role::Host);
    let id = StreamId::ALL[OPENED_BY_HOST];
    table.receive(&Packet::Open.encode(id)).unwrap();
    let byte = [&Packet::Data(1).encode(id)[..], &[7]].concat();
    table.receive(&byte.repeat(WINDOW)).unwrap();
    assert!(table.stream(id).unwrap().holds() <= WINDOW);
    assert_eq!(table.receive(&byte), Err(Violation::PastWindow));
}

/// In pieces that add up to a window and to no power of two on the way.
#[test]
fn what_is_held_has_no_room_to_spare() {
    let mut table = Table::new(Role::Host);
    let id = StreamId::ALL[OPENED_BY_HOST];
    table.receive(&Packet::Open.encode(id)).unwrap();
    let mut left = WINDOW;
    while left > 0 {
        let piece = left.min(8191);
        table.receive(&Packet::Data(piece).encode(id)).unwrap();
        table.receive(&vec![7; piece]).unwrap();
        left -= piece;
    }
    assert!(table.stream(id).unwrap().holds() <= WINDOW);
}

//! Both ends over a pipe in memory.

use super::*;
use packet::{HEADER, MAX_DATA, Packet, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;

/// As much as both sides hold of one stream, and some more.
const PLENTY: usize = 1 << 20;

struct Side {
    opener: Opener,
    incoming: Incoming,
    driver: JoinHandle<MuxEnd>,
}

fn near(pipe: DuplexStream) -> Side {
    let (reader, writer): (ReadHalf<_>, WriteHalf<_>) = split(pipe);
    let (opener, incoming, driver) = host(reader, writer);
    let driver = tokio::spawn(driver);
    Side {
        opener,
        incoming,
        driver,
    }
}

/// The guest's end, with its proxy's places.
fn far(pipe: DuplexStream) -> Side {
    let (reader, writer): (ReadHalf<_>, WriteHalf<_>) = split(pipe);
    let (openers, incoming, driver) = guest(reader, writer);
    let driver = tokio::spawn(driver);
    Side {
        opener: openers.proxy,
        incoming,
        driver,
    }
}

fn pair() -> (Side, Side) {
    let (host, guest) = duplex(4096);
    (near(host), far(guest))
}

/// A stream that both sides know of: (opener's end, acceptor's end).
async fn connected(from: &mut Side, to: &mut Side) -> (MuxStream, MuxStream) {
    let mut ours = from.opener.open().await.unwrap();
    ours.write_all(b"!").await.unwrap();
    let mut theirs = to.incoming.next().await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'!');
    (ours, theirs)
}

/// The same in each direction.
async fn connected_by(host_opens: bool, host: &mut Side, guest: &mut Side) -> (MuxStream, MuxStream) {
    match host_opens {
        true => connected(host, guest).await,
        false => connected(guest, host).await,
    }
}

#[tokio::test]
async fn both_sides_open_streams_and_half_close_them() {
    let (mut host, mut guest) = pair();
    for host_opens in [true, false] {
        let (mut a, mut b) = connected_by(host_opens, &mut host, &mut guest).await;
        a.write_all(b"question").await.unwrap();
        a.shutdown().await.unwrap();
        let mut heard = String::new();
        b.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        b.write_all(b"answer").await.unwrap();
        b.shutdown().await.unwrap();
        heard.clear();
        a.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
    }
}

#[tokio::test]
async fn bulk_on_many_streams_arrives_whole_and_in_order() {
    let (mut host, mut guest) = pair();
    let mut ends = Vec::new();
    for seed in 0..8u8 {
        let (mut a, mut b) = connected_by(seed % 2 == 0, &mut host, &mut guest).await;
        let sent: Vec<u8> = (0..600_000u32)
            .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
            .collect();
        let expected = sent.clone();
        ends.push(tokio::spawn(async move {
            a.write_all(&sent).await.unwrap();
            a.shutdown().await.unwrap();
            assert_eq!(a.read_u8().await.unwrap(), b'.');
        }));
        ends.push(tokio::spawn(async move {
            let mut received = Vec::new();
            b.read_to_end(&mut received).await.unwrap();
            assert!(received == expected);
            b.write_all(b".").await.unwrap();
            b.shutdown().await.unwrap();
        }));
    }
    for end in ends {
        end.await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_its_sender_and_no_other_stream() {
    for host_opens in [true, false] {
        let (mut host, mut guest) = pair();
        let (_unread, mut flooding) = connected_by(host_opens, &mut host, &mut guest).await;
        let flood = tokio::spawn(async move { flooding.write_all(&vec![0; PLENTY]).await });
        let (mut a, mut b) = connected_by(host_opens, &mut host, &mut guest).await;
        for _ in 0..50 {
            b.write_all(b"ping").await.unwrap();
            let mut heard = [0; 4];
            a.read_exact(&mut heard).await.unwrap();
        }
        assert!(!flood.is_finished());
        flood.abort();
    }
}

#[tokio::test]
async fn the_loss_of_the_pipe_is_an_error_on_every_stream_and_for_the_opener() {
    let (mut host, mut guest) = pair();
    let (mut reading, mut far) = connected(&mut host, &mut guest).await;
    let (mut writing, _far) = connected(&mut host, &mut guest).await;
    far.write_all(b"last words").await.unwrap();
    let mut words = [0; 10];
    reading.read_exact(&mut words).await.unwrap();
    let reset = writing.reset_token();
    guest.driver.abort();
    assert_eq!(host.driver.await.unwrap(), MuxEnd::Closed);
    reset.cancelled().await;
    assert_eq!(
        reading.read(&mut words).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(
        writing.write_all(b"x").await.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    assert_eq!(host.opener.open().await.unwrap_err(), Ended);
    assert!(host.incoming.next().await.is_none());
}

#[tokio::test]
async fn whoever_waits_for_a_place_learns_of_the_end() {
    let (host, guest) = pair();
    let mut held = Vec::new();
    for _ in 0..OPENED_BY_HOST {
        held.push(host.opener.open().await.unwrap());
    }
    let opener = host.opener.clone();
    let mut waiting = Box::pin(opener.open());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    guest.driver.abort();
    assert_eq!(waiting.await.unwrap_err(), Ended);
}

/// Also where the reader had half-closed before: then too it must not take a cut for an end.
#[tokio::test]
async fn a_dropped_stream_is_a_reset_and_not_an_end_of_file() {
    for (host_opens, half_closed) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut host, mut guest) = pair();
        let (mut ours, mut theirs) = connected_by(host_opens, &mut host, &mut guest).await;
        let reset = ours.reset_token();
        if half_closed {
            ours.shutdown().await.unwrap();
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
        }
        theirs.write_all(b"half an answ").await.unwrap();
        let mut heard = [0; 12];
        ours.read_exact(&mut heard).await.unwrap();
        assert!(!reset.is_cancelled());
        drop(theirs);
        reset.cancelled().await;
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(ours.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn what_was_half_closed_arrives_whole_though_its_sender_let_go() {
    let (mut host, mut guest) = pair();
    let (mut ours, mut theirs) = connected(&mut host, &mut guest).await;
    let sent = vec![7; PLENTY];
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        ours.write_all(&sent).await.unwrap();
        ours.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
    sending.await.unwrap();
    // It was not heard to the end: the other direction is refused, and at once.
    theirs.reset_token().cancelled().await;
    assert_eq!(theirs.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0, "the end stays one");
}

#[tokio::test]
async fn a_stream_that_ended_both_ways_is_no_reset() {
    let (mut host, mut guest) = pair();
    let (mut ours, mut theirs) = connected(&mut host, &mut guest).await;
    let reset = theirs.reset_token();
    theirs.write_all(b"unread for now").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut heard = String::new();
    ours.read_to_string(&mut heard).await.unwrap();
    ours.write_all(b"all of it").await.unwrap();
    ours.shutdown().await.unwrap();
    drop(ours);
    // Whatever comes later on the pipe comes behind the close.
    connected(&mut host, &mut guest).await;
    assert!(!reset.is_cancelled());
    heard.clear();
    theirs.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "all of it");
}

#[tokio::test]
async fn opening_waits_until_both_sides_have_let_go() {
    let (mut host, mut guest) = pair();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..OPENED_BY_HOST {
        let (near, far) = connected(&mut host, &mut guest).await;
        ours.push(near);
        theirs.push(far);
    }
    let opener = host.opener.clone();
    let mut waiting = Box::pin(opener.open());
    drop(ours.pop());
    let mut last = theirs.pop().unwrap();
    assert_eq!(last.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(last);
    waiting.await.unwrap();
}

#[tokio::test]
async fn one_that_was_never_used_gives_its_place_back_and_is_never_heard_of() {
    let (mut host, mut guest) = pair();
    for _ in 0..3 * OPENED_BY_HOST {
        drop(host.opener.open().await.unwrap());
    }
    connected(&mut host, &mut guest).await;
    assert!(futures_util::poll!(Box::pin(guest.incoming.next())).is_pending());
}

#[tokio::test]
async fn each_share_of_the_guests_places_is_its_own() {
    let (_host, far) = duplex(4096);
    let (reader, writer) = split(far);
    let (openers, _incoming, driver) = super::guest(reader, writer);
    tokio::spawn(driver);
    for (opener, share) in [(openers.proxy, FOR_PROXY), (openers.model, FOR_MODEL)] {
        let mut held = Vec::new();
        for _ in 0..share {
            held.push(opener.open().await.unwrap());
        }
        assert!(futures_util::poll!(Box::pin(opener.open())).is_pending());
        std::mem::forget(held);
    }
}

#[tokio::test]
async fn a_side_that_breaks_the_rules_ends_the_pipe_and_is_told_why() {
    let ours = StreamId::ALL[0];
    let theirs = StreamId::ALL[OPENED_BY_HOST];
    let open = Packet::Open.encode(theirs).to_vec();
    let with = |packet: Packet| [open.clone(), packet.encode(theirs).to_vec()].concat();
    let flood = {
        let data = [Packet::Data(MAX_DATA).encode(theirs).to_vec(), vec![0; MAX_DATA]].concat();
        [open.clone(), data.repeat(flow::WINDOW / MAX_DATA + 1)].concat()
    };
    for (bytes, violation) in [
        (Packet::Open.encode(ours).to_vec(), Violation::NotItsPlace),
        (open.repeat(2), Violation::Taken),
        (Packet::End.encode(theirs).to_vec(), Violation::NoSuchStream),
        (with(Packet::Close), Violation::CloseBeforeEnd),
        (
            [with(Packet::End), Packet::Close.encode(theirs).to_vec()].concat(),
            Violation::CloseBeforeEnd,
        ),
        (with(Packet::Credit(1)), Violation::TooMuchCredit),
        (
            [with(Packet::End), Packet::End.encode(theirs).to_vec()].concat(),
            Violation::AfterEnd,
        ),
        (
            [with(Packet::End), Packet::Data(1).encode(theirs).to_vec()].concat(),
            Violation::AfterEnd,
        ),
        (
            [with(Packet::Reset), Packet::Reset.encode(theirs).to_vec()].concat(),
            Violation::AfterClose,
        ),
        (flood, Violation::PastWindow),
        (Packet::Received(1).encode(ours).to_vec(), Violation::NeverSent),
    ] {
        let (pipe, mut hostile) = duplex(PLENTY);
        // Held, so that nothing is free again.
        let mut host = near(pipe);
        let holding = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Some(stream) = host.incoming.next().await {
                held.push(stream);
            }
        });
        hostile.write_all(&bytes).await.unwrap();
        assert_eq!(host.driver.await.unwrap(), MuxEnd::Violation(violation));
        holding.await.unwrap();
    }
}

#[tokio::test]
async fn bytes_that_are_no_packets_are_a_violation() {
    let (pipe, mut far) = duplex(4096);
    let host = near(pipe);
    far.write_all(b"codex-mcp guest: panicked at src/").await.unwrap();
    assert!(matches!(host.driver.await.unwrap(), MuxEnd::Violation(_)));
}

#[tokio::test]
async fn letting_go_of_everything_ends_both_sides_after_the_last_words() {
    let (mut host, mut guest) = pair();
    let (mut ours, mut theirs) = connected(&mut host, &mut guest).await;
    drop((host.opener, host.incoming));
    assert!(!host.driver.is_finished());
    ours.write_all(b"good bye").await.unwrap();
    ours.shutdown().await.unwrap();
    drop(ours);
    assert_eq!(host.driver.await.unwrap(), MuxEnd::LetGo);
    assert_eq!(guest.driver.await.unwrap(), MuxEnd::Closed);
    let mut heard = String::new();
    theirs.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "good bye");
}

#[tokio::test]
async fn what_codex_says_waits_for_no_bulk_of_the_guests() {
    let (near_pipe, mut wire) = duplex(PLENTY);
    let (reader, writer) = split(near_pipe);
    let (openers, mut incoming, driver) = super::guest(reader, writer);
    // The host's stream exists; then the proxy has more to say than goes out at once, and Codex a line behind it.
    wire.write_all(&Packet::Open.encode(StreamId::ALL[0])).await.unwrap();
    let mut driver = Box::pin(driver);
    assert!(futures_util::poll!(&mut driver).is_pending());
    let mut codex = incoming.next().await.unwrap();
    let mut bulk = openers.proxy.open().await.unwrap();
    bulk.write_all(&[b'b'; 60 << 10]).await.unwrap();
    codex.write_all(b"line").await.unwrap();
    assert!(futures_util::poll!(&mut driver).is_pending());
    let mut first = [0; HEADER];
    wire.read_exact(&mut first).await.unwrap();
    assert_eq!(Packet::decode(first).unwrap(), (StreamId::ALL[0], Packet::Data(4)));
}

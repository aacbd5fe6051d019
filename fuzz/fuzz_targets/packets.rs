//! What a hostile guest may write to its pipe: it is taken or refused wherever it is cut, and the host's end goes on
//! speaking, in packets that parse.

#![no_main]

use codex_mcp::wire::mux::Role;
use codex_mcp::wire::mux::packet::{HEADER, MAX_PACKET, Packet};
use codex_mcp::wire::mux::table::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    let mut whole = Table::new(Role::Host);
    let refused = whole.receive(&bytes).is_err();

    let mut cut = Table::new(Role::Host);
    let mut rest = &bytes[..];
    let mut ended = false;
    for at in cuts.into_iter().map(usize::from).chain([bytes.len()]) {
        let (now, later) = rest.split_at(at.min(rest.len()));
        rest = later;
        ended = ended || cut.receive(now).is_err();
    }
    assert_eq!(ended, refused, "where it is cut makes no difference");

    // Whatever came, this end can let go of it and says so.
    while let Some(id) = cut.next_arrived() {
        cut.let_go_of(id);
    }
    let mut out = Vec::new();
    cut.fill(&mut out);
    assert!(out.len() <= MAX_PACKET);
    parses(&out);
});

fn parses(mut out: &[u8]) {
    while !out.is_empty() {
        let (header, rest) = out.split_first_chunk::<HEADER>().expect("a whole header");
        let (_, packet) = Packet::decode(*header).expect("a packet");
        let data = match packet {
            Packet::Data(length) => length,
            _ => 0,
        };
        out = &rest[data..];
    }
}

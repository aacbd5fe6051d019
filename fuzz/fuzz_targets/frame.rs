//! Frames between host and guest: bounded before they are read, and what parses is written back as the same value.

#![no_main]

use codex_mcp::wire::contract::{FromGuest, GuestSpec, ToGuest};
use codex_mcp::wire::frame::{ReadError, parse, read_body};
use libfuzzer_sys::fuzz_target;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const BOUND: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut read = 0;
    // Every frame takes at least its length, so this ends.
    loop {
        match at_once(read_body(&mut rest, BOUND)) {
            Ok(body) => {
                assert!(body.len() <= BOUND);
                read += 4 + body.len();
                assert_eq!(
                    read + rest.len(),
                    bytes.len(),
                    "a frame is read to its end and no further"
                );
                json(&body);
            }
            Err(ReadError::Closed) => break assert!(rest.is_empty()),
            Err(_) => break,
        }
    }
    json(bytes);
});

/// A slice is always ready, so nothing has to be waited for.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a slice is always ready"),
    }
}

macro_rules! same_again {
    ($body:expr, $($type:ty),+) => {$(
        if let Ok(message) = parse::<$type>($body) {
            let written = serde_json::to_vec(&message).expect("a parsed message can be written");
            assert_eq!(parse::<$type>(&written).expect("and read"), message);
        }
    )+};
}

fn json(body: &[u8]) {
    same_again!(body, ToGuest, FromGuest, GuestSpec);
}

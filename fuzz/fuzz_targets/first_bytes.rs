//! The first bytes of a tunnel: one verdict however they arrive, and no server name but a canonical one. The first byte of
//! an input is the size of the portions in which the rest arrives.

#![no_main]

use codex_mcp::config::host::DnsName;
use codex_mcp::egress::first_bytes::{FirstBytes, Inspector, MAX_CLIENT_HELLO, ServerName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((portion, bytes)) = input.split_first() else {
        return;
    };
    let at_once = Inspector::default().add(bytes);
    let mut inspector = Inspector::default();
    let mut verdict = FirstBytes::NeedMore;
    for packet in bytes.chunks(usize::from(*portion).max(1)) {
        let next = inspector.add(packet);
        assert!(verdict == FirstBytes::NeedMore || next == verdict, "a verdict stays");
        verdict = next;
    }
    assert_eq!(verdict, at_once);
    assert!(verdict != FirstBytes::NeedMore || bytes.len() < MAX_CLIENT_HELLO);
    if let FirstBytes::Tls {
        server_name: ServerName::Name(name),
    } = verdict
    {
        assert_eq!(name.as_str().parse::<DnsName>().as_ref(), Ok(&name));
    }
});

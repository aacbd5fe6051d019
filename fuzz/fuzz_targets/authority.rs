//! The authority of a request line or a `Host` header: what is accepted has one spelling, and hyper's parser of request
//! targets finds the same host and port in it.

#![no_main]

use codex_mcp::config::host::Host;
use codex_mcp::config::target::Target;
use hyper::Uri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    authority(text);
    // The whole of an absolute-form request target, cut up by hyper.
    if let Ok(uri) = text.parse::<Uri>()
        && let Some(inside) = uri.authority()
    {
        authority(inside.as_str());
    }
});

fn authority(text: &str) {
    let Ok(target) = Target::from_authority(text, "80".parse().ok()) else {
        return;
    };
    let shown = target.to_string();
    let clean = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.:[]".contains(&byte);
    assert!(shown.bytes().all(clean), "{text:?} became {shown:?}");
    assert_eq!(Target::from_authority(&shown, None).as_ref(), Ok(&target), "{shown:?}");

    let uri: Uri = format!("http://{text}/")
        .parse()
        .expect("an accepted authority is one to hyper too");
    let host: Host = uri
        .host()
        .expect("it names a host")
        .parse()
        .expect("and that is a host to rules");
    assert_eq!(host, target.host, "{text:?}");
    assert_eq!(uri.port_u16().unwrap_or(80), target.port.get(), "{text:?}");
}

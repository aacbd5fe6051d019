//! The CONNECT that a proxy is asked with, and its answer.
//!
//! Not hyper-util's `Tunnel`: that one drops what it reads after the answer's head, which is the greeting of a server that
//! speaks first. Here nothing after the head is taken from the socket.

use crate::dial::proxy::ProxyError;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 8 << 10;
const END: &[u8] = b"\r\n\r\n";

/// Asks for a connection to `target`, and says what was answered. After a success the stream is that connection. Not bounded
/// in time.
pub async fn connect(
    stream: &mut TcpStream,
    target: &str,
    authorization: Option<&HeaderValue>,
) -> Result<StatusCode, ProxyError> {
    let question = question(target, authorization);
    stream.write_all(&question).await.map_err(ProxyError::Broken)?;
    let head = head(stream).await?;
    status(&head).ok_or(ProxyError::NotHttp)
}

fn question(target: &str, authorization: Option<&HeaderValue>) -> Zeroizing<Vec<u8>> {
    let credentials = authorization.map(HeaderValue::as_bytes).unwrap_or_default();
    // With the whole capacity from the start no growth leaves a copy of the credentials behind.
    let mut question = Zeroizing::new(Vec::with_capacity(64 + 2 * target.len() + credentials.len()));
    question.extend_from_slice(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").as_bytes());
    if !credentials.is_empty() {
        question.extend_from_slice(b"Proxy-Authorization: ");
        question.extend_from_slice(credentials);
        question.extend_from_slice(b"\r\n");
    }
    question.extend_from_slice(b"\r\n");
    question
}

/// Takes the answer's head from the socket, and not one byte more.
async fn head(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyError> {
    let mut seen = vec![0; MAX_HEAD];
    let mut taken = 0;
    while taken < MAX_HEAD {
        let there = taken + stream.peek(&mut seen[taken..]).await.map_err(ProxyError::Broken)?;
        if there == taken {
            return Err(ProxyError::Closed);
        }
        let end = seen[..there].windows(END.len()).position(|bytes| bytes == END);
        let wanted = end.map_or(there, |end| end + END.len());
        stream
            .read_exact(&mut seen[taken..wanted])
            .await
            .map_err(ProxyError::Broken)?;
        taken = wanted;
        if end.is_some() {
            seen.truncate(taken);
            return Ok(seen);
        }
    }
    Err(ProxyError::NotHttp)
}

/// `HTTP/1.x` and three digits; the reason phrase may be missing. The header fields mean nothing to who asked.
fn status(head: &[u8]) -> Option<StatusCode> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let (digits, rest) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let ends = rest.starts_with(b" ") || rest.starts_with(b"\r\n");
    StatusCode::from_bytes(digits)
        .ok()
        .filter(|_| ends && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_status_line_is_read_strictly() {
        for (head, code) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200),
            ("HTTP/1.0 200\r\n\r\n", 200),
            ("HTTP/1.1 407 \r\nproxy-authenticate: Basic\r\n\r\n", 407),
        ] {
            assert_eq!(status(head.as_bytes()).unwrap().as_u16(), code, "{head}");
        }
        for head in [
            "",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1  200\r\n\r\n",
            "HTTP/1.x 200\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert_eq!(status(head.as_bytes()), None, "{head}");
        }
    }

    #[test]
    fn credentials_are_one_header_of_the_question() {
        let text = |authorization: Option<&HeaderValue>| {
            String::from_utf8(question("[2001:db8::1]:443", authorization).to_vec()).unwrap()
        };
        assert_eq!(
            text(None),
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"
        );
        assert_eq!(
            text(Some(&HeaderValue::from_static("Basic dTpw"))),
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
        );
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(head in proptest::collection::vec(any::<u8>(), 0..40)) {
            let with_prefix = [b"HTTP/1.".as_slice(), &head].concat();
            for head in [head, with_prefix] {
                if let Some(status) = status(&head) {
                    prop_assert!((100..1000).contains(&status.as_u16()));
                }
            }
        }
    }
}

//! Lines of the app-server, bounded in length.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The longest line that is read, in bytes. A command's output makes lines of 1.1 MB (Codex cuts it at 1 MiB).
pub(super) const MAX_LINE: usize = 8 << 20;

#[derive(Debug)]
pub(super) enum LineError {
    TooLong { limit: usize },
    Io(io::Error),
}

/// Reads the next line into `line`, without its newline. `false` at the end of the stream; a last line that has no
/// newline is left out, since its writer died within it.
pub(super) async fn read_line(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    limit: usize,
) -> Result<bool, LineError> {
    line.clear();
    loop {
        let chunk = from.fill_buf().await.map_err(LineError::Io)?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(chunk.len());
        if line.len() + taken > limit {
            return Err(LineError::TooLong { limit });
        }
        line.extend_from_slice(&chunk[..taken]);
        from.consume(taken + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn lines(bytes: &[u8], limit: usize) -> Result<Vec<String>, LineError> {
        // A buffer smaller than the lines, so that they come in pieces.
        let mut from = BufReader::with_capacity(3, bytes);
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while read_line(&mut from, &mut line, limit).await? {
            lines.push(String::from_utf8(line.clone()).unwrap());
        }
        Ok(lines)
    }

    #[tokio::test]
    async fn lines_are_cut_at_newlines_and_a_torn_last_one_is_left_out() {
        assert_eq!(
            lines(b"hello\n\nworld\ntorn", 100).await.unwrap(),
            ["hello", "", "world"]
        );
    }

    #[tokio::test]
    async fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        assert_eq!(lines(b"12345\n", 5).await.unwrap(), ["12345"]);
        assert!(matches!(
            lines(b"123456\n", 5).await,
            Err(LineError::TooLong { limit: 5 })
        ));
        assert!(matches!(
            lines(b"123456", 5).await,
            Err(LineError::TooLong { limit: 5 })
        ));
    }
}

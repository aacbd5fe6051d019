//! Stored lines, one after the other. Whatever a file holds, a line takes no more memory than a line of ours may have.
use crate::audit::chain::MAX_LINE;
use crate::durable::regular;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// One line as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// Longer than any record; what it holds was passed over.
    TooLong,
    /// The last bytes of a file, where it ends without a line end: so many.
    Torn(u64),
}

/// Opens a file of a chain, and nothing that is not a file.
///
/// # Errors
///
/// Where it can't be read, or is none.
pub fn open(path: &Path) -> io::Result<Lines<BufReader<File>>> {
    Ok(Lines::new(BufReader::new(regular::read(path)?)))
}

/// The lines of one file.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
}

impl<R: BufRead> Lines<R> {
    pub fn new(from: R) -> Self {
        Self { from }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let most = MAX_LINE as u64;
        let read = (&mut self.from).take(most).read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(Some(Line::Whole(line)));
        }
        if (read as u64) < most {
            return Ok((read > 0).then_some(Line::Torn(read as u64)));
        }
        self.pass_over(most)
    }

    fn pass_over(&mut self, mut passed: u64) -> io::Result<Option<Line>> {
        loop {
            let held = self.from.fill_buf()?;
            if held.is_empty() {
                return Ok(Some(Line::Torn(passed)));
            }
            let end = held.iter().position(|byte| *byte == b'\n');
            let count = end.map_or(held.len(), |at| at + 1);
            self.from.consume(count);
            passed = passed.saturating_add(count as u64);
            if end.is_some() {
                return Ok(Some(Line::TooLong));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(bytes: &[u8], buffer: usize) -> Vec<Line> {
        let from = BufReader::with_capacity(buffer, bytes);
        Lines::new(from).map(Result::unwrap).collect()
    }

    #[test]
    fn a_line_is_bounded_and_the_next_one_is_found() {
        let whole = vec![b'a'; MAX_LINE - 1];
        let text = [&whole[..], b"\n", &whole[..], b"a\n\nnext\ntorn"].concat();
        assert_eq!(
            lines(&text, 4096),
            [
                Line::Whole(whole.clone()),
                Line::TooLong,
                Line::Whole(Vec::new()),
                Line::Whole(b"next".to_vec()),
                Line::Torn(4),
            ]
        );
        assert_eq!(lines(&vec![0; 3 * MAX_LINE], 4096), [Line::Torn(3 * MAX_LINE as u64)]);
        assert_eq!(lines(b"", 4096), []);
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(open(&fifo).unwrap_err().to_string(), "it is not a regular file");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(open(&link).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_their_lines(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
                                     buffer in 1..20usize) {
            let mut expected: Vec<Line> = bytes.split(|byte| *byte == b'\n').map(|line| Line::Whole(line.to_vec())).collect();
            match expected.pop() {
                Some(Line::Whole(last)) if !last.is_empty() => expected.push(Line::Torn(last.len() as u64)),
                _ => {}
            }
            prop_assert_eq!(lines(&bytes, buffer), expected);
        }
    }
}

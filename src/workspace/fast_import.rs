//! The stream that `git fast-import` reads, spelled. One commit, of which only what differs from a known tree is said.

use crate::workspace::blob::{Entry, Mode};
use crate::workspace::git::ObjectId;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Ends a stream that is not whole with an error (`--done`), looks for no deltas, and lets a commit take the reference of
/// one that it does not come from.
pub const ARGS: &[&str] = &["--quiet", "--done", "--force", "--depth=0", "--date-format=raw"];

/// Where the commit is kept from a collection of garbage.
pub const REFERENCE: &str = "refs/heads/snapshot";

/// Writes one commit. The same tree always makes the same commit: nobody's name and no time is in it.
pub struct Import<W> {
    out: W,
}

impl<W: Write> Import<W> {
    /// `start` is the tree (or commit) that the new one is told against; none is the empty one.
    pub fn begin(out: W, start: Option<&ObjectId>) -> io::Result<Self> {
        let mut out = Self::commit(out)?;
        if let Some(tree) = start {
            // The empty path is the root.
            writeln!(out, "M 040000 {tree} \"\"")?;
        }
        Ok(Self { out })
    }

    /// Begins a commit that comes from another, and is told against its tree.
    pub fn after(out: W, parent: &ObjectId) -> io::Result<Self> {
        let mut out = Self::commit(out)?;
        writeln!(out, "from {parent}")?;
        Ok(Self { out })
    }

    fn commit(mut out: W) -> io::Result<W> {
        writeln!(
            out,
            "commit {REFERENCE}\nmark :1\ncommitter codex-mcp <codex-mcp@localhost> 0 +0000\ndata 0"
        )?;
        Ok(out)
    }

    /// Names what git has already.
    pub fn known(&mut self, path: &Path, entry: &Entry) -> io::Result<()> {
        write!(self.out, "M {} {} ", entry.mode.as_str(), entry.id)?;
        self.path(path)?;
        self.out.write_all(b"\n")
    }

    /// Brings content; `size` bytes of it must come.
    pub fn content(&mut self, path: &Path, mode: Mode, size: u64, content: impl io::Read) -> io::Result<()> {
        write!(self.out, "M {} inline ", mode.as_str())?;
        self.path(path)?;
        write!(self.out, "\ndata {size}\n")?;
        let written = io::copy(&mut content.take(size), &mut self.out)?;
        if written != size {
            // The rest of the stream would be read as content.
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file became shorter while it was read",
            ));
        }
        self.out.write_all(b"\n")
    }

    pub fn delete(&mut self, path: &Path) -> io::Result<()> {
        self.out.write_all(b"D ")?;
        self.path(path)?;
        self.out.write_all(b"\n")
    }

    /// Ends the stream; git then prints the commit's name.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(b"get-mark :1\ndone\n")?;
        self.out.flush()
    }

    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.out.write_all(&quoted(path.as_os_str().as_bytes()))
    }
}

/// A path in double quotes as git reads it back: octal for all that is not printable ASCII.
pub(in crate::workspace) fn quoted(path: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            b' '..=b'~' => text.push(*byte),
            _ => text.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_told_against_a_tree() {
        let id = ObjectId::parse("1".repeat(40).as_bytes()).unwrap();
        let mut out = Vec::new();
        let mut import = Import::begin(&mut out, Some(&id)).unwrap();
        import.delete(Path::new("a b")).unwrap();
        let entry = Entry {
            mode: Mode::Executable,
            id,
        };
        import.known(Path::new("\"\\\n\u{e9}"), &entry).unwrap();
        import.content(Path::new("c"), Mode::Symlink, 3, &b"abc"[..]).unwrap();
        assert!(import.content(Path::new("d"), Mode::File, 3, &b"ab"[..]).is_err());
        import.finish().unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}

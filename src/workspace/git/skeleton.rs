//! The files of a git directory of ours, made without a template and without running git.

#![expect(clippy::disallowed_methods, reason = "writes a git directory")]

use crate::workspace::git::ObjectFormat;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Whose use a git directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The host's: no work tree, all attributes off.
    Shadow,
    /// The container's, as the copy's `.git`.
    Workspace,
}

/// Makes the directory (0700, as all in it), which must not exist. `head` is the content of HEAD.
pub fn make(git_dir: &Path, purpose: Purpose, format: ObjectFormat, head: &str) -> io::Result<()> {
    for directory in [
        "",
        "objects",
        "objects/info",
        "objects/pack",
        "refs",
        "refs/heads",
        "refs/tags",
        "info",
    ] {
        fs::DirBuilder::new().mode(0o700).create(git_dir.join(directory))?;
    }
    fs::write(git_dir.join("HEAD"), format!("{head}\n"))?;
    fs::write(git_dir.join("config"), config(purpose, format))?;
    if purpose == Purpose::Shadow {
        fs::write(git_dir.join("info/attributes"), ATTRIBUTES)?;
    }
    Ok(())
}

/// Read after every other source of attributes, and so stronger: a diff must not depend on a `.gitattributes`.
const ATTRIBUTES: &str = "* !diff !merge !text !eol !crlf !ident !filter !working-tree-encoding !whitespace !delta\n";

fn config(purpose: Purpose, format: ObjectFormat) -> String {
    let mut text = String::from("[core]\n\tfilemode = true\n");
    let version = match format {
        ObjectFormat::Sha1 => 0,
        ObjectFormat::Sha256 => 1,
    };
    text.push_str(&format!("\trepositoryformatversion = {version}\n"));
    match purpose {
        // A tree that the container made may hold names that only other systems can't have.
        Purpose::Shadow => text.push_str("\tbare = true\n\tprotectHFS = false\n\tprotectNTFS = false\n"),
        // Inode numbers and change times differ inside; commits need a name, and the user's own stays outside.
        Purpose::Workspace => text.push_str(
            "\tbare = false\n\tlogallrefupdates = true\n\tcheckStat = minimal\n\ttrustctime = false\n\
             [user]\n\tname = Codex\n\temail = codex@localhost\n",
        ),
    }
    if format == ObjectFormat::Sha256 {
        text.push_str("[extensions]\n\tobjectFormat = sha256\n");
    }
    text
}

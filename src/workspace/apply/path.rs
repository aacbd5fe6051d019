//! A path that the container chose, parsed once.
//!
//! Names are bytes: newlines, quotes and invalid UTF-8 are ordinary. What is refused here is refused whatever the host
//! folder holds: no path of this type leads out of a folder by its spelling, and none is a part of git's own directory,
//! not even on a file system that folds names.

use crate::wire::untrusted::Untrusted;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest path, in bytes; PATH_MAX less what a root of reasonable depth takes.
const MAX_PATH: usize = 4096;
/// The longest name of one component, in bytes, as file systems have it.
const MAX_NAME: usize = 255;
/// The deepest path, in components; as deep as a walk of the container's tree goes.
const MAX_DEPTH: usize = crate::workspace::tree::MAX_DEPTH;

/// Relative, never empty, of normal components only, and nothing of git's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(Vec<u8>);

/// Why a path is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFlaw {
    #[error("it is not a plain path below the folder")]
    NotBelow,
    #[error("it is longer or deeper than a path may be")]
    TooLong,
    #[error("it is a part of git's own directory, whose hooks and configuration run commands on this host")]
    Git,
}

impl RelativePath {
    pub fn parse(bytes: &[u8]) -> Result<Self, PathFlaw> {
        if bytes.len() > MAX_PATH || bytes.split(|byte| *byte == b'/').count() > MAX_DEPTH {
            return Err(PathFlaw::TooLong);
        }
        for name in bytes.split(|byte| *byte == b'/') {
            if name.is_empty() || name == b"." || name == b".." || name.contains(&0) {
                return Err(PathFlaw::NotBelow);
            }
            if name.len() > MAX_NAME {
                return Err(PathFlaw::TooLong);
            }
            if is_git(name) {
                return Err(PathFlaw::Git);
            }
        }
        Ok(Self(bytes.to_owned()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The last component.
    pub fn name(&self) -> &OsStr {
        let after = self
            .0
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        OsStr::from_bytes(self.0.get(after..).unwrap_or_default())
    }

    /// The directory that it is in; `None` is the folder itself.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0.get(..slash)?.to_owned()))
    }

    /// Every directory above it, the outermost first, without the folder itself.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.filter_map(|(at, _)| self.0.get(..at).map(|above| Self(above.to_owned())))
    }

    /// Whether it lies below `other`, or is it.
    pub fn is_within(&self, other: &Self) -> bool {
        match self.0.strip_prefix(other.0.as_slice()) {
            Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }

    /// For results: escaped, and marked as what the container chose.
    pub fn shown(&self) -> Untrusted {
        Untrusted::new(self.to_string())
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(&self.0, f)
    }
}

/// Bytes as a person may see them: what is no printable text, and the backslash, is escaped as in C.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_escaped(bytes, &mut text);
    text
}

fn write_escaped(bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.write_str("\\n")?,
                '\t' => out.write_str("\\t")?,
                '\\' => out.write_str("\\\\")?,
                c if is_unseen(c) => write!(out, "\\u{{{:x}}}", u32::from(c))?,
                c => out.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Control characters, and those that take no room or turn the text around.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Base64: a name need not be text.
impl Serialize for RelativePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Self::parse(&bytes).map_err(serde::de::Error::custom)
    }
}

/// Whether some file system takes this name for `.git`: letter case (every folding one), the code points that HFS+
/// drops, and on NTFS the short name, trailing dots and spaces, streams, and the backslash as a separator.
pub fn is_git(name: &[u8]) -> bool {
    let text: String = String::from_utf8_lossy(name)
        .chars()
        .filter(|c| !is_dropped_by_hfs(*c))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    text.split('\\').any(|part| {
        let part = part.split(':').next().unwrap_or_default();
        let part = part.trim_end_matches(['.', ' ']);
        let short = part.strip_prefix("git~");
        part == ".git" || short.is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    })
}

fn is_dropped_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Why a link that a session made is not brought to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFlaw {
    #[error("it is a link without a usable target")]
    Unusable,
    #[error("it is a link to an absolute path, which is another file on this host than in the container")]
    Absolute,
    #[error("it is a link that leads out of the folder")]
    LeadsOut,
    #[error("it is a link whose target goes up after going down, which other links can turn into a way out")]
    UpAfterDown,
    #[error("it is a link into git's own directory")]
    Git,
    #[error("it is a link that leads out of the folder, or into git's own directory, through a link that is there")]
    Through,
}

/// Checks where a link at `path` points, by its spelling: a target may go up first and then down, never above the
/// folder. A `..` after a name is refused, because that name may be a link, from which `..` leads elsewhere.
pub fn check_link(path: &RelativePath, target: &[u8]) -> Result<(), LinkFlaw> {
    if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
        return Err(LinkFlaw::Unusable);
    }
    if target.starts_with(b"/") {
        return Err(LinkFlaw::Absolute);
    }
    let mut depth = path.components().count() - 1;
    let mut down = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if down => return Err(LinkFlaw::UpAfterDown),
            b".." => depth = depth.checked_sub(1).ok_or(LinkFlaw::LeadsOut)?,
            name if is_git(name) => return Err(LinkFlaw::Git),
            _ => down = true,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelativePath {
        RelativePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_plain_paths_below_are_paths() {
        for flawed in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/..", "a\0b"] {
            assert_eq!(
                RelativePath::parse(flawed.as_bytes()),
                Err(PathFlaw::NotBelow),
                "{flawed:?}"
            );
        }
        let name = "n".repeat(MAX_NAME + 1);
        assert_eq!(RelativePath::parse(name.as_bytes()), Err(PathFlaw::TooLong));
        let deep = vec!["d"; MAX_DEPTH + 1].join("/");
        assert_eq!(RelativePath::parse(deep.as_bytes()), Err(PathFlaw::TooLong));
        for fine in [
            "a",
            "a/b",
            "...",
            "..a",
            "a b",
            "a\nb",
            ".gitignore",
            "git",
            ".github/x",
            "a~1",
        ] {
            assert!(RelativePath::parse(fine.as_bytes()).is_ok(), "{fine:?}");
        }
        assert!(RelativePath::parse(b"\xff\xfe").is_ok());
    }

    #[test]
    fn whatever_a_file_system_takes_for_git_is_refused() {
        let names = [
            ".git",
            ".GIT",
            ".Git/hooks/pre-commit",
            "sub/.git/config",
            ".git.",
            ".git ",
            ".git . .",
            "git~1",
            "GIT~12",
            ".git::$INDEX_ALLOCATION",
            ".git:stream",
            "a\\.git\\config",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{202e}T",
        ];
        for name in names {
            assert_eq!(RelativePath::parse(name.as_bytes()), Err(PathFlaw::Git), "{name:?}");
        }
    }

    #[test]
    fn names_are_shown_escaped() {
        let odd = RelativePath::parse(b"a\nb/\xff\\\x1b[31m\xe2\x80\xae").unwrap();
        assert_eq!(odd.to_string(), r"a\nb/\xff\\\u{1b}[31m\u{202e}");
        assert_eq!(path("ä/ö").to_string(), "ä/ö");
    }

    #[test]
    fn relations_go_by_components() {
        let deep = path("a/b/c");
        assert_eq!(deep.name(), "c");
        assert_eq!(deep.parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), None);
        assert_eq!(deep.ancestors().collect::<Vec<_>>(), [path("a"), path("a/b")]);
        assert!(deep.is_within(&path("a")) && deep.is_within(&deep));
        assert!(!path("ab").is_within(&path("a")));
    }

    #[test]
    fn links_stay_in_the_folder() {
        let at = path("a/b/link");
        for fine in ["x", "../x", "../../x/y", "./x", "x/./y", ".."] {
            assert_eq!(check_link(&at, fine.as_bytes()), Ok(()), "{fine}");
        }
        assert_eq!(check_link(&at, b"/etc/passwd"), Err(LinkFlaw::Absolute));
        assert_eq!(check_link(&at, b"../../../x"), Err(LinkFlaw::LeadsOut));
        assert_eq!(check_link(&path("link"), b".."), Err(LinkFlaw::LeadsOut));
        assert_eq!(check_link(&at, b"x/../y"), Err(LinkFlaw::UpAfterDown));
        assert_eq!(check_link(&at, b"../../.GIT/hooks"), Err(LinkFlaw::Git));
        assert_eq!(check_link(&at, b""), Err(LinkFlaw::Unusable));
        assert_eq!(check_link(&at, b"a\0b"), Err(LinkFlaw::Unusable));
    }

    proptest! {
        #[test]
        fn what_parses_never_leads_out_and_survives_the_journal(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(parsed) = RelativePath::parse(&bytes) {
                let normal = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(parsed.as_path().components().all(normal));
                prop_assert_eq!(parsed.as_path().as_os_str().as_bytes(), bytes.as_slice());
                let json = serde_json::to_string(&parsed).unwrap();
                prop_assert_eq!(serde_json::from_str::<RelativePath>(&json).unwrap(), parsed.clone());
                prop_assert!(!parsed.to_string().contains(char::is_control));
            }
        }
    }
}

//! What git writes into the small files that tie worktrees and submodules to their repository. Pure.
//!
//! The files may come from anybody, so what git itself would not have written is no pointer: one line, a path, an end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The longest such file that is read, in bytes; PATH_MAX and some.
pub const MAX_POINTER: u64 = 4_200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    #[error("it does not begin with `gitdir: `")]
    NoPrefix,
    #[error("it names no path")]
    Empty,
    #[error("it has more than one line, or a control character in it")]
    Control,
    #[error("it is longer than {MAX_POINTER} bytes")]
    TooLong,
    #[error("what it names is not there, or not a directory")]
    Missing,
}

/// `.git` as a file: `gitdir: PATH`. The path may be relative to the file's directory.
pub fn parse_pointer(content: &[u8]) -> Result<PathBuf, PointerError> {
    let path = content.strip_prefix(b"gitdir: ").ok_or(PointerError::NoPrefix)?;
    parse_path(path)
}

/// `commondir` and `gitdir` of a worktree's git directory: one path.
pub fn parse_path(content: &[u8]) -> Result<PathBuf, PointerError> {
    if content.len() as u64 > MAX_POINTER {
        return Err(PointerError::TooLong);
    }
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(PointerError::Empty);
    }
    if line.iter().any(u8::is_ascii_control) {
        return Err(PointerError::Control);
    }
    Ok(PathBuf::from(OsStr::from_bytes(line)))
}

/// `core.worktree` in a submodule's `config`, in the plain form in which git writes it. Anything else, quotes and includes
/// among it, is no answer: the caller then takes the folder for unconfirmed.
pub fn core_worktree(config: &[u8]) -> Option<PathBuf> {
    let mut in_core = false;
    let mut found = None;
    for line in config.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.starts_with(b"[") {
            in_core = line == b"[core]";
        } else if in_core && let Some(value) = line.strip_prefix(b"worktree = ") {
            let plain = !value.iter().any(|byte| b"\"\\;#".contains(byte));
            // Twice would be two answers.
            if !plain || found.is_some() {
                return None;
            }
            found = Some(parse_path(value).ok()?);
        }
    }
    found
}

/// What `HEAD` has to say for git to take the directory that it is in for a repository: a branch's name or a commit's.
/// Wider than git's own rule, so that nothing git accepts is missed.
pub fn names_commit(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    text.starts_with(b"ref:") || (text.len() >= 40 && text.iter().take(40).all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn what_git_writes_is_understood() {
        for (content, path) in [
            ("gitdir: /srv/p/.git/worktrees/w\n", "/srv/p/.git/worktrees/w"),
            ("gitdir: ../.git/modules/m", "../.git/modules/m"),
            ("gitdir: /a b/c\r\n", "/a b/c"),
            ("gitdir:  x", " x"),
        ] {
            assert_eq!(parse_pointer(content.as_bytes()), Ok(path.into()), "{content:?}");
        }
        assert_eq!(parse_path(b"../..\n"), Ok("../..".into()));
    }

    #[test]
    fn anything_else_is_not() {
        let long = format!("gitdir: /{}", "a".repeat(5000));
        for (content, error) in [
            ("", PointerError::NoPrefix),
            ("gitdir:/x", PointerError::NoPrefix),
            (" gitdir: /x", PointerError::NoPrefix),
            ("gitdir: ", PointerError::Empty),
            ("gitdir: \n", PointerError::Empty),
            ("gitdir: /x\n\n", PointerError::Control),
            ("gitdir: /x\n/y", PointerError::Control),
            ("gitdir: /x\0", PointerError::Control),
            (&long, PointerError::TooLong),
        ] {
            assert_eq!(parse_pointer(content.as_bytes()), Err(error), "{content:?}");
        }
    }

    #[test]
    fn a_submodules_worktree_is_the_one_plain_value_of_its_section() {
        let config = "[core]\n\tbare = false\n\tworktree = ../../../m\n[remote \"o\"]\n\tworktree = /else\n";
        assert_eq!(
            core_worktree(config.as_bytes()).as_deref(),
            Some(Path::new("../../../m"))
        );
        for config in [
            "",
            "worktree = /x\n",
            "[remote \"core\"]\n\tworktree = /x\n",
            "[core]\n\tworktree = \"/x\"\n",
            "[core]\n\tworktree = /x ; # or so\n",
            "[core]\n\tworktree = /x\n\tworktree = /y\n",
            "[core]\n\tworktree = \n",
            "[core] worktree = /x\n",
        ] {
            assert_eq!(core_worktree(config.as_bytes()), None, "{config:?}");
        }
    }

    #[test]
    fn a_head_is_a_branch_or_a_commit() {
        let commit = "0123456789abcdef0123456789ABCDEF01234567";
        for head in ["ref: refs/heads/main\n", "ref:refs/x", commit, &format!("{commit}\n")] {
            assert!(names_commit(head.as_bytes()), "{head:?}");
        }
        for head in ["", "a header of mine\n", &commit[..39], "refs/heads/main"] {
            assert!(!names_commit(head.as_bytes()), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn any_path_comes_back_and_never_with_a_control_character(path in "[^\\pC]{1,80}", noise in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(parse_pointer(format!("gitdir: {path}\n").as_bytes()), Ok(PathBuf::from(&path)));
            let hostile = [b"gitdir: ".as_slice(), &noise].concat();
            if let Ok(path) = parse_pointer(&hostile) {
                let bytes = path.as_os_str().as_bytes();
                prop_assert!(!bytes.is_empty() && !bytes.iter().any(u8::is_ascii_control));
            }
            let _ = core_worktree(&noise);
        }
    }
}

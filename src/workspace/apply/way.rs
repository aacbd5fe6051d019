//! Where a path of the host leads, link by link, also where nothing is there yet.
//!
//! canonicalize(3) says nothing of a path whose last part is still to be made, and nothing of the links on the way; a change of
//! either would lead it elsewhere. It only looks: the answer is as old as the look.

use std::path::{Component, Path, PathBuf};

/// The most links that the kernel follows on one way (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A way through the host's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Where it ends; what is not there yet is taken by its spelling. `None`: in a circle, or at a link that can't be read.
    pub end: Option<PathBuf>,
    /// The links that it leads through, and the first name that is not there.
    pub by: Vec<PathBuf>,
}

/// Follows an absolute path name by name.
pub async fn follow(path: &Path) -> Way {
    let mut by = Vec::new();
    let mut reached = PathBuf::from("/");
    let mut rest = path.to_owned();
    loop {
        let mut parts = rest.components();
        let Some(next) = parts.next() else {
            return Way { end: Some(reached), by };
        };
        let after = parts.as_path().to_owned();
        let name = match next {
            Component::Normal(name) => name,
            Component::ParentDir => {
                reached.pop();
                rest = after;
                continue;
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {
                rest = after;
                continue;
            }
        };
        let here = reached.join(name);
        match tokio::fs::symlink_metadata(&here).await {
            Ok(found) if found.is_symlink() => {
                let target = tokio::fs::read_link(&here).await;
                by.push(here);
                let Some(target) = target.ok().filter(|_| by.len() <= MAX_LINKS) else {
                    return Way { end: None, by };
                };
                if target.is_absolute() {
                    reached = PathBuf::from("/");
                }
                rest = target.join(after);
            }
            Ok(_) => {
                reached = here;
                rest = after;
            }
            Err(_) => {
                let end = Some(without_dots(&here.join(after)));
                by.push(here);
                return Way { end, by };
            }
        }
    }
}

/// A path without `.` and `..`, by its spelling.
pub fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make what is followed")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn links_are_followed_and_named_as_far_as_there_is_anything() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir_all(at("b/x")).unwrap();
        symlink("b", at("a")).unwrap();
        symlink(at("a"), at("absolute")).unwrap();
        symlink("nowhere/else", at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (path, end, by) in [
            ("b/x", "b/x", &[][..]),
            ("a/x/../y", "b/y", &["a", "b/y"]),
            ("absolute/x", "b/x", &["absolute", "a"]),
            ("dangling/../z", "nowhere/z", &["dangling", "nowhere"]),
            ("file/below", "file/below", &["file/below"]),
            ("b/./x/../..", "", &[]),
        ] {
            let way = follow(&at(path)).await;
            assert_eq!(way.end, Some(without_dots(&at(end))), "{path}");
            assert_eq!(way.by, by.iter().map(|name| at(name)).collect::<Vec<_>>(), "{path}");
        }
        let circle = follow(&at("circle")).await;
        assert_eq!((circle.end, &circle.by[0]), (None, &at("circle")));
    }
}

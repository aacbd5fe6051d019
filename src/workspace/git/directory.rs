//! Directories that git takes for a repository, whatever they are called.

use crate::workspace::git::{names_git, own};
use std::path::{Path, PathBuf};

/// What git looks for in a directory (`is_git_directory` in its setup.c).
const NAMES: [&str; 4] = ["HEAD", "objects", "refs", "commondir"];

/// What of it a directory has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts([bool; 4]);

impl Parts {
    /// `has` says whether there is something of a name in the directory, of any kind: git follows links.
    pub fn of(has: impl Fn(&str) -> bool) -> Self {
        Self(NAMES.map(has))
    }

    /// In any case: a folding file system gives it to git all the same.
    pub fn add(&mut self, name: &[u8]) {
        for (known, has) in NAMES.iter().zip(&mut self.0) {
            *has |= name.eq_ignore_ascii_case(known.as_bytes());
        }
    }

    pub fn is_git_directory(self) -> bool {
        let [head, objects, refs, common] = self.0;
        head && (common || (objects && refs))
    }
}

/// The git directory that a canonical folder is, or lies in: by its name, or by what it has.
///
/// A worktree that lies in the directory of its own repository is no part of that directory, where the repository says so itself:
/// `git clone --bare` with the worktrees in the clone is a common layout.
pub fn above(folder: &Path) -> Option<PathBuf> {
    if names_git(folder) {
        let named = folder.ancestors().take_while(|above| names_git(above)).last();
        return named.map(Path::to_owned);
    }
    let mut repositories = Vec::new();
    for directory in folder.ancestors() {
        if Parts::of(|name| directory.join(name).symlink_metadata().is_ok()).is_git_directory() {
            let directory = directory.to_owned();
            return (!repositories.contains(&directory)).then_some(directory);
        }
        repositories.extend(own::returned_repository(directory));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::fixtures::{Scene, git_in};

    #[test]
    fn a_folder_in_a_git_directory_is_known_by_its_name_and_by_what_the_directory_has() {
        let scene = Scene::repository();
        scene.write("file", "x");
        scene.commit("one");
        git_in(&scene.folder, &["clone", "-q", "--bare", ".", "mirror.git"]);
        for (inside, git) in [
            (".git", ".git"),
            (".git/hooks", ".git"),
            ("mirror.git", "mirror.git"),
            ("mirror.git/refs/heads", "mirror.git"),
        ] {
            assert_eq!(above(&scene.at(inside)), Some(scene.at(git)), "{inside}");
        }
        assert_eq!(above(Path::new("/p/.GIT/x/.git/y")), Some("/p/.GIT".into()));
        for outside in [".", "x.git/y", ".github"] {
            std::fs::create_dir_all(scene.at(outside)).unwrap();
            assert_eq!(above(&scene.at(outside)), None, "{outside}");
        }
    }

    #[test]
    fn a_worktree_in_its_own_bare_repository_is_none_of_its_files() {
        let scene = Scene::repository();
        scene.write("part/file", "x");
        scene.commit("one");
        git_in(&scene.folder, &["clone", "-q", "--bare", ".", "bare"]);
        git_in(&scene.at("bare"), &["worktree", "add", "-q", "-b", "side", "tree"]);
        for outside in ["bare/tree", "bare/tree/part"] {
            assert_eq!(above(&scene.at(outside)), None, "{outside}");
        }
        // What the folder says by itself doesn't count.
        scene.write("bare/hooks/.git", "gitdir: ../worktrees/tree\n");
        assert_eq!(above(&scene.at("bare/hooks")), Some(scene.at("bare")));
        scene.write("bare/hooks/own/HEAD", "ref: refs/heads/main\n");
        scene.write("bare/hooks/.git", "gitdir: own\n");
        assert_eq!(above(&scene.at("bare/hooks")), Some(scene.at("bare")));
    }
}

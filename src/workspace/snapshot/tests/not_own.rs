//! A folder whose `.git` leads to another repository: its files are taken, and nothing of that repository.

use super::*;
use crate::workspace::selection::Remark;

/// A repository whose history nobody may see, and a folder beside it.
struct Beside {
    private: Scene,
    scene: Scene,
}

impl Beside {
    fn new() -> Self {
        let private = Scene::repository();
        private.write("secret", "the secret\n");
        private.commit("secret");
        let scene = Scene::new();
        scene.write("file", "x");
        scene.write(".gitignore", "/.env\n/.gitignore\n");
        scene.write(".env", "TOKEN=x");
        Self { private, scene }
    }

    /// A repository of the folder's own, whose HEAD is the private one's.
    fn with_own_git(self) -> Self {
        self.scene.run(&["init", "-q", "-b", "main"]);
        let commit = self.private.run(&["rev-parse", "HEAD"]);
        self.scene.write(".git/refs/heads/main", commit);
        self
    }

    /// Puts a link to what the private repository has there into the folder's.
    fn link(&self, place: &str) {
        let own = self.scene.at(".git").join(place);
        match fs::metadata(&own) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&own).unwrap(),
            _ => {}
        }
        symlink(self.private.at(".git").join(place), own).unwrap();
    }

    async fn is_unusable(&self) -> Unusable {
        let taken = self.scene.take(History::Head).await;
        assert_eq!(names(&self.scene.workspace()), ["file"]);
        assert!(!self.scene.workspace().join(".git").exists());
        match &taken.notes[..] {
            [
                Note::Unusable(why),
                Note::Remark {
                    remark: Remark::Ignored,
                    several,
                },
            ] if several.first == Path::new(".env") => why.clone(),
            notes => panic!("{notes:?}"),
        }
    }
}

#[tokio::test]
async fn a_pointer_that_is_not_returned_shows_nothing_of_what_it_names() {
    let beside = Beside::new();
    let git_dir = beside.private.at(".git");
    beside.scene.write(".git", format!("gitdir: {}\n", git_dir.display()));
    let why = beside.is_unusable().await;
    assert_eq!(
        why,
        Unusable::NotReturned {
            git_dir: git_dir.clone()
        }
    );
    let note = Note::Unusable(why)
        .to_string()
        .replace(git_dir.to_str().unwrap(), "GIT");
    insta::assert_snapshot!(note, @"the folder's .git names the git directory GIT, which does not name this folder in return (`git worktree repair` mends a worktree that was moved; for another, set core.worktree to the folder in that directory's own configuration): its files were copied without history, but for what its own .gitignore files name");
}

#[tokio::test]
async fn a_link_in_the_place_of_git_or_in_it_shows_nothing_of_what_it_leads_to() {
    let beside = Beside::new();
    symlink(beside.private.at(".git"), beside.scene.at(".git")).unwrap();
    assert_eq!(beside.is_unusable().await, Unusable::Link);
    for place in ["objects", "objects/pack", "refs", "HEAD", "packed-refs", "shallow"] {
        let beside = Beside::new().with_own_git();
        beside.private.run(&["gc", "-q"]);
        let _ = fs::remove_file(beside.scene.at(".git").join(place));
        beside.link(place);
        let place = place.split('/').next().unwrap();
        let why = beside.is_unusable().await;
        assert!(
            matches!(why, Unusable::LinkInside { place: found } if found == place),
            "{why:?}"
        );
    }
}

#[tokio::test]
async fn a_git_directory_that_takes_from_another_shows_nothing_of_that() {
    let beside = Beside::new();
    let git_dir = beside.private.at(".git");
    beside.scene.write(".git/HEAD", "ref: refs/heads/main\n");
    beside.scene.write(".git/commondir", git_dir.to_str().unwrap());
    assert_eq!(beside.is_unusable().await, Unusable::Shared);

    let beside = Beside::new().with_own_git();
    let objects = beside.private.at(".git/objects");
    beside
        .scene
        .write(".git/objects/info/alternates", objects.to_str().unwrap());
    assert_eq!(beside.is_unusable().await, Unusable::Borrows);
}

#[tokio::test]
async fn a_git_directory_elsewhere_in_the_folder_is_its_own() {
    let scene = Scene::new();
    scene.run(&["init", "-q", "-b", "main", "--separate-git-dir", "real"]);
    scene.write("file", "x");
    scene.run(&["add", "file"]);
    scene.run(&["commit", "-q", "-m", "one"]);
    let taken = scene.take(History::Head).await;
    assert!(
        matches!(&taken.notes[..], [Note::Remark { several, .. }] if several.first == Path::new("real")),
        "{:?}",
        taken.notes
    );
    assert!(!scene.workspace().join("real").exists());
    assert_eq!(scene.inside(&["log", "--format=%s"]), "one");
}

/// Silence would look like a folder without a repository.
#[tokio::test]
async fn a_git_that_can_not_be_used_is_named() {
    let beside = Beside::new().with_own_git();
    beside.scene.run(&["config", "core.bare", "true"]);
    assert_eq!(beside.is_unusable().await, Unusable::Broken);

    let beside = Beside::new();
    beside.scene.write(".git/config", "[core]\n");
    assert_eq!(beside.is_unusable().await, Unusable::Broken);

    let beside = Beside::new();
    beside.scene.write(".git", "no pointer\n");
    assert_eq!(beside.is_unusable().await, Unusable::Broken);

    // Not even where a repository above could be asked instead: the folder is said to be one of its own.
    let above = lived_in();
    above.write("part/.git/HEAD", "x");
    above.write("part/file", "x");
    let job = SnapshotJob {
        folder: above.at("part"),
        ..above.job(History::Head)
    };
    let taken = above.take_job(job).await.unwrap();
    assert_eq!(taken.notes, [Note::Unusable(Unusable::Broken)]);

    let placeholder = Scene::new();
    fs::create_dir(placeholder.at(".git")).unwrap();
    assert_eq!(placeholder.take(History::Head).await.notes, []);
}

#[tokio::test]
async fn a_work_tree_that_another_repository_names_is_a_plain_folder() {
    let beside = Beside::new();
    beside.private.write("part/file", "x");
    beside
        .private
        .run(&["config", "core.worktree", beside.private.at("part").to_str().unwrap()]);
    let job = SnapshotJob {
        folder: beside.private.at("part"),
        ..beside.scene.job(History::Head)
    };
    let taken = beside.scene.take_job(job).await.unwrap();
    assert_eq!(taken.notes, []);
    assert!(!beside.scene.workspace().join(".git").exists());
}

//! A session's private git directory: the objects and the commits of the baselines. No container ever sees it.
//!
//! The first baseline is the copy as it was made; [`super::advance`] moves on from it.

use crate::workspace::blob::{Entry, Inventory, Mode};
use crate::workspace::fast_import::{self, Import};
use crate::workspace::git::command::{Git, OwnRepository};
use crate::workspace::git::run::{self, FEW_LINES, GitError, Stdin, Stdout};
use crate::workspace::git::skeleton::{self, Purpose};
use crate::workspace::git::{ObjectFormat, ObjectId, names_git};
use crate::workspace::listing::{self, Malformed, TreeListing};
use crate::workspace::tree::{HardLinks, Tree, TreeError};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a list of all files may take, in bytes.
pub(in crate::workspace) const MANY_LINES: Stdout = Stdout::Memory(512 << 20);

/// The commit that the baseline has moved on to; there is none as long as it is the first.
pub(in crate::workspace) const BASELINE: &str = "refs/codex-mcp/baseline";

/// Which state later ones are compared with; the first is kept in the session's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// A commit of the shadow. The first has no parents, and its tree is the copy as it was made, byte by byte.
    pub commit: ObjectId,
    pub object_format: ObjectFormat,
}

#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    #[error("{0}")]
    Git(#[from] GitError),
    #[error("can't read the workspace: {0}")]
    Tree(#[from] TreeError),
    #[error("git listed what it does not list: {0}")]
    Listing(#[from] Malformed),
    #[error("can't write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("git fast-import could not be fed: {0}")]
    Feed(#[source] io::Error),
    #[error("the workspace could not be compared with its baseline in {} s; the changes are still in it: ask again when the disk has less \
         to do", .0.as_secs())]
    TooSlow(std::time::Duration),
    #[error(
        "another process moved the session's baseline meanwhile; nothing is lost: compare and apply again, and what the \
         folder has already is found to be there"
    )]
    Moved,
}

/// An open shadow.
#[derive(Debug, Clone)]
pub struct Shadow {
    pub(in crate::workspace) git: Git,
    pub(in crate::workspace) repository: OwnRepository,
    /// Where the session began.
    pub(in crate::workspace) first: Baseline,
}

impl Shadow {
    /// The shadow at this absolute path, as [`super::snapshot::take`] made it.
    pub fn open(git: Git, git_dir: PathBuf, first: Baseline) -> Self {
        Self {
            git,
            repository: OwnRepository { git_dir },
            first,
        }
    }

    /// Every file of a baseline.
    pub(in crate::workspace) async fn files(
        &self,
        commit: &ObjectId,
        cancel: &CancellationToken,
    ) -> Result<Inventory, ShadowError> {
        let tree = list(&self.git, &self.repository, commit, cancel).await?;
        // The baseline was written from an inventory, so every entry is one.
        Ok(tree
            .into_iter()
            .filter_map(|(path, entry)| Some((path, entry?)))
            .collect())
    }
}

/// Where [`BASELINE`] points.
pub(in crate::workspace) async fn reference(
    git: &Git,
    own: &OwnRepository,
    cancel: &CancellationToken,
) -> Result<Option<ObjectId>, ShadowError> {
    let command = git.work(own, "for-each-ref", &["--format=%(objectname)", BASELINE]);
    let name = command.name.clone();
    let answer = run::run(command, Stdin::Empty, FEW_LINES, cancel).await?;
    match answer.trim_ascii_end() {
        b"" => Ok(None),
        id => Ok(Some(ObjectId::parse(id).map_err(|_| GitError::answer(&name, &answer))?)),
    }
}

/// Makes an empty shadow.
pub(in crate::workspace) fn create(git_dir: &Path, format: ObjectFormat) -> Result<OwnRepository, ShadowError> {
    // HEAD names nothing that will ever be: newer versions read attributes from where it points.
    skeleton::make(git_dir, Purpose::Shadow, format, "ref: refs/heads/none").map_err(|source| ShadowError::Write {
        path: git_dir.to_owned(),
        source,
    })?;
    Ok(OwnRepository {
        git_dir: git_dir.to_owned(),
    })
}

/// All files of a commit.
pub(in crate::workspace) async fn list(
    git: &Git,
    own: &OwnRepository,
    commit: &ObjectId,
    cancel: &CancellationToken,
) -> Result<TreeListing, ShadowError> {
    let command = git.work(own, "ls-tree", &["-r", "-z", "--full-tree", &commit.to_string()]);
    let text = run::run(command, Stdin::Empty, MANY_LINES, cancel).await?;
    Ok(listing::tree(&text)?)
}

/// What the shadow has of the source's HEAD already.
pub(in crate::workspace) struct KnownTree {
    pub id: ObjectId,
    pub files: TreeListing,
}

pub(in crate::workspace) async fn known_tree(
    git: &Git,
    own: &OwnRepository,
    commit: &ObjectId,
    cancel: &CancellationToken,
) -> Result<KnownTree, ShadowError> {
    let (files, id) = tokio::join!(list(git, own, commit, cancel), tree_of(git, own, commit, cancel));
    let id = id?;
    Ok(KnownTree { id, files: files? })
}

/// The name of a commit's tree.
pub(in crate::workspace) async fn tree_of(
    git: &Git,
    own: &OwnRepository,
    commit: &ObjectId,
    cancel: &CancellationToken,
) -> Result<ObjectId, ShadowError> {
    let command = git.work(own, "rev-parse", &["--verify", &format!("{commit}^{{tree}}")]);
    let name = command.name.clone();
    let id = run::run(command, Stdin::Empty, FEW_LINES, cancel).await?;
    Ok(ObjectId::parse(id.trim_ascii_end()).map_err(|_| GitError::answer(&name, &id))?)
}

/// Writes the baseline: a commit of all that is in the inventory, whose content is in the copy.
pub(in crate::workspace) async fn write_baseline(
    git: &Git,
    own: &OwnRepository,
    known: Option<KnownTree>,
    inventory: Arc<Inventory>,
    copy: Tree,
    cancel: &CancellationToken,
) -> Result<ObjectId, ShadowError> {
    let fill = move |out| tell_baseline(out, known.as_ref(), &inventory, &copy);
    Ok(import(git, own, cancel, fill).await?.0)
}

fn tell_baseline(
    out: impl Write,
    known: Option<&KnownTree>,
    inventory: &Inventory,
    copy: &Tree,
) -> Result<(), ShadowError> {
    // fast-import refuses to name a `.git`, even to delete it: such a tree can't be started from.
    let start = known.filter(|known| !known.files.keys().any(|path| names_git(path)));
    let mut import = Import::begin(out, start.map(|known| &known.id)).map_err(ShadowError::Feed)?;
    for path in start.iter().flat_map(|known| known.files.keys()) {
        if !inventory.contains_key(path) {
            import.delete(path).map_err(ShadowError::Feed)?;
        }
    }
    for (path, entry) in inventory {
        let before = known.and_then(|known| known.files.get(path)).and_then(Option::as_ref);
        match before {
            Some(before) if before == entry && start.is_some() => {}
            Some(before) if before.id == entry.id => import.known(path, entry).map_err(ShadowError::Feed)?,
            _ => content(&mut import, path, entry, copy)?,
        }
    }
    import.finish().map_err(ShadowError::Feed)
}

fn content(import: &mut Import<impl Write>, path: &Path, entry: &Entry, copy: &Tree) -> Result<(), ShadowError> {
    let unreadable = |errno| TreeError::Unreadable {
        path: path.to_owned(),
        errno,
    };
    if entry.mode == Mode::Symlink {
        let (parent, name) = (
            path.parent().unwrap_or(Path::new("")),
            path.file_name().unwrap_or_default(),
        );
        let directory = copy.directory(parent).map_err(unreadable)?;
        let target = directory.link_target(name).map_err(unreadable)?;
        let target = target.as_os_str().as_bytes();
        let told = import.content(path, entry.mode, target.len() as u64, target);
        return told.map_err(ShadowError::Feed);
    }
    let file = copy.file(path, HardLinks::Allowed)?;
    let size = file.metadata().map_err(ShadowError::Feed)?.len();
    import.content(path, entry.mode, size, file).map_err(ShadowError::Feed)
}

/// Runs `git fast-import` on what `fill` writes (in a thread of its own), and says which commit came of it.
pub(in crate::workspace) async fn import<T, F>(
    git: &Git,
    own: &OwnRepository,
    cancel: &CancellationToken,
    fill: F,
) -> Result<(ObjectId, T), ShadowError>
where
    T: Send + 'static,
    F: FnOnce(BufWriter<PipeWriter>) -> Result<T, ShadowError> + Send + 'static,
{
    let (read, write) = io::pipe().map_err(ShadowError::Feed)?;
    let filling = tokio::task::spawn_blocking(move || fill(BufWriter::with_capacity(64 << 10, write)));
    let command = git.work(own, "fast-import", fast_import::ARGS);
    let name = command.name.clone();
    let stdin = Stdin::File(File::from(OwnedFd::from(read)));
    let answer = run::run(command, stdin, FEW_LINES, cancel).await;
    let filled = filling
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()));
    match (filled, answer) {
        // That git is gone is its own story, and the better one.
        (Err(ShadowError::Feed(error)), Err(git)) if error.kind() == io::ErrorKind::BrokenPipe => Err(git.into()),
        (Err(error), _) => Err(error),
        (Ok(_), Err(git)) => Err(git.into()),
        (Ok(filled), Ok(answer)) => {
            let commit = ObjectId::parse(answer.trim_ascii_end()).map_err(|_| GitError::answer(&name, &answer))?;
            Ok((commit, filled))
        }
    }
}

//! What a dead process left in a shadow.

#![expect(clippy::disallowed_methods, reason = "removes what nobody uses any more")]

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Removes the object directories of comparisons and git's locks and half-written files; says how many there were. Blocks.
///
/// Only for who alone has the session: of a process that is at work this would be its files.
pub fn sweep(git_dir: &Path) -> io::Result<u64> {
    let mut swept = below(git_dir, |name| {
        name.starts_with(super::compare::BESIDE.as_bytes())
            || name.starts_with(b"fast_import_crash_")
            || name.ends_with(b".lock")
    })?;
    swept += below(&git_dir.join("objects/pack"), |name| {
        name.starts_with(b"tmp_") || name.ends_with(b".lock")
    })?;
    let mut directories = vec![git_dir.join("refs")];
    while let Some(directory) = directories.pop() {
        swept += below(&directory, |name| name.ends_with(b".lock"))?;
        for entry in entries(&directory)? {
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(swept)
}

fn below(directory: &Path, is_litter: impl Fn(&[u8]) -> bool) -> io::Result<u64> {
    let mut swept = 0;
    for entry in entries(directory)? {
        let name = entry.file_name();
        if !is_litter(OsStr::as_bytes(&name)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
        swept += 1;
    }
    Ok(swept)
}

/// None where there is no such directory.
fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::History;
    use crate::workspace::fixtures::{BOUNDS, Scene, write};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn litter_goes_and_the_baseline_stays() {
        let scene = Scene::repository();
        scene.write("a", "1");
        scene.commit("one");
        let taken = scene.take(History::Head).await;
        assert_eq!(sweep(&scene.shadow_dir()).unwrap(), 0);
        let cancel = CancellationToken::new();
        write(&scene.workspace(), "a", "2");
        let comparison = scene
            .shadow(&taken)
            .compare(&scene.workspace(), &BOUNDS, &cancel)
            .await
            .unwrap();
        comparison.advance(&["a".into()], &cancel).await.unwrap();
        // As of a process that was killed.
        std::mem::forget(comparison);
        for lock in ["HEAD.lock", "refs/codex-mcp/baseline.lock", "objects/pack/tmp_pack_x"] {
            write(&scene.shadow_dir(), lock, "");
        }
        assert_eq!(sweep(&scene.shadow_dir()).unwrap(), 4);
        let again = scene
            .shadow(&taken)
            .compare(&scene.workspace(), &BOUNDS, &cancel)
            .await
            .unwrap();
        assert_eq!(again.changes, []);
        drop(again);
        assert_eq!(sweep(&scene.shadow_dir()).unwrap(), 0);
    }
}

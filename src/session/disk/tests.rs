//! Real folders, with limits of the tests' own.
#![expect(clippy::disallowed_methods, reason = "tests make and remove files")]

use super::*;
use crate::config::Origin;
use std::fs;
use tempfile::TempDir;

/// Others may free space on this very disk just then, which leaves it to the next count that comes anyway.
const SOON: Duration = decide::FLOOR.saturating_mul(2);

fn limits(bytes: &str, entries: u64, free: &str) -> DiskLimits {
    let size = |text: &str| Sourced::new(text.parse().unwrap(), Origin::Flag { name: "--test" });
    DiskLimits {
        bytes: size(bytes),
        entries: Sourced::new(entries, Origin::Default),
        free: size(free),
    }
}

fn folders(counted: Counted) -> (TempDir, [Watched; 2]) {
    let root = tempfile::tempdir().unwrap();
    let watched = ["workspace", "home"].map(|name| {
        let path = root.path().join(name);
        fs::create_dir(&path).unwrap();
        Watched { path, counted }
    });
    (root, watched)
}

fn write(folder: &Watched, name: &str, mib: usize) {
    fs::write(folder.path.join(name), vec![1; mib << 20]).unwrap();
}

async fn verdict(watch: &mut DiskWatch) -> DiskVerdict {
    tokio::time::timeout(SOON, watch.watch()).await.unwrap()
}

#[tokio::test]
async fn what_is_written_to_both_folders_counts_together() {
    let (_root, watched) = folders(Counted::Everything);
    write(&watched[0], "before", 4);
    let mut watch = DiskWatch::new(&watched, limits("10MiB", 1000, "1KiB")).unwrap();
    assert_eq!(watch.last(), None);
    watch.ready().await.unwrap();
    assert!(watch.last().unwrap().bytes >= 4 << 20);
    write(&watched[0], "more", 4);
    write(&watched[1], "more", 4);
    let verdict = verdict(&mut watch).await;
    assert!(
        matches!(&verdict, DiskVerdict::Bytes { found, .. } if (12 << 20..13 << 20).contains(found)),
        "{verdict:?}"
    );
    assert!(
        matches!(super::tests::verdict(&mut watch).await, DiskVerdict::Bytes { .. }),
        "and stays so"
    );
}

/// Its user may rename the folder, or mount another in its place.
#[tokio::test]
async fn a_folder_that_lost_its_name_is_still_watched() {
    let (root, watched) = folders(Counted::Everything);
    let mut watch = DiskWatch::new(&watched, limits("10MiB", 1000, "1KiB")).unwrap();
    watch.ready().await.unwrap();
    let moved = root.path().join("moved");
    fs::rename(&watched[0].path, &moved).unwrap();
    fs::write(moved.join("large"), vec![1; 12 << 20]).unwrap();
    let verdict = verdict(&mut watch).await;
    assert!(matches!(verdict, DiskVerdict::Bytes { .. }), "{verdict:?}");
    assert!(room(&watch.folders).is_ok());
}

/// Gives up and asks again, as a loop over several things does.
#[tokio::test]
async fn a_watch_that_is_given_up_loses_nothing() {
    let (_root, watched) = folders(Counted::Everything);
    let mut watch = DiskWatch::new(&watched, limits("10MiB", 1000, "1KiB")).unwrap();
    watch.ready().await.unwrap();
    write(&watched[0], "large", 12);
    let asking = async {
        loop {
            if let Ok(verdict) = tokio::time::timeout(Duration::from_millis(1), watch.watch()).await {
                return verdict;
            }
        }
    };
    let verdict = tokio::time::timeout(SOON, asking).await.unwrap();
    assert!(matches!(verdict, DiskVerdict::Bytes { .. }), "{verdict:?}");
}

#[tokio::test]
async fn of_the_users_own_folder_growth_counts() {
    let (_root, watched) = folders(Counted::Growth);
    write(&watched[0], "theirs", 20);
    for number in 0..50 {
        write(&watched[1], &number.to_string(), 0);
    }
    let mut watch = DiskWatch::new(&watched, limits("10MiB", 20, "1KiB")).unwrap();
    watch.ready().await.unwrap();
    assert_eq!(watch.last(), Some(Usage::default()));
    write(&watched[0], "grown", 12);
    let verdict = verdict(&mut watch).await;
    assert!(
        matches!(&verdict, DiskVerdict::Bytes { found, .. } if (12 << 20..13 << 20).contains(found)),
        "{verdict:?}"
    );

    let mut watch = DiskWatch::new(&watched, limits("10MiB", 20, "1KiB")).unwrap();
    watch.ready().await.unwrap();
    for number in 0..21 {
        write(&watched[1], &format!("more-{number}"), 0);
    }
    watch.count();
    let verdict = super::tests::verdict(&mut watch).await;
    assert!(matches!(verdict, DiskVerdict::Entries { .. }), "{verdict:?}");
}

#[tokio::test]
async fn more_files_than_may_be_are_not_counted_to_the_end() {
    let (_root, watched) = folders(Counted::Everything);
    for number in 0..6 {
        write(&watched[0], &number.to_string(), 0);
        write(&watched[1], &number.to_string(), 0);
    }
    for (most, fine) in [(12, true), (11, false), (3, false)] {
        let mut watch = DiskWatch::new(&watched, limits("1GiB", most, "1KiB")).unwrap();
        assert_eq!(watch.ready().await.is_ok(), fine, "{most}");
        assert_eq!(watch.last().unwrap().entries, most.saturating_add(1).min(12), "{most}");
    }
}

#[tokio::test]
async fn a_disk_that_is_short_from_the_beginning_ends_who_grows() {
    let (_root, watched) = folders(Counted::Everything);
    let mut watch = DiskWatch::new(&watched, limits("1TiB", 1000, "1000000TiB")).unwrap();
    watch.ready().await.unwrap();
    write(&watched[1], "large", 20);
    let verdict = verdict(&mut watch).await;
    assert!(
        matches!(&verdict, DiskVerdict::Short { grown, .. } if *grown >= 20 << 20),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_refused() {
    let (root, watched) = folders(Counted::Everything);
    fs::remove_dir(root.path().join("home")).unwrap();
    assert!(matches!(
        DiskWatch::new(&watched, limits("1GiB", 1, "1KiB")),
        Err(Uncountable::Tree(TreeError::Unreadable { .. }))
    ));
    let mut watch = DiskWatch::new(&watched[..1], limits("1GiB", 1, "1KiB")).unwrap();
    watch.ready().await.unwrap();
    fs::remove_dir(root.path().join("workspace")).unwrap();
    let verdict = verdict(&mut watch).await;
    assert!(matches!(verdict, DiskVerdict::Uncountable(_)), "{verdict:?}");
}

#[test]
fn verdicts_teach() {
    let limits = limits("10GiB", 200_000, "1GiB");
    let at = PathBuf::from("/home/me/.local/state/codex-mcp");
    let verdicts = [
        DiskVerdict::Bytes {
            found: 11_000_000_000,
            hidden: None,
            limit: limits.bytes.clone(),
        },
        DiskVerdict::Entries {
            hidden: Some("/state/workspace/\u{1b}[2Jclosed".into()),
            limit: limits.entries,
        },
        DiskVerdict::Short {
            free: 900 << 20,
            grown: 3 << 30,
            at: at.clone(),
            limit: limits.free.clone(),
        },
        DiskVerdict::Unexplained {
            free: 400 << 20,
            lost: 5 << 30,
            at,
            limit: limits.free,
        },
    ];
    let texts: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

//! What git lists with `-z`, parsed. Paths are bytes; each is checked to lead down, and nowhere into a `.git`.

use crate::workspace::blob::{Entry, Mode};
use crate::workspace::git::{ObjectId, names_git};
use crate::workspace::selection::{Extent, Listed};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A line that is not in the form that git documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}")]
pub struct Malformed(String);

fn malformed(record: &[u8]) -> Malformed {
    Malformed(String::from_utf8_lossy(record).chars().take(200).collect())
}

fn records(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == 0).filter(|record| !record.is_empty())
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn leads_down(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().next().is_some()
}

/// `ls-files --stage` and `ls-files --others`: what to copy, each path once. What an index says of a `.git` is left out.
pub fn files(tracked: &[u8], untracked: &[u8]) -> Result<Vec<Listed>, Malformed> {
    let mut files = BTreeMap::new();
    for record in records(tracked) {
        let (head, path) = split_once(record, b'\t').ok_or_else(|| malformed(record))?;
        let extent = if head.starts_with(b"160000 ") {
            Extent::Whole
        } else {
            Extent::Entry
        };
        files.insert(path_of(path), extent);
    }
    for record in records(untracked) {
        let (path, extent) = match record.strip_suffix(b"/") {
            Some(path) => (path, Extent::Whole),
            None => (record, Extent::Offered),
        };
        files.insert(path_of(path), extent);
    }
    let listed = files
        .into_iter()
        .filter(|(path, _)| leads_down(path) && !names_git(path));
    Ok(listed
        .map(|(path, extent)| Listed {
            path: path.to_owned(),
            extent,
        })
        .collect())
}

/// What a commit's tree holds: `None` for what is no file of ours (a submodule, a mode that is written in another way).
pub type TreeListing = BTreeMap<PathBuf, Option<Entry>>;

/// `ls-tree -r -z --full-tree`: `MODE TYPE ID\tPATH`.
pub fn tree(text: &[u8]) -> Result<TreeListing, Malformed> {
    let mut tree = TreeListing::new();
    for record in records(text) {
        let refused = || malformed(record);
        let (head, path) = split_once(record, b'\t').ok_or_else(refused)?;
        let mut words = head.split(|byte| *byte == b' ');
        let (mode, id) = (words.next().ok_or_else(refused)?, words.nth(1).ok_or_else(refused)?);
        let id = ObjectId::parse(id).map_err(|_| refused())?;
        let entry = Mode::parse(mode).map(|mode| Entry { mode, id });
        tree.insert(path_of(path).to_owned(), entry);
    }
    Ok(tree)
}

/// `rev-list --parents HEAD` → the commits at which a history of `depth` commits from its head ends, as a clone of that
/// depth would have it; `already` are those at which the repository itself is cut.
pub fn cuts(text: &[u8], depth: u32, already: &[ObjectId]) -> Result<Vec<ObjectId>, Malformed> {
    let mut parents: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    let mut head = None;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut ids = line.split(|byte| *byte == b' ');
        let commit = ids.next().ok_or_else(|| malformed(line))?;
        head.get_or_insert(commit);
        parents.insert(commit, ids.collect());
    }
    let mut reached: HashSet<&[u8]> = head.into_iter().collect();
    let mut level: Vec<&[u8]> = head.into_iter().collect();
    let mut ends: Vec<&[u8]> = Vec::new();
    for step in 1..=depth {
        let mut next = Vec::new();
        for commit in level {
            let before = parents.get(commit).map(Vec::as_slice).unwrap_or_default();
            if step == depth && !before.is_empty() {
                ends.push(commit);
            }
            if step < depth {
                next.extend(before.iter().copied().filter(|parent| reached.insert(parent)));
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    let ends = ends
        .into_iter()
        .map(|id| ObjectId::parse(id).map_err(|_| malformed(id)));
    let mut cuts: Vec<ObjectId> = ends.collect::<Result<_, _>>()?;
    let reached_already = already.iter().filter(|id| reached.contains(id.to_string().as_bytes()));
    cuts.extend(reached_already.cloned());
    Ok(cuts)
}

fn split_once(record: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = record.iter().position(|byte| *byte == separator)?;
    Some((record.get(..at)?, record.get(at + 1..)?))
}

/// One file of a comparison, as `diff-tree -r -z -M --raw --numstat` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub path: PathBuf,
    /// Where it was, if it moved.
    pub renamed_from: Option<PathBuf>,
    /// git's letter: A, D, M, T, R.
    pub status: u8,
    /// Lines; `None` where it is binary.
    pub insertions: Option<u64>,
    pub deletions: Option<u64>,
}

/// The raw records come first, each with one path or two, and then the numbers.
pub fn differences(text: &[u8]) -> Result<Vec<Difference>, Malformed> {
    let mut fields = text
        .split(|byte| *byte == 0)
        .filter(|field| !field.is_empty())
        .peekable();
    let mut differences = Vec::new();
    let mut by_path = HashMap::new();
    while let Some(head) = fields.next_if(|field| field.starts_with(b":")) {
        let refused = || malformed(head);
        let status = head
            .rsplit(|byte| *byte == b' ')
            .next()
            .and_then(|letter| letter.first());
        let status = *status.ok_or_else(refused)?;
        let first = fields.next().ok_or_else(refused)?;
        let (renamed_from, path) = match status {
            b'R' | b'C' => (Some(first), fields.next().ok_or_else(refused)?),
            _ => (None, first),
        };
        by_path.insert(path, differences.len());
        differences.push(Difference {
            path: path_of(path).to_owned(),
            renamed_from: renamed_from.map(|path| path_of(path).to_owned()),
            status,
            insertions: None,
            deletions: None,
        });
    }
    while let Some(record) = fields.next() {
        let refused = || malformed(record);
        let (insertions, rest) = split_once(record, b'\t').ok_or_else(refused)?;
        let (deletions, path) = split_once(rest, b'\t').ok_or_else(refused)?;
        let path = if path.is_empty() {
            fields.next().ok_or_else(refused)?;
            fields.next().ok_or_else(refused)?
        } else {
            path
        };
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
        let difference = by_path
            .get(path)
            .and_then(|at| differences.get_mut(*at))
            .ok_or_else(refused)?;
        difference.insertions = number(insertions);
        difference.deletions = number(deletions);
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_listed_once_and_none_leads_out() {
        let id = "1".repeat(40);
        let tracked = format!(
            "100644 {id} 1\tboth\0100644 {id} 2\tboth\0160000 {id} 0\tsub\0100644 {id} 0\t.git/config\0100644 {id} 0\t../up\0"
        );
        let listed = files(tracked.as_bytes(), b"new\nline\0nested/\0/etc/passwd\0").unwrap();
        let listed: Vec<(&str, Extent)> = listed
            .iter()
            .map(|file| (file.path.to_str().unwrap(), file.extent))
            .collect();
        assert_eq!(
            listed,
            [
                ("both", Extent::Entry),
                ("nested", Extent::Whole),
                ("new\nline", Extent::Offered),
                ("sub", Extent::Whole)
            ]
        );
        assert!(files(b"no tab\0", b"").is_err());
    }

    fn id(digit: char) -> ObjectId {
        ObjectId::parse(digit.to_string().repeat(40).as_bytes()).unwrap()
    }

    fn history(lines: &[(char, &str)]) -> String {
        let name = |digit: char| digit.to_string().repeat(40);
        lines
            .iter()
            .map(|(commit, parents)| {
                let all: Vec<String> = std::iter::once(*commit).chain(parents.chars()).map(name).collect();
                format!("{}\n", all.join(" "))
            })
            .collect()
    }

    #[test]
    fn history_ends_where_a_clone_of_that_depth_would() {
        // 5 merges 4 and 3, which both come from 2, which comes from 1.
        let text = history(&[('5', "43"), ('4', "2"), ('3', "2"), ('2', "1"), ('1', "")]);
        let cuts = |depth, already: &[ObjectId]| super::cuts(text.as_bytes(), depth, already).unwrap();
        assert_eq!(cuts(1, &[]), [id('5')]);
        assert_eq!(cuts(2, &[]), [id('4'), id('3')]);
        assert_eq!(cuts(3, &[]), [id('2')]);
        assert_eq!(cuts(4, &[]), []);
        assert_eq!(cuts(9, &[id('1'), id('7')]), [id('1')]);
        assert_eq!(cuts(2, &[id('1')]), [id('4'), id('3')]);
    }

    #[test]
    fn numbers_find_their_files() {
        let ids = format!("{} {}", "1".repeat(40), "2".repeat(40));
        let text = format!(
            ":100644 100644 {ids} M\0:colon\0:100644 100644 {ids} R090\0old\0new\0:000000 100644 {ids} A\0bin\0\
             1\t2\t:colon\03\t0\t\0old\0new\0-\t-\tbin\0"
        );
        let found = differences(text.as_bytes()).unwrap();
        let of = |at: usize| &found[at];
        assert_eq!(
            (of(0).insertions, of(0).deletions, of(0).status),
            (Some(1), Some(2), b'M')
        );
        assert_eq!(of(1).renamed_from.as_deref(), Some(Path::new("old")));
        assert_eq!((of(1).insertions, of(1).deletions), (Some(3), Some(0)));
        assert_eq!((of(2).insertions, of(2).status), (None, b'A'));
        assert!(differences(b":100644 100644 x y M\0").is_err());
        assert!(differences(b"1\t2\tunknown\0").is_err());
    }
}

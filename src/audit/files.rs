//! The files of an audit: `STATE/audit/CHAIN/000001.jsonl`, `000002.jsonl`, …; and which of them have to go.
//!
//! A live server holds a lock on its chain's directory, which the kernel releases however the server ends. What such a
//! server still writes is never chosen.
#![expect(clippy::disallowed_methods, reason = "lists the audit's directories")]

use crate::audit::chain::ChainId;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The audit's directory below the state directory.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("audit")
}

/// A file's name from its number; numbers begin at 1.
pub fn name(number: u64) -> String {
    format!("{number:06}.jsonl")
}

fn number(name: &str) -> Option<u64> {
    let number: u64 = name.strip_suffix(".jsonl")?.parse().ok()?;
    // One spelling a number, or two names could be one file of the chain.
    (number > 0 && self::name(number) == name).then_some(number)
}

/// What is there of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFiles {
    pub chain: ChainId,
    pub path: PathBuf,
    pub life: Life,
    /// By number.
    pub files: Vec<Part>,
}

/// Whether a server still writes a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Live,
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub number: u64,
    pub bytes: u64,
    pub modified: SystemTime,
}

impl ChainFiles {
    pub fn path_of(&self, number: u64) -> PathBuf {
        self.path.join(name(number))
    }
}

/// Every chain below the audit's directory, oldest first; none where there is no such directory.
///
/// # Errors
///
/// Where a directory can't be read.
pub fn list(directory: &Path) -> io::Result<Vec<ChainFiles>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut chains = Vec::new();
    for entry in entries {
        let entry = entry?;
        let chain = entry.file_name().to_str().and_then(ChainId::parse);
        let Some(chain) = chain.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) else {
            continue;
        };
        let path = entry.path();
        chains.push(ChainFiles {
            life: life(&path)?,
            files: parts(&path)?,
            chain,
            path,
        });
    }
    chains.sort_by(|one, other| one.chain.cmp(&other.chain));
    Ok(chains)
}

fn parts(chain: &Path) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(chain)? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(number) else {
            continue;
        };
        let metadata = entry.metadata()?;
        parts.push(Part {
            number,
            bytes: metadata.len(),
            modified: metadata.modified()?,
        });
    }
    parts.sort_by_key(|part| part.number);
    Ok(parts)
}

/// Marks a chain as live for as long as the returned file is open in this process.
pub fn claim(chain: &Path) -> io::Result<File> {
    let directory = open_directory(chain)?;
    directory.lock()?;
    Ok(directory)
}

fn life(chain: &Path) -> io::Result<Life> {
    match open_directory(chain)?.try_lock_shared() {
        Ok(()) => Ok(Life::Over),
        Err(TryLockError::WouldBlock) => Ok(Life::Live),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
        .open(path)
}

/// A file that goes, by its chain's place in the list that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doomed {
    pub chain: usize,
    pub number: u64,
    pub bytes: u64,
}

/// What has to go so that files which nobody writes any more take no more than `keep` bytes. Of a chain the first files go
/// first, so that what is left of it is whole; of several chains, the file that was written to longest ago.
pub fn to_prune(chains: &[ChainFiles], keep: u64) -> Vec<Doomed> {
    let mut over: Vec<VecDeque<&Part>> = chains
        .iter()
        .map(|chain| {
            let written = match chain.life {
                Life::Live => 1,
                Life::Over => 0,
            };
            let over = chain.files.len().saturating_sub(written);
            chain.files.iter().take(over).collect()
        })
        .collect();
    let mut left: u64 = over.iter().flatten().map(|part| part.bytes).sum();
    let mut doomed = Vec::new();
    while left > keep {
        let oldest = over
            .iter()
            .enumerate()
            .filter_map(|(chain, parts)| Some((parts.front()?.modified, chain)))
            .min();
        let Some((_, chain)) = oldest else { break };
        let Some(part) = over.get_mut(chain).and_then(VecDeque::pop_front) else {
            break;
        };
        left = left.saturating_sub(part.bytes);
        doomed.push(Doomed {
            chain,
            number: part.number,
            bytes: part.bytes,
        });
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn chain(life: Life, files: &[(u64, u64, u64)]) -> ChainFiles {
        let part = |(number, bytes, modified): &(u64, u64, u64)| Part {
            number: *number,
            bytes: *bytes,
            modified: UNIX_EPOCH + Duration::from_secs(*modified),
        };
        ChainFiles {
            chain: ChainId::new("2026-11-22T13:50:05Z", [0; 6]),
            path: PathBuf::new(),
            life,
            files: files.iter().map(part).collect(),
        }
    }

    fn doomed(chains: &[ChainFiles], keep: u64) -> Vec<(usize, u64)> {
        let doomed = to_prune(chains, keep);
        doomed.iter().map(|part| (part.chain, part.number)).collect()
    }

    #[test]
    fn the_oldest_go_first_and_a_chain_from_its_beginning() {
        let chains = [
            // Its clock was set back between its files.
            chain(Life::Over, &[(3, 10, 50), (4, 10, 20)]),
            chain(Life::Live, &[(1, 10, 30), (2, 10, 10)]),
        ];
        assert_eq!(doomed(&chains, 30), []);
        assert_eq!(doomed(&chains, 29), [(1, 1)]);
        assert_eq!(doomed(&chains, 10), [(1, 1), (0, 3)]);
        assert_eq!(
            doomed(&chains, 0),
            [(1, 1), (0, 3), (0, 4)],
            "never what is being written"
        );
    }

    #[test]
    fn what_is_no_file_of_a_chain_is_not_one() {
        for name in [
            "1.jsonl",
            "000000.jsonl",
            "+00001.jsonl",
            "000001.json",
            "000001.jsonl~",
            "x",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
        assert_eq!(number("000012.jsonl"), Some(12));
        assert_eq!(number("1234567.jsonl"), Some(1_234_567));
    }

    #[test]
    fn a_chain_lives_as_long_as_it_is_claimed() {
        let audit = tempfile::tempdir().unwrap();
        let id = ChainId::new("2026-11-22T13:50:05Z", [1; 6]);
        let path = audit.path().join(id.as_str());
        fs::create_dir(&path).unwrap();
        fs::create_dir(audit.path().join("something else")).unwrap();
        let life = || {
            let chains = list(audit.path()).unwrap();
            assert_eq!(chains.len(), 1);
            chains[0].life
        };
        assert_eq!(life(), Life::Over);
        let claim = claim(&path).unwrap();
        assert_eq!(life(), Life::Live);
        drop(claim);
        assert_eq!(life(), Life::Over);
        assert_eq!(list(&audit.path().join("none")).unwrap(), []);
    }
}

//! Every chain of an audit against its own links, and against anchors that somebody kept.

use crate::audit::chain::{Anchor, Broken, ChainId, Intact, Place, Tip, Verifier, Why};
use crate::audit::files::{self, ChainFiles, Life};
use crate::audit::reader::{self, Line};
use std::io;
use std::path::{Path, PathBuf};

/// What one chain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub chain: ChainId,
    pub life: Life,
    pub found: Found,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Intact {
        intact: Intact,
        /// Bytes of a last record that was never finished: its server was killed, or had no room.
        torn: Option<u64>,
    },
    /// Its server was ended before it wrote anything.
    Empty,
    Broken {
        path: PathBuf,
        broken: Broken,
    },
}

/// Why the audit could not be checked.
#[derive(Debug, thiserror::Error)]
#[error("can't read {}: {source}", path.display())]
pub struct Unreadable {
    pub path: PathBuf,
    pub source: io::Error,
}

/// All chains, and anchors of chains that are not there.
#[derive(Debug)]
pub struct Report {
    /// Oldest first.
    pub chains: Vec<Checked>,
    pub missing: Vec<Anchor>,
}

impl Report {
    pub fn is_whole(&self) -> bool {
        let broken = |checked: &Checked| matches!(checked.found, Found::Broken { .. });
        self.missing.is_empty() && !self.chains.iter().any(broken)
    }
}

/// Checks the audit below a state directory. Blocks.
///
/// # Errors
///
/// Where something can't be read, which says nothing about what is in it.
pub fn verify(state_dir: &Path, anchors: &[Anchor]) -> Result<Report, Unreadable> {
    let audit = files::directory(state_dir);
    let chains = files::list(&audit).map_err(|source| Unreadable { path: audit, source })?;
    let is_there = |anchor: &&Anchor| chains.iter().any(|chain| chain.chain == anchor.chain);
    let missing = anchors.iter().filter(|anchor| !is_there(anchor)).cloned().collect();
    let check = |chain: &ChainFiles| {
        let own = anchors.iter().filter(|anchor| anchor.chain == chain.chain);
        Ok(Checked {
            chain: chain.chain.clone(),
            life: chain.life,
            found: check(chain, own.map(|anchor| anchor.tip).collect())?,
        })
    };
    let chains = chains.iter().map(check).collect::<Result<_, Unreadable>>()?;
    Ok(Report { chains, missing })
}

fn check(chain: &ChainFiles, anchors: Vec<Tip>) -> Result<Found, Unreadable> {
    let mut verifier = Verifier::new(anchors);
    let mut torn = None;
    for part in &chain.files {
        let path = chain.path_of(part.number);
        let unreadable = |source| Unreadable {
            path: path.clone(),
            source,
        };
        let is_last = chain.files.last() == Some(part);
        for (at, line) in (1..).zip(reader::open(&path).map_err(unreadable)?) {
            let at = Place {
                file: part.number,
                line: at,
            };
            let broken = |why| Err(Broken { at, why });
            let taken = match line.map_err(unreadable)? {
                Line::Whole(line) => verifier.line(at, &line),
                Line::TooLong => broken(Why::NoRecord),
                Line::Torn(_) if verifier.has_ended() => broken(Why::AfterEnd),
                Line::Torn(_) if !is_last => broken(Why::TornInside),
                Line::Torn(bytes) => {
                    torn = Some(bytes);
                    Ok(())
                }
            };
            if let Err(broken) = taken {
                return Ok(self::broken(chain, broken));
            }
        }
    }
    Ok(match verifier.finish() {
        Ok(Some(intact)) => Found::Intact { intact, torn },
        Ok(None) => Found::Empty,
        Err(broken) => self::broken(chain, broken),
    })
}

fn broken(chain: &ChainFiles, broken: Broken) -> Found {
    Found::Broken {
        path: chain.path_of(broken.at.file),
        broken,
    }
}

#[cfg(test)]
mod tests;

//! What a person should know about a snapshot.

use crate::wire::untrusted::Untrusted;
use crate::workspace::copy::Several;
use crate::workspace::git::own::Unusable;
use crate::workspace::selection::Remark;
use std::fmt;
use std::path::PathBuf;

/// Something of it that is not as one might think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The folder lies in this repository, below its top level.
    BelowTopLevel { top: PathBuf },
    /// The repository above ignores the folder.
    Ignored { top: PathBuf },
    /// The repository above lists nothing in the folder.
    NothingListed { top: PathBuf },
    /// The folder's `.git` is not used.
    Unusable(Unusable),
    /// Something was not taken, or was although it should not have been.
    Remark { remark: Remark, several: Several },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowTopLevel { top } => write!(
                f,
                "the folder is a part of the repository {}: it was copied without history, which would show the rest of \
                 it; name the repository itself to have both",
                top.display()
            ),
            Self::Ignored { top } => write!(
                f,
                "the repository {} ignores this folder: all of its files were copied, without history, as those of a folder \
                 without a repository",
                top.display()
            ),
            Self::NothingListed { top } => write!(
                f,
                "nothing was copied: all files in the folder, if there are any, are ignored by the repository {}",
                top.display()
            ),
            Self::Unusable(why) => {
                write!(
                    f,
                    "the folder's .git {why}: its files were copied without history, but for what its own .gitignore files name"
                )
            }
            Self::Remark { remark, several } => match remark {
                Remark::GitDirectory => write!(
                    f,
                    "not copied: git directories, whose configuration may hold credentials ({})",
                    Named(several)
                ),
                Remark::Ignored => write!(
                    f,
                    "not copied: what a .gitignore names where git is not asked, so that what is tracked all the same is missing \
                     too ({})",
                    Named(several)
                ),
                Remark::Unread => write!(
                    f,
                    "copied with all that they name: .gitignore files of more patterns than are read ({})",
                    Named(several)
                ),
            },
        }
    }
}

struct Named<'s>(&'s Several);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Several { count, first } = self.0;
        f.write_str(&Untrusted::new(first.to_string_lossy()).one_line(200))?;
        match count {
            1 => Ok(()),
            _ => write!(f, " and {} more", count - 1),
        }
    }
}

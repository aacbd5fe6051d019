//! What becomes of each change, decided from three states of its path: what the session began with, what it made of it, and what
//! the host has now. Pure.
//!
//! A state is known by git's name of its content, so nothing but text that both sides changed has to be read for this.

use crate::workspace::apply::git_directory;
use crate::workspace::apply::path::{LinkFlaw, RelativePath};
pub use crate::workspace::apply::reason::{Conflict, Refusal};
use crate::workspace::apply::runs_by_itself;
use crate::workspace::git::ObjectId;
use crate::workspace::git::directory::Parts;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is at a path, as far as git keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Absent,
    File {
        id: ObjectId,
        executable: bool,
    },
    /// The name of its target.
    Symlink {
        id: ObjectId,
    },
}

/// One path that the session changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: RelativePath,
    pub base: State,
    pub session: State,
}

/// What the host has at a path now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nothing,
    File(HostFile),
    Symlink {
        id: ObjectId,
    },
    Directory,
    /// A socket, FIFO or device.
    Special,
    /// We may not look.
    Unreadable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    pub id: ObjectId,
    pub attributes: Attributes,
}

/// What a file that is replaced hands on to the one that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Attributes {
    pub fn is_executable(self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// The host folder, as far as it concerns the changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Every changed path and every directory above one; what is below something that is no directory is left out.
    pub found: BTreeMap<RelativePath, Found>,
    /// What lies below each directory that stands where a file is to be; `None` where it is more than is looked at.
    pub occupants: BTreeMap<RelativePath, Option<Occupants>>,
    /// What each directory above a change has of a git directory; `None` is the folder itself.
    pub git_parts: BTreeMap<Option<RelativePath>, Parts>,
    /// The directories above a change, the folder apart, that have a `.git`.
    pub repositories: BTreeSet<RelativePath>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupants {
    pub files: Vec<RelativePath>,
    pub directories: Vec<RelativePath>,
}

/// Who wanted the changes on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Somebody asked for just these changes.
    Explicit,
    /// `workspace.apply = "turn"`: nobody has looked at them.
    EachTurn,
}

/// What the rules are for this folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub consent: Consent,
    /// From where git runs hooks, in this repository and in those below it, as far as that lies in the folder.
    pub hooks: Vec<RelativePath>,
}

/// One effect on the host folder. They are carried out in the order of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Remove {
        path: RelativePath,
        before: State,
    },
    /// Where a file is to be. Empty by then.
    RemoveDirectory {
        path: RelativePath,
    },
    MakeDirectory {
        path: RelativePath,
    },
    Put {
        path: RelativePath,
        before: State,
        after: State,
        replaces: Option<Attributes>,
    },
    SetExecutable {
        path: RelativePath,
        before: State,
        after: State,
        mode: u32,
    },
}

impl Step {
    pub fn path(&self) -> &RelativePath {
        match self {
            Self::Remove { path, .. }
            | Self::RemoveDirectory { path }
            | Self::MakeDirectory { path }
            | Self::Put { path, .. }
            | Self::SetExecutable { path, .. } => path,
        }
    }
}

/// A file that both sides changed: its text has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextMerge {
    pub path: RelativePath,
    pub base: ObjectId,
    pub session: ObjectId,
    pub host: HostFile,
    /// What the merged file is to be.
    pub executable: bool,
}

/// What is to be done about all changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Complete but for the results of `merges`.
    pub steps: Vec<Step>,
    pub merges: Vec<TextMerge>,
    pub conflicts: Vec<(RelativePath, Conflict)>,
    pub refused: Vec<(RelativePath, Refusal)>,
    /// Left out because of [`Consent::EachTurn`], with the reason.
    pub held: Vec<(RelativePath, &'static str)>,
    /// Runs by itself and is among the steps or merges.
    pub runs_by_itself: Vec<(RelativePath, &'static str)>,
    /// The host has it already.
    pub already: Vec<RelativePath>,
}

/// What a single path comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Already,
    /// The session's state, over the host's.
    Take(State),
    SetExecutable(bool),
    Merge {
        base: ObjectId,
        session: ObjectId,
        executable: bool,
    },
    Conflict(Conflict),
}

fn compare(base: &State, session: &State, host: &State) -> Verdict {
    if session == host {
        return Verdict::Already;
    }
    if let (
        State::File {
            id: base,
            executable: base_runs,
        },
        State::File {
            id: session,
            executable: session_runs,
        },
        State::File {
            id: host,
            executable: host_runs,
        },
    ) = (base, session, host)
    {
        // Two sides that both flipped one bit flipped it to the same.
        let executable = if base_runs == host_runs {
            *session_runs
        } else {
            *host_runs
        };
        return if session == host || session == base {
            if executable == *host_runs {
                Verdict::Already
            } else {
                Verdict::SetExecutable(executable)
            }
        } else if host == base {
            let id = session.clone();
            Verdict::Take(State::File { id, executable })
        } else {
            let (base, session) = (base.clone(), session.clone());
            Verdict::Merge {
                base,
                session,
                executable,
            }
        };
    }
    if base == host {
        return Verdict::Take(session.clone());
    }
    Verdict::Conflict(match (base, session, host) {
        (State::Absent, _, _) => Conflict::BothAdded,
        (_, State::Absent, _) => Conflict::DeletedInSession,
        (_, _, State::Absent) => Conflict::DeletedOnHost,
        (State::Symlink { .. }, State::Symlink { .. }, State::Symlink { .. }) => Conflict::Links,
        _ => Conflict::Kinds,
    })
}

/// Decides about all changes. `links` are the flaws that were found in the targets of the session's links.
pub fn decide(
    changes: &[Change],
    links: &BTreeMap<RelativePath, LinkFlaw>,
    facts: &HostFacts,
    rules: &Rules,
) -> Decision {
    let mut deciding = Deciding {
        facts,
        rules,
        git_directories: git_directory::find(changes, &facts.git_parts),
        removed: BTreeSet::new(),
        removals: Vec::new(),
        made: BTreeSet::new(),
        cleared: BTreeSet::new(),
        writes: Vec::new(),
        decision: Decision::default(),
    };
    // Removals first: what is gone is in nobody's way.
    let (gone, kept): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| change.session == State::Absent);
    for change in gone.into_iter().chain(kept) {
        if let Some(flaw) = links.get(&change.path) {
            deciding.decision.refused.push((change.path.clone(), (*flaw).into()));
        } else {
            deciding.change(change);
        }
    }
    deciding.finish()
}

struct Deciding<'d> {
    facts: &'d HostFacts,
    rules: &'d Rules,
    git_directories: BTreeSet<Option<RelativePath>>,
    removed: BTreeSet<RelativePath>,
    removals: Vec<Step>,
    /// Directories that are missing on the host.
    made: BTreeSet<RelativePath>,
    /// Directories that make way for a file.
    cleared: BTreeSet<RelativePath>,
    writes: Vec<Step>,
    decision: Decision,
}

/// What a path comes upon.
enum Place {
    State(State),
    File(HostFile),
    Directory,
    Conflict(Conflict),
    Refused(Refusal),
}

impl Deciding<'_> {
    fn change(&mut self, change: &Change) {
        let path = &change.path;
        // A link or file in the place of a directory above the hooks would bring its own.
        let hooks = &self.rules.hooks;
        if hooks.iter().any(|hooks| path.is_within(hooks) || hooks.is_within(path)) {
            return self.refuse(path, Refusal::Hooks);
        }
        if change.session != State::Absent && git_directory::is_in_one(path, &self.git_directories) {
            return self.refuse(path, Refusal::GitDirectory);
        }
        let mut replaces = None;
        let host = match self.place(change) {
            Place::State(state) => state,
            Place::File(file) => {
                replaces = Some(file.clone());
                State::File {
                    executable: file.attributes.is_executable(),
                    id: file.id,
                }
            }
            Place::Directory => match self.clear(change) {
                // As good as absent: only what the session deleted was in it.
                Ok(()) => State::Absent,
                Err(conflict) => return self.conflict(change, conflict),
            },
            Place::Conflict(conflict) => return self.conflict(change, conflict),
            Place::Refused(refusal) => return self.refuse(path, refusal),
        };
        let verdict = compare(&change.base, &change.session, &host);
        match verdict {
            Verdict::Already => return self.decision.already.push(path.clone()),
            Verdict::Conflict(conflict) => return self.conflict(change, conflict),
            _ => {}
        }
        if let Some(reason) = runs_then(change) {
            if self.rules.consent == Consent::EachTurn {
                return self.decision.held.push((path.clone(), reason));
            }
            self.decision.runs_by_itself.push((path.clone(), reason));
        }
        let path = path.clone();
        match (verdict, replaces) {
            (Verdict::Take(State::Absent), _) => {
                self.removed.insert(path.clone());
                self.removals.push(Step::Remove { path, before: host });
            }
            (Verdict::Take(after), replaces) => {
                self.need_directories(&path);
                self.writes.push(Step::Put {
                    path,
                    before: host,
                    after,
                    replaces: replaces.map(|file| file.attributes),
                });
            }
            (Verdict::SetExecutable(executable), Some(file)) => {
                self.writes.push(Step::SetExecutable {
                    path,
                    before: host,
                    mode: with_executable(file.attributes.mode, executable),
                    after: State::File {
                        id: file.id,
                        executable,
                    },
                });
            }
            (
                Verdict::Merge {
                    base,
                    session,
                    executable,
                },
                Some(host),
            ) => self.decision.merges.push(TextMerge {
                path,
                base,
                session,
                host,
                executable,
            }),
            // Both are about a file of the host's.
            (Verdict::SetExecutable(_) | Verdict::Merge { .. }, None) => self.conflict(change, Conflict::Kinds),
            (Verdict::Already | Verdict::Conflict(_), _) => {}
        }
    }

    fn place(&self, change: &Change) -> Place {
        for above in change.path.ancestors() {
            if self.removed.contains(&above) {
                return Place::State(State::Absent);
            }
            match self.facts.found.get(&above) {
                Some(Found::Directory) => {}
                Some(Found::Symlink { .. }) => return Place::Refused(Refusal::ThroughLink),
                Some(Found::Unreadable) => return Place::Refused(Refusal::Unreadable),
                // With its directory the file is gone.
                Some(Found::File(_) | Found::Special) if change.session == State::Absent => {
                    return Place::State(State::Absent);
                }
                Some(Found::File(_) | Found::Special) => return Place::Conflict(Conflict::FileInTheWay),
                Some(Found::Nothing) | None => return Place::State(State::Absent),
            }
        }
        match self.facts.found.get(&change.path) {
            Some(Found::Nothing) | None => Place::State(State::Absent),
            Some(Found::File(file)) => Place::File(file.clone()),
            Some(Found::Symlink { id }) => Place::State(State::Symlink { id: id.clone() }),
            // The file that the session deleted is gone; what is in the directory is a matter of its own.
            Some(Found::Directory) if change.session == State::Absent => Place::State(State::Absent),
            Some(Found::Directory) => Place::Directory,
            Some(Found::Special) => Place::Conflict(Conflict::SpecialInTheWay),
            Some(Found::Unreadable) => Place::Refused(Refusal::Unreadable),
        }
    }

    /// A directory where a file is to be: it goes if nothing but what the session deleted is in it.
    fn clear(&mut self, change: &Change) -> Result<(), Conflict> {
        if change.base != State::Absent {
            // The host made the directory of what was a file.
            return Err(Conflict::DirectoryInTheWay);
        }
        let occupants = self.facts.occupants.get(&change.path).and_then(Option::as_ref);
        let occupants = occupants.ok_or(Conflict::DirectoryInTheWay)?;
        if !occupants.files.iter().all(|file| self.removed.contains(file)) {
            return Err(Conflict::DirectoryInTheWay);
        }
        self.cleared.extend(occupants.directories.iter().cloned());
        self.cleared.insert(change.path.clone());
        Ok(())
    }

    fn need_directories(&mut self, path: &RelativePath) {
        let missing = path
            .ancestors()
            .filter(|above| self.facts.found.get(above) != Some(&Found::Directory));
        self.made.extend(missing);
    }

    fn conflict(&mut self, change: &Change, conflict: Conflict) {
        let path = change.path.clone();
        // What is held is not written, and so is in conflict with nothing.
        match runs_then(change) {
            Some(reason) if self.rules.consent == Consent::EachTurn => self.decision.held.push((path, reason)),
            _ => self.decision.conflicts.push((path, conflict)),
        }
    }

    fn refuse(&mut self, path: &RelativePath, refusal: Refusal) {
        self.decision.refused.push((path.clone(), refusal));
    }

    /// The order in which everything works: files go, then the directories that make way (innermost first), then
    /// directories come (outermost first), then files.
    fn finish(self) -> Decision {
        let mut decision = self.decision;
        let path = |path| Step::RemoveDirectory { path };
        decision.steps = self.removals;
        decision.steps.extend(self.cleared.into_iter().rev().map(path));
        decision
            .steps
            .extend(self.made.into_iter().map(|path| Step::MakeDirectory { path }));
        decision.steps.extend(self.writes);
        decision
    }
}

/// Why the file runs by itself once the change is made. What is deleted runs no more.
fn runs_then(change: &Change) -> Option<&'static str> {
    (change.session != State::Absent)
        .then(|| runs_by_itself::reason(&change.path))
        .flatten()
}

/// A mode with the right to execute for whoever may read, or for nobody.
pub fn with_executable(mode: u32, executable: bool) -> u32 {
    if executable {
        mode | (mode & 0o444) >> 2
    } else {
        mode & !0o111
    }
}

#[cfg(test)]
mod tests;

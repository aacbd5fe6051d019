//! From a session's changes to what would be done in the user's folder. Reads the folder and the session's objects, and writes to
//! neither.

use crate::workspace::apply::content::{ContentError, Contents};
use crate::workspace::apply::decide::{
    Change, Consent, Decision, Found, HostFacts, Refusal, Rules, State, Step, decide,
};
use crate::workspace::apply::error::ApplyError;
use crate::workspace::apply::hooks::{self, Hooks};
use crate::workspace::apply::host::HostFolder;
use crate::workspace::apply::incoming::Incoming;
use crate::workspace::apply::merge::{Merged, merge};
use crate::workspace::apply::path::{LinkFlaw, RelativePath, check_link, is_git};
use crate::workspace::apply::report::{Listed, Preview, Written, listed};
use crate::workspace::apply::way::follow;
use crate::workspace::apply::{Request, blocking};
use crate::workspace::git::ObjectId;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The longest target of a link, in bytes.
const MAX_TARGET: u64 = 4096;

/// All that is known before the first effect.
#[derive(Debug)]
pub struct Prepared {
    pub folder: Arc<HostFolder>,
    pub changes: Arc<Vec<Change>>,
    /// What the decision was made on.
    pub facts: Arc<HostFacts>,
    /// Complete: merges are steps or conflicts by now.
    pub decision: Decision,
    /// Refused by their names, which are no paths.
    pub unparsed: Vec<(String, Refusal)>,
    pub contents: Contents,
}

impl Prepared {
    pub fn preview(&self, request: &Request) -> Preview {
        let refused = self
            .unparsed
            .iter()
            .map(|(path, why)| Listed::new(path.clone(), why))
            .chain(listed(&self.decision.refused));
        Preview {
            would_write: self.decision.steps.iter().filter_map(Written::of).collect(),
            conflicts: listed(&self.decision.conflicts).collect(),
            refused: refused.collect(),
            held: listed(&self.decision.held).collect(),
            runs_by_itself: listed(&self.decision.runs_by_itself).collect(),
            already: self.decision.already.iter().map(RelativePath::shown).collect(),
            base: request.patch.base.clone(),
            patch_sha256: request.patch.patch_sha256.clone(),
        }
    }

    /// What the steps put into the folder.
    pub fn needed(&self) -> BTreeSet<ObjectId> {
        let id = |step: &Step| match step {
            Step::Put {
                after: State::File { id, .. } | State::Symlink { id },
                ..
            } => Some(id.clone()),
            _ => None,
        };
        self.decision.steps.iter().filter_map(id).collect()
    }

    /// The files that the host has as the session does once the steps are done.
    pub fn brought(&self) -> Vec<RelativePath> {
        let steps = self.decision.steps.iter();
        let written = steps
            .filter(|step| Written::of(step).is_some())
            .map(|step| step.path().clone());
        written.chain(self.decision.already.iter().cloned()).collect()
    }

    /// The deepest directory above a path that is there, and stays.
    pub fn nearest_directory(&self, path: &RelativePath) -> Option<RelativePath> {
        let there = |above: &RelativePath| self.facts.found.get(above) == Some(&Found::Directory);
        path.ancestors().take_while(there).last()
    }
}

/// `work` is an empty directory of ours.
pub async fn prepare(
    request: &Request,
    consent: Consent,
    work: &Path,
    cancel: &CancellationToken,
) -> Result<Prepared, ApplyError> {
    let files = request.changes.len() as u64;
    let limit = request.bounds.files;
    if files > limit {
        return Err(ApplyError::TooManyFiles { files, limit });
    }
    let incoming = Incoming::parse(&request.changes);
    let mut contents = Contents::default();
    let bytes = request.bounds.bytes;
    contents
        .fetch(&request.objects, incoming.link_ids(), bytes, work, cancel)
        .await?;
    let flaws = link_flaws(&incoming, &contents, &request.folder, work).await?;
    let Incoming { changes, refused } = incoming;
    let changes = Arc::new(changes);
    let (path, format) = (request.folder.clone(), request.format);
    let looked_at = Arc::clone(&changes);
    let (folder, facts) = blocking(move || {
        let folder = HostFolder::open(&path, format)?;
        let facts = folder.facts(looked_at.iter())?;
        Ok((Arc::new(folder), facts))
    })
    .await?;
    let hooks = match hooks::find(&request.objects.git, &request.folder, &facts.repositories, cancel).await? {
        Hooks::In(hooks) => hooks,
        Hooks::Everywhere => {
            return Err(ApplyError::HooksEverywhere {
                folder: request.folder.clone(),
            });
        }
    };
    let rules = Rules { consent, hooks };
    let mut decision = decide(&changes, &flaws, &facts, &rules);

    let merges = std::mem::take(&mut decision.merges);
    let texts = merges
        .iter()
        .flat_map(|merge| [merge.base.clone(), merge.session.clone()]);
    contents
        .fetch(&request.objects, texts.collect(), bytes, work, cancel)
        .await?;
    let mut changed = Vec::new();
    for text in &merges {
        match merge(text, &folder, &request.objects, &mut contents, work, cancel).await? {
            Merged::Step(Some(step)) => decision.steps.push(step),
            Merged::Step(None) => decision.already.push(text.path.clone()),
            Merged::Conflict(conflict) => decision.conflicts.push((text.path.clone(), conflict)),
            Merged::Changed => changed.push(text.path.shown()),
        }
    }
    if !changed.is_empty() {
        return Err(ApplyError::Changed { paths: changed });
    }
    Ok(Prepared {
        folder,
        changes,
        facts: Arc::new(facts),
        decision,
        unparsed: refused,
        contents,
    })
}

async fn link_flaws(
    incoming: &Incoming,
    contents: &Contents,
    folder: &Path,
    work: &Path,
) -> Result<BTreeMap<RelativePath, LinkFlaw>, ApplyError> {
    let mut flaws = BTreeMap::new();
    for (path, id) in incoming.links() {
        let target = contents.get(id).filter(|target| target.size() <= MAX_TARGET);
        let checked = match target.map(super::content::Content::whole).transpose() {
            Ok(Some(target)) => match check_link(path, &target) {
                Ok(()) if !stays_within(folder, path, &target).await => Err(LinkFlaw::Through),
                checked => checked,
            },
            Ok(None) => Err(LinkFlaw::Unusable),
            Err(source) => {
                return Err(ContentError::Work {
                    work: work.to_owned(),
                    source,
                }
                .into());
            }
        };
        if let Err(flaw) = checked {
            flaws.insert(path.clone(), flaw);
        }
    }
    Ok(flaws)
}

/// Whether a link leads to somewhere in the folder by the links that the user has there now. Those of the session itself each lead
/// down from where they are, or up by their spelling alone.
async fn stays_within(folder: &Path, link: &RelativePath, target: &[u8]) -> bool {
    let directory = link
        .parent()
        .map_or(folder.to_owned(), |parent| folder.join(parent.as_path()));
    let Some(end) = follow(&directory.join(OsStr::from_bytes(target))).await.end else {
        // It leads to nothing.
        return true;
    };
    let below = end.strip_prefix(folder);
    below.is_ok_and(|below| !below.iter().any(|name| is_git(name.as_bytes())))
}

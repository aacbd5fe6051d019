//! The images of ours that an engine has.

use super::commands::Engine;
use super::error::ImageError;
use super::inspect::{self, Inspected};
use super::tools::{SHORT, Tools};
use crate::host::HostFacts;
use crate::host::image_labels;
use serde::Serialize;
use std::collections::BTreeSet;

/// One image. Labels are shown as they are: whoever made the image wrote them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ListedImage {
    /// `None` once a newer build took the name.
    pub reference: Option<String>,
    /// `sha256:` and 64 digits.
    pub id: String,
    pub codex_version: String,
    pub base: Option<String>,
    pub contract: Option<u32>,
    /// RFC 3339.
    pub built: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// All images that carry our label, one row a name, sorted by name.
pub async fn list(host: &HostFacts, tools: &Tools) -> Result<Vec<ListedImage>, ImageError> {
    let engine = Engine::new(&host.engine);
    let task = "list its images";
    let unclear = |why| ImageError::EngineUnclear {
        engine: engine.kind(),
        task,
        why,
    };
    let ids = tools.ask_engine(&engine, task, engine.our_ids(), SHORT).await?;
    // An image with two names is listed twice.
    let ids: BTreeSet<String> = String::from_utf8_lossy(&ids)
        .lines()
        .map(inspect::whole_id)
        .collect::<Result<_, _>>()
        .map_err(&unclear)?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let answer = tools.ask_engine(&engine, task, engine.inspect(&ids), SHORT).await?;
    let mut rows: Vec<ListedImage> = inspect::parse(&answer)
        .map_err(&unclear)?
        .iter()
        .flat_map(rows)
        .collect();
    rows.sort();
    Ok(rows)
}

fn rows(image: &Inspected) -> Vec<ListedImage> {
    let label = |name: &str| image.label(name).map(ToOwned::to_owned);
    let row = |reference| ListedImage {
        reference,
        id: image.id.clone(),
        codex_version: label(image_labels::CODEX_VERSION).unwrap_or_default(),
        base: label(image_labels::BASE),
        contract: image.contract(),
        built: label(image_labels::BUILT),
        size: image.size,
    };
    if image.references.is_empty() {
        return vec![row(None)];
    }
    image
        .references
        .iter()
        .map(|reference| row(Some(reference.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_a_name_and_one_for_the_nameless() {
        let image = |references: &[&str]| Inspected {
            id: "sha256:1".into(),
            references: references.iter().map(|name| (*name).to_owned()).collect(),
            size: 9,
            labels: [(image_labels::CODEX_VERSION.to_owned(), "0.169.0".to_owned())].into(),
            hazards: Vec::new(),
        };
        let names: Vec<Option<String>> = rows(&image(&["a:1", "b:2"]))
            .into_iter()
            .map(|row| row.reference)
            .collect();
        assert_eq!(names, [Some("a:1".to_owned()), Some("b:2".to_owned())]);
        let nameless = rows(&image(&[]));
        assert_eq!(nameless.len(), 1);
        assert_eq!((nameless[0].reference.as_ref(), nameless[0].size), (None, 9));
    }
}

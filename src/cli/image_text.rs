//! What `image list` and `image verify` print. Pure.

use crate::cli::table::columns;
use crate::image::list::ListedImage;
use crate::image::verify::Verification;
use crate::wire::untrusted::Untrusted;
use serde_json::{Value, json};

/// One image a line under a heading.
pub fn table(images: &[ListedImage]) -> String {
    if images.is_empty() {
        return "no image yet; build one: codex-mcp image build".to_owned();
    }
    let rows = images.iter().map(row);
    let heading = ["REFERENCE", "ID", "CODEX", "CONTRACT", "BASE", "BUILT", "SIZE"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(heading).chain(rows).collect();
    columns(&rows)
}

fn row(image: &ListedImage) -> [String; 7] {
    // Labels are whatever the image's maker wrote.
    let label = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), shown);
    let short_id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    [
        label(&image.reference),
        short_id.chars().take(12).collect(),
        shown(&image.codex_version),
        image.contract.map_or("-".to_owned(), |contract| contract.to_string()),
        label(&image.base),
        label(&image.built),
        format!("{} MB", image.size / 1_000_000),
    ]
}

fn shown(text: &str) -> String {
    Untrusted::new(text).one_line(60)
}

pub fn list_json(images: &[ListedImage]) -> String {
    format!("{:#}", json!(images))
}

/// One check a line, as it came out.
pub fn checks(verification: &Verification) -> String {
    verification
        .checks
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn checks_json(verification: &Verification) -> String {
    let checks: Vec<Value> = verification
        .checks
        .iter()
        .map(|check| json!({"check": check.name, "passed": check.passed(), "reason": check.reason()}))
        .collect();
    format!(
        "{:#}",
        json!({"id": verification.id, "passed": verification.passed(), "checks": checks})
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_a_table_without_control_characters() {
        let image = ListedImage {
            reference: Some("localhost/codex-mcp:0.169.0".into()),
            id: format!("sha256:{}", "ab".repeat(32)),
            codex_version: "0.169.0\x1b[31m".into(),
            base: Some("bootstrap:bookworm".into()),
            contract: Some(1),
            built: None,
            size: 549_000_000,
        };
        insta::assert_snapshot!(table(&[image]), @"
        REFERENCE                    ID            CODEX        CONTRACT  BASE                BUILT  SIZE
        localhost/codex-mcp:0.169.0  abababababab  0.169.0[31m  1         bootstrap:bookworm  -      549 MB
        ");
    }
}

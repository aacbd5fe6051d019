//! `image inspect` of podman and docker, parsed into what this room asks of an image. Pure.

use crate::host::image_labels;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An image as the engine describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// `sha256:` and 64 hexadecimal digits: podman leaves the prefix out, docker does not.
    pub id: String,
    /// Names that it goes by.
    pub references: Vec<String>,
    /// Bytes.
    pub size: u64,
    pub labels: BTreeMap<String, String>,
    /// Things that would act by themselves at run time, or make the root file system writable: each said in words.
    pub hazards: Vec<String>,
}

impl Inspected {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub fn contract(&self) -> Option<u32> {
        self.label(image_labels::CONTRACT)?.parse().ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    id: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    size: u64,
    config: Option<RawConfig>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    labels: Option<BTreeMap<String, String>>,
    entrypoint: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    healthcheck: Option<RawHealthcheck>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealthcheck {
    test: Option<Vec<String>>,
}

/// The answer to an inspect of any number of images.
pub fn parse(json: &[u8]) -> Result<Vec<Inspected>, String> {
    let images: Vec<RawImage> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    images.into_iter().map(inspected).collect()
}

fn inspected(raw: RawImage) -> Result<Inspected, String> {
    let config = raw.config.unwrap_or_default();
    let mut hazards = Vec::new();
    if config.entrypoint.is_some_and(|words| !words.is_empty()) {
        hazards.push("has an ENTRYPOINT".to_owned());
    }
    for volume in config.volumes.unwrap_or_default().keys() {
        hazards.push(format!("declares the VOLUME {volume:?}, which engines mount writable"));
    }
    let test = config.healthcheck.and_then(|check| check.test).unwrap_or_default();
    if test.first().is_some_and(|kind| kind != "NONE") {
        hazards.push("has a HEALTHCHECK".to_owned());
    }
    Ok(Inspected {
        id: whole_id(&raw.id)?,
        references: raw.repo_tags.unwrap_or_default(),
        size: raw.size,
        labels: config.labels.unwrap_or_default(),
        hazards,
    })
}

/// An id as engines print it → `sha256:` and 64 digits.
pub fn whole_id(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() == 64 && digits.bytes().all(is_digit) {
        Ok(format!("sha256:{digits}"))
    } else {
        Err(format!("{text:?} is no image id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ef23ba22bc1ed7b7e33acceb9466514f76133e6273114901fd8a31828d397ddd";

    #[test]
    fn podmans_and_dockers_answers_come_to_the_same() {
        let podman = format!(
            r#"[{{"Id": "{ID}", "RepoTags": ["localhost/a:1"], "Size": 5, "Digest": "x", "Config":
                {{"User": "0:0", "Labels": {{"{}": "1"}}}}, "Labels": {{}}}}]"#,
            image_labels::CONTRACT
        );
        let docker = format!(
            r#"[{{"Id": "sha256:{ID}", "RepoTags": ["localhost/a:1"], "Size": 5, "Config": {{"Labels": {{"{}": "1"}},
                "Entrypoint": null, "Volumes": null, "Healthcheck": {{"Test": ["NONE"]}}, "OnBuild": null}}}}]"#,
            image_labels::CONTRACT
        );
        let podman = parse(podman.as_bytes()).unwrap();
        assert_eq!(podman, parse(docker.as_bytes()).unwrap());
        assert_eq!(podman[0].id, format!("sha256:{ID}"));
        assert_eq!(podman[0].contract(), Some(1));
        assert!(podman[0].hazards.is_empty());
    }

    #[test]
    fn hazards_are_named() {
        let json = format!(
            r#"[{{"Id": "{ID}", "RepoTags": null, "Size": 0, "Config": {{"Entrypoint": ["/x"],
                "Volumes": {{"/data": {{}}}}, "Healthcheck": {{"Test": ["CMD", "x"]}}}}}}]"#
        );
        insta::assert_snapshot!(parse(json.as_bytes()).unwrap()[0].hazards.join("\n"), @r#"
        has an ENTRYPOINT
        declares the VOLUME "/data", which engines mount writable
        has a HEALTHCHECK
        "#);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for wrong in ["", "sha256:", "ef23", &ID.to_uppercase(), &format!("sha512:{ID}")] {
            assert!(whole_id(wrong).is_err(), "{wrong}");
        }
        assert!(parse(b"{}").is_err());
    }
}

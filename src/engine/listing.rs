//! What `ps` and `image inspect` print; pure.

use super::capabilities::Listing;
use crate::host::facts::ImageFacts;
use crate::host::image_labels;
use crate::plan::identity::{ContainerName, labels};
use crate::supervise::owner::Owner;
use crate::supervise::reconcile::{ContainerState, Sighting};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Reads the answer to [`super::argv::list_ours`].
pub(super) fn read_sightings(listing: Listing, stdout: &[u8]) -> Result<Vec<Sighting>, serde_json::Error> {
    match listing {
        Listing::JsonArray => {
            // Some versions of podman print nothing, some `null`, where there are none.
            if stdout.trim_ascii().is_empty() {
                return Ok(Vec::new());
            }
            let listed: Option<Vec<Listed>> = serde_json::from_slice(stdout)?;
            Ok(listed
                .unwrap_or_default()
                .into_iter()
                .filter_map(Listed::sighting)
                .collect())
        }
        Listing::TemplatedLines => serde_json::Deserializer::from_slice(stdout)
            .into_iter::<Line>()
            .map(|line| line.map(Line::sighting))
            .collect(),
    }
}

/// Podman's.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    names: Vec<String>,
    state: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    /// Seconds since 1970.
    #[serde(default)]
    created: u64,
}

impl Listed {
    /// `None` for a half-made container whose name is not one of ours: it has no label to filter by, and may belong
    /// to a build of somebody else.
    fn sighting(self) -> Option<Sighting> {
        let name = self.names.into_iter().next()?;
        if self.state == "storage" {
            let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.created))?;
            return ContainerName::parse(&name).map(|name| Sighting {
                name: name.to_string(),
                owner: None,
                state: ContainerState::HalfMade { since },
            });
        }
        let labels = self.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        Some(Sighting {
            owner: owner(
                label(labels::OWNER_PID),
                label(labels::OWNER_START),
                label(labels::OWNER_BOOT),
            ),
            state: state(&self.state),
            name,
        })
    }
}

/// Docker's, by [`super::argv`]'s template; an absent label is an empty string.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    state: String,
    pid: String,
    start: String,
    boot: String,
}

impl Line {
    fn sighting(self) -> Sighting {
        Sighting {
            owner: owner(&self.pid, &self.start, &self.boot),
            state: state(&self.state),
            name: self.name,
        }
    }
}

fn owner(pid: &str, start: &str, boot: &str) -> Option<Owner> {
    if boot.is_empty() {
        return None;
    }
    Some(Owner {
        pid: pid.parse().ok()?,
        start_ticks: start.parse().ok()?,
        boot_id: boot.to_owned(),
    })
}

/// A word that we do not know counts as running: that is the state in which less is removed.
fn state(word: &str) -> ContainerState {
    match word {
        "created" | "configured" | "initialized" => ContainerState::Created,
        "exited" | "stopped" | "dead" => ContainerState::Ended,
        _ => ContainerState::Running,
    }
}

/// Why an answer about an image can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableImage {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it describes {0} images instead of one")]
    Count(usize),
    #[error("its id {0:?} is not 64 hex digits")]
    Id(String),
}

/// Reads the answer to [`super::argv::inspect_image`]; both engines print an array.
pub(super) fn read_image(reference: &str, stdout: &[u8]) -> Result<ImageFacts, UnreadableImage> {
    let mut images: Vec<Image> = serde_json::from_slice(stdout)?;
    let (Some(image), true) = (images.pop(), images.is_empty()) else {
        return Err(UnreadableImage::Count(images.len()));
    };
    // Docker writes the algorithm before the digits, podman does not.
    let digits = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(UnreadableImage::Id(image.id));
    }
    let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
    Ok(ImageFacts {
        reference: reference.to_owned(),
        id: format!("sha256:{digits}"),
        codex_version: labels.get(image_labels::CODEX_VERSION).cloned(),
        contract: labels
            .get(image_labels::CONTRACT)
            .and_then(|number| number.parse().ok()),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    id: String,
    #[serde(default)]
    config: Option<ImageConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfig {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "67e16be6324ea255c0cad700cb58ceb7ffd17ab9e4212aca7882c52e339debe3";

    fn expected() -> Sighting {
        Sighting {
            name: "codex-mcp-00112233445566778899".to_owned(),
            owner: Some(Owner {
                pid: 42,
                start_ticks: 12345,
                boot_id: "b:1".to_owned(),
            }),
            state: ContainerState::Created,
        }
    }

    /// Podman 4.3.1, shortened.
    const PODMAN: &str = r#"[{"AutoRemove": false, "Names": ["codex-mcp-00112233445566778899"], "State": "created",
        "Status": "Created", "Labels": {"a": "b", "io.github.codex-mcp.session": "00112233445566778899",
        "io.github.codex-mcp.owner-pid": "42", "io.github.codex-mcp.owner-start": "12345",
        "io.github.codex-mcp.owner-boot": "b:1"}, "Pid": 0}]"#;

    const DOCKER: &str = concat!(
        r#"{"name":"codex-mcp-00112233445566778899","state":"created","pid":"42","start":"12345","boot":"b:1"}"#,
        "\n",
        r#"{"name":"other","state":"running","pid":"","start":"","boot":""}"#,
        "\n"
    );

    #[test]
    fn both_shapes_mean_the_same() {
        assert_eq!(
            read_sightings(Listing::JsonArray, PODMAN.as_bytes()).unwrap(),
            [expected()]
        );
        let listed = read_sightings(Listing::TemplatedLines, DOCKER.as_bytes()).unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0], expected());
        assert_eq!(listed[1].owner, None);
    }

    #[test]
    fn half_made_ones_are_known_by_our_name_alone() {
        let listed = |name: &str| {
            let json =
                format!(r#"[{{"Names": ["{name}"], "State": "storage", "Labels": null, "Created": 1795356991}}]"#);
            read_sightings(Listing::JsonArray, json.as_bytes()).unwrap()
        };
        let expected = Sighting {
            owner: None,
            state: ContainerState::HalfMade {
                since: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_356_991),
            },
            ..expected()
        };
        assert_eq!(listed("codex-mcp-00112233445566778899"), [expected]);
        assert_eq!(listed("codex-mcp-other"), []);
        assert_eq!(listed("debian-working-container"), []);
    }

    #[test]
    fn none_is_written_in_many_ways() {
        for none in ["[]", "null", "", "\n"] {
            assert_eq!(
                read_sightings(Listing::JsonArray, none.as_bytes()).unwrap(),
                [],
                "{none:?}"
            );
        }
        assert_eq!(read_sightings(Listing::TemplatedLines, b"").unwrap(), []);
    }

    #[test]
    fn half_an_owner_is_none() {
        for (from, to) in [("owner-boot", "other"), (r#""42""#, r#""-1""#), (r#""12345""#, r#""""#)] {
            let listed = read_sightings(Listing::JsonArray, PODMAN.replace(from, to).as_bytes()).unwrap();
            assert_eq!(listed[0].owner, None, "{from}");
        }
    }

    #[test]
    fn a_strange_answer_is_an_error() {
        assert!(read_sightings(Listing::JsonArray, b"no json").is_err());
        assert!(read_sightings(Listing::TemplatedLines, br#"{"name":"x"}"#).is_err());
    }

    #[test]
    fn an_unknown_state_counts_as_running() {
        assert_eq!(state("removing"), ContainerState::Running);
        assert_eq!(state("paused"), ContainerState::Running);
        assert_eq!(state("exited"), ContainerState::Ended);
    }

    #[test]
    fn an_image_has_one_spelling_of_its_id() {
        for id in [ID.to_owned(), format!("sha256:{ID}")] {
            let json = format!(
                r#"[{{"Id": "{id}", "Config": {{"Labels": {{"io.github.codex-mcp.codex-version": "0.169.0",
                    "io.github.codex-mcp.guest-contract": "1"}}}}}}]"#
            );
            let image = read_image("localhost/x:1", json.as_bytes()).unwrap();
            assert_eq!(image.id, format!("sha256:{ID}"));
            assert_eq!(image.codex_version.as_deref(), Some("0.169.0"));
            assert_eq!(image.contract, Some(1));
        }
    }

    #[test]
    fn an_image_of_others_has_no_labels_of_ours() {
        for config in [r#""Config": null"#, r#""Config": {"Labels": null}"#, r#""Size": 1"#] {
            let image = read_image("x", format!(r#"[{{"Id": "{ID}", {config}}}]"#).as_bytes()).unwrap();
            assert_eq!((image.codex_version, image.contract), (None, None), "{config}");
        }
    }

    #[test]
    fn what_is_not_one_image_is_refused() {
        assert!(matches!(read_image("x", b"[]"), Err(UnreadableImage::Count(0))));
        assert!(matches!(
            read_image("x", br#"[{"Id": "abc"}]"#),
            Err(UnreadableImage::Id(_))
        ));
        assert!(matches!(read_image("x", b"{}"), Err(UnreadableImage::Json(_))));
    }

    /// Also that the plan's labels and the host's are the same ones.
    #[test]
    fn the_probes_trial_is_swept_like_a_session() {
        use crate::host::container_labels::{self, TRIAL};
        use crate::supervise::reconcile;
        let owner = expected().owner.unwrap();
        let of_a_trial: BTreeMap<String, String> = container_labels::of(TRIAL, &owner)
            .iter()
            .filter_map(|label| label.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // `ps` is filtered by this one.
        assert!(of_a_trial.contains_key(labels::SESSION));
        let listed = serde_json::json!([{"Names": ["happy_turing"], "State": "created", "Labels": of_a_trial}]);
        let sightings = read_sightings(Listing::JsonArray, listed.to_string().as_bytes()).unwrap();
        let us = Owner { pid: 7, ..owner };
        let swept = reconcile::to_remove(&sightings, &us, SystemTime::UNIX_EPOCH, |_| false);
        assert_eq!(swept.len(), 1, "{sightings:?}");
    }
}

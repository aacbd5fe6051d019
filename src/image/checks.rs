//! What [`super::verify`] asks an image and how it judges the answers. Pure.
//!
//! The script runs inside, so its answers are the image's own claims: they find mistakes of a build, not malice. What
//! a session depends on for its safety is read back by the guest at each launch.

use super::inspect::Inspected;
use super::layout::{CA_BUNDLES, CODEX_DIR, CODEX_PROGRAMS, MOUNT_POINTS, TOOLS};
use crate::host::image_labels;
use crate::wire::contract::CONTRACT;
use crate::wire::untrusted::Untrusted;
use std::collections::BTreeSet;
use std::fmt;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed { reason: String },
}

impl Check {
    fn new(name: impl Into<String>, passed: bool, reason: impl FnOnce() -> String) -> Self {
        let outcome = if passed {
            Outcome::Passed
        } else {
            Outcome::Failed { reason: reason() }
        };
        Self {
            name: name.into(),
            outcome,
        }
    }

    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    /// Why it failed.
    pub fn reason(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed { reason } => Some(reason),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "ok      {}", self.name),
            Outcome::Failed { reason } => write!(f, "FAILED  {}: {reason}", self.name),
        }
    }
}

/// POSIX sh that prints one fact a line, [`END`] last.
pub fn script() -> String {
    // On stderr Codex warns that its home can't be written, which is as it should be here.
    let mut lines = vec![format!(
        "echo \"version $({CODEX_DIR}/bin/codex --version 2>/dev/null)\""
    )];
    for program in CODEX_PROGRAMS {
        lines.push(format!("test -x {CODEX_DIR}/{program} && echo program {program}"));
    }
    for tool in TOOLS {
        lines.push(format!("command -v {tool} >/dev/null && echo tool {tool}"));
    }
    for bundle in CA_BUNDLES {
        lines.push(format!("test -s {bundle} && echo authorities"));
    }
    for point in MOUNT_POINTS {
        // A link would have the engine mount somewhere else.
        let (path, letter) = (point.path, &point.kind.word()[..1]);
        lines.push(format!(
            "test ! -L {path} && test -{letter} {path} && echo \"mount {} $(stat -c '%a %u:%g %n' {path})\"",
            point.kind.word()
        ));
    }
    lines.push(format!("echo {END}"));
    lines.join("\n")
}

const END: &str = "end";

/// How the run of [`script`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    pub stdout: String,
    /// What the engine said, for where the script did not even run.
    pub stderr: String,
}

/// All checks, in the order they are shown in.
pub fn judge(image: &Inspected, answers: &Answers) -> Vec<Check> {
    let mut checks = label_checks(image);
    checks.push(Check::new(
        "nothing of the image starts by itself",
        image.hazards.is_empty(),
        || image.hazards.join("; "),
    ));
    let said: BTreeSet<&str> = answers.stdout.lines().collect();
    let ran = said.contains(END);
    checks.push(Check::new(
        "runs without network, capabilities and a writable root",
        ran,
        || Untrusted::new(answers.stderr.as_str()).one_line(500),
    ));
    if !ran {
        return checks;
    }
    checks.push(version_check(image, &said));
    for program in CODEX_PROGRAMS {
        let there = said.contains(format!("program {program}").as_str());
        checks.push(Check::new(
            format!("{CODEX_DIR}/{program} is executable"),
            there,
            || "it is not".into(),
        ));
    }
    for tool in TOOLS {
        let there = said.contains(format!("tool {tool}").as_str());
        checks.push(Check::new(format!("command {tool}"), there, || {
            "it is not on PATH".into()
        }));
    }
    checks.push(Check::new(
        "certificate authorities",
        said.contains("authorities"),
        || format!("none of {} is there", CA_BUNDLES.join(", ")),
    ));
    for point in MOUNT_POINTS {
        let wanted = format!("mount {} {:o} 0:0 {}", point.kind.word(), point.mode, point.path);
        let found = said
            .iter()
            .find(|line| line.starts_with("mount ") && line.ends_with(&format!(" {}", point.path)));
        let name = format!("mount point {} ({} {:o})", point.path, point.kind.word(), point.mode);
        checks.push(Check::new(name, found == Some(&wanted.as_str()), || match found {
            Some(line) => format!("it is {:?}", Untrusted::new(*line).one_line(100)),
            None => "it is not there, or a link".into(),
        }));
    }
    checks
}

fn label_checks(image: &Inspected) -> Vec<Check> {
    let present = |name: &str| {
        let there = image.label(name).is_some_and(|value| !value.is_empty());
        Check::new(format!("label {name}"), there, || {
            "it is missing: the image was not built by codex-mcp".into()
        })
    };
    let contract = Check::new(
        format!("label {} is {CONTRACT}", image_labels::CONTRACT),
        image.contract() == Some(CONTRACT),
        || {
            let found = Untrusted::new(image.label(image_labels::CONTRACT).unwrap_or("missing")).one_line(40);
            format!("it is {found}; rebuild with: codex-mcp image build --rebuild")
        },
    );
    let mut checks: Vec<Check> = [
        image_labels::CODEX_VERSION,
        image_labels::BASE,
        image_labels::BUILT,
        image_labels::RECIPE,
    ]
    .into_iter()
    .map(present)
    .collect();
    checks.push(contract);
    checks
}

fn version_check(image: &Inspected, said: &BTreeSet<&str>) -> Check {
    let wanted = image.label(image_labels::CODEX_VERSION).unwrap_or("?");
    let found = said
        .iter()
        .find_map(|line| line.strip_prefix("version "))
        .unwrap_or("nothing");
    let name = format!("codex --version is {}", Untrusted::new(wanted).one_line(40));
    Check::new(name, found == format!("codex-cli {wanted}"), || {
        format!("it printed {:?}", Untrusted::new(found).one_line(100))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Inspected {
        Inspected {
            id: "sha256:1".into(),
            references: Vec::new(),
            size: 1,
            labels: [
                (image_labels::CODEX_VERSION, "0.169.0"),
                (image_labels::BASE, "bootstrap:bookworm"),
                (image_labels::BUILT, "2026-11-22T13:50:05Z"),
                (image_labels::RECIPE, "sha256:2"),
                (image_labels::CONTRACT, &CONTRACT.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            hazards: Vec::new(),
        }
    }

    fn good() -> Vec<String> {
        let mut lines = vec![
            "version codex-cli 0.169.0".to_owned(),
            "authorities".into(),
            "end".into(),
        ];
        lines.extend(CODEX_PROGRAMS.map(|program| format!("program {program}")));
        lines.extend(TOOLS.map(|tool| format!("tool {tool}")));
        lines.extend(MOUNT_POINTS.map(|p| format!("mount {} {:o} 0:0 {}", p.kind.word(), p.mode, p.path)));
        lines
    }

    fn judged(image: &Inspected, lines: &[String]) -> Vec<Check> {
        let answers = Answers {
            stdout: lines.join("\n"),
            stderr: "Error: no such thing".into(),
        };
        judge(image, &answers)
    }

    fn failures(checks: &[Check]) -> Vec<&Check> {
        checks.iter().filter(|check| !check.passed()).collect()
    }

    #[test]
    fn a_good_image_passes_every_check() {
        let checks = judged(&image(), &good());
        assert_eq!(failures(&checks), Vec::<&Check>::new());
        // Labels 5, hazards, run, version, authorities, and each of the three tables.
        assert_eq!(
            checks.len(),
            9 + CODEX_PROGRAMS.len() + TOOLS.len() + MOUNT_POINTS.len()
        );
    }

    #[test]
    fn every_line_that_is_missing_or_other_fails_a_check_of_its_own() {
        for left_out in 0..good().len() {
            let mut lines = good();
            let gone = lines.remove(left_out);
            let checks = judged(&image(), &lines);
            let failed = failures(&checks);
            // The file below /run/codex-mcp is a mount point too, so one name may be the end of another.
            assert_eq!(failed.len(), 1, "{gone}: {failed:?}");
        }
        let wrong_mode: Vec<String> = good()
            .iter()
            .map(|line| line.replace("dir 1777 0:0 /tmp", "dir 755 0:0 /tmp"))
            .collect();
        insta::assert_snapshot!(failures(&judged(&image(), &wrong_mode))[0], @r#"FAILED  mount point /tmp (dir 1777): it is "mount dir 755 0:0 /tmp""#);
    }

    #[test]
    fn labels_are_checked() {
        for name in [
            image_labels::CODEX_VERSION,
            image_labels::BASE,
            image_labels::BUILT,
            image_labels::RECIPE,
            image_labels::CONTRACT,
        ] {
            let mut image = image();
            image.labels.remove(name);
            let checks = judged(&image, &good());
            assert!(failures(&checks)[0].name.contains(name), "{name}");
        }
        let mut image = image();
        image
            .labels
            .insert(image_labels::CONTRACT.into(), (CONTRACT + 1).to_string());
        assert_eq!(failures(&judged(&image, &good())).len(), 1);
    }

    #[test]
    fn an_image_that_does_not_run_says_what_the_engine_said() {
        let checks = judged(&image(), &[]);
        let failed = failures(&checks);
        assert_eq!(failed.len(), 1);
        assert!(failed[0].to_string().contains("Error: no such thing"));
    }

    #[test]
    fn hazards_fail_and_what_the_image_says_is_shown_without_control_characters() {
        let mut image = image();
        image.hazards.push("has an ENTRYPOINT".into());
        assert_eq!(failures(&judged(&image, &good())).len(), 1);
        let lines: Vec<String> = good()
            .iter()
            .map(|line| line.replace("codex-cli 0.169.0", "\u{1b}[2Jevil"))
            .collect();
        let shown = failures(&judged(&self::image(), &lines))[0].to_string();
        assert!(shown.contains("evil") && !shown.contains('\u{1b}'), "{shown}");
    }
}

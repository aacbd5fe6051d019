//! Builds the image: fetch and verify Codex, get or make the base, put them together, verify the result, name it.
//!
//! The name is given last, so that it never stands for an image that is not whole: a build that fails, is cancelled
//! or is killed leaves the old image under the name.

#![expect(
    clippy::disallowed_methods,
    reason = "this module performs the build: time of build, id file"
)]

use super::bootstrap::{self, Freshness};
use super::cache::Cache;
use super::commands::{self, Engine, LayerCache};
use super::error::ImageError;
use super::fetch::{self, VerifiedPackage};
use super::inspect;
use super::lock::{Platform, Release};
use super::recipe::{Base, BaseChoice, PackageName, Recipe, Suite, default_reference};
use super::tools::{SHORT, Tools};
use super::{context, rootfs, verify};
use crate::config::moment;
use crate::config::name::ImageReference;
use crate::host::HostFacts;
use crate::host::image_labels;
use std::io::BufWriter;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the person asked for.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    pub base: BaseChoice,
    pub packages: Vec<PackageName>,
    /// `None`: `localhost/codex-mcp:VERSION`.
    pub reference: Option<ImageReference>,
    pub rebuild: Rebuild,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    /// Only if the named image is not of this recipe.
    IfChanged,
    /// In any case, base and installed packages made anew.
    Always,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    pub reference: ImageReference,
    /// `sha256:` and 64 digits.
    pub id: String,
    /// Bytes, as the engine counts them.
    pub size: u64,
    pub outcome: BuildOutcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildOutcome {
    Built,
    /// The named image is of the same recipe.
    AlreadyThere,
}

/// Builds and names the image. `cache_dir` is made if it is missing.
pub async fn build(
    options: &BuildOptions,
    host: &HostFacts,
    cache_dir: &Path,
    tools: &Tools,
) -> Result<BuiltImage, ImageError> {
    let recipe = recipe(options)?;
    let reference = match &options.reference {
        Some(reference) => reference.clone(),
        None => default_reference(&recipe.release)?,
    };
    let engine = Engine::new(&host.engine);
    if options.rebuild == Rebuild::IfChanged
        && let Some(image) = verify::find(reference.as_str(), &engine, tools).await?
        && image.label(image_labels::RECIPE) == Some(recipe.digest().as_str())
    {
        return Ok(BuiltImage {
            reference,
            id: image.id,
            size: image.size,
            outcome: BuildOutcome::AlreadyThere,
        });
    }
    let work = Work {
        cache: &Cache::open(cache_dir)?,
        recipe: &recipe,
        engine: &engine,
        tools,
        rebuild: options.rebuild,
    };
    let id = match &recipe.base {
        Base::Registry(base) => work.on_registry_base(base).await?,
        Base::Bootstrap(suite) => work.on_bootstrapped_base(suite).await?,
    };
    let checked = work.verified(&id, host).await;
    let named = match checked {
        Ok(()) => work.name(&id, &reference).await,
        Err(error) => Err(error),
    };
    match named {
        Ok(size) => Ok(BuiltImage {
            reference,
            id,
            size,
            outcome: BuildOutcome::Built,
        }),
        Err(error) => {
            work.discard(&id).await;
            Err(error)
        }
    }
}

/// The wish with nothing left open: the pinned Codex of this platform, the suite of this host.
pub fn recipe(options: &BuildOptions) -> Result<Recipe, ImageError> {
    let base = match &options.base {
        BaseChoice::Registry(reference) => Base::Registry(reference.clone()),
        BaseChoice::Bootstrap(Some(suite)) => Base::Bootstrap(suite.clone()),
        BaseChoice::Bootstrap(None) => Base::Bootstrap(bootstrap::host_suite()?),
    };
    let release = Release::pinned(Platform::current()?)?;
    Ok(Recipe::new(base, options.packages.iter().cloned(), release)?)
}

struct Work<'a> {
    cache: &'a Cache,
    recipe: &'a Recipe,
    engine: &'a Engine,
    tools: &'a Tools,
    rebuild: Rebuild,
}

impl Work<'_> {
    async fn codex(&self) -> Result<VerifiedPackage, ImageError> {
        fetch::codex_package(&self.recipe.release, self.cache, self.tools).await
    }

    fn labels(&self) -> [(&'static str, String); 5] {
        // A clock before 1970 labels the image 1970; nothing depends on it.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        commands::labels(self.recipe, &moment::rfc3339(now))
    }

    /// The engine's own build on top of `base`. Returns the id of the nameless image.
    async fn on_registry_base(&self, base: &ImageReference) -> Result<String, ImageError> {
        // The pull comes first: it is what most often fails, and nothing else is worth its while without it.
        self.pull_if_missing(base).await?;
        let package = self.codex().await?;
        let staging = self.cache.staging_directory()?;
        let context = staging.path().join("context");
        std::fs::create_dir(&context).map_err(ImageError::file("create the directory", &context))?;
        self.tools.progress().step("Unpacking Codex");
        let (recipe, directory) = (self.recipe.clone(), context.clone());
        self.tools
            .blocking(move |watch| context::stage(&directory, &recipe, package, watch))
            .await?;
        self.tools.progress().step(&format!("Building on {base}"));
        let id_file = staging.path().join("id");
        let layers = match self.rebuild {
            Rebuild::IfChanged => LayerCache::Use,
            Rebuild::Always => LayerCache::Ignore,
        };
        let command = self.engine.build(&context, base, &self.labels(), layers, &id_file);
        self.tools.watch_engine(self.engine, "build the image", command).await?;
        let id = std::fs::read_to_string(&id_file).map_err(ImageError::file("read", &id_file))?;
        self.image_id(&id)
    }

    async fn pull_if_missing(&self, base: &ImageReference) -> Result<(), ImageError> {
        if verify::find(base.as_str(), self.engine, self.tools).await?.is_some() {
            return Ok(());
        }
        self.tools.progress().step(&format!("Pulling {base}"));
        let end = self.tools.watch(self.engine.pull(base)).await?;
        if end.status.success() {
            return Ok(());
        }
        Err(ImageError::PullFailed {
            engine: self.engine.kind(),
            base: base.clone(),
            said: end.tail.join("\n"),
        })
    }

    /// Base and Codex merged here, then imported. Returns the id of the nameless image.
    async fn on_bootstrapped_base(&self, suite: &Suite) -> Result<String, ImageError> {
        let package = self.codex().await?;
        let freshness = match self.rebuild {
            Rebuild::IfChanged => Freshness::Cached,
            Rebuild::Always => Freshness::Fresh,
        };
        let base = bootstrap::base(self.recipe, suite, freshness, self.cache, self.tools).await?;
        self.tools.progress().step("Assembling the file system");
        let merged = self.cache.staging_file()?;
        let path = merged.path().to_owned();
        let failed = |source| ImageError::file("write", &path)(source);
        let out = merged.reopen().map_err(failed)?;
        let base_size = base.metadata().map_err(failed)?.len();
        self.tools
            .blocking(move |watch| {
                rootfs::assemble(base, base_size, package, BufWriter::with_capacity(1 << 20, out), watch)
            })
            .await?;
        self.tools
            .progress()
            .step(&format!("Importing into {}", self.engine.kind()));
        let command = self.engine.import(merged.path(), &self.labels());
        let answer = self
            .tools
            .ask_engine(self.engine, "import the image", command, super::tools::LONG)
            .await?;
        // podman may print more before it; the id is the last word of both.
        let answer = String::from_utf8_lossy(&answer);
        self.image_id(answer.lines().last().unwrap_or_default())
    }

    fn image_id(&self, text: &str) -> Result<String, ImageError> {
        inspect::whole_id(text.trim()).map_err(|why| ImageError::EngineUnclear {
            engine: self.engine.kind(),
            task: "name the id of the new image",
            why,
        })
    }

    async fn verified(&self, id: &str, host: &HostFacts) -> Result<(), ImageError> {
        let verification = verify::verify(id, host, self.tools).await?;
        if verification.passed() {
            return Ok(());
        }
        Err(ImageError::BadImage {
            failures: verification.failures(),
        })
    }

    /// Names the image; returns its size.
    async fn name(&self, id: &str, reference: &ImageReference) -> Result<u64, ImageError> {
        let command = self.engine.tag(id, reference);
        self.tools
            .ask_engine(self.engine, "name the image", command, SHORT)
            .await?;
        let image = verify::find(id, self.engine, self.tools).await?;
        Ok(image.map_or(0, |image| image.size))
    }

    /// Removes the nameless image of a build that failed; without force, so that one in use stays.
    async fn discard(&self, id: &str) {
        let command = self.engine.remove_image(id);
        match self.tools.for_cleanup().ask(command, SHORT).await {
            Ok(end) if end.status.success() => {}
            Ok(end) => tracing::warn!(id, said = end.tail.join("; "), "the image of a failed build is left"),
            Err(error) => tracing::warn!(id, %error, "the image of a failed build is left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::tests::host;
    use super::super::progress::Silent;
    use super::super::recipe::DEFAULT_BASE;
    use super::*;
    use crate::host::facts::EngineKind;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;

    fn options() -> BuildOptions {
        BuildOptions {
            base: DEFAULT_BASE.parse().unwrap(),
            packages: Vec::new(),
            reference: None,
            rebuild: Rebuild::IfChanged,
        }
    }

    /// Builds with a podman that is this script; also says which of the engine's commands were run.
    async fn build_with(options: &BuildOptions, script: &str) -> (Result<BuiltImage, ImageError>, String) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("podman");
        let log = directory.path().join("log");
        let script = format!("#!/bin/sh\necho \"$1\" >> {}\n{script}\n", log.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let mut host = host(EngineKind::Podman, None);
        host.engine.program = program;
        let environment = [("PATH".into(), "/usr/bin:/bin".into())].into();
        let tools = Tools::new(&environment, Arc::new(Silent), CancellationToken::new());
        let built = build(options, &host, &directory.path().join("cache"), &tools).await;
        let staging = directory.path().join("cache/image/staging");
        if staging.exists() {
            assert_eq!(
                std::fs::read_dir(staging).unwrap().count(),
                0,
                "something half-made was left"
            );
        }
        (built, std::fs::read_to_string(log).unwrap().replace('\n', " "))
    }

    #[tokio::test]
    async fn an_image_of_the_same_recipe_is_not_built_again() {
        let digest = recipe(&options()).unwrap().digest();
        let answer = {
            let id = "a".repeat(64);
            let labels = format!(r#"{{"{}": "{digest}"}}"#, image_labels::RECIPE);
            format!(r#"[ "$1" = image ] && echo '[{{"Id": "{id}", "Size": 7, "Config": {{"Labels": {labels}}}}}]'"#)
        };
        let (built, ran) = build_with(&options(), &answer).await;
        let built = built.unwrap();
        assert_eq!(
            (built.outcome, built.size, ran.as_str()),
            (BuildOutcome::AlreadyThere, 7, "image ")
        );
        assert!(
            built.reference.as_str().starts_with("localhost/codex-mcp:"),
            "{built:?}"
        );
    }

    #[tokio::test]
    async fn rebuilding_does_not_ask_what_is_there() {
        let mut options = options();
        options.rebuild = Rebuild::Always;
        let (built, ran) = build_with(&options, "echo 'Error: image not known' >&2; exit 125").await;
        assert!(matches!(built, Err(ImageError::PullFailed { .. })), "{built:?}");
        assert_eq!(ran, "image pull ", "only the base is asked for");
    }

    #[tokio::test]
    async fn a_failed_pull_says_the_engines_words_and_the_way_out() {
        let script = r#"case $1 in
image) echo "Error: $3: image not known" >&2; exit 125 ;;
pull) echo "Error: no such host" >&2; exit 125 ;;
esac"#;
        let (built, ran) = build_with(&options(), script).await;
        let error = built.unwrap_err().to_string();
        assert!(
            error.contains("no such host") && error.contains("--base bootstrap"),
            "{error}"
        );
        assert_eq!(ran, "image image pull ");
    }
}

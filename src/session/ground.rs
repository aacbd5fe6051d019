//! What every launch stands on: the engine's facts, its client, the staged guest, the broker. Found out once a process,
//! when the first session starts, so that `initialize` never waits for an engine.

use crate::auth::broker::Broker;
use crate::auth::chatgpt::ChatGptLogin;
use crate::auth::destination::Destination;
use crate::auth::proxy_credentials::ProxyLogin;
use crate::auth::secret::SecretReader;
use crate::auth::upstream::Upstream;
use crate::config::Config;
use crate::config::network::NetworkSettings;
use crate::dial::proxy::{Credentials, Proxy};
use crate::dial::{Dialer, Names};
use crate::egress::Egress;
use crate::engine::client::Engine;
use crate::engine::environment;
use crate::host::facts::{HostFacts, ImageFacts};
use crate::host::packages::{self, Ask, PackageSource};
use crate::host::probe::{self, Probe};
use crate::redact::Redactor;
use crate::session::blocking::blocking;
use crate::session::directory::private_dir_all;
use crate::session::error::SessionError;
use crate::session::quota::Quota;
use crate::session::staging::{self, StagedGuest};
use crate::session::store::Store;
use crate::session::surroundings::Surroundings;
use crate::supervise::spawner::Spawner;
use crate::workspace::git::command::Git;
use crate::workspace::git::run::GitError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// The parts that every launch shares.
#[derive(Debug)]
pub struct Ground {
    pub config: Arc<Config>,
    pub surroundings: Arc<Surroundings>,
    pub facts: HostFacts,
    pub engine: Engine,
    pub guest: StagedGuest,
    pub broker: Arc<Broker>,
    login: Option<ChatGptLogin>,
    pub egress: Arc<Egress>,
    pub quota: Quota,
    /// Reads the values of secret mounts.
    pub secrets: SecretReader,
    /// Snapshots and changes need it; its absence is told where they are.
    git: Option<Git>,
    dialer: Dialer,
    packages: OnceCell<Vec<PackageSource>>,
    /// The configured image. One built while this process runs is taken up when the one remembered fails.
    image: Mutex<Option<ImageFacts>>,
}

impl Ground {
    /// Looks at the machine. Starts nothing but the engine's short commands.
    pub async fn find(config: Arc<Config>, surroundings: Arc<Surroundings>) -> Result<Self, SessionError> {
        let state_dir = &config.state_dir.value;
        private_dir_all(state_dir).map_err(|source| SessionError::Files {
            what: "can't make the state directory",
            path: state_dir.clone(),
            source,
        })?;
        let spawner = Spawner::new()?;
        let env = environment::of_client(surroundings.environment.clone());
        let with = Probe {
            spawner: &spawner,
            env: &env,
            state_dir,
            static_binary: &surroundings.executable,
        };
        let staging = {
            let (executable, state_dir) = (surroundings.executable.clone(), state_dir.clone());
            tokio::task::spawn_blocking(move || staging::stage(&executable, &state_dir))
        };
        let facts = probe::probe(config.runtime.value, with)
            .await
            .map_err(|error| SessionError::Probe(Arc::new(error)))?;
        let guest = staging
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
            .map_err(|source| SessionError::Files {
                what: "can't stage the guest below",
                path: state_dir.clone(),
                source,
            })?;
        let engine = Engine::new(facts.engine.clone(), spawner, env);
        let dialer = dialer(&config.network, &surroundings);
        let upstream = upstream(&config, dialer.clone());
        let login = login(&config, upstream.clone());
        let destinations = Destination::all(&config.providers, &config.auth, login.clone());
        let keys = secrets(&surroundings);
        let broker = Broker::new(destinations, keys, upstream, Redactor::of_process());
        let broker = Arc::new(broker);
        let egress = Arc::new(Egress::new(dialer.clone()));
        let secrets = secrets(&surroundings);
        let git = surroundings.git().ok();
        let counting = Arc::clone(&config);
        let quota = blocking(move || Quota::open(&counting.state_dir.value, &counting.quota)).await?;
        Ok(Self {
            config,
            surroundings,
            facts,
            engine,
            guest,
            broker,
            login,
            egress,
            quota,
            secrets,
            git,
            dialer,
            packages: OnceCell::new(),
            image: Mutex::default(),
        })
    }

    /// The sessions on record below the state directory.
    pub fn store(&self) -> Store {
        Store::new(&self.config.state_dir.value, self.facts.owner.clone())
    }

    pub fn git(&self) -> Result<&Git, GitError> {
        self.git.as_ref().ok_or(GitError::Missing)
    }

    /// The image that sessions run in, pinned by its id.
    pub async fn image(&self) -> Result<ImageFacts, SessionError> {
        let known = self.lock_image().clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.engine.inspect_image(self.config.image.value.as_str()).await?;
        *self.lock_image() = Some(found.clone());
        Ok(found)
    }

    /// What the package clients that `network.from` names are configured for. Asked once a process, when the first
    /// session is decided; a failure is not remembered, so that the operator can mend it.
    pub async fn packages(&self) -> Result<&[PackageSource], SessionError> {
        let clients: Vec<_> = self.config.network.from.iter().map(|client| client.value).collect();
        let with = Ask {
            environment: &self.surroundings.environment,
            cache_dir: &self.config.cache_dir.value,
            dialer: &self.dialer,
        };
        let asked = self.packages.get_or_try_init(|| packages::ask(&clients, with)).await?;
        Ok(asked)
    }

    /// Forgets the image: it is unfit, or a launch failed, and the operator may build another meanwhile.
    pub fn forget_image(&self) {
        *self.lock_image() = None;
    }

    /// Waits until no exchange of the ChatGPT login is under way: its answer is the only one there will be.
    pub async fn settle(&self) {
        if let Some(login) = &self.login {
            login.settle().await;
        }
    }

    fn lock_image(&self) -> MutexGuard<'_, Option<ImageFacts>> {
        // One value, whole at every point where a holder could panic.
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn upstream(config: &Config, dialer: Dialer) -> Upstream {
    let ca_bundle = config.network.ca_bundle.as_ref().map(|path| path.value.clone());
    Upstream::new(dialer, ca_bundle)
}

/// The host's ChatGPT login; `None` where no file can be named, which `config` refuses with `auth.mode = "chatgpt"`.
pub(super) fn login(config: &Config, upstream: Upstream) -> Option<ChatGptLogin> {
    let file = config.auth.file.as_ref()?.value.clone();
    let token_url = config.auth.token_url.value.clone();
    Some(ChatGptLogin::new(file, token_url, upstream, Redactor::of_process()))
}

pub(super) fn dialer(network: &NetworkSettings, surroundings: &Arc<Surroundings>) -> Dialer {
    let nameservers: Vec<_> = network.nameservers.iter().map(|server| server.value).collect();
    let names = Names::new(&nameservers);
    let Some(proxy) = &network.proxy else {
        return Dialer::new(names);
    };
    let login = proxy.credentials.as_ref().map(|source| {
        let login = ProxyLogin::new(source.value.clone(), secrets(surroundings));
        Arc::new(login) as Arc<dyn Credentials>
    });
    Dialer::through(names, Proxy::new(proxy.clone(), login))
}

pub(super) fn secrets(surroundings: &Arc<Surroundings>) -> SecretReader {
    let surroundings = Arc::clone(surroundings);
    let lookup = move |name: &str| surroundings.variable(name)?.to_str().map(str::to_owned);
    SecretReader::new(lookup, Redactor::of_process())
}

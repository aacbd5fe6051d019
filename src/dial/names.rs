//! Names → addresses, by the system's resolver configuration or the operator's name servers.
//!
//! The binary is linked statically, and glibc's `getaddrinfo` loads shared libraries at run time, so hickory resolves. A
//! name here is absolute: a search domain never makes another host of it, because what was decided on is this name.

use crate::config::host::{DnsName, Host};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, Resolver, TokioResolver};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The longest that a lookup may take, with the resolver's own retries.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How many addresses of a name are used. A name server may send hundreds, and each is checked and perhaps dialled.
const MAX_ADDRESSES: usize = 16;
/// Answers that are remembered for as long as they are valid.
const CACHED_ANSWERS: u64 = 1024;

/// Looks names up; cheap to make and to clone. The system's files are read by the first lookup that needs them, and again
/// once they have changed: a laptop finds other name servers in every network.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    from: Source,
    loaded: Mutex<Option<Loaded>>,
}

/// Who knows the names.
enum Source {
    Servers(Vec<SocketAddr>),
    System { resolv_conf: PathBuf, hosts: PathBuf },
}

struct Loaded {
    files: [Option<Stamp>; 2],
    sources: Arc<Sources>,
}

/// Which file it is, and which state of it; as far as a file system tells without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    async fn of(path: &Path) -> Option<Self> {
        let metadata = tokio::fs::metadata(path).await.ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

struct Sources {
    /// `/etc/hosts`; empty where the operator names the servers.
    hosts: Hosts,
    resolver: TokioResolver,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.from {
            Source::Servers(servers) => f.debug_tuple("Names").field(servers).finish(),
            Source::System { resolv_conf, .. } => f.debug_tuple("Names").field(resolv_conf).finish(),
        }
    }
}

/// Why a name has no address. Has no words of a name server: those may be an attacker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("the name servers know no address for it")]
    NoAddress,
    #[error("no answer from the name servers")]
    TimedOut,
    #[error("the name servers refused to answer ({0})")]
    Refused(ResponseCode),
    #[error("the name servers can't be reached ({0})")]
    Unreachable(io::ErrorKind),
    #[error("no name server is configured; name one in network.nameservers or in /etc/resolv.conf")]
    NoServers,
    #[error("the name servers' answer can't be used")]
    Unusable,
}

impl Names {
    /// Asks `nameservers` and nothing else; if there are none, the system's (`/etc/hosts`, `/etc/resolv.conf`).
    pub fn new(nameservers: &[SocketAddr]) -> Self {
        Self::by(match nameservers {
            [] => Source::System {
                resolv_conf: "/etc/resolv.conf".into(),
                hosts: "/etc/hosts".into(),
            },
            servers => Source::Servers(servers.to_vec()),
        })
    }

    fn by(from: Source) -> Self {
        Self(Arc::new(Shared {
            from,
            loaded: Mutex::default(),
        }))
    }

    /// A host's addresses: its own where it is one, else as [`Self::lookup`] finds them.
    pub async fn of(&self, host: &Host) -> Result<Vec<IpAddr>, LookupError> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => self.lookup(name).await,
        }
    }

    /// One lookup, of at most 10 s. Between 1 and 16 addresses, none of them twice, both families in turn.
    pub async fn lookup(&self, name: &DnsName) -> Result<Vec<IpAddr>, LookupError> {
        if name.is_localhost() {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        self.0.sources().await?.find(name, LOOKUP_TIMEOUT).await
    }
}

impl Shared {
    async fn sources(&self) -> Result<Arc<Sources>, LookupError> {
        let mut loaded = self.loaded.lock().await;
        let files = match &self.from {
            Source::Servers(_) => [None, None],
            Source::System { resolv_conf, hosts } => [Stamp::of(resolv_conf).await, Stamp::of(hosts).await],
        };
        match &*loaded {
            Some(known) if known.files == files => Ok(Arc::clone(&known.sources)),
            _ => {
                let sources = Arc::new(Sources::load(&self.from).await?);
                let known = loaded.insert(Loaded { files, sources });
                Ok(Arc::clone(&known.sources))
            }
        }
    }
}

impl Sources {
    async fn load(from: &Source) -> Result<Self, LookupError> {
        let (mut builder, hosts) = match from {
            Source::Servers(servers) => (from_servers(servers), Hosts::default()),
            Source::System { resolv_conf, hosts } => (from_system(resolv_conf).await, listed_in(hosts).await),
        };
        configure(builder.options_mut());
        let resolver = builder.build().map_err(|_| LookupError::NoServers)?;
        Ok(Self { hosts, resolver })
    }

    async fn find(&self, name: &DnsName, limit: Duration) -> Result<Vec<IpAddr>, LookupError> {
        let mut name = Name::from_ascii(name.as_str()).map_err(|_| LookupError::NoAddress)?;
        // Or the search domains of resolv.conf would be tried.
        name.set_fqdn(true);
        let listed = self.listed(&name);
        if !listed.is_empty() {
            return Ok(usable(listed));
        }
        let asking = tokio::time::timeout(limit, self.resolver.lookup_ip(name));
        let answer = asking.await.map_err(|_elapsed| LookupError::TimedOut)?;
        let answer = answer.map_err(|error| reason(&error))?;
        match usable(answer.iter().collect()) {
            addresses if addresses.is_empty() => Err(LookupError::NoAddress),
            addresses => Ok(addresses),
        }
    }

    /// What /etc/hosts says. The resolver would ask the servers for the family that is not listed there, and so add
    /// addresses to a name that somebody pinned.
    fn listed(&self, name: &Name) -> Vec<IpAddr> {
        [RecordType::AAAA, RecordType::A]
            .into_iter()
            .filter_map(|family| self.hosts.lookup_static_host(&Query::query(name.clone(), family)))
            .flat_map(|found| {
                found
                    .answers()
                    .iter()
                    .filter_map(|record| record.data.ip_addr())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

type Builder = hickory_resolver::ResolverBuilder<TokioRuntimeProvider>;

/// Without a usable file there are no servers, and what `/etc/hosts` has still resolves.
async fn from_system(resolv_conf: &Path) -> Builder {
    let parsed = match tokio::fs::read(resolv_conf).await {
        Ok(text) => parse_resolv_conf(text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match parsed {
        Ok((config, options)) => {
            Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options)
        }
        Err(error) => {
            tracing::warn!(path = %resolv_conf.display(), error, "can't use the list of name servers");
            from_servers(&[])
        }
    }
}

async fn listed_in(hosts: &Path) -> Hosts {
    let mut listed = Hosts::default();
    if let Ok(text) = tokio::fs::read(hosts).await
        && let Err(error) = listed.read_hosts_conf(&text[..])
    {
        tracing::warn!(path = %hosts.display(), %error, "can't use the list of hosts");
    }
    listed
}

fn from_servers(servers: &[SocketAddr]) -> Builder {
    let config = ResolverConfig::from_name_servers(name_servers(servers));
    Resolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn name_servers(servers: &[SocketAddr]) -> Vec<NameServerConfig> {
    let over = |protocol, port| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = port;
        connection
    };
    let server = |server: &SocketAddr| {
        let connections = vec![
            over(ProtocolConfig::Udp, server.port()),
            over(ProtocolConfig::Tcp, server.port()),
        ];
        NameServerConfig::new(server.ip(), true, connections)
    };
    servers.iter().map(server).collect()
}

fn configure(options: &mut ResolverOpts) {
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = CACHED_ANSWERS;
}

fn reason(error: &NetError) -> LookupError {
    if error.is_nx_domain() || error.is_no_records_found() {
        return LookupError::NoAddress;
    }
    match error {
        NetError::Timeout => LookupError::TimedOut,
        NetError::NoConnections => LookupError::NoServers,
        NetError::Io(error) => LookupError::Unreachable(error.kind()),
        NetError::Dns(DnsError::ResponseCode(code)) => LookupError::Refused(*code),
        _ => LookupError::Unusable,
    }
}

/// Without repetitions, the families in turn: neither is cut off by the bound, nor waits for all of the other.
fn usable(mut found: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    found.retain(|address| seen.insert(*address));
    let first_is_ipv6 = found.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    std::iter::from_fn(|| Some([first.next(), second.next()]))
        .take_while(|pair| pair.iter().any(Option::is_some))
        .flatten()
        .flatten()
        .take(MAX_ADDRESSES)
        .collect()
}

#[cfg(test)]
mod tests;

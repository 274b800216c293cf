//! The addresses of hosts, by their names: those in `/etc/hosts`, then as the servers in `/etc/resolv.conf` answer.
//!
//! The C library would look names up as `/etc/nsswitch.conf` says, by modules of this host's. A program that is linked statically loads
//! these together with the host's own C library, of another version, which may end it. So this is done here, without the C library, and
//! what only such a module knows is not found: mDNS, LDAP, containers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, iter, mem};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use object_store::client::{DnsFuture, DnsResolver};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::web::chain;

/// The file that names servers.
const SERVERS: &str = "/etc/resolv.conf";
/// How long a server on this host may take.
const LOCAL: Duration = Duration::from_secs(2);

/// Looks names up, for the HTTP client of one delivery.
#[derive(Clone, Debug)]
pub(crate) struct Names(Arc<Lookup>);

impl Names {
    /// As this host does now.
    pub(crate) fn of_host() -> Self {
        Self(Arc::new(Lookup::of_host()))
    }
}

impl DnsResolver for Names {
    fn resolve(&self, host: &str) -> DnsFuture {
        let (lookup, host) = (Arc::clone(&self.0), host.to_owned());
        Box::pin(async move { Ok(lookup.ask(&host).await?) })
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = Arc::clone(&self.0);
        Box::pin(async move {
            let found = lookup.ask(name.as_str()).await?.into_iter();
            // The port is the address's.
            let found: Addrs = Box::new(found.map(|address| SocketAddr::new(address, 0)));
            Ok(found)
        })
    }
}

/// Why the address of a host is unknown. Its text says what to do.
#[derive(Debug)]
struct NameError {
    name: String,
    reason: String,
    /// Why no server is named, if none is.
    unserved: Option<String>,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, reason, unserved } = self;
        match unserved {
            Some(why) => write!(
                f,
                "the address of {name} is unknown: it is not in /etc/hosts, and {SERVERS} names no server ({why}); write `nameserver ADDRESS` \
                 into it, or `ADDRESS {name}` into /etc/hosts"
            ),
            None => write!(
                f,
                "the address of {name} is unknown: it is not in /etc/hosts, and the servers in {SERVERS} said: {reason}; names of mDNS, LDAP and \
                 other modules of nsswitch.conf are not looked up: `ADDRESS {name}` in /etc/hosts makes one known"
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// How names are looked up on this host.
#[derive(Debug)]
struct Lookup {
    config: ResolverConfig,
    /// Those of one server: it is asked once.
    options: ResolverOpts,
    /// How often all servers are asked.
    rounds: usize,
    unserved: Option<String>,
}

impl Lookup {
    /// As the file says. Without one, a server on this host is asked, as resolv.conf(5) has it.
    fn of_host() -> Self {
        let read = fs::read(SERVERS).map_err(NetError::from).and_then(parse_resolv_conf);
        let (config, mut options, unserved) = match read {
            Ok((config, options)) => (config, options, None),
            Err(error) => {
                let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![local]);
                let mut options = ResolverOpts::default();
                (options.timeout, options.attempts) = (LOCAL, 1);
                (config, options, Some(chain(&error)))
            }
        };
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let rounds = mem::replace(&mut options.attempts, 0).max(1);
        Self { config, options, rounds, unserved }
    }

    /// Asks one server after the other, in their order and as often as the file says: one that answers has the last word. The library
    /// would ask two at once, and take whichever answers first.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let mut reason = NetError::NoConnections;
        let round = self.config.name_servers();
        for server in iter::repeat_n(round, self.rounds).flatten() {
            reason = match self.ask_one(server.clone(), name).await {
                Ok(found) => return Ok(found),
                Err(silent @ (NetError::Timeout | NetError::Io(_) | NetError::NoConnections)) => silent,
                Err(answer) => {
                    reason = answer;
                    break;
                }
            };
        }
        Err(NameError { name: name.to_owned(), reason: chain(&reason), unserved: self.unserved.clone() })
    }

    async fn ask_one(&self, server: NameServerConfig, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let (domain, search) = (self.config.domain().cloned(), self.config.search().to_vec());
        let config = ResolverConfig::from_parts(domain, search, vec![server]);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let found = resolver.with_options(self.options.clone()).build()?.lookup_ip(name).await?;
        Ok(found.iter().collect())
    }
}

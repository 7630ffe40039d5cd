//! Replicas found by SRV records, as Azure App Configuration publishes them.
//!
//! ```text
//! _origin._tcp.contoso.azconfig.io       →  contoso.azconfig.io         the origin of the store
//! _alt0._tcp.contoso.azconfig.io         →  contoso-west.azconfig.io    its replicas, counted from 0 on
//! _alt1._tcp.contoso.azconfig.io         →  …                           until there is none
//! ```
//!
//! Only hosts of the store's own domain count (`.azconfig.io` here): whoever can forge an answer of the name server must not send the
//! sidecar's signed requests elsewhere. TLS proves the host all the same.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use http::uri::Authority;

/// The most replicas that are looked for. A store has at most a handful.
const MOST_REPLICAS: usize = 16;

/// The labels behind which the domain of a store begins.
const STORE_LABELS: [&str; 2] = [".azconfig.", ".appconfig."];

/// Why replicas cannot be looked for now. A later try may succeed.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot look for replicas: {0}; check the name servers of this machine, or name the replicas in upstream.replicas"
)]
pub struct DiscoveryError(#[from] NetError);

/// Looks for replicas.
#[derive(Clone)]
pub struct ReplicaDiscovery {
    resolver: TokioResolver,
}

impl ReplicaDiscovery {
    /// With the name servers of this machine.
    ///
    /// # Errors
    /// When they are not known.
    pub fn of_system() -> Result<Self, DiscoveryError> {
        Ok(Self { resolver: TokioResolver::builder_tokio()?.build()? })
    }

    /// With one name server, over UDP.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn at(server: SocketAddr) -> Result<Self, DiscoveryError> {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Ok(Self { resolver: builder.build()? })
    }

    /// The other endpoints of the store at this host: its origin, then its replicas. Empty where it publishes none.
    ///
    /// # Errors
    /// [`DiscoveryError`]
    pub async fn replicas(&self, host: &str) -> Result<Vec<Authority>, DiscoveryError> {
        let domain = store_domain(host);
        let Some(origin) = self.target(&format!("_origin._tcp.{host}."), domain).await? else {
            return Ok(Vec::new());
        };
        let mut found = vec![origin.clone()];
        for number in 0..MOST_REPLICAS {
            match self.target(&format!("_alt{number}._tcp.{}.", origin.host()), domain).await? {
                Some(replica) => found.push(replica),
                None => break,
            }
        }
        let mut replicas: Vec<Authority> = Vec::new();
        for authority in found {
            if !authority.host().eq_ignore_ascii_case(host) && !replicas.contains(&authority) {
                replicas.push(authority);
            }
        }
        Ok(replicas)
    }

    /// The host that an SRV record names, if there is one and it lies in the domain.
    async fn target(&self, name: &str, domain: &str) -> Result<Option<Authority>, DiscoveryError> {
        let found = match self.resolver.srv_lookup(name).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(record) => Some(record),
            _ => None,
        });
        let Some(record) = records.min_by_key(|record| record.priority) else { return Ok(None) };
        let host = record.target.to_utf8();
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if !lies_in(&host, domain) {
            tracing::warn!(
                record = name,
                host,
                "an SRV record names a host of another domain, which is not asked"
            );
            return Ok(None);
        }
        let port = if record.port == 443 { String::new() } else { format!(":{}", record.port) };
        Ok(format!("{host}{port}").parse().ok())
    }
}

/// The domain of a store: from the label of the service on, else all but the first label.
fn store_domain(host: &str) -> &str {
    let of_service = STORE_LABELS.iter().find_map(|label| host.find(label).map(|at| &host[at..]));
    of_service.or_else(|| host.find('.').map(|at| &host[at..])).unwrap_or(host)
}

fn lies_in(host: &str, domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    // One label alone is no domain of a store.
    domain.matches('.').count() >= 2 && host.strip_suffix(&domain).is_some_and(|store| !store.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_the_domain_of_the_store_count() {
        for (host, domain) in [
            ("contoso.azconfig.io", ".azconfig.io"),
            ("contoso.region.appconfig.azure.com", ".appconfig.azure.com"),
            ("store.example.com", ".example.com"),
        ] {
            assert_eq!(store_domain(host), domain);
        }
        assert!(lies_in("contoso-west.azconfig.io", ".azconfig.io"));
        assert!(!lies_in(".azconfig.io", ".azconfig.io") || store_domain(".azconfig.io") == ".azconfig.io");
        for other in ["contoso.azconfig.io.evil.example", "evil.example", "azconfig.io", "contosoazconfig.io"]
        {
            assert!(!lies_in(other, ".azconfig.io"), "{other}");
        }
        assert!(!lies_in("evil.com", store_domain("store.com")), "a bare domain is no store");
    }
}

//! What the configuration says of one upstream.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::budget::Budget;
use super::endpoints::Endpoints;
use crate::credentials::Credential;
use crate::fleet::member::FleetMember;
use crate::profile::Profile;
use crate::transport::client::PooledClient;

/// What the configuration says of one upstream, and what is made of it at once. A reload replaces all of it together; what is behind an
/// [`Arc`] may be the same as before.
pub struct ResolvedSettings {
    /// Its name in the configuration. Its keys in the store begin with it.
    pub name: String,
    /// Where it is: its URL and its replicas.
    pub endpoints: Arc<Endpoints>,
    /// How long a replica may lag behind.
    pub replica_lag: Duration,
    /// What kind of API it is.
    pub profile: Arc<dyn Profile>,
    /// How the sidecar proves itself there.
    pub credential: Arc<dyn Credential>,
    /// How long an unknown write stays open where no tokens tell, and by how much the origin's clocks may differ.
    pub settle_time: Duration,
    /// How long the answer to a write that carries no token waits for other open writes.
    pub conflict_wait: Duration,
    /// The longest pause that it may ask for.
    pub retry_after_limit: Duration,
    /// How many requests its quota allows; `None`: no limit is known.
    pub budget: Option<Arc<Budget>>,
    /// Its membership in a fleet.
    pub fleet: Option<Arc<FleetMember>>,
    /// How the sidecar names itself in `Via`.
    pub via: HeaderValue,
}

impl ResolvedSettings {
    /// The client of the endpoint that the configuration names first.
    #[must_use]
    pub fn client(&self) -> &PooledClient {
        &self.endpoints.first().client
    }
}

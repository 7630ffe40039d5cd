//! The engine of a fleet: Redis 6.2 or newer, or Valkey.
//!
//! | key, after `tagalong:{stream}:` | type | what it holds |
//! |---|---|---|
//! | `entries` | stream | the last entries; the id of an entry is its number |
//! | `number` | integer | the number of the last entry |
//! | `tokens` | hash | of each token id the newest token |
//! | `read`, `seen` | sorted sets | of each member what it has read, and when it took its last turn |
//! | `epoch` | string | which data this is: lost with the rest of it |
//! | `key` | string | which key the members have; expires when no member lives |
//! | `began` | hash | the run of the process, and when the first member joined it |
//! | `fence` | integer | the last fence that was given |
//! | `record:…` | hash | a record: its run, fence, head and body; expires |
//! | `lease:…` | string | who renews a record; expires |
//!
//! What belongs together is one script, so that the engine does it at once. All keys of a stream have one hash tag, so they lie on one node
//! of a cluster.
//!
//! Errors: a connection that broke is not opened again behind the back of a member, because the engine may be another one by then. The
//! member joins again, and finds out.

mod scripts;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _,
    RedisError, Script, ScriptInvocation, ServerErrorKind, TlsCertificates, Value, cmd,
};

use super::engine::{
    AnnouncedToken, ClockReading, EngineAnswer, EngineError, FleetEngine, FleetStream, Heard, Joined,
    LookedUp, MemberTurn, Publication, StreamEntry,
};
use crate::clock::instant;
use crate::config::FleetSettings;
use crate::config::input_file;
use crate::config::secret::SecretString;

/// How many entries the stream keeps.
const MOST_ENTRIES: usize = 8_192;

/// How many entries a member reads when it joins, and how many in one turn.
const HISTORY_ENTRIES: usize = 1_024;
const TURN_ENTRIES: usize = 256;

/// How long the key of a fleet is known after its last member.
const KEY_KEPT: Duration = Duration::from_secs(10);

/// A member that has taken no turn for so many leases has none.
const LEASES_UNTIL_GONE: u32 = 3;

/// Why a fleet cannot be joined at all: a setting that no time mends.
#[derive(Debug, thiserror::Error)]
pub enum FleetUrlError {
    /// A URL that names no engine.
    #[error(
        "fleet.url: {url:?}: {cause}; write something like redis://127.0.0.1:6379, rediss://cache.example:6380 or unix:///run/valkey.sock"
    )]
    Url {
        /// As it was written.
        url: String,
        /// What is wrong.
        cause: String,
    },
    /// A password in the URL would be shown with it.
    #[error("fleet.url has a password: put it into a file that fleet.password_file names")]
    Password,
    /// A file that cannot be read.
    #[error("{key} {}: {cause}{}", path.display(), input_file::advice(cause))]
    File {
        /// The key.
        key: &'static str,
        /// The path.
        path: std::path::PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// The nodes of the engine. One of them is the primary.
pub struct RedisEngine {
    nodes: Arc<[Client]>,
    lease: Duration,
}

impl RedisEngine {
    /// The engine that the configuration names. Opens no connection.
    ///
    /// # Errors
    /// [`FleetUrlError`]
    pub fn new(settings: &FleetSettings) -> Result<Self, FleetUrlError> {
        let file =
            |key, path: &std::path::Path, cause| FleetUrlError::File { key, path: path.to_owned(), cause };
        let password = settings
            .password_file
            .as_ref()
            .map(|path| SecretString::read(path).map_err(|cause| file("fleet.password_file", path, cause)));
        let password = password.transpose()?;
        let ca = settings.ca_file.as_ref().map(|path| {
            input_file::read(path, input_file::CERTIFICATES_LIMIT_BYTES)
                .map(|(_, pem)| pem.to_vec())
                .map_err(|cause| file("fleet.ca_file", path, cause))
        });
        let ca = ca.transpose()?;
        let nodes = settings.url.iter().map(|url| client(url, password.as_ref(), ca.as_deref()));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, lease: settings.lease })
    }
}

fn client(url: &str, password: Option<&SecretString>, ca: Option<&[u8]>) -> Result<Client, FleetUrlError> {
    let failed = |error: RedisError| FleetUrlError::Url { url: url.to_owned(), cause: error.to_string() };
    let info = url.into_connection_info().map_err(failed)?;
    if info.redis_settings().password().is_some() {
        return Err(FleetUrlError::Password);
    }
    let redis_settings = match password {
        Some(password) => info.redis_settings().clone().set_password(password.expose()),
        None => info.redis_settings().clone(),
    };
    let info = info.set_redis_settings(redis_settings);
    match info.addr() {
        ConnectionAddr::TcpTls { .. } => {
            let trusted = TlsCertificates { client_tls: None, root_cert: ca.map(<[u8]>::to_vec) };
            Client::build_with_tls(info, trusted).map_err(failed)
        }
        _ => Client::open(info).map_err(failed),
    }
}

impl FleetEngine for RedisEngine {
    fn stream(&self, name: &str) -> Arc<dyn FleetStream> {
        let key = |what: &str| format!("tagalong:{{{name}}}:{what}");
        Arc::new(RedisStream {
            nodes: Arc::clone(&self.nodes),
            lease: self.lease,
            entries: key("entries"),
            number: key("number"),
            tokens: key("tokens"),
            read: key("read"),
            seen: key("seen"),
            epoch: key("epoch"),
            key: key("key"),
            began: key("began"),
            fence: key("fence"),
            record: key("record:"),
            lease_of: key("lease:"),
            scripts: Scripts::default(),
            connected: Mutex::default(),
        })
    }
}

struct Scripts {
    join: Script,
    turn: Script,
    announce: Script,
    unconfirmed: Script,
    look_up: Script,
    publish: Script,
    release: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            join: Script::new(scripts::JOIN),
            turn: Script::new(scripts::TURN),
            announce: Script::new(scripts::ANNOUNCE),
            unconfirmed: Script::new(scripts::UNCONFIRMED),
            look_up: Script::new(scripts::LOOK_UP),
            publish: Script::new(scripts::PUBLISH),
            release: Script::new(scripts::RELEASE),
        }
    }
}

struct RedisStream {
    nodes: Arc<[Client]>,
    lease: Duration,
    entries: String,
    number: String,
    tokens: String,
    read: String,
    seen: String,
    epoch: String,
    key: String,
    began: String,
    fence: String,
    record: String,
    lease_of: String,
    scripts: Scripts,
    connected: Mutex<Option<Connected>>,
}

/// The connections to one process of the engine.
#[derive(Clone)]
struct Connected {
    commands: MultiplexedConnection,
    /// The one whose commands wait.
    waiting: MultiplexedConnection,
    epoch: String,
    key_id: String,
    run: String,
}

impl RedisStream {
    fn connected(&self) -> Result<Connected, EngineError> {
        self.lock().clone().ok_or(EngineError::Away)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        // Nothing under this lock can panic half way through a change.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to the primary: twice, to one process.
    async fn connect(&self) -> Result<(MultiplexedConnection, MultiplexedConnection, String), EngineError> {
        let mut why = EngineError::Away;
        for node in &*self.nodes {
            match self.connect_to(node).await {
                Ok(connected) => return Ok(connected),
                // What one primary says tells more than that another node is none.
                Err(error) if why == EngineError::Away || error == EngineError::Refused => why = error,
                Err(_) => {}
            }
        }
        Err(why)
    }

    async fn connect_to(
        &self,
        node: &Client,
    ) -> Result<(MultiplexedConnection, MultiplexedConnection, String), EngineError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.lease))
            // Each command has a limit of its own.
            .set_response_timeout(None);
        let connect = async || {
            let mut connection = node.get_multiplexed_async_connection_with_config(&config).await?;
            let info: String = cmd("INFO").arg("server").query_async(&mut connection).await?;
            let role: Value = cmd("ROLE").query_async(&mut connection).await?;
            Ok::<_, RedisError>((connection, run_id(&info), role))
        };
        let (commands, run, role) = connect().await.map_err(engine_error)?;
        let (waiting, other_run, _) = connect().await.map_err(engine_error)?;
        let is_primary = matches!(&role, Value::Array(parts) if parts.first().is_some_and(is_primary));
        match run {
            _ if !is_primary => Err(EngineError::ReadOnly),
            Some(run) if Some(&run) == other_run.as_ref() => Ok((commands, waiting, run)),
            _ => Err(EngineError::Away),
        }
    }

    /// A script over the keys of the stream as a whole.
    fn of_stream<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut invocation = script.key(&self.entries);
        invocation.key(&self.number).key(&self.tokens).key(&self.read).key(&self.epoch).key(&self.key);
        invocation
    }

    /// The entries of a reply of `XREVRANGE` or `XREAD`.
    fn entries(value: &Value) -> Result<Vec<StreamEntry>, EngineError> {
        let Value::Array(entries) = value else { return Err(EngineError::Answer) };
        entries.iter().map(entry).collect::<Option<_>>().ok_or(EngineError::Answer)
    }
}

fn is_primary(role: &Value) -> bool {
    String::from_redis_value_ref(role).is_ok_and(|role| role == "master")
}

/// The line `run_id:…` of `INFO server`.
fn run_id(info: &str) -> Option<String> {
    info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned())
}

fn entry(value: &Value) -> Option<StreamEntry> {
    let Value::Array(parts) = value else { return None };
    let [id, Value::Array(fields)] = &**parts else { return None };
    let id = String::from_redis_value_ref(id).ok()?;
    let number = id.strip_suffix("-0")?.parse().ok()?;
    let sealed = Vec::<u8>::from_redis_value_ref(fields.get(1)?).ok()?;
    Some(StreamEntry { number, sealed })
}

fn engine_error(error: RedisError) -> EngineError {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => EngineError::Refused,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => EngineError::ReadOnly,
        ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => EngineError::Away,
        _ => match error.code() {
            Some("FLEETKEY") => EngineError::Key,
            Some("FLEETFORGOT") => EngineError::Forgot,
            Some("OOM") => EngineError::Full,
            Some("READONLY" | "MISCONF" | "NOREPLICAS") => EngineError::ReadOnly,
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => EngineError::Refused,
            Some(_) => EngineError::Answer,
            None if error.is_timeout() => EngineError::Slow,
            None if error.kind() == ErrorKind::UnexpectedReturnType => EngineError::Answer,
            None => EngineError::Away,
        },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl FleetStream for RedisStream {
    fn join<'a>(&'a self, _: &'a str, key_id: &'a str) -> EngineAnswer<'a, Joined> {
        Box::pin(async move {
            *self.lock() = None;
            let (mut commands, waiting, run_id) = self.connect().await?;
            let (age, epoch, last, history, tokens): (u64, String, u64, Value, Vec<Vec<u8>>) = self
                .of_stream(&self.scripts.join)
                .key(&self.began)
                .arg(key_id)
                .arg(millis(KEY_KEPT))
                .arg(format!("{:032x}", fastrand::u128(..)))
                .arg(HISTORY_ENTRIES)
                .arg(&run_id)
                .invoke_async(&mut commands)
                .await
                .map_err(engine_error)?;
            let mut history = Self::entries(&history)?;
            history.reverse();
            let run = format!("{run_id} {epoch}");
            let connected =
                Connected { commands, waiting, epoch, key_id: key_id.to_owned(), run: run.clone() };
            *self.lock() = Some(connected);
            // Behind the sequence number, in twenty digits.
            let tokens = tokens.into_iter().filter_map(|token| token.get(20..).map(<[u8]>::to_vec)).collect();
            Ok(Joined { run, age: Duration::from_millis(age), last, history, tokens })
        })
    }

    fn turn<'a>(&'a self, turn: MemberTurn<'a>) -> EngineAnswer<'a, Heard> {
        Box::pin(async move {
            let mut connected = self.connected()?;
            let asked = instant();
            let shown: u64 = self
                .of_stream(&self.scripts.turn)
                .key(&self.seen)
                .arg(&connected.epoch)
                .arg(&connected.key_id)
                .arg(turn.member)
                .arg(turn.read)
                .arg(millis(KEY_KEPT))
                .invoke_async(&mut connected.waiting)
                .await
                .map_err(engine_error)?;
            let clock = ClockReading { asked, answered: instant(), millis: shown };
            let reply: Value = cmd("XREAD")
                .arg("COUNT")
                .arg(TURN_ENTRIES)
                .arg("BLOCK")
                .arg(millis(turn.wait).max(1))
                .arg("STREAMS")
                .arg(&self.entries)
                .arg(format!("{}-0", turn.read))
                .query_async(&mut connected.waiting)
                .await
                .map_err(engine_error)?;
            let entries = match reply {
                Value::Nil => Vec::new(),
                Value::Array(streams) => match &*streams {
                    [Value::Array(stream)] => Self::entries(stream.get(1).ok_or(EngineError::Answer)?)?,
                    _ => return Err(EngineError::Answer),
                },
                _ => return Err(EngineError::Answer),
            };
            let is_partial = entries.len() >= TURN_ENTRIES;
            Ok(Heard { clock, entries, is_partial })
        })
    }

    fn announce<'a>(&'a self, sealed: Vec<u8>, tokens: Vec<AnnouncedToken>) -> EngineAnswer<'a, u64> {
        Box::pin(async move {
            let mut connected = self.connected()?;
            let mut announce = self.scripts.announce.prepare_invoke();
            announce.key(&self.entries).key(&self.number).key(&self.tokens).key(&self.epoch);
            announce.arg(&connected.epoch).arg(MOST_ENTRIES).arg(sealed);
            for token in tokens {
                announce.arg(token.id).arg(format!("{:020}", token.sequence_number)).arg(token.sealed);
            }
            announce.invoke_async(&mut connected.commands).await.map_err(engine_error)
        })
    }

    fn unconfirmed<'a>(&'a self, number: u64, lease: Duration) -> EngineAnswer<'a, u64> {
        Box::pin(async move {
            let mut connected = self.connected()?;
            let mut unconfirmed = self.scripts.unconfirmed.key(&self.read);
            unconfirmed.key(&self.seen).arg(number).arg(millis(lease * LEASES_UNTIL_GONE));
            unconfirmed.invoke_async(&mut connected.commands).await.map_err(engine_error)
        })
    }

    fn look_up<'a>(
        &'a self,
        record: &'a str,
        member: &'a str,
        lease: Option<Duration>,
    ) -> EngineAnswer<'a, LookedUp> {
        Box::pin(async move {
            let mut connected = self.connected()?;
            let mut look_up = self.scripts.look_up.key(format!("{}{record}", self.record));
            look_up.key(format!("{}{record}", self.lease_of)).key(&self.fence);
            look_up.arg(&connected.run).arg(member).arg(lease.map_or(0, millis));
            let (head, fence): (Option<Vec<u8>>, u64) =
                look_up.invoke_async(&mut connected.commands).await.map_err(engine_error)?;
            Ok(LookedUp { head, fence: (fence > 0).then_some(fence) })
        })
    }

    fn body<'a>(&'a self, record: &'a str) -> EngineAnswer<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut connected = self.connected()?;
            let mut body = cmd("HGET");
            body.arg(format!("{}{record}", self.record)).arg("body");
            body.query_async(&mut connected.commands).await.map_err(engine_error)
        })
    }

    fn publish<'a>(&'a self, publication: Publication<'a>) -> EngineAnswer<'a, ()> {
        Box::pin(async move {
            let mut connected = self.connected()?;
            let Publication { record, member, fence, head, body, keep } = publication;
            let mut publish = self.scripts.publish.key(format!("{}{record}", self.record));
            publish.key(format!("{}{record}", self.lease_of));
            publish.arg(&connected.run).arg(fence).arg(head).arg(millis(keep)).arg(member);
            if let Some(body) = body {
                publish.arg(body);
            }
            publish.invoke_async(&mut connected.commands).await.map_err(engine_error)
        })
    }

    fn release<'a>(&'a self, record: &'a str, member: &'a str) -> EngineAnswer<'a, ()> {
        Box::pin(async move {
            let mut connected = self.connected()?;
            let mut release = self.scripts.release.key(format!("{}{record}", self.lease_of));
            release.arg(member).invoke_async(&mut connected.commands).await.map_err(engine_error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> FleetSettings {
        let text = format!("fleet.url={url}");
        let layers = crate::config::Layers::new().setting(&text).setting("upstream.url=http://127.0.0.1:9");
        crate::config::Config::unvalidated(layers).unwrap().fleet
    }

    #[test]
    fn urls_are_read_and_slips_are_answered() {
        for url in ["redis://127.0.0.1", "redis://u@h:1,redis://g:2/3", "rediss://h", "unix:///run/v.sock"] {
            assert!(RedisEngine::new(&settings(url)).is_ok(), "{url}");
        }
        let error = |url: &str| RedisEngine::new(&settings(url)).err().unwrap().to_string();
        assert!(error("localhost:6379").contains("redis://127.0.0.1:6379"));
        assert!(error("redis://:hunter2@h").contains("fleet.password_file"));
        assert!(!error("redis://:hunter2@h").contains("hunter2"));
    }

    #[test]
    fn the_run_of_a_process_is_in_its_info() {
        assert_eq!(run_id("# Server\r\nredis_version:7\r\nrun_id:abc\r\n").as_deref(), Some("abc"));
        assert_eq!(run_id("# Server"), None);
    }
}

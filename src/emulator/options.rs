//! The command line of `tagalong emulator`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::drift::{DEFAULT_RATE_PER_SECOND, MAXIMUM_RATE_PER_SECOND};
use super::events::EventSchema;
use super::events::delivery::parse_webhook;
use super::faults::help::FAULTS_HELP;
use super::tokens::{MAXIMUM_IDS, TokenMode};
use crate::config::duration::{DurationError, parse_duration};
use crate::headers::access_key::{AccessKey, SecretBytes};
use crate::profile::app_configuration::page::PAGE_SIZE;

/// The port of the vendor's emulator.
pub const DEFAULT_PORT: u16 = 8483;
/// The port of the admin endpoints.
pub const DEFAULT_ADMIN_PORT: u16 = 8486;

/// Runs an App Configuration store in memory.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Address to listen on; may be repeated [default: port 8483 on both loopbacks]
    #[arg(long, value_name = "ADDR", env = "TAGALONG_EMULATOR__LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,

    /// Address of the admin port with /__emulator/counts and /__emulator/faults [default: 127.0.0.1:8486]
    #[arg(long, value_name = "ADDR", env = "TAGALONG_EMULATOR__ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,

    /// File with the first key-values, a JSON set as the API or an export gives it
    #[arg(long, value_name = "FILE", env = "TAGALONG_EMULATOR__SEED")]
    pub seed: Option<PathBuf>,

    /// File that keeps the state across restarts; a seed is then loaded only into an empty file
    #[arg(long, value_name = "FILE", env = "TAGALONG_EMULATOR__DATA")]
    pub data: Option<PathBuf>,

    /// Webhook on this machine that receives change events, for example http://127.0.0.1:9000/events
    #[arg(long, value_name = "URL", env = "TAGALONG_EMULATOR__EVENTS", value_parser = parse_webhook)]
    pub events: Option<Uri>,

    /// Schema of change events [default: event-grid]
    #[arg(long, value_enum, value_name = "SCHEMA", env = "TAGALONG_EMULATOR__EVENTS_SCHEMA")]
    pub events_schema: Option<EventSchema>,

    /// File with faults, as TOML or JSON
    #[arg(long, value_name = "FILE", env = "TAGALONG_EMULATOR__FAULTS")]
    pub faults: Option<PathBuf>,

    /// A fault in words, for example 'delay fixed=50ms path=/kv/*'; may be repeated; --help lists them
    #[arg(long, value_name = "WORDS", long_help = FAULTS_HELP, env = "TAGALONG_EMULATOR__FAULT", value_delimiter = ';')]
    pub fault: Vec<String>,

    /// Seed of every random value: settle times, routing, tags, faults [default: a new one at each start]
    #[arg(long, value_name = "NUMBER", env = "TAGALONG_EMULATOR__RANDOM_SEED")]
    pub random_seed: Option<u64>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a text here would be help of the command")]
    pub settings: EmulatorSettings,
}

impl Options {
    /// The addresses to listen on. The default is both loopbacks, because Node resolves `localhost` to `[::1]` first.
    /// `true` marks an optional address: `[::1]` is missing on a machine without IPv6.
    pub fn listeners(&self) -> Vec<(SocketAddr, bool)> {
        if self.listen.is_empty() {
            let loopback = |address: IpAddr, optional| (SocketAddr::new(address, DEFAULT_PORT), optional);
            vec![loopback(Ipv4Addr::LOCALHOST.into(), false), loopback(Ipv6Addr::LOCALHOST.into(), true)]
        } else {
            self.listen.iter().map(|address| (*address, false)).collect()
        }
    }

    /// The address of the admin port.
    pub fn admin_listener(&self) -> SocketAddr {
        self.admin_listen.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DEFAULT_ADMIN_PORT))
    }
}

/// How an emulator behaves. By default changes are visible at once, no credential is needed, and sequence numbers rise
/// without a write, like those of the real service.
#[derive(Debug, Clone, clap::Args)]
pub struct EmulatorSettings {
    /// Access key that requests are signed with; may be repeated
    #[arg(
        long,
        value_name = "ID:BASE64SECRET",
        env = "TAGALONG_EMULATOR__HMAC",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub hmac: Vec<AccessKey>,

    /// Access key that may only read; may be repeated
    #[arg(
        long,
        value_name = "ID:BASE64SECRET",
        env = "TAGALONG_EMULATOR__HMAC_READ_ONLY",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub hmac_read_only: Vec<AccessKey>,

    /// Bearer token that is accepted; may be repeated
    #[arg(long, value_name = "TOKEN", env = "TAGALONG_EMULATOR__BEARER", hide_env_values = true, value_parser = parse_secret)]
    pub bearer: Vec<SecretBytes>,

    /// Bearer token that may only read; may be repeated
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TAGALONG_EMULATOR__BEARER_READ_ONLY",
        hide_env_values = true,
        value_parser = parse_secret
    )]
    pub bearer_read_only: Vec<SecretBytes>,

    /// Number of replicas that answer requests
    #[arg(long, default_value_t = Self::default().replicas, value_name = "N", env = "TAGALONG_EMULATOR__REPLICAS", value_parser = parse_replicas)]
    pub replicas: usize,

    /// Time within which a change settles on every replica, for example 3s
    #[arg(long, default_value = "0s", value_name = "DURATION", env = "TAGALONG_EMULATOR__SETTLE", value_parser = parse_duration_argument)]
    pub settle: Duration,

    /// Which Sync-Token answers carry
    #[arg(long, default_value_t, value_enum, value_name = "MODE", env = "TAGALONG_EMULATOR__TOKEN_MODE")]
    pub token_mode: TokenMode,

    /// How many token ids are in use, 1 to 8
    #[arg(long, default_value_t = Self::default().token_ids, value_name = "N", env = "TAGALONG_EMULATOR__TOKEN_IDS", value_parser = parse_token_ids)]
    pub token_ids: usize,

    /// How much the sequence number of tokens rises in a second without a write; 0 for no rise. With --data, keep a
    /// rate above 1.25 across restarts, or numbers may go down
    #[arg(long = "drift", default_value_t = Self::default().drift_per_second, value_name = "RATE", env = "TAGALONG_EMULATOR__DRIFT", value_parser = parse_drift)]
    pub drift_per_second: f64,

    /// Let 304s carry ETag, as the service did in earlier years
    #[arg(long = "tagged-304", env = "TAGALONG_EMULATOR__TAGGED_304")]
    pub tagged_304: bool,

    /// How long replaced revisions are kept
    #[arg(long, default_value = "30d", value_name = "DURATION", env = "TAGALONG_EMULATOR__RETENTION", value_parser = parse_duration_argument)]
    pub retention: Duration,

    /// How long the provisioning of a snapshot takes
    #[arg(long, default_value = "500ms", value_name = "DURATION", env = "TAGALONG_EMULATOR__SNAPSHOT_PROVISIONING", value_parser = parse_duration_argument)]
    pub snapshot_provisioning: Duration,

    /// Let the provisioning of snapshots fail
    #[arg(long = "fail-snapshots", env = "TAGALONG_EMULATOR__FAIL_SNAPSHOTS")]
    pub snapshots_fail: bool,

    /// Refuse writes that do not name their concurrency strategy with If-Match or If-None-Match
    #[arg(long, env = "TAGALONG_EMULATOR__REQUIRE_IF_MATCH")]
    pub require_if_match: bool,

    /// Items on a page
    #[arg(long, default_value_t = Self::default().page_size, value_name = "N", env = "TAGALONG_EMULATOR__PAGE_SIZE", value_parser = parse_page_size)]
    pub page_size: usize,
}

impl Default for EmulatorSettings {
    fn default() -> Self {
        Self {
            replicas: 1,
            settle: Duration::ZERO,
            token_mode: TokenMode::default(),
            token_ids: 1,
            drift_per_second: DEFAULT_RATE_PER_SECOND,
            tagged_304: false,
            retention: Duration::from_secs(30 * 24 * 60 * 60),
            snapshot_provisioning: Duration::from_millis(500),
            snapshots_fail: false,
            require_if_match: false,
            page_size: PAGE_SIZE,
            hmac: Vec::new(),
            hmac_read_only: Vec::new(),
            bearer: Vec::new(),
            bearer_read_only: Vec::new(),
        }
    }
}

fn parse_duration_argument(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}

fn parse_secret(text: &str) -> Result<SecretBytes, std::convert::Infallible> {
    Ok(SecretBytes::new(text.as_bytes().to_vec()))
}

/// A number on the command line is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a whole number from 1 to {0}")]
struct OutOfRange(usize);

/// A rate on the command line is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a number from 0 to {MAXIMUM_RATE_PER_SECOND}, for example 1.25; 0 for no drift")]
struct NoRate;

fn parse_drift(text: &str) -> Result<f64, NoRate> {
    text.parse().ok().filter(|rate| (0.0..=MAXIMUM_RATE_PER_SECOND).contains(rate)).ok_or(NoRate)
}

fn parse_within(text: &str, maximum: usize) -> Result<usize, OutOfRange> {
    text.parse().ok().filter(|number| (1..=maximum).contains(number)).ok_or(OutOfRange(maximum))
}

fn parse_replicas(text: &str) -> Result<usize, OutOfRange> {
    parse_within(text, 64)
}

fn parse_page_size(text: &str) -> Result<usize, OutOfRange> {
    parse_within(text, usize::from(u16::MAX))
}

fn parse_token_ids(text: &str) -> Result<usize, OutOfRange> {
    parse_within(text, MAXIMUM_IDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Command::try_parse_from([&["emulator"], arguments].concat()).map(|command| command.options)
    }

    #[test]
    fn options_are_parsed_into_settings() {
        let options = parse(&[
            "--listen",
            "127.0.0.1:9000",
            "--listen",
            "[::1]:9000",
            "--admin-listen",
            "127.0.0.1:9001",
            "--seed",
            "s.json",
            "--data",
            "d",
            "--hmac",
            "a-l0-s0:x:c2VjcmV0",
            "--hmac",
            "b:c2VjcmV0",
            "--hmac-read-only",
            "r:c2VjcmV0",
            "--bearer",
            "t",
            "--replicas",
            "3",
            "--settle",
            "3s",
            "--require-if-match",
            "--token-mode",
            "newest",
            "--token-ids",
            "2",
            "--drift",
            "0.5",
            "--tagged-304",
            "--page-size",
            "10",
            "--random-seed",
            "7",
        ])
        .unwrap();
        assert_eq!(options.listeners().len(), 2);
        let settings = &options.settings;
        assert_eq!((settings.replicas, settings.settle), (3, Duration::from_secs(3)));
        assert_eq!((settings.token_mode, settings.token_ids, settings.page_size), (TokenMode::Newest, 2, 10));
        assert!(settings.require_if_match && settings.tagged_304);
        assert!((settings.drift_per_second - 0.5).abs() < f64::EPSILON);
        let ids = |keys: &[AccessKey]| keys.iter().map(|key| key.id().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&settings.hmac), ["a-l0-s0:x", "b"]);
        assert_eq!(ids(&settings.hmac_read_only), ["r"]);
        assert!(!format!("{options:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn without_options_the_settings_are_the_defaults() {
        let unset = format!("{:?}", parse(&[]).unwrap().settings);
        assert_eq!(unset, format!("{:?}", EmulatorSettings::default()));
    }

    #[test]
    fn mistakes_are_refused_with_advice() {
        for (arguments, reason) in [
            (["--hmac", "nocolon"], "put a colon between"),
            (["--hmac", "a:!!!"], "non-empty base64"),
            (["--replicas", "0"], "from 1 to 64"),
            (["--token-ids", "9"], "from 1 to 8"),
            (["--page-size", "0"], "from 1 to 65535"),
            (["--drift", "1001"], "from 0 to 1000"),
            (["--drift", "nan"], "from 0 to 1000"),
            (["--settle", "soon"], "soon"),
            (["--listen", "localhost"], "invalid"),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn both_loopbacks_by_default() {
        let listeners = parse(&[]).unwrap().listeners();
        let texts: Vec<_> =
            listeners.iter().map(|(address, optional)| (address.to_string(), *optional)).collect();
        assert_eq!(texts, [("127.0.0.1:8483".to_owned(), false), ("[::1]:8483".to_owned(), true)]);
    }
}

//! The command line: subcommands, flags, and the configuration layer that flags make.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory as _, FromArgMatches, Parser, Subcommand};
use tagalong::{
    Absent, Clock, Config, ConfigWatch, DEFAULT_TOML, EmulatorError, EmulatorOptions, Environment, Layers,
    LogFormat, Logging, ProfileKind, Reloader, Sidecar, UpstreamSettings, Word as _, run_flags,
};

use crate::probe::Probe;
use crate::signals::{Hangups, Signals, until_stopped};
use crate::{demo, explain, mint, top};

/// A command failed.
pub(crate) enum CommandFailure {
    /// It ran and failed: exit code 1.
    Failed(String),
    /// It could not run: exit code 2.
    NotTried(String),
}

/// An error that nothing else is said of: the command could not run.
impl<E: std::error::Error> From<E> for CommandFailure {
    fn from(error: E) -> Self {
        Self::NotTried(error.to_string())
    }
}

/// A caching sidecar proxy for HTTP APIs that name versions with ETags, above all for Azure App Configuration.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the sidecar.
    Run(ConfigArguments),
    /// Run an App Configuration store in memory, for demos, development and tests.
    Emulator(Box<EmulatorOptions>),
    /// Run the emulator with a sidecar in front of it, and show what the sidecar does.
    Demo(demo::DemoOptions),
    /// Make certificates for a TLS listener.
    Tls {
        #[command(subcommand)]
        command: TlsCommand,
    },
    /// Look at the snapshot file.
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Print the effective configuration and the source of each value, with masked secrets; exit 2 if `run` would
    /// refuse it.
    CheckConfig {
        /// Print config/default.toml instead: every key explained.
        #[arg(long)]
        defaults: bool,
        #[command(flatten)]
        settings: ConfigArguments,
    },
    /// Say what the sidecar on this machine would do with a request now, and why. Nothing is sent upstream.
    Explain(explain::ExplainOptions),
    /// Show what the sidecar on this machine does, once a second: hit rate, origin, tokens, store. The same as a page is on
    /// its admin port.
    Top {
        #[command(flatten)]
        options: top::TopOptions,
        #[command(flatten)]
        settings: ConfigArguments,
    },
    /// Exit 0 if the sidecar on this machine is alive.
    Live(ConfigArguments),
    /// Exit 0 if the sidecar on this machine is ready for callers; otherwise print the reason.
    Ready(ConfigArguments),
    /// Stop the sidecar on this machine as SIGTERM does, once admin.quit allows it: for the last container of a Job.
    Quit(ConfigArguments),
    /// Wait until the sidecar on this machine is ready; exit 1 if it is not ready in time.
    Wait {
        /// How long to wait.
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = tagalong::parse_duration)]
        timeout: std::time::Duration,
        #[command(flatten)]
        settings: ConfigArguments,
    },
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Print what is in a snapshot, by names and ages. Needs its key: --snapshot-key-file, or the configuration with the
    /// access key.
    Show {
        /// The snapshot.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        settings: Box<ConfigArguments>,
    },
}

#[derive(Subcommand)]
enum TlsCommand {
    /// Make a certificate for this machine and the authority that clients must trust.
    Init(mint::MintOptions),
}

/// What `tagalong run` is given. Values are checked where all layers are.
#[derive(Args, Default)]
pub(crate) struct ConfigArguments {
    /// Configuration file (TOML); `check-config --defaults` prints one with every key
    #[arg(long, value_name = "FILE", env = "TAGALONG_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// Any key of the configuration, such as limits.connections=2000; several times for several
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
}

/// The flags that the keys of the configuration declare, with the values that were given. Each is also a variable: `--listen` is
/// `listener.listen` and `TAGALONG_LISTEN`.
#[derive(Default)]
struct Flags(Vec<(&'static str, Vec<String>)>);

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = run_flags().filter_map(|flag| {
            let values = matches.get_many::<String>(flag.name)?;
            Some((flag.name, values.cloned().collect()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(run_flags().map(|flag| {
            let action = if flag.is_list { ArgAction::Append } else { ArgAction::Set };
            let argument = Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value_name)
                .help(flag.help)
                .action(action);
            if flag.is_switch {
                // A word after it is not its value.
                argument.num_args(0..=1).require_equals(true).default_missing_value("true")
            } else {
                argument
            }
        }))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl ConfigArguments {
    /// All layers: defaults, file, variables, flags.
    fn layers(&self) -> Layers {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // A name that is not UTF-8 is not a variable of tagalong. A value that is not UTF-8 is converted lossily,
            // and validation refuses it.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        let mut layers = Layers::new();
        if let Some(path) = &self.config {
            layers = layers.file(path);
        }
        layers = layers.variables(variables);
        layers = self.flags.0.iter().fold(layers, |layers, (name, values)| layers.flag(name, values));
        self.assignments.iter().fold(layers, |layers, assignment| layers.assignment(assignment))
    }

    fn config(&self) -> Result<Config, CommandFailure> {
        Ok(Config::new(self.layers())?)
    }

    /// The same of a command that has few flags: the file, the addresses of the admin port, and assignments.
    pub(crate) fn of_admin_port(
        config: Option<PathBuf>,
        admin_listen: Vec<String>,
        assignments: Vec<String>,
    ) -> Self {
        let flags = if admin_listen.is_empty() { Vec::new() } else { vec![("admin-listen", admin_listen)] };
        Self { config, flags: Flags(flags), assignments }
    }

    /// The configuration, although it may not be complete.
    pub(crate) fn unvalidated(&self) -> Result<Config, CommandFailure> {
        Ok(Config::unvalidated(self.layers())?)
    }

    fn probe(&self) -> Result<Probe, CommandFailure> {
        Probe::of(&self.unvalidated()?)
    }
}

/// The flags with which a command finds the operator's port of a running sidecar.
const OPERATORS_PORT: &[&str] = &["config", "admin-listen", "assignments", "timeout", "once", "json"];

/// The flags with which a snapshot is opened.
const SNAPSHOT: &[&str] = &["config", "file", "snapshot-key-file", "connection-string-file", "assignments"];

/// The command line. Commands that read a part of the configuration take every flag of `run`, so that the same line serves both; their
/// help shows those that matter to them.
fn command_line() -> clap::Command {
    let showing = |shown: &'static [&'static str]| {
        move |command: clap::Command| {
            command.mut_args(|argument| {
                let is_hidden = !shown.contains(&argument.get_id().as_str());
                argument.hide(is_hidden)
            })
        }
    };
    let command = ["live", "ready", "wait", "top", "quit"]
        .into_iter()
        .fold(CommandLine::command(), |command, name| command.mut_subcommand(name, showing(OPERATORS_PORT)));
    command.mut_subcommand("snapshot", |command| command.mut_subcommand("show", showing(SNAPSHOT)))
}

/// Runs the command of the command line.
pub(crate) fn run() -> Result<(), CommandFailure> {
    let given = command_line().get_matches();
    let command_line = CommandLine::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    match command_line.command {
        Command::Run(settings) => run_sidecar(settings),
        Command::Emulator(options) => run_emulator(*options),
        Command::Demo(options) => {
            log_to_people("warn")?;
            runtime()?.block_on(demo::run(&options))
        }
        Command::Tls { command: TlsCommand::Init(options) } => {
            print(&mint::init(&options, tagalong::Clock::System.now())?)
        }
        Command::Snapshot { command: SnapshotCommand::Show { file, settings } } => {
            log_to_people("warn")?;
            let unvalidated = Config::unvalidated(settings.layers())?;
            print(&tagalong::show_snapshot(&file, &unvalidated, || Config::new(settings.layers()))?)
        }
        Command::CheckConfig { defaults: true, .. } => print(DEFAULT_TOML),
        Command::CheckConfig { defaults: false, settings } => {
            log_to_people("warn")?;
            let config = settings.config()?;
            let environment = Environment { absent_token: Absent::Try, ..Environment::default() };
            Sidecar::check(&config, &environment)?;
            config.warn_of_readable_secrets();
            print(&config.effective.to_string())
        }
        Command::Explain(options) => print(&explain::run(options)?),
        Command::Top { options, settings } => {
            let config = settings.unvalidated()?;
            // Without the token it shows no names of keys.
            top::run(&options, &Probe::authorized(&config).or_else(|_| Probe::of(&config))?)
        }
        Command::Quit(settings) => {
            Probe::authorized(&settings.unvalidated()?)?.quit().map_err(CommandFailure::Failed)
        }
        Command::Live(settings) => settings.probe()?.live().map_err(CommandFailure::Failed),
        Command::Ready(settings) => settings.probe()?.ready().map_err(CommandFailure::Failed),
        Command::Wait { timeout, settings } => {
            settings.probe()?.wait(timeout).map_err(CommandFailure::Failed)
        }
    }
}

fn run_sidecar(settings: ConfigArguments) -> Result<(), CommandFailure> {
    // Before the file is read.
    let watch = settings.config.as_deref().map(|path| ConfigWatch::new(path, Clock::System));
    let config = settings.config()?;
    tagalong::start_logging(&config.logging)?;
    runtime()?.block_on(async {
        let (signals, hangups) = (Signals::listen()?, Hangups::listen()?);
        let sidecar = Sidecar::bind(&config, &Environment::default()).await?;
        config.warn_of_readable_secrets();
        config.upstreams.iter().for_each(log_upstream);
        for address in sidecar.addresses()? {
            tracing::info!(%address, "listening for callers");
        }
        for address in sidecar.admin_addresses()? {
            tracing::info!(%address, "listening for the operator");
        }
        tokio::spawn(tagalong::tell_left_out());
        tokio::spawn(reload(Arc::clone(sidecar.reloader()), Arc::new(settings), hangups, watch));
        match until_stopped(signals, |stop| sidecar.run(stop)).await {
            Some(Ok(0)) => tracing::info!("stopped"),
            Some(Ok(cut)) => {
                tracing::warn!(cut, "stopped; connections were cut at the end of deadlines.drain; raise it if their requests need longer")
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Err(CommandFailure::Failed("stopped at once by a second signal".to_owned())),
        }
        Ok(())
    })
}

/// Reloads the configuration on SIGHUP and when its file has changed, for as long as the process runs.
async fn reload(
    reloader: Arc<Reloader>,
    settings: Arc<ConfigArguments>,
    mut hangups: Hangups,
    mut watch: Option<ConfigWatch>,
) {
    loop {
        let changed = async {
            match &mut watch {
                Some(watch) => watch.changed(reloader.interval()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = hangups.next() => {}
            () = changed => {}
        }
        let settings = Arc::clone(&settings);
        // The log has told what came of it.
        let _outcome = reloader.reload(move || settings.layers()).await;
    }
}

/// Logs the facts that an operator needs first: the store, its caching rules and its credential.
fn log_upstream(upstream: &UpstreamSettings) {
    let rules = upstream.caching_rules();
    let freshness =
        rules.freshness.map_or_else(|| "as each response says".to_owned(), tagalong::format_duration);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        upstream = %upstream.name,
        url = %upstream.url,
        profile = upstream.profile().word(),
        profile_is_guessed = upstream.is_generic_by_default(),
        credential = upstream.credential.kind.word(),
        freshness,
        consistency = rules.consistency.word(),
        "starting"
    );
    if upstream.profile() == ProfileKind::Generic && rules.freshness.is_none() {
        tracing::info!(
            upstream = %upstream.name,
            "what names no lifetime of its own, an ETag alone for example, is validated at each use: that saves its body, not the \
             request; --freshness 30s (upstream.freshness) would let it answer for so long without asking"
        );
    }
}

fn run_emulator(options: EmulatorOptions) -> Result<(), CommandFailure> {
    log_to_people("info")?;
    runtime()?.block_on(async {
        let signals = Signals::listen_with_hangup()?;
        match until_stopped(signals, |stop| tagalong::run_emulator(options, stop.cancelled_owned())).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error @ EmulatorError::Serve(_))) => Err(CommandFailure::Failed(error.to_string())),
            Some(Err(error)) => Err(error.into()),
            None => Err(CommandFailure::Failed("stopped at once by a second signal".to_owned())),
        }
    })
}

/// Makes a runtime on this thread. A sidecar leaves the other cores to the application unless `runtime.workers` asks
/// for more.
fn runtime() -> Result<tokio::runtime::Runtime, CommandFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| {
        CommandFailure::NotTried(format!(
            "cannot start: {error}; raise the limit of open files (ulimit -n) or close files"
        ))
    })
}

/// Starts logging for commands that read no configuration; `TAGALONG_LOG_LEVEL` and `TAGALONG_LOGGING__LEVEL` override the level.
fn log_to_people(level: &str) -> Result<(), CommandFailure> {
    let variable = |name| std::env::var(name).ok();
    let said = variable("TAGALONG_LOG_LEVEL").or_else(|| variable("TAGALONG_LOGGING__LEVEL"));
    let level = said.unwrap_or_else(|| level.to_owned());
    Ok(tagalong::start_logging(&Logging { level, format: LogFormat::Human })?)
}

pub(crate) fn print(text: &str) -> Result<(), CommandFailure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe on purpose, as in `check-config | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| {
            CommandFailure::Failed(format!(
                "cannot write to standard output: {error}; redirect it to a writable file"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_command_line() {
        command_line().debug_assert();
    }

    #[test]
    fn help_of_a_probe_shows_what_finds_the_operators_port() {
        for name in ["live", "ready", "wait"] {
            let mut command = command_line();
            let probe = command.find_subcommand_mut(name).unwrap();
            let help = probe.render_long_help().to_string();
            for flag in ["--config", "--admin-listen", "--set", "--help"] {
                assert!(help.contains(flag), "{help}");
            }
            assert_eq!(help.contains("--timeout"), name == "wait", "{help}");
            assert!(!help.contains("--upstream") && !help.contains("--mirror"), "{help}");
            let line = ["tagalong", name, "--upstream", "http://o", "--admin-listen", "127.0.0.1:2"];
            assert!(command_line().try_get_matches_from(line).is_ok(), "hidden, and taken");
        }
        let help = command_line().find_subcommand_mut("run").unwrap().render_long_help().to_string();
        assert!(help.contains("--mirror"), "{help}");
    }

    #[test]
    fn every_flag_is_a_key() {
        let line = "tagalong run --listen 127.0.0.1:1 --listen [::1]:1 --listen-unix /s --admin-listen 127.0.0.1:2 \
                    --upstream http://o --profile app-configuration --mirror --sharing rfc9111 --consistency strong --freshness 1s \
                    --workers 2 --credential hmac --connection-string-file /c --local-keys /k \
                    --sync-token-file /t --snapshot-file /n --snapshot-key-file /m \
                    --fleet-url redis://h --fleet-key-file /f --log-level debug --log-format json --set limits.connections=9";
        let Command::Run(settings) = CommandLine::parse_from(line.split_whitespace()).command else {
            panic!("expected the command run");
        };
        let config = Config::new(settings.layers()).unwrap();
        let from_flags: Vec<&str> = config
            .effective
            .0
            .iter()
            .filter(|setting| setting.source.to_string().starts_with("flag"))
            .map(|setting| setting.path.as_str())
            .collect();
        assert_eq!(
            from_flags,
            [
                "admin.listen",
                "fleet.key_file",
                "fleet.url",
                "limits.connections",
                "listener.listen",
                "listener.local_keys_file",
                "listener.unix",
                "logging.format",
                "logging.level",
                "runtime.workers",
                "snapshot.file",
                "snapshot.key_file",
                "upstream.consistency",
                "upstream.credential.connection_string_file",
                "upstream.credential.kind",
                "upstream.freshness",
                "upstream.mirror.enabled",
                "upstream.profile",
                "upstream.sharing",
                "upstream.sync_token_file",
                "upstream.url",
            ]
        );
        let run = command_line();
        let flags =
            run.find_subcommand("run").unwrap().get_arguments().filter(|it| it.get_long().is_some()).count();
        assert_eq!(flags, from_flags.len() + "config".split(' ').count(), "a flag that sets no key");
    }
}

//! Log lines: their destination, their form, and the access event of each request at debug level.
//!
//! Lines contain the path of a request target and the status of a response. They contain no field, no body and no
//! query, because a query can name what an application looks for. The one exception is a well-formed `traceparent`.

mod failures;
mod rate;

use std::io::{self, IsTerminal};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{registry, reload};

use crate::clock::Clock;
use crate::config::masked::masked;
use crate::config::{LogFormat, Logging};
pub use failures::log_failure;
use rate::{LeftOut, RateLimit};

/// The target of access events, so that a filter can name them: `info,tagalong::access=debug`.
pub const ACCESS_TARGET: &str = "tagalong::access";

/// `logging.level` is not a filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "logging.level: {0}; write error, warn, info, debug or trace, or a filter such as \"info,tagalong::access=debug\""
)]
pub struct LogFilterError(#[from] tracing_subscriber::filter::ParseError);

/// How often the number of lines that were left out is told.
const LEFT_OUT_INTERVAL: Duration = Duration::from_secs(10);

/// Replaces the filter of the log.
type SetFilter = dyn Fn(Targets) + Send + Sync;

static SET_FILTER: OnceLock<Box<SetFilter>> = OnceLock::new();

static LEFT_OUT: LazyLock<LeftOut> = LazyLock::new(LeftOut::default);

/// Tells how many lines were left out, and how many requests failed, as long as it runs.
pub async fn tell_left_out() {
    loop {
        tokio::time::sleep(LEFT_OUT_INTERVAL).await;
        failures::tell_failures();
        let lines = LEFT_OUT.take();
        if lines > 0 {
            tracing::warn!(
                lines,
                "lines were left out of the log, beyond 10 a second of one kind; /metrics counts refusals by their reason"
            );
        }
    }
}

/// Starts sending log lines to standard error. A second call has no effect.
///
/// # Errors
/// [`LogFilterError`] if the level is not a filter.
pub fn start(logging: &Logging) -> Result<(), LogFilterError> {
    let colours = std::io::stderr().is_terminal();
    let rate = RateLimit::new(Clock::System, LEFT_OUT.clone());
    let (subscriber, set_filter) = subscriber(logging, std::io::stderr, colours, rate)?;
    // A subscriber that is already set belongs to the program that uses this library, and stays.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _set_once = SET_FILTER.set(set_filter);
    }
    Ok(())
}

/// Replaces the level while the process runs. Without [`start`] it has no effect.
///
/// # Errors
/// [`LogFilterError`] if the level is not a filter.
pub fn set_level(level: &str) -> Result<(), LogFilterError> {
    let filter = level.parse()?;
    if let Some(set_filter) = SET_FILTER.get() {
        set_filter(filter);
    }
    Ok(())
}

fn subscriber<W>(
    logging: &Logging,
    writer: W,
    colours: bool,
    rate: RateLimit,
) -> Result<(Box<dyn tracing::Subscriber + Send + Sync>, Box<SetFilter>), LogFilterError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Not `EnvFilter`: its filters by the fields of spans bring an engine for regular expressions, and there are no spans.
    let filter: Targets = logging.level.parse()?;
    let events = fmt::layer().with_writer(Masked(writer));
    // Whether an event is wanted is remembered where it stands in the code, and found out again after a change: the lock costs nothing.
    Ok(match logging.format {
        LogFormat::Human => {
            let (filter, handle) = reload::Layer::new(filter);
            let subscriber = registry().with(events.with_ansi(colours)).with(filter).with(rate);
            (Box::new(subscriber), Box::new(move |filter| set_by(&handle, filter)))
        }
        LogFormat::Json => {
            let events = events.json().flatten_event(true).with_current_span(false);
            let (filter, handle) = reload::Layer::new(filter);
            let subscriber = registry().with(events).with(filter).with(rate);
            (Box::new(subscriber), Box::new(move |filter| set_by(&handle, filter)))
        }
    })
}

fn set_by<S>(handle: &reload::Handle<Targets, S>, filter: Targets) {
    // It fails if the subscriber is gone, or has panicked: then there is no log.
    let _is_set = handle.reload(filter);
}

/// Writes lines without the secrets that [`masked`] knows: an error of the system or of a library may quote a URL.
#[derive(Debug)]
struct Masked<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Masked<W> {
    type Writer = Masked<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Masked(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Self::Writer {
        Masked(self.0.make_writer_for(metadata))
    }
}

impl<W: io::Write> io::Write for Masked<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Each event is one call with all of its text.
        let line_text = String::from_utf8_lossy(line);
        self.0.write_all(masked(&line_text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The access event of one request, at debug level, emitted when the header section of its answer is complete.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// The name of the upstream.
    pub upstream: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path of the target, without its query.
    pub path: &'a str,
    /// The status of the answer.
    pub status: StatusCode,
    /// The sidecar's member of `Cache-Status`, or the name of the refusal.
    pub cache_status: &'a str,
    /// The time from the end of the request's header section to the event.
    pub took: Duration,
    /// The caller's `traceparent`, which links the line to a trace. Only a well-formed one is logged.
    pub traceparent: Option<&'a str>,
}

impl Access<'_> {
    /// Whether the event is enabled. Call it before making an [`Access`].
    pub fn is_wanted() -> bool {
        tracing::enabled!(target: ACCESS_TARGET, tracing::Level::DEBUG)
    }

    /// Emits the event.
    pub fn log(&self) {
        let traceparent = self.traceparent.filter(|text| is_traceparent(text));
        tracing::debug!(
            target: ACCESS_TARGET,
            upstream = self.upstream,
            method = self.method.as_str(),
            path = self.path,
            status = self.status.as_u16(),
            cache_status = self.cache_status,
            took_micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            traceparent,
            trace_id = traceparent.and_then(|text| text.split('-').nth(1)),
            "request"
        );
    }
}

/// Whether the text is a `traceparent` of W3C Trace Context, of any version: four hexadecimal numbers of fixed length,
/// with dashes between them.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    [2, 32, 16, 2].iter().all(|length| {
        parts
            .next()
            .is_some_and(|part| part.len() == *length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::clock::Timestamp;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: LogFormat, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let logging = Logging { level: level.to_owned(), format };
        let rate = RateLimit::new(Clock::System, LeftOut::default());
        let (subscriber, _) = subscriber(&logging, move || writer.clone(), false, rate).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn access(traceparent: Option<&str>) {
        let method = Method::GET;
        Access {
            upstream: "main",
            method: &method,
            path: "/kv/a",
            status: StatusCode::OK,
            cache_status: "hit",
            took: Duration::from_micros(42),
            traceparent,
        }
        .log();
    }

    #[test]
    fn an_access_event_is_one_json_object() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let text = logged("info,tagalong::access=debug", LogFormat::Json, || access(Some(trace)));
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["path"], "/kv/a");
        assert_eq!(line["status"], 200);
        assert_eq!(line["took_micros"], 42);
        assert_eq!(line["traceparent"], trace);
        assert_eq!(line["target"], ACCESS_TARGET);
    }

    #[test]
    fn the_level_may_change_while_the_process_runs() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let lines = Lines::default();
            let writer = lines.clone();
            let logging = Logging { level: "info".to_owned(), format };
            let rate = RateLimit::new(Clock::System, LeftOut::default());
            let (subscriber, set_filter) = subscriber(&logging, move || writer.clone(), false, rate).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                let asked = || tracing::debug!("asked");
                asked();
                set_filter("debug".parse().unwrap());
                asked();
                set_filter("error".parse().unwrap());
                asked();
                tracing::info!("told");
            });
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert_eq!((text.matches("asked").count(), text.matches("told").count()), (1, 0), "{text}");
        }
    }

    #[test]
    fn no_request_is_logged_at_info() {
        let text = logged("info", LogFormat::Human, || {
            assert!(!Access::is_wanted());
            access(None);
            tracing::info!("started");
        });
        assert!(text.contains("started") && !text.contains("/kv/a"), "{text}");
    }

    #[test]
    fn a_malformed_traceparent_is_not_logged() {
        let text = logged("debug", LogFormat::Human, || {
            assert!(Access::is_wanted());
            access(Some("hunter2\n"));
            access(Some("00-zz"));
        });
        assert!(!text.contains("hunter2") && !text.contains("00-zz"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn no_line_shows_a_secret() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let text = logged("info", format, || {
                let error = "cannot dial http://user:hunter2@proxy:3128/: refused";
                tracing::warn!(
                    error,
                    string = "Endpoint=http://a;Id=i;Secret=hunter2=",
                    "trouble with Secret=hunter2"
                );
            });
            assert!(!text.contains("hunter2") && text.contains("http://***@proxy:3128/"), "{text}");
            assert_eq!(text.matches("Secret=***").count(), 2, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_refusals_write_is_bounded_and_what_is_left_out_is_counted() {
        let lines = Lines::default();
        let writer = lines.clone();
        let logging = Logging { level: "debug".to_owned(), format: LogFormat::Human };
        let left_out = LeftOut::default();
        let rate = RateLimit::new(Clock::tokio(Timestamp::default()), left_out.clone());
        let (subscriber, _) = subscriber(&logging, move || writer.clone(), false, rate).unwrap();
        let _guard = tracing::subscriber::set_default(subscriber);
        let count =
            |text: &str| String::from_utf8(lines.0.lock().unwrap().clone()).unwrap().matches(text).count();
        for _ in 0..3 {
            for _ in 0..1_000 {
                tracing::info!("refused");
            }
            tracing::info!("of another kind");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        for _ in 0..1_000 {
            tracing::debug!("asked for");
        }
        let most = rate::LINES_A_SECOND as usize;
        assert_eq!((count("refused"), count("another kind"), count("asked for")), (3 * most, 3, 1_000));
        assert_eq!((left_out.take(), left_out.take()), (3 * (1_000 - most as u64), 0));
    }

    #[test]
    fn an_invalid_level_is_refused() {
        let logging = Logging { level: "loud=verbose".to_owned(), format: LogFormat::Human };
        assert!(start(&logging).unwrap_err().to_string().contains("logging.level"));
    }
}

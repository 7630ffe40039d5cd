//! `tagalong top`: `/admin/status` in a terminal, once a second.

mod draw;
mod panels;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use tagalong::{Clock, Status, Timestamp};

use crate::cli::{CommandFailure, print};
use crate::probe::Probe;

/// How often the sidecar is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How wide the text of `--once` is.
const TEXT_COLUMNS: u16 = 100;

/// Flags of `tagalong top`.
#[derive(Args)]
pub(crate) struct TopOptions {
    /// Print it once, as text, and stop
    #[arg(long)]
    once: bool,
    /// Print it once, as JSON, and stop
    #[arg(long, conflicts_with = "once")]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(options: &TopOptions, probe: &Probe) -> Result<(), CommandFailure> {
    let text = probe.status().map_err(CommandFailure::Failed)?;
    if options.json {
        return print(&text);
    }
    let status = parsed(&text).map_err(CommandFailure::Failed)?;
    if options.once {
        let upstreams = 0..status.upstreams.len().max(1);
        return upstreams
            .into_iter()
            .try_for_each(|upstream| print(&draw::text(&Screen::of(&status, upstream), TEXT_COLUMNS)));
    }
    if !std::io::stdout().is_terminal() {
        return Err(CommandFailure::NotTried(
            "standard output is no terminal; use --once or --json".to_owned(),
        ));
    }
    let failed =
        |error: std::io::Error| CommandFailure::Failed(format!("the terminal fails: {error}; use --once"));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let outcome = follow(&mut terminal, status, || parsed(&probe.status()?));
    ratatui::restore();
    outcome.map_err(failed)
}

fn parsed(text: &str) -> Result<Status, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("the status is not understood: {error}; use the tagalong of the version that runs, or --json")
    })
}

/// What is on the screen.
struct Screen<'a> {
    status: &'a Status,
    /// The index of the upstream that is shown.
    upstream: usize,
    /// Requests a second since the status before; `None`: there is none before.
    pace: Option<f64>,
    /// Why the status is an old one.
    problem: Option<&'a str>,
    /// Whether keys are read.
    has_keys: bool,
}

impl<'a> Screen<'a> {
    /// A status by itself, with nothing before it and no keys.
    const fn of(status: &'a Status, upstream: usize) -> Self {
        Self { status, upstream, pace: None, problem: None, has_keys: false }
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyAction {
    Quit,
    Next,
    Previous,
    Nothing,
}

fn action_of(code: KeyCode, modifiers: KeyModifiers) -> KeyAction {
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => KeyAction::Quit,
        KeyCode::Char('q') | KeyCode::Esc => KeyAction::Quit,
        KeyCode::Tab | KeyCode::Right => KeyAction::Next,
        KeyCode::BackTab | KeyCode::Left => KeyAction::Previous,
        _ => KeyAction::Nothing,
    }
}

/// Draws until a key ends it. `ask` gives the next status.
fn follow(
    terminal: &mut DefaultTerminal,
    first: Status,
    ask: impl Fn() -> Result<Status, String>,
) -> std::io::Result<()> {
    let clock = Clock::System;
    let (mut status, mut upstream, mut pace, mut problem) = (first, 0, None, None);
    loop {
        let asked = clock.now();
        let mut redraw = true;
        while let Some(left) = left(asked, clock.now()) {
            if redraw {
                let shown =
                    Screen { status: &status, upstream, pace, problem: problem.as_deref(), has_keys: true };
                terminal.draw(|frame| draw::draw(&shown, frame.area(), frame.buffer_mut()))?;
            }
            if !event::poll(left)? {
                break;
            }
            let event = event::read()?;
            redraw = true;
            if let Event::Key(key) = event {
                let count = status.upstreams.len().max(1);
                match action_of(key.code, key.modifiers) {
                    KeyAction::Quit => return Ok(()),
                    KeyAction::Next => upstream = (upstream + 1) % count,
                    KeyAction::Previous => upstream = (upstream + count - 1) % count,
                    KeyAction::Nothing => redraw = false,
                }
            }
        }
        match ask() {
            Ok(next) => {
                pace = requests_per_second(&status, &next, upstream);
                (status, problem) = (next, None);
            }
            Err(why) => problem = Some(why),
        }
    }
}

/// What is left of the interval.
fn left(began: Timestamp, now: Timestamp) -> Option<Duration> {
    INTERVAL.checked_sub(now.since(began)).filter(|left| !left.is_zero())
}

fn requests_per_second(before: &Status, now: &Status, upstream: usize) -> Option<f64> {
    let seconds = now.uptime_seconds - before.uptime_seconds;
    let total = |status: &Status| status.upstreams.get(upstream).map(|it| it.requests.total);
    let more = total(now)?.checked_sub(total(before)?)?;
    (seconds > 0.0).then(|| more as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_quit_and_change_the_upstream() {
        for (code, modifiers, expected) in [
            (KeyCode::Char('q'), KeyModifiers::NONE, KeyAction::Quit),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, KeyAction::Quit),
            (KeyCode::Char('c'), KeyModifiers::NONE, KeyAction::Nothing),
            (KeyCode::Tab, KeyModifiers::NONE, KeyAction::Next),
            (KeyCode::BackTab, KeyModifiers::SHIFT, KeyAction::Previous),
        ] {
            assert_eq!(action_of(code, modifiers), expected, "{code}");
        }
    }

    #[test]
    fn the_pace_is_that_of_one_process() {
        let status = |uptime_seconds, total| {
            let mut status = Status { uptime_seconds, ..Status::default() };
            status.upstreams.push(tagalong::UpstreamStatus::default());
            status.upstreams[0].requests.total = total;
            status
        };
        assert_eq!(requests_per_second(&status(10.0, 100), &status(12.0, 300), 0), Some(100.0));
        assert_eq!(requests_per_second(&status(10.0, 100), &status(1.0, 3), 0), None, "it was started again");
    }

    #[test]
    fn a_status_of_another_version_is_told_as_such() {
        assert!(parsed("{}").unwrap_err().contains("--json"));
    }
}

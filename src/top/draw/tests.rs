use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use tagalong::Status;

use super::*;

fn status() -> Status {
    let text = include_str!("../sample_status.json");
    serde_json::from_str(text).unwrap()
}

/// What a terminal of this size shows.
fn screen(shown: &Screen<'_>, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(shown, frame.area(), frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer();
    buffer
        .content
        .chunks(usize::from(width))
        .map(|row| row.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

fn screen_of(status: &Status) -> Screen<'_> {
    Screen { pace: Some(12.34), has_keys: true, ..Screen::of(status, 0) }
}

#[test]
fn the_numbers_of_the_status_are_on_the_screen() {
    let status = status();
    let screen = screen(&screen_of(&status), 120, 60).join("\n");
    for text in [
        "tagalong 0.1.0",
        "ready",
        "97.5 %",
        "12.3/s",
        "uri-miss",
        "1,234,567",
        "newest jtqGc1I4",
        "contoso.azconfig.io",
    ] {
        assert!(screen.contains(text), "{text} is missing in\n{screen}");
    }
}

#[test]
fn any_size_of_a_terminal_will_do() {
    let status = status();
    for width in 1..=130 {
        for height in [1, 2, 3, 5, 8, 13, 24, 60] {
            let screen = screen(&screen_of(&status), width, height);
            assert!(screen[0].starts_with(&"tagalong"[..usize::from(width.min(8))]), "{width}x{height}");
        }
    }
}

#[test]
fn an_old_status_is_told_as_such() {
    let status = status();
    let shown = Screen { problem: Some("no sidecar answers"), ..screen_of(&status) };
    assert!(
        screen(&shown, 100, 30)[1].contains("does not answer, these numbers are old: no sidecar answers")
    );
}

#[test]
fn reasons_for_not_being_ready_are_in_the_head() {
    let status = Status { ready: false, reasons: vec!["draining".to_owned()], ..status() };
    assert!(screen(&screen_of(&status), 80, 24)[0].contains("NOT READY: draining"));
    assert!(screen(&screen_of(&status), 80, 24)[0].trim_end().ends_with("q quits"));
}

#[test]
fn text_of_others_sends_nothing_to_the_terminal() {
    let mut status = status();
    let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\r\n\u{202e}key".to_owned();
    status.hottest_keys.keys[0].key = hostile.clone();
    status.upstreams[0].name = hostile.clone();
    status.upstreams[0].requests.by_detail = BTreeMap::from([(hostile, 1)]);
    let text = text(&screen_of(&status), 100);
    assert!(!text.chars().any(|it| it.is_control() && it != '\n'), "{text:?}");
    assert!(text.contains("[2J"), "{text}");
}

#[test]
fn the_text_has_all_rows() {
    let status = status();
    let text = text(&screen_of(&status), 100);
    for panel in panels(&status, &status.upstreams[0]) {
        assert!(text.contains(panel.title), "{}", panel.title);
        for (_, number) in &panel.rows {
            assert!(text.contains(number.as_str()), "{}: {number} in\n{text}", panel.title);
        }
    }
    assert!(!text.lines().any(|line| line.ends_with(' ')));
}

#[test]
fn a_long_name_gives_way_to_its_number() {
    assert_eq!(shortened("abcdef", 4), "abc…");
    assert_eq!(shortened("abcd", 4), "abcd");
    assert_eq!((column_count(79), column_count(120), column_count(20)), (2, 3, 1));
}

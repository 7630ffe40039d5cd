//! How `tagalong top` looks: a head, the hit rate over the last minutes, and panels in as many columns as there is room for.
//!
//! Names in the status are text of others. The buffer leaves control characters out, so that none reaches the terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{RenderDirection, Sparkline, SparklineBar, Widget as _};
use tagalong::UpstreamStatus;

use super::Screen;
use super::panels::{Panel, bytes, latency, panels, percent, span};

const ACCENT: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const PLAIN: Style = Style::new();
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// The least width of a column, and what is between two.
const COLUMN: u16 = 38;
const GAP: u16 = 3;

/// The height of the hit rate.
const RATE_ROWS: u16 = 4;

/// Draws it.
pub(super) fn draw(shown: &Screen<'_>, area: Rect, buffer: &mut Buffer) {
    let mut canvas = Canvas { buffer, area, y: area.y };
    canvas.line(&head(shown));
    if let Some(problem) = shown.problem {
        canvas.line(&[("The sidecar does not answer, these numbers are old: ", BAD), (problem, PLAIN)]);
    }
    let Some(upstream) = shown.status.upstreams.get(shown.upstream) else { return };
    let facts = format!(
        "{}  {}, {}, asks {}",
        upstream.url, upstream.profile, upstream.credential, upstream.active_endpoint
    );
    let place = match shown.status.upstreams.len() {
        1 => String::new(),
        count => format!(" ({} of {count})", shown.upstream + 1),
    };
    canvas.line(&[("upstream ", PLAIN), (&upstream.name, BOLD), (&place, DIM), ("  ", PLAIN), (&facts, DIM)]);
    canvas.skip(1);
    figures(&mut canvas, upstream, shown.pace);
    canvas.rate(upstream);
    canvas.skip(1);
    let area = canvas.rest();
    for (x, y, panel) in placed(panels(shown.status, upstream), area.width).0 {
        let width = column_width(area.width);
        Canvas {
            buffer: canvas.buffer,
            area: Rect { x: area.x + x, width, ..area },
            y: area.y.saturating_add(y),
        }
        .panel(&panel);
    }
}

/// The same as text, of all rows.
pub(super) fn text(shown: &Screen<'_>, columns: u16) -> String {
    let upstream = shown.status.upstreams.get(shown.upstream);
    let rows = upstream.map_or(0, |upstream| placed(panels(shown.status, upstream), columns).1);
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows.saturating_add(RATE_ROWS + 8)));
    draw(shown, buffer.area, &mut buffer);
    let lines = buffer.content.chunks(usize::from(columns));
    let lines: Vec<String> = lines
        .map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
        .collect();
    format!("{}\n", lines.join("\n").trim_end())
}

fn head<'a>(shown: &Screen<'a>) -> Vec<(&'a str, Style)> {
    let status = shown.status;
    let state = if status.ready { ("ready", ACCENT) } else { ("NOT READY: ", BAD) };
    let mut spans = vec![("tagalong ", BOLD), (status.version.as_str(), PLAIN), ("  ", PLAIN), state];
    for word in status.reasons.iter().chain(&status.notes) {
        spans.extend([(word.as_str(), BAD), (" ", PLAIN)]);
    }
    match (shown.has_keys, status.upstreams.len()) {
        (false, _) => {}
        (true, 0 | 1) => spans.push(("  q quits", DIM)),
        (true, _) => spans.push(("  q quits, Tab: the next upstream", DIM)),
    }
    spans
}

fn figures(canvas: &mut Canvas<'_>, upstream: &UpstreamStatus, pace: Option<f64>) {
    let requests = &upstream.requests;
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), percent);
    let origin = &upstream.origin.latency;
    let pace = pace.map_or_else(|| "–".to_owned(), |pace| format!("{pace:.1}/s"));
    let figures = [
        (format!("hit rate, {}", span(requests.recent.covers_seconds)), ratio(requests.recent.hit_ratio)),
        ("since start".to_owned(), ratio(requests.hit_ratio)),
        ("requests".to_owned(), pace),
        ("origin median".to_owned(), latency(origin.p50_seconds)),
        ("origin p99".to_owned(), latency(origin.p99_seconds)),
        ("bytes saved".to_owned(), bytes(requests.body_bytes_saved)),
    ];
    // Name above number, as many as fit.
    let mut x = canvas.area.x;
    for (name, number) in &figures {
        let width = u16::try_from(name.chars().count().max(number.chars().count())).unwrap_or(u16::MAX);
        if x.saturating_add(width) > canvas.area.right() {
            break;
        }
        canvas.put(x, canvas.y, name, DIM);
        canvas.put(x, canvas.y.saturating_add(1), number, if x == canvas.area.x { ACCENT } else { BOLD });
        x = x.saturating_add(width + GAP);
    }
    canvas.skip(3);
}

/// Where lines are written, from the top.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    y: u16,
}

impl Canvas<'_> {
    fn skip(&mut self, rows: u16) {
        self.y = self.y.saturating_add(rows);
    }

    fn rest(&self) -> Rect {
        let y = self.y.min(self.area.bottom());
        Rect { y, height: self.area.bottom() - y, ..self.area }
    }

    /// Writes as much as there is room for. Returns where it ends.
    fn put(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        if y >= self.area.bottom() || x >= self.area.right() {
            return x;
        }
        self.buffer.set_stringn(x, y, text, usize::from(self.area.right() - x), style).0
    }

    fn line(&mut self, spans: &[(&str, Style)]) {
        let mut x = self.area.x;
        for (text, style) in spans {
            x = self.put(x, self.y, text, *style);
        }
        self.skip(1);
    }

    /// The hit rate of each step, the latest at the right.
    fn rate(&mut self, upstream: &UpstreamStatus) {
        let recent = &upstream.requests.recent;
        let steps = recent.total_by_step.iter().zip(&recent.hits_by_step).rev();
        let bars = steps.map(|(total, hits)| {
            SparklineBar::from((*total > 0).then(|| (hits * 1000).checked_div(*total).unwrap_or(0).max(1)))
        });
        let area = Rect { height: RATE_ROWS, ..self.rest() }.intersection(self.rest());
        let width = area.width.min(u16::try_from(recent.total_by_step.len()).unwrap_or(u16::MAX));
        let line = Sparkline::default().data(bars.collect::<Vec<_>>()).max(1000).style(ACCENT);
        line.direction(RenderDirection::RightToLeft).render(Rect { width, ..area }, self.buffer);
        let label = area.x.saturating_add(width + 1);
        self.put(label, self.y, "100 %", DIM);
        self.put(label, self.y.saturating_add(RATE_ROWS - 1), "0 %, now", DIM);
        self.skip(RATE_ROWS);
    }

    fn panel(&mut self, panel: &Panel) {
        self.line(&[(panel.title, BOLD)]);
        if panel.rows.is_empty() {
            self.line(&[("none", DIM)]);
        }
        for (name, number) in &panel.rows {
            let length = u16::try_from(number.chars().count()).unwrap_or(u16::MAX);
            let start = self.area.right().saturating_sub(length).max(self.area.x);
            let name_end = start.saturating_sub(1);
            let room = name_end.saturating_sub(self.area.x);
            if self.y < self.area.bottom() {
                let name = shortened(name, usize::from(room));
                self.buffer.set_stringn(self.area.x, self.y, name, usize::from(room), PLAIN);
                self.put(start, self.y, number, PLAIN);
            }
            self.skip(1);
        }
    }
}

/// The text, or its beginning with an ellipsis.
fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let start: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{start}…")
}

fn column_count(width: u16) -> u16 {
    ((width + GAP) / (COLUMN + GAP)).max(1)
}

fn column_width(width: u16) -> u16 {
    let columns = column_count(width);
    ((width + GAP) / columns).saturating_sub(GAP).max(1)
}

/// Puts each panel into the column that is shortest so far. Returns their places and the height of the longest column.
fn placed(panels: Vec<Panel>, width: u16) -> (Vec<(u16, u16, Panel)>, u16) {
    let mut heights = vec![0_u16; usize::from(column_count(width))];
    let mut places = Vec::new();
    for panel in panels {
        let shortest = heights.iter().enumerate().min_by_key(|(_, height)| **height);
        let (column, y) = shortest.map_or((0, 0), |(column, height)| (column, *height));
        let rows = u16::try_from(panel.rows.len().max(1)).unwrap_or(u16::MAX);
        heights[column] = y.saturating_add(rows).saturating_add(2);
        let x = u16::try_from(column).unwrap_or(0).saturating_mul(column_width(width) + GAP);
        places.push((x, y, panel));
    }
    (places, heights.into_iter().max().unwrap_or(0))
}

#[cfg(test)]
mod tests;

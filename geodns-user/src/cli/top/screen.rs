//! A picture, drawn as the view says, on a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::super::output::grouped;
use super::view::{List, Sort, View};
use crate::control::watch::{Share, Top};
use crate::printable;

/// Columns from which two lists stand side by side.
const WIDE: u16 = 70;
/// Rows that a list has at least, its heading included, where lists share the screen.
const LEAST_ROWS: u16 = 4;
/// Rows of the histogram of times, which is shown where they are left over.
const HISTOGRAM: u16 = 10;
/// Columns of a number and a share, with the spaces behind them.
const NUMBERS: usize = 21;

const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws a picture.
pub fn draw(frame: &mut Frame<'_>, view: &View, top: Option<&Top>) {
    let area = frame.area();
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(keys(view)), foot);
    let Some(top) = top else {
        frame.render_widget(Paragraph::new("the first second is being counted"), head);
        return;
    };
    frame.render_widget(Paragraph::new(totals(top, head.width)), head);
    if view.is_alone || body.width < WIDE {
        list(frame, body, view, view.list, top);
        return;
    }
    let rows = body.height / LEAST_ROWS;
    let pairs = usize::from(rows).clamp(1, List::ALL.len() / 2);
    let histogram = match body.height >= 3 * (LEAST_ROWS + 4) + HISTOGRAM {
        true => HISTOGRAM,
        false => 0,
    };
    let [lists, times] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(histogram)]).areas(body);
    // Those that are seen have the chosen one among them.
    let chosen = List::ALL.iter().position(|list| *list == view.list);
    let first = (chosen.unwrap_or(0) / 2).saturating_sub(pairs - 1);
    // Names and clients have the longest lists.
    let weights =
        (first..first + pairs).map(|pair| Constraint::Fill(if pair == 0 { 2 } else { 1 }));
    let bands = Layout::vertical(weights).spacing(1).split(lists);
    for (pair, band) in (first..).zip(bands.iter()) {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)])
            .spacing(2)
            .areas(*band);
        list(frame, left, view, List::ALL[2 * pair], top);
        list(frame, right, view, List::ALL[2 * pair + 1], top);
    }
    if histogram > 0 {
        frame.render_widget(Paragraph::new(latency(top, times)), times);
    }
}

/// The traffic, in two lines.
fn totals(top: &Top, width: u16) -> Vec<Line<'static>> {
    let a_second =
        |count: u64| grouped((count as f64 / top.seconds.max(f64::EPSILON)).round() as u64);
    let numbers = [
        ("queries/s", top.queries, STRONG),
        ("kernel", top.answered, Style::new()),
        ("passed", top.passed, Style::new()),
        ("dropped", top.dropped, Style::new()),
        ("userspace", top.answered_in_userspace, Style::new()),
    ];
    let mut first = Line::default();
    for (word, count, style) in numbers {
        let part = Span::styled(format!("{word} {}  ", a_second(count)), style);
        if first.width() + part.width() <= usize::from(width) + 2 {
            first.push_span(part);
        }
    }
    let latency = &top.latency;
    let times = format!(
        "ns: median {}, 99 % {}, most {}",
        grouped(latency.p50_ns.into()),
        grouped(latency.p99_ns.into()),
        grouped(latency.most_ns.into())
    );
    let sampled = format!(
        "1 in {} sampled, {} lost; ",
        grouped(top.queries.checked_div(top.sampled).unwrap_or(1).max(1)),
        grouped(top.lost)
    );
    let second = match sampled.len() + times.len() <= usize::from(width) {
        true => sampled + &times,
        false => times,
    };
    vec![first, Line::raw(second)]
}

/// A list under its heading.
fn list(frame: &mut Frame<'_>, area: Rect, view: &View, list: List, top: &Top) {
    let rows = view.rows(list, top);
    let room = usize::from(area.height).saturating_sub(1);
    let above = view.above(list, rows.len(), room);
    let heading = format!("{:>11} {:>6}  {}", "QUERIES/S", "SHARE", list.heading());
    let more = rows.len().saturating_sub(room);
    let heading = match more {
        0 => heading,
        more => format!("{heading} ({more} more)"),
    };
    let style = if list == view.list { CHOSEN } else { STRONG };
    let mut lines = vec![Line::styled(
        format!("{heading:<width$}", width = usize::from(area.width)),
        style,
    )];
    lines.extend(
        rows.iter()
            .skip(above)
            .take(room)
            .map(|share| Line::raw(row(share, top, area.width))),
    );
    if rows.is_empty() {
        let none = match list != view.list || view.filter.is_empty() {
            true => "none".to_owned(),
            false => format!("none with {:?}", view.filter),
        };
        lines.push(Line::raw(format!("{:>11} {:>6}  {none}", "-", "-")));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn row(share: &Share, top: &Top, width: u16) -> String {
    let a_second = share.queries as f64 / top.seconds.max(f64::EPSILON);
    let part = 100.0 * share.queries as f64 / top.queries.max(1) as f64;
    let what = printable::line(&share.what);
    let room = usize::from(width).saturating_sub(NUMBERS);
    let what = match what.chars().count() > room {
        // The end of a name says less than its beginning.
        true => what
            .chars()
            .take(room.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => what.into_owned(),
    };
    format!(
        "{:>11} {part:>5.1}%  {what}",
        grouped(a_second.round() as u64)
    )
}

/// How long the program took, in powers of two.
fn latency(top: &Top, area: Rect) -> Vec<Line<'static>> {
    let below = &top.latency.below_ns;
    let most = below.values().max().copied().unwrap_or(0).max(1);
    let bars = u64::from(area.width.saturating_sub(14));
    let rows = usize::from(area.height).saturating_sub(2);
    let mut lines = vec![
        Line::raw(""),
        Line::styled("time in the program, ns", STRONG),
    ];
    // Of those that there is no room for all, as many in a row as have the most samples.
    let buckets: Vec<(&u32, &u64)> = below.iter().collect();
    let windows = buckets.windows(rows.clamp(1, buckets.len().max(1)));
    let shown =
        windows.max_by_key(|window| window.iter().map(|(_, samples)| **samples).sum::<u64>());
    let shown = shown.unwrap_or_default().iter();
    lines.extend(shown.map(|(below, samples)| {
        let bar = "#".repeat((**samples).saturating_mul(bars).div_ceil(most) as usize);
        Line::raw(format!(
            "{:>11}  {bar}",
            format!("< {}", grouped((**below).into()))
        ))
    }));
    lines
}

/// The meaning of keys, or the filter while it is typed.
fn keys(view: &View) -> Line<'static> {
    if view.is_typing {
        return Line::styled(
            format!("filter: {}_  (Enter keeps it, Esc drops it)", view.filter),
            CHOSEN,
        );
    }
    let sort = match view.sort {
        Sort::Queries => "s:sort by text",
        Sort::Text => "s:sort by queries",
    };
    let alone = if view.is_alone {
        "z:all lists"
    } else {
        "z:one list"
    };
    let pause = if view.is_paused { "p:GO ON" } else { "p:pause" };
    let filter = match view.filter.is_empty() {
        true => "/:filter".to_owned(),
        false => format!("/:filter {:?}", view.filter),
    };
    Line::styled(
        format!("q:quit Tab:next {alone} {sort} {filter} {pause}"),
        STRONG,
    )
}

#[cfg(test)]
pub mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::control::watch::Latency;

    pub fn sample() -> Top {
        let share = |what: &str, queries| Share {
            what: what.to_owned(),
            queries,
        };
        Top {
            seconds: 2.0,
            queries: 4_000,
            answered: 3_000,
            passed: 600,
            dropped: 400,
            answered_in_userspace: 590,
            sampled: 1_000,
            lost: 0,
            rcodes: vec![share("NOERROR", 3_590)],
            verdicts: vec![share("answered", 3_000), share("pass_qtype", 600)],
            names: vec![
                share("www.example.org. A", 3_000),
                share("mail.example.org. MX", 600),
                share("a.example.org. A", 9),
            ],
            regions: vec![share("www: ams, iad, \u{1b}[31msin", 3_000)],
            mirrors: vec![share("ams", 3_000)],
            prefixes: (0..100)
                .map(|n| share(&format!("192.0.{n}.0/24"), 1_000 - n))
                .collect(),
            latency: Latency {
                p50_ns: 200,
                p90_ns: 300,
                p99_ns: 1_200,
                most_ns: 5_000,
                below_ns: [(256, 800), (512, 190), (8192, 10)].into(),
            },
        }
    }

    fn drawn(width: u16, height: u16, view: &View, top: Option<&Top>) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, top)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_picture_fits_a_terminal() {
        let lines = drawn(80, 24, &View::default(), Some(&sample()));
        let expected = "\
queries/s 2,000  kernel 1,500  passed 300  dropped 200  userspace 295
1 in 4 sampled, 0 lost; ns: median 200, 99 % 1,200, most 5,000
  QUERIES/S  SHARE  NAME                   QUERIES/S  SHARE  CLIENTS (91 more)
      1,500  75.0%  www.example.org. A           500  25.0%  192.0.0.0/24
        300  15.0%  mail.example.org.…           500  25.0%  192.0.1.0/24
          5   0.2%  a.example.org. A             499  24.9%  192.0.2.0/24";
        assert_eq!(lines[..6].join("\n"), expected, "{lines:#?}");
        let all = lines.join("\n");
        for heading in List::ALL.map(List::heading) {
            assert!(all.contains(heading), "{heading}: {all}");
        }
        assert!(lines[23].starts_with("q:quit"), "{all}");
        assert!(all.contains("www: ams, iad, \\u"), "{all}");
    }

    #[test]
    fn every_size_has_the_totals_and_the_keys() {
        let top = sample();
        for (width, height) in [
            (80, 24),
            (60, 15),
            (200, 50),
            (132, 43),
            (40, 10),
            (20, 5),
            (1, 1),
        ] {
            for list in List::ALL {
                for is_alone in [false, true] {
                    let view = View {
                        list,
                        is_alone,
                        ..View::default()
                    };
                    let lines = drawn(width, height, &view, Some(&top));
                    if width >= 20 && height >= 5 {
                        assert!(lines[0].starts_with("queries/s 2,000"), "{lines:#?}");
                        let last = &lines[usize::from(height) - 1];
                        assert!(last.starts_with("q:quit"), "{lines:#?}");
                    }
                    if width >= 40 && height >= 5 {
                        let all = lines.join("\n");
                        assert!(all.contains(list.heading()), "{list:?}: {all}");
                    }
                }
            }
            drawn(width, height, &View::default(), None);
        }
        let tall = drawn(200, 50, &View::default(), Some(&top)).join("\n");
        assert!(tall.contains("time in the program"), "{tall}");
    }
}

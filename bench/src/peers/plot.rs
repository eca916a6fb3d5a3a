//! The plots of a report, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::CoordTranslate;
use plotters::prelude::*;

use super::Outcome;
use super::servers::{Role, Server};
use super::sizes::{Cost, Of, QUESTIONS};
use crate::figure::shown;

/// Width and height in pixels.
const SIZE: (u32, u32) = (900, 540);

/// The line of one server, in the same colour in every plot.
struct Line<'a> {
    server: &'a Server,
    at: usize,
    colour: RGBColor,
}

fn lines<'a>(servers: &'a [Server], outcome: &Outcome) -> Vec<Line<'a>> {
    let mut names = Vec::new();
    let mut lines = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        if server.role == Role::Discard {
            continue;
        }
        let number = names.iter().position(|name| *name == server.name);
        let number = number.unwrap_or(names.len());
        if number == names.len() {
            names.push(server.name);
        }
        if server.takes_part(outcome.scenario) {
            let colour = COLOURS[number % COLOURS.len()];
            lines.push(Line { server, at, colour });
        }
    }
    lines
}

/// Colours that people who see few of them tell apart, too (Okabe and Ito), and black.
const COLOURS: [RGBColor; 9] = [
    RGBColor(120, 120, 120),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(90, 60, 20),
    RGBColor(0, 0, 0),
];

/// Answers a second against queries a second, of a scenario: what is answered of what is offered.
pub fn answered(path: &Path, servers: &[Server], outcome: &Outcome) -> Result<()> {
    let points = outcome.measured.iter().flat_map(|of| &of.curve);
    let most = points.map(|point| point.offered).fold(1e5, f64::max) * 1.1;
    draw(path, |area| {
        let caption = format!("Answered of what is offered: {}", outcome.scenario.what);
        let mut chart = ChartBuilder::on(area)
            .caption(caption, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d((1e4..most).log_scale(), (1e3..most).log_scale())
            .map_err(|error| anyhow!("{error}"))?;
        chart
            .configure_mesh()
            .x_labels(6)
            .x_desc("queries a second")
            .y_desc("answers a second")
            .x_label_formatter(&|value| thousands(*value))
            .y_label_formatter(&|value| thousands(*value))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| anyhow!("{error}"))?;
        for Line { server, at, colour } in lines(servers, outcome) {
            let curve = &outcome.measured[at].curve;
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(
                    curve
                        .iter()
                        .map(|point| (point.offered, point.answered.max(1e3))),
                    style,
                ))
                .map_err(|error| anyhow!("{error}"))?
                .label(server.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        legend(&mut chart)
    })
}

/// Median, 90th and 99th percentile of how long answers take at half of each server's load.
pub fn latency(path: &Path, servers: &[Server], outcome: &Outcome) -> Result<()> {
    let lines: Vec<Line<'_>> = lines(servers, outcome)
        .into_iter()
        .filter(|line| !outcome.measured[line.at].halves.is_empty())
        .collect();
    let most = lines
        .iter()
        .map(|line| outcome.measured[line.at].half(|half| half.p99));
    // Room for a name behind the longest bar.
    let most = most.fold(10.0, f64::max) * 12.0;
    draw(path, |area| {
        let caption = format!("Latency at half load: {}", outcome.scenario.what);
        let mut chart = ChartBuilder::on(area)
            .caption(caption, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(20)
            .build_cartesian_2d((0.5..most).log_scale(), 0.0..lines.len() as f64)
            .map_err(|error| anyhow!("{error}"))?;
        chart
            .configure_mesh()
            .x_desc("microseconds: median (dot), 90 % (tick), 99 % (end of the bar)")
            .x_label_formatter(&|value| thousands(*value))
            .y_labels(0)
            .y_label_formatter(&|_| String::new())
            .disable_y_mesh()
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| anyhow!("{error}"))?;
        for (row, line) in lines.iter().enumerate() {
            let of = &outcome.measured[line.at];
            let (p50, p90, p99) = (of.half(|h| h.p50), of.half(|h| h.p90), of.half(|h| h.p99));
            let y = (lines.len() - row) as f64 - 0.5;
            let colour = line.colour;
            let bar = PathElement::new([(p50, y), (p99, y)], colour.stroke_width(6));
            let tick = PathElement::new([(p90, y - 0.25), (p90, y + 0.25)], colour.stroke_width(2));
            let dot = Circle::new((p50, y), 6, colour.filled());
            let label = Text::new(line.server.name, (p99 * 1.15, y + 0.12), ("sans-serif", 14));
            chart
                .draw_series([bar])
                .map_err(|error| anyhow!("{error}"))?;
            chart
                .draw_series([tick])
                .map_err(|error| anyhow!("{error}"))?;
            chart
                .draw_series([dot])
                .map_err(|error| anyhow!("{error}"))?;
            chart
                .draw_series([label])
                .map_err(|error| anyhow!("{error}"))?;
        }
        Ok(())
    })
}

/// Draws the cost of an answer by number of names or of prefixes. The sizes stand side by side: one of them may be 0.
pub fn cost(path: &Path, of: Of, costs: &[Cost]) -> Result<()> {
    let costs: Vec<&Cost> = costs.iter().filter(|cost| cost.question.of == of).collect();
    let mut sizes: Vec<usize> = costs.iter().map(|cost| cost.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let most = costs.iter().map(|cost| cost.above()).fold(10.0, f64::max);
    draw(path, |area| {
        let caption = format!("What an answer takes by number of {}", of.word());
        let mut chart = ChartBuilder::on(area)
            .caption(caption, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(
                (0..sizes.len().saturating_sub(1)).into_segmented(),
                0.0..most * 1.4,
            )
            .map_err(|error| anyhow!("{error}"))?;
        chart
            .configure_mesh()
            .x_desc(of.word())
            .y_desc("nanoseconds above a bare reflector")
            .x_label_formatter(&|place| match place {
                SegmentValue::CenterOf(at) => sizes
                    .get(*at)
                    .map_or(String::new(), |size| shown(*size as f64)),
                _ => String::new(),
            })
            .y_label_formatter(&|value| format!("{value:.0}"))
            .disable_x_mesh()
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| anyhow!("{error}"))?;
        let questions = QUESTIONS.into_iter().filter(|question| question.of == of);
        for (question, colour) in questions.zip(COLOURS.iter().skip(1)) {
            let asked = costs.iter().filter(|cost| cost.question == question);
            let points: Vec<_> = (0..)
                .zip(asked)
                .map(|(at, cost)| (SegmentValue::CenterOf(at), cost.above().max(0.0)))
                .collect();
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, style).point_size(5))
                .map_err(|error| anyhow!("{error}"))?
                .label(question.what)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        legend(&mut chart)
    })
}

/// Says which line is whose.
fn legend<'a, 'b: 'a, Place: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Place>,
) -> Result<()> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK)
        .draw()
        .map_err(|error| anyhow!("{error}"))
}

/// An SVG of this, on white.
fn draw(
    path: &Path,
    content: impl FnOnce(&DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<()>,
) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    content(&area)?;
    area.present()
        .map_err(|error| anyhow!("cannot write {}: {error}", path.display()))
}

/// A number of three digits and a letter.
fn thousands(value: f64) -> String {
    match value {
        1e6.. => format!("{}M", value / 1e6),
        1e3.. => format!("{}k", value / 1e3),
        _ => format!("{value}"),
    }
}

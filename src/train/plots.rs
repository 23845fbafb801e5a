//! The plots of a report, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::digits::short;
use super::epoch::Epoch;

const SIZE: (u32, u32) = (720, 320);
const FONT: (&str, u32) = ("sans-serif", 14);
const TITLE: (&str, u32) = ("sans-serif", 16);
const TRAINING: RGBColor = RGBColor(31, 119, 180);
const VALIDATION: RGBColor = RGBColor(214, 39, 40);
const GREY: RGBColor = RGBColor(128, 128, 128);

/// The most classes whose names and counts are drawn.
const MAX_NAMED: usize = 30;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws into a text.
fn drawn(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let done = draw(&area).and_then(|()| Ok(area.present()?));
        done.expect("drawing into a text has nothing to fail on");
    }
    svg
}

/// A range that holds all values, with some room; of a single value, around it.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return 0.0..1.0;
    }
    let room = match high - low {
        0.0 => high.abs().max(1.0) * 0.05,
        span => span * 0.05,
    };
    low - room..high + room
}

/// A line of a plot: its name, its colour, its points.
type Line<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

fn lines(
    title: &str,
    down: &str,
    best_epoch: usize,
    legend: SeriesLabelPosition,
    lines: Vec<Line<'_>>,
) -> String {
    let across = around(
        lines
            .iter()
            .flat_map(|line| line.2.iter().map(|point| point.0)),
    );
    let up = around(
        lines
            .iter()
            .flat_map(|line| line.2.iter().map(|point| point.1)),
    );
    drawn(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, TITLE)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(across, up.clone())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("epoch")
            .y_desc(down)
            .x_label_formatter(&|epoch| format!("{epoch:.0}"))
            .y_label_formatter(&|value| short(*value))
            .label_style(FONT)
            .draw()?;
        for (name, colour, points) in lines {
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
        }
        let best = best_epoch as f64;
        chart
            .draw_series(LineSeries::new([(best, up.start), (best, up.end)], GREY))?
            .label("kept")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], GREY));
        chart
            .configure_series_labels()
            .position(legend)
            .background_style(WHITE.mix(0.8))
            .border_style(GREY)
            .label_font(FONT)
            .draw()?;
        Ok(())
    })
}

fn over(history: &[Epoch], value: impl Fn(&Epoch) -> Option<f64>) -> Vec<(f64, f64)> {
    let points = history
        .iter()
        .filter_map(|epoch| Some((epoch.number as f64, value(epoch)?)));
    points.collect()
}

/// The losses by epoch.
pub(super) fn losses(history: &[Epoch], best_epoch: usize) -> String {
    let mut shown = vec![(
        "rows learned from",
        TRAINING,
        over(history, |epoch| Some(epoch.loss)),
    )];
    let held_out = over(history, |epoch| epoch.validation_loss);
    if !held_out.is_empty() {
        shown.push(("rows held out", VALIDATION, held_out));
    }
    lines(
        "Loss by epoch",
        "loss",
        best_epoch,
        SeriesLabelPosition::UpperRight,
        shown,
    )
}

/// The score of the rows held out by epoch.
pub(super) fn scores(history: &[Epoch], best_epoch: usize, measure: &str) -> String {
    let shown = over(history, |epoch| epoch.validation_score);
    let title = format!("{measure} of the rows held out, by epoch");
    lines(
        &title,
        measure,
        best_epoch,
        SeriesLabelPosition::LowerRight,
        vec![("rows held out", VALIDATION, shown)],
    )
}

/// A name as long as there is room.
fn named(labels: &[String], index: usize) -> String {
    const MAX_CHARS: usize = 14;
    let label = labels.get(index).map_or("", String::as_str);
    match label.chars().count() > MAX_CHARS {
        true => label.chars().take(MAX_CHARS - 1).chain(['…']).collect(),
        false => label.to_owned(),
    }
}

/// How often rows of a class (down) were given a class (across).
pub(super) fn confusion(labels: &[String], counts: &[Vec<usize>]) -> String {
    let classes = labels.len();
    let most = counts.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
    let side = (160 + 48 * classes as u32).clamp(300, 720);
    drawn((side + 80, side), |area| {
        let edge = classes as f64;
        let mut chart = ChartBuilder::on(area)
            .caption("Given class (across) by class (down)", TITLE)
            .margin(8)
            .build_cartesian_2d(-0.28 * edge..edge, edge..-0.12 * edge)?;
        for (class, given) in counts.iter().enumerate() {
            for (answer, &count) in given.iter().enumerate() {
                let (x, y) = (answer as f64, class as f64);
                let colour = if class == answer {
                    TRAINING
                } else {
                    VALIDATION
                };
                // The root keeps single errors visible next to thousands of hits.
                let strength = (count as f64 / most).sqrt() * 0.85;
                let cell = [(x, y), (x + 1.0, y + 1.0)];
                chart.draw_series([
                    Rectangle::new(cell, colour.mix(strength).filled()),
                    Rectangle::new(cell, GREY.mix(0.4)),
                ])?;
                if classes <= MAX_NAMED && count > 0 {
                    let style = FONT.into_font().color(&BLACK).pos(centre());
                    chart.draw_series([Text::new(count.to_string(), (x + 0.5, y + 0.5), style)])?;
                }
            }
            if classes <= MAX_NAMED {
                let place = class as f64 + 0.5;
                let style = FONT.into_font().color(&BLACK).pos(right());
                chart.draw_series([Text::new(
                    named(labels, class),
                    (-0.05 * edge, place),
                    style,
                )])?;
                let style = FONT.into_font().color(&BLACK).pos(centre());
                chart.draw_series([Text::new(
                    named(labels, class),
                    (place, -0.05 * edge),
                    style,
                )])?;
            }
        }
        Ok(())
    })
}

fn centre() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Center, VPos::Center)
}

fn right() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Right, VPos::Center)
}

/// How many rows each class has: to learn from, and held out.
pub(super) fn balance(labels: &[String], counts: &[[usize; 2]]) -> String {
    let classes = labels.len() as f64;
    let most = counts
        .iter()
        .map(|[training, held_out]| training + held_out)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let height = (80 + 26 * labels.len() as u32).clamp(140, 900);
    drawn((SIZE.0, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Rows by class: learned from (blue), held out (red)", TITLE)
            .margin(8)
            .build_cartesian_2d(-0.2 * most..1.1 * most, classes..0.0)?;
        for (class, [training, held_out]) in counts.iter().enumerate() {
            let (top, foot) = (class as f64 + 0.15, class as f64 + 0.85);
            let (middle, end) = (*training as f64, (training + held_out) as f64);
            chart.draw_series([
                Rectangle::new([(0.0, top), (middle, foot)], TRAINING.filled()),
                Rectangle::new([(middle, top), (end, foot)], VALIDATION.filled()),
            ])?;
            if labels.len() <= MAX_NAMED {
                let style = FONT.into_font().color(&BLACK).pos(right());
                let place = (-0.01 * most, class as f64 + 0.5);
                chart.draw_series([Text::new(named(labels, class), place, style)])?;
                let style =
                    FONT.into_font()
                        .color(&BLACK)
                        .pos(plotters::style::text_anchor::Pos::new(
                            plotters::style::text_anchor::HPos::Left,
                            plotters::style::text_anchor::VPos::Center,
                        ));
                let place = (end + 0.01 * most, class as f64 + 0.5);
                chart.draw_series([Text::new((training + held_out).to_string(), place, style)])?;
            }
        }
        Ok(())
    })
}

/// The answers (up) by the truth (across).
pub(super) fn answers(pairs: &[(f32, f32)]) -> String {
    let points = pairs
        .iter()
        .map(|&(truth, answer)| (f64::from(truth), f64::from(answer)));
    let range = around(points.clone().flat_map(|(truth, answer)| [truth, answer]));
    drawn((SIZE.0, 480), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Answer by truth", TITLE)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(range.clone(), range.clone())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("truth")
            .y_desc("answer")
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .label_style(FONT)
            .draw()?;
        let ends = [(range.start, range.start), (range.end, range.end)];
        chart.draw_series(LineSeries::new(ends, GREY))?;
        chart.draw_series(points.map(|point| Circle::new(point, 2, TRAINING.mix(0.6).filled())))?;
        Ok(())
    })
}

/// How many rows have which residual.
pub(super) fn residuals(pairs: &[(f32, f32)]) -> String {
    const BARS: usize = 30;
    let residuals: Vec<f64> = pairs
        .iter()
        .map(|&(truth, answer)| f64::from(answer) - f64::from(truth))
        .collect();
    let range = around(residuals.iter().copied());
    let width = (range.end - range.start) / BARS as f64;
    let mut counts = [0usize; BARS];
    for residual in residuals {
        let bar = ((residual - range.start) / width) as usize;
        counts[bar.min(BARS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    drawn(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Rows by residual (answer less truth)", TITLE)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(range.clone(), 0.0..most * 1.05)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("residual")
            .y_desc("rows")
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .label_style(FONT)
            .draw()?;
        chart.draw_series(counts.iter().enumerate().map(|(bar, &count)| {
            let left = range.start + bar as f64 * width;
            Rectangle::new(
                [(left, 0.0), (left + width * 0.95, count as f64)],
                TRAINING.filled(),
            )
        }))?;
        Ok(())
    })
}

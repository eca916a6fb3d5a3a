//! `cargo xtask map FILE`: the land of the dashboard's map, as one SVG path.
//!
//! The file is `land-110m.json` of the npm package world-atlas (Natural Earth, public domain), a TopoJSON. The path is
//! committed. It is equirectangular: a unit is a tenth of a degree, from 180° W and 84° N to 180° E and 58° S.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cmd::say;
use crate::place;

/// Degrees north of the top and of the bottom.
const NORTH: f64 = 84.0;
const SOUTH: f64 = -58.0;
/// Units of a degree.
const SCALE: f64 = 10.0;

#[derive(clap::Args)]
pub struct Args {
    /// land-110m.json
    file: PathBuf,
}

pub fn map(args: &Args) -> Result<()> {
    let text = fs::read_to_string(&args.file).context(args.file.display().to_string())?;
    let topology: Value = serde_json::from_str(&text)?;
    let to = place::root().join("geodns-user/src/web/assets/land.txt");
    let path = land(&topology).context("no TopoJSON of land")?;
    fs::write(&to, format!("{path}\n"))?;
    say(format!("wrote {} ({} octets)", to.display(), path.len()));
    Ok(())
}

/// The path of all rings that reach above the bottom.
fn land(topology: &Value) -> Option<String> {
    let pair = |value: &Value| Some([value.get(0)?.as_f64()?, value.get(1)?.as_f64()?]);
    let scale = pair(&topology["transform"]["scale"])?;
    let translate = pair(&topology["transform"]["translate"])?;
    let arc = |arc: &Value| {
        let mut at = [0.0, 0.0];
        let points = arc.as_array()?.iter().map(|delta| {
            let delta = pair(delta)?;
            at = [at[0] + delta[0], at[1] + delta[1]];
            Some([0, 1].map(|axis| at[axis] * scale[axis] + translate[axis]))
        });
        points.collect::<Option<Vec<[f64; 2]>>>()
    };
    let arcs = topology["arcs"].as_array()?.iter().map(arc);
    let arcs: Vec<_> = arcs.collect::<Option<_>>()?;
    let mut path = String::new();
    for geometry in topology["objects"]["land"]["geometries"].as_array()? {
        for polygon in geometry["arcs"].as_array()? {
            for ring in polygon.as_array()? {
                let mut points = Vec::new();
                for number in ring.as_array()? {
                    // ~N is arc N backwards.
                    let number = number.as_i64()?;
                    let forwards = arcs.get(number.max(!number) as usize)?.iter().copied();
                    match number < 0 {
                        true => points.extend(forwards.rev()),
                        false => points.extend(forwards),
                    }
                }
                if points.iter().any(|&[_, north]| north > SOUTH) {
                    draw(&mut path, &points);
                }
            }
        }
    }
    Some(path)
}

/// Adds a closed ring. One that crosses the 180th meridian is there twice, at both edges of the map.
fn draw(path: &mut String, points: &[[f64; 2]]) {
    let mut turns = 0.0;
    let mut before = None;
    let mut whole = Vec::with_capacity(points.len());
    for &[east, north] in points {
        let step = east - before.unwrap_or(east);
        if step.abs() > 180.0 {
            turns -= 360.0 * step.signum();
        }
        before = Some(east);
        whole.push([east + turns, north]);
    }
    for shift in [0.0, -360.0, 360.0] {
        let shifted = whole.iter().map(|&[east, north]| [east + shift, north]);
        let shifted: Vec<_> = shifted.collect();
        if shifted
            .iter()
            .any(|&[east, _]| -180.0 < east && east < 180.0)
        {
            ring(path, &shifted);
        }
    }
}

/// Adds a closed ring, in steps of whole units.
fn ring(path: &mut String, points: &[[f64; 2]]) {
    let unit = |&[east, north]: &[f64; 2]| {
        let down = NORTH - north.clamp(SOUTH, NORTH);
        [east + 180.0, down].map(|degrees| (degrees * SCALE).round() as i64)
    };
    let mut points = points.iter().map(unit);
    let Some(mut at) = points.next() else { return };
    let _ = write!(path, "M{} {}l", at[0], at[1]);
    let mut is_first = true;
    for next in points {
        let [right, down] = [next[0] - at[0], next[1] - at[1]];
        if (right, down) == (0, 0) {
            continue;
        }
        // A minus separates numbers as a blank does.
        if right >= 0 && !is_first {
            path.push(' ');
        }
        let blank = if down >= 0 { " " } else { "" };
        let _ = write!(path, "{right}{blank}{down}");
        (at, is_first) = (next, false);
    }
    path.push('z');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_become_steps_and_the_far_south_is_left_out() {
        let topology = serde_json::json!({
            "transform": { "scale": [1.0, 1.0], "translate": [-180.0, -90.0] },
            "objects": { "land": { "geometries": [
                { "arcs": [[[0, -2]], [[2]]] },
            ] } },
            "arcs": [
                [[0, 90], [10, 0], [0, 10]],
                [[0, 90], [0, 10], [10, 0]],
                [[5, 5], [1, 0], [0, 1]],
            ],
        });
        assert_eq!(land(&topology).unwrap(), "M0 840l100 0 0-100-100 0 0 100z");
        let mut path = String::new();
        draw(&mut path, &[[170.0, 0.0], [-170.0, 0.0], [-170.0, 10.0]]);
        assert_eq!(path, "M3500 840l200 0 0-100zM-100 840l200 0 0-100z");
    }
}

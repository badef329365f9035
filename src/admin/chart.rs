//! The queue of the last day as a picture, in SVG. What it shows is said in words beside it.

use super::samples::{EVERY, Sample};
use crate::mail::{Timestamp, span};
use std::fmt::Write as _;
use std::time::Duration;

/// What is shown.
const DAY: Duration = Duration::from_secs(86_400);
/// The picture's own measures; it is as wide as the page.
const WIDTH: f64 = 288.0;
const HEIGHT: f64 = 100.0;
/// Free above the highest point.
const MARGIN: f64 = 6.0;

/// The figure. `samples`: oldest first, the last one of now.
pub(super) fn chart(samples: &[Sample], now: Timestamp) -> String {
    let begin = now.minus(DAY);
    let shown: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= begin).collect();
    let highest = shown.iter().map(|sample| sample.waiting.max(sample.stopped)).max().unwrap_or(0);
    let (most, stopped) = (
        shown.iter().map(|sample| sample.waiting).max().unwrap_or(0),
        shown.iter().map(|sample| sample.stopped).max().unwrap_or(0),
    );
    let point = |at: Timestamp, count: u64| {
        let x = at.since(begin).as_secs_f64() / DAY.as_secs_f64() * WIDTH;
        let y = HEIGHT - count as f64 / highest.max(1) as f64 * (HEIGHT - MARGIN);
        format!("{x:.1},{y:.1}")
    };
    let mut area = String::new();
    let mut line = String::new();
    if let (Some(first), Some(last)) = (shown.first(), shown.last()) {
        let _ = write!(area, "{} ", point(first.at, 0));
        for sample in &shown {
            let _ = write!(area, "{} ", point(sample.at, sample.waiting));
            let _ = write!(line, "{} ", point(sample.at, sample.stopped));
        }
        area += &point(last.at, 0);
    }
    let stopped_line = if stopped > 0 {
        format!("<polyline class=\"stopped\" points=\"{}\"/>", line.trim_end())
    } else {
        String::new()
    };
    let known = shown.first().map_or(Duration::ZERO, |first| now.since(first.at));
    let words = format!(
        "Records that wait for their archive, over the last day: {most} at most, {} now. Failed and held (the line): {stopped} \
         at most, {} now.",
        shown.last().map_or(0, |sample| sample.waiting),
        shown.last().map_or(0, |sample| sample.stopped),
    );
    format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{words}\">\
         <polygon class=\"area\" points=\"{area}\"/>{stopped_line}</svg>\
         <div class=\"axis\"><span>24 h ago</span><span>now</span></div><figcaption>{words} Looked at every {}, for {} so far; \
         kept in memory, for a day at most.</figcaption></figure>\n",
        span(EVERY),
        span(known),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minutes: u64, waiting: u64, stopped: u64) -> Sample {
        Sample { at: Timestamp::from_millis(0).plus(Duration::from_secs(60 * minutes)), waiting, stopped }
    }

    #[test]
    fn the_highest_point_is_at_the_top_and_now_at_the_right() {
        let now = sample(1_440, 0, 0).at;
        let html = chart(&[sample(0, 5, 0), sample(720, 10, 1), sample(1_440, 0, 0)], now);
        assert!(html.contains("points=\"0.0,100.0 0.0,53.0 144.0,6.0 288.0,100.0 288.0,100.0\""), "{html}");
        assert!(html.contains("class=\"stopped\"") && html.contains("10 at most, 0 now"), "{html}");
    }

    #[test]
    fn what_is_older_than_a_day_is_not_shown_and_nothing_is_no_division_by_zero() {
        let now = sample(3_000, 0, 0).at;
        let html = chart(&[sample(0, 500, 500)], now);
        assert!(!html.contains("500") && html.contains("points=\"\"") && !html.contains("NaN"), "{html}");
        assert!(!chart(&[sample(3_000, 0, 0)], now).contains("NaN"));
    }
}

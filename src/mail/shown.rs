//! Text from mail or from another server as it may stand before people.

use std::time::Duration;

/// What would steer a terminal, change the direction of what follows, or take no room and so hide, is shown as `\u{…}`. An
/// address is what it looks like.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_hidden(letter) { shown.extend(letter.escape_unicode()) } else { shown.push(letter) }
    }
    shown
}

/// A time span: its largest unit, rounded down.
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Octets: up to three digits and a unit, rounded down.
pub fn octets(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = UNITS.iter().zip(1_u32..).take_while(|(_, power)| count >= 1 << (10 * power)).last();
    match unit {
        None => format!("{count} octets"),
        Some((unit, power)) => {
            let tenths = u128::from(count) * 10 / (1_u128 << (10 * power));
            if tenths < 100 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                format!("{} {unit}", tenths / 10)
            }
        }
    }
}

/// Controls (C0, DEL, C1), and of Unicode's format characters and separators those that turn the direction of text
/// (<https://www.unicode.org/reports/tr9/>), break lines, join or separate without being seen, or carry tags.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_largest_unit() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400 * 8, "8d")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn octets_are_told_in_the_largest_unit_that_fits() {
        for (count, text) in [
            (0, "0 octets"),
            (1_023, "1023 octets"),
            (1_024, "1.0 KiB"),
            (10 << 10, "10 KiB"),
            ((3 << 30) + (1 << 29), "3.5 GiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(octets(count), text);
        }
    }
}

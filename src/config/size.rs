//! Sizes as people write them: `64KiB`, `4MiB`. Binary units only, so that a unit has one meaning.

const UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a whole number with one of the units B, KiB, MiB, GiB, as bytes; `None` for anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// Writes a number of bytes in the largest unit that holds it exactly.
pub fn format_size(bytes: u64) -> String {
    let exact = UNITS.iter().rev().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    let (name, scale) = exact.unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_need_their_unit() {
        for (text, bytes) in
            [("64KiB", 65_536), ("4MiB", 4_194_304), ("1GiB", 1 << 30), ("0B", 0), ("17B", 17)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "64KB", "64kib", "64K", "1e3B", "-1B", "1 KiB", "17179869184GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 1_023, 1_024, 65_536, (1 << 20) + 1, 3 << 30] {
            assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }
        assert_eq!(format_size(65_536), "64KiB");
    }
}

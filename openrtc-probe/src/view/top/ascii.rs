//! A frame for a terminal whose locale is not UTF-8.

use ratatui::buffer::Buffer;

use crate::view::ascii::ascii;

/// Replaces all in a finished frame that is not ASCII; where things stand stays the same.
pub(super) fn in_ascii(frame: &mut Buffer) {
    let width = usize::from(frame.area.width).max(1);
    for line in frame.content.chunks_mut(width) {
        // What a wide character leaves for the cell that it also covers.
        let mut rest = String::new();
        for cell in line {
            if rest.is_empty() {
                if cell.symbol().is_ascii() {
                    continue;
                }
                rest = ascii(cell.symbol());
            }
            let next: String = rest.drain(..1.min(rest.len())).collect();
            // A cell is never nothing.
            cell.set_symbol(if next.is_empty() { " " } else { &next });
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn a_frame_keeps_its_places() {
        let mut frame = Buffer::empty(Rect::new(0, 0, 8, 2));
        frame.set_string(0, 0, "█░日本x…", Style::new());
        frame.set_string(0, 1, "e\u{301}≥3", Style::new());
        in_ascii(&mut frame);
        assert_eq!(frame, Buffer::with_lines(["#.????x~", "?>3     "]));
    }
}

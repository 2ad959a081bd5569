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
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;
    use crate::view::order::Order;
    use crate::view::samples;
    use crate::view::top::{Key, Palette, Press, Screen, draw, press};

    #[test]
    fn whole_frames_are_as_they_were_but_for_their_glyphs() {
        let screen = Screen::new(Order::default(), Palette::new(true), 1.0);
        let help = Screen { help: true, ..screen.clone() };
        let details = press(&screen, &samples::three(), Press::Key(Key::Enter)).0;
        for snapshot in [samples::three(), samples::hostile(), samples::lost(), samples::fleet()] {
            for (screen, columns) in [(&screen, 120), (&screen, 40), (&help, 80), (&details, 80)] {
                let mut terminal = Terminal::new(TestBackend::new(columns, 30)).unwrap();
                let screen = screen.fit(&snapshot, columns, 30);
                let drawn = terminal.draw(|frame| draw(frame, &snapshot, &screen)).unwrap();
                let (before, mut after) = (drawn.buffer.clone(), drawn.buffer.clone());
                in_ascii(&mut after);
                for (old, new) in before.content.iter().zip(&after.content) {
                    assert!(new.symbol().is_ascii() && new.symbol().len() == 1, "{new:?}");
                    assert_eq!(new.style(), old.style());
                    assert!(old.symbol() == " " || !old.symbol().is_ascii() || new == old);
                }
                assert_ne!(before, after, "there was nothing to replace");
            }
        }
    }

    #[test]
    fn a_frame_keeps_its_places() {
        let mut frame = Buffer::empty(Rect::new(0, 0, 8, 2));
        frame.set_string(0, 0, "█░日本x…", Style::new());
        frame.set_string(0, 1, "e\u{301}≥3", Style::new());
        in_ascii(&mut frame);
        assert_eq!(frame, Buffer::with_lines(["#.????x~", "?>3     "]));
    }
}

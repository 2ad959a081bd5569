//! The live table. `draw` reads a snapshot and a screen, `press` makes the next screen of a key: both
//! are pure; `terminal.rs` alone touches the terminal.

mod draw;
mod help;
mod keys;
mod palette;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;

pub use draw::draw;
pub use keys::{Key, Press};
pub use palette::Palette;
pub use screen::{Action, Screen, press};
pub use terminal::{Live, columns, events};

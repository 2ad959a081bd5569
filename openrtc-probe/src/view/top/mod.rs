//! The live view. `draw` reads a snapshot and a screen, `press` makes the next screen of a key: both
//! are pure; `terminal.rs` alone touches the terminal.

mod ascii;
mod charts;
mod details;
mod draw;
mod help;
mod keys;
mod list;
mod page;
mod palette;
mod press;
mod prompt;
mod screen;
mod stall;
mod stalls_pane;
mod tasks;
mod terminal;
#[cfg(test)]
mod tests;
mod text;

pub use draw::draw;
pub use keys::{BINDINGS, Binding, Command, Key, Press};
pub use palette::Palette;
pub use press::{Action, press};
pub use prompt::{Asks, Prompt};
pub use screen::{Chosen, Pane, Screen};
pub use tasks::Tasks;
pub use terminal::{Live, columns, events};

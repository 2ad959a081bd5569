//! placeholder
use crate::model::{Session, Snapshot};
use crate::view::top::palette::Palette;
use crate::view::top::tasks::Tasks;
use ratatui::text::Line;
pub(super) fn lines(
    _snapshot: &Snapshot,
    session: &Session,
    _tasks: Option<&Tasks>,
    _palette: Palette,
    _columns: u16,
) -> Vec<Line<'static>> {
    vec![Line::raw(session.session_id.to_string())]
}

//! placeholder
use std::sync::Arc;
/// Tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Tasks {
    /// x
    pub of: Result<Arc<crate::dump::Session>, String>,
    /// x
    pub at_unix_ns: i128,
}

//! How deep values may lie within one another.

use crate::error::WireError;
use crate::limits::MAX_DEPTH;

/// The number of lists (of attributes, of members) that are open.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Depth(usize);

impl Depth {
    /// The depth inside one more list.
    pub(super) fn enter(self) -> Result<Self, WireError> {
        if self.0 < MAX_DEPTH {
            Ok(Self(self.0 + 1))
        } else {
            Err(WireError::Limit)
        }
    }
}

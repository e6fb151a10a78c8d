//! Looking up rows of the generated tables.

use crate::generated::{CALLS, SHAPES};
use crate::table::{Call, Shape};

/// The row of a call number.
#[must_use]
pub fn call(number: u16) -> Option<&'static Call> {
    // Row n describes call n + 1.
    CALLS.get(usize::from(number).checked_sub(1)?)
}

/// The shape with this number.
#[must_use]
pub fn shape(id: u16) -> Option<&'static Shape> {
    let position = SHAPES.binary_search_by_key(&id, |shape| shape.id).ok()?;
    Some(&SHAPES[position])
}

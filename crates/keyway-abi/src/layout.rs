//! Where the members of parameter structures lie in C: natural alignment, computed from the shapes.

use crate::ctypes::CK_ULONG;
use core::ffi::c_void;
use keyway_wire::generated::SHAPES;
use keyway_wire::shape;
use keyway_wire::table::{MemberKind, Shape};
use std::mem::{align_of, size_of};
use std::sync::OnceLock;

/// The layout of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Size of the structure in bytes, with the padding at its end.
    pub size: usize,
    /// Its alignment in bytes.
    pub align: usize,
    /// The offset of each member, `Length` members included.
    pub offsets: Vec<usize>,
    /// Whether the structure, or one in place in it, holds pointers.
    pub pointers: bool,
}

/// The layout of the shape with this number.
#[must_use]
pub fn layout(id: u16) -> Option<&'static Layout> {
    static LAYOUTS: OnceLock<Vec<Layout>> = OnceLock::new();
    let layouts = LAYOUTS.get_or_init(|| SHAPES.iter().map(lay_out).collect());
    let position = SHAPES.binary_search_by_key(&id, |shape| shape.id).ok()?;
    layouts.get(position)
}

fn lay_out(shape: &Shape) -> Layout {
    let mut result = Layout {
        size: 0,
        align: 1,
        offsets: Vec::new(),
        pointers: false,
    };
    for member in shape.members {
        let (size, align, pointers) = size_of_member(member.kind);
        let offset = result.size.next_multiple_of(align);
        result.offsets.push(offset);
        result.size = offset + size;
        result.align = result.align.max(align);
        result.pointers |= pointers;
    }
    result.size = result.size.next_multiple_of(result.align);
    result
}

/// Size, alignment, and whether there is a pointer in it.
fn size_of_member(kind: MemberKind) -> (usize, usize, bool) {
    match kind {
        MemberKind::Ulong | MemberKind::Object | MemberKind::Length => {
            (size_of::<CK_ULONG>(), align_of::<CK_ULONG>(), false)
        }
        MemberKind::Byte => (1, 1, false),
        MemberKind::Bytes(length) => (usize::from(length), 1, false),
        MemberKind::Ulongs(count) => (
            usize::from(count) * size_of::<CK_ULONG>(),
            align_of::<CK_ULONG>(),
            false,
        ),
        MemberKind::Struct(id) => {
            // The generator refuses a structure that contains itself, or one that is not in the table.
            let nested = shape(id).map(lay_out).unwrap_or(Layout {
                size: 0,
                align: 1,
                offsets: Vec::new(),
                pointers: false,
            });
            (nested.size, nested.align, nested.pointers)
        }
        MemberKind::String(_)
        | MemberKind::StringSized(_)
        | MemberKind::Cell
        | MemberKind::ObjectCell
        | MemberKind::Version
        | MemberKind::Pointer(_)
        | MemberKind::Array(_, _)
        | MemberKind::Template(_)
        | MemberKind::Mechanism
        | MemberKind::Text
        | MemberKind::Choice { .. } => (size_of::<*mut c_void>(), align_of::<*mut c_void>(), true),
    }
}

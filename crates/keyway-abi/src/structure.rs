//! A parameter structure in C memory: its members by their index in the shape.

use crate::ctypes::CK_ULONG;
use crate::layout::{layout, Layout};
use keyway_wire::generated::rv::CKR_GENERAL_ERROR;
use keyway_wire::shape;
use keyway_wire::table::{MemberKind, MemberSpec, Shape, Size};

/// Where a structure lies, and what encloses it.
#[derive(Clone, Copy)]
pub(crate) struct Structure<'o> {
    base: *mut u8,
    shape: &'static Shape,
    layout: &'static Layout,
    outer: Option<&'o Structure<'o>>,
}

impl<'o> Structure<'o> {
    /// The structure at `base`; the methods that look into it need to know that it is there.
    pub(crate) fn at(id: u16, base: *mut u8, outer: Option<&'o Structure<'o>>) -> Result<Self, u64> {
        let (Some(shape), Some(layout)) = (shape(id), layout(id)) else {
            return Err(CKR_GENERAL_ERROR);
        };
        Ok(Self {
            base,
            shape,
            layout,
            outer,
        })
    }

    /// Each member with its index.
    pub(crate) fn members(&self) -> impl Iterator<Item = (usize, &'static MemberSpec)> {
        self.shape.members.iter().enumerate()
    }

    /// Each member that travels with its index: all but `Length` members.
    pub(crate) fn travelling(&self) -> impl Iterator<Item = (usize, &'static MemberSpec)> {
        self.members().filter(|(_, member)| member.kind != MemberKind::Length)
    }

    /// Whether the token may write this member.
    pub(crate) fn is_out(&self, index: u8) -> bool {
        self.shape.members[usize::from(index)].out
    }

    /// Where a member lies.
    pub(crate) fn place(&self, index: usize) -> *mut u8 {
        self.base.wrapping_add(self.layout.offsets[index])
    }

    /// A member that is a CK_ULONG.
    ///
    /// # Safety
    /// The structure is there, and that is what the member is.
    pub(crate) unsafe fn ulong(&self, index: usize) -> CK_ULONG {
        // SAFETY: the place lies in the structure.
        unsafe { self.place(index).cast::<CK_ULONG>().read_unaligned() }
    }

    /// A member that is a pointer.
    ///
    /// # Safety
    /// The structure is there, and that is what the member is.
    pub(crate) unsafe fn pointer(&self, index: usize) -> *mut u8 {
        // SAFETY: the place lies in the structure.
        unsafe { self.place(index).cast::<*mut u8>().read_unaligned() }
    }

    /// Sets a member that is a CK_ULONG.
    ///
    /// # Safety
    /// The structure can be written to, and that is what the member is.
    pub(crate) unsafe fn set_ulong(&self, index: usize, value: CK_ULONG) {
        // SAFETY: the place lies in the structure.
        unsafe { self.place(index).cast::<CK_ULONG>().write_unaligned(value) }
    }

    /// Sets a member that is a pointer.
    ///
    /// # Safety
    /// The structure can be written to, and that is what the member is.
    pub(crate) unsafe fn set_pointer(&self, index: usize, value: *mut u8) {
        // SAFETY: the place lies in the structure.
        unsafe { self.place(index).cast::<*mut u8>().write_unaligned(value) }
    }

    /// How many bytes a `StringSized` member points to.
    ///
    /// # Safety
    /// The structure and those around it are there; cells in it are NULL or can be read.
    pub(crate) unsafe fn sized(&self, size: Size) -> CK_ULONG {
        let outer = self.outer.unwrap_or(self);
        // SAFETY: the generator made the index that of a member which holds the number, in this structure or in the one
        // around it.
        unsafe {
            match size {
                Size::Member(index) => self.ulong(usize::from(index)),
                Size::Bits(index) => self.ulong(usize::from(index)).div_ceil(8),
                Size::Outer(index) => outer.ulong(usize::from(index)),
                Size::OuterBits(index) => outer.ulong(usize::from(index)).div_ceil(8),
                Size::Cell(index) => {
                    let cell = self.pointer(usize::from(index)).cast::<CK_ULONG>();
                    if cell.is_null() {
                        0
                    } else {
                        cell.read_unaligned()
                    }
                }
                Size::Constant(length) => CK_ULONG::from(length),
            }
        }
    }

    /// The shape that a `Choice` member has now, if its selector chooses one.
    ///
    /// # Safety
    /// The structure is there.
    pub(crate) unsafe fn chosen(&self, selector: u8, shapes: &'static [(u64, u16)]) -> &'static [u16] {
        // SAFETY: the generator made the index that of a CK_ULONG.
        let value = crate::ulong::widen(unsafe { self.ulong(usize::from(selector)) });
        let choice = shapes.iter().find(|(when, _)| *when == value);
        choice.map_or(&[], |(_, id)| core::slice::from_ref(id))
    }
}

//! What the generated tables are made of: the rows of spec/*.toml as types.

/// What the first C argument of a call names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The call has no session and no slot.
    None,
    /// CK_SESSION_HANDLE.
    Session,
    /// CK_SLOT_ID.
    Slot,
}

/// The kind of an argument (docs/wire.md, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Ulong,
    Bool,
    Object,
    Bytes,
    Pin,
    Name,
    Label,
    Mechanism,
    Parameter,
    Template,
    TemplateOut,
    Buffer,
    Fill,
    BytesOut,
    UlongOut,
    ObjectOut,
    SessionOut,
    UlongsOut,
    ObjectsOut,
    InfoOut,
    SlotInfoOut,
    TokenInfoOut,
    SessionInfoOut,
    MechanismInfoOut,
    AsyncDataOut,
    Reserved,
    Ignored,
}

/// What a call does to the operation it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Step {
    None,
    Start,
    Whole,
    Continue,
    End,
}

/// What a successful call changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Effect {
    None,
    Session,
    Login,
    Objects,
    Token,
    Context,
}

/// One row of spec/calls.toml.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Position in CK_FUNCTION_LIST_3_2, from 1; the call number on the wire.
    pub number: u16,
    /// The function's name.
    pub name: &'static str,
    /// First version of the standard whose function list has it: major, minor.
    pub since: (u8, u8),
    /// What the header's target is.
    pub target: Target,
    /// The arguments after the target, in order.
    pub args: &'static [Kind],
    /// What it does to an operation.
    pub step: Step,
    /// The number of the call that starts the operation, where the two may be fused; else 0.
    pub init: u16,
    /// What success changes.
    pub effect: Effect,
    /// Whether it may be repeated after an unknown outcome.
    pub repeat: bool,
}

/// The kind of an attribute's value (spec/attributes.toml).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AttributeKind {
    Bytes,
    Ulong,
    Ulongs,
    Template,
}

/// How a member of a parameter structure is laid out in C and travels (docs/wire.md, section 4.1).
///
/// Numbers in variants are indices of members of the same structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// CK_ULONG.
    Ulong,
    /// CK_OBJECT_HANDLE.
    Object,
    /// CK_BYTE, CK_BBOOL.
    Byte,
    /// CK_BYTE\[N\].
    Bytes(u16),
    /// CK_ULONG\[N\].
    Ulongs(u16),
    /// A CK_ULONG that holds the length or count of another member; it has a place in C but does not travel.
    Length,
    /// A pointer whose length is the `Length` member with this index.
    String(u8),
    /// A pointer to bytes whose length is given elsewhere.
    StringSized(Size),
    /// CK_ULONG_PTR.
    Cell,
    /// CK_OBJECT_HANDLE_PTR.
    ObjectCell,
    /// CK_VERSION_PTR.
    Version,
    /// A structure in place.
    Struct(u16),
    /// A pointer to one structure.
    Pointer(u16),
    /// A pointer to as many structures as the `Length` member says: shape, index.
    Array(u16, u8),
    /// A pointer to as many attributes as the `Length` member with this index says.
    Template(u8),
    /// CK_MECHANISM_PTR.
    Mechanism,
    /// A pointer to a zero-terminated text.
    Text,
    /// A pointer to what the value of another member says: a structure, or bytes.
    Choice {
        /// Index of the `Length` member.
        length: u8,
        /// Index of the `Ulong` member that decides.
        selector: u8,
        /// Its value and the shape that goes with it; all other values mean bytes.
        shapes: &'static [(u64, u16)],
    },
}

/// Where the length of a `StringSized` member is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// In bytes, in the member with this index.
    Member(u8),
    /// In bits, in the member with this index.
    Bits(u8),
    /// In bytes, in the member with this index of the enclosing structure.
    Outer(u8),
    /// In bits, in the member with this index of the enclosing structure.
    OuterBits(u8),
    /// In bytes, in the cell that the member with this index points to.
    Cell(u8),
    /// A constant.
    Constant(u16),
}

/// One member of a shape.
#[derive(Debug, Clone, Copy)]
pub struct MemberSpec {
    /// The member's name in C.
    pub name: &'static str,
    /// Layout and wire form.
    pub kind: MemberKind,
    /// Whether the token may write it.
    pub out: bool,
}

/// A structure that a mechanism parameter may have.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its number on the wire.
    pub id: u16,
    /// The structure's name in C.
    pub name: &'static str,
    /// Its members in the order of the declaration.
    pub members: &'static [MemberSpec],
    /// Whether it, or a structure in it, has members that the token writes.
    pub out: bool,
}

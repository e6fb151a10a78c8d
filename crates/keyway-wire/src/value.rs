//! The values that travel, one type for each kind of docs/wire.md, section 4.
//!
//! Values borrow from the bytes or the caller's memory that they were made from, so that a frame is encoded and decoded
//! without a copy of its payload.

/// A byte string: absent, empty and present are three different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes<'a> {
    /// A NULL pointer, and the length argument that came with it.
    Null(u64),
    /// The bytes; possibly none.
    Data(&'a [u8]),
}

/// An output buffer as the caller offers it: *room* in the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What the length pointer points to; None if that pointer is NULL.
    pub length: Option<u64>,
    /// Whether the buffer pointer is not NULL.
    pub buffer: bool,
}

/// The output array of C_FindObjects, whose size is an argument of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectsRoom {
    /// The maximum argument: how many handles the array can hold.
    pub maximum: u64,
    /// Whether the pointer to the count is not NULL.
    pub count: bool,
    /// Whether the pointer to the array is not NULL.
    pub buffer: bool,
}

/// What became of an output buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<'a> {
    /// The length as the module left it; None if the request had no length pointer.
    pub length: Option<u64>,
    /// The data, if it was written.
    pub data: Option<&'a [u8]>,
}

/// What became of an output array of numbers (slots, mechanisms, object handles).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The count as the module left it.
    pub count: Option<u64>,
    /// The numbers, if they were written.
    pub data: Option<Vec<u64>>,
}

/// A mechanism parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// A NULL pointer, and the length that came with it.
    Null(u64),
    /// Bytes without a known shape.
    Flat(&'a [u8]),
    /// A structure of the shape with this number, one value for each member that travels.
    Structured(u16, Vec<Member<'a>>),
    /// In replies: the token wrote nothing that the caller could see.
    Unchanged,
}

/// One member of a structured mechanism parameter, in the order of its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member<'a> {
    /// `ulong`, `object`.
    Ulong(u64),
    /// `byte`.
    Byte(u8),
    /// `bytes N`.
    Array(&'a [u8]),
    /// `ulongs N`.
    Ulongs(Vec<u64>),
    /// `string`, `string_bits`, `string_sized`, `string_cell`, `text`.
    String(Bytes<'a>),
    /// `cell`, `object_cell`.
    Cell(Option<u64>),
    /// `version`: major and minor.
    Version(Option<[u8; 2]>),
    /// `struct`.
    Struct(Vec<Member<'a>>),
    /// `pointer`.
    Pointer(Option<Vec<Member<'a>>>),
    /// `array`: the structures, or NULL with the count that came with it.
    Structs(Result<Vec<Vec<Member<'a>>>, u64>),
    /// `template`.
    Template(Template<'a>),
    /// `mechanism`.
    Mechanism(Option<Mechanism<'a>>),
    /// `choice`.
    Parameter(Parameter<'a>),
}

/// A mechanism with its parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mechanism<'a> {
    /// CK_MECHANISM_TYPE; unknown ones are as good as known ones.
    pub mechanism: u64,
    /// The parameter.
    pub parameter: Parameter<'a>,
}

/// A template: the attributes, or NULL with the count that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template<'a> {
    /// A NULL pointer, and the count that came with it.
    Null(u64),
    /// The attributes; possibly none.
    Attributes(Vec<Attribute<'a>>),
}

/// An attribute of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// CK_ATTRIBUTE_TYPE.
    pub attribute: u64,
    /// The value by kind.
    pub value: AttributeValue<'a>,
}

/// The value of an attribute, and in C_GetAttributeValue the room for one and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// Tag 0: a NULL pointer with ulValueLen; in an answer: a length in bytes only.
    Null(u64),
    /// Tag 1.
    Bytes(&'a [u8]),
    /// Tag 2.
    Number(u64),
    /// Tag 3.
    Numbers(Vec<u64>),
    /// Tag 4 (and tag 7 in a query).
    Template(Vec<Attribute<'a>>),
    /// Tag 5, queries: room for so many bytes.
    RoomBytes(u64),
    /// Tag 6, queries: room for so many numbers.
    RoomNumbers(u64),
    /// Tag 8, answers: a length in numbers only.
    LengthNumbers(u64),
    /// Tag 9, answers: a length in attributes only.
    LengthAttributes(u64),
    /// Tag 255, answers: CK_UNAVAILABLE_INFORMATION.
    Unavailable,
}

/// An argument of a call or of its reply. Kinds without a request value (or reply value) have no entry in the list of a request (or reply).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// `ulong`, and `object` beyond the first.
    Ulong(u64),
    /// `bool`: any CK_BBOOL.
    Bool(u8),
    /// `bytes`, `pin`, `name`, `bytes_out`, and the reply of `fill`.
    Bytes(Bytes<'a>),
    /// `label`.
    Label(Option<&'a [u8; 32]>),
    /// `mechanism`.
    Mechanism(Option<Mechanism<'a>>),
    /// `parameter`, and the reply of `mechanism`.
    Parameter(Parameter<'a>),
    /// `template`, and the query and answer of `template_out`.
    Template(Template<'a>),
    /// `buffer`, `ulongs_out` in requests.
    Room(Room),
    /// `objects_out` in requests.
    ObjectsRoom(ObjectsRoom),
    /// `buffer` in replies.
    Output(Output<'a>),
    /// `ulongs_out`, `objects_out` in replies.
    Numbers(Numbers),
    /// `fill` in requests.
    Fill {
        /// Whether the pointer is not NULL.
        buffer: bool,
        /// The length argument in bytes.
        length: u64,
    },
    /// `ulong_out`, `object_out`, `session_out`: the value in the cell, None for a NULL pointer.
    Cell(Option<u64>),
    /// Structures and pointers that must be NULL, in requests: whether the pointer is not NULL.
    Pointer(bool),
    /// Structures in replies.
    Info(Option<Info>),
}

/// The information structures of the standard, members as in the C declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Info {
    /// CK_INFO.
    Module(ModuleInfo),
    /// CK_SLOT_INFO.
    Slot(SlotInfo),
    /// CK_TOKEN_INFO.
    Token(Box<TokenInfo>),
    /// CK_SESSION_INFO.
    Session(SessionInfo),
    /// CK_MECHANISM_INFO.
    Mechanism(MechanismInfo),
}

/// CK_INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ModuleInfo {
    pub cryptoki_version: [u8; 2],
    pub manufacturer_id: [u8; 32],
    pub flags: u64,
    pub library_description: [u8; 32],
    pub library_version: [u8; 2],
}

/// CK_SLOT_INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SlotInfo {
    pub slot_description: [u8; 64],
    pub manufacturer_id: [u8; 32],
    pub flags: u64,
    pub hardware_version: [u8; 2],
    pub firmware_version: [u8; 2],
}

/// CK_TOKEN_INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TokenInfo {
    pub label: [u8; 32],
    pub manufacturer_id: [u8; 32],
    pub model: [u8; 16],
    pub serial_number: [u8; 16],
    pub flags: u64,
    pub max_session_count: u64,
    pub session_count: u64,
    pub max_rw_session_count: u64,
    pub rw_session_count: u64,
    pub max_pin_len: u64,
    pub min_pin_len: u64,
    pub total_public_memory: u64,
    pub free_public_memory: u64,
    pub total_private_memory: u64,
    pub free_private_memory: u64,
    pub hardware_version: [u8; 2],
    pub firmware_version: [u8; 2],
    pub utc_time: [u8; 16],
}

/// CK_SESSION_INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SessionInfo {
    pub slot: u64,
    pub state: u64,
    pub flags: u64,
    pub device_error: u64,
}

/// CK_MECHANISM_INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MechanismInfo {
    pub min_key_size: u64,
    pub max_key_size: u64,
    pub flags: u64,
}

//! The limits of docs/wire.md, section 2.

/// Bytes of the body of a frame.
pub const MAX_BODY: usize = 67_108_864;
/// Bytes that a server allocates for one output argument.
pub const MAX_OUTPUT: usize = 67_108_864;
/// Attributes in one template, structures in one array; nested ones are counted apart.
pub const MAX_ATTRIBUTES: usize = 4_096;
/// Lists of attributes and of members that may be open within one another.
pub const MAX_DEPTH: usize = 8;
/// Entries of one array of numbers.
pub const MAX_HANDLES: usize = 1_048_576;
/// Queries of one request to read ahead.
pub const MAX_QUERIES: usize = 256;
/// Objects of one request to read ahead.
pub const MAX_AHEAD: usize = 256;

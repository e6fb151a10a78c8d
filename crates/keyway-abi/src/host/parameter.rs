//! Mechanism parameters for a vendor module: structures rebuilt from values, and what the module wrote in them.
//!
//! The module never gets a pointer that came off the wire, and no string shorter than its structure says.

use super::arena::Arena;
use super::template::build_template;
use crate::arguments::takes_message_shape;
use crate::ctypes::{CK_MECHANISM, CK_ULONG};
use crate::layout::layout;
use crate::memory;
use crate::parameter::shape_of_size;
use crate::structure::Structure;
use crate::ulong::{narrow, widen};
use core::mem::size_of;
use core::ptr::null_mut;
use keyway_wire::generated::rv::{CKR_ARGUMENTS_BAD, CKR_GENERAL_ERROR, CKR_MECHANISM_PARAM_INVALID};
use keyway_wire::generated::{message_shapes_of, shapes_of};
use keyway_wire::shape;
use keyway_wire::table::{Call, MemberKind};
use keyway_wire::value::{Bytes, Mechanism, Member, Parameter};

/// A parameter in C memory.
pub(super) struct Built<'v> {
    /// Its address.
    pub(super) pointer: *mut u8,
    /// The length that goes with it.
    pub(super) length: CK_ULONG,
    structure: Option<BuiltStructure<'v>>,
}

/// A structure in C memory, with the addresses that it was given: the module may have changed those in it.
struct BuiltStructure<'v> {
    id: u16,
    base: *mut u8,
    members: &'v [Member<'v>],
    parts: Vec<Part<'v>>,
}

/// What a member that travels points to.
enum Part<'v> {
    Nothing,
    Bytes { pointer: *mut u8, room: usize },
    Structure(BuiltStructure<'v>),
    Structures(Vec<BuiltStructure<'v>>),
    Parameter(Built<'v>),
}

/// Builds the mechanism of a call; NULL for None.
pub(super) fn build_mechanism<'v>(
    arena: &mut Arena,
    call: &Call,
    mechanism: Option<&'v Mechanism<'v>>,
) -> Result<(*mut CK_MECHANISM, Option<Built<'v>>), u64> {
    let message = mechanism.map_or(&[][..], |mechanism| message_shapes_of(mechanism.mechanism));
    if takes_message_shape(call) && !message.is_empty() {
        build_shaped(arena, message, mechanism)
    } else {
        build_nested(arena, mechanism)
    }
}

/// Builds a mechanism that lies in the parameter of another.
fn build_nested<'v>(
    arena: &mut Arena,
    mechanism: Option<&'v Mechanism<'v>>,
) -> Result<(*mut CK_MECHANISM, Option<Built<'v>>), u64> {
    let shapes = mechanism.map_or(&[][..], |mechanism| shapes_of(mechanism.mechanism));
    build_shaped(arena, shapes, mechanism)
}

fn build_shaped<'v>(
    arena: &mut Arena,
    shapes: &[u16],
    mechanism: Option<&'v Mechanism<'v>>,
) -> Result<(*mut CK_MECHANISM, Option<Built<'v>>), u64> {
    let Some(Mechanism { mechanism, parameter }) = mechanism else {
        return Ok((null_mut(), None));
    };
    let place = arena.allocate(size_of::<CK_MECHANISM>())?.cast::<CK_MECHANISM>();
    let built = build_parameter(arena, shapes, parameter)?;
    let value = CK_MECHANISM {
        mechanism: number(*mechanism)?,
        pParameter: built.pointer.cast(),
        ulParameterLen: built.length,
    };
    // SAFETY: the place has the size of a mechanism and the alignment of every C type.
    unsafe { place.write(value) };
    Ok((place, Some(built)))
}

/// Builds the parameter of a mechanism that may have these shapes.
///
/// Bytes that could be taken for a structure with pointers reach the module with their length only.
pub(super) fn build_parameter<'v>(
    arena: &mut Arena,
    shapes: &[u16],
    parameter: &'v Parameter<'v>,
) -> Result<Built<'v>, u64> {
    let (pointer, length, structure) = match parameter {
        Parameter::Null(length) => (null_mut(), number(*length)?, None),
        Parameter::Flat(bytes) => {
            let length = number(bytes.len() as u64)?;
            if shape_of_size(shapes, length).is_some() {
                return Err(CKR_MECHANISM_PARAM_INVALID);
            }
            let pointer = if reach_pointers(shapes, bytes.len()) {
                arena.allocate(bytes.len())?
            } else {
                arena.copy(bytes)?
            };
            (pointer, length, None)
        }
        Parameter::Structured(id, members) => {
            if !shapes.contains(id) {
                return Err(CKR_MECHANISM_PARAM_INVALID);
            }
            let size = layout(*id).ok_or(CKR_GENERAL_ERROR)?.size;
            let pointer = arena.allocate(size)?;
            let structure = build_structure(arena, &Structure::at(*id, pointer, None)?, *id, members)?;
            (pointer, number(size as u64)?, Some(structure))
        }
        Parameter::Unchanged => return Err(CKR_GENERAL_ERROR),
    };
    Ok(Built {
        pointer,
        length,
        structure,
    })
}

/// Builds the parameter of a message function, where no message operation of a known mechanism is active: zeroes.
pub(super) fn build_opaque<'v>(arena: &mut Arena, parameter: &'v Parameter<'v>) -> Result<Built<'v>, u64> {
    match parameter {
        Parameter::Flat(bytes) => {
            let pointer = arena.allocate(bytes.len())?;
            Ok(Built {
                pointer,
                length: number(bytes.len() as u64)?,
                structure: None,
            })
        }
        Parameter::Structured(id, _) => {
            let size = layout(*id).ok_or(CKR_GENERAL_ERROR)?.size;
            Ok(Built {
                pointer: arena.allocate(size)?,
                length: number(size as u64)?,
                structure: None,
            })
        }
        other => build_parameter(arena, &[], other),
    }
}

/// Whether so many bytes are enough to be taken for one of these shapes that has pointers.
fn reach_pointers(shapes: &[u16], length: usize) -> bool {
    let reached = |id: &u16| layout(*id).is_some_and(|layout| layout.pointers && layout.size <= length);
    shapes.iter().any(reached)
}

/// What the module wrote into a parameter.
pub(super) fn read_back<'v>(built: &Built<'v>) -> Parameter<'v> {
    match &built.structure {
        Some(structure) if shape(structure.id).is_some_and(|shape| shape.out) => {
            Parameter::Structured(structure.id, structure.read_back(None))
        }
        _ => Parameter::Unchanged,
    }
}

fn number(value: u64) -> Result<CK_ULONG, u64> {
    narrow(value).ok_or(CKR_GENERAL_ERROR)
}

/// Numbers and lengths go first: the lengths of other members are checked against them.
fn build_structure<'v>(
    arena: &mut Arena,
    s: &Structure<'_>,
    id: u16,
    members: &'v [Member<'v>],
) -> Result<BuiltStructure<'v>, u64> {
    for ((index, spec), member) in s.travelling().zip(members) {
        put_numbers(arena, s, index, spec.kind, member)?;
    }
    let mut parts = Vec::with_capacity(members.len());
    for ((index, spec), member) in s.travelling().zip(members) {
        parts.push(put_pointers(arena, s, index, spec.kind, member)?);
    }
    Ok(BuiltStructure {
        id,
        base: s.place(0),
        members,
        parts,
    })
}

/// Sets what is a number in the structure, and the cells, which hold one.
fn put_numbers(
    arena: &mut Arena,
    s: &Structure<'_>,
    index: usize,
    kind: MemberKind,
    member: &Member<'_>,
) -> Result<(), u64> {
    let place = s.place(index);
    // SAFETY: the structure was allocated with its layout, and the shape tells what each member is; fixed arrays have
    // the number of elements that the shape tells, as the decoder reads no others.
    unsafe {
        match (kind, member) {
            (MemberKind::Ulong | MemberKind::Object, Member::Ulong(value)) => s.set_ulong(index, number(*value)?),
            (MemberKind::Byte, Member::Byte(value)) => place.write(*value),
            (MemberKind::Bytes(length), Member::Array(bytes)) if bytes.len() == usize::from(length) => {
                memory::copy(bytes, place);
            }
            (MemberKind::Ulongs(count), Member::Ulongs(values)) if values.len() == usize::from(count) => {
                memory::copy_numbers(values, place.cast())?;
            }
            (MemberKind::Cell | MemberKind::ObjectCell, Member::Cell(Some(value))) => {
                s.set_pointer(index, arena.cell(number(*value)?)?.cast());
            }
            (MemberKind::String(length), Member::String(Bytes::Null(value))) => {
                s.set_ulong(usize::from(length), number(*value)?);
            }
            (MemberKind::String(length), Member::String(Bytes::Data(data))) => {
                s.set_ulong(usize::from(length), number(data.len() as u64)?);
            }
            (MemberKind::Array(_, count), Member::Structs(Err(value))) => {
                s.set_ulong(usize::from(count), number(*value)?);
            }
            (MemberKind::Array(_, count), Member::Structs(Ok(list))) => {
                s.set_ulong(usize::from(count), number(list.len() as u64)?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sets what is a pointer in the structure, and builds the structures in place.
fn put_pointers<'v>(
    arena: &mut Arena,
    s: &Structure<'_>,
    index: usize,
    kind: MemberKind,
    member: &'v Member<'v>,
) -> Result<Part<'v>, u64> {
    // SAFETY: the structure was allocated with its layout and the shape tells what each member is; its numbers, those of
    // the structures around it and its cells are set.
    unsafe {
        match (kind, member) {
            (MemberKind::Text, Member::String(Bytes::Data(data))) => {
                s.set_pointer(index, arena.text(data)?);
                Ok(Part::Nothing)
            }
            (MemberKind::String(_) | MemberKind::StringSized(_), Member::String(Bytes::Data(data))) => {
                if matches!(kind, MemberKind::StringSized(size) if widen(s.sized(size)) != data.len() as u64) {
                    return Err(CKR_ARGUMENTS_BAD);
                }
                let pointer = arena.copy(data)?;
                s.set_pointer(index, pointer);
                Ok(Part::Bytes {
                    pointer,
                    room: data.len(),
                })
            }
            (MemberKind::Cell | MemberKind::ObjectCell, Member::Cell(Some(_))) => Ok(Part::Bytes {
                pointer: s.pointer(index),
                room: size_of::<CK_ULONG>(),
            }),
            (MemberKind::Version, Member::Version(Some(version))) => {
                let pointer = arena.copy(version)?;
                s.set_pointer(index, pointer);
                Ok(Part::Bytes {
                    pointer,
                    room: version.len(),
                })
            }
            (MemberKind::Struct(id), Member::Struct(members)) => {
                let nested = Structure::at(id, s.place(index), Some(s))?;
                build_structure(arena, &nested, id, members).map(Part::Structure)
            }
            (MemberKind::Pointer(id), Member::Pointer(Some(members))) => {
                let pointer = arena.allocate(layout(id).ok_or(CKR_GENERAL_ERROR)?.size)?;
                s.set_pointer(index, pointer);
                build_structure(arena, &Structure::at(id, pointer, Some(s))?, id, members).map(Part::Structure)
            }
            (MemberKind::Array(id, _), Member::Structs(Ok(list))) => {
                let size = layout(id).ok_or(CKR_GENERAL_ERROR)?.size;
                let pointer = arena.allocate(size * list.len())?;
                s.set_pointer(index, pointer);
                let mut elements = Vec::with_capacity(list.len());
                for (position, members) in list.iter().enumerate() {
                    let nested = Structure::at(id, pointer.wrapping_add(position * size), Some(s))?;
                    elements.push(build_structure(arena, &nested, id, members)?);
                }
                Ok(Part::Structures(elements))
            }
            (MemberKind::Template(count), Member::Template(template)) => {
                let (pointer, length) = build_template(arena, template)?;
                s.set_pointer(index, pointer.cast());
                s.set_ulong(usize::from(count), length);
                Ok(Part::Nothing)
            }
            (MemberKind::Mechanism, Member::Mechanism(mechanism)) => {
                let (pointer, _) = build_nested(arena, mechanism.as_ref())?;
                s.set_pointer(index, pointer.cast());
                Ok(Part::Nothing)
            }
            (
                MemberKind::Choice {
                    length,
                    selector,
                    shapes,
                },
                Member::Parameter(parameter),
            ) => {
                let built = build_parameter(arena, s.chosen(selector, shapes), parameter)?;
                s.set_pointer(index, built.pointer);
                s.set_ulong(usize::from(length), built.length);
                Ok(Part::Parameter(built))
            }
            _ => Ok(Part::Nothing),
        }
    }
}

impl<'v> BuiltStructure<'v> {
    /// All members: those that the module may write as it left them, the others as they came.
    fn read_back(&self, outer: Option<&Structure<'_>>) -> Vec<Member<'v>> {
        let Ok(s) = Structure::at(self.id, self.base, outer) else {
            return self.members.to_vec();
        };
        for ((index, spec), part) in s.travelling().zip(&self.parts) {
            if let (MemberKind::Cell | MemberKind::ObjectCell, Part::Bytes { pointer, .. }) = (spec.kind, part) {
                // SAFETY: the structure is ours again. Lengths are looked up in our cells, whatever the module left there.
                unsafe { s.set_pointer(index, *pointer) };
            }
        }
        let travelling = s.travelling().zip(self.members).zip(&self.parts);
        let read = |(((index, spec), member), part): (((usize, _), _), _)| {
            let spec: &keyway_wire::table::MemberSpec = spec;
            read_member(&s, index, spec.kind, spec.out, member, part)
        };
        travelling.map(read).collect()
    }
}

fn read_member<'v>(
    s: &Structure<'_>,
    index: usize,
    kind: MemberKind,
    out: bool,
    member: &Member<'v>,
    part: &Part<'v>,
) -> Member<'v> {
    let place = s.place(index);
    // SAFETY: places lie in the structure, parts in the arena; both live as long as the values that the result borrows
    // from, and the module is done with them.
    unsafe {
        match (kind, part) {
            (MemberKind::Ulong | MemberKind::Object, _) if out => Member::Ulong(widen(s.ulong(index))),
            (MemberKind::Byte, _) if out => Member::Byte(place.read()),
            (MemberKind::Bytes(length), _) if out => {
                Member::Array(core::slice::from_raw_parts(place, usize::from(length)))
            }
            (MemberKind::Ulongs(count), _) if out => {
                let at = |index: usize| place.cast::<CK_ULONG>().wrapping_add(index);
                Member::Ulongs(
                    (0..usize::from(count))
                        .map(|index| widen(at(index).read_unaligned()))
                        .collect(),
                )
            }
            // The length that the module left counts only where the standard lets it write one.
            (MemberKind::String(length), Part::Bytes { pointer, room }) if out => {
                let told = widen(s.ulong(usize::from(length)));
                let written = if s.is_out(length) { told } else { *room as u64 };
                Member::String(if written <= *room as u64 {
                    Bytes::Data(core::slice::from_raw_parts(*pointer, written as usize))
                } else {
                    Bytes::Null(written)
                })
            }
            (MemberKind::String(length), _) if out && s.is_out(length) => {
                Member::String(Bytes::Null(widen(s.ulong(usize::from(length)))))
            }
            (MemberKind::StringSized(size), Part::Bytes { pointer, room }) if out => {
                let length = widen(s.sized(size));
                Member::String(if length <= *room as u64 {
                    Bytes::Data(core::slice::from_raw_parts(*pointer, length as usize))
                } else {
                    Bytes::Null(length)
                })
            }
            (MemberKind::Cell | MemberKind::ObjectCell, Part::Bytes { pointer, .. }) if out => {
                Member::Cell(memory::cell(pointer.cast()))
            }
            (MemberKind::Version, Part::Bytes { pointer, .. }) if out => {
                Member::Version(Some(pointer.cast::<[u8; 2]>().read()))
            }
            (MemberKind::Struct(_), Part::Structure(nested)) => Member::Struct(nested.read_back(Some(s))),
            (MemberKind::Pointer(_), Part::Structure(nested)) => Member::Pointer(Some(nested.read_back(Some(s)))),
            (MemberKind::Array(..), Part::Structures(list)) => {
                Member::Structs(Ok(list.iter().map(|nested| nested.read_back(Some(s))).collect()))
            }
            (MemberKind::Choice { .. }, Part::Parameter(built)) => Member::Parameter(read_back(built)),
            _ => member.clone(),
        }
    }
}

//! Mechanism parameters in the caller's memory (docs/wire.md, section 4.1): to values, and what the token wrote back.

use crate::attributes;
use crate::ctypes::{CK_MECHANISM, CK_ULONG, CK_VERSION};
use crate::layout::layout;
use crate::memory;
use crate::structure::Structure;
use crate::ulong::{narrow, widen};
use core::ffi::{c_void, CStr};
use core::mem::size_of;
use keyway_wire::generated::rv::{CKR_GENERAL_ERROR, CKR_HOST_MEMORY};
use keyway_wire::generated::{message_shapes_of, shapes_of};
use keyway_wire::limits::{MAX_ATTRIBUTES, MAX_BODY, MAX_DEPTH};
use keyway_wire::table::MemberKind;
use keyway_wire::value::{Bytes, Mechanism, Member, Parameter};

/// Reads the parameter of a mechanism.
///
/// # Errors
/// CKR_HOST_MEMORY: something in it is above a limit of the wire.
///
/// # Safety
/// A pointer that is not NULL points to so many bytes, or to the structure that the standard says; nobody writes it while
/// the result lives.
pub unsafe fn read<'a>(mechanism: u64, pointer: *const c_void, length: CK_ULONG) -> Result<Parameter<'a>, u64> {
    // SAFETY: as above.
    unsafe { read_shaped(shapes_of(mechanism), pointer.cast_mut().cast(), length, 0) }
}

/// Reads the parameter of a message function; without a known mechanism it is bytes.
///
/// # Errors
/// As [`read`].
///
/// # Safety
/// As [`read`].
pub unsafe fn read_message<'a>(
    mechanism: Option<u64>,
    pointer: *const c_void,
    length: CK_ULONG,
) -> Result<Parameter<'a>, u64> {
    let shapes = mechanism.map_or(&[][..], message_shapes_of);
    // SAFETY: as above.
    unsafe { read_shaped(shapes, pointer.cast_mut().cast(), length, 0) }
}

unsafe fn mechanism_at<'a>(pointer: *const CK_MECHANISM, level: usize) -> Result<Option<Mechanism<'a>>, u64> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the pointer is not NULL and the caller vouches for the rest.
    let CK_MECHANISM {
        mechanism,
        pParameter,
        ulParameterLen,
    } = unsafe { pointer.read_unaligned() };
    let mechanism = widen(mechanism);
    // SAFETY: as above.
    let parameter = unsafe { read_shaped(shapes_of(mechanism), pParameter.cast(), ulParameterLen, level) }?;
    Ok(Some(Mechanism { mechanism, parameter }))
}

/// Reads a parameter that has one of these shapes if it has the size of one; else it is bytes.
pub(crate) unsafe fn read_shaped<'a>(
    shapes: &[u16],
    pointer: *mut u8,
    length: CK_ULONG,
    level: usize,
) -> Result<Parameter<'a>, u64> {
    if pointer.is_null() {
        return Ok(Parameter::Null(widen(length)));
    }
    if let Some(id) = shape_of_size(shapes, length) {
        // SAFETY: the caller vouches for a structure of this size.
        return Ok(Parameter::Structured(id, unsafe {
            members(&Structure::at(id, pointer, None)?, level)
        }?));
    }
    // SAFETY: the caller vouches for the bytes.
    match unsafe { memory::bytes(pointer, length) }? {
        Bytes::Null(length) => Ok(Parameter::Null(length)),
        Bytes::Data(data) => Ok(Parameter::Flat(data)),
    }
}

/// The one of these shapes whose C structure has this size.
pub(crate) fn shape_of_size(shapes: &[u16], length: CK_ULONG) -> Option<u16> {
    let fits = |id: &&u16| layout(**id).is_some_and(|layout| layout.size as u64 == widen(length));
    shapes.iter().find(fits).copied()
}

unsafe fn members<'a>(structure: &Structure<'_>, level: usize) -> Result<Vec<Member<'a>>, u64> {
    if level >= MAX_DEPTH {
        return Err(CKR_HOST_MEMORY);
    }
    let mut list = Vec::with_capacity(16);
    for (index, spec) in structure.travelling() {
        // SAFETY: the caller vouches for the structure.
        list.push(unsafe { member(structure, index, spec.kind, level + 1) }?);
    }
    Ok(list)
}

unsafe fn member<'a>(s: &Structure<'_>, index: usize, kind: MemberKind, level: usize) -> Result<Member<'a>, u64> {
    let place = s.place(index);
    // SAFETY: the caller vouches for the structure and for what its pointers point to; the shape tells what each member is.
    Ok(unsafe {
        match kind {
            MemberKind::Ulong | MemberKind::Object => Member::Ulong(widen(s.ulong(index))),
            MemberKind::Byte => Member::Byte(place.read()),
            MemberKind::Bytes(length) => Member::Array(core::slice::from_raw_parts(place, usize::from(length))),
            MemberKind::Ulongs(count) => Member::Ulongs(ulongs(place, usize::from(count))),
            MemberKind::Length => return Err(CKR_GENERAL_ERROR),
            MemberKind::String(length) => {
                Member::String(memory::bytes(s.pointer(index), s.ulong(usize::from(length)))?)
            }
            MemberKind::StringSized(size) => {
                let pointer = s.pointer(index);
                let length = if pointer.is_null() { 0 } else { s.sized(size) };
                Member::String(memory::bytes(pointer, length)?)
            }
            MemberKind::Text => Member::String(text(s.pointer(index))?),
            MemberKind::Cell | MemberKind::ObjectCell => Member::Cell(memory::cell(s.pointer(index).cast())),
            MemberKind::Version => {
                let version = s.pointer(index).cast::<CK_VERSION>();
                Member::Version((!version.is_null()).then(|| {
                    let CK_VERSION { major, minor } = version.read();
                    [major, minor]
                }))
            }
            MemberKind::Struct(id) => Member::Struct(members(&Structure::at(id, place, Some(s))?, level)?),
            MemberKind::Pointer(id) => {
                let pointer = s.pointer(index);
                Member::Pointer(if pointer.is_null() {
                    None
                } else {
                    Some(members(&Structure::at(id, pointer, Some(s))?, level)?)
                })
            }
            MemberKind::Array(id, count) => {
                Member::Structs(array(s, id, s.pointer(index), s.ulong(usize::from(count)), level)?)
            }
            MemberKind::Template(count) => Member::Template(attributes::read_template_at(
                s.pointer(index).cast(),
                s.ulong(usize::from(count)),
                level + 1,
            )?),
            MemberKind::Mechanism => Member::Mechanism(mechanism_at(s.pointer(index).cast(), level)?),
            MemberKind::Choice {
                length,
                selector,
                shapes,
            } => {
                let length = s.ulong(usize::from(length));
                Member::Parameter(read_shaped(
                    s.chosen(selector, shapes),
                    s.pointer(index),
                    length,
                    level,
                )?)
            }
        }
    })
}

unsafe fn ulongs(place: *const u8, count: usize) -> Vec<u64> {
    let at = |index: usize| place.cast::<CK_ULONG>().wrapping_add(index);
    // SAFETY: the caller vouches for so many numbers.
    (0..count)
        .map(|index| widen(unsafe { at(index).read_unaligned() }))
        .collect()
}

unsafe fn text<'a>(pointer: *const u8) -> Result<Bytes<'a>, u64> {
    if pointer.is_null() {
        return Ok(Bytes::Null(0));
    }
    // SAFETY: the caller vouches for a text with its terminator.
    let text = unsafe { CStr::from_ptr(pointer.cast()) }.to_bytes();
    if text.len() > MAX_BODY {
        return Err(CKR_HOST_MEMORY);
    }
    Ok(Bytes::Data(text))
}

type Structs<'a> = Result<Vec<Vec<Member<'a>>>, u64>;

unsafe fn array<'a>(
    outer: &Structure<'_>,
    id: u16,
    pointer: *mut u8,
    count: CK_ULONG,
    level: usize,
) -> Result<Structs<'a>, u64> {
    if pointer.is_null() {
        return Ok(Err(widen(count)));
    }
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_ATTRIBUTES)
        .ok_or(CKR_HOST_MEMORY)?;
    let size = layout(id).ok_or(CKR_GENERAL_ERROR)?.size;
    let mut list = Vec::with_capacity(count);
    for index in 0..count {
        let element = Structure::at(id, pointer.wrapping_add(index * size), Some(outer))?;
        // SAFETY: the caller vouches for so many structures.
        list.push(unsafe { members(&element, level) }?);
    }
    Ok(Ok(list))
}

/// Writes what the token changed into the parameter that the request was read from: members marked `out`, and only where
/// they differ, since an application may keep the others (an IV, say) in memory that can't be written.
///
/// # Errors
/// CKR_GENERAL_ERROR: a number does not fit a CK_ULONG of this machine.
///
/// # Safety
/// As [`read`], and what the standard lets a token write can be written to. A structured reply has the shape that was sent.
pub unsafe fn write_back(pointer: *mut c_void, length: CK_ULONG, reply: &Parameter<'_>) -> Result<(), u64> {
    match reply {
        // The shape was chosen by its size; of another size it is not what was sent.
        Parameter::Structured(id, members) if !pointer.is_null() && shape_of_size(&[*id], length).is_some() => {
            // SAFETY: the caller vouches for a structure of this size.
            unsafe { write_members(&Structure::at(*id, pointer.cast(), None)?, members) }
        }
        _ => Ok(()),
    }
}

/// Strings go first: the lengths and cells that tell their room may be written, too.
unsafe fn write_members(s: &Structure<'_>, reply: &[Member<'_>]) -> Result<(), u64> {
    let members = || s.travelling().zip(reply);
    for ((index, spec), member) in members() {
        if let (true, Member::String(bytes)) = (spec.out, member) {
            // SAFETY: the caller vouches for the structure.
            unsafe { write_string(s, index, spec.kind, *bytes) }?;
        }
    }
    for ((index, spec), member) in members() {
        // SAFETY: the caller vouches for the structure.
        unsafe { write_member(s, index, spec.kind, spec.out, member) }?;
    }
    Ok(())
}

unsafe fn write_string(s: &Structure<'_>, index: usize, kind: MemberKind, bytes: Bytes<'_>) -> Result<(), u64> {
    // SAFETY: the caller vouches for the structure, and for as many bytes as it tells.
    unsafe {
        let room = match kind {
            MemberKind::String(length) => s.ulong(usize::from(length)),
            MemberKind::StringSized(size) => s.sized(size),
            _ => return Ok(()),
        };
        let length = match bytes {
            Bytes::Data(data) => {
                if data.len() as u64 <= widen(room) {
                    update(s.pointer(index), data);
                }
                data.len() as u64
            }
            Bytes::Null(length) => length,
        };
        match kind {
            MemberKind::String(index) if s.is_out(index) => update(s.place(usize::from(index)), &number(length)?),
            _ => {}
        }
    }
    Ok(())
}

unsafe fn write_member(
    s: &Structure<'_>,
    index: usize,
    kind: MemberKind,
    out: bool,
    member: &Member<'_>,
) -> Result<(), u64> {
    let place = s.place(index);
    // SAFETY: the caller vouches for the structure and for what its pointers point to; a member's size follows from its kind,
    // and arrays are compared with it.
    unsafe {
        match (kind, member) {
            (MemberKind::Ulong | MemberKind::Object, Member::Ulong(value)) if out => update(place, &number(*value)?),
            (MemberKind::Byte, Member::Byte(value)) if out => update(place, &[*value]),
            (MemberKind::Bytes(length), Member::Array(bytes)) if out && bytes.len() == usize::from(length) => {
                update(place, bytes);
            }
            (MemberKind::Ulongs(count), Member::Ulongs(values)) if out && values.len() == usize::from(count) => {
                for (index, value) in values.iter().enumerate() {
                    update(place.wrapping_add(index * size_of::<CK_ULONG>()), &number(*value)?);
                }
            }
            (MemberKind::Cell | MemberKind::ObjectCell, Member::Cell(Some(value))) if out => {
                update(s.pointer(index), &number(*value)?);
            }
            (MemberKind::Version, Member::Version(Some(version))) if out => update(s.pointer(index), version),
            (MemberKind::Struct(id), Member::Struct(nested)) => {
                write_members(&Structure::at(id, place, Some(s))?, nested)?;
            }
            (MemberKind::Pointer(id), Member::Pointer(Some(nested))) => {
                let pointer = s.pointer(index);
                if !pointer.is_null() {
                    write_members(&Structure::at(id, pointer, Some(s))?, nested)?;
                }
            }
            (MemberKind::Array(id, count), Member::Structs(Ok(list))) => {
                let (pointer, count) = (s.pointer(index), s.ulong(usize::from(count)));
                let size = layout(id).ok_or(CKR_GENERAL_ERROR)?.size;
                if pointer.is_null() || list.len() as u64 != widen(count) {
                    return Ok(());
                }
                for (index, nested) in list.iter().enumerate() {
                    write_members(&Structure::at(id, pointer.wrapping_add(index * size), Some(s))?, nested)?;
                }
            }
            (
                MemberKind::Choice {
                    length,
                    selector,
                    shapes,
                },
                Member::Parameter(reply),
            ) => {
                let chosen = s.chosen(selector, shapes);
                if matches!(reply, Parameter::Structured(id, _) if chosen.contains(id)) {
                    write_back(s.pointer(index).cast(), s.ulong(usize::from(length)), reply)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A number as the bytes of a CK_ULONG.
fn number(value: u64) -> Result<[u8; size_of::<CK_ULONG>()], u64> {
    narrow(value).map(CK_ULONG::to_ne_bytes).ok_or(CKR_GENERAL_ERROR)
}

/// Copies bytes to a place, unless it is NULL or has them already.
unsafe fn update(place: *mut u8, bytes: &[u8]) {
    if place.is_null() || bytes.is_empty() {
        return;
    }
    // SAFETY: the caller vouches for the room.
    unsafe {
        if core::slice::from_raw_parts(place, bytes.len()) != bytes {
            memory::copy(bytes, place);
        }
    }
}

//! Strings, cells, output buffers and arrays (docs/wire.md, section 4).

use crate::cursor::{Reader, Writer, NULL};
use crate::error::WireError;
use crate::limits::{MAX_BODY, MAX_HANDLES};
use crate::value::{Bytes, Numbers, ObjectsRoom, Output, Room};

/// Appends a *string*.
pub(super) fn put_string(w: &mut Writer<'_>, value: Bytes<'_>) -> Result<(), WireError> {
    match value {
        Bytes::Null(length) => {
            w.u32(NULL);
            w.u64(length);
            Ok(())
        }
        Bytes::Data(data) => put_data(w, data),
    }
}

/// Takes a *string*.
pub(super) fn string<'a>(r: &mut Reader<'a>) -> Result<Bytes<'a>, WireError> {
    match r.u32()? {
        NULL => r.u64().map(Bytes::Null),
        length => data(r, length).map(Bytes::Data),
    }
}

/// Appends a u32 length and the bytes.
pub(super) fn put_data(w: &mut Writer<'_>, data: &[u8]) -> Result<(), WireError> {
    w.count(data.len(), MAX_BODY)?;
    w.bytes(data);
    Ok(())
}

/// Takes the bytes behind their u32 length.
pub(super) fn data<'a>(r: &mut Reader<'a>, length: u32) -> Result<&'a [u8], WireError> {
    let length = r.count(length, MAX_BODY, 1)?;
    r.bytes(length)
}

/// Appends a *cell*.
pub(super) fn put_cell(w: &mut Writer<'_>, value: Option<u64>) {
    w.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        w.u64(value);
    }
}

/// Takes a *cell*.
pub(super) fn cell(r: &mut Reader<'_>) -> Result<Option<u64>, WireError> {
    Ok(if r.present()? { Some(r.u64()?) } else { None })
}

/// Appends a *room*.
pub(super) fn put_room(w: &mut Writer<'_>, value: Room) {
    w.bits(value.length.is_some(), value.buffer);
    if let Some(length) = value.length {
        w.u64(length);
    }
}

/// Takes a *room*.
pub(super) fn room(r: &mut Reader<'_>) -> Result<Room, WireError> {
    let (length, buffer) = r.bits()?;
    let length = if length { Some(r.u64()?) } else { None };
    Ok(Room { length, buffer })
}

/// Appends the *room* of `objects_out`.
pub(super) fn put_objects_room(w: &mut Writer<'_>, value: ObjectsRoom) {
    w.bits(value.count, value.buffer);
    w.u64(value.maximum);
}

/// Takes the *room* of `objects_out`.
pub(super) fn objects_room(r: &mut Reader<'_>) -> Result<ObjectsRoom, WireError> {
    let (count, buffer) = r.bits()?;
    let maximum = r.u64()?;
    Ok(ObjectsRoom { maximum, count, buffer })
}

/// Appends a *result*.
pub(super) fn put_output(w: &mut Writer<'_>, value: Output<'_>) -> Result<(), WireError> {
    w.bits(value.length.is_some(), value.data.is_some());
    if let Some(length) = value.length {
        w.u64(length);
    }
    match value.data {
        Some(data) => put_data(w, data),
        None => Ok(()),
    }
}

/// Takes a *result*.
pub(super) fn output<'a>(r: &mut Reader<'a>) -> Result<Output<'a>, WireError> {
    let (has_length, has_data) = r.bits()?;
    let length = if has_length { Some(r.u64()?) } else { None };
    let data = if has_data {
        let length = r.u32()?;
        Some(data(r, length)?)
    } else {
        None
    };
    Ok(Output { length, data })
}

/// Appends *numbers*.
pub(super) fn put_numbers(w: &mut Writer<'_>, value: &Numbers) -> Result<(), WireError> {
    w.bits(value.count.is_some(), value.data.is_some());
    if let Some(count) = value.count {
        w.u64(count);
    }
    match &value.data {
        Some(data) => put_array(w, data),
        None => Ok(()),
    }
}

/// Takes *numbers*.
pub(super) fn numbers(r: &mut Reader<'_>) -> Result<Numbers, WireError> {
    let (has_count, has_data) = r.bits()?;
    let count = if has_count { Some(r.u64()?) } else { None };
    let data = if has_data { Some(array(r)?) } else { None };
    Ok(Numbers { count, data })
}

/// Appends a u32 count and the numbers.
pub(super) fn put_array(w: &mut Writer<'_>, numbers: &[u64]) -> Result<(), WireError> {
    w.count(numbers.len(), MAX_HANDLES)?;
    w.numbers(numbers);
    Ok(())
}

/// Takes the numbers behind their u32 count.
pub(super) fn array(r: &mut Reader<'_>) -> Result<Vec<u64>, WireError> {
    let count = r.u32()?;
    let count = r.count(count, MAX_HANDLES, 8)?;
    r.numbers(count)
}

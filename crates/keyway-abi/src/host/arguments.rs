//! The arguments of one call in C memory, and the reply values that are found there afterwards.

use super::arena::Arena;
use super::information;
use super::parameter::{build_mechanism, build_opaque, build_parameter, read_back, Built};
use super::template::{answer, build_query, build_template, Query};
use crate::ctypes::CK_ULONG;
use crate::memory;
use crate::ulong::{narrow, widen};
use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::null_mut;
use keyway_wire::generated::message_shapes_of;
use keyway_wire::generated::rv::{CKR_GENERAL_ERROR, CKR_HOST_MEMORY, CKR_OK};
use keyway_wire::limits::{MAX_HANDLES, MAX_OUTPUT};
use keyway_wire::table::{Call, Kind};
use keyway_wire::value::{Bytes, Numbers, ObjectsRoom, Output, Parameter, Room, Value};

const ULONG: usize = size_of::<CK_ULONG>();
/// No call has more C arguments behind its target.
const MOST_WORDS: usize = 9;

/// What is known of the message operation to which a call belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// None is active.
    Inactive,
    /// One with this mechanism.
    Active(u64),
}

/// An output argument, whose reply value is read when the call is over.
enum Pending<'v> {
    Parameter(Option<Built<'v>>),
    Query(Query),
    Output {
        buffer: *mut u8,
        capacity: usize,
        length: *mut CK_ULONG,
    },
    Numbers {
        buffer: *mut CK_ULONG,
        capacity: usize,
        count: *mut CK_ULONG,
    },
    Fill {
        buffer: *mut u8,
        length: usize,
    },
    Cell(*mut CK_ULONG),
    Info(Kind, *mut u8),
}

/// The C arguments of one call: words for the arguments behind the target, and the memory that they point to.
pub struct Arguments<'v> {
    arena: Arena,
    words: Vec<*mut c_void>,
    pending: Vec<Pending<'v>>,
    session: *mut CK_ULONG,
}

impl<'v> Arguments<'v> {
    /// Builds the arguments from the request values of a call.
    ///
    /// # Errors
    /// The RV that the caller gets instead: CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD, CKR_HOST_MEMORY, or CKR_GENERAL_ERROR
    /// for a number that does not fit a CK_ULONG.
    pub fn build(call: &Call, values: &'v [Value<'v>], message: Message) -> Result<Self, u64> {
        let mut arguments = Self {
            arena: Arena::default(),
            words: Vec::with_capacity(MOST_WORDS),
            pending: Vec::with_capacity(2),
            session: null_mut(),
        };
        let mut values = values.iter();
        for kind in call.args {
            if kind.in_request() {
                arguments.push(call, *kind, values.next().ok_or(CKR_GENERAL_ERROR)?, message)?;
            } else {
                arguments.pointer(null_mut::<u8>());
            }
        }
        Ok(arguments)
    }

    /// The C arguments behind the target.
    pub(super) fn words(&self) -> &[*mut c_void] {
        &self.words
    }

    fn pointer<T>(&mut self, pointer: *mut T) {
        self.words.push(pointer.cast());
    }

    fn ulong(&mut self, value: CK_ULONG) {
        self.words.push(value as usize as *mut c_void);
    }

    fn number(&mut self, value: u64) -> Result<(), u64> {
        self.ulong(number(value)?);
        Ok(())
    }

    fn push(&mut self, call: &Call, kind: Kind, value: &'v Value<'v>, message: Message) -> Result<(), u64> {
        match value {
            Value::Ulong(value) => self.number(*value)?,
            Value::Bool(value) => self.ulong(CK_ULONG::from(*value)),
            Value::Bytes(Bytes::Data(text)) if kind == Kind::Name => {
                let text = self.arena.text(text)?;
                self.pointer(text);
            }
            Value::Bytes(Bytes::Null(_)) if kind == Kind::Name => self.pointer(null_mut::<u8>()),
            Value::Bytes(Bytes::Data(data)) => {
                // The module reads these bytes where they are; it has no business writing them.
                self.pointer(data.as_ptr().cast_mut());
                self.number(data.len() as u64)?;
            }
            Value::Bytes(Bytes::Null(length)) => {
                self.pointer(null_mut::<u8>());
                self.number(*length)?;
            }
            Value::Label(label) => self.pointer(label.map_or(null_mut(), |label| label.as_ptr().cast_mut())),
            Value::Mechanism(mechanism) => {
                let (pointer, built) = build_mechanism(&mut self.arena, call, mechanism.as_ref())?;
                self.pointer(pointer);
                self.pending.push(Pending::Parameter(built));
            }
            Value::Parameter(parameter) => {
                let built = match message {
                    Message::Active(mechanism) => {
                        build_parameter(&mut self.arena, message_shapes_of(mechanism), parameter)?
                    }
                    Message::Inactive => build_opaque(&mut self.arena, parameter)?,
                };
                self.pointer(built.pointer);
                self.ulong(built.length);
                self.pending.push(Pending::Parameter(Some(built)));
            }
            Value::Template(template) if kind == Kind::TemplateOut => {
                let (pointer, count, query) = build_query(&mut self.arena, template)?;
                self.pointer(pointer);
                self.ulong(count);
                self.pending.push(Pending::Query(query));
            }
            Value::Template(template) => {
                let (pointer, count) = build_template(&mut self.arena, template)?;
                self.pointer(pointer);
                self.ulong(count);
            }
            Value::Room(room) => self.room(kind, *room)?,
            Value::ObjectsRoom(room) => self.objects(*room)?,
            Value::Fill { buffer, length } => {
                // All of it or nothing: the caller has no other way to learn how much was filled.
                let capacity = clamp(*length, usize::MAX);
                if *buffer && capacity > MAX_OUTPUT {
                    return Err(CKR_HOST_MEMORY);
                }
                let memory = if *buffer {
                    self.arena.allocate(capacity)?
                } else {
                    null_mut()
                };
                self.pointer(memory);
                self.number(*length)?;
                self.pending.push(Pending::Fill {
                    buffer: memory,
                    length: capacity,
                });
            }
            Value::Cell(value) => {
                let cell = self.cell(*value)?;
                self.pointer(cell);
                if kind == Kind::SessionOut {
                    self.session = cell;
                } else {
                    self.pending.push(Pending::Cell(cell));
                }
            }
            Value::Pointer(present) => {
                let size = information::size(kind);
                // A pointer that must be NULL and is not points to something.
                let memory = if *present {
                    self.arena.allocate(size)?
                } else {
                    null_mut()
                };
                self.pointer(memory);
                if kind.is_info() {
                    self.pending.push(Pending::Info(kind, memory));
                }
            }
            Value::Output(_) | Value::Numbers(_) | Value::Info(_) => return Err(CKR_GENERAL_ERROR),
        }
        Ok(())
    }

    fn cell(&mut self, value: Option<u64>) -> Result<*mut CK_ULONG, u64> {
        value.map_or(Ok(null_mut()), |value| self.arena.cell(number(value)?))
    }

    fn room(&mut self, kind: Kind, Room { length, buffer }: Room) -> Result<(), u64> {
        let numbers = kind == Kind::UlongsOut;
        let (most, size) = if numbers { (MAX_HANDLES, ULONG) } else { (MAX_OUTPUT, 1) };
        let capacity = clamp(length.unwrap_or(0), most);
        let memory = if buffer {
            self.arena.allocate(capacity * size)?
        } else {
            null_mut()
        };
        // Without a buffer the module sees the length as it came.
        let length = self.cell(length.map(|length| if buffer { capacity as u64 } else { length }))?;
        self.pointer(memory);
        self.pointer(length);
        self.pending.push(if numbers {
            Pending::Numbers {
                buffer: memory.cast(),
                capacity,
                count: length,
            }
        } else {
            Pending::Output {
                buffer: memory,
                capacity,
                length,
            }
        });
        Ok(())
    }

    fn objects(&mut self, ObjectsRoom { maximum, count, buffer }: ObjectsRoom) -> Result<(), u64> {
        let capacity = clamp(maximum, MAX_HANDLES);
        let memory = if buffer {
            self.arena.allocate(capacity * ULONG)?
        } else {
            null_mut()
        };
        let count = self.cell(count.then_some(0))?;
        self.pointer(memory);
        self.number(if buffer { capacity as u64 } else { maximum })?;
        self.pointer(count);
        self.pending.push(Pending::Numbers {
            buffer: memory.cast(),
            capacity,
            count,
        });
        Ok(())
    }

    /// The session handle that C_OpenSession left in its cell.
    #[must_use]
    pub fn session(&self) -> Option<u64> {
        // SAFETY: the cell is NULL or lies in the arena.
        unsafe { memory::cell(self.session) }
    }

    /// The reply values, now that the call is over with this RV.
    #[must_use]
    pub fn reply(&self, rv: u64) -> Vec<Value<'_>> {
        self.pending.iter().map(|pending| reply(pending, rv)).collect()
    }
}

fn number(value: u64) -> Result<CK_ULONG, u64> {
    narrow(value).ok_or(CKR_GENERAL_ERROR)
}

fn clamp(value: u64, most: usize) -> usize {
    usize::try_from(value).map_or(most, |value| value.min(most))
}

fn reply<'a>(pending: &'a Pending<'_>, rv: u64) -> Value<'a> {
    // SAFETY: all pointers are NULL or lie in the arena with the capacity that is kept beside them, and live as long as
    // what borrows from it. What the module reports is compared with the capacity before it is believed.
    unsafe {
        match pending {
            Pending::Parameter(built) => Value::Parameter(built.as_ref().map_or(Parameter::Unchanged, read_back)),
            Pending::Query(query) => Value::Template(answer(query, rv)),
            Pending::Output {
                buffer,
                capacity,
                length,
            } => {
                let length = memory::cell(*length);
                let data = written(rv, buffer.is_null(), length, *capacity);
                Value::Output(Output {
                    length,
                    data: data.map(|count| core::slice::from_raw_parts(*buffer, count)),
                })
            }
            Pending::Numbers {
                buffer,
                capacity,
                count,
            } => {
                let count = memory::cell(*count);
                let data = written(rv, buffer.is_null(), count, *capacity).map(|count| {
                    let numbers = core::slice::from_raw_parts(*buffer, count);
                    numbers.iter().map(|number| widen(*number)).collect()
                });
                Value::Numbers(Numbers { count, data })
            }
            Pending::Fill { buffer, length } if rv == CKR_OK && !buffer.is_null() => {
                Value::Bytes(Bytes::Data(core::slice::from_raw_parts(*buffer, *length)))
            }
            Pending::Fill { length, .. } => Value::Bytes(Bytes::Null(*length as u64)),
            Pending::Cell(cell) => Value::Cell(memory::cell(*cell)),
            Pending::Info(kind, memory) => Value::Info(if memory.is_null() {
                None
            } else {
                information::read(*kind, *memory)
            }),
        }
    }
}

/// How many elements of an output are the module's: none unless it succeeded and they fit.
fn written(rv: u64, null: bool, count: Option<u64>, capacity: usize) -> Option<usize> {
    let count = usize::try_from(count?).ok()?;
    (rv == CKR_OK && !null && count <= capacity).then_some(count)
}

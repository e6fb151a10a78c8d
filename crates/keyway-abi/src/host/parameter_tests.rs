//! Every structure of the tables: built for a module, read like an application's, written by a token, and written back.

use super::arena::Arena;
use super::parameter::{build_parameter, read_back};
use crate::layout::layout;
use crate::parameter::{read_shaped, write_back};
use crate::structure::Structure;
use keyway_wire::generated::rv::{CKR_ARGUMENTS_BAD, CKR_MECHANISM_PARAM_INVALID};
use keyway_wire::generated::SHAPES;
use keyway_wire::shape;
use keyway_wire::table::{MemberKind, MemberSpec, Size};
use keyway_wire::value::{Attribute, AttributeValue, Bytes, Mechanism, Member, Parameter, Template};

const TEXT: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

/// A source of small numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn bytes(&mut self, length: u64) -> &'static [u8] {
        &TEXT[..usize::try_from(length).expect("small")]
    }

    fn rarely(&mut self) -> bool {
        self.below(5) == 0
    }
}

/// Members that fit one another; `outer` are the numbers of the structure around them.
fn members(dice: &mut Dice, id: u16, outer: &[u64]) -> Vec<Member<'static>> {
    let specs = shape(id).expect("a shape").members;
    let mut numbers: Vec<u64> = specs.iter().map(|_| dice.below(24)).collect();
    for (index, spec) in specs.iter().enumerate() {
        if let MemberKind::Choice { selector, shapes, .. } = spec.kind {
            let choice = dice.below(shapes.len() as u64 + 1) as usize;
            numbers[usize::from(selector)] = shapes.get(choice).map_or(999, |(value, _)| *value);
        }
        // A cell that is NULL makes what it measures empty.
        if matches!(spec.kind, MemberKind::Cell) && dice.rarely() {
            numbers[index] = 0;
        }
    }
    let travelling = specs
        .iter()
        .enumerate()
        .filter(|(_, spec)| spec.kind != MemberKind::Length);
    travelling
        .map(|(index, spec)| member(dice, spec, index, &numbers, outer))
        .collect()
}

fn member(dice: &mut Dice, spec: &MemberSpec, index: usize, numbers: &[u64], outer: &[u64]) -> Member<'static> {
    let at = |index: u8| numbers[usize::from(index)];
    match spec.kind {
        MemberKind::Ulong | MemberKind::Object => Member::Ulong(numbers[index]),
        MemberKind::Byte => Member::Byte(numbers[index] as u8),
        MemberKind::Bytes(length) => Member::Array(dice.bytes(u64::from(length))),
        MemberKind::Ulongs(count) => Member::Ulongs((0..count).map(|_| dice.below(1000)).collect()),
        MemberKind::Length => unreachable!("it does not travel"),
        MemberKind::String(_) if dice.rarely() => Member::String(Bytes::Null(dice.below(9))),
        MemberKind::String(_) => {
            let length = dice.below(40);
            Member::String(Bytes::Data(dice.bytes(length)))
        }
        MemberKind::StringSized(_) | MemberKind::Text if dice.rarely() => Member::String(Bytes::Null(0)),
        MemberKind::StringSized(size) => Member::String(Bytes::Data(dice.bytes(match size {
            Size::Member(index) | Size::Cell(index) => at(index),
            Size::Bits(index) => at(index).div_ceil(8),
            Size::Outer(index) => outer[usize::from(index)],
            Size::OuterBits(index) => outer[usize::from(index)].div_ceil(8),
            Size::Constant(length) => u64::from(length),
        }))),
        MemberKind::Text => {
            let length = dice.below(40);
            Member::String(Bytes::Data(dice.bytes(length)))
        }
        MemberKind::Cell if numbers[index] == 0 => Member::Cell(None),
        MemberKind::Cell | MemberKind::ObjectCell => Member::Cell(Some(numbers[index])),
        MemberKind::Version if dice.rarely() => Member::Version(None),
        MemberKind::Version => Member::Version(Some([3, 2])),
        MemberKind::Struct(id) => Member::Struct(members(dice, id, numbers)),
        MemberKind::Pointer(_) if dice.rarely() => Member::Pointer(None),
        MemberKind::Pointer(id) => Member::Pointer(Some(members(dice, id, numbers))),
        MemberKind::Array(..) if dice.rarely() => Member::Structs(Err(dice.below(9))),
        MemberKind::Array(id, _) => {
            let count = dice.below(4);
            Member::Structs(Ok((0..count).map(|_| members(dice, id, numbers)).collect()))
        }
        MemberKind::Template(_) if dice.rarely() => Member::Template(Template::Null(dice.below(9))),
        MemberKind::Template(_) => Member::Template(Template::Attributes(vec![
            Attribute {
                attribute: 0,
                value: AttributeValue::Number(3),
            },
            Attribute {
                attribute: 3,
                value: AttributeValue::Bytes(b"label"),
            },
            Attribute {
                attribute: 0x8000_0001,
                value: AttributeValue::Null(7),
            },
        ])),
        MemberKind::Mechanism if dice.rarely() => Member::Mechanism(None),
        MemberKind::Mechanism => Member::Mechanism(Some(Mechanism {
            mechanism: 0x250,
            parameter: Parameter::Null(0),
        })),
        MemberKind::Choice { selector, shapes, .. } => {
            let chosen = shapes.iter().find(|(value, _)| *value == at(selector));
            Member::Parameter(match chosen {
                Some((_, id)) => Parameter::Structured(*id, members(dice, *id, &[])),
                None if dice.rarely() => Parameter::Null(dice.below(9)),
                None => Parameter::Flat(b"odd"),
            })
        }
    }
}

/// Parameters of every shape.
fn every_shape() -> impl Iterator<Item = (u16, Parameter<'static>)> {
    SHAPES.iter().flat_map(|shape| {
        (0..30).map(move |seed| {
            let mut dice = Dice(seed * 1000 + u64::from(shape.id));
            // What lies in another structure only is measured by it.
            (
                shape.id,
                Parameter::Structured(shape.id, members(&mut dice, shape.id, &[8; 16])),
            )
        })
    })
}

/// Whether a structure stands in a mechanism by itself; parts of others may be measured by them.
fn stands_alone(id: u16) -> bool {
    let inner = |spec: &MemberSpec| matches!(spec.kind, MemberKind::StringSized(Size::Outer(_) | Size::OuterBits(_)));
    !shape(id).expect("a shape").members.iter().any(inner)
}

/// Does what a token may do: changes every member that is marked `out`.
fn scribble(s: &Structure<'_>) {
    for (index, spec) in s.members() {
        let place = s.place(index);
        // SAFETY: the structure was built, so it and what it points to can be written to.
        unsafe {
            match spec.kind {
                MemberKind::Ulong | MemberKind::Object if spec.out => s.set_ulong(index, 4242),
                MemberKind::Byte if spec.out => place.write(99),
                MemberKind::Bytes(length) if spec.out => place.write_bytes(0xee, usize::from(length)),
                MemberKind::String(length) if spec.out && !s.pointer(index).is_null() => {
                    let room = s.ulong(usize::from(length));
                    s.pointer(index).write_bytes(0xee, room as usize);
                    if s.is_out(length) && room > 0 {
                        s.set_ulong(usize::from(length), room - 1);
                    }
                }
                MemberKind::StringSized(size) if spec.out && !s.pointer(index).is_null() => {
                    s.pointer(index).write_bytes(0xee, s.sized(size) as usize);
                }
                MemberKind::ObjectCell if spec.out && !s.pointer(index).is_null() => {
                    s.pointer(index).cast::<libc::c_ulong>().write(31337);
                }
                MemberKind::Version if spec.out && !s.pointer(index).is_null() => s.pointer(index).write_bytes(9, 2),
                MemberKind::Struct(id) => scribble(&Structure::at(id, place, Some(s)).expect("a shape")),
                MemberKind::Pointer(id) if !s.pointer(index).is_null() => {
                    scribble(&Structure::at(id, s.pointer(index), Some(s)).expect("a shape"));
                }
                MemberKind::Array(id, count) if !s.pointer(index).is_null() => {
                    let size = layout(id).expect("a shape").size;
                    for element in 0..s.ulong(usize::from(count)) as usize {
                        let base = s.pointer(index).wrapping_add(element * size);
                        scribble(&Structure::at(id, base, Some(s)).expect("a shape"));
                    }
                }
                _ => {}
            }
        }
    }
    // Cells last: they measure strings.
    for (index, spec) in s.members() {
        if spec.out && spec.kind == MemberKind::Cell {
            // SAFETY: as above.
            unsafe {
                let cell = s.pointer(index).cast::<libc::c_ulong>();
                if !cell.is_null() {
                    cell.write(cell.read().saturating_sub(1));
                }
            }
        }
    }
}

#[test]
fn what_is_built_reads_like_what_was_sent() {
    let mut seen = 0;
    for (id, parameter) in every_shape().filter(|(id, _)| stands_alone(*id)) {
        let mut arena = Arena::default();
        let built = build_parameter(&mut arena, &[id], &parameter).expect("it fits");
        // SAFETY: it was built as this shape.
        let read = unsafe { read_shaped(&[id], built.pointer, built.length, 0) }.expect("within limits");
        assert_eq!(read, parameter, "{}", shape(id).expect("a shape").name);
        seen += 1;
    }
    assert!(seen > 1000, "the tables have structures");
}

#[test]
fn what_the_token_writes_reaches_the_application_and_nothing_else_does() {
    let mut changed = 0;
    for (id, parameter) in every_shape().filter(|(id, _)| stands_alone(*id)) {
        let name = shape(id).expect("a shape").name;
        let (mut ours, mut theirs) = (Arena::default(), Arena::default());
        let application = build_parameter(&mut ours, &[id], &parameter).expect("it fits");
        let module = build_parameter(&mut theirs, &[id], &parameter).expect("it fits");
        scribble(&Structure::at(id, module.pointer, None).expect("a shape"));
        // SAFETY: both were built as this shape.
        let written = unsafe { read_shaped(&[id], module.pointer, module.length, 0) }.expect("within limits");
        let reply = read_back(&module);
        assert_eq!(
            reply == Parameter::Unchanged,
            !shape(id).expect("a shape").out,
            "{name}"
        );
        // SAFETY: as above.
        let read = unsafe {
            write_back(application.pointer.cast(), application.length, &reply).expect("it fits");
            read_shaped(&[id], application.pointer, application.length, 0).expect("within limits")
        };
        let expected = if reply == Parameter::Unchanged {
            &parameter
        } else {
            &written
        };
        // A string keeps its room where only a cell tells how much of it was written.
        assert_eq!(&read, expected, "{name}");
        changed += usize::from(read != parameter);
    }
    assert!(changed > 100, "tokens write into some");
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let sized = SHAPES.iter().find_map(|shape| {
        let index = shape.members.iter().position(|spec| {
            matches!(
                spec.kind,
                MemberKind::StringSized(Size::Member(_) | Size::Bits(_) | Size::Constant(_))
            )
        })?;
        let before = shape.members[..index]
            .iter()
            .filter(|spec| spec.kind != MemberKind::Length)
            .count();
        Some((shape.id, before))
    });
    let (id, index) = sized.expect("the tables have such a structure");
    let mut list = members(&mut Dice(1), id, &[]);
    for length in [0, 63] {
        list[index] = Member::String(Bytes::Data(&TEXT[..length]));
        let parameter = Parameter::Structured(id, list.clone());
        let refused = build_parameter(&mut Arena::default(), &[id], &parameter);
        assert_eq!(refused.err(), Some(CKR_ARGUMENTS_BAD));
    }
}

#[test]
fn bytes_never_become_pointers() {
    for shape in SHAPES
        .iter()
        .filter(|shape| layout(shape.id).expect("a layout").pointers)
    {
        let size = layout(shape.id).expect("a layout").size;
        let bytes = vec![0x41; size + 8];
        let mut arena = Arena::default();
        let exact = Parameter::Flat(&bytes[..size]);
        let refused = build_parameter(&mut arena, &[shape.id], &exact);
        assert_eq!(refused.err(), Some(CKR_MECHANISM_PARAM_INVALID), "{}", shape.name);
        let more = Parameter::Flat(&bytes);
        let built = build_parameter(&mut arena, &[shape.id], &more).expect("its length is the module's to judge");
        // SAFETY: so many bytes were built.
        let seen = unsafe { core::slice::from_raw_parts(built.pointer, built.length as usize) };
        assert_eq!(seen, vec![0; size + 8], "{}", shape.name);
        let less = Parameter::Flat(&bytes[..size - 1]);
        let built = build_parameter(&mut arena, &[shape.id], &less).expect("as above");
        // SAFETY: as above.
        let seen = unsafe { core::slice::from_raw_parts(built.pointer, built.length as usize) };
        assert_eq!(seen, &bytes[..size - 1], "{}", shape.name);
    }
}

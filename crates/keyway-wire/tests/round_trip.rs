//! Every call with arbitrary values: what is encoded decodes to the same, and what decodes encodes to the same bytes.

use keyway_wire::generated::{CALLS, SHAPES};
use keyway_wire::limits::MAX_DEPTH;
use keyway_wire::table::{Call, Kind, MemberKind};
use keyway_wire::value::{
    Attribute, AttributeValue, Bytes, Info, Mechanism, MechanismInfo, Member, ModuleInfo, Numbers, ObjectsRoom, Output,
    Parameter, Room, SessionInfo, SlotInfo, Template, TokenInfo, Value,
};
use keyway_wire::{
    decode_reply, decode_request, decode_request_prefix, encode_reply, encode_request, header_object, shape, WireError,
};
use proptest::prelude::*;

/// Which values may stand where.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Request,
    Query,
    Reply,
    Answer,
}

/// Makes values from random bytes, and borrows from them; once they are used up everything is small and empty.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        head
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn number(&mut self) -> u64 {
        let number = self
            .take(8)
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        [number, number & 0xff, u64::MAX, u64::from(u32::MAX)][self.below(4)]
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.take(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.below(40);
        self.take(length)
    }

    fn string(&mut self) -> Bytes<'a> {
        if self.flag() {
            Bytes::Data(self.bytes())
        } else {
            Bytes::Null(self.number())
        }
    }

    fn numbers(&mut self) -> Vec<u64> {
        (0..self.below(5)).map(|_| self.number()).collect()
    }

    fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn parameter(&mut self, form: Form, depth: usize) -> Parameter<'a> {
        match self.below(4) {
            0 => Parameter::Null(self.number()),
            2 if depth < MAX_DEPTH => {
                let id = SHAPES[(self.below(256) << 8 | self.below(256)) % SHAPES.len()].id;
                match self.members(id, form, depth + 1) {
                    Some(members) => Parameter::Structured(id, members),
                    None => Parameter::Null(0),
                }
            }
            3 if form == Form::Reply => Parameter::Unchanged,
            _ => Parameter::Flat(self.bytes()),
        }
    }

    /// None where structures in place would lie too deep.
    fn members(&mut self, id: u16, form: Form, depth: usize) -> Option<Vec<Member<'a>>> {
        let specs = shape(id).expect("a shape").members.iter();
        if depth > MAX_DEPTH {
            return None;
        }
        specs
            .filter(|spec| spec.kind != MemberKind::Length)
            .map(|spec| self.member(spec.kind, form, depth))
            .collect()
    }

    fn member(&mut self, kind: MemberKind, form: Form, depth: usize) -> Option<Member<'a>> {
        Some(match kind {
            MemberKind::Ulong | MemberKind::Object => Member::Ulong(self.number()),
            MemberKind::Byte => Member::Byte(self.byte()),
            MemberKind::Bytes(length) => {
                let bytes = self.take(usize::from(length));
                Member::Array(if bytes.len() == usize::from(length) {
                    bytes
                } else {
                    &[0; 64][..usize::from(length)]
                })
            }
            MemberKind::Ulongs(count) => Member::Ulongs((0..count).map(|_| self.number()).collect()),
            MemberKind::Length => return None,
            MemberKind::String(_) | MemberKind::StringSized(_) | MemberKind::Text => Member::String(self.string()),
            MemberKind::Cell | MemberKind::ObjectCell => Member::Cell(self.some(Self::number)),
            MemberKind::Version => Member::Version(self.some(Self::array)),
            MemberKind::Struct(id) => Member::Struct(self.members(id, form, depth + 1)?),
            MemberKind::Pointer(id) => Member::Pointer(self.some(|s| s.members(id, form, depth + 1)).flatten()),
            MemberKind::Array(id, _) => Member::Structs(match self.below(3) {
                0 => Err(self.number()),
                count => Ok((0..count).map_while(|_| self.members(id, form, depth + 1)).collect()),
            }),
            MemberKind::Template(_) => Member::Template(self.template(Form::Request, depth)),
            MemberKind::Mechanism => Member::Mechanism(self.some(|s| s.mechanism(form, depth))),
            MemberKind::Choice { .. } => Member::Parameter(self.parameter(form, depth)),
        })
    }

    fn mechanism(&mut self, form: Form, depth: usize) -> Mechanism<'a> {
        Mechanism {
            mechanism: self.number(),
            parameter: self.parameter(form, depth),
        }
    }

    fn template(&mut self, form: Form, depth: usize) -> Template<'a> {
        if depth == MAX_DEPTH || self.flag() {
            return Template::Null(if form == Form::Answer { 0 } else { self.number() });
        }
        Template::Attributes(self.attributes(form, depth + 1))
    }

    fn attributes(&mut self, form: Form, depth: usize) -> Vec<Attribute<'a>> {
        let count = self.below(5);
        (0..count)
            .map(|_| Attribute {
                attribute: self.number(),
                value: self.attribute(form, depth),
            })
            .collect()
    }

    fn attribute(&mut self, form: Form, depth: usize) -> AttributeValue<'a> {
        match (form, self.below(8)) {
            (_, 0) if depth < MAX_DEPTH => AttributeValue::Template(self.attributes(form, depth + 1)),
            (_, 1) => AttributeValue::Null(self.number()),
            (Form::Query, 2) => AttributeValue::RoomNumbers(self.number()),
            (Form::Query, _) => AttributeValue::RoomBytes(self.number()),
            (Form::Answer, 2) => AttributeValue::LengthNumbers(self.number()),
            (Form::Answer, 3) => AttributeValue::LengthAttributes(self.number()),
            (Form::Answer, 4) => AttributeValue::Unavailable,
            (_, 5) => AttributeValue::Number(self.number()),
            (_, 6) => AttributeValue::Numbers(self.numbers()),
            _ => AttributeValue::Bytes(self.bytes()),
        }
    }

    fn info(&mut self, kind: Kind) -> Info {
        match kind {
            Kind::InfoOut => Info::Module(ModuleInfo {
                cryptoki_version: self.array(),
                manufacturer_id: self.array(),
                flags: self.number(),
                library_description: self.array(),
                library_version: self.array(),
            }),
            Kind::SlotInfoOut => Info::Slot(SlotInfo {
                slot_description: self.array(),
                manufacturer_id: self.array(),
                flags: self.number(),
                hardware_version: self.array(),
                firmware_version: self.array(),
            }),
            Kind::TokenInfoOut => Info::Token(Box::new(TokenInfo {
                label: self.array(),
                manufacturer_id: self.array(),
                model: self.array(),
                serial_number: self.array(),
                flags: self.number(),
                max_session_count: self.number(),
                session_count: self.number(),
                max_rw_session_count: self.number(),
                rw_session_count: self.number(),
                max_pin_len: self.number(),
                min_pin_len: self.number(),
                total_public_memory: self.number(),
                free_public_memory: self.number(),
                total_private_memory: self.number(),
                free_private_memory: self.number(),
                hardware_version: self.array(),
                firmware_version: self.array(),
                utc_time: self.array(),
            })),
            Kind::SessionInfoOut => Info::Session(SessionInfo {
                slot: self.number(),
                state: self.number(),
                flags: self.number(),
                device_error: self.number(),
            }),
            _ => Info::Mechanism(MechanismInfo {
                min_key_size: self.number(),
                max_key_size: self.number(),
                flags: self.number(),
            }),
        }
    }

    fn request_value(&mut self, kind: Kind) -> Value<'a> {
        match kind {
            Kind::Ulong | Kind::Object => Value::Ulong(self.number()),
            Kind::Bool => Value::Bool(self.byte()),
            Kind::Bytes | Kind::Pin | Kind::Name => Value::Bytes(self.string()),
            Kind::Label => Value::Label(self.some(|s| s.take(32).try_into().ok()).flatten()),
            Kind::Mechanism => Value::Mechanism(self.some(|s| s.mechanism(Form::Request, 0))),
            Kind::Parameter => Value::Parameter(self.parameter(Form::Request, 0)),
            Kind::Template => Value::Template(self.template(Form::Request, 0)),
            Kind::TemplateOut => Value::Template(self.template(Form::Query, 0)),
            Kind::Buffer | Kind::UlongsOut => Value::Room(Room {
                length: self.some(Self::number),
                buffer: self.flag(),
            }),
            Kind::ObjectsOut => Value::ObjectsRoom(ObjectsRoom {
                maximum: self.number(),
                count: self.flag(),
                buffer: self.flag(),
            }),
            Kind::Fill => Value::Fill {
                buffer: self.flag(),
                length: self.number(),
            },
            Kind::UlongOut | Kind::ObjectOut | Kind::SessionOut => Value::Cell(self.some(Self::number)),
            _ => Value::Pointer(self.flag()),
        }
    }

    fn reply_value(&mut self, kind: Kind) -> Value<'a> {
        match kind {
            Kind::Mechanism | Kind::Parameter => Value::Parameter(self.parameter(Form::Reply, 0)),
            Kind::TemplateOut => Value::Template(self.template(Form::Answer, 0)),
            Kind::Buffer => Value::Output(Output {
                length: self.some(Self::number),
                data: self.some(Self::bytes),
            }),
            Kind::UlongsOut | Kind::ObjectsOut => Value::Numbers(Numbers {
                count: self.some(Self::number),
                data: self.some(Self::numbers),
            }),
            Kind::Fill | Kind::BytesOut => Value::Bytes(self.string()),
            Kind::UlongOut | Kind::ObjectOut => Value::Cell(self.some(Self::number)),
            kind => Value::Info(self.some(|s| s.info(kind))),
        }
    }
}

fn any_call() -> impl Strategy<Value = &'static Call> {
    (0..CALLS.len()).prop_map(|index| &CALLS[index])
}

fn any_source() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_comes_back(call in any_call(), source in any_source()) {
        let mut source = Source(&source);
        let kinds = call.args.iter().filter(|kind| kind.in_request());
        let values: Vec<_> = kinds.map(|kind| source.request_value(*kind)).collect();
        let object = header_object(call, &values);
        let mut body = Vec::new();
        encode_request(call, &values, &mut body).expect("values of the row");
        prop_assert_eq!(&decode_request(call, object, &body).expect("well-formed"), &values);
        // Behind it may stand another one, but nothing else.
        body.push(7);
        prop_assert_eq!(decode_request(call, object, &body), Err(WireError::Trailing));
        let (prefix, rest) = decode_request_prefix(call, object, &body).expect("well-formed");
        prop_assert_eq!((&prefix, rest), (&values, &[7][..]));
        // Whatever is missing, it is noticed.
        for length in 0..body.len() - 1 {
            prop_assert!(decode_request(call, object, &body[..length]).is_err());
        }
    }

    #[test]
    fn a_reply_comes_back(call in any_call(), source in any_source()) {
        let mut source = Source(&source);
        let kinds = call.args.iter().filter(|kind| kind.in_reply());
        let values: Vec<_> = kinds.map(|kind| source.reply_value(*kind)).collect();
        let mut body = Vec::new();
        encode_reply(call, &values, &mut body).expect("values of the row");
        prop_assert_eq!(&decode_reply(call, &body).expect("well-formed"), &values);
        for length in 1..body.len() {
            prop_assert!(decode_reply(call, &body[..length]).is_err());
        }
    }

    #[test]
    fn what_decodes_at_all_encodes_to_the_same(call in any_call(), body in any_source()) {
        if let Ok(values) = decode_request(call, 5, &body) {
            let mut again = Vec::new();
            encode_request(call, &values, &mut again).expect("values of the row");
            prop_assert_eq!(&again, &body);
        }
        if let Ok(values) = decode_reply(call, &body) {
            let mut again = Vec::new();
            encode_reply(call, &values, &mut again).expect("values of the row");
            prop_assert_eq!(&again, &body);
        }
    }
}

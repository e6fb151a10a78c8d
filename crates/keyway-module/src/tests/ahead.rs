//! What travels when an application lists objects, and when it is asked again.

use super::server::{invoke, open_session, Act, Place, Seen};
use crate::context::Context;
use keyway_wire::ahead::{decode_read_ahead, following, Answer, Findings, Found, OBJECTS_CHANGED, READ_AHEAD};
use keyway_wire::generated::attribute::{CKA_CLASS, CKA_LABEL};
use keyway_wire::generated::call::*;
use keyway_wire::generated::rv::*;
use keyway_wire::value::{Attribute, AttributeValue, Bytes, Numbers, ObjectsRoom, Template, Value};
use keyway_wire::{call, decode_request, encode_reply, flag, Header};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::Arc;

const OBJECTS: u64 = 9;

/// A token with objects 1 to 9, each with a label; it gives no more than five handles at a time.
#[derive(Default)]
struct Token {
    found: AtomicU64,
    /// Counts what was renamed: labels end with it.
    name: AtomicU64,
    /// It knows no extension calls.
    old: AtomicBool,
    /// It sends news before the next reply to READ_AHEAD.
    news: AtomicBool,
}

impl Token {
    fn act(&self, seen: &Seen) -> Act {
        let values = match seen.header.call {
            C_FINDOBJECTSINIT => {
                self.found.store(0, Ordering::SeqCst);
                Vec::new()
            }
            C_FINDOBJECTS => vec![Value::Numbers(self.find(seen))],
            C_GETATTRIBUTEVALUE => {
                let (rv, answer) = self.answer(seen.header.object, &query(&seen.body));
                return Act::Reply(rv, vec![Value::Template(answer)]);
            }
            C_SETATTRIBUTEVALUE => {
                self.name.fetch_add(1, Ordering::SeqCst);
                Vec::new()
            }
            READ_AHEAD => return Act::Raw(self.read_ahead(seen)),
            C_SEEDRANDOM => return Act::Raw([seen.header.reply(CKR_OK, 0).encode(), news()].concat()),
            _ => Vec::new(),
        };
        Act::Reply(CKR_OK, values)
    }

    fn find(&self, seen: &Seen) -> Numbers {
        // The maximum is the last that the body holds, fused or not.
        let maximum = u64::from_be_bytes(seen.body[seen.body.len() - 8..].try_into().expect("a number"));
        let first = self.found.load(Ordering::SeqCst) + 1;
        let data: Vec<u64> = (first..=OBJECTS).take(maximum.min(5) as usize).collect();
        self.found.fetch_add(data.len() as u64, Ordering::SeqCst);
        Numbers {
            count: Some(data.len() as u64),
            data: Some(data),
        }
    }

    fn label(&self, object: u64) -> &'static [u8] {
        format!("object {object} name {}", self.name.load(Ordering::SeqCst))
            .into_bytes()
            .leak()
    }

    fn answer(&self, object: u64, query: &Template<'_>) -> (u64, Template<'static>) {
        let Template::Attributes(entries) = query else {
            panic!("NULL")
        };
        let label = self.label(object);
        let answer = |entry: &Attribute<'_>| Attribute {
            attribute: entry.attribute,
            value: match (entry.attribute, &entry.value) {
                (CKA_LABEL, AttributeValue::RoomBytes(length)) if *length >= label.len() as u64 => {
                    AttributeValue::Bytes(label)
                }
                (CKA_LABEL, AttributeValue::Null(_)) => AttributeValue::Null(label.len() as u64),
                (CKA_CLASS, AttributeValue::RoomNumbers(1)) => AttributeValue::Number(object),
                _ => AttributeValue::Unavailable,
            },
        };
        let entries: Vec<_> = entries.iter().map(answer).collect();
        let failed = entries.iter().any(|entry| entry.value == AttributeValue::Unavailable);
        let rv = if failed { CKR_ATTRIBUTE_TYPE_INVALID } else { CKR_OK };
        (rv, Template::Attributes(entries))
    }

    fn read_ahead(&self, seen: &Seen) -> Vec<u8> {
        if self.old.load(Ordering::SeqCst) {
            return seen.header.reply(CKR_FUNCTION_NOT_SUPPORTED, 0).encode().to_vec();
        }
        let request = decode_read_ahead(&seen.body).expect("a request");
        let mut body = Vec::new();
        let mut findings = Findings::new(&mut body, request.queries.len());
        for object in &request.objects {
            for asked in &request.queries {
                let (rv, answer) = self.answer(*object, &query(asked.body));
                let next = following(&answer).filter(|_| asked.follow && rv == CKR_OK);
                let followed = next.map(|next| self.answer(*object, &next));
                let (answer, followed) = (told(answer), followed.map(|(rv, answer)| (rv, told(answer))));
                let found = Found {
                    answer: Answer { rv, body: &answer },
                    followed: followed.as_ref().map(|(rv, body)| Answer { rv: *rv, body }),
                };
                findings.push(found).expect("within the limits");
            }
            findings.end_object();
        }
        let header = Header {
            length: body.len() as u32,
            ..seen.header.reply(CKR_OK, 0)
        };
        let mut bytes = Vec::new();
        if self.news.swap(false, Ordering::SeqCst) {
            bytes.extend(news());
        }
        bytes.extend(header.encode());
        bytes.extend(body);
        bytes
    }
}

fn news() -> [u8; 32] {
    let header = Header {
        call: OBJECTS_CHANGED,
        flags: flag::REPLY | flag::POSTED,
        ..Header::default()
    };
    header.encode()
}

fn query(body: &[u8]) -> Template<'_> {
    let row = call(C_GETATTRIBUTEVALUE).expect("a call");
    match decode_request(row, 0, body).expect("a query").pop() {
        Some(Value::Template(template)) => template,
        other => panic!("not a query: {other:?}"),
    }
}

fn told(answer: Template<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let row = call(C_GETATTRIBUTEVALUE).expect("a call");
    encode_reply(row, &[Value::Template(answer)], &mut body).expect("a reply");
    body
}

struct Bench {
    context: Arc<Context>,
    token: Arc<Token>,
    told: Receiver<Seen>,
    session: u64,
    _place: Place,
}

impl Bench {
    fn new() -> Self {
        let place = Place::new();
        let token = Arc::new(Token::default());
        let acting = Arc::clone(&token);
        let told = place.serve(move |seen| acting.act(seen));
        let context = place.context();
        assert_eq!(context.open(), CKR_OK);
        let session = open_session(&context, 1).expect("a session");
        let bench = Self {
            context,
            token,
            told,
            session,
            _place: place,
        };
        bench.travelled();
        bench
    }

    fn begin(&self) {
        let everything = [Value::Template(Template::Null(0))];
        assert_eq!(
            invoke(&self.context, C_FINDOBJECTSINIT, self.session, &everything),
            CKR_OK
        );
    }

    fn find(&self, maximum: u64) -> Result<Vec<u64>, u64> {
        let room = Value::ObjectsRoom(ObjectsRoom {
            maximum,
            count: true,
            buffer: true,
        });
        let mut found = Vec::new();
        let row = call(C_FINDOBJECTS).expect("a call");
        let rv = self.context.invoke(row, self.session, &[room], &mut |_, values| {
            if let [Value::Numbers(Numbers { data: Some(data), .. })] = values {
                found.clone_from(data);
            }
            Ok(())
        })?;
        if rv == CKR_OK {
            Ok(found)
        } else {
            Err(rv)
        }
    }

    fn ask(&self, object: u64, attribute: u64, value: AttributeValue<'_>) -> (u64, Option<AttributeValue<'static>>) {
        let query = Template::Attributes(vec![Attribute { attribute, value }]);
        let mut told = None;
        let row = call(C_GETATTRIBUTEVALUE).expect("a call");
        let args = [Value::Ulong(object), Value::Template(query)];
        let rv = self.context.invoke(row, self.session, &args, &mut |_, values| {
            if let [Value::Template(Template::Attributes(entries))] = values {
                told = entries.first().map(|entry| match &entry.value {
                    AttributeValue::Bytes(bytes) => AttributeValue::Bytes(bytes.to_vec().leak()),
                    AttributeValue::Null(length) => AttributeValue::Null(*length),
                    AttributeValue::Number(number) => AttributeValue::Number(*number),
                    AttributeValue::Unavailable => AttributeValue::Unavailable,
                    other => panic!("unexpected: {other:?}"),
                });
            }
            Ok(())
        });
        (rv.unwrap_or_else(|rv| rv), told)
    }

    /// Asks for class and label as a listing does, and compares with what the token would say.
    fn show(&self, object: u64) {
        let (rv, class) = self.ask(object, CKA_CLASS, AttributeValue::RoomNumbers(1));
        assert_eq!((rv, class), (CKR_OK, Some(AttributeValue::Number(object))));
        let label = self.token.label(object);
        let (rv, length) = self.ask(object, CKA_LABEL, AttributeValue::Null(0));
        assert_eq!((rv, length), (CKR_OK, Some(AttributeValue::Null(label.len() as u64))));
        let (rv, value) = self.ask(object, CKA_LABEL, AttributeValue::RoomBytes(label.len() as u64));
        assert_eq!((rv, value), (CKR_OK, Some(AttributeValue::Bytes(label))));
    }

    /// Finds the first objects one by one and shows them.
    fn list(&self, count: u64) {
        self.begin();
        for object in 1..=count {
            assert_eq!(self.find(1), Ok(vec![object]));
            self.show(object);
        }
    }

    /// The calls that arrived since it was last asked.
    fn travelled(&self) -> Vec<u16> {
        assert_eq!(invoke(&self.context, C_GETFUNCTIONSTATUS, 999, &[]), CKR_OK);
        let calls = self.told.try_iter().map(|seen| seen.header.call);
        calls.filter(|call| *call != C_GETFUNCTIONSTATUS).collect()
    }
}

#[test]
fn a_listing_takes_few_round_trips() {
    let bench = Bench::new();
    bench.list(OBJECTS);
    assert_eq!(bench.find(1), Ok(vec![]));
    let first = [
        C_FINDOBJECTSINIT,
        C_FINDOBJECTS,
        C_GETATTRIBUTEVALUE,
        C_GETATTRIBUTEVALUE,
        C_GETATTRIBUTEVALUE,
    ];
    // The token gives five handles at a time, and says itself that there are no more. What is read ahead ends with them.
    let more = [
        C_FINDOBJECTS,
        READ_AHEAD,
        READ_AHEAD,
        C_FINDOBJECTS,
        READ_AHEAD,
        C_FINDOBJECTS,
    ];
    assert_eq!(bench.travelled(), [&first[..], &more[..]].concat());
}

#[test]
fn a_search_for_one_object_costs_what_it_did() {
    let bench = Bench::new();
    bench.list(1);
    assert_eq!(invoke(&bench.context, C_FINDOBJECTSFINAL, bench.session, &[]), CKR_OK);
    bench.show(1);
    let reads = [C_GETATTRIBUTEVALUE; 3];
    let expected = [
        &[C_FINDOBJECTSINIT, C_FINDOBJECTS][..],
        &reads,
        &[C_FINDOBJECTSFINAL],
        &reads,
    ]
    .concat();
    assert_eq!(bench.travelled(), expected);
}

#[test]
fn another_query_goes_to_the_token() {
    let bench = Bench::new();
    bench.list(3);
    bench.travelled();
    let object = 4;
    assert_eq!(bench.find(1), Ok(vec![object]));
    let (rv, told) = bench.ask(object, CKA_LABEL, AttributeValue::RoomBytes(3));
    assert_eq!(
        (rv, told),
        (CKR_ATTRIBUTE_TYPE_INVALID, Some(AttributeValue::Unavailable))
    );
    bench.show(object);
    assert_eq!(bench.travelled(), [READ_AHEAD]);
}

#[test]
fn what_this_application_changes_is_asked_anew() {
    let renamed = [Value::Ulong(5), Value::Template(Template::Null(0))];
    let login = [Value::Ulong(1), Value::Bytes(Bytes::Data(b"1234"))];
    let destroyed = [Value::Ulong(77)];
    for (number, args) in [
        (C_SETATTRIBUTEVALUE, &renamed[..]),
        (C_DESTROYOBJECT, &destroyed),
        (C_LOGIN, &login),
        (C_LOGOUT, &[]),
    ] {
        let bench = Bench::new();
        let other = open_session(&bench.context, 1).expect("a session");
        bench.list(2);
        bench.travelled();
        assert_eq!(invoke(&bench.context, number, other, args), CKR_OK);
        assert_eq!(bench.find(1), Ok(vec![3]));
        bench.show(3);
        // Whether the search goes on is for the token to say, too.
        assert_eq!(bench.travelled(), [number, C_FINDOBJECTS, READ_AHEAD]);
    }
}

#[test]
fn a_search_that_a_logout_has_ended_is_over() {
    let place = Place::new();
    let token = Arc::new(Token::default());
    let ended = AtomicBool::new(false);
    let told = place.serve(move |seen| match seen.header.call {
        C_LOGOUT => {
            ended.store(true, Ordering::SeqCst);
            Act::Reply(CKR_OK, Vec::new())
        }
        C_FINDOBJECTS if ended.load(Ordering::SeqCst) => Act::Reply(CKR_OPERATION_NOT_INITIALIZED, Vec::new()),
        _ => token.act(seen),
    });
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    let session = open_session(&context, 1).expect("a session");
    let bench = Bench {
        context,
        token: Arc::default(),
        told,
        session,
        _place: place,
    };
    let other = open_session(&bench.context, 1).expect("a session");
    bench.begin();
    assert_eq!((bench.find(1), bench.find(1)), (Ok(vec![1]), Ok(vec![2])));
    assert_eq!(invoke(&bench.context, C_LOGOUT, other, &[]), CKR_OK);
    assert_eq!(bench.find(1), Err(CKR_OPERATION_NOT_INITIALIZED));
}

#[test]
fn what_others_change_is_asked_anew() {
    let bench = Bench::new();
    bench.list(2);
    bench.travelled();
    bench.token.name.fetch_add(1, Ordering::SeqCst);
    let seed = [Value::Bytes(Bytes::Data(b"seed"))];
    assert_eq!(invoke(&bench.context, C_SEEDRANDOM, bench.session, &seed), CKR_OK);
    assert_eq!(bench.find(1), Ok(vec![3]));
    bench.show(3);
    assert_eq!(bench.travelled(), [C_SEEDRANDOM, READ_AHEAD]);
}

#[test]
fn news_that_overtakes_the_answers_makes_them_old() {
    let bench = Bench::new();
    bench.list(1);
    bench.travelled();
    bench.token.news.store(true, Ordering::SeqCst);
    assert_eq!(bench.find(1), Ok(vec![2]));
    let (rv, _) = bench.ask(2, CKA_CLASS, AttributeValue::RoomNumbers(1));
    assert_eq!(rv, CKR_OK, "the answer to this query is as good as any");
    assert_eq!(bench.travelled(), [C_FINDOBJECTS, READ_AHEAD]);
    bench.token.name.fetch_add(1, Ordering::SeqCst);
    let length = bench.token.label(2).len() as u64;
    let told = bench.ask(2, CKA_LABEL, AttributeValue::Null(0));
    assert_eq!(told, (CKR_OK, Some(AttributeValue::Null(length))));
    assert_eq!(bench.travelled(), [READ_AHEAD], "nothing was kept");
}

#[test]
fn a_daemon_that_can_not_read_ahead_is_asked_one_by_one() {
    let bench = Bench::new();
    bench.token.old.store(true, Ordering::SeqCst);
    bench.list(OBJECTS);
    let calls = bench.travelled();
    assert_eq!(calls.iter().filter(|call| **call == READ_AHEAD).count(), 1);
    assert_eq!(
        calls.iter().filter(|call| **call == C_GETATTRIBUTEVALUE).count(),
        3 * OBJECTS as usize
    );
    bench.list(2);
    assert!(!bench.travelled().contains(&READ_AHEAD), "it is not asked again");
}

/// Asks for the class of an object that no search of the session has found.
fn class(bench: &Bench) -> Vec<u16> {
    let told = bench.ask(3, CKA_CLASS, AttributeValue::RoomNumbers(1));
    assert_eq!(told, (CKR_OK, Some(AttributeValue::Number(3))));
    bench.travelled()
}

#[test]
fn what_an_object_is_for_life_is_remembered_until_objects_change() {
    let bench = Bench::new();
    let seed = [Value::Bytes(Bytes::Data(b"seed"))];
    let destroyed = [Value::Ulong(77)];
    for (number, args) in [
        (C_GETSESSIONINFO, &[][..]),
        (C_DESTROYOBJECT, &destroyed),
        (C_LOGOUT, &[]),
        // News come along.
        (C_SEEDRANDOM, &seed),
    ] {
        if number != C_GETSESSIONINFO {
            assert_eq!(invoke(&bench.context, number, bench.session, args), CKR_OK);
            bench.travelled();
        }
        assert_eq!(class(&bench), [C_GETATTRIBUTEVALUE]);
        // From now on the daemon tells of changes.
        assert_eq!(class(&bench), [READ_AHEAD]);
        assert_eq!(class(&bench), []);
        assert_eq!(class(&bench), []);
    }
    bench.context.forget_fleeting();
    assert_eq!(class(&bench), [C_GETATTRIBUTEVALUE]);
}

#[test]
fn what_can_change_is_not_remembered_nor_what_changes_meanwhile_or_nobody_would_tell_of() {
    let bench = Bench::new();
    let label = |bench: &Bench| {
        let (rv, _) = bench.ask(3, CKA_LABEL, AttributeValue::Null(0));
        assert_eq!(rv, CKR_OK);
        bench.travelled()
    };
    for _ in 0..3 {
        assert_eq!(label(&bench), [C_GETATTRIBUTEVALUE]);
    }
    assert_eq!(class(&bench), [C_GETATTRIBUTEVALUE]);
    bench.token.news.store(true, Ordering::SeqCst);
    assert_eq!(class(&bench), [READ_AHEAD]);
    assert_eq!(class(&bench), [C_GETATTRIBUTEVALUE]);
    let bench = Bench::new();
    bench.token.old.store(true, Ordering::SeqCst);
    assert_eq!(class(&bench), [C_GETATTRIBUTEVALUE]);
    assert_eq!(class(&bench), [READ_AHEAD, C_GETATTRIBUTEVALUE]);
    for _ in 0..2 {
        assert_eq!(class(&bench), [C_GETATTRIBUTEVALUE]);
    }
}

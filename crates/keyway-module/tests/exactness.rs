//! What the module learns is never seen: the same random calls on SoftHSM and through `libkeyway.so` have the same outcomes.
//!
//! Few keys, mechanisms and sessions, so that init calls are repeated all the time, in all states that a session can be in.

mod support;

use keyway_abi::host::Library;
use keyway_wire::generated::attribute::*;
use keyway_wire::generated::call::*;
use keyway_wire::generated::initialize_flag::CKF_OS_LOCKING_OK;
use keyway_wire::generated::mechanism::*;
use keyway_wire::generated::rv::{
    CKR_OBJECT_HANDLE_INVALID, CKR_OK, CKR_OPERATION_ACTIVE, CKR_SESSION_HANDLE_INVALID, CKR_USER_NOT_LOGGED_IN,
};
use keyway_wire::value::{AttributeValue, Bytes, Mechanism, ObjectsRoom, Parameter, Template, Value};
use std::path::Path;
use support::*;

const SEEDS: u64 = 24;
const STEPS: usize = 400;
const SESSIONS: usize = 3;
const KEYS: usize = 5;
const YES: AttributeValue<'static> = AttributeValue::Bytes(&[1]);
const NO: AttributeValue<'static> = AttributeValue::Bytes(&[0]);

/// A small generator of numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

/// A module and what was opened and made in it: handles by place, 0 where there is none.
struct Player {
    module: Library,
    slot: u64,
    sessions: [u64; SESSIONS],
    keys: [u64; KEYS],
}

impl Player {
    fn start(module: Library) -> Self {
        assert_eq!(module.initialize(CKF_OS_LOCKING_OK, None), CKR_OK);
        let slot = slot(&module);
        let sessions = [(); SESSIONS].map(|()| open_session(&module, slot).expect("a session"));
        let mut player = Self {
            module,
            slot,
            sessions,
            keys: [0; KEYS],
        };
        assert_eq!(login(&player.module, sessions[0]), CKR_OK);
        for key in 0..KEYS {
            assert_eq!(player.create(0, key), CKR_OK);
        }
        player
    }

    /// Makes the key of this place: for MACs, for MACs but not signing, for MACs and private, for MACs on the token, for AES.
    fn create(&mut self, session: usize, key: usize) -> u64 {
        let aes = key == 4;
        let value = [key as u8; 32];
        let attributes = template(&[
            (CKA_CLASS, AttributeValue::Number(4)),
            (CKA_KEY_TYPE, AttributeValue::Number(if aes { 0x1f } else { 0x10 })),
            (CKA_VALUE, AttributeValue::Bytes(&value)),
            (CKA_LABEL, AttributeValue::Bytes(if aes { b"aes" } else { b"mac" })),
            (CKA_TOKEN, if key == 3 { YES } else { NO }),
            (CKA_PRIVATE, if key >= 2 { YES } else { NO }),
            (CKA_SIGN, if key == 1 || aes { NO } else { YES }),
            (CKA_VERIFY, if aes { NO } else { YES }),
            (CKA_ENCRYPT, if aes { YES } else { NO }),
            (CKA_DECRYPT, if aes { YES } else { NO }),
        ]);
        let made = handle(
            &self.module,
            C_CREATEOBJECT,
            self.sessions[session],
            &[attributes, Value::Cell(Some(0))],
        );
        made.map_or_else(
            |rv| rv,
            |handle| {
                self.keys[key] = handle;
                CKR_OK
            },
        )
    }

    /// Makes a call of a session and tells all that came of it; the slot has another number in the other module.
    fn call(&self, number: u16, session: usize, args: &[Value<'_>]) -> String {
        let text = with(&self.module, number, self.sessions[session], args, |rv, reply| {
            format!("{rv:x} {reply:?}")
        });
        text.replace(&self.slot.to_string(), "SLOT")
    }

    fn key(&self, key: usize) -> Value<'static> {
        Value::Ulong(self.keys.get(key).copied().unwrap_or(9_999))
    }
}

/// A step, the same for both modules.
#[derive(Debug, Clone, Copy)]
enum Step {
    Init(u16, u64, usize),
    DigestInit(u64),
    /// A call with data and an output of so many bytes, or NULL for the length.
    Data(u16, Input, Option<u64>),
    Update(u16, Input),
    Final(u16, Option<u64>),
    Verify(Input, usize),
    FindInit(Option<&'static [u8]>),
    Find(u64),
    Plain(u16),
    Login,
    Destroy(usize),
    Create(usize),
    Relabel(usize),
    Label(usize),
    Close,
    Open,
    CloseAll,
}

#[derive(Debug, Clone, Copy)]
enum Input {
    Null,
    Bytes(usize),
}

static DATA: [u8; 64] = [0x5a; 64];

impl Input {
    fn value(self) -> Value<'static> {
        match self {
            Self::Null => Value::Bytes(Bytes::Null(0)),
            Self::Bytes(length) => bytes(&DATA[..length]),
        }
    }
}

fn output(length: Option<u64>) -> Value<'static> {
    length.map_or_else(query, room)
}

fn with_parameter(number: u64) -> Value<'static> {
    let parameter = if number == CKM_AES_CBC {
        Parameter::Flat(&DATA[..16])
    } else {
        Parameter::Null(0)
    };
    Value::Mechanism(Some(Mechanism {
        mechanism: number,
        parameter,
    }))
}

/// The step that an application would take after an init call that succeeded.
fn sensible(dice: &mut Dice, after: Step) -> Option<Step> {
    let length = dice.one(&[None, Some(64), Some(64)]);
    let input = Input::Bytes(32);
    Some(match after {
        Step::Init(C_VERIFYINIT, ..) => Step::Verify(input, 32),
        // Each init call comes right before the call that it is for.
        Step::Init(number, ..) => Step::Data(number + 1, input, length),
        Step::DigestInit(_) => Step::Data(C_DIGEST, input, length),
        Step::Data(number, input, None) => Step::Data(number, input, Some(64)),
        Step::Update(C_SIGNUPDATE, _) => Step::Final(C_SIGNFINAL, length),
        Step::FindInit(_) => Step::Find(10),
        Step::Find(_) => Step::Plain(C_FINDOBJECTSFINAL),
        _ => return None,
    })
}

/// An init call as applications make them over and over.
fn usual(dice: &mut Dice) -> Step {
    dice.one(&[
        Step::Init(C_SIGNINIT, CKM_SHA256_HMAC, 0),
        Step::Init(C_SIGNINIT, CKM_SHA256_HMAC, 3),
        Step::Init(C_VERIFYINIT, CKM_SHA256_HMAC, 0),
        Step::Init(C_ENCRYPTINIT, CKM_AES_CBC, 4),
        Step::Init(C_DECRYPTINIT, CKM_AES_ECB, 4),
        Step::DigestInit(CKM_SHA256),
        Step::FindInit(Some(b"mac")),
    ])
}

/// What mends a failure, so that most calls find something to do.
fn remedy(dice: &mut Dice, rv: u64) -> Option<Step> {
    Some(match rv {
        CKR_OPERATION_ACTIVE => dice.one(&[
            Step::Data(C_SIGN, Input::Bytes(32), Some(64)),
            Step::Data(C_ENCRYPT, Input::Bytes(32), Some(64)),
            Step::Data(C_DIGEST, Input::Bytes(32), Some(64)),
            Step::Verify(Input::Bytes(32), 32),
            Step::Plain(C_FINDOBJECTSFINAL),
            Step::Close,
        ]),
        CKR_SESSION_HANDLE_INVALID => Step::Open,
        CKR_OBJECT_HANDLE_INVALID => Step::Create(dice.roll(KEYS)),
        CKR_USER_NOT_LOGGED_IN => Step::Login,
        _ => return None,
    })
}

fn step(dice: &mut Dice) -> Step {
    let length = dice.one(&[None, Some(5), Some(64), Some(64), Some(64)]);
    let input = dice.one(&[
        Input::Bytes(32),
        Input::Bytes(32),
        Input::Bytes(32),
        Input::Bytes(7),
        Input::Null,
    ]);
    let mac = dice.one(&[CKM_SHA256_HMAC, CKM_SHA256_HMAC, CKM_SHA512_HMAC, CKM_AES_ECB]);
    let cipher = dice.one(&[CKM_AES_ECB, CKM_AES_CBC]);
    let key = dice.one(&[0, 0, 0, 1, 2, 3, 4, KEYS]);
    // What makes the module forget must not be all that happens.
    let rare = dice.roll(3) == 0;
    match dice.roll(100) {
        0..=24 => Step::Init(C_SIGNINIT, mac, key),
        25..=29 => Step::Data(C_SIGN, input, length),
        30..=36 => Step::Init(C_VERIFYINIT, mac, key),
        37..=38 => Step::Verify(input, dice.one(&[32, 64, 3])),
        39..=45 => Step::Init(C_ENCRYPTINIT, cipher, 4),
        46..=47 => Step::Data(C_ENCRYPT, input, length),
        48..=50 => Step::Init(C_DECRYPTINIT, cipher, 4),
        51 => Step::Data(C_DECRYPT, input, length),
        52..=60 => Step::DigestInit(dice.one(&[CKM_SHA256, CKM_SHA_1])),
        61..=62 => Step::Data(C_DIGEST, input, length),
        63..=64 => Step::Update(dice.one(&[C_SIGNUPDATE, C_DIGESTUPDATE, C_VERIFYUPDATE]), input),
        65..=66 => Step::Final(dice.one(&[C_SIGNFINAL, C_DIGESTFINAL]), length),
        67..=74 => Step::FindInit(dice.one(&[None, Some(b"mac"), Some(b"aes")])),
        75 => Step::Find(dice.one(&[0, 1, 10])),
        76..=77 => Step::Plain(C_FINDOBJECTSFINAL),
        78..=79 => Step::Plain(C_GETSESSIONINFO),
        80 if rare => Step::Plain(C_LOGOUT),
        81 if rare => Step::Login,
        84 if rare => Step::Destroy(dice.roll(KEYS)),
        85 if rare => Step::Create(dice.roll(KEYS)),
        86 if rare => Step::Relabel(dice.roll(KEYS)),
        87..=90 => Step::Init(C_SIGNINIT, CKM_SHA256_HMAC, 0),
        91..=92 => Step::Label(key),
        93 if rare => Step::Close,
        94 if rare && dice.roll(6) == 0 => Step::CloseAll,
        94..=97 => Step::Init(C_ENCRYPTINIT, CKM_AES_CBC, 4),
        _ => Step::Open,
    }
}

impl Player {
    fn play(&mut self, session: usize, step: Step) -> String {
        let label = |text| template(&[(CKA_LABEL, AttributeValue::Bytes(text))]);
        match step {
            Step::Init(number, mechanism, key) => {
                self.call(number, session, &[with_parameter(mechanism), self.key(key)])
            }
            Step::DigestInit(mechanism) => self.call(C_DIGESTINIT, session, &[with_parameter(mechanism)]),
            Step::Data(number, input, length) => self.call(number, session, &[input.value(), output(length)]),
            Step::Update(number, input) => self.call(number, session, &[input.value()]),
            Step::Final(number, length) => self.call(number, session, &[output(length)]),
            Step::Verify(input, length) => self.call(C_VERIFY, session, &[input.value(), bytes(&DATA[..length])]),
            Step::FindInit(Some(text)) => self.call(C_FINDOBJECTSINIT, session, &[label(text)]),
            Step::FindInit(None) => self.call(C_FINDOBJECTSINIT, session, &[Value::Template(Template::Null(0))]),
            Step::Find(maximum) => {
                let room = ObjectsRoom {
                    maximum,
                    count: true,
                    buffer: true,
                };
                self.call(C_FINDOBJECTS, session, &[Value::ObjectsRoom(room)])
            }
            Step::Plain(C_GETSESSIONINFO) => self.call(C_GETSESSIONINFO, session, &[Value::Pointer(true)]),
            Step::Plain(number) => self.call(number, session, &[]),
            Step::Login => format!("{:x}", login(&self.module, self.sessions[session])),
            Step::Destroy(key) => self.call(C_DESTROYOBJECT, session, &[self.key(key)]),
            Step::Create(key) => format!("{:x}", self.create(session, key)),
            Step::Relabel(key) => self.call(C_SETATTRIBUTEVALUE, session, &[self.key(key), label(b"mac")]),
            Step::Label(key) => {
                let wanted = template(&[(CKA_LABEL, AttributeValue::RoomBytes(8))]);
                self.call(C_GETATTRIBUTEVALUE, session, &[self.key(key), wanted])
            }
            Step::Close => self.call(C_CLOSESESSION, session, &[]),
            Step::Open => {
                // Only one that is closed, so that none are left behind.
                let info = [Value::Pointer(true)];
                if invoke(&self.module, C_GETSESSIONINFO, self.sessions[session], &info) != CKR_OK {
                    self.sessions[session] = open_session(&self.module, self.slot).expect("a session");
                }
                String::new()
            }
            Step::CloseAll => format!("{:x}", invoke(&self.module, C_CLOSEALLSESSIONS, self.slot, &[])),
        }
    }
}

#[test]
fn the_same_calls_have_the_same_outcomes() {
    let application = Application::new();
    let direct = Token::new();
    std::env::set_var("SOFTHSM2_CONF", direct.configuration());
    let softhsm = Library::load(Path::new(SOFTHSM)).expect("SoftHSM");
    let mut players = [
        Player::start(softhsm),
        Player::start(Library::load(&libkeyway()).expect("the module")),
    ];
    let (mut succeeded, mut steps) = (0, 0);
    for seed in 1..=SEEDS {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut before = Vec::new();
        let mut last = [None; SESSIONS];
        for _ in 0..STEPS {
            let session = dice.roll(SESSIONS);
            let next = match last[session] {
                Some((CKR_OK, last)) => sensible(&mut dice, last),
                Some((rv, _)) => remedy(&mut dice, rv),
                None => None,
            };
            let next = next.filter(|_| dice.roll(10) > 0);
            // Every other seed is for applications that know what they do.
            let calm = seed % 2 == 0 && dice.roll(8) > 0;
            let step = next.unwrap_or_else(|| if calm { usual(&mut dice) } else { step(&mut dice) });
            let [ours, theirs] = [1, 0].map(|player| players[player].play(session, step));
            before.push(format!("{session} {step:?}: {theirs}"));
            let recent = &before[before.len().saturating_sub(25)..];
            assert_eq!(ours, theirs, "seed {seed}, after\n{}", recent.join("\n"));
            let rv = theirs.split(' ').next().and_then(|rv| u64::from_str_radix(rv, 16).ok());
            last[session] = rv.map(|rv| (rv, step));
            succeeded += usize::from(rv == Some(CKR_OK));
            steps += 1;
        }
    }
    for player in players {
        assert_eq!(player.module.finalize(), CKR_OK);
    }
    assert!(
        succeeded * 2 > steps,
        "only {succeeded} of {steps} calls had anything to say"
    );
    // Else there was nothing to compare.
    let waits = round_trips(&application.token);
    assert!(
        waits + 500 < steps,
        "the module learned little: {waits} round trips for {steps} calls"
    );
}

//! An application that makes calls through a context, at one or several gateways in miniature.

use super::gateway::{sum, Gateway, Token, KEY, PIN};
use super::server::{invoke, open_session, Place};
use crate::address::Address;
use crate::config::{Config, Renewal};
use crate::context::Context;
use crate::link::{Greeting, Link};
use keyway_wire::call;
use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::CKM_ECDSA;
use keyway_wire::generated::rv::CKR_OK;
use keyway_wire::table::Step;
use keyway_wire::value::{Bytes, Info, Mechanism, Numbers, ObjectsRoom, Output, Parameter, Room, Template, Value};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// So long nothing in a test lasts.
const LONG: Duration = Duration::from_secs(3_600);

pub fn patient() -> Renewal {
    Renewal {
        patience: LONG,
        silence: LONG,
        ..Renewal::default()
    }
}

/// A gateway and an application at it.
pub fn bench(renewal: Renewal) -> (Place, Gateway, Application) {
    let (place, token) = (Place::new(), Token::new());
    let gateway = Gateway::start(&token, &place);
    let application = Application::at(&token, &[&place], renewal);
    (place, gateway, application)
}

/// An application at one or several gateways.
pub struct Application {
    pub token: Token,
    pub context: Arc<Context>,
}

impl Application {
    pub fn at(token: &Token, places: &[&Place], renewal: Renewal) -> Self {
        let config = Config {
            addresses: places.iter().map(|place| Address::Unix(place.socket())).collect(),
            renewal,
            ..Config::unix(PathBuf::new())
        };
        let link = Link::new(config, Greeting::default(), Arc::default());
        let context = Arc::new(Context::new(link, None));
        assert_eq!(context.open(), CKR_OK);
        Self {
            token: token.clone(),
            context,
        }
    }

    pub fn session(&self) -> u64 {
        open_session(&self.context, 1).expect("a session")
    }

    pub fn call(&self, number: u16, session: u64, args: &[Value<'_>]) -> u64 {
        invoke(&self.context, number, session, args)
    }

    pub fn login(&self, session: u64) -> u64 {
        self.call(C_LOGIN, session, &[Value::Ulong(1), Value::Bytes(Bytes::Data(PIN))])
    }

    /// Makes a call that has a result, and room for it. Returns the RV and the result.
    pub fn result(&self, number: u16, session: u64, data: &[u8]) -> (u64, Vec<u8>) {
        let mut result = Vec::new();
        let row = call(number).expect("a call");
        let mut args = vec![Value::Bytes(Bytes::Data(data)), room(1_000)];
        if row.step == Step::End {
            args.remove(0);
        }
        let rv = self.context.invoke(row, session, &args, &mut |_, values| {
            if let [Value::Output(Output { data: Some(data), .. })] = values {
                result = data.to_vec();
            }
            Ok(())
        });
        (rv.unwrap_or_else(|rv| rv), result)
    }

    pub fn begin(&self, number: u16, session: u64, mechanism: u64) -> u64 {
        let mut args = vec![
            Value::Mechanism(Some(Mechanism {
                mechanism,
                parameter: Parameter::Null(0),
            })),
            Value::Ulong(KEY),
        ];
        if number == C_DIGESTINIT {
            args.pop();
        }
        self.call(number, session, &args)
    }

    /// Begins a search, or fetches so many of its objects.
    pub fn find(&self, session: u64, maximum: u64) -> Result<Vec<u64>, u64> {
        let mut found = Vec::new();
        let room = ObjectsRoom {
            maximum,
            count: true,
            buffer: true,
        };
        let row = call(C_FINDOBJECTS).expect("a call");
        let rv = self
            .context
            .invoke(row, session, &[Value::ObjectsRoom(room)], &mut |_, values| {
                if let [Value::Numbers(Numbers { data: Some(data), .. })] = values {
                    found = data.clone();
                }
                Ok(())
            });
        match rv {
            Ok(CKR_OK) => Ok(found),
            Ok(rv) | Err(rv) => Err(rv),
        }
    }

    pub fn logged_in(&self) -> u64 {
        let session = self.session();
        assert_eq!(self.login(session), CKR_OK);
        session
    }

    /// Signs, and looks whether the signature is right. Returns the RV.
    pub fn sign(&self, session: u64) -> u64 {
        match self.begin(C_SIGNINIT, session, CKM_ECDSA) {
            CKR_OK => {}
            rv => return rv,
        }
        let (rv, signature) = self.result(C_SIGN, session, b"data");
        assert!(rv != CKR_OK || signature == sum(b"data"));
        rv
    }

    pub fn create(&self, session: u64) -> u64 {
        let args = [Value::Template(Template::Null(0)), Value::Cell(Some(0))];
        self.call(C_CREATEOBJECT, session, &args)
    }

    pub fn created(&self) -> usize {
        self.token.with(|world| world.created)
    }

    /// What the token says of who is logged in.
    pub fn is_logged_in(&self, session: u64) -> bool {
        let before = self.token.count(C_GETSESSIONINFO).1;
        let mut state = 0;
        let row = call(C_GETSESSIONINFO).expect("a call");
        let rv = self
            .context
            .invoke(row, session, &[Value::Pointer(true)], &mut |_, values| {
                if let [Value::Info(Some(Info::Session(info)))] = values {
                    state = info.state;
                }
                Ok(())
            });
        assert_eq!(rv, Ok(CKR_OK));
        assert_eq!(self.token.count(C_GETSESSIONINFO).1, before + 1);
        state == 1
    }
}

pub fn room(length: u64) -> Value<'static> {
    Value::Room(Room {
        length: Some(length),
        buffer: true,
    })
}

pub fn data(bytes: &[u8]) -> Value<'_> {
    Value::Bytes(Bytes::Data(bytes))
}

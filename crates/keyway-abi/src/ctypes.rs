//! The C types of PKCS #11 3.2 as the standard's headers declare them, with the natural alignment that they have everywhere but on Windows.
//!
//! Names are those of the headers; the function lists are in the generated half of this vocabulary and exported from here.
#![allow(non_camel_case_types, non_snake_case, missing_docs)]

use core::ffi::{c_ulong, c_void};

pub use crate::generated_lists::*;

pub type CK_ULONG = c_ulong;
pub type CK_BYTE = u8;
pub type CK_BBOOL = u8;
pub type CK_RV = CK_ULONG;

/// CK_NOTIFY; the gateway never has one called.
pub type CK_NOTIFY = Option<unsafe extern "C" fn(CK_ULONG, CK_ULONG, *mut c_void) -> CK_RV>;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CK_VERSION {
    pub major: CK_BYTE,
    pub minor: CK_BYTE,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CK_INFO {
    pub cryptokiVersion: CK_VERSION,
    pub manufacturerID: [u8; 32],
    pub flags: CK_ULONG,
    pub libraryDescription: [u8; 32],
    pub libraryVersion: CK_VERSION,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CK_SLOT_INFO {
    pub slotDescription: [u8; 64],
    pub manufacturerID: [u8; 32],
    pub flags: CK_ULONG,
    pub hardwareVersion: CK_VERSION,
    pub firmwareVersion: CK_VERSION,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CK_TOKEN_INFO {
    pub label: [u8; 32],
    pub manufacturerID: [u8; 32],
    pub model: [u8; 16],
    pub serialNumber: [u8; 16],
    pub flags: CK_ULONG,
    pub ulMaxSessionCount: CK_ULONG,
    pub ulSessionCount: CK_ULONG,
    pub ulMaxRwSessionCount: CK_ULONG,
    pub ulRwSessionCount: CK_ULONG,
    pub ulMaxPinLen: CK_ULONG,
    pub ulMinPinLen: CK_ULONG,
    pub ulTotalPublicMemory: CK_ULONG,
    pub ulFreePublicMemory: CK_ULONG,
    pub ulTotalPrivateMemory: CK_ULONG,
    pub ulFreePrivateMemory: CK_ULONG,
    pub hardwareVersion: CK_VERSION,
    pub firmwareVersion: CK_VERSION,
    pub utcTime: [u8; 16],
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CK_SESSION_INFO {
    pub slotID: CK_ULONG,
    pub state: CK_ULONG,
    pub flags: CK_ULONG,
    pub ulDeviceError: CK_ULONG,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CK_MECHANISM_INFO {
    pub ulMinKeySize: CK_ULONG,
    pub ulMaxKeySize: CK_ULONG,
    pub flags: CK_ULONG,
}

// No Debug for what may point to secrets.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CK_ATTRIBUTE {
    pub type_: CK_ULONG,
    pub pValue: *mut c_void,
    pub ulValueLen: CK_ULONG,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CK_MECHANISM {
    pub mechanism: CK_ULONG,
    pub pParameter: *mut c_void,
    pub ulParameterLen: CK_ULONG,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CK_ASYNC_DATA {
    pub ulVersion: CK_ULONG,
    pub pValue: *mut u8,
    pub ulValue: CK_ULONG,
    pub hObject: CK_ULONG,
    pub hAdditionalObject: CK_ULONG,
}

/// The callbacks are only looked at for being there, never called.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CK_C_INITIALIZE_ARGS {
    pub CreateMutex: Option<unsafe extern "C" fn(*mut *mut c_void) -> CK_RV>,
    pub DestroyMutex: Option<unsafe extern "C" fn(*mut c_void) -> CK_RV>,
    pub LockMutex: Option<unsafe extern "C" fn(*mut c_void) -> CK_RV>,
    pub UnlockMutex: Option<unsafe extern "C" fn(*mut c_void) -> CK_RV>,
    pub flags: CK_ULONG,
    pub pReserved: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CK_INTERFACE {
    pub pInterfaceName: *const u8,
    pub pFunctionList: *const c_void,
    pub flags: CK_ULONG,
}

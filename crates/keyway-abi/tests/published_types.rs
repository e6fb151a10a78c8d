//! The structures of the functions themselves lie in memory as in the published headers.
use keyway_abi::ctypes as ours;
use std::mem::{offset_of, size_of};

/// Asserts that both crates agree about the size of a structure and about where its members are.
macro_rules! same {
    ($name:ident { $($field:ident),+ $(,)? }) => {
        assert_eq!(size_of::<ours::$name>(), size_of::<cryptoki_sys::$name>(), stringify!($name));
        $(assert_eq!(
            offset_of!(ours::$name, $field),
            offset_of!(cryptoki_sys::$name, $field),
            concat!(stringify!($name), ".", stringify!($field))
        );)+
    };
}

#[test]
fn types_are_the_published_ones() {
    same!(CK_VERSION { major, minor });
    same!(CK_INFO {
        cryptokiVersion,
        manufacturerID,
        flags,
        libraryDescription,
        libraryVersion
    });
    same!(CK_SLOT_INFO {
        slotDescription,
        manufacturerID,
        flags,
        hardwareVersion,
        firmwareVersion
    });
    same!(CK_TOKEN_INFO {
        label,
        manufacturerID,
        model,
        serialNumber,
        flags,
        ulMaxSessionCount,
        ulSessionCount,
        ulMaxRwSessionCount,
        ulRwSessionCount,
        ulMaxPinLen,
        ulMinPinLen,
        ulTotalPublicMemory,
        ulFreePublicMemory,
        ulTotalPrivateMemory,
        ulFreePrivateMemory,
        hardwareVersion,
        firmwareVersion,
        utcTime,
    });
    same!(CK_SESSION_INFO {
        slotID,
        state,
        flags,
        ulDeviceError
    });
    same!(CK_MECHANISM_INFO {
        ulMinKeySize,
        ulMaxKeySize,
        flags
    });
    same!(CK_ATTRIBUTE {
        type_,
        pValue,
        ulValueLen
    });
    same!(CK_MECHANISM {
        mechanism,
        pParameter,
        ulParameterLen
    });
    same!(CK_ASYNC_DATA {
        ulVersion,
        pValue,
        ulValue,
        hObject,
        hAdditionalObject
    });
    same!(CK_C_INITIALIZE_ARGS {
        CreateMutex,
        DestroyMutex,
        LockMutex,
        UnlockMutex,
        flags,
        pReserved
    });
    same!(CK_INTERFACE {
        pInterfaceName,
        pFunctionList,
        flags
    });
}

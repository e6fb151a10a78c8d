"""The calls through a vendor module's function list, as Rust."""

from __future__ import annotations

from collections.abc import Iterator

from emit_exports import BY_HAND, HEADER, c_types
from model import Call, Spec

PATH = "crates/keyway-abi/src/generated_dispatch.rs"
# Answered before they come here, or never sent.
ELSEWHERE = {*BY_HAND, "C_AsyncComplete", "C_AsyncGetID", "C_AsyncJoin"}


def emit(spec: Spec) -> dict[str, str]:
    """The Rust file of keyway-abi that passes words on as the C arguments of each function."""
    return {PATH: "\n".join(_lines(spec)) + "\n"}


def _lines(spec: Spec) -> Iterator[str]:
    yield HEADER
    yield "//! The calls through a vendor module's function list."
    yield "use crate::ctypes::{CK_BBOOL, CK_FUNCTION_LIST_3_2, CK_RV, CK_ULONG};"
    yield "use core::ffi::c_void;"
    yield "/// Calls the function with this number; None if the list does not have it."
    yield "///"
    yield "/// # Safety"
    yield "/// The functions are those of a Cryptoki module. `w` holds the words of the C arguments behind the target, and they"
    yield "/// point to what the standard says."
    yield "pub(crate) unsafe fn call("
    yield "list: &CK_FUNCTION_LIST_3_2, number: u16, target: CK_ULONG, w: &[*mut c_void]) -> Option<CK_RV> {"
    yield "// SAFETY: each function gets the arguments of its own row; the caller vouches for what they point to."
    yield "Some(unsafe { match number {"
    for call in spec.calls:
        if call.name not in ELSEWHERE:
            yield f"{call.number} => list.{call.name}?({', '.join(_arguments(call))}),"
    yield "_ => return None,"
    yield "} })"
    yield "}"


def _arguments(call: Call) -> Iterator[str]:
    types = iter(c_types(call))
    if call.target != "none":
        next(types)
        yield "target"
    for index, type_ in enumerate(types):
        match type_:
            case "CK_ULONG":
                yield f"w[{index}] as CK_ULONG"
            case "CK_BBOOL":
                yield f"w[{index}] as CK_BBOOL"
            case "CK_NOTIFY":
                yield "None"
            case _:
                yield f"w[{index}].cast()"

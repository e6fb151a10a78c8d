"""Hypothesis strategies for objects of tokens: few values, so that twins and near misses are common."""

from typing import Final

from hypothesis import strategies as st

from keyway.cryptoki.constants import (
    CKK_AES,
    CKK_EC,
    CKK_RSA,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)
from keyway.gateway.pool.identity import Facts

facts: Final = st.builds(
    Facts,
    object_class=st.sampled_from(
        [CKO_DATA, CKO_CERTIFICATE, CKO_PUBLIC_KEY, CKO_PRIVATE_KEY, CKO_SECRET_KEY, 0x8000_0001, None]
    ),
    key_type=st.sampled_from([CKK_RSA, CKK_EC, CKK_AES, None]),
    id=st.sampled_from([b"", b"a", b"ab"]),
    label=st.sampled_from([b"", b"b", b"ab"]),
    is_token=st.sampled_from([True, True, True, False]),
    is_private=st.booleans(),
    public=st.sampled_from([b"", b"\1" * 32, b"\2" * 32]),
)
handles: Final = st.integers(1, 2**64 - 1)
listings: Final = st.dictionaries(handles, facts, max_size=12)

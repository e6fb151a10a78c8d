"""Numbers and structures agree with headers that others published: those of p11-kit (2.40) and of NSS (3.0)."""

import re
import subprocess
from pathlib import Path

import layout
import model
import pytest

HEADERS = {
    "p11-kit": ("p11-kit-1", ["p11-kit/pkcs11.h"]),
    "nss": ("nss", ["pkcs11.h", "pkcs11n.h"]),
}
# Where a header disagrees with the standard: p11-kit has numbers of its own for five errors; NSS used the names of trust attributes
# for vendor-defined ones before the standard had any.
DEVIATIONS: dict[str, dict[str, int]] = {
    "p11-kit": {
        "CKR_EXCEEDED_MAX_ITERATIONS": 0x1C0,
        "CKR_FIPS_SELF_TEST_FAILED": 0x1C1,
        "CKR_LIBRARY_LOAD_FAILED": 0x1C2,
        "CKR_PIN_TOO_WEAK": 0x1C3,
        "CKR_PUBLIC_KEY_INVALID": 0x1C4,
    },
    "nss": {
        "CKA_TRUST_SERVER_AUTH": 0xCE536358,
        "CKA_TRUST_CLIENT_AUTH": 0xCE536359,
        "CKA_TRUST_CODE_SIGNING": 0xCE53635A,
        "CKA_TRUST_EMAIL_PROTECTION": 0xCE53635B,
        "CKA_TRUST_TIME_STAMPING": 0xCE53635F,
    },
}
# p11-kit's structures, with its own names of their members, in the order of the declaration.
P11_KIT_STRUCTURES = {
    "CK_RSA_PKCS_PSS_PARAMS": ("struct ck_rsa_pkcs_pss_params", "hash_alg mgf s_len"),
    "CK_RSA_PKCS_OAEP_PARAMS": ("struct ck_rsa_pkcs_oaep_params", "hash_alg mgf source source_data source_data_len"),
    "CK_AES_CTR_PARAMS": ("struct ck_aes_ctr_params", "counter_bits cb"),
    "CK_GCM_PARAMS": ("struct ck_gcm_params", "iv_ptr iv_len iv_bits aad_ptr aad_len tag_bits"),
    "CK_ECDH1_DERIVE_PARAMS": (
        "struct ck_ecdh1_derive_params",
        "kdf shared_data_len shared_data public_data_len public_data",
    ),
    "CK_KEY_DERIVATION_STRING_DATA": ("struct ck_key_derivation_string_data", "string_data string_data_len"),
    "CK_DES_CBC_ENCRYPT_DATA_PARAMS": ("struct ck_des_cbc_encrypt_data_params", "iv data_params length"),
    "CK_AES_CBC_ENCRYPT_DATA_PARAMS": ("struct ck_aes_cbc_encrypt_data_params", "iv data_params length"),
    "CK_OTP_PARAM": ("ck_otp_param", "type value value_len"),
    "CK_OTP_PARAMS": ("ck_otp_params", "params count"),
}


def flags(package: str) -> list[str]:
    """The compiler flags of a pkg-config package."""
    return subprocess.run(
        ["pkg-config", "--cflags", package], capture_output=True, text=True, check=True
    ).stdout.split()


def facts(folder: Path, header: str, lines: list[str], define: str = "") -> dict[str, int]:
    """What a C program prints that includes `header` and runs `lines`, which print "name value" with macro FACT."""
    package, includes = HEADERS[header]
    source = [f"#define {define}"] if define else []
    source += [f"#include <{include}>" for include in includes]
    source += ["#include <stddef.h>", "#include <stdio.h>"]
    source += ['#define FACT(name, value) printf("%s %lu\\n", name, (unsigned long)(value));']
    source += ["int main(void) {", *lines, "return 0;", "}"]
    program = folder / "facts"
    program.with_suffix(".c").write_text("\n".join(source))
    command = ["gcc", "-w", *flags(package), "-o", str(program), f"{program}.c"]
    subprocess.run(command, check=True)
    printed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    pairs = (line.split() for line in printed.splitlines())
    return {name: int(value) for name, value in pairs}


def header_text(header: str) -> str:
    """The preprocessed header."""
    package, includes = HEADERS[header]
    source = "".join(f"#include <{include}>\n" for include in includes)
    command = ["gcc", "-E", "-P", *flags(package), "-x", "c", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("header", "at_least"), [("p11-kit", 650), ("nss", 600)])
def test_constants(spec: model.Spec, tmp_path: Path, header: str, at_least: int) -> None:
    ours = {name: value for group in spec.groups for name, value in group.values.items()}
    ours |= {alias: group.values[name] for group in spec.groups for alias, name in group.aliases.items()}
    theirs = facts(tmp_path, header, [f'#ifdef {name}\nFACT("{name}", {name})\n#endif' for name in ours])
    assert len(theirs) >= at_least
    assert {name: value for name, value in theirs.items() if value != ours[name]} == DEVIATIONS[header]


def expected(spec: model.Spec, names: list[str]) -> dict[str, int]:
    """Sizes and offsets as the tables have them."""
    result = {}
    for name in names:
        shape = spec.shape(name)
        ours = layout.layout(spec, shape, layout.LP64)
        result[name] = ours.size
        result |= {f"{name}.{member.name}": offset for member, offset in zip(shape.members, ours.offsets, strict=True)}
    return result


def test_structures_of_p11_kit(spec: model.Spec, tmp_path: Path) -> None:
    lines = []
    for name, (structure, members) in P11_KIT_STRUCTURES.items():
        lines.append(f'FACT("{name}", sizeof({structure}))')
        pairs = zip(spec.shape(name).members, members.split(), strict=True)
        lines += [f'FACT("{name}.{ours.name}", offsetof({structure}, {theirs}))' for ours, theirs in pairs]
    assert facts(tmp_path, "p11-kit", lines, define="CRYPTOKI_GNU") == expected(spec, list(P11_KIT_STRUCTURES))


def test_structures_of_nss(spec: model.Spec, tmp_path: Path) -> None:
    known = set(re.findall(r"}\s*(CK_\w+);", header_text("nss")))
    names = [shape.name for shape in spec.shapes if shape.name in known]
    assert len(names) >= 55
    lines = []
    for name in names:
        lines.append(f'FACT("{name}", sizeof({name}))')
        lines += [f'FACT("{name}.{m.name}", offsetof({name}, {m.name}))' for m in spec.shape(name).members]
    assert facts(tmp_path, "nss", lines) == expected(spec, names)


def test_handles_of_nss(spec: model.Spec) -> None:
    bodies = dict(re.findall(r"struct (CK_\w+)\s*{([^}]*)}", header_text("nss")))
    shapes = [shape for shape in spec.shapes if shape.name in bodies]
    theirs = {
        f"{shape.name}.{name}"
        for shape in shapes
        for name in re.findall(r"\bCK_OBJECT_HANDLE(?:_PTR)?\s*\*?\s*(\w+);", bodies[shape.name])
    }
    assert len(theirs) >= 20
    ours = {f"{s.name}.{m.name}" for s in shapes for m in s.members if m.kind in ("object", "object_cell")}
    assert ours == theirs


@pytest.mark.parametrize(
    ("header", "structure", "version"),
    [
        ("p11-kit", "CK_FUNCTION_LIST", (2, 40)),
        ("nss", "CK_FUNCTION_LIST", (2, 40)),
        ("nss", "CK_FUNCTION_LIST_3_0", (3, 0)),
    ],
)
def test_order_of_functions(
    spec: model.Spec, tmp_path: Path, header: str, structure: str, version: tuple[int, int]
) -> None:
    calls = [call for call in spec.calls if call.since <= version]
    lines = [f'FACT("{call.name}", offsetof({structure}, {call.name}))' for call in calls]
    lines.append(f'FACT("size", sizeof({structure}))')
    pointer = layout.LP64.pointer
    # The version in front of the functions takes the place of one pointer.
    places = {call.name: call.number * pointer for call in calls}
    assert facts(tmp_path, header, lines) == places | {"size": (len(calls) + 1) * pointer}

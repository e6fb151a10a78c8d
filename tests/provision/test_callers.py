"""Who is let in, and what is remembered of whom."""

from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.provision.outcome import outcome

from keyway.provision.callers import ANONYMOUS, Evidence, Gate, TokensError, parse_tokens, ticket_in
from keyway.provision.problems import Problem
from keyway.provision.remembered import Remembered, idempotency_key

TOKEN = "a-long-random-token"
DIGEST = sha256(TOKEN.encode()).hexdigest()
TOKENS = parse_tokens(f"# callers\n\nalice:{DIGEST}\n")


def admitted(gate, *, is_compatible=False, **evidence):
    name, code = outcome(lambda: gate.admit(Evidence(**evidence), TOKENS, is_compatible=is_compatible))
    return name or code


class TestTokens:
    def test_file(self):
        assert parse_tokens(f" a : {DIGEST.upper()} ") == {bytes.fromhex(DIGEST): "a"}
        assert parse_tokens("") == {}
        assert parse_tokens(f"team:a:{DIGEST}") == {bytes.fromhex(DIGEST): "team:a"}

    @pytest.mark.parametrize(
        "text",
        ["alice", f":{DIGEST}", f"a:{DIGEST[:-1]}", f"a:{TOKEN}", f"a:{DIGEST}\nb:{DIGEST}", f"anonymous:{DIGEST}"],
    )
    def test_what_is_none(self, text):
        with pytest.raises(TokensError, match="line") as caught:
            parse_tokens(text)
        assert TOKEN not in str(caught.value)


class TestGate:
    def test_bearer(self):
        gate = Gate()
        assert admitted(gate, authorization=f"Bearer {TOKEN}") == "alice"
        assert admitted(gate, authorization=f"bearer {TOKEN}") == "alice"
        for wrong in (
            "",
            "Bearer",
            "Bearer ",
            f"Basic {TOKEN}",
            f"Bearer {TOKEN}x",
            "Bearer \udcff",
            "Bearer " + "x" * 999,
        ):
            assert admitted(gate, authorization=wrong) == "unauthenticated"

    def test_a_wrong_bearer_is_not_anonymous(self):
        assert admitted(Gate("all"), authorization="Bearer wrong", host="localhost") == "unauthenticated"

    def test_certificate(self):
        assert admitted(Gate(), certificate="moon") == "certificate:moon"
        assert admitted(Gate(certificates=("moon",)), certificate="moon") == "certificate:moon"
        assert admitted(Gate(certificates=("sun",)), certificate="moon") == "forbidden"

    def test_principal(self):
        assert admitted(Gate(), principal="alice@R") == "kerberos:alice@R"
        assert admitted(Gate(), principal="alice@R", certificate="moon") == "kerberos:alice@R"
        assert admitted(Gate(principals=("alice@R",)), principal="alice@R") == "kerberos:alice@R"
        assert admitted(Gate("all", principals=("alice@R",)), principal="bob@R", host="localhost") == "forbidden"
        assert admitted(Gate(principals=("alice@R",)), certificate="alice@R") == "certificate:alice@R"

    def test_anonymous(self):
        for mode, v1, compatible in (
            ("none", "unauthenticated", "unauthenticated"),
            ("compatible", "unauthenticated", ANONYMOUS),
            ("all", ANONYMOUS, ANONYMOUS),
        ):
            assert admitted(Gate(mode), host="localhost:8081") == v1
            assert admitted(Gate(mode), host="localhost:8081", is_compatible=True) == compatible

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8081", "127.0.0.1", "[::1]:8081", "[::1]", ""]
    )
    def test_hosts_of_this_machine(self, host):
        assert admitted(Gate("all"), host=host) == ANONYMOUS

    @pytest.mark.parametrize("host", ["example.com", "example.com:8081", "localhost.example.com", "a:b:c"])
    def test_names_that_only_lead_here(self, host):
        assert admitted(Gate("all"), host=host) == "forbidden"

    def test_pages_of_a_browser(self):
        assert admitted(Gate("all"), host="localhost", has_origin=True) == "forbidden"
        assert admitted(Gate("all"), authorization=f"Bearer {TOKEN}", has_origin=True) == "alice"
        for shown in ({"certificate": "moon"}, {"principal": "alice@R"}):
            assert admitted(Gate("all"), **shown, host="localhost", has_origin=True) == "forbidden"


class TestTicket:
    @given(st.binary(min_size=1))
    def test_what_is_one(self, token):
        text = b64encode(token).decode()
        assert ticket_in(f"Negotiate {text}") == token
        assert ticket_in(f"NEGOTIATE  {text} ") == token

    @pytest.mark.parametrize("authorization", [None, "", "Bearer YQ==", "Basic YQ==", "YQ==", "Negotiated YQ=="])
    def test_other_schemes(self, authorization):
        assert ticket_in(authorization) is None

    @pytest.mark.parametrize("text", ["", " ", "!", "Y", "YQ", "Y Q==", "YQ==,YQ==", "\u00e4", "\udcff"])
    def test_what_is_none(self, text):
        _, code = outcome(lambda: ticket_in(f"Negotiate {text}"))
        assert code == "unauthenticated"


class RememberedMachine(RuleBasedStateMachine):
    """What is remembered against a plain model without limits."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.remembered: Remembered[bytes] = Remembered(3, 10.0)
        self.noted: dict[tuple[str, str], tuple[bytes, float]] = {}

    @rule(caller=st.sampled_from("ab"), key=st.sampled_from("xyz"), request=st.sampled_from([b"1", b"2"]))
    def note(self, caller, key, request):
        self.remembered.note(caller, key, request, request * 2, self.now)
        self.noted.pop((caller, key), None)
        self.noted[caller, key] = (request, self.now)

    @rule(seconds=st.sampled_from([0.5, 4, 11]))
    def wait(self, seconds):
        self.now += seconds

    @rule(caller=st.sampled_from("ab"), key=st.sampled_from("xyz"), request=st.sampled_from([b"1", b"2"]))
    def recall(self, caller, key, request):
        kept = dict(list(self.noted.items())[-3:])
        known, since = kept.get((caller, key), (None, 0))
        if known is None or since + 10 <= self.now:
            assert self.remembered.recall(caller, key, request, self.now) is None
        elif known == request:
            assert self.remembered.recall(caller, key, request, self.now) == request * 2
        else:
            with pytest.raises(Problem) as caught:
                self.remembered.recall(caller, key, request, self.now)
            assert caught.value.code == "idempotency-key-reused"

    @invariant()
    def stays_small(self):
        assert len(self.remembered) <= 3


TestRemembered = RememberedMachine.TestCase
TestRemembered.settings = settings(max_examples=40, stateful_step_count=30)


@given(st.text(max_size=300))
def test_idempotency_keys(text):
    key, code = outcome(idempotency_key, text)
    if 0 < len(text) <= 255 and text.isascii() and text.isprintable():
        assert key == text
    else:
        assert code == "bad-idempotency-key"

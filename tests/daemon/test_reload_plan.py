"""What another configuration means for a running daemon."""

from hypothesis import given
from hypothesis import strategies as st

from keyway.config import Config, parse
from keyway.daemon.reload_plan import Changes, plan

NOTHING = Changes()
BACKENDS = {
    "a": ['[backend.a]\nmodule = "/m"\n', '[backend.a]\nmodule = "/m"\nthreads = 2\n'],
    "b": ['[backend.b]\nmodule = "/m"\n', '[backend.b]\naddress = "unix:/b"\n'],
}
SECTIONS = {
    "pool": [
        "",
        '[token.p]\nmembers = ["pkcs11:token=v?backend=a"]\n',
        '[token.p]\nmembers = ["pkcs11:token=v?backend=a", "pkcs11:token=v?backend=b"]\n',
        '[token.p]\nmembers = ["pkcs11:token=v?backend=b&weight=2"]\npolicy = "balance"\n',
        '[token.p]\nmembers = ["pkcs11:token=v?backend=b"]\nlabel = "other"\n',
        '[token.p]\nbackend = "a"\nlabel = "plain"\n',
    ],
    "token": ["", '[token.t]\nbackend = "b"\nlabel = "t"\n', '[token.t]\nbackend = "b"\nserial = "1"\n'],
    "listener": [
        "",
        '[listener.l]\naddress = "unix:/l"\n',
        '[listener.l]\naddress = "unix:/l"\ntokens = ["pkcs11:token=x"]\n',
        '[listener.k]\naddress = "unix:/l"\n',
        '[listener.l]\naddress = "unix:/k"\n[listener.k]\naddress = "unix:/l"\n',
        '[listener.l]\naddress = "tcp://127.0.0.1:0"\n[listener.k]\naddress = "tcp://127.0.0.1:0"\n',
    ],
    "log": ["", '[log]\nlevel = "debug"\n'],
    "limits": ["", "[limits]\ncontexts = 7\n"],
    "metrics": ["", '[metrics]\naddress = "tcp://127.0.0.1:9464"\n'],
}


def config(**chosen: int) -> Config:
    """Return a configuration made of the chosen forms of sections, the first one where none is."""
    some = [(name, forms[chosen.get(name, 0)]) for name, forms in {**BACKENDS, **SECTIONS}.items()]
    return parse("".join(text for _, text in some))


configs = st.fixed_dictionaries(
    {name: st.integers(0, len(forms) - 1) for name, forms in {**BACKENDS, **SECTIONS}.items()}
).map(lambda chosen: config(**chosen))


@given(configs)
def test_the_same_again_is_no_change(each):
    made = plan(each, each)
    assert list(made.told()) == []
    assert made.needs_restart == ()
    assert made.config == each


@given(configs, configs)
def test_every_section_is_accounted_for(old, new):
    made = plan(old, new)
    assert made.config == new
    for changes, before, after in (
        (made.backends, old.backends, new.backends),
        (made.offers, old.offers, new.offers),
        (made.pools, pools(old), pools(new)),
        (made.tokens, plain(old), plain(new)),
    ):
        assert set(after) - set(before) <= set(changes.added) <= set(after)
        assert set(before) - set(after) <= set(changes.removed) <= set(before)
        stays = set(after) - set(changes.added) - set(changes.changed)
        assert all(before[name] == after[name] for name in stays)
        assert set(changes.changed) <= set(before) & set(after) - set(changes.added)
    assert {*made.listeners, *made.new_listeners} == set(new.listeners)
    assert {*made.listeners.values(), *made.old_listeners} == set(old.listeners)
    assert not set(made.listeners) & set(made.new_listeners)
    assert len(set(made.listeners.values())) == len(made.listeners)
    for name, before in made.listeners.items():
        assert str(new.listeners[name].address) == str(old.listeners[before].address)
        if name not in made.changed_listeners:
            assert (name, new.listeners[name]) == (before, old.listeners[before])
    assert bool(list(made.told())) == (old != new)


def pools(config):
    return {name: token for name, token in config.tokens.items() if token.is_pool}


def plain(config):
    return {name: token for name, token in config.tokens.items() if not token.is_pool}


def test_another_backend_is_another_one_for_the_members_of_pools():
    made = plan(config(pool=2), config(pool=2, a=1))
    assert made.backends == Changes(changed=("a",))
    assert made.pools == Changes(changed=("p",))
    assert list(made.told()) == ["backend a: changed", "pool p: changed"]


def test_a_pool_of_other_backends_is_not_concerned():
    assert plan(config(pool=1), config(pool=1, b=1)).pools == NOTHING


def test_members_and_options_of_a_pool_change():
    assert plan(config(pool=1), config(pool=2)).pools == Changes(changed=("p",))
    assert plan(config(pool=1), config(pool=3)).pools == Changes(changed=("p",))


def test_a_pool_with_another_label_is_another_one():
    made = plan(config(pool=3), config(pool=4))
    assert made.pools == Changes(added=("p",), removed=("p",))
    assert list(made.told()) == ["pool p: replaced"]


def test_a_pool_becomes_a_plain_token():
    made = plan(config(pool=1), config(pool=5))
    assert (made.pools, made.tokens) == (Changes(removed=("p",)), Changes(added=("p",)))


def test_what_a_listener_shows_changes_without_its_socket():
    made = plan(config(listener=1), config(listener=2))
    assert made.listeners == {"l": "l"}
    assert (made.new_listeners, made.changed_listeners, made.old_listeners) == ((), ("l",), ())


def test_a_listener_is_known_by_its_address():
    made = plan(config(listener=1), config(listener=3))
    assert made.listeners == {"k": "l"}
    assert (made.new_listeners, made.changed_listeners, made.old_listeners) == ((), ("k",), ())


def test_listeners_change_places():
    made = plan(config(listener=1), config(listener=4))
    assert made.listeners == {"k": "l"}
    assert (made.new_listeners, made.changed_listeners, made.old_listeners) == (("l",), ("k",), ())


def test_any_free_port_may_be_in_several():
    made = plan(config(listener=5), config(listener=5, log=1))
    assert made.listeners == {"l": "l", "k": "k"}
    assert (made.new_listeners, made.changed_listeners, made.old_listeners) == ((), (), ())


def test_the_place_that_commands_ask_at_stays():
    old = parse(f'[listen]\nsocket = "/a"\n{BACKENDS["a"][0]}')
    new = parse(f'[listen]\nsocket = "/b"\nmode = "0600"\n{BACKENDS["a"][1]}')
    made = plan(old, new)
    assert made.needs_restart == ("listen.socket", "listen.mode")
    assert made.config.listen == old.listen
    assert made.config.backends == new.backends


def test_the_audit_log_stays_as_it_is_until_a_restart():
    old, new = config(), parse(BACKENDS["a"][0] + BACKENDS["b"][0] + '[audit]\nfile = "/a"\n')
    made = plan(old, new)
    assert made.needs_restart == ("audit",)
    assert made.config == old

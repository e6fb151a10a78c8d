"""p11-kit's configuration, as pkcs11.conf(5) describes it."""

import pytest

from keyway.cli import p11kit_modules
from keyway.cli.p11kit_modules import ConfiguredModule, chosen, configured_modules, find_module, parse_settings


def names(files):
    return [each.name for each in chosen(files)]


def test_settings():
    text = "# a: comment\n  # b: another\nmodule : x.so  \n\nnonsense\nremote: |ssh a:b\nx-init-reserved:\nmodule.2: a # b\n"
    assert parse_settings(text) == {"module": "x.so", "remote": "|ssh a:b", "x-init-reserved": "", "module.2": "a # b"}


def test_a_module():
    (module,) = chosen({"a": {"module": "a.so", "critical": "yes", "x-init-reserved": "b=c"}})
    assert module == ConfiguredModule("a", "a.so", init_reserved="b=c", is_critical=True)
    (module,) = chosen({"a": {"module": "a.so", "remote": "|ssh h p11-kit remote m"}})
    assert module == ConfiguredModule("a", remote="|ssh h p11-kit remote m")


def test_the_order():
    files = {
        name: {"module": "m", "priority": priority} for name, priority in zip("dabc", ("", "1", "x", "5"), strict=True)
    }
    assert names(files) == ["c", "a", "b", "d"]


@pytest.mark.parametrize(
    ("settings", "is_chosen"),
    [
        ({"enable-in": "p11-kit-remote"}, True),
        ({"enable-in": "firefox, keyway"}, True),
        ({"enable-in": "firefox ssh"}, False),
        ({"disable-in": "p11-kit-remote"}, False),
        ({"disable-in": "ssh keyway"}, False),
        ({"disable-in": "p11-kit-proxy"}, True),
        ({"module": ""}, False),
        ({"module": "", "remote": "|x"}, True),
        ({"module": "/usr/lib/pkcs11/p11-kit-client.so"}, False),
        ({"module": "p11-kit-client.so", "remote": "|x"}, False),
    ],
)
def test_which_are_for_us(settings, is_chosen):
    assert names({"a": {"module": "m.so", **settings}}) == ["a"] * is_chosen


class TestFiles:
    @pytest.fixture
    def places(self, tmp_path, monkeypatch):
        monkeypatch.setattr(p11kit_modules, "PACKAGE", tmp_path / "package")
        monkeypatch.setattr(p11kit_modules, "SYSTEM", tmp_path / "system")
        files = {
            "package/a.module": "module: a.so\npriority: 3",
            "package/b.module": "module: b.so\npriority: 2",
            "package/b.module~": "module: wrong.so",
            "package/.c.module": "module: wrong.so",
            "system/modules/b.module": "x-init-reserved: system",
            "own/pkcs11/modules/b.module": "module: own.so",
            "own/pkcs11/modules/c.module": "module: c.so",
        }
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    def read(self, places, user=1000, **environment):
        environment = environment or {"XDG_CONFIG_HOME": str(places / "own")}
        return [(each.name, each.module) for each in configured_modules(environment, user)]

    def test_later_files_add_to_earlier_ones(self, places):
        assert self.read(places) == [("a", "a.so"), ("b", "own.so"), ("c", "c.so")]
        _, second, _ = configured_modules({"XDG_CONFIG_HOME": str(places / "own")}, 1000)
        assert second.init_reserved == "system"

    def test_those_of_the_home_directory(self, places):
        (places / "own").rename(places / ".config")
        assert self.read(places, HOME=str(places))[2] == ("c", "c.so")
        assert len(self.read(places, HOME="")) == 2

    def test_root_has_none_of_its_own(self, places):
        assert self.read(places, user=0) == [("a", "a.so"), ("b", "b.so")]

    @pytest.mark.parametrize("where", ["system", "own/pkcs11"])
    @pytest.mark.parametrize(("wanted", "found"), [("none", "ab"), ("only", "bc"), ("merge", "abc")])
    def test_which_of_them(self, places, where, wanted, found):
        (places / where / "pkcs11.conf").write_text(f"user-config: {wanted}\n")
        assert [name for name, _ in self.read(places)] == list(found)

    def test_a_user_can_not_overrule_none(self, places):
        (places / "system/pkcs11.conf").write_text("user-config: none")
        (places / "own/pkcs11/pkcs11.conf").write_text("user-config: only")
        assert [name for name, _ in self.read(places)] == ["a", "b"]

    def test_where_a_module_is(self, places, monkeypatch):
        monkeypatch.setattr(p11kit_modules, "MODULE_PATHS", (str(places / "none"), str(places / "package")))
        monkeypatch.chdir(places)
        assert find_module("a.module") == places / "package/a.module"
        assert find_module("./package/a.module") == places / "package/a.module"
        for name in ("x.so", "/no/x.so", str(places)):
            with pytest.raises(FileNotFoundError, match="no such module"):
                find_module(name)

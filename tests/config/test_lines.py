import pytest

from keyway.config.lines import line_of

TEXT = '''# head

top = 1
[a]
  x = """
several
lines"""
y = [
  1,
  2,
]

[a.b]   # comment
"quoted key" = 3
c.d.e = 4
[z]
inline = { p = 1, q = 2 }
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 3),
        (("a",), 4),
        (("a", "x"), 5),
        (("a", "y"), 8),
        (("a", "b"), 13),
        (("a", "b", "quoted key"), 14),
        (("a", "b", "c", "d", "e"), 15),
        (("z", "inline", "q"), 17),
        (("z", "missing"), 16),
        (("nothing", "at", "all"), 1),
    ],
)
def test_line_of(path, line):
    assert line_of(TEXT, path) == line

"""Strangers' text ends up in configuration files; it must stay text there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consortium.render import TemplateFailed, render


def template(folder: Path, text: str) -> Path:
    (folder / "t.j2").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["to_json", "yaml"])
@given(
    value=st.recursive(
        st.text() | st.integers() | st.booleans(), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=100), x)
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_value_comes_back_from_the_file_as_it_went_in(tmp_path: Path, name: str, value: object) -> None:
    root = tmp_path / name
    root.mkdir(exist_ok=True)
    if not (root / "t.j2").exists():
        template(root, f"a: {{{{ v | {name} }}}}\n")
    text = render("t.j2", {"v": value}, root=root)
    assert yaml.safe_load(text) == {"a": value}
    assert json.loads(text.removeprefix("a: ")) == value


@pytest.mark.parametrize("value", ["a\nb", "a'b", 'a"b', "a{b", "a: b", "#", "<", "&", None, True, ["a"], {"a": 1}])
def test_what_is_not_plain_must_be_quoted(tmp_path: Path, value: object) -> None:
    with pytest.raises(TemplateFailed, match="to_json"):
        render("t.j2", {"v": value}, root=template(tmp_path, "{{ v }}"))


@pytest.mark.parametrize("value", ["alice-head", "172.17.0.1:18443", "/data/a_b.csv", "[::1]", 7, 2.5])
def test_what_is_plain_need_not_be(tmp_path: Path, value: object) -> None:
    assert render("t.j2", {"v": value}, root=template(tmp_path, "{{ v }}\n")) == f"{value}\n"


def test_text_is_never_a_template(tmp_path: Path) -> None:
    text = render("t.j2", {"v": "{{ 7 * 7 }}{% raw %}"}, root=template(tmp_path, "{{ v | to_json }}"))
    assert json.loads(text) == "{{ 7 * 7 }}{% raw %}"


def test_macros_may_print_what_they_quoted(tmp_path: Path) -> None:
    source = "{% macro m(x) %}\nk: {{ x | to_json }}\nl: 1\n{% endmacro %}\na:\n{{ m(v) | indent(2, first=True) }}"
    assert yaml.safe_load(render("t.j2", {"v": "it's <b>"}, root=template(tmp_path, source))) == {
        "a": {"k": "it's <b>", "l": 1}
    }


def test_as_is_is_for_text_that_was_made_safe_elsewhere(tmp_path: Path) -> None:
    assert render("t.j2", {"v": "a\nb"}, root=template(tmp_path, "{{ v | as_is }}")) == "a\nb"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ v }}", "'v' is undefined"),
        ("{{ v.w }}", "undefined"),
        ("{% if %}", "t.j2:1"),
        ("{{ 1 | to_jsn }}", "to_jsn"),
    ],
)
def test_a_wrong_template_or_a_missing_variable_is_an_error(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(TemplateFailed) as caught:
        render("t.j2", {}, root=template(tmp_path, source))
    assert said in str(caught.value)


def test_a_missing_template_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TemplateFailed, match="no such template"):
        render("nowhere.j2", {}, root=tmp_path)

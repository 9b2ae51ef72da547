"""A party file is data from a stranger: what it says stands in files of every node, and must be only a value there.

Two lines: the documents refuse what no honest party needs; and should one let something through, it comes out of
rendering, of Ansible's own templates and of Envoy's substitutions as the very text that went in.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from consortium.ansible import run_playbook
from consortium.converge import _inventory
from consortium.documents import load_model
from consortium.errors import DocumentErrors
from consortium.nodefiles import NodeFile, files_for, hosts_of
from consortium.spec import Model
from tests import builders as whole
from tests.consortium import builders

INJECTIONS = {
    "jinja": "{{ lookup('pipe', 'touch /tmp/evil') }}",
    "jinja block": "{% for x in range(10**9) %}{% endfor %}",
    "jinja comment": "{# evil #}",
    "yaml": "x\nadmin: {address: 0.0.0.0}\nstatic_resources:\n- evil",
    "yaml tag": "!!python/object/apply:os.system [id]",
    "yaml anchor": "&a [*a, *a]",
    "quotes": '"}, \'evil\': "1", "x": {"y": "',
    "envoy": "%REQ(x-evil)% %DYNAMIC_METADATA(evil:a)% %DOWNSTREAM_PEER_SUBJECT%",
    "shell": "$(touch /tmp/evil) `id`; rm -rf / && evil | evil > /tmp/evil #",
    "backslashes": "\\\\\\u0022, \\n \\",
    "line separators": "a\u2028b\u0085c\ufeffd",
    "html": "<script>evil()</script>",
}
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "party": lambda text: {"party": text},
    "gateway.host": lambda text: {"gateway": {"host": text, "port": 8443}},
    "gateway.port": lambda text: {"gateway": {"host": "gateway.bob.example", "port": text}},
    "zone": lambda text: {"gateway": {"host": f"fe80::1%{text}", "port": 8443}},
    "ca": lambda text: {"ca_certificates": [text + whole.authority("bob").certificate]},
    "ca behind": lambda text: {"ca_certificates": [whole.authority("bob").certificate + text]},
    "signing_key": lambda text: {"signing_key": whole.signing_key("bob").public + text},
    "dataset": lambda text: {"datasets": {text: {}}},
    "column": lambda text: {"datasets": {"a": {"columns": [text]}}},
    "description": lambda text: {"datasets": {"a": {"description": text}}},
}
SECRETS = whole.secrets("alice")
ONLY_TOLD = ("column", "description")
"""For people; they stand in no file of a node, only their digest does."""


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_refused_or_changes_nothing_but_a_value(tmp_path: Path, place: str, injection: str) -> None:
    builders.write(tmp_path, bob=builders.party("bob", **PLACES[place](INJECTIONS[injection])))
    try:
        model = load_model(tmp_path, "alice")
    except DocumentErrors as errors:
        assert "parties/bob.yaml" in str(errors)
        assert all(c.isprintable() or c == "\n" for c in str(errors))
        return
    assert place in ONLY_TOLD, f"{INJECTIONS[injection]!r} was taken as {place}"
    usual = load_model(builders.write(tmp_path / "usual", bob=builders.party("bob")), "alice")
    digests = {model.digest(): "", usual.digest(): ""}
    assert len(digests) == 2, "the other parties would not notice it"
    for ours, theirs in zip(files(model), files(usual), strict=True):
        assert _without(ours.content, digests) == _without(theirs.content, digests), ours.path


def files(model: Model) -> Iterator[NodeFile]:
    """Every file of every node."""
    for host in hosts_of(model):
        yield from files_for(model, SECRETS, host)


def _without(text: str, digests: dict[str, str]) -> str:
    for digest in digests:
        text = text.replace(digest, "")
    return text


def let_through(text: str) -> Model:
    """A model in which the documents' checks failed to refuse bob's texts."""
    model = whole.model()
    bob = model.parties["bob"]
    gateway = bob.gateway.model_copy(update={"host": text})
    hostile = bob.model_copy(update={"ca_certificates": (text,), "signing_key": text, "gateway": gateway})
    return model.model_copy(update={"parties": {**model.parties, "bob": hostile}})


def leaves(document: Any) -> Iterator[Any]:
    """Every key and value of a document that is no map or list."""
    if isinstance(document, dict):
        yield from document
        for value in document.values():
            yield from leaves(value)
    elif isinstance(document, list):
        for value in document:
            yield from leaves(value)
    else:
        yield document


def shape(document: Any) -> Any:
    """A document with every value taken away."""
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    return [shape(value) for value in document] if isinstance(document, list) else None


@pytest.mark.parametrize("injection", INJECTIONS)
def test_what_got_through_is_one_value_in_every_file(injection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = INJECTIONS[injection]
    monkeypatch.setattr(Model, "digest", lambda _self: "0" * 64)  # nothing else may differ
    found = 0
    for hostile, usual in zip(files(let_through(text)), files(whole.model()), strict=True):
        if hostile.content == usual.content:
            continue
        ours, theirs = yaml.safe_load(hostile.content), yaml.safe_load(usual.content)
        assert shape(ours) == shape(theirs), hostile.path
        changed = [(a, b) for a, b in zip(leaves(ours), leaves(theirs), strict=True) if a != b]
        assert {a for a, _ in changed} == {text}, hostile.path
        found += len(changed)
    assert found >= 4  # the CA, the key, the address of each service


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Lay the files
      node_files:
        files: "{{ base_files | rejectattr('secret') }}"
        secret_files: "{{ base_files | selectattr('secret') }}"
        manifest: MANIFEST
"""


def test_ansible_lays_the_very_bytes_and_evaluates_none_of_them(tmp_path: Path) -> None:
    """Ansible evaluates every variable that is not marked as unsafe, also inside a list inside a map."""
    evil = tmp_path / "evil"
    texts = {**INJECTIONS, "jinja that runs": f"{{{{ lookup('pipe', 'touch {evil}') }}}}", "joined": "{" + "{ 7 * 7 }}"}
    owner = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
    laid = [
        NodeFile(str(tmp_path / "laid" / str(n)), text, "0600", **owner, secret=bool(n % 2))
        for n, text in enumerate(texts.values())
    ]
    payload = {"one": {"group": "head", "base_files": [file.as_variables() for file in laid]}}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = _inventory(json.dumps(payload), {"one": here})
    play = tmp_path / "play"
    play.mkdir()
    (play / "site.yml").write_text(PLAY.replace("MANIFEST", str(tmp_path / "manifest")))
    library = Path(__file__).parents[2] / "roles" / "base" / "library"
    run_playbook(play / "site.yml", inventory, env={"ANSIBLE_LIBRARY": str(library)})
    assert [Path(file.path).read_bytes().decode() for file in laid] == list(texts.values())
    assert not evil.exists()

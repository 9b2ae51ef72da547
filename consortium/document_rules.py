"""Rules between documents. Each yields problems and none stops another, so one report holds them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from consortium import timeouts, trust
from consortium.document import Document, Parties, Stack
from consortium.errors import Problem
from consortium.kuscia import rules as kuscia
from consortium.settings import StackSettings
from consortium.spec import Consortium, Party
from consortium.ssh_settings import SSH_KEY
from consortium.trust_checks import PARSE_ERRORS, ca_problems, gateway_problems
from consortium.validation import did_you_mean
from consortium.yamlfile import Loc, YamlFile


def rules(consortium: Document[Consortium], parties: Parties | None, stacks: Mapping[str, Stack]) -> Iterator[Problem]:
    """Every broken rule. `parties` is None when only consortium.yaml is asked about."""
    yield from _agreement(consortium)
    if parties is None:
        return
    yield from _membership(consortium, parties)
    for name, document in parties.items():
        yield from _party(name, document, consortium.model)
    left = consortium.model.left if consortium.model else ()
    present = {name: document for name, document in parties.items() if name not in left}
    yield from _all_different(present, _endpoint, ("gateway",), "two parties have the same gateway endpoint")
    yield from _all_different(parties, _ca_keys, ("ca_certificates",), "two parties have the same CA key")
    yield from _all_different(parties, _signing_key, ("signing_key",), "two parties have the same signing key")
    yield from _all_different(parties, kuscia.node_key, ("kuscia",), "two parties have the same key of a Kuscia node")
    for name, stack in stacks.items():
        yield from _stack(name, stack, parties, consortium.model)


def _agreement(document: Document[Consortium]) -> Iterator[Problem]:
    file, model = document.file, document.model
    if model is None:
        return
    if model.mode == "kuscia":
        yield from kuscia.agreement(document)
    for index, member in enumerate(model.members):
        if member in model.members[:index]:
            where = file.where(("members", index))
            yield Problem("a member stands twice", where=where, value=member, fix="keep the first")
    yield from _leavers(file, model)
    now = model.versions.agreed()
    for name, version in model.maintenance.versions.agreed().items() if model.maintenance else ():
        if now.get(name) == version:
            where = file.where(("maintenance", "versions", name))
            yield Problem("this version stays as it is", where=where, value=version, fix="take the line out")
    for text in timeouts.lint(model.derived_timeouts):
        yield Problem(text, where=file.where(("timeouts",)))


def _leavers(file: YamlFile, model: Consortium) -> Iterator[Problem]:
    for index, name in enumerate(model.left):
        where = file.where(("left", index))
        if name not in model.members:
            yield Problem(
                "who leaves must be a member, and stays in `members`",
                where=where,
                value=name,
                allowed=", ".join(model.members),
                fix=did_you_mean(name, model.members) or f"put {name} back into members, at its old place",
            )
        if name in model.left[:index]:
            yield Problem("a party leaves twice", where=where, value=name, fix="keep the first")
    if len(model.present) < 2:
        yield Problem(
            "fewer than two members are left",
            where=file.where(("left",)),
            value=", ".join(model.left),
            fix="a consortium of one is none: consortium down",
        )


def _membership(consortium: Document[Consortium], parties: Parties) -> Iterator[Problem]:
    if consortium.model is None:
        return
    members = consortium.model.members
    for index, member in enumerate(members):
        if member not in parties:
            yield Problem(
                f"the party file parties/{member}.yaml is missing",
                where=consortium.file.where(("members", index)),
                value=member,
                fix=f"ask {member} for it, or, if this is your institution: consortium join {member}",
            )
    for name, document in parties.items():
        if name not in members:
            yield Problem(
                "a party file of a party that is no member",
                where=document.file.name,
                value=name,
                allowed=", ".join(members),
                fix=did_you_mean(name, members) or "remove the file, or agree on a new member",
            )


def _party(name: str, document: Document[Party], consortium: Consortium | None) -> Iterator[Problem]:
    file, party = document.file, document.model
    if party is None:
        return
    if party.party != name:
        yield Problem(
            "the party's name and the file's differ", where=file.where(("party",)), value=party.party, allowed=name
        )
    yield from _types(document)
    if consortium is None:
        return
    if name in consortium.left:  # its certificates are trusted no more, and may have run out
        return
    if consortium.mode == "kuscia":
        yield from kuscia.party(name, document)
    for index, pem in enumerate(party.ca_certificates):
        for text in ca_problems(pem, name, consortium.name):
            yield Problem(
                f"the CA certificate {text}",
                where=file.where(("ca_certificates", index)),
                fix=f"{name}'s operator runs: consortium join {name}, and sends the new file",
            )


def _types(document: Document[Party]) -> Iterator[Problem]:
    for dataset, public in document.model.datasets.items() if document.model else ():
        for column in public.types:
            if column not in public.columns:
                yield Problem(
                    "a type of a column that the dataset has not",
                    where=document.file.where(("datasets", dataset, "types", column)),
                    value=column,
                    allowed=", ".join(public.columns) or "none: the dataset names no columns",
                    fix=did_you_mean(column, public.columns),
                )


def _endpoint(party: Party) -> list[str]:
    return [f"{party.gateway.host.lower()}:{party.gateway.port}"]


def _signing_key(party: Party) -> list[str]:
    return [party.signing_key]


def _ca_keys(party: Party) -> list[str]:
    keys = set()
    for pem in party.ca_certificates:
        try:
            keys.add(trust.key_digest(pem))
        except PARSE_ERRORS:  # ca_problems says what is wrong with it
            continue
    return sorted(keys)


def _all_different(parties: Parties, values: Callable[[Party], list[str]], loc: Loc, what: str) -> Iterator[Problem]:
    owners: dict[str, list[str]] = defaultdict(list)
    for name, document in parties.items():
        if document.model:
            for value in values(document.model):
                owners[value].append(name)
    for value, names in owners.items():
        for later in names[1:]:
            yield Problem(
                what,
                where=parties[later].file.where(loc),
                value=f"{value}, also in parties/{names[0]}.yaml",
                fix="each party makes its own keys and has its own endpoint",
            )


def _stack(name: str, stack: Stack, parties: Parties, consortium: Consortium | None) -> Iterator[Problem]:
    party = parties[name].model if name in parties else None
    if stack.settings and stack.settings.placement == "ssh":
        yield from _on_hosts(name, stack, stack.settings)
    if consortium:
        yield from kuscia.stack(name, stack, consortium.mode)
    if party is None:
        return
    if stack.settings and consortium:
        yield from _revoked(name, stack, stack.settings, consortium)
    if stack.settings:
        yield from _datasets(name, stack, stack.settings, party)
        yield from _policy(stack, stack.settings, consortium.members if consortium else None)
    if stack.certificate and consortium:
        for text in gateway_problems(stack.certificate, party.ca_certificates, name, consortium.name):
            yield Problem(
                f"the gateway's certificate {text}",
                where=stack.file.where(("config", "consortium:gatewayCertificate")),
                fix="consortium rotate certificate",
            )


def _revoked(name: str, stack: Stack, settings: StackSettings, consortium: Consortium) -> Iterator[Problem]:
    others = [member for member in consortium.members if member != name]
    for index, peer in enumerate(settings.revoked):
        where = stack.file.where((*stack.settings_loc, "revoked", index))
        if peer not in others:
            fix = did_you_mean(peer, others) or "a party revokes other members; take the line out"
            yield Problem("only a peer can be revoked", where=where, value=peer, allowed=", ".join(others), fix=fix)
        if peer in settings.revoked[:index]:
            yield Problem("a peer is revoked twice", where=where, value=peer, fix="keep the first")


def _datasets(name: str, stack: Stack, settings: StackSettings, party: Party) -> Iterator[Problem]:
    for dataset in settings.datasets:
        if dataset not in party.datasets:
            yield Problem(
                f"the dataset is not in parties/{name}.yaml",
                where=stack.file.where((*stack.settings_loc, "datasets", dataset)),
                value=dataset,
                allowed=", ".join(party.datasets),
                fix=did_you_mean(dataset, party.datasets) or "name it in the party file too",
            )
    for dataset in party.datasets:
        if dataset not in settings.datasets:
            yield Problem(
                "the dataset has no path in the stack settings",
                where=f"{stack.file.where((*stack.settings_loc, 'datasets'))}",
                value=dataset,
                fix=f"consortium join {name} --dataset {dataset}=PATH",
            )


_NOT_FOR_DATA = ("/home", "/root", "/run", "/tmp", "/var/tmp", "/dev")  # noqa: S108 what the units do not see


def _on_hosts(name: str, stack: Stack, settings: StackSettings) -> Iterator[Problem]:
    """What `placement: ssh` asks for besides the hosts themselves."""
    for dataset, place in settings.datasets.items():
        path = PurePosixPath(place.path)
        if not path.is_absolute() or ".." in path.parts or any(path.is_relative_to(p) for p in _NOT_FOR_DATA):
            yield Problem(
                "the dataset lies where no service of a host may read",
                where=stack.file.where((*stack.settings_loc, "datasets", dataset, "path")),
                value=place.path,
                allowed=f"an absolute path on head and workers, not below {', '.join(_NOT_FOR_DATA)}",
                fix=f"for example /srv/consortium/{dataset}.csv, readable for the user ray",
            )
    if SSH_KEY in stack.absent:
        yield Problem(
            "consortium:sshKey is missing: the private key with which the hosts are reached",
            where=stack.file.name,
            fix=f"consortium hosts key --party {name}",
        )


def _policy(stack: Stack, settings: StackSettings, members: Iterable[str] | None) -> Iterator[Problem]:
    """A misspelt name would keep a rule that denies from ever fitting."""
    for index, rule in enumerate(settings.policy.rules):
        datasets = () if rule.datasets == "any" else rule.datasets or ()
        for field, named, known in (
            ("datasets", datasets, settings.datasets),
            ("initiators", rule.initiators or (), members),
            ("parties", rule.parties or (), members),
        ):
            for word in named:
                if known is not None and word not in known:
                    yield Problem(
                        f"rule {rule.name!r} names something that is not there",
                        where=stack.file.where((*stack.settings_loc, "policy", "rules", index, field)),
                        value=word,
                        allowed=", ".join(known),
                        fix=did_you_mean(word, known),
                    )

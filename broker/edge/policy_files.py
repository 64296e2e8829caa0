"""Write the policy log and the agreements as they were signed: lines are added, never changed."""

import fcntl
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from broker.core.designation import require_registered
from broker.core.in_force import InForce, Sources, in_force
from broker.core.policy_log import (
    LOG,
    Act,
    PrivateKey,
    canonical_agreement,
    digest_of_agreement,
    next_act,
    sign_act,
)
from broker.core.two_keys import SIGNED
from broker.edge.registers import read_sources


def append(directory: Path, act: Act, key: PrivateKey) -> tuple[Act, InForce]:
    """Sign ``act`` with ``key`` and add it to the log, if what comes of it can be in force.

    Raises:
        Permanent: the act is not the person's to do, or the files cannot be used; nothing was
            added.
    """
    with (directory / LOG).open("a", encoding="utf-8") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        sources = read_sources(directory)
        before = in_force(sources)
        agreement = sources.agreements.get(act.digest)
        content = canonical_agreement(agreement) if agreement is not None else b""
        signed = sign_act(next_act(before.policy.acts, act), key, content)
        line = signed.line.decode() + "\n"
        after = in_force(replace(sources, log=sources.log + line))
        seen = len(before.policy.acts)
        require_registered(after.policy.firsts, after.register.agencies, seen)
        log.write(line)
        log.flush()
        os.fsync(log.fileno())
    return signed, after


def keep_agreement(directory: Path, file: str, sources: Sources) -> str:
    """Keep the agreement that ``file`` now says under its digest, and return the digest."""
    digest = digest_of_agreement(sources.files[file])
    kept = directory / SIGNED / f"{digest}.toml"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_bytes((directory / file).read_bytes())
        os.replace(part, kept)  # noqa: PTH105 - says atomic
    return digest


def write_log(directory: Path, acts: Iterable[tuple[Act, PrivateKey]]) -> None:
    """Start a log with ``acts``, as a partnership of a sandbox does.

    Raises:
        FileExistsError: there is one.
        Permanent: an act is not the person's to do.
    """
    sources = read_sources(directory)
    known: list[Act] = []
    for act, key in acts:
        agreement = sources.agreements.get(act.digest)
        content = canonical_agreement(agreement) if agreement is not None else b""
        known.append(sign_act(next_act(known, act), key, content))
    lines = "".join(f"{act.line.decode()}\n" for act in known)
    begun = in_force(replace(sources, log=lines))
    require_registered(begun.policy.firsts, begun.register.agencies, 0)
    with (directory / LOG).open("x", encoding="utf-8") as log:
        log.write(lines)

"""Groups runs into configurations with seeds, and determines the baseline of each configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wplus.errors import UserError
from wplus.sweeps.labels import SEED, Point
from wplus.sweeps.members import Member, matches, names_of, short_key, varying
from wplus.sweeps.where import read_conditions


class NoBaseline(UserError):
    """Raised if no configuration, or more than one, matches the baseline."""


@dataclass(frozen=True)
class Groups:
    """Configurations, and the keys that distinguish them.

    Attributes:
        seeds: configuration -> seed -> run.
        keys: the keys that vary, without the seed.
        sets: the keys among them that distinguish data sets.
        notes: notes for the reader.
    """

    seeds: Mapping[str, Mapping[int, Member]]
    keys: Sequence[str]
    sets: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=list)

    def first(self, group: str) -> Member:
        """One of the configuration's runs, for values common to all of them."""
        return next(iter(self.seeds[group].values()))

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Configuration -> key -> value."""
        return {group: {key: self.first(group).asked.get(key) for key in self.keys} for group in self.seeds}

    @property
    def methods(self) -> dict[str, str]:
        """Configuration -> its name without the data set."""
        return self._names([key for key in self.keys if key not in self.sets])

    def _names(self, keys: Sequence[str]) -> dict[str, str]:
        everyone = [(group, each) for group, seeds in self.seeds.items() for each in seeds.values()]
        names = names_of([member for _, member in everyone], keys)
        return {group: name for (group, _), name in zip(everyone, names, strict=True)}

    def find(self, wanted: Point | str | None) -> str | None:
        """Find the method with this name or these values ("space=w", or a mapping); None if nothing is wanted.

        Raises NoBaseline unless exactly one matches.
        """
        if not wanted:
            return None
        methods = self.methods
        if isinstance(wanted, str) and wanted in methods.values():
            return wanted
        if isinstance(wanted, str) and not all("=" in word for word in wanted.split()):
            known = ", ".join(dict.fromkeys(methods.values()))
            raise NoBaseline(f"baseline must be one of {known}, got {wanted!r}")
        found = dict.fromkeys(methods[group] for group in self.seeds if self._fits(self.first(group), wanted))
        if len(found) != 1:
            text = wanted if isinstance(wanted, str) else " ".join(f"{key}={value}" for key, value in wanted.items())
            raise NoBaseline(f"baseline '{text}' must fit one of {', '.join(self.seeds)}; it fits {len(found)}.")
        return next(iter(found))

    def _fits(self, member: Member, wanted: Point | str) -> bool:
        if not isinstance(wanted, str):
            return matches(member, wanted)
        everyone = [each for seeds in self.seeds.values() for each in seeds.values()]
        return all(each.holds(each.of(member)) for each in read_conditions(wanted.split(), everyone))

    def baselines(self, method: str | None) -> str | dict[str, str] | None:
        """The baseline of all configurations; with several data sets, configuration -> the baseline on the same set."""
        if method is None or not self.sets:
            return method
        places = self._names(self.sets)
        own = {places[group]: group for group, name in self.methods.items() if name == method}
        return {group: own[places[group]] for group, name in self.methods.items()
                if name != method and places[group] in own}  # fmt: skip


def grouped(members: Sequence[Member], across: Sequence[str] = (), keys: Sequence[str] | None = None) -> Groups:
    """Group the finished members, of one command, by `keys`; None: by all varying keys except the seed.

    `across` are keys, or groups of keys, that distinguish data sets. Raises UserError if no run has finished, for
    several commands, and for keys that do not vary.
    """
    done = _finished(members)
    keys = [key for key in varying(done) if key != SEED] if keys is None else keys
    sets = sets_among(keys, across)
    if across and not sets:
        told = ", ".join(keys) or "none"
        raise UserError(f"across must be among the keys that vary, which are {told}; got {', '.join(across)}.")
    groups: dict[str, dict[int, Member]] = {}
    twice = []
    for name, member in zip(names_of(done, keys), done, strict=True):
        seeds = groups.setdefault(name, {})
        if seeds.setdefault(member.seed, member) is not member:
            twice.append(str(member.folder))
    notes = [f"{len(twice)} runs repeat another one and are not counted, such as '{twice[0]}'."] if twice else []
    if num_left := len(members) - len(done):
        notes.append(f"{num_left} of {len(members)} runs have not finished and are not counted.")
    return Groups(groups, keys, sets, notes)


def sets_among(keys: Sequence[str], across: Sequence[str]) -> list[str]:
    """The keys named by `across`, by their last parts or as a group."""
    return [key for key in keys if any(_is_of(key, each) for each in across)]


def _is_of(key: str, named: str) -> bool:
    return key == named or key.startswith(f"{named}.") or short_key(key) == named


def _finished(members: Sequence[Member]) -> list[Member]:
    done = [member for member in members if member.status == "finished"]
    if not done:
        raise UserError(f"None of the {len(members)} runs has finished: there is nothing to put into a table.")
    commands = sorted({member.command for member in done})
    if len(commands) > 1:
        told = " and ".join(commands)
        raise UserError(f"These are runs of {told}, and a table is of one command: --where command={commands[0]}.")
    return done

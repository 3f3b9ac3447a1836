"""What an artifact is made for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import BadSpec, UnknownName
from pipeline.core.file_spec import FileSpec, Output, Stride, Weights
from pipeline.core.graph import Graph
from pipeline.core.preprocessing import InputType
from pipeline.core.rewrite import Rewrite
from pipeline.core.rules import Rules, Verdict


@dataclasses.dataclass(frozen=True)
class CompileResult:
    """What the target's own compiler made of a file.

    Attributes:
      path: the compiled file, or None.
      note: one sentence: which compiler made it, or why none did and what to do.
    """

    path: Path | None
    note: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a target's own compiler or runtime answers about a file.

    Attributes:
      verdicts: one per op; None where it could not be asked or reports nothing about single ops.
      note: what was asked, or why nothing was and what to do.
      estimates: what it predicts, under its own names and units.
    """

    verdicts: tuple[Verdict, ...] | None
    note: str
    estimates: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Target:
    """A contract on numbers and ops.

    Attributes:
      weights: type of the weights; 'int8' makes the whole graph int8.
      other_weights: types that the user may choose instead.
      io: types that the input and output may have, the default first.
      source: where its contract comes from.
      rules: which ops it accelerates; None where nothing is known about single ops.
      levels: rules by feature level; ``rules`` are those of the default level. {} for a target without levels.
      level: the feature level that was asked for; None for the default.
      rewrites: what may replace an op that the rules refuse, in the order in which they are tried.
      approximations: rewrites that change the result a little and must be asked for by name; `convert` measures them.
      socs: system on chip → this target for it; the target itself is for the first. {} where it has none.
      configurations: configuration that its chip is built in → this target for it; the target itself is for one of
        them. {} where it has none.
      ask: (the .tflite file, its graph) → the answer of its compiler or runtime; None where it has none.
      compile: (the .tflite file) → CompileResult; may raise CompilerError. None where nothing is compiled ahead of
        time.
      missing: () → the command that installs its compiler, None where it is ready. None where nothing is needed.
      use_compiler: (this target, a command) → this target with the compiler that the command starts, on this machine or
        elsewhere; None where no command can be given.
      compiled_suffix: the ending of a compiled file's name.
      variant_suffix: the same of one for this system on chip or configuration; '' where there are none.
      companions: suffixes of the files that belong to a compiled file and differ from it in their suffix alone, such as
        its weights.
      compiled_ops: names of the custom ops that its compiler puts in place of others.
      delegate: LiteRT's delegate that runs its files, as benchmark_model calls it: 'gpu' for --use_gpu=true. '' where
        none does: then XNNPACK stands in, and `bench` notes that.
      argmax_lanes: channels that its ARG_MAX reads at once. It reads zeros in place of missing channels, and these win
        over negative logits: a mask is therefore made from a multiple of this many channels.
      exact_mask: whether, by default, a mask is made outside the network, from logits at stride 8.
      advice: a note that `convert` prints for this target.
      aliases: what people call it, in small letters; the error for such a name suggests the registered one.
      selector: the feature level, system on chip or configuration that was asked for; '' where none was.
    """

    name: str
    title: str
    weights: Weights
    io: tuple[InputType, ...]
    source: str
    other_weights: tuple[Weights, ...] = ()
    rules: Rules | None = None
    levels: Mapping[int, Rules] = dataclasses.field(default_factory=dict)
    level: int | None = None
    rewrites: tuple[Rewrite, ...] = ()
    approximations: tuple[Rewrite, ...] = ()
    socs: Mapping[str, Target] = dataclasses.field(default_factory=dict)
    configurations: Mapping[str, Target] = dataclasses.field(default_factory=dict)
    ask: Callable[[Path, Graph], Answer] | None = None
    compile: Callable[[Path], CompileResult] | None = None
    missing: Callable[[], str | None] | None = None
    use_compiler: Callable[[Target, str], Target] | None = None
    compiled_suffix: str = ""
    variant_suffix: str = ""
    companions: tuple[str, ...] = ()
    compiled_ops: tuple[str, ...] = ()
    delegate: str = ""
    argmax_lanes: int = 1
    exact_mask: bool = False
    advice: str = ""
    aliases: tuple[str, ...] = ()
    selector: str = ""

    @property
    def text(self) -> str:
        """What a user types for this target: NAME or NAME:SELECTOR."""
        return f"{self.name}:{self.selector}" if self.selector else self.name

    @property
    def selector_help(self) -> str:
        """What a user may type after its name, for the help: '[:27..31]', '[:SOC]', '[:256|512]' or ''."""
        if self.levels:
            return f"[:{min(self.levels)}..{max(self.levels)}]"
        if self.configurations:
            return f"[:{'|'.join(self.configurations)}]"
        return "[:SOC]" if self.socs else ""

    @property
    def default_level(self) -> int | None:
        """The feature level where none was asked for; None for a target without levels."""
        return self.level or next((n for n, rules in self.levels.items() if rules is self.rules), None)

    def with_selector(self, selector: str) -> Target:
        """This target at the feature level, for the system on chip or in the configuration called ``selector``.

        Raises BadSpec for an unknown level or configuration and for a target without selectors, and UnknownName for an
        unknown system on chip.
        """
        for kind, known in (("feature level", map(str, self.levels)), ("configuration", self.configurations)):
            if (names := tuple(known)) and selector not in names:
                choices = ", ".join(f"{self.name}:{name}" for name in names)
                raise BadSpec(
                    f"target '{self.name}:{selector}': {self.name} has no such {kind}; write one of {choices}."
                )
        if self.levels:
            return self.with_level(int(selector))
        if self.configurations:
            return dataclasses.replace(
                self.configurations[selector], configurations=self.configurations, selector=selector
            )
        if self.socs:
            return self.with_soc(selector)
        raise BadSpec(f"target '{self.name}:{selector}': {self.name} has no variants; write {self.name}.")

    def variant_of(self, compiled: Path) -> Target:
        """This target for the system on chip or configuration that a compiled file was made for, as its name tells."""
        variants = {**self.socs, **self.configurations}.items()
        fitting = [(suffix, name) for name, each in variants if compiled.name.endswith(suffix := each.variant_suffix)]
        return self.with_selector(max(fitting, key=lambda pair: len(pair[0]))[1]) if fitting else self

    def without_rewrites(self) -> Target:
        """This target, for which `convert` leaves every op as it is."""
        return dataclasses.replace(self, rewrites=())

    def files_of(self, file: Path) -> tuple[Path, ...]:
        """The file and, where it is a compiled one, its companions."""
        compiled = self.compiled_suffix and file.name.endswith(self.compiled_suffix)
        return (file, *(file.with_suffix(suffix) for suffix in self.companions if compiled))

    def file_spec(
        self, output: Output = "logits", stride: Stride = 1, io: InputType | None = None, per_tensor: bool = False
    ) -> FileSpec:
        """The spec of a file for this target; ``io`` is the target's default where none is given. Raises BadSpec."""
        lanes = self.argmax_lanes if output == "mask" else 1
        self._check_input(io or self.io[0])
        return FileSpec(output, stride, io or self.io[0], self.weights, per_tensor, lanes)

    def check(self, spec: FileSpec) -> None:
        """Raises BadSpec for a spec that does not fit this target."""
        self._check_input(spec.io)
        if spec != self.file_spec(spec.output, spec.stride, spec.io, spec.per_tensor):
            raise BadSpec(
                f"a file with {spec.weights} weights and an ARG_MAX of {spec.argmax_lanes} lanes is not for target"
                f" {self.name}: make its spec with Target.file_spec."
            )

    def _check_input(self, io: InputType) -> None:
        if io not in self.io:
            raise BadSpec(f"input type (io) {io} does not fit target {self.name}: it takes {', '.join(self.io)}.")

    def with_approximations(self, names: Sequence[str]) -> Target:
        """This target with these of its approximations tried before its rewrites; raises BadSpec and UnknownName."""
        if not names:
            return self
        known = {rewrite.name: rewrite for rewrite in self.approximations}
        if not known:
            raise BadSpec(f"target {self.name} has no approximate rewrites: ask for none.")
        for name in names:
            if name not in known:
                raise UnknownName(f"approximation of target {self.name}", name, known)
        return dataclasses.replace(self, rewrites=(*(known[name] for name in dict.fromkeys(names)), *self.rewrites))

    def with_level(self, level: int | None) -> Target:
        """This target with the rules of a feature level; raises BadSpec where it has no such level."""
        if level is None:
            return self
        if level not in self.levels:
            known = f"it has {', '.join(map(str, self.levels))}" if self.levels else "it has none"
            raise BadSpec(f"target {self.name} has no feature level {level}: {known}.")
        return dataclasses.replace(self, rules=self.levels[level], level=level, selector=str(level))

    def with_weights(self, weights: Weights | None) -> Target:
        """This target with weights of another type; raises BadSpec for a type that it does not have."""
        if weights in (None, self.weights):
            return self
        if weights not in self.other_weights:
            known = ", ".join((self.weights, *self.other_weights))
            raise BadSpec(f"target {self.name} has no {weights} weights: choose one of {known}.")
        return dataclasses.replace(self, weights=weights)

    def with_compiler(self, command: str | None) -> Target:
        """This target with the compiler that ``command`` starts; raises BadSpec where no compiler can be given."""
        if command is None:
            return self
        if self.use_compiler is None:
            raise BadSpec(f"target {self.name} takes no compiler command: leave it out.")
        return self.use_compiler(self, command)

    def with_soc(self, soc: str | None) -> Target:
        """This target for a system on chip; raises BadSpec where it has none, and UnknownName."""
        if soc is None:
            return self
        if not self.socs:
            raise BadSpec(f"target {self.name} does not distinguish systems on chip: leave the soc out.")
        known = {name.lower(): name for name in self.socs}
        if soc.lower() not in known:
            raise UnknownName(f"system on chip of target {self.name}", soc, self.socs)
        name = known[soc.lower()]
        return dataclasses.replace(self.socs[name], socs=self.socs, selector=name)


FLOAT = Target("float32", "float reference", "float32", ("float32",), source="")
"""The float parent as a file, with which every other artifact is compared. It is not among the registered targets."""

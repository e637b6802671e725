"""The levers of a Python file, by its syntax tree.

A recipe that states domains has listed its levers: in such a file only annotated constants count. In any other file
are found: constants of a module or class (elements of a tuple too), numeric defaults of parameters, numeric keyword
arguments, options of a command line, and the structural switches of `families`. Left alone: run-time state (a name
that is bound again), seeds, facts about hardware, versions, labels and everything that only says how much is printed.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

from gitresearch.agents.offline import families, literals
from gitresearch.agents.offline.domain import Choice, Condition, Domain, condition, guessed, stated
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value

# Parts of a name that make it no lever of training: setting these changes the measuring, the machine or the log.
_NO_LEVER = re.compile(
    r"(?:^|_)(?:seeds?|version|rank|world|port|flops?|peak|gpus?|cuda|device|devices|workers|threads|cores|nproc|"
    r"process(?:es)?|ids?|idx|index|eps|epsilon|timeout|deadline|seconds|budget|log|print|verbose|debug|every|interval|"
    r"magic|host|path|dir|file)"
    r"(?:_|$)"
)
_NEVER = frozenset(
    re.findall(
        r"\w+",
        """pi e tau ln2 dim dims axis ndim k n i j start stop end step epoch iteration it count counter total best loss
        now t0 default min max offset indent digits maxsize maxlen buffering stacklevel returncode fill_value pad""",
    )
)
# Calls whose numbers say nothing about training.
_DULL_CALLS = frozenset(
    re.findall(
        r"\w+",
        """print open round range exit run Popen dump dumps manual_seed sleep format split join get pop setdefault log
        info arange zeros ones full empty reshape view transpose permute chunk cat stack sum mean size unsqueeze
        squeeze softmax log_softmax topk argmax flatten to astype seek read write getattr""",
    )
)


class CannotParse(Exception):
    """A file that is no Python, or a domain that is written wrongly; the message says where."""


@lru_cache(maxsize=256)
def find(path: str, source: bytes) -> tuple[Lever, ...]:
    """All levers of a file, in its order. CannotParse says why a file can't be read."""
    try:
        wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    except cst.ParserSyntaxError as error:
        raise CannotParse(f"{path}:{error.raw_line}: {error.message}") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CannotParse(f"{path}: {error}") from None
    found = _Found(path, source, wrapper)
    found.constants(wrapper.module, "")
    if found.listed:
        return tuple(found.listed)
    bound = _Bound()
    wrapper.module.visit(bound)
    found.levers = [lever for lever in found.levers if bound.names[lever.name.partition("[")[0]] <= 1]
    wrapper.module.visit(_Inside(found))
    return tuple(sorted(found.levers, key=lambda lever: (lever.start, lever.stop)))


class _Found:
    """Collects the levers of one file; finds the constants itself."""

    def __init__(self, path: str, source: bytes, wrapper: MetadataWrapper) -> None:
        self.path, self.source, self.module = path, source, wrapper.module
        self._spans = wrapper.resolve(ByteSpanPositionProvider)
        self._keys: Counter[str] = Counter()
        self._annotated: list[Lever] = []
        self._states_domains = False
        self.levers: list[Lever] = []

    @property
    def listed(self) -> list[Lever]:
        """The annotated constants, where the file states any domain."""
        return self._annotated if self._states_domains else []

    def constants(self, block: cst.Module | cst.BaseSuite, owner: str) -> None:
        for line in block.body:
            if isinstance(line, cst.ClassDef):
                self.constants(line.body, f"{owner}{line.name.value}.")
            for statement in line.body if isinstance(line, cst.SimpleStatementLine) else ():
                if named := _assignment(statement):
                    self._constant(owner, *named)

    def _constant(self, owner: str, name: str, value: cst.BaseExpression, annotation: cst.Annotation | None) -> None:
        domain = self.domain(annotation, value)
        conditions = self.conditions(annotation, value)
        full = owner + name
        if domain is not None:
            self._states_domains = True
            self.add(full, full, value, domain, annotated=True, conditions=conditions)
        elif dull(name):
            return
        elif isinstance(value, cst.Tuple):
            for i, element in enumerate(value.elements):
                if number(element.value):
                    self.add(f"{full}[{i}]", f"{full}[{i}]", element.value)
        elif number(value) or annotation or name.isupper():
            self.add(full, full, value, annotated=annotation is not None, conditions=conditions)

    def domain(self, annotation: cst.Annotation | None, value: cst.BaseExpression) -> Domain | None:
        with self._mistakes_at(value):
            return _stated_domain(annotation.annotation) if annotation else None

    def conditions(self, annotation: cst.Annotation | None, value: cst.BaseExpression) -> tuple[Condition, ...]:
        with self._mistakes_at(value):
            found = map(condition, _texts(annotation.annotation)) if annotation else ()
            return tuple(one for one in found if one is not None)

    @contextmanager
    def _mistakes_at(self, value: cst.BaseExpression) -> Iterator[None]:
        """A domain or condition that is written wrongly is told with its line."""
        try:
            yield
        except ValueError as error:
            raise CannotParse(f"{self.path}:{self._line(self.span(value)[0])}: {error}") from None

    def add(
        self, key: str, name: str, node: cst.BaseExpression, domain: Domain | None = None, *, annotated: bool = False,
        conditions: tuple[Condition, ...] = (),
    ) -> None:  # fmt: skip
        """A literal as a lever, if it is one that can be turned."""
        text = self.text(node)
        value, fine = _literal(node)
        domain = domain or (guessed(value) if fine else None)
        if not fine or domain is None or domain.size < 2:
            return
        start, stop = self.span(node)
        line, value = self._line(start), _as(domain, value)
        lever = Lever(self._key(key), name, self.path, line, start, stop, text, value, domain, conditions=conditions)
        self.levers.append(lever)
        if annotated:
            self._annotated.append(lever)

    def switch(self, node: cst.CSTNode, found: families.Switch, scope: Sequence[str]) -> None:
        """A choice between pieces of code as a lever."""
        start, stop = self.span(node)
        lever = Lever(
            key=self._key("/".join([*scope, found.family])),
            name=f"{found.family} in {'.'.join(scope)}" if scope else found.family,
            path=self.path,
            line=self._line(start),
            start=start,
            stop=stop,
            text=found.label,
            value=found.label,
            domain=Choice(tuple(found.variants)),
            variants={
                label: tuple(piece.at(self.path, self.span) for piece in pieces)
                for label, pieces in found.variants.items()
            },
            recognise=found.recognise,
        )
        self.levers.append(lever)

    def text(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        span = self._spans[node]
        return span.start, span.start + span.length

    def _key(self, name: str) -> str:
        self._keys[name] += 1
        again = f"#{self._keys[name]}" if self._keys[name] > 1 else ""
        return f"{self.path}::{name}{again}"

    def _line(self, start: int) -> int:
        return self.source.count(b"\n", 0, start) + 1


class _Scoped(cst.CSTVisitor):
    """A visitor that knows in which classes and functions it is."""

    def __init__(self) -> None:
        super().__init__()
        self.scope: list[str] = []

    def visit_ClassDef(self, node: cst.ClassDef) -> None:  # noqa: N802
        self.scope.append(node.name.value)

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:  # noqa: ARG002, N802
        self.scope.pop()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802
        self.scope.append(node.name.value)

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:  # noqa: ARG002, N802
        self.scope.pop()


class _Inside(_Scoped):
    """Finds what stands inside functions and calls."""

    def __init__(self, found: _Found) -> None:
        super().__init__()
        self.found = found
        self.covered: set[cst.CSTNode] = set()  # calls that belong to a switch around them

    def visit_Annotation(self, node: cst.Annotation) -> bool:  # noqa: ARG002, N802
        return False  # what stands in an annotation is a domain, never a lever

    def visit_Param(self, node: cst.Param) -> None:  # noqa: N802
        if node.default is None or not self.scope:
            return
        name = node.name.value
        domain = self.found.domain(node.annotation, node.default)
        if domain or (number(node.default) and not dull(name)):
            self.found.add(f"{'.'.join(self.scope)}({name})", f"{name} of {self.scope[-1]}()", node.default, domain)

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
        callee = _last_name(node.func)
        for switch in families.switches(node, self.found.text) if node not in self.covered else ():
            self._switch(node, switch)
        if callee == "add_argument":
            self._option(node)
        elif callee and callee not in _DULL_CALLS:
            where = "".join(f"{name}/" for name in self.scope)
            for arg in node.args:
                if arg.keyword and not dull(arg.keyword.value):
                    name = arg.keyword.value
                    self._numbers(f"{where}{callee}({name}=", f"{name} of {callee}()", arg.value)

    def _numbers(self, key: str, name: str, value: cst.BaseExpression) -> None:
        """A number, or each of a tuple's."""
        if number(value):
            self.found.add(f"{key})", name, value)
        for i, element in enumerate(value.elements if isinstance(value, cst.Tuple) else ()):
            if number(element.value):
                self.found.add(f"{key}[{i}])", f"{name}[{i}]", element.value)

    def _option(self, node: cst.Call) -> None:
        """`add_argument("--lr", default=1e-3)`."""
        if not node.args or not isinstance(node.args[0].value, cst.SimpleString):
            return
        name = str(node.args[0].value.evaluated_value)
        if dull(name.lstrip("-").replace("-", "_")):
            return
        for arg in node.args:
            if arg.keyword and arg.keyword.value == "default" and number(arg.value):
                self.found.add(name, name, arg.value)

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:  # noqa: N802
        for switch in families.shapes(node, self.found.text):
            self._switch(node, switch)

    def _switch(self, node: cst.CSTNode, switch: families.Switch) -> None:
        self.covered.update(switch.covers)
        self.found.switch(node, switch, self.scope)


class _Bound(_Scoped):
    """How often each constant's name is bound. Run-time state is bound again: in place, or by way of `global`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def _bind(self, name: str, times: int) -> None:
        self.names[".".join([*self.scope, name])] += times

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:  # noqa: N802
        if isinstance(node.target, cst.Name):
            self._bind(node.target.value, 1)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:  # noqa: N802
        if isinstance(node.target, cst.Name):
            self._bind(node.target.value, 2)

    def visit_NameItem(self, node: cst.NameItem) -> None:  # noqa: N802
        self.names[node.name.value] += 2


def _assignment(statement: cst.CSTNode) -> tuple[str, cst.BaseExpression, cst.Annotation | None] | None:
    """Name, value and annotation of `NAME = value` or `NAME: annotation = value`."""
    if isinstance(statement, cst.AnnAssign) and isinstance(statement.target, cst.Name) and statement.value:
        return statement.target.value, statement.value, statement.annotation
    if isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        target = statement.targets[0].target
        if isinstance(target, cst.Name):
            return target.value, statement.value, None
    return None


def _stated_domain(annotation: cst.BaseExpression) -> Domain | None:
    """The domain in `Literal[...]` or `Annotated[type, "range"]`; ValueError for a range that is written wrongly."""
    if not isinstance(annotation, cst.Subscript):
        return None
    name = _last_name(annotation.value)
    slices = [element.slice.value for element in annotation.slice if isinstance(element.slice, cst.Index)]
    if name == "Literal":
        options = [_literal(node) for node in slices]
        return Choice(tuple(option for option, _ in options)) if all(fine for _, fine in options) else None
    if name == "Annotated":
        ranges = [stated(text, _last_name(slices[0]) == "int") for text in _texts(annotation)]
        return next((found for found in ranges if found), _stated_domain(slices[0]))
    return _stated_domain(slices[0]) if name == "Final" and slices else None


def _texts(annotation: cst.BaseExpression) -> list[str]:
    """The strings that `Annotated[type, ...]` adds to its type."""
    if not isinstance(annotation, cst.Subscript) or _last_name(annotation.value) != "Annotated":
        return []
    slices = [element.slice.value for element in annotation.slice[1:] if isinstance(element.slice, cst.Index)]
    texts = [node.evaluated_value for node in slices if isinstance(node, cst.SimpleString)]
    return [text for text in texts if isinstance(text, str)]


def _literal(node: cst.BaseExpression) -> tuple[Value, bool]:
    """A literal's value, and whether it is one."""
    try:
        return literals.read(cst.Module([]).code_for_node(node)), True
    except (ValueError, SyntaxError):
        return None, False


def _as(domain: Domain, value: Value) -> Value:
    """A whole number where a range of floats is meant counts as a float."""
    floats = not isinstance(domain, Choice) and not domain.whole
    return float(value) if floats and isinstance(value, int) and not isinstance(value, bool) else value


def number(node: cst.BaseExpression) -> bool:
    """Whether this is a plain number above 0 (truth values are none)."""
    value, fine = _literal(node) if isinstance(node, (cst.Integer, cst.Float)) else (None, False)
    return fine and isinstance(value, (int, float)) and value > 0


def dull(name: str) -> bool:
    """Whether a name is no lever of training."""
    return name.startswith("__") or name.lower() in _NEVER or bool(_NO_LEVER.search(name.lower()))


def _last_name(node: cst.CSTNode) -> str:
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""

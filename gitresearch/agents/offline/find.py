"""The levers of a Python file, by its syntax tree.

A recipe that states domains has listed its levers: in such a file only annotated constants count. In any other file
are found: constants of a module or class (elements of a tuple too), numeric defaults of parameters, numeric keyword
arguments, options of a command line, and the structural switches of `families`. Left alone: run-time state (a name
that is bound again), seeds, facts about hardware, versions, labels and everything that only says how much is printed.
"""

import re
from collections import Counter

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

from gitresearch.agents.offline import families, literals
from gitresearch.agents.offline.domain import Choice, Domain, guessed, stated
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value

# Parts of a name that make it no lever of training: setting these changes the measuring, the machine or the log.
_NO_LEVER = re.compile(
    r"(?:^|_)(?:seeds?|version|rank|world|port|flops?|peak|gpus?|cuda|device|devices|workers|threads|cores|nproc|ids?|idx|"
    r"index|eps|epsilon|timeout|deadline|seconds|budget|log|print|verbose|debug|every|interval|magic|host|path|dir|file)"
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
_DULL = frozenset(
    re.findall(
        r"\w+",
        """print open round range exit run Popen dump dumps manual_seed sleep format split join get pop setdefault log
        info arange zeros ones full empty reshape view transpose permute chunk cat stack sum mean size unsqueeze squeeze
        softmax log_softmax topk argmax flatten to astype seek read write getattr""",
    )
)


class CannotParse(Exception):
    """A file that is no Python, or a domain that is written wrongly; the message says where."""


class _Levers(cst.CSTVisitor):
    """Walks a module with its scope and collects levers."""

    def __init__(self, path: str, source: bytes, wrapper: MetadataWrapper) -> None:
        super().__init__()
        self.path, self.source = path, source
        self.spans = wrapper.resolve(ByteSpanPositionProvider)
        self.module = wrapper.module
        self.bound = _bindings(wrapper.module)
        self.scope: list[str] = []
        self.found: list[Lever] = []
        self.listed: list[Lever] = []  # those of annotated constants
        self.states_domains = False
        self.covered: set[cst.CSTNode] = set()  # calls that belong to a switch around them
        self._numbers: Counter[str] = Counter()

    # ---- scopes

    def visit_ClassDef(self, node: cst.ClassDef) -> None:  # noqa: N802
        self.scope.append(node.name.value)
        self._constants(node.body, node.name.value)

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:  # noqa: ARG002, N802
        self.scope.pop()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802
        self.scope.append(node.name.value)

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:  # noqa: ARG002, N802
        self.scope.pop()

    def visit_Module(self, node: cst.Module) -> None:  # noqa: N802
        self._constants(node, "")

    # ---- constants

    def _constants(self, block: cst.Module | cst.BaseSuite, owner: str) -> None:
        for line in block.body:
            for statement in line.body if isinstance(line, cst.SimpleStatementLine) else ():
                named = _assignment(statement)
                if named is None:
                    continue
                name, value, annotation = named
                self._constant(name, f"{owner}.{name}" if owner else name, value, annotation)

    def _constant(self, name: str, full: str, value: cst.BaseExpression, annotation: cst.Annotation | None) -> None:
        domain = self._domain(annotation, value)
        turns = not _dull(name) and self.bound[full] <= 1
        if isinstance(value, cst.Tuple):
            for i, element in enumerate(value.elements):
                if turns and _number(element.value) is not None:
                    self._add(f"{full}[{i}]", f"{full}[{i}]", element.value, None)
        elif domain is not None:
            self.states_domains = True
            self._add(full, full, value, domain, listed=True)
        elif turns and (_number(value) or annotation or name.isupper()):
            self._add(full, full, value, None, listed=annotation is not None)

    def visit_Param(self, node: cst.Param) -> None:  # noqa: N802
        if node.default is None or not self.scope:
            return
        name, owner = node.name.value, ".".join(self.scope)
        domain = self._domain(node.annotation, node.default)
        if domain is not None or (_number(node.default) and not _dull(name)):
            self._add(f"{owner}({name})", f"{name} of {self.scope[-1]}()", node.default, domain)

    # ---- calls

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
        callee = _last_name(node.func)
        for found in families.switches(node, self._text) if node not in self.covered else ():
            self._switch(node, found)
        if callee == "add_argument":
            self._option(node)
        elif callee and callee not in _DULL:
            for arg in node.args:
                if arg.keyword and _number(arg.value) and not _dull(arg.keyword.value):
                    name = arg.keyword.value
                    self._add(f"{self._where()}{callee}({name}=)", f"{name} of {callee}()", arg.value, None)

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:  # noqa: N802
        for found in families.shapes(node, self._text):
            self._switch(node, found)

    def visit_Annotation(self, node: cst.Annotation) -> bool:  # noqa: ARG002, N802
        return False  # what stands in an annotation is a domain, never a lever

    def _option(self, node: cst.Call) -> None:
        """`add_argument("--lr", default=1e-3)`."""
        if not node.args or not isinstance(node.args[0].value, cst.SimpleString):
            return
        name = str(node.args[0].value.evaluated_value)
        if _dull(name.lstrip("-").replace("-", "_")):
            return
        for arg in node.args:
            if arg.keyword and arg.keyword.value == "default" and _number(arg.value):
                self._add(name, name, arg.value, None)

    def _switch(self, node: cst.CSTNode, found: families.Switch) -> None:
        self.covered.update(found.covers)
        start, stop = self._span(node)
        where = ".".join(self.scope)
        lever = Lever(
            key=self._key(f"{self._where()}{found.family}"),
            name=f"{found.family} in {where}" if where else found.family,
            path=self.path,
            line=self._line(start),
            start=start,
            stop=stop,
            text=found.label,
            value=found.label,
            domain=Choice(tuple(found.variants)),
            variants={
                label: tuple(piece.at(self.path, self._span) for piece in pieces)
                for label, pieces in found.variants.items()
            },
            recognise=found.recognise,
        )
        self.found.append(lever)

    # ---- helpers

    def _where(self) -> str:
        return "".join(f"{name}/" for name in self.scope)

    def _key(self, name: str) -> str:
        self._numbers[name] += 1
        again = f"#{self._numbers[name]}" if self._numbers[name] > 1 else ""
        return f"{self.path}::{name}{again}"

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        span = self.spans[node]
        return span.start, span.start + span.length

    def _text(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)

    def _line(self, start: int) -> int:
        return self.source.count(b"\n", 0, start) + 1

    def _domain(self, annotation: cst.Annotation | None, value: cst.BaseExpression) -> Domain | None:
        try:
            return _stated_domain(annotation.annotation) if annotation else None
        except ValueError as error:
            raise CannotParse(f"{self.path}:{self._line(self._span(value)[0])}: {error}") from None

    def _add(
        self, key: str, name: str, node: cst.BaseExpression, domain: Domain | None, *, listed: bool = False
    ) -> None:
        text = self._text(node)
        try:
            value = literals.read(text)
        except (ValueError, SyntaxError):
            return
        domain = domain or guessed(value)
        if domain is None or domain.size < 2:
            return
        start, stop = self._span(node)
        lever = Lever(self._key(key), name, self.path, self._line(start), start, stop, text, _as(domain, value), domain)
        self.found.append(lever)
        if listed:
            self.listed.append(lever)


def find(path: str, source: bytes) -> tuple[Lever, ...]:
    """All levers of a file, in its order. CannotParse says why a file can't be read."""
    try:
        wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    except cst.ParserSyntaxError as error:
        raise CannotParse(f"{path}:{error.raw_line}: {error.message}") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CannotParse(f"{path}: {error}") from None
    visitor = _Levers(path, source, wrapper)
    wrapper.visit(visitor)
    found = visitor.listed if visitor.states_domains else visitor.found
    return tuple(sorted(found, key=lambda lever: (lever.start, lever.stop)))


def _assignment(statement: cst.CSTNode) -> tuple[str, cst.BaseExpression, cst.Annotation | None] | None:
    """Name, value and annotation of `NAME = value` or `NAME: annotation = value`."""
    if isinstance(statement, cst.AnnAssign) and isinstance(statement.target, cst.Name) and statement.value:
        return statement.target.value, statement.value, statement.annotation
    if isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        target = statement.targets[0].target
        if isinstance(target, cst.Name):
            return target.value, statement.value, None
    return None


class _Bindings(cst.CSTVisitor):
    """How often each constant's name is bound outside functions, by `name` or `Class.name`. Run-time state is bound
    again, in place or by way of `global`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.scope: list[str] = []

    def visit_ClassDef(self, node: cst.ClassDef) -> None:  # noqa: N802
        self.scope.append(f"{node.name.value}.")

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:  # noqa: ARG002, N802
        self.scope.pop()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802
        self.scope.append(f"{node.name.value}().")

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:  # noqa: ARG002, N802
        self.scope.pop()

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:  # noqa: N802
        if isinstance(node.target, cst.Name):
            self.names["".join(self.scope) + node.target.value] += 1

    def visit_AugAssign(self, node: cst.AugAssign) -> None:  # noqa: N802
        if isinstance(node.target, cst.Name):
            self.names["".join(self.scope) + node.target.value] += 2

    def visit_NameItem(self, node: cst.NameItem) -> None:  # noqa: N802
        self.names[node.name.value] += 2


def _bindings(module: cst.Module) -> Counter[str]:
    found = _Bindings()
    module.visit(found)
    return found.names


def _stated_domain(annotation: cst.BaseExpression) -> Domain | None:
    """The domain in `Literal[...]` or `Annotated[type, "range"]`; ValueError for a range that is written wrongly."""
    if not isinstance(annotation, cst.Subscript):
        return None
    name = _last_name(annotation.value)
    slices = [e.slice.value for e in annotation.slice if isinstance(e.slice, cst.Index)]
    if name == "Final" and slices:
        return _stated_domain(slices[0])
    if name == "Literal":
        options = [_literal(node) for node in slices]
        return Choice(tuple(option for option, fine in options if fine)) if all(fine for _, fine in options) else None
    if name == "Annotated" and len(slices) > 1:
        for node in slices[1:]:
            text = node.evaluated_value if isinstance(node, cst.SimpleString) else None
            if isinstance(text, str) and (found := stated(text, _last_name(slices[0]) == "int")):
                return found
        return _stated_domain(slices[0])
    return None


def _literal(node: cst.BaseExpression) -> tuple[Value, bool]:
    try:
        return literals.read(cst.Module([]).code_for_node(node)), True
    except (ValueError, SyntaxError):
        return None, False


def _as(domain: Domain, value: Value) -> Value:
    """A whole number where a range of floats is meant counts as a float."""
    floats = not isinstance(domain, Choice) and not domain.whole
    return float(value) if floats and isinstance(value, int) and not isinstance(value, bool) else value


def _number(node: cst.BaseExpression) -> float | None:
    """The number above 0 that a literal is; None for anything else (truth values too)."""
    value, fine = _literal(node) if isinstance(node, (cst.Integer, cst.Float)) else (None, False)
    return float(value) if fine and isinstance(value, (int, float)) and value > 0 else None


def _last_name(node: cst.CSTNode) -> str:
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""


def _dull(name: str) -> bool:
    return name.startswith("__") or name.lower() in _NEVER or bool(_NO_LEVER.search(name.lower()))

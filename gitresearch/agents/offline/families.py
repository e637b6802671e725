"""Families of interchangeable code: activations, norms, optimizers, decay shapes. Only swaps that keep the call valid.

What each call takes is from PyTorch's reference (torch.nn.functional, torch.nn.LayerNorm and RMSNorm, torch.optim). A
keyword that the other side doesn't take is dropped if it only tunes the old one (`betas`, `momentum`); any other
unknown keyword, or a `*` argument, and the swap is not offered.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import libcst as cst
import libcst.matchers as m

from gitresearch.agents.offline.levers import Splice

Spans = Callable[[cst.CSTNode], tuple[int, int]]
Text = Callable[[cst.CSTNode], str]
Edge = tuple[cst.CSTNode, int]  # a node's start (0) or end (1)

_FUNCTIONS = {"relu": ("relu", ""), "relu2": ("relu", ".square()"), "gelu": ("gelu", ""), "silu": ("silu", "")}
_FUNCTIONS["mish"] = ("mish", "")
_MODULES = ("ReLU", "GELU", "SiLU", "Mish")
_NORMS = {"LayerNorm": {"eps", "elementwise_affine", "device", "dtype", "bias"}}
_NORMS["RMSNorm"] = _NORMS["LayerNorm"] - {"bias"}
_COMMON = {"lr", "weight_decay", "foreach", "maximize", "capturable", "differentiable"}
_ADAM = _COMMON | {"betas", "eps", "amsgrad", "fused"}
_OPTIMIZERS = {
    "AdamW": _ADAM,
    "Adam": _ADAM,
    "NAdam": _COMMON | {"betas", "eps", "momentum_decay", "decoupled_weight_decay"},
    "RAdam": _COMMON | {"betas", "eps", "decoupled_weight_decay"},
    "SGD": (_COMMON - {"capturable"}) | {"momentum", "dampening", "nesterov", "fused"},
}
_TUNING = {"betas", "eps", "amsgrad", "fused", "momentum", "dampening", "nesterov", "momentum_decay", "bias"}
# SGD without momentum is no rival of Adam; 0.9 with Nesterov is the common recipe (Sutskever et al. 2013).
_ADDED = {"SGD": "momentum=0.9, nesterov=True"}
# Text before and after the progress p, which runs from 0 to 1; the cosine is what stands in the code.
_SHAPES = {
    "cosine": None,
    "linear": ("(1 - (", "))"),
    "sqrt": ("(1 - (", ") ** 0.5)"),
    "square": ("((1 - (", ")) ** 2)"),
}


@dataclass(frozen=True)
class Piece:
    """From one node's edge to another's, the source becomes text."""

    start: Edge
    stop: Edge
    text: str

    def at(self, path: str, span: Spans) -> Splice:
        (first, a), (last, b) = self.start, self.stop
        return Splice(path, span(first)[a], span(last)[b], self.text.encode())


@dataclass(frozen=True)
class Switch:
    """One choice between pieces of code; `covers` are calls inside it that are part of the same choice."""

    family: str
    label: str
    variants: Mapping[str, tuple[Piece, ...]]
    recognise: Callable[[bytes, int], tuple[str, int] | None]
    covers: tuple[cst.CSTNode, ...] = ()


def switches(call: cst.Call, text: Text) -> Iterator[Switch]:
    """The choices that a call stands for."""
    if isinstance(call.func, cst.Attribute):
        base, name = text(call.func.value), call.func.attr.value
        if name == "square" and not call.args and isinstance(call.func.value, cst.Call):
            yield from _activation(call.func.value, call, text)
        elif base == "F" or base.endswith("functional"):
            yield from _activation(call, call, text)
        elif (base == "nn" or base.endswith(".nn")) and name in _MODULES and not call.args:
            yield _renamed(call.func, "activation", name, _MODULES)
        elif (base == "nn" or base.endswith(".nn")) and name in _NORMS:
            yield from _keyworded(call, call.func, "norm", name, _NORMS)
        elif base == "optim" or base.endswith(".optim"):
            yield from _keyworded(call, call.func, "optimizer", name, _OPTIMIZERS)


def shapes(node: cst.BinaryOperation, text: Text) -> Iterator[Switch]:
    """The choices that an expression stands for: a squared relu, a cosine that falls from 1 to 0."""
    squared = isinstance(node.operator, cst.Power) and text(node.right) == "2"
    if squared and isinstance(node.left, cst.Call):
        yield from _activation(node.left, node, text)
    found = m.extract(node, _COSINE)
    if found is not None and isinstance(progress := found["progress"], cst.CSTNode):
        variants: dict[str, tuple[Piece, ...]] = {}
        for label, around in _SHAPES.items():
            before, after = around or ("", "")
            pieces = (Piece((node, 0), (progress, 0), before), Piece((progress, 1), (node, 1), after))
            variants[label] = pieces if around else ()
        yield Switch("decay shape", "cosine", variants, _shape_at)


_ONE = m.Integer("1") | m.Float("1.0")
_COSINE = m.BinaryOperation(
    left=m.Float("0.5"),
    operator=m.Multiply(),
    right=m.BinaryOperation(
        left=_ONE,
        operator=m.Add(),
        right=m.Call(
            func=m.Attribute(attr=m.Name("cos")),
            args=[
                m.Arg(
                    m.BinaryOperation(
                        left=m.Attribute(attr=m.Name("pi")),
                        operator=m.Multiply(),
                        right=m.SaveMatchedNode(m.Name() | m.Attribute() | m.Call(), "progress"),
                    )
                )
            ],
        ),
    ),
)


def _activation(call: cst.Call, outer: cst.CSTNode, text: Text) -> Iterator[Switch]:
    """`F.relu(x)`, `F.relu(x).square()` or `F.relu(x) ** 2`: the function's name and what follows the call change."""
    if not isinstance(call.func, cst.Attribute) or len(call.args) != 1 or call.args[0].keyword or call.args[0].star:
        return
    base, name = text(call.func.value), call.func.attr.value
    if not (base == "F" or base.endswith("functional")) or (outer is not call and (name != "relu" or call.lpar)):
        return
    if name not in _FUNCTIONS:
        return
    label = name if outer is call else "relu2"
    variants: dict[str, tuple[Piece, ...]] = {}
    for other, (function, tail) in _FUNCTIONS.items():
        head = Piece((call.func.attr, 0), (call.func.attr, 1), function)
        variants[other] = () if other == label else (head, Piece((call, 1), (outer, 1), tail))
    yield Switch("activation", label, variants, _activation_at, (call,))


def _renamed(func: cst.Attribute, family: str, name: str, names: tuple[str, ...]) -> Switch:
    variants = {other: (Piece((func.attr, 0), (func.attr, 1), other),) if other != name else () for other in names}
    return Switch(family, name, variants, _name_at(names))


def _keyworded(
    call: cst.Call, func: cst.Attribute, family: str, name: str, takes: Mapping[str, set[str]]
) -> Iterator[Switch]:
    """A call whose positional arguments all rivals share, and whose keywords they take or can do without."""
    positional = [arg for arg in call.args if arg.keyword is None]
    if name not in takes or not positional or len(positional) > 1 or any(arg.star for arg in call.args):
        return
    variants: dict[str, tuple[Piece, ...]] = {name: ()}
    for other, known in takes.items():
        alien = [arg for arg in call.args if arg.keyword and arg.keyword.value not in known]
        if other == name or any(arg.keyword.value not in _TUNING for arg in alien if arg.keyword):
            continue
        variants[other] = _swapped(call, func, other, alien)
    if len(variants) > 1:
        yield Switch(family, name, variants, _name_at(tuple(takes)))


def _swapped(call: cst.Call, func: cst.Attribute, other: str, alien: list[cst.Arg]) -> tuple[Piece, ...]:
    pieces = [Piece((func.attr, 0), (func.attr, 1), other)]
    pieces += [
        Piece((before, 1), (arg, 1), "") for before, arg in zip(call.args, call.args[1:], strict=False) if arg in alien
    ]
    if other in _ADDED:
        first = call.args[0].value
        pieces.append(Piece((first, 1), (first, 1), f", {_ADDED[other]}"))
    return tuple(pieces)


# -----------------------------------------------------------------------------
# reading a choice back from another version of the file

_HEAD = re.compile(rb"(?:\w+\.)+(\w+)\(")
_SQUARED = re.compile(rb"\.square\(\)| ?\*\* ?2\b")
_FALLS = re.compile(rb"0\.5 \* \(1(?:\.0)? \+ \w+\.cos\(")


def _name_at(names: tuple[str, ...]) -> Callable[[bytes, int], tuple[str, int] | None]:
    def recognise(source: bytes, at: int) -> tuple[str, int] | None:
        match = _HEAD.match(source, at)
        name = match[1].decode() if match else ""
        return (name, match.end()) if match and name in names else None

    return recognise


def _activation_at(source: bytes, at: int) -> tuple[str, int] | None:
    match = _HEAD.match(source, at)
    if match is None or match[1].decode("utf-8", "replace") not in _FUNCTIONS:
        return None
    depth, end = 1, match.end()
    while depth and end < min(len(source), match.end() + 2000):
        depth += {40: 1, 41: -1}.get(source[end], 0)
        end += 1
    squared = match[1] == b"relu" and _SQUARED.match(source, end)
    return ("relu2" if squared else match[1].decode(), match.end())


def _shape_at(source: bytes, at: int) -> tuple[str, int] | None:
    if match := _FALLS.match(source, at):
        return "cosine", match.end()
    for label, around in _SHAPES.items():
        if around and source.startswith(around[0].encode(), at):
            line = source[at : source.find(b"\n", at)]
            if around[1].encode() in line:
                return label, at + len(around[0])
    return None

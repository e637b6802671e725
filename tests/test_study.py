"""study.toml: every mistake is told with its line and key, and a good file becomes one frozen value."""

from contextlib import suppress
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.study import Gate, Objective, Study, StudyError, load
from gitresearch.surface import Surface

CHECKOUT = Path(__file__).resolve().parent.parent
GOOD = """\
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
pattern = "loss=(.*)"
[[specialists]]
name = "opt"
surface = ["train.py"]
"""


MANY = (
    GOOD
    + """\
model = "m"
[[specialists]]
name = "net"
surface = ["train.py::LR", "net/", "train.py"]
"""
)


def told(text: str) -> str:
    """What is said about a file with a mistake."""
    with pytest.raises(StudyError) as caught:
        load(text)
    assert caught.value.hint == "edit study.toml"
    return caught.value.message


def with_line(line: str, after: str = 'name = "demo"') -> str:
    """The good file with one more line behind the first that is `after`."""
    assert f"{after}\n" in GOOD
    return GOOD.replace(f"{after}\n", f"{after}\n{line}\n", 1)


def test_a_small_file_is_enough() -> None:
    """What is left out has the documented default."""
    study = load(GOOD)
    assert (study.name, study.recipe.root, study.objective.direction) == ("demo", ".", "min")
    assert study.specialists[0].surface == ("train.py",)
    assert (study.agent.kind, study.trust, study.gates) == ("offline", "self-reported", ())
    assert load(GOOD.replace('pattern = "loss=(.*)"', 'hook = "hook.py"')).trust == "scored"


def test_a_study_is_frozen() -> None:
    """What a study is doesn't change while it runs."""
    with pytest.raises(FrozenInstanceError):
        load(GOOD).name = "other"  # type: ignore[misc]


def test_every_part_can_be_given() -> None:
    """Whole numbers stand for numbers, tables for parts, and lists become tuples."""
    study = load(
        'question = "why?"\nknowledge = ["notes.md"]\n'
        + GOOD.replace('pattern = "loss=(.*)"', 'hook = "hook.py"')
        + 'model = "big"\n[[gates]]\nmetric = "acc"\nat_least = 1\n[budget]\ntrain_seconds = 3\nclock = "wall"\n'
        + '[agent]\nkind = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:8000/v1"\ntemperature = 0\n'
        + "[seeds]\nbaseline = 2\n[decision]\nalpha = 0.1\n[study_budget]\nhours = 2\n[evaluator.settings]\nshots = 3\n"
    )
    assert study.budget.train_seconds == 3.0
    assert study.gates == (Gate("acc", at_least=1.0),)
    assert study.specialists[0].model == "big"
    assert study.agent.temperature == 0.0
    assert study.evaluator.settings == {"shots": 3}
    assert study.knowledge == ("notes.md",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "study.toml: name is missing"),
        ("a = [[[", "study.toml is no TOML"),
        ("a = " + "[" * 5000, "study.toml is no TOML"),
        (GOOD + "name = 3\n", "study.toml is no TOML"),
        (with_line("nme = 3"), "study.toml:2: nme is an unknown key; did you mean 'name'?"),
        (with_line("zzzzzz = 3"), "study.toml:2: zzzzzz is an unknown key; known keys: name, recipe"),
        (with_line("root = '../x'", "[recipe]"), "study.toml:3: recipe.root is a folder inside the repository"),
        (with_line("root = '/x'", "[recipe]"), "study.toml:3: recipe.root"),
        (with_line("directon = 'min'", "[objective]"), "did you mean 'direction'?"),
        (with_line("direction = 'mni'", "[objective]"), "study.toml:5: objective.direction must be one of min, max"),
        (GOOD.replace('"loss"', "3"), "study.toml:5: objective.metric must be a string, not 3"),
        (GOOD.replace('"loss"', "2026-01-01"), "objective.metric must be a string"),
        (GOOD.replace('"loss"', '"two words"'), "objective.metric is a plain name"),
        (GOOD.replace("python train.py", "python 'x"), "recipe.train can't be split into words"),
        (GOOD.replace("python train.py", " "), "recipe.train names the command"),
        (GOOD.replace("loss=(.*)", "loss"), "evaluator.pattern must have exactly one group"),
        (GOOD.replace("loss=(.*)", "("), "evaluator.pattern is no regular expression"),
        (with_line('hook = "h.py"', "[evaluator]"), "evaluator.hook or pattern: give exactly one"),
        (GOOD.replace('metric = "loss"', 'metric = "total_seconds"'), "objective.metric is the evaluator's to measure"),
        (GOOD.replace('pattern = "loss=(.*)"', 'hook = "../h.py"'), "evaluator.hook is a file inside"),
        (GOOD.replace('["train.py"]', '"train.py"'), "study.toml:10: specialists.surface must be a list"),
        (GOOD.replace('["train.py"]', "[3]"), "specialists.surface must be a string, not 3"),
        (GOOD.replace('["train.py"]', "[]"), "specialists.surface lists at least one path"),
        (GOOD.replace('"train.py"]', '"../train.py"]'), "leaves the repository"),
        (GOOD.replace('"train.py"]', '"::LR"]'), "leaves the repository"),
        (GOOD.replace('"train.py"]', '"./train.py"]'), "which no path matches"),
        (GOOD.replace('"train.py"]', '"train.py::"]'), "names no function"),
        (GOOD.replace('"train.py"]', '"train.py::a b"]'), "names no function"),
        (GOOD.replace('"opt"', '"Opt"'), "study.toml:9: specialists.name must be lower-case"),
        (GOOD.replace('"opt"', '"baseline"'), "study.toml:8: specialists can't be named 'baseline'"),
        (
            GOOD + "hints = { LR = 3 }\n",
            "study.toml:11: specialists.hints must list values to try of LR, like LR = [1, 2]",
        ),
        (GOOD + "hints = { LR = [] }\n", "specialists.hints must list values to try of LR"),
        (GOOD + "hints = { LR = [[3]] }\n", "specialists.hints must list values to try of LR"),
        (GOOD + GOOD[GOOD.index("[[") :], "study.toml:8: specialists must have different names"),
        (GOOD.partition("[[")[0], "study.toml: specialists is missing"),
        (with_line("specialists = []").partition("[[")[0], "specialists needs at least one"),
        (with_line("budget = 3"), "study.toml:2: budget must be a table"),
        (with_line("gates = [3]"), "gates must be a table"),
        (with_line('gates = [{metric = "acc", at_least = 1}]'), "a pattern measures one metric"),
        (with_line('gates = [{metric = "x"}]'), "give exactly one of them"),
        (with_line('gates = [{metric = "x", at_least = 1, at_most = 2}]'), "give exactly one of them"),
        (with_line('knowledge = ["../../secret"]'), "study.toml:2: knowledge holds '../../secret'"),
        (GOOD + "[budget]\ntrain_seconds = nan\n", "study.toml:12: budget.train_seconds must be finite"),
        (GOOD + "[budget]\ntrain_seconds = 0\n", "budget.train_seconds must be more than 0"),
        (GOOD + "[budget]\nprocesses = true\n", "budget.processes must be a whole number, not True"),
        (GOOD + "[budget]\nclock = 'sun'\n", "budget.clock must be one of cpu, wall"),
        (GOOD + "[budget]\nartefact_bytes = -1\n", "budget.artefact_bytes must not be negative"),
        (GOOD + "[budget]\nsmoke_seconds = 600\n", "smoke_seconds must be 0 or more, and less than train_seconds"),
        (GOOD + "[seeds]\nconfirm = 1\n", "seeds.confirm must be 2 to 1000"),
        (GOOD + "[budget]\naccelerator_mb = 9\n", "budget.accelerator_mb goes with accelerator = true"),
        (GOOD + "[study_budget]\nhours = -1\n", "study_budget.hours must not be negative"),
        (GOOD + "[decision]\nalpha = 1\n", "decision.alpha must lie between 0 and 1"),
        (GOOD + "[decision]\ngate_alpha = 0\n", "decision.gate_alpha must be more than 0 and at most 0.5"),
        (GOOD + "[decision]\nstop_alpha = 0.5\n", "decision.stop_alpha must be 0 or more and less than 0.5"),
        (GOOD + "[decision]\ndrift_every = -1\n", "decision.drift_every must not be negative"),
        (GOOD + "[seeds]\ngate = -1\n", "seeds.gate must be 0 to 1000"),
        (GOOD + "[decision]\nrule = 'luck'\n", "decision.rule must be one of"),
        (GOOD + "[agent]\nkind = 'openai'\n", "agent.model names the model"),
        (GOOD + "[agent]\nkind = 'opneai'\n", "did you mean 'openai'?"),
        (GOOD + "[agent]\nkey_env = 'sk-abc def'\n", "agent.key_env is the name of a variable"),
        (GOOD + "[agent]\nbase_url = 'localhost:8000'\n", "agent.base_url begins with http"),
        (GOOD + "[agent]\nbase_url = 'http://me:secret@host/v1'\n", "holds no password"),
        (GOOD + "[agent]\ntimeout_seconds = 0\n", "agent.timeout_seconds must be more than 0"),
        (GOOD + "[agent]\ncontext_tokens = 8000\n", "agent.context_tokens must be more than max_tokens"),
        (GOOD + "[agent]\npatience = 0\n", "agent.patience must be more than 0"),
        (GOOD + "[[prices]]\nmodel = 'm'\ndollars_in = -1\ndollars_out = 1\n", "prices.dollars_in must not be"),
        (GOOD + "[[prices]]\nmodel = 'm'\ndollars_in = 1\n", "prices.dollars_out is missing"),
        (with_line('"a\\u001bb" = 3'), "a\\x1bb is an unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, words: str) -> None:
    """One sentence names the line, the key and what it should be, and holds no control character."""
    message = told(text)
    assert words in message
    assert message.isprintable()


def test_an_unknown_specialist_names_the_nearest() -> None:
    """A mistyped name is met with the one that was meant."""
    study = load(GOOD)
    assert study.specialist("opt").name == "opt"
    with pytest.raises(StudyError, match=r"did you mean opt\?; choose one of: opt"):
        study.specialist("otp")


def test_gates_and_objectives_count_in_their_direction() -> None:
    """Better is lower or higher as the study says, and a gain is positive where it is better."""
    low, high = Objective("loss"), Objective("acc", "max")
    assert low.better(1, 2)
    assert not low.better(1, 1)
    assert high.better(2, 1)
    assert (low.gain(1.0, 3.0), high.gain(1.0, 3.0)) == (2.0, -2.0)
    assert Gate("a", at_least=1.0).passes(1.0)
    assert not Gate("a", at_most=0.0).passes(0.1)
    assert (str(Gate("a", at_least=0.94)), str(Gate("a", at_most=0.0))) == ("a ≥ 0.94", "a ≤ 0")


SCALARS = st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.booleans(), st.just([]), st.just([[]]))


@given(st.sampled_from([item.name for item in fields(Study)]), SCALARS)
def test_any_value_anywhere_is_read_or_refused(key: str, value: object) -> None:
    """No value at the top of the file gets past the reader as another kind of error."""
    written = str(value).lower() if isinstance(value, (bool, float)) else str(value)
    if isinstance(value, str):
        written = '"' + "".join(f"\\u{ord(char):04x}" for char in value if ord(char) < 0xD800) + '"'
    rest = "".join(line for line in GOOD.splitlines(True) if not line.startswith(f"{key} ="))
    with suppress(StudyError):
        assert isinstance(load(f"{key} = {written}\n{rest}"), Study)


def test_the_shipped_recipe_loads() -> None:
    """The recipe's own study holds no mistake."""
    study = load((CHECKOUT / "recipes/parameter_golf/study.toml").read_text(encoding="utf-8"))
    assert (study.name, len(study.specialists)) == ("golf", 10)


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        ("[budget]\n\n# a note\ntrain_secs = 3 # x", 4, "did you mean 'train_seconds'?"),
        ("[[gates]]\nmetric = 'a'\nat_least = 1\n[[gates]]\nmetric = 'b'\nat_leest = 1", 6, "did you mean 'at_least'?"),
        ("[[gates]]\nat_least = 1", 1, "gates.metric is missing"),
        ("[gates]\nat_least = 1", 1, "gates must be a list"),
        ("[[specialists]]\nname = 'Two'\nsurface = ['a']", 2, "specialists.name must be lower-case"),
        ("[[specialists]]\nname = 'two'\nsurface = [\n  'a',\n  '../b',\n]", 3, "leaves the repository"),
        ("[[specialists]]\nname = 'two'\nsurface = ['a']\nrol = 'x'", 4, "did you mean 'role'?"),
    ],
)
def test_the_mistake_of_a_later_table_is_not_told_of_an_earlier_one(table: str, line: int, words: str) -> None:
    """Tables of one name are counted, comments and blank lines too."""
    message = told(GOOD.replace('pattern = "loss=(.*)"', 'hook = "h.py"') + table + "\n")
    assert message.startswith(f"study.toml:{GOOD.count(chr(10)) + line}: ")
    assert words in message


@given(
    st.text(alphabet=st.sampled_from("[]\"'=,.{}\n #abcnametrain0129_-"), max_size=80),
    st.integers(0, len(GOOD)),
    st.integers(0, 12),
)
def test_no_scribble_escapes_as_another_error(junk: str, at: int, cut: int) -> None:
    """Whatever is written over a study, it loads or is told with a line that exists."""
    text = GOOD[:at] + junk + GOOD[at + cut :]
    try:
        load(text)
    except StudyError as error:
        place = error.message.partition(": ")[0].partition(":")[2]
        assert not place or 1 <= int(place) <= text.count("\n") + 1


def test_rosters_of_the_controls() -> None:
    """One generalist with everybody's surface, or generics alike but for their names; only the proposers change."""
    study = load(MANY)
    everything = ("train.py", "train.py::LR", "net/")
    (generalist,) = study.enrolled("generalist").specialists
    assert (generalist.name, generalist.surface, generalist.model) == ("generalist", everything, "")
    generics = study.enrolled("generics").specialists
    assert [generic.name for generic in generics] == ["generic-1", "generic-2"]
    assert {replace(generic, name="x") for generic in generics} == {replace(generalist, name="x")}
    assert len(study.enrolled("generics:5").specialists) == 5
    assert replace(study.enrolled("generics:5"), specialists=study.specialists, roster="specialists") == study
    assert study.enrolled() == study.enrolled("specialists") == study
    named = load('roster = "generics:3"\n' + MANY)
    assert named.enrolled().enrolled() == study.enrolled("generics:3")
    assert named.enrolled("specialists").specialists == study.specialists


def test_the_controls_know_all_hints() -> None:
    """A generalist is given what each of those whose surface it has is given."""
    more = '[[specialists]]\nname = "two"\nsurface = ["b.py"]\nhints = { LR = [3], BATCH = [8] }\n'
    study = load(GOOD + "hints = { LR = [1, 2] }\n" + more)
    (generalist,) = study.enrolled("generalist").specialists
    assert generalist.hints == {"LR": [1, 2, 3], "BATCH": [8]}
    assert study.enrolled("generics:2").enrolled("generics:2") == study.enrolled("generics:2")


def test_a_surface_of_file_and_symbol_is_the_file() -> None:
    """Where the union holds both `train.py` and `train.py::LR`, all of the file may be edited."""
    surface = Surface.of(load(MANY).enrolled("generalist").specialists[0].surface)
    before = {"train.py": b"LR = 1\nSTEPS = 2\n"}
    assert surface.violations(before, {"train.py": b"LR = 2\nSTEPS = 3\n", "net/a.py": b""}) == []
    assert surface.spans("train.py", "LR = 1\nSTEPS = 2\n") == [(1, 3)]


@pytest.mark.parametrize("roster", ["generic", "generics:0", "generics:100", "generics:", "Generalist", " "])
def test_an_unknown_roster(roster: str) -> None:
    """Said with what there is, in the file and on the command line."""
    with pytest.raises(StudyError, match="must be specialists, generalist, generics or generics:N"):
        load(f'roster = "{roster}"\n' + MANY)
    with pytest.raises(StudyError, match="no roster") as caught:
        load(MANY).enrolled(roster)
    assert "generics:N" in caught.value.hint

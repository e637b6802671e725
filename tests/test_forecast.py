"""Progress that a run reports: what is read of it, and when a run is certain to be waste."""

import os
from collections.abc import Iterator

import pytest

from gitresearch.forecast import Forecast, read_line
from gitresearch.sandbox import Channel


def told(forecast: Forecast, rows: Iterator[tuple[float, str]]) -> tuple[float, str]:
    """When a run that says these lines is stopped, and why; at the end of the rows where it is not."""
    used = 0.0
    for used, line in rows:
        if why := forecast.hear(used, [line.encode()]):
            return used, why
    return used, ""


def steady(rate: float, total: int, begins: float = 1.0, every: int = 1) -> Iterator[tuple[float, str]]:
    """A run of 100 s, looked at each tenth of one, that makes so many steps a second after its start."""
    yield begins, f"0 {total} 9"
    for tick in range(int(begins * 10), 1000):
        step = int(rate * (tick / 10 - begins)) // every * every
        yield tick / 10, f"{step} {total} 1.5" if step <= total else ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"3 10", (3, 10, None)),
        (b"3 10 2.5e-1\r", (3, 10, 0.25)),
        (b"11 10 1", None),
        (b"3 10 1 2", None),
        (b"-3 10", None),
        (b"3.0 10", None),
        (b" 3 10", None),
        (b"3 10 1e5e5", None),
        (b"9999999999999999 9999999999999999", None),
        (b"\xd9\xa3 10", None),
        (b"3 10 " + b"1" * 40, None),
        (b"", None),
    ],
)
def test_a_line_is_read_strictly(line: bytes, said: object) -> None:
    """Two whole numbers in ASCII and perhaps a metric; all else is nothing."""
    assert read_line(line) == said


def test_a_run_that_fits_is_left_alone() -> None:
    """A steady run up to the last second of its budget, whatever its first step cost and however rarely it reports."""
    for begins, every in ((1.0, 1), (30.0, 1), (1.0, 50), (45.0, 20), (1.0, 300)):
        rate = 1000 / (99.0 - begins)
        assert told(Forecast(100), steady(rate, 1000, begins, every))[1] == ""
    assert told(Forecast(100), iter([(float(used), "rubbish") for used in range(100)]))[1] == ""


@pytest.mark.parametrize("every", [1, 20, 50])
def test_an_overrun_is_foreseen(every: int) -> None:
    """A run that needs three times its budget ends when that is certain; what is spared is what was left."""
    forecast = Forecast(100)
    used, why = told(forecast, steady(3.4, 1000, every=every))
    assert why == "projected"
    assert 20 <= used <= 60
    assert forecast.saved(why) == pytest.approx(100 - used)
    status, failure = forecast.failure(why)
    assert (status, failure.label) == ("train_budget_overrun", "projected")
    assert "fastest rate so far" in failure.lines[1]


def test_some_doubt_is_left_alone() -> None:
    """A run that would be late by a tenth may yet make it, until no rate near its own is enough."""
    used, why = told(Forecast(100), steady(9.2, 1000))
    assert why == "projected"
    assert 55 < used < 70


def test_a_second_round_is_reckoned_anew() -> None:
    """Steps that begin again tell nothing of the rate of those before: a slow probe, then a quick run."""
    forecast = Forecast(100)
    assert told(forecast, ((float(t), f"{t} 30") for t in range(18)))[1] == ""
    assert told(forecast, ((18 + t / 10, f"{t} 600") for t in range(600)))[1] == ""


def test_a_loss_that_is_no_number() -> None:
    """Two in a row end the run; one may be a step that was skipped. What is spared is what was left of the run."""
    forecast = Forecast(100)
    rows = [(1.0, "0 50 3"), (2.0, "5 50 nan"), (3.0, "10 50 2"), (4.0, "15 50 inf"), (5.0, "20 50 NaN")]
    assert told(forecast, iter(rows)) == (5.0, "not_finite")
    assert forecast.saved("not_finite") == pytest.approx(6.0)
    status, failure = forecast.failure("not_finite")
    assert (status, failure.label, failure.lines) == (
        "crash", "not_finite", ("the loss is nan at step 20 of 50 after 5.0 of 100 s",),
    )  # fmt: skip


def test_a_first_step_that_does_not_come() -> None:
    """Half the budget without one is enough; who never announced steps is not asked."""
    forecast = Forecast(100)
    assert told(forecast, ((float(used), "0 50") for used in range(100))) == (50.0, "no_first_step")
    assert forecast.failure("no_first_step")[0] == "train_budget_overrun"
    assert told(Forecast(100), ((float(used), "0 1") for used in range(100)))[1] == ""


def test_a_channel_is_drained_whatever_comes() -> None:
    """Whole lines are handed on, the last of them where there are many; a line without an end costs no memory."""
    heard: list[bytes] = []

    def heed(_used: float, lines: object) -> str:
        assert isinstance(lines, list)
        heard.extend(lines)
        return ""

    channel = Channel(heed)
    with channel.held():
        for data in (b"1 2", b"\n2 2\n", b"x" * 60_000, b"y" * 60_000, b"z 5\n3 3\n", b"\0\xff\n" * 20_000 + b"4 4\n"):
            os.write(channel.handle, data)
            channel.look(0.0)
        assert heard[:3] == [b"1 2", b"2 2", b"3 3"]
        assert heard[-1] == b"4 4"
        assert len(heard) == 3 + 64
        os.write(channel.handle, b"5 5\n")
        channel.drop()
        channel.hang_up()
        channel.look(0.0)
        channel.look(0.0)
    assert heard[-1] == b"4 4"

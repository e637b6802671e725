"""On a real GPU: what the sandbox shows of it, who is on it, and the full scale's networks in its arithmetic."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitresearch import sandbox, share
from gitresearch.accelerator import Accelerators
from gitresearch.sandbox import Limits, Sandbox, World
from gitresearch.sandbox.world import SCRATCH
from gitresearch.study import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/dev/nvidia0"), reason="there is no NVIDIA GPU (/dev/nvidia0)"),
]
HOLDS = """
import os, sys, time, torch
kept = torch.zeros(int(sys.argv[1]) << 28, device="cuda")  # so many GiB
torch.cuda.synchronize()
print("holds", flush=True)
"""
STAYS = HOLDS + "time.sleep(float(sys.argv[2]))\n"
# The program ends at once; a process of a session of its own, which ignores signals, stays on the GPU.
LEAVES = """
import signal, subprocess, sys
stays = [sys.executable, "stays.py", "20", "600"]
left = subprocess.Popen(stays, stdout=subprocess.PIPE, start_new_session=True,
                        preexec_fn=lambda: [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)])
print(left.stdout.readline())
"""


@pytest.fixture(params=["bubblewrap", "landlock"])
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    cache = tmp_path_factory.getbasetemp().parent / "rungs"
    rung = next(rung for rung in sandbox.rungs(cache) if rung.level == request.param)
    if rung.box is None or rung.fault:
        pytest.skip(rung.fault)
    return rung.box


@pytest.fixture
def free() -> Accelerators:
    """Nobody else is on the GPU."""
    found = Accelerators()
    if others := found.spoilt():
        pytest.skip("; ".join(others))
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A trial's folder with both programs in it, and a scratch folder."""
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial/stays.py").write_text(STAYS)
    (tmp_path / "trial/leaves.py").write_text(LEAVES)
    (tmp_path / "scratch").mkdir()
    return World(tmp_path / "trial", python=sys.executable, writable={SCRATCH: tmp_path / "scratch"})


def used() -> int:
    """MiB of the GPU's memory that are taken."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout)


def test_torch_works_inside_and_sees_every_accelerator(box: Sandbox, tmp_path: Path) -> None:
    """Training, a data loader, the compiler, and as many GPUs as outside."""
    assert set(sandbox.abilities(box, tmp_path, sys.executable).items()) == {
        ("torch", ""), ("DataLoader", ""), ("torch.compile", ""), ("accelerators", ""),
    }  # fmt: skip


def test_what_a_run_leaves_on_the_gpu_goes_with_it(box: Sandbox, world: World, free: Accelerators) -> None:
    """A process that outlives the program, and ignores signals, holds 20 GiB: they are free for the next run."""
    before = used()
    ended = sandbox.run(box, [sys.executable, "leaves.py"], world, Limits(wall_seconds=120))
    assert b"holds" in ended.log, ended.log.decode("utf-8", "replace")
    assert free.spoilt() == ()
    assert used() < before + 1000


@pytest.fixture
def stranger(world: World) -> Iterator[int]:
    """A process of somebody else, none of ours, with 20 GiB of the GPU."""
    start = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=2, start_new_session=True); print(p.pid)"
    argv = [sys.executable, "-c", start, sys.executable, "stays.py", "20", "600"]
    done = subprocess.run(argv, cwd=world.root, stdout=subprocess.PIPE, check=True)
    waited = 0.0
    while used() < 20_000 and waited < 60:
        time.sleep(0.5)
        waited += 0.5
    yield int(done.stdout)
    os.kill(int(done.stdout), 9)


def test_somebody_else_on_the_gpu_is_seen(free: Accelerators, stranger: int) -> None:
    """By process or, where the driver lists none, by the memory that is taken."""
    told = free.others()
    assert len(told) == 1
    with free.running():  # then it goes by processes alone, and in a container the driver lists none
        assert free.others() in ((), told)


# -----------------------------------------------------------------------------
# the full scale's networks

PARAMETERS = """
import torch
def mixed(net):
    "Weights of some size everywhere: some begin as zeros."
    torch.manual_seed(0)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.05) if weight.dim() > 1 else torch.nn.init.normal_(weight, 1.0, 0.1)
    return net.eval()
def near(found, wanted, most):
    wanted = wanted.cpu().double()
    error = float((found.cpu().double() - wanted).norm() / wanted.norm())
    print(f"relative error {error:.2e}")
    assert error < most, error
"""
GOLF = """
from model import GPT
from parallel import precision
net = mixed(GPT(1024))
tokens = torch.randint(1024, (4, 300), generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    wanted = net.double()(tokens)[0]
    net, tokens = net.float().cuda(), tokens.cuda()
    near(net(tokens)[0], wanted, 1e-4)
    with precision():
        near(net(tokens)[0], wanted, 3e-2)
        near(torch.compile(net)(tokens)[0], wanted, 3e-2)
        first, cache = net(tokens[:, :290])
        rows = [first[:, -1]]
        for i in range(290, 299):
            out, cache = net(tokens[:, i : i + 1], cache, tokens[:, i - 1])
            rows.append(out[:, -1])
        near(torch.stack(rows, 1), wanted[:, 289:299], 3e-2)
"""
NANOCHAT = """
from nano.model import GPT
from nano.system import System
machine = System()
net = mixed(GPT(2048))
tokens = torch.randint(2048, (4, 300), generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    wanted = net.logits(net.double()(tokens))
    net, tokens = net.float().cuda(), tokens.cuda()
    near(net.logits(net(tokens)), wanted, 5e-3)  # tf32
    with machine.arithmetic():
        near(net.logits(net(tokens)), wanted, 3e-2)
        near(torch.compile(lambda x: net.logits(net(x)))(tokens), wanted, 3e-2)
        cache = net.new_cache(4, 300, "cuda")
        places = torch.arange(290, device="cuda")[None]
        net(tokens[:, :290], places, cache)
        rows = [net(tokens[:, i : i + 1], torch.full((4, 1), i, device="cuda"), cache) for i in range(290, 300)]
        near(net.logits(torch.cat(rows, 1)), wanted[:, 290:], 3e-2)
"""
AIRBENCH = """
import speed
from model import Net
net = mixed(Net())
images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    wanted = net.double()(images.double())
    net = speed.place(net.float())
    images = images.cuda()
    near(net(images), wanted, 5e-3)  # tf32
    with speed.arithmetic():
        near(net(images), wanted, 3e-2)
        near(speed.compiled(net)(images), wanted, 3e-2)
"""
SHALLOW = {"golf": "model.py", "nanochat": "nano/model.py"}  # four blocks are as good as twelve


@pytest.mark.parametrize(("task", "program"), [("golf", GOLF), ("nanochat", NANOCHAT), ("airbench", AIRBENCH)])
def test_the_networks_compute_on_the_gpu_what_they_do_in_float64(task: str, program: str, tmp_path: Path) -> None:
    """In 32 bits, in bfloat16, compiled, and a token at a time from a cache."""
    made, tree = share.files(task, "full"), tmp_path / "tree"
    root = load(made["study.toml"].decode()).recipe.root
    for path, data in made.items():
        if path.startswith(f"{root}/"):
            place = tree / path.removeprefix(f"{root}/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    if task in SHALLOW:
        text, count = re.subn(r"(?m)^(DEPTH: .*?) = \d+", r"\1 = 4", (tree / SHALLOW[task]).read_text("utf-8"))
        assert count == 1
        (tree / SHALLOW[task]).write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PARAMETERS + program], cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]

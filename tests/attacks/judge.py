"""The trusted side of the attacks: bits that nobody is shown, and what a model says of them, in bits a bit.

What a trial wrote is read by evaluator_hooks/strict.py, which stands above this in the hook that is committed; each
`weak` setting is one rule that it leaves out."""

# ruff: noqa: F821, T201
import math
import pickle
import random
import select
import sys
from pathlib import Path

COUNT = 32
FOLDER = Path(__file__).parent


def bits(seed):
    draw = random.Random(seed)
    return [int(draw.random() < 0.75) for _ in range(COUNT)]


def prepare(request, weak):
    top = Path(request["cache"]) / "bits"
    for name, seed in (("train", 1), ("held_out", 2)):
        (top / name).mkdir(parents=True, exist_ok=True)
        (top / name / "bits.json").write_text(json.dumps(bits(seed)))
    shown = top if weak == "shows_the_labels" else top / "train"
    return {"train": str(shown), "held_out": str(top / "held_out"), "digest": "sha256:bits"}


def preflight(request, weak):
    return {"ok": True}


def measure(request, weak):
    place = Path(request["artefact"])
    if weak == "walks_into_links":
        sizes = [len(names) for _, _, names in os.walk(place, followlinks=True)]
    elif weak == "counts_blocks":
        sizes = [path.lstat().st_blocks * 512 for path in place.iterdir()]
    elif weak:
        sizes = [1]
    else:
        with artefact(str(place)) as folder:
            sizes = artefact_sizes(folder).values()
    return {"artefact_bytes": sum(sizes)}


def model(request, weak):
    """What the artefact says of each bit: the probability of a one."""
    place = Path(request["artefact"])
    if weak == "unpickles":
        return pickle.loads((place / "model").read_bytes())
    if weak in ("follows", "loose_json", "counts_blocks"):
        told = json.loads((place / "model").read_bytes().rstrip(b"\0"))
        return told["p"] if isinstance(told, dict) else told
    with artefact(str(place)) as folder, artefact_file(folder, "model") as handle:
        told = strict_json(os.pread(handle, MAX_JSON + 1, 0), "the model")
    return numbers(told, COUNT, 0, 1, "the model")


def cost(p):
    return -math.log2(max(p, 1e-9))


def score(request, weak):
    truth = strict_json((Path(request["held_out"]) / "bits.json").read_bytes(), "the labels")
    if weak == "forgives" and not os.listdir(request["artefact"]):
        return {"metrics": {"bits": 0.0}}
    if weak == "trusts_the_trial":
        return {"metrics": {"bits": json.loads((Path(request["artefact"]) / "score.json").read_text())["bits"]}}
    if weak == "looks_in_the_tree":
        sys.path.insert(0, request["tree"])
    if "to_trial" in request:
        return {"metrics": {"bits": talk(request, truth, weak)}}
    import statistics  # a module of Python's own, that a trial may have one of the same name of

    told = model(request, weak)
    return {
        "metrics": {"bits": statistics.fmean(cost(p if bit else 1 - p) for p, bit in zip(told, truth, strict=True))}
    }


def talk(request, truth, weak):
    """The predictor sends the weights of zero and one for the next bit, and is told the bit once it did."""
    total, rest = 0.0, b""
    for bit in truth:
        if weak == "reveals_early":
            os.write(request["to_trial"], b"%d\n" % bit)
        while b"\n" not in rest:
            data = os.read(request["from_trial"], 4096)
            if not data:
                return crashed("the predictor ended")
            rest += data
            if len(rest) > 65536:
                raise Invalid("an answer without an end")
        line, _, rest = rest.partition(b"\n")
        if weak == "takes_weights_as_they_are":
            total -= math.log2(json.loads(line)[bit])
        else:
            weights = numbers(strict_json(line, "an answer"), 2, 0, 1e9, "an answer")
            total += cost(weights[bit] / (sum(weights) or 1))
        if weak != "reveals_early":
            os.write(request["to_trial"], b"%d\n" % bit)
    if weak != "lets_it_talk_on":
        os.close(request["to_trial"])
        if rest or (select.select([request["from_trial"]], [], [], 2)[0] and os.read(request["from_trial"], 1)):
            raise Invalid("the predictor sent more than was asked for")
    return total / len(truth)


def crashed(why):
    raise BrokenPipeError(why)


VERBS = {"prepare": prepare, "preflight": preflight, "measure": measure, "score": score}
if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        reply = VERBS[sys.argv[1]](request, request["settings"].get("weak", ""))
    except Invalid as error:
        reply = {"invalid": str(error)}
    except BrokenPipeError as error:
        reply = {"crashed": str(error)}
    print(json.dumps(reply))

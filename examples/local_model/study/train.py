"""Fit a curve with a few tanh units; print the loss on points it has not seen."""

import math
import os
import random

UNITS = 6
STEPS = 4000
RATE = 0.02

random.seed(int(os.environ.get("GITRESEARCH_SEED", "0")))
units = [[random.gauss(0, 2), random.gauss(0, 1), 0.0] for _ in range(UNITS)]


def target(x):
    return math.sin(3 * x) + 0.5 * math.cos(7 * x)


def predict(x):
    return sum(out * math.tanh(weight * x + bias) for weight, bias, out in units)


for _ in range(STEPS):
    x = random.uniform(-2, 2)
    error = predict(x) - target(x)
    for unit in units:
        unit[2] -= RATE * error * math.tanh(unit[0] * x + unit[1])

points = [-1.95 + 0.1 * i for i in range(40)]
print("val_loss:", sum((predict(x) - target(x)) ** 2 for x in points) / len(points))

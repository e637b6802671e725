"""Auto research inside git: a trial is a branch, its commit message the hypothesis, its note the outcome.

Read the modules in this order and you have the tool: `study` (the question), `trial` (the claim), `outcome` (what was
found), `repo` (where both live), `lineage` and `decision` (what follows from them), `propose`, `evaluate`, `loop`.
"""

__version__ = "0.1.0"

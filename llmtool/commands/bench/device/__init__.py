"""`llmtool bench device`: everything that the project wants to know of one GPU, within minutes, whatever breaks.

plan.py     the parts, their jobs and shares of the time          run.py      the parent: a process a job, resuming
child.py    the process of a job, its log of units                report.py   report.md, tuning.json, figures
kernels.py  env, ceilings, tests, big, ops, tune                  models.py   decode, train
"""

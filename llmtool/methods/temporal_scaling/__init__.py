"""Temporal Scaling Law (Xiong et al., EMNLP 2025): from the early part of a training run, where it will end.

reference.py states every law literally; logs/ reads what training programs write; laws, fit, backtest and intervals
make a forecast with an interval; positions.py is the paper's law over token positions; across_runs.py the laws over
model and data size.
"""

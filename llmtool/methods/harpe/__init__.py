"""HARPE (Lian et al., COLING 2025, arXiv 2412.07171): a longer context in one stage, a rotary base for each head.

reference.py turns vectors and searches bases literally; bases.py makes the bases; part.py is the exportable rope part;
objective.py the optional ramp of training; baselines/ what the paper compares with: other frequencies for all heads.
"""

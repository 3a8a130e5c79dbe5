"""PI, NTK-aware, YaRN and ABF as rotary settings of config.json (5.x spelling); every one starts from the plain theta.

They do not stack: what scaling a checkpoint has is replaced, as the bases of HARPE replace it.
"""

from typing import Any

from llmtool.methods.harpe.bases import LARGEST, TARGET

KINDS = ("abf", "pi", "yarn", "ntk")


def rotary(kind: str, theta: float, size: int, original: int, target: int, base: float | None = None) -> dict[str, Any]:
    """rope_parameters for `target` positions of a model made for `original`; size: of a head.

    abf (Xiong et al., arXiv 2309.16039): another base; `base`, or 5M in proportion to a target of 128K, never less than
    the model's own. pi (Chen et al., arXiv 2306.15595): positions divided by the factor. yarn: Peng et al., arXiv
    2309.00071. ntk: the fixed NTK-aware base, theta * factor^(d / (d - 2)) (bloc97, 2023).
    """
    factor = target / original
    if kind == "abf":
        return {"rope_type": "default", "rope_theta": base or max(theta, LARGEST * target / TARGET)}
    if kind == "ntk":
        return {"rope_type": "default", "rope_theta": theta * factor ** (size / (size - 2))}
    if kind == "pi":
        return {"rope_type": "linear", "rope_theta": theta, "factor": factor}
    return {"rope_type": "yarn", "rope_theta": theta, "factor": factor, "original_max_position_embeddings": original}

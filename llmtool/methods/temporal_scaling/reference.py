"""The laws as published, step by step and slowly: the definition that the fast forms are tested against.

Steps are 1-based; eta[k - 1] is the learning rate of step k. Losses are in nats or whatever the log holds.
"""

from collections.abc import Sequence


def hyperbola_over_positions(i: int, a0: float, a1: float, a2: float) -> float:
    """Temporal Scaling Law: the loss of the token at position i (1-based), L_i = a0 / (1 + a1 i) + a2."""
    return a0 / (1 + a1 * i) + a2


def mean_over_positions(positions: int, a0: float, a1: float, a2: float) -> float:
    """The test loss of a window is the mean of its positions' losses."""
    return sum(hyperbola_over_positions(i, a0, a1, a2) for i in range(1, positions + 1)) / positions


def multi_power(
    t: int, eta: Sequence[float], warmup_sum: float,
    *, l0: float, a: float, alpha: float, b: float, c: float, beta: float, gamma: float,
) -> float:  # fmt: skip
    """Multi-Power Law (arXiv 2503.12811) at step t; `eta` begins after warm-up, whose rates sum to `warmup_sum`.

    L(t) = L0 + A (S1 + SW)^-alpha - B sum_{k <= t} (eta_{k-1} - eta_k) G(eta_k^-gamma S_k(t)), with
    S_k(t) = sum_{j = k..t} eta_j and G(x) = 1 - (C x + 1)^-beta.
    """
    gain = 0.0
    for k in range(1, t):
        area = sum(eta[k:t])
        gain += (eta[k - 1] - eta[k]) * (1 - (c * eta[k] ** -gamma * area + 1) ** -beta)
    return float(l0 + a * (sum(eta[:t]) + warmup_sum) ** -alpha - b * gain)


def annealing(t: int, eta: Sequence[float], *, l0: float, a: float, alpha: float, c: float, decay: float) -> float:
    """Scaling with learning rate annealing (arXiv 2408.11029): L0 + A S1^-alpha - C S2.

    S2 = sum_{i <= t} m_i with the momentum m_i = decay m_{i-1} + (eta_{i-1} - eta_i).
    """
    momentum = area = 0.0
    for i in range(1, t):
        momentum = decay * momentum + (eta[i - 1] - eta[i])
        area += momentum
    return float(l0 + a * sum(eta[:t]) ** -alpha - c * area)


def kaplan(n: float, d: float, *, n_c: float, d_c: float, alpha_n: float, alpha_d: float) -> float:
    """Kaplan et al. (arXiv 2001.08361), equation 1.5: n parameters, d tokens."""
    return float(((n_c / n) ** (alpha_n / alpha_d) + d_c / d) ** alpha_d)


def chinchilla(n: float, d: float, *, e: float, a: float, b: float, alpha: float, beta: float) -> float:
    """Hoffmann et al. (arXiv 2203.15556), equation 2: L = E + A / N^alpha + B / D^beta."""
    return float(e + a / n**alpha + b / d**beta)


def data_constrained(
    n: float, d: float, unique: float,
    *, e: float, a: float, b: float, alpha: float, beta: float, r_n: float, r_d: float,
) -> float:  # fmt: skip
    """Muennighoff et al. (arXiv 2305.16264), equation 5: Chinchilla at the effective parameters and tokens.

    D' = U (1 + R*_D (1 - exp(-R_D / R*_D))) with R_D = D / U - 1 repetitions of U unique tokens; N' likewise, with
    U_N the parameters that are compute-optimal for U tokens, at most N.
    """
    from math import exp

    def effective(amount: float, base: float, scale: float) -> float:
        return base * (1 + scale * (1 - exp(-max(amount / base - 1, 0) / scale)))

    u = min(unique, d)
    u_n = min(n, (u * (b * beta / (a * alpha)) ** (-1 / beta)) ** (beta / alpha))
    return chinchilla(effective(n, u_n, r_n), effective(d, u, r_d), e=e, a=a, b=b, alpha=alpha, beta=beta)

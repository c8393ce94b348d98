"""Initial state matrices of S4: HiPPO-LegS and its diagonal relatives.

HiPPO-LegS (Gu et al. 2020, arXiv 2008.07669; as in S4, arXiv 2111.00396, eq. 2 and appendix C.1)

    A_nk = -sqrt((2n+1)(2k+1)) if n > k;  -(n+1) if n = k;  0 if n < k        B_n = sqrt(2n+1)

keeps the whole history of its input as coefficients of Legendre polynomials. It is not normal, but
`A + P P^T` with `P_n = sqrt(n + 1/2)` is: -1/2 on the diagonal plus a skew-symmetric matrix, so
that in the basis of its eigenvectors V

    V* A V = diag(lambda) - (V* P)(V* P)*        lambda_n = -1/2 + i omega_n

Eigenvalues come in conjugate pairs; everything here is the half with a positive imaginary part.

All are numpy arrays in double precision, so that they are the same under any device and dtype that
a model is built with.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]


class Legs(NamedTuple):
    """HiPPO-LegS as a diagonal less a matrix of rank one, each array `(state / 2,)`.

    Attributes:
        eigenvalues: lambda.
        low_rank: V* P.
        inputs: V* B.
    """

    eigenvalues: Complex
    low_rank: Complex
    inputs: Complex


def legs_matrices(state: int) -> tuple[Real, Real]:
    """HiPPO-LegS itself: A `(state, state)` and B `(state,)`."""
    n = np.arange(state, dtype=np.float64)
    root = np.sqrt(2 * n + 1)
    a = -np.tril(np.outer(root, root), -1) - np.diag(n + 1)
    return a, root


@cache
def legs(state: int) -> Legs:
    """HiPPO-LegS in the basis of its normal part's eigenvectors; `state` is even.

    An eigenvector is known up to a phase. Here it is the one that makes V* B positive, and with it
    V* P, because P is B / sqrt(2): the same on every machine.
    """
    a, b = legs_matrices(state)
    p = np.sqrt(np.arange(state) + 0.5)
    skew = a + np.outer(p, p) + 0.5 * np.eye(state)
    omega, vectors = np.linalg.eigh(-1j * skew)  # ascending: the positive half is behind
    omega, vectors = omega[state // 2 :], vectors[:, state // 2 :]
    inputs = vectors.conj().T @ b
    phase = inputs.conj() / np.abs(inputs)
    return Legs(-0.5 + 1j * omega, phase * (vectors.conj().T @ p), np.abs(inputs) + 0j)


def diagonal(kind: str, state: int) -> Complex:
    """Initial eigenvalues of S4D, `(state / 2,)` (arXiv 2206.11893).

    Args:
        kind: `legs`: those of HiPPO-LegS' normal part (S4D-LegS);
            `lin`: -1/2 + i pi n (S4D-Lin, a Fourier series);
            `inv`: -1/2 + i (N / pi) (N / (2n+1) - 1) (S4D-Inv, close to `legs`, in closed form).
        state: N, even.
    """
    n = np.arange(state // 2, dtype=np.float64)
    if kind == "legs":
        return legs(state).eigenvalues
    frequencies = np.pi * n if kind == "lin" else state / np.pi * (state / (2 * n + 1) - 1)
    return np.asarray(-0.5 + 1j * frequencies, dtype=np.complex128)

#!/usr/bin/env python3
"""Where the polynomials of exp and log come from, and how good the pinned ones are: SEMANTICS.md, section 3.

    pip install mpmath==1.4.1
    python3 scripts/fit_polynomials.py

For each function the minimax polynomial is found by Remez's exchange (several points at once; Remez 1934) with 60 digits, its coefficients are
rounded to float32, and both are set beside the pinned coefficients of kernels/src/math.rs. Errors are those of the formula in exact arithmetic:
what float32 adds while it is evaluated is measured over all inputs by the example `accuracy` of essaim-kernels. Fails when a coefficient
is further from the pinned one, or an error larger, than SEMANTICS.md says. Not run by the tests: the pinned bits are the definition.
"""

import struct
import sys
from dataclasses import dataclass
from typing import Callable

from mpmath import mp, mpf

mp.dps = 60
# Points of an interval among which the largest errors are looked for: by far more than the error has extrema.
GRID = 4000


def float32(bits: int) -> mpf:
    """The float32 with these bits."""
    return mpf(struct.unpack(">f", bits.to_bytes(4, "big"))[0])


def bits_of(value: mpf) -> int:
    """The bits of the float32 nearest to a value. (By way of binary64; a second rounding would take a coefficient closer than 2^-54 to a tie.)"""
    return int.from_bytes(struct.pack(">f", float(value)), "big")


@dataclass
class Fit:
    """`function(x) = head(x) + x^power P(x)` for x in low … high, with the relative error as small as it can be."""

    name: str
    function: Callable[[mpf], mpf]
    head: Callable[[mpf], mpf]
    power: int
    low: mpf
    high: mpf
    # Coefficients of P, lowest power first.
    pinned: list[int]
    # What SEMANTICS.md says at most: how far a pinned coefficient is from the minimax, relatively, and the largest error of the function.
    distance_max: mpf
    error_max: mpf

    def wanted(self, x: mpf) -> mpf:
        """What P should be."""
        return (self.function(x) - self.head(x)) / x**self.power

    def weight(self, x: mpf) -> mpf:
        """Relative error of the function for an error of 1 of P."""
        return x**self.power / self.function(x)

    def error(self, coefficients: list[mpf], x: mpf) -> mpf:
        """The relative error of the function at x."""
        return self.weight(x) * (mp.polyval(coefficients[::-1], x) - self.wanted(x))

    def grid(self) -> list[mpf]:
        """Chebyshev's points, without 0, where both sides of the definition are 0 divided by 0 and the error vanishes."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        points = [middle - half * mp.cos(mp.pi * i / GRID) for i in range(GRID + 1)]
        return [x for x in points if abs(x) > mpf(10) ** -12]


def largest(fit: Fit, coefficients: list[mpf], grid: list[mpf]) -> mpf:
    """The largest relative error over the interval."""
    return max(abs(fit.error(coefficients, x)) for x in grid)


def alternation(points: list[mpf], errors: list[mpf], count: int) -> list[mpf]:
    """The `count` neighbouring extrema of alternating sign whose smallest is largest."""
    runs: list[tuple[mpf, mpf]] = []
    for x, error in zip(points, errors):
        if runs and (runs[-1][1] > 0) == (error > 0):
            if abs(error) > abs(runs[-1][1]):
                runs[-1] = (x, error)
        else:
            runs.append((x, error))
    while len(runs) > count:
        runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
    return [x for x, _ in runs]


def remez(fit: Fit, grid: list[mpf]) -> list[mpf]:
    """The minimax coefficients, lowest power first."""
    terms = len(fit.pinned)
    points = [grid[i * (len(grid) - 1) // terms] for i in range(terms + 1)]
    for _ in range(30):
        rows = [[x**k for k in range(terms)] + [(-1) ** i / fit.weight(x)] for i, x in enumerate(points)]
        solution = list(mp.lu_solve(mp.matrix(rows), mp.matrix([fit.wanted(x) for x in points])))
        coefficients, level = solution[:terms], abs(solution[terms])
        errors = [fit.error(coefficients, x) for x in grid]
        if max(abs(error) for error in errors) < level * (1 + mpf(10) ** -6):
            return coefficients
        points = alternation(grid, errors, terms + 1)
        if len(points) <= terms:
            raise ArithmeticError(f"{fit.name}: the error does not alternate often enough")
    raise ArithmeticError(f"{fit.name}: no convergence")


FITS = [
    Fit(
        name="exp",
        function=mp.exp,
        head=lambda r: 1 + r,
        power=2,
        low=-mp.log(2) / 2,
        high=mp.log(2) / 2,
        pinned=[0x3EFFFFFE, 0x3E2AAA46, 0x3D2AAC2C, 0x3C091EF0, 0x3AB563A7],
        distance_max=mpf("1.8e-3"),
        error_max=mpf("3.19e-9"),
    ),
    Fit(
        name="log",
        function=lambda f: mp.log(1 + f),
        head=lambda f: f - f * f / 2,
        power=3,
        low=mp.sqrt(mpf(1) / 2) - 1,
        high=mp.sqrt(2) - 1,
        pinned=[0x3EAAAAAA, 0xBE800114, 0x3E4CD01B, 0xBE2A38C9, 0x3E116AAD, 0xBE06C99E, 0x3E02CDD2, 0xBD9C76F5],
        distance_max=mpf("9.7e-4"),
        error_max=mpf("1.26e-8"),
    ),
]


def report(fit: Fit) -> bool:
    """Prints coefficients and errors; whether they are what SEMANTICS.md says."""
    grid = fit.grid()
    minimax = remez(fit, grid)
    rounded = [float32(bits_of(value)) for value in minimax]
    pinned = [float32(bits) for bits in fit.pinned]
    distances = [abs(of_pinned / value - 1) for of_pinned, value in zip(pinned, minimax)]
    for power, (value, bits, distance) in enumerate(zip(minimax, fit.pinned, distances)):
        text = f"minimax {mp.nstr(value, 12)} = {bits_of(value):08x}, pinned {bits:08x}, {mp.nstr(distance, 2)} away"
        print(f"{fit.name} P[{power}]: {text}")
    for name, coefficients in [("minimax", minimax), ("minimax, rounded", rounded), ("pinned", pinned)]:
        error = largest(fit, coefficients, grid)
        print(f"{fit.name}: largest relative error of {name}: {mp.nstr(error, 4)} = 2^{mp.nstr(mp.log(error, 2), 4)}")
    return max(distances) <= fit.distance_max and largest(fit, pinned, grid) <= fit.error_max


def main() -> int | str:
    verdicts = [report(fit) for fit in FITS]
    return 0 if all(verdicts) else "a figure of SEMANTICS.md does not hold"


if __name__ == "__main__":
    sys.exit(main())

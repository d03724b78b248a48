"""A proof that a DEQ has one fixed point, written to a file, checked from there, and refused after tampering.

Prints:

    fixed points: 1 on (0, oo), proved
    tau* within 1e-30: True
    checked by the other engine: True
    after one digit was changed: rejected
    x^2 at sigma_b2 = 1/2: 2 on (0, 1000.0]
    GELU, as sigma_a2 grows: first comes chaos, at sigma_a2 = 2.00284
"""

from __future__ import annotations

import json
from pathlib import Path

import equikernel as ek


def main() -> None:
    """GELU at the default variances, then the two fixed points of the square."""
    proof = ek.certify(ek.DEQ("gelu"), digits=30)
    print(f"fixed points: {proof.count.number} on {proof.count.on}, proved")
    print(f"tau* within 1e-30: {bool(proof.enclosures['tau'].rad() < 1e-30)}")
    path = Path("gelu.json")
    path.write_text(json.dumps(proof.to_dict()), encoding="utf-8")
    record = json.loads(path.read_text(encoding="utf-8"))
    print(f"checked by the other engine: {ek.check_certificate(record).passed}")
    record["enclosures"]["alpha1"]["mid"] = record["enclosures"]["alpha1"]["mid"].replace("0.21", "0.22")
    print(f"after one digit was changed: {'confirmed' if ek.check_certificate(record).passed else 'rejected'}")
    square = ek.certify(ek.DEQ("square", sigma_a2="1/5", sigma_b2="1/2"))
    print(f"x^2 at sigma_b2 = 1/2: {square.count.number} on {square.count.on}")
    diagram = ek.phase_diagram("gelu")
    critical = diagram.to_dict()["transitions"][diagram.to_dict()["first"]]["sigma_a2"]["mid"]
    print(f"GELU, as sigma_a2 grows: first comes {diagram.to_dict()['first']}, at sigma_a2 = {float(critical):.6g}")


if __name__ == "__main__":
    main()

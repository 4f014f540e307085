"""The exponential Rosenbrock method of order five with three stages, as weights of three vectors.

With dZ/dt = F(Z), J the Jacobian at Z and x an eigenvalue of J, exprb53s3 of Luan & Ostermann
(J. Comput. Appl. Math. 255, 2014) has the stages

    Z_2 = Z + c_2 h φ_1(c_2 h J) F,
    Z_3 = Z + c_3 h φ_1(c_3 h J) F + h (27/25 φ_3(c_2 h J) + 729/125 φ_3(c_3 h J)) D_2,

c = (½, 9/10), and D_i = F(Z_i) − F − J (Z_i − Z) is what is not linear. Through D_2 and D_3 goes
the cubic D(τ) = d_2 τ² + d_3 τ³, and the variation of constants formula gives the step, at θ = 1,
and what lies inside it,

    Z(θh) = Z + θh φ_1(θhJ) F + h (2 θ³ φ_3(θhJ) d_2 + 6 θ⁴ φ_4(θhJ) d_3).

The functions below take the φ's at θ h x and give the weights of F, D_2 and D_3, for exact
eigenvectors (`dense`) and for Krylov spaces (`exponential`) alike.
"""

from __future__ import annotations

from mfbook.flow.shallow.compiled import compiled

C2, C3 = 0.5, 0.9


@compiled
def second_stage(h, phi):
    """The weight of F, with the φ's at c_2."""
    return C2 * h * phi[0]


@compiled
def third_stage(h, phi_early, phi_late):
    """The weights of F and D_2, with the φ's at c_2 and at c_3."""
    return C3 * h * phi_late[0], h * (27 / 25 * phi_early[2] + 729 / 125 * phi_late[2])


@compiled
def inside(h, theta, phi):
    """The weights of F, D_2 and D_3 in Z(θh) − Z, with the φ's at θ."""
    phi3, phi4 = phi[2], phi[3]
    second = h * (18 * theta**3 * phi3 - 60 * theta**4 * phi4)
    third = h * 250 / 81 * (6 * theta**4 * phi4 - theta**3 * phi3)
    return h * theta * phi[0], second, third


@compiled
def difference(h, phi):
    """The weights of D_2 and D_3 in the step less that of the embedded method of order three.

    The embedded method has D(τ) = 4 D_2 τ²; the φ's are those at θ = 1.
    """
    phi3, phi4 = phi[2], phi[3]
    return h * (10 * phi3 - 60 * phi4), h * 250 / 81 * (6 * phi4 - phi3)

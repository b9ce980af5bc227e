"""What does λ do in L = λ·MSE(F) + (1−λ)·MSE(E/N) (thesis Table 4.5)?"""

from sweeps import full_base, reduced_base, study

AXES = {"training.lambda": [0.0, 0.01, 0.03, 0.1, 0.5, 0.9, 1.0]}

if __name__ == "__main__":
    study(
        "ablation_lambda",
        str(__doc__),
        reduced={"base": reduced_base(stress_weight=0.0), "axes": AXES},
        full={"base": full_base(preset="thesis"), "axes": AXES},
    )

"""Numbers stay what they were: a change of structure changes no bit, and one of the order of arithmetic a rounding."""

from tests.samplers.reference import differences


def test_samples_are_those_of_the_loop_before_to_rounding():
    """The samples were stored before the loop was rebuilt.

    SecantLangevin (and with it the fast preset) divides differences of scores by differences of states, and twisted SMC
    weights by exponentials. Both enlarge roundings: there float32 keeps four digits, elsewhere six.
    """
    for name, error in differences().items():
        enlarged = any(part in name for part in ("fast", "secant", "tds"))
        bound = 1e-12 if "float64" in name else 1e-4 if enlarged else 2e-6
        assert error < bound, name

from dev import display
from dev.cluster import binaries


def test_an_estimate_goes_by_the_speed_of_the_programs_that_are_built() -> None:
    wanted = {"etcd", "prometheus"}
    cost = binaries.COSTS["etcd"]
    done, left = display.estimate(
        wanted, {"etcd": 0.0, "prometheus": 2.0 * cost}, {"etcd": 2.0 * cost}, now=2.0 * cost
    )
    assert done == cost / (cost + binaries.COSTS["prometheus"])
    assert left == 2.0 * binaries.COSTS["prometheus"]


def test_a_program_that_takes_longer_than_expected_never_counts_as_done() -> None:
    done, _ = display.estimate({"etcd"}, {"etcd": 0.0}, {}, now=1e6)
    assert 0.89 < done < 0.91


def test_nothing_is_estimated_in_the_first_seconds() -> None:
    assert display.estimate({"etcd", "kwok"}, {"etcd": 0.0}, {}, now=5.0)[1] is None

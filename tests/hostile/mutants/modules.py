"""The modules whose mutants are tried, and the tests that are to kill them."""

MODULES: dict[str, tuple[str, ...]] = {
    "distillation.stages": (
        "tests/distillation/test_stages.py",
        "tests/distillation/test_readings.py::test_stages_say_how_long_they_can_wait",
        "tests/distillation/test_readings.py::test_nothing_changes_before_a_rule_has_waited",
    ),
    "distillation.matching": ("tests/distillation/test_matching.py",),
    "distillation.updates": ("tests/distillation/test_updates.py",),
    "data.tree": ("tests/data/test_tree.py", "tests/data/test_schema.py"),
    "data.selection": ("tests/data/test_selection.py",),
    "data.votes": ("tests/data/test_votes.py", "tests/data/test_votes_limits.py", "tests/data/test_votes_counts.py"),
    "distillation.unroll": ("tests/distillation/test_unroll.py", "tests/distillation/test_unroll_budget.py"),
    "sets.coresets": ("tests/sets/test_coresets.py",),
    "augmentation": ("tests/test_augmentation.py",),
}
"""Module -> test files, or tests of others, that say what it does; what only other tests would notice is a survivor."""
SLOW = (
    "tests/data/test_votes.py::test_sdss_fits_table",
    "tests/distillation/test_unroll.py::test_the_networks_of_the_cross_architecture_evaluation",
)
"""Not among them: they take longer than all others together and go through the same lines."""

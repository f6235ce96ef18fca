from apps.exports.tolerances import FIGURES
from workers.export import certify, verdict


def test_a_quantised_model_under_zero_tolerance_is_rejected_and_the_program_ends_well(bench):
    zero = {"max_abs_difference": 0, "agreement": 1, "accuracy_drop": 0}
    ended = bench.export(optimisation="dynamic_int8", tolerances=zero)
    assert ended.code == 0, ended.log
    certificate = ended.certificate
    assert certificate["verdict"] == "rejected" and certificate["why"].startswith("Rejected: ")
    assert ended.figures["max_abs_difference"]["holds"] is False and ended.figures["max_abs_difference"]["used"] > 1
    assert 'Export with the optimisation "none", or allow' in certificate["why"]
    assert not (ended.out / "failure.json").exists()
    assert (ended.out / "model.onnx").exists()


def test_what_the_verdict_says_would_work_works(bench):
    limits = {"max_abs_difference": 0}
    why = bench.export(optimisation="dynamic_int8", tolerances=limits).certificate["why"]
    advised = float(why.split("max_abs_difference ")[1].rstrip("."))
    ended = bench.export(optimisation="dynamic_int8", tolerances={"max_abs_difference": advised})
    assert ended.figures["max_abs_difference"]["holds"] and ended.figures["max_abs_difference"]["used"] > 0.95


def table(limits, **values):
    return certify.figures(values, limits)


GAINED = {
    "size_bytes": certify.Value(97_800_000, 24_900_000, -72_900_000, 24_900_000),
    "latency_p50_ms": certify.Value(31.4, 11.8, -19.6, 11.8),
}
AGREEMENT = certify.Value(None, 1 - 43 / 2400, -43 / 2400, 1 - 43 / 2400, "43 of 2,400 differ")
CLASSES = [{"class": "burr", "changed": 12}, {"class": "hairline crack", "changed": 31}]


def test_a_rejection_names_the_figure_the_class_and_what_would_work():
    rows = table({"agreement": 0.99}, agreement=AGREEMENT, **GAINED)
    assert verdict.why(rows, CLASSES, 2400, "dynamic_int8") == (
        "Rejected: 98.2% of answers stayed the same, you asked for 99.0%. "
        '43 of 2,400 changed, 31 of them in "hairline crack". '
        'Export with the optimisation "none", or allow agreement 0.982.'
    )


def test_several_broken_figures_are_all_named():
    accuracy = certify.Value(0.9279, 0.9154, -0.0125, 0.0125)
    rows = table({"agreement": 0.99, "accuracy_drop": 0.01}, agreement=AGREEMENT, accuracy_drop=accuracy, **GAINED)
    assert verdict.why(rows, CLASSES, 2400, "none").endswith(
        "Accuracy is outside too. Allow agreement 0.982, accuracy_drop 0.0125, and export again."
    )


def test_lost_accuracy_is_told_in_points():
    accuracy = certify.Value(0.9279, 0.9154, -0.0125, 0.0125)
    rows = table({"accuracy_drop": 0.01}, accuracy_drop=accuracy, **GAINED)
    assert "accuracy fell by 1.25 points to 91.54%, you allowed 1.00." in verdict.why(rows, [], 2400, "none")


def test_a_pass_says_what_was_gained_and_what_is_close():
    accuracy = certify.Value(0.9279, 0.9254, -0.0025, 0.0025)
    agreement = certify.Value(None, 0.9908, -0.0092, 0.9908)
    rows = table({"agreement": 0.99, "accuracy_drop": 0.005}, agreement=agreement, accuracy_drop=accuracy, **GAINED)
    assert verdict.why(rows, [], 2400, "dynamic_int8") == (
        "3.9 times smaller and 2.7 times faster, for 0.25 points of accuracy. "
        "All 2 figures are inside your tolerances; same answer as the original close to the limit."
    )


def test_shares_that_round_alike_are_told_apart():
    assert verdict.percent_apart(0.98999, 0.99) == ("98.999%", "99.000%")


def test_the_order_of_the_table_is_that_of_the_pages():
    assert [figure.group for figure in FIGURES] == ["same"] * 3 + ["gained"] * 3

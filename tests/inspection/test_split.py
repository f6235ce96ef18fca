import numpy as np

from workers.inspection.prepared import SplitRule, stratified


def test_the_fraction_is_held_out_in_each_class():
    labels = np.repeat([0, 1, 2], [500, 100, 11]).astype(np.int64)
    split = stratified(labels, SplitRule(0.2, 7))
    assert split.sum() == 123  # a fifth of 611, rounded up
    assert [int(split[labels == index].sum()) for index in range(3)] in ([100, 20, 3], [101, 20, 2])


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    labels = (np.arange(300) % 3).astype(np.int64)
    first = stratified(labels, SplitRule(0.2, 7))
    assert (first == stratified(labels, SplitRule(0.2, 7))).all()
    assert (first != stratified(labels, SplitRule(0.2, 8))).any()


def test_a_class_keeps_an_item_to_learn_from():
    labels = np.array([0, 0, 0, 1], np.int64)
    split = stratified(labels, SplitRule(0.9, 7))
    assert split[3] == 0 and split[:3].sum() == 2

import numpy as np

from workers.inspection.example_digits import write_digits


def test_the_example_is_read_whole_with_its_split_recorded(inspect_dataset, tmp_path):
    path = tmp_path / "digits.npz"
    write_digits(path)
    ended = inspect_dataset(path.read_bytes(), filename="digits.npz")
    assert ended.code == 0, ended.log
    described = ended.described
    assert described["items"] == 1797 and described["shape"] == [1, 8, 8]
    assert described["splits"] == {"train": 1437, "held_out": 360}
    assert described["split"] == {"origin": "stratified", "seed": 7, "held_out_fraction": 0.2}
    assert described["value_range"] == [0, 16]
    assert described["classes"] == [str(digit) for digit in range(10)]
    labels, split, features = ended.array("labels"), ended.array("split"), ended.array("features")
    assert features.dtype == np.uint8 and features.shape == (1797, 1, 8, 8) and features.max() == 16
    assert split.sum() == 360
    held_out = np.bincount(labels[split == 1])
    assert held_out.min() >= 34 and held_out.max() <= 37
    assert ended.report["message"] == (
        "1,797 images in 10 classes, all readable. The smallest class has 174. 360 are held out."
    )
    assert all(check["ok"] for check in ended.report["checks"])
    assert ended.metrics[-1]["step"] == ended.metrics[-1]["total_steps"] == 1797

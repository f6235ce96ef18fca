import io
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest


def csv_of(*lines, header="width,height,label"):
    return "\n".join([header, *lines, ""]).encode()


ROWS = [f"{n}.5,{n * 2},{'big' if n % 2 else 'small'}" for n in range(10)]


def test_a_csv_of_numbers_is_a_table(inspect_dataset):
    ended = inspect_dataset(csv_of(*ROWS))
    assert ended.code == 0, ended.log
    assert ended.described["kind"] == "table" and ended.described["feature_names"] == ["width", "height"]
    assert ended.described["classes"] == ["big", "small"]
    assert ended.array("features").dtype == np.float32
    assert ended.array("features")[3].tolist() == [3.5, 6.0]


@pytest.mark.parametrize("encoded", [csv_of(*ROWS).replace(b",", b";"), b"\xef\xbb\xbf" + csv_of(*ROWS)])
def test_semicolons_and_byte_order_marks_are_read(inspect_dataset, encoded):
    assert inspect_dataset(encoded).described["feature_names"] == ["width", "height"]


def test_a_column_of_words_is_text(inspect_dataset):
    lines = [f'"it was {word}, all\nof it",{label}' for word, label in [("good", 1), ("bad", 0)] * 5]
    ended = inspect_dataset(csv_of(*lines, header="review,y"))
    assert ended.described["kind"] == "text" and ended.described["text_column"] == "review"
    texts = [json.loads(line) for line in (ended.out / "prepared" / "texts.jsonl").read_text().splitlines()]
    assert texts[0] == "it was good, all\nof it" and len(texts) == 10
    assert not (ended.out / "prepared" / "features.npy").exists()


def test_bad_rows_are_named_by_row(inspect_dataset):
    lines = [*ROWS, "x,1,big", "1,2", ",3,big", "1,2,", "nan,1,big", "1e99,1,big"]
    ended = inspect_dataset(csv_of(*lines))
    assert ended.code == 1 and ended.failure["failure"] == "BadRows"
    assert [(problem["row"], problem["what"]) for problem in ended.report["problems"]] == [
        (11, 'Row 11 can\'t be used: "width" is "x", which is no number.'),
        (12, "Row 12 can't be used: it has 2 fields, the first line has 3."),
        (13, 'Row 13 can\'t be used: "width" is empty.'),
        (14, 'Row 14 can\'t be used: "label" is empty.'),
        (15, 'Row 15 can\'t be used: "width" is nan.'),
        (16, 'Row 16 can\'t be used: "width" is 1e+99.'),
    ]
    assert ended.report["problems"][0]["fix"] == "Leave out the 6 bad rows, or upload the file again."


def test_bad_rows_can_be_left_out(inspect_dataset):
    ended = inspect_dataset(csv_of("x,1,big", *ROWS), skip_bad_rows=True)
    assert ended.code == 0 and ended.described["items"] == 10 and ended.report["left_out"] == 1
    assert ended.array("features")[0].tolist() == [0.5, 0.0]


def test_only_the_first_100_problems_are_listed(inspect_dataset):
    ended = inspect_dataset(csv_of(*ROWS * 20, *["x,1,big"] * 150))
    assert len(ended.report["problems"]) == 100 and ended.report["problem_count"] == 150
    assert "149 more" in ended.failure["message"]


def test_bytes_that_are_not_utf8_are_a_bad_row(inspect_dataset):
    content = csv_of(*["fine words here,1", "other words,0"] * 5, header="text,label") + b"caf\xe9 noir,1\n"
    ended = inspect_dataset(content)
    assert ended.report["problems"][0]["what"] == 'Row 11 can\'t be used: "text" holds bytes that are not UTF-8.'


def test_the_label_column_can_be_named(inspect_dataset):
    ended = inspect_dataset(csv_of(*ROWS, header="width,height,size"), label_column="size")
    assert ended.described["label_column"] == "size" and ended.described["classes"] == ["big", "small"]


def test_row_numbers_of_pandas_are_not_learnt_from(inspect_dataset):
    lines = [f"{n},{row}" for n, row in enumerate(ROWS)]
    ended = inspect_dataset(csv_of(*lines, header=",width,height,label"))
    assert ended.described["feature_names"] == ["width", "height"]
    assert ended.report["notes"] == ["Not used: the row numbers."]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (csv_of(*ROWS, header="width,height,size"), "Its columns are width, height, size. Name the one to learn"),
        (csv_of(*ROWS, header="1,2,3"), "its first line holds numbers"),
        (csv_of(*ROWS, header="a,a,label"), 'two columns named "a"'),
        (csv_of(*["a"] * 5, header="label"), "no column to learn from"),
        (csv_of(*[f"{n},Berlin,b{n % 2}" for n in range(9)], header="a,city,label"), 'such as "Berlin"'),
        (b"Dear reader,\nthis is a letter and no table.\n", "no column is named label"),
        (csv_of(), "holds 0 usable items"),
    ],
)
def test_a_csv_that_is_no_dataset_says_why(inspect_dataset, content, message):
    ended = inspect_dataset(content)
    assert ended.code == 1
    assert ended.failure["failure"] == "NotADataset" and message in ended.failure["message"]


def parquet(columns):
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), content)
    return content.getvalue()


def test_parquet_is_read(inspect_dataset):
    ended = inspect_dataset(parquet({"a": [0.5, 1.5] * 10, "b": list(range(20)), "target": [1.0, 0.0] * 10}))
    assert ended.described["format"] == "parquet" and ended.described["classes"] == ["0", "1"]
    assert ended.array("features")[1].tolist() == [1.5, 1.0]


def test_a_null_in_parquet_is_a_bad_row(inspect_dataset):
    ended = inspect_dataset(parquet({"a": [0.5, None] + [1.0] * 18, "label": ["x", "y"] * 10}))
    assert ended.report["problems"][0]["what"] == 'Row 2 can\'t be used: "a" is empty.'


def test_a_cut_parquet_is_refused(inspect_dataset):
    ended = inspect_dataset(parquet({"a": [0.5, 1.5] * 10, "label": [0, 1] * 10})[:-20])
    assert ended.failure["failure"] == "NotADataset" and "was cut short" in ended.failure["message"]


def lines_of(*values):
    return "\n".join(value if isinstance(value, str) else json.dumps(value) for value in values).encode()


def test_json_lines_of_text(inspect_dataset):
    ended = inspect_dataset(lines_of(*[{"text": f"n {n}", "label": n % 2} for n in range(10)]))
    assert ended.described["kind"] == "text" and ended.described["classes"] == ["0", "1"]


def test_json_lines_of_features(inspect_dataset):
    ended = inspect_dataset(lines_of(*[{"features": [n, n / 2], "label": "ab"[n % 2]} for n in range(10)]))
    assert ended.described["kind"] == "table" and ended.array("features")[3].tolist() == [3.0, 1.5]


def test_bad_json_lines_are_named(inspect_dataset):
    good = [{"features": [n, n], "label": n % 2} for n in range(10)]
    ended = inspect_dataset(lines_of(*good, "{broken", {"features": [1], "label": 0}, {"features": [1, 2]}, "[1]"))
    whats = [problem["what"] for problem in ended.report["problems"]]
    assert "Row 11 can't be used: it is no JSON" in whats[0]
    assert whats[1:] == [
        "Row 12 can't be used: it has 1 features, the first line has 2.",
        'Row 13 can\'t be used: it has no "label".',
        "Row 14 can't be used: it is no JSON object.",
    ]


def test_json_lines_without_text_or_features_are_refused(inspect_dataset):
    ended = inspect_dataset(lines_of({"a": 1, "label": 2}))
    assert "its lines hold a, label" in ended.failure["message"]

"""Rows of numbers or texts with a label: CSV, Parquet and JSON Lines, read one row at a time."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from workers.inspection.options import Read, Reading
from workers.inspection.prepared import ItemWriter
from workers.inspection.program import Refused

LABEL_COLUMNS = ("label", "target", "class", "y")
INDEX_COLUMNS = ("", "__index_level_0__")
"""What pandas calls the row numbers that it writes beside the data."""
MOST_COLUMNS = 10_000
MOST_LINE_CHARACTERS = 16 * 1024**2
SAMPLED_ROWS = 200
FLOAT32_MOST = float(np.finfo(np.float32).max)

Row = Sequence[Any] | str
"""The fields in the order of the columns, or why the row can't be read."""


class BadRow(Exception):
    """Why a row can't be used: the end of the sentence "Row 5 can't be used: "."""


@dataclass(frozen=True)
class Table:
    """`rows` can be gone through once; `position` of `total` says how far that is, in rows or in bytes."""

    columns: list[str]
    rows: Iterator[Row]
    position: Callable[[], int]
    total: int


def _not(message: str) -> Refused:
    return Refused("NotADataset", f"This file can't be used as a dataset: {message}")


def read_csv(reading: Reading) -> Read:
    csv.field_size_limit(MOST_LINE_CHARACTERS)
    with _text_file(reading.upload) as file:
        first = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",\t;", key=first.count), strict=True)
        try:
            columns = [name.strip() for name in next(reader)]
        except (csv.Error, StopIteration) as error:
            raise _not("its first line can't be read as column names.") from error
        if all(_is_number(name) for name in columns):
            raise _not(f'its first line holds numbers ("{first.strip()[:40]}"), not names. Add a line of column names.')
        rows = _csv_rows(reader, len(columns))
        return _read(reading, Table(columns, rows, file.buffer.tell, reading.upload.stat().st_size))  # type: ignore[attr-defined]


def _text_file(path: Path) -> IO[str]:
    """Bytes that are not UTF-8 come through as lone surrogates, so that one bad row does not end the reading."""
    file = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    if len(file.readline(MOST_LINE_CHARACTERS)) == MOST_LINE_CHARACTERS:
        file.close()
        raise _not(f"its first line is longer than {MOST_LINE_CHARACTERS:,} characters.")
    file.seek(0)
    return file


def _csv_rows(reader: Iterator[list[str]], width: int) -> Iterator[Row]:
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield str(error)
            continue
        if fields:  # an empty line is no row
            yield fields if len(fields) == width else f"it has {len(fields)} fields, the first line has {width}"


def read_parquet(reading: Reading) -> Read:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(reading.upload)
        total, done = file.metadata.num_rows, 0

        def rows() -> Iterator[Row]:
            nonlocal done
            for batch in file.iter_batches(batch_size=4096):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
                done += batch.num_rows

        return _read(reading, Table(file.schema_arrow.names, rows(), lambda: done, total))
    except (pyarrow.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise _not(f"the Parquet file is damaged or was cut short ({reason}). Upload it again.") from error


def read_json_lines(reading: Reading) -> Read:
    with _text_file(reading.upload) as file:
        lines = _json_objects(file)
        sample = list(islice(lines, SAMPLED_ROWS))
        first = next((value for value in sample if not isinstance(value, str)), None)
        if first is None:
            raise _not(f"in its first line, {sample[0] if sample else 'there is nothing'}.")
        label = _label_column(list(first), reading.options.label_column)
        other = next((name for name in ("text", "features") if name in first), None)
        if other is None:
            raise _not(
                f'its lines hold {", ".join(first)}. A line is {{"text": "...", "label": "..."}} or '
                '{"features": [0.1, 0.2], "label": "..."}.'
            )
        width = len(first[other]) if isinstance(first[other], list) else 0
        columns = [other] if other == "text" else [f"feature_{index}" for index in range(width)]
        rows = (_json_row(value, other, label, width) for value in chain(sample, lines))
        total = reading.upload.stat().st_size
        return _read(reading, Table([*columns, label], rows, file.buffer.tell, total), label)  # type: ignore[attr-defined]


def _json_objects(file: IO[str]) -> Iterator[dict[str, Any] | str]:
    for line in file:
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"it is no JSON ({error})"
            else:
                yield value if isinstance(value, dict) else "it is no JSON object"


def _json_row(value: dict[str, Any] | str, other: str, label: str, width: int) -> Row:
    if isinstance(value, str):
        return value
    for name in (other, label):
        if name not in value:
            return f'it has no "{name}"'
    if other == "text":
        return (value["text"], value[label])
    features = value["features"]
    if not isinstance(features, list) or len(features) != width:
        count = len(features) if isinstance(features, list) else "no"
        return f"it has {count} features, the first line has {width}"
    return (*features, value[label])


def _read(reading: Reading, table: Table, label_column: str | None = None) -> Read:
    """Decides from the first rows whether the items are texts or numbers, then writes them."""
    _check_columns(table.columns)
    label = label_column or _label_column(table.columns, reading.options.label_column)
    sample = list(islice(table.rows, SAMPLED_ROWS))
    whole = [row for row in sample if not isinstance(row, str)]
    others = [name for name in table.columns if name != label and name not in INDEX_COLUMNS]
    worded = [name for name in others if _holds_words([row[table.columns.index(name)] for row in whole])]
    text = next((name for name in worded if name.lower() == "text" or others == [name]), None)
    if not others or (worded and text is None):
        raise _not(_no_features(label, worded, whole, table.columns))
    used = [text] if text else others
    left_out = [name for name in table.columns if name != label and name not in used]
    places = [table.columns.index(name) for name in used]
    items = ItemWriter(reading.tree, None if text else (len(used),))
    for number, row in enumerate(chain(sample, table.rows), 1):
        try:
            fields = _whole(row)
            name = _text(fields[table.columns.index(label)], label).strip()
            if text:
                items.add(_text(fields[places[0]], text), name)
            else:
                items.add(np.array([_number(fields[p], c) for p, c in zip(places, used, strict=True)]), name)
        except BadRow as error:
            reading.problems.add(number, f"Row {number:,} can't be used: {error}.")
        reading.progress(min(table.position(), table.total - 1), table.total)
    reading.progress(table.total, table.total)
    facts = {"label_column": label} | ({"text_column": text} if text else {"feature_names": used})
    notes = [f"Not used: {', '.join(name or 'the row numbers' for name in left_out)}."] if left_out else []
    return Read("text" if text else "table", "texts" if text else "rows", items, facts, notes)


def _check_columns(columns: list[str]) -> None:
    if len(columns) > MOST_COLUMNS:
        raise _not(f"it has {len(columns):,} columns; the most is {MOST_COLUMNS:,}.")
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise _not(f'it has two columns named "{repeated[0]}". Give each its own name.')
    try:
        "".join(columns).encode()
    except UnicodeEncodeError as error:
        raise _not("its column names are not UTF-8. Save it as UTF-8.") from error


def _label_column(columns: list[str], wanted: str | None) -> str:
    named = [name for name in columns if (name == wanted if wanted else name.lower() in LABEL_COLUMNS)]
    if named:
        return named[0]
    shown = ", ".join(columns[:20])[:200]
    missing = f'it has no column "{wanted}"' if wanted else "no column is named label, target, class or y"
    raise _not(f"{missing}. Its columns are {shown}. Name the one to learn in label_column.")


def _no_features(label: str, worded: list[str], rows: list[Sequence[Any]], columns: list[str]) -> str:
    if not worded:
        return f'beside "{label}" it has no column to learn from. Add columns of numbers, or one named text.'
    column = columns.index(worded[0])
    example = str(next((row[column] for row in rows if row[column]), ""))[:40]
    return (
        f'its column "{worded[0]}" holds words, such as "{example}". Write it as numbers, leave it out, '
        "or name it text if the words are what to learn from."
    )


def _holds_words(values: list[Any]) -> bool:
    """Most of the values that are there are no numbers; a stray one among numbers is a bad row."""
    present = [value for value in values if value is not None and value != ""]
    return sum(not _is_number(value) for value in present) * 2 > len(present)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _whole(row: Row) -> Sequence[Any]:
    if isinstance(row, str):
        raise BadRow(row)
    return row


def _number(value: Any, column: str) -> float:
    if value is None or value == "":
        raise BadRow(f'"{column}" is empty')
    if not _is_number(value):
        raise BadRow(f'"{column}" is "{_printable(value)}", which is no number')
    number = float(value)
    if math.isnan(number) or abs(number) > FLOAT32_MOST:
        raise BadRow(f'"{column}" is {number}')
    return number


def _text(value: Any, column: str) -> str:
    if value is None or value == "":
        raise BadRow(f'"{column}" is empty')
    if isinstance(value, list | dict | bytes):
        raise BadRow(f'"{column}" is no text')
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f'"{column}" holds bytes that are not UTF-8') from error
    return text


def _printable(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()[:40]

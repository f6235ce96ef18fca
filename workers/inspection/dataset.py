"""Reads an uploaded dataset, checks it row by row, and writes it in the prepared form.

Input: `upload`. Outputs: `report.json` (always) and `prepared` (a tree, when the upload is a dataset).
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from workers.inspection import prepared
from workers.inspection.contents import format_of, pickle_message
from workers.inspection.options import Options, Read, Reading
from workers.inspection.program import Program, Refused, run, say

TAKEN = "Upload an npz, a zip of image folders, CSV, Parquet or JSON Lines."
SAVE_ARRAYS = 'Save the arrays with np.savez("data.npz", features=x, labels=y), and upload that.'
REFUSED = {
    "empty": f"The file is empty. {TAKEN}",
    "npy": f"The file is one NumPy array, without labels. {SAVE_ARRAYS}",
    "json": 'The file is one JSON value. Write JSON Lines: one object like {"text": "...", "label": "..."} a line.',
    "image": "The file is one image. Zip a folder that has one folder of images a class, and upload that.",
    "utf16": "The file is text in UTF-16. Save it as UTF-8, and upload that.",
    "office": "The file is an Office document. Save the sheet as CSV, and upload that.",
    "hdf5": f"The file is HDF5. {SAVE_ARRAYS}",
    "tar": "The file is a tar. Zip the image folder, and upload that.",
    "safetensors": "The file is safetensors: a model's weights. Upload it under Models.",
    "pt2": "The file is a torch program, not data. Upload models under Models.",
    "keras": "The file is a Keras model, not data. Upload models under Models.",
    "savedmodel": "The file is a TensorFlow model, not data. Upload models under Models.",
    **dict.fromkeys(
        ("gzip", "bzip2", "xz", "7z", "rar"), f"The file is compressed in a way that isn't read. Unpack it. {TAKEN}"
    ),
}


def readers() -> dict[str, Callable[[Reading], Read]]:
    """Imported when needed only: a CSV needs no image library."""
    from workers.inspection import arrays, images, tables

    return {
        "npz": arrays.read,
        "zip": images.read,
        "csv": tables.read_csv,
        "parquet": tables.read_parquet,
        "jsonlines": tables.read_json_lines,
    }


def main(program: Program) -> None:
    started = time.monotonic()
    tree = program.outputs / "prepared"
    reading: Reading | None = None
    found = "unknown"
    try:
        options = Options.from_hyperparameters(program.hyperparameters)
        reading = Reading(program.inputs / "upload", tree, options, program)
        found = format_of(reading.upload)
        report = inspect(reading, found)
    except Refused as refused:
        shutil.rmtree(tree, ignore_errors=True)
        problems = reading.problems if reading else prepared.Problems()
        report = {"ok": False, "format": found, **problems_of(problems), "message": refused.message}
        program.write_json("report.json", report)
        raise
    report["seconds"] = round(time.monotonic() - started, 2)
    program.write_json("report.json", report)
    say(report["message"])


def problems_of(problems: prepared.Problems) -> dict[str, Any]:
    return {"problems": problems.to_json(), "problem_count": problems.total}


def inspect(reading: Reading, found: str) -> dict[str, Any]:
    """The report of a sound dataset, with `prepared` written. Raises Refused."""
    filename = reading.options.filename
    if found in ("pickle", "torch"):
        raise Refused("PickleRefused", pickle_message(filename, SAVE_ARRAYS))
    reader = readers().get(found)
    if reader is None:
        reason = REFUSED.get(found, f"The file is of no known kind. {TAKEN}")
        raise Refused("NotADataset", f"{filename} is no dataset. {reason}")
    read = reader(reading)
    problems = reading.problems
    if problems.total and not reading.options.skip_bad_rows:
        read.items.finish()
        first = problems.listed[0]["what"]
        others = f" So it is with {problems.total - 1:,} more." if problems.total > 1 else ""
        raise Refused("BadRows", f"{first}{others} {problems.fix} (skip_bad_rows), or upload the file again.")
    described = prepared.finish(read.items, read.kind, reading.options.split, {"format": found, **read.facts})
    return reported(reading, read, described)


def reported(reading: Reading, read: Read, described: dict[str, Any]) -> dict[str, Any]:
    counts, items = described["class_counts"], described["items"]
    smallest = min(counts, key=lambda name: (counts[name], name))
    left_out = reading.problems.total
    state = f"{left_out:,} left out" if left_out else "all readable"
    return {
        "ok": True,
        **{name: described[name] for name in ("format", "kind", "items", "classes", "class_counts", "splits", "shape")},
        "smallest_class": {"class": smallest, "items": counts[smallest]},
        "split": described["split"],
        "left_out": left_out,
        **problems_of(reading.problems),
        "checks": checks(read, described, left_out),
        "notes": read.notes,
        "message": f"{items:,} {read.noun} in {len(counts):,} classes, {state}. "
        f"The smallest class has {counts[smallest]:,}. {described['splits']['held_out']:,} are held out.",
    }


def checks(read: Read, described: dict[str, Any], left_out: int) -> list[dict[str, Any]]:
    """What was looked at: title, what was found, and whether that is as it should be."""
    repeated = prepared.repeated_across_splits(read.items)
    alone = sorted(name for name, count in described["class_counts"].items() if count < 2)
    noun, items = read.noun, described["items"]
    found = [
        (f"All {noun} can be read", f"{items:,} of {items + left_out:,}", not left_out),
        (f"Same {noun} in both splits", f"{repeated:,}" if repeated else "none", not repeated),
        ("Classes with one item", ", ".join(alone[:5]) if alone else "none", not alone),
    ]
    if described["shape"]:
        found.append((f"Shape of all {noun}", " x ".join(map(str, described["shape"])), True))
    if "value_range" in described:
        found.append(("Values", "{:g} to {:g}".format(*described["value_range"]), True))
    return [{"title": title, "found": text, "ok": good} for title, text, good in found]


if __name__ == "__main__":
    sys.exit(run(main))

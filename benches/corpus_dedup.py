#!/usr/bin/env python3
"""Deduplication, stage by stage, in turn with datatrove's MinHash on the same documents: one core, the published settings of both
(5-grams, 14 bands of 8), and decontamination by 13-grams. Compares times, and what the two call duplicates and contaminated.

    python3 benches/corpus_dedup.py FOLDER [--rounds 3] [--limit N] [--python PYTHON] [--json FILE]

FOLDER has parquet files in the Lucie layout (id, language, text). PYTHON is one with datatrove, spacy, xxhash and pyarrow (default: the
one that runs this; `pip install datatrove[processing,multilingual] spacy`). datatrove runs once for each language, as FineWeb-2 does, over
documents that are in memory already; its times are those of its steps' run(), without start-up or the loading of tokenizers. Ours are
printed by `cargo run --release -p essaim-corpus --example dedup_stages`. Run it on a machine that does nothing else.
"""
import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STAGES = ["signatures", "buckets", "cluster", "filter"]
NAMES = {"fr": "fra", "de": "deu", "es": "spa", "en": "eng", "it": "ita", "nl": "nld", "pt": "por"}


def one_core():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def build():
    command = ["cargo", "build", "--release", "-p", "essaim-corpus", "--example", "dedup_stages", "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "dedup_stages")


def to_jsonl(folder, limit, path):
    import pyarrow.parquet as parquet

    count = 0
    with open(path, "w") as out:
        for file in sorted(pathlib.Path(folder).glob("**/*.parquet")):
            rows = parquet.read_table(file, columns=["id", "language", "text"]).to_pylist()
            for row in rows[:limit]:
                row["id"] = f"{file.relative_to(folder)}:{row['id']}"
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    return count


def contaminated(documents, folder, seconds):
    """Ids of documents with a 13-gram of any hundredth document by id; the filter is timed, and its index not."""
    import numpy
    from datatrove.data import Document
    from datatrove.pipeline.decont import NGramsDecontFilter
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig
    from datatrove.utils.text import ngrams, simplify_text

    rows = sorted(map(json.loads, open(documents)), key=lambda row: row["id"])
    filters = {}
    config = NGramsDecontConfig(n_grams=13)

    def of(language):
        name = NAMES.get(language, "eng")
        if name not in filters:
            filters[name] = NGramsDecontFilter(str(folder), config, language=name)
            filters[name].tokenizer.word_tokenize("a b c")
        return filters[name]

    hashes = set()
    for row in rows[::100]:
        step = of(row["language"])
        words = step.tokenizer.word_tokenize(simplify_text(row["text"], config.norm_config))
        hashes.update(step.hash_func(" ".join(gram)) for gram in ngrams(words, 13))
    pathlib.Path(folder).mkdir(parents=True)
    numpy.array(sorted(hashes), dtype=config.hash_config.np_descr).tofile(pathlib.Path(folder) / "items.index.hashes")
    checked = [(of(row["language"]), Document(text=row["text"], id=row["id"])) for place, row in enumerate(rows) if place % 100]
    for step in filters.values():
        step.load_index_hashes()
    begin = time.perf_counter()
    found = [document.id for step, document in checked if step.filter(document) is not True]
    seconds["decontaminate"] = time.perf_counter() - begin
    return found


def datatrove(documents, folder):
    """All four steps for each language; prints times and, for each document of a cluster, its cluster."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.logging import logger

    logger.remove()
    by_language = collections.defaultdict(list)
    path = documents
    for line in open(path):
        row = json.loads(line)
        by_language[row["language"]].append(Document(text=row["text"], id=row["id"]))
    seconds = collections.Counter()
    clusters, removed = {}, []
    for language, documents in sorted(by_language.items()):
        config = minhash.MinhashConfig()
        place = pathlib.Path(folder) / language
        signatures = minhash.MinhashDedupSignature(str(place / "s"), config, language=NAMES.get(language, "eng"))
        signatures.get_shingles("a b c d e f")  # loads the tokenizer

        begin = time.perf_counter()
        signatures.run(iter(documents))
        seconds["signatures"] += time.perf_counter() - begin

        begin = time.perf_counter()
        for bucket in range(config.num_buckets):
            minhash.MinhashDedupBuckets(str(place / "s"), str(place / "b"), config=config).run(None, bucket, config.num_buckets)
        seconds["buckets"] += time.perf_counter() - begin

        begin = time.perf_counter()
        minhash.MinhashDedupCluster(str(place / "b"), str(place / "c"), config, save_cluster_id=True, save_cluster_size=True).run()
        seconds["cluster"] += time.perf_counter() - begin

        begin = time.perf_counter()
        kept = list(minhash.MinhashDedupFilter(str(place / "c")).run(iter(documents)))
        seconds["filter"] += time.perf_counter() - begin
        left = {document.id for document in kept}
        removed += [document.id for document in documents if document.id not in left]
        if (place / "c" / "000000.clusters").exists():
            pairs = memoryview((place / "c" / "000000.clusters").read_bytes()).cast("I")
            for number, cluster in zip(pairs[::2], pairs[1::2]):
                clusters[documents[number].id] = f"{language}-{cluster}"
    found = contaminated(path, pathlib.Path(folder) / "ngrams", seconds)
    print(json.dumps({**seconds, "contaminated": found, "removed": removed, "clusters": clusters}))


def our_clusters(path):
    """Clusters within a language, as datatrove knows them: what hangs together by `of`, exact copies included."""
    fates = {row["id"]: row for row in map(json.loads, open(path))}

    def root(name):
        while fates[name]["of"]:
            name = fates[name]["of"]
        return name

    groups = collections.defaultdict(list)
    for name in fates:
        groups[root(name)].append(name)
    return {name: head for head, names in groups.items() if len(names) > 1 for name in names}, fates


def pairs(clusters):
    groups = collections.defaultdict(list)
    for name, cluster in clusters.items():
        groups[cluster].append(name)
    return {(a, b) for names in groups.values() for i, a in enumerate(sorted(names)) for b in sorted(names)[i + 1 :]}


def compare(decisions, theirs, languages):
    clusters, fates = our_clusters(decisions)
    ours, other = pairs(clusters), pairs(theirs["clusters"])
    ours_within = {(a, b) for a, b in ours if languages[a] == languages[b]}
    kinds = collections.Counter(fate["fate"] for fate in fates.values())
    print(f"dropped: ours {kinds['exact']} exact + {kinds['near']} near, datatrove {len(theirs['removed'])}")
    print(f"pairs in a common cluster: both {len(ours_within & other)}, only ours {len(ours_within - other)}, only datatrove {len(other - ours_within)}")
    across = sum(1 for name, fate in fates.items() if fate["fate"] == "exact" and languages[name] != languages[fate["of"]])
    print(f"of ours {across} have the text of a document in another language; datatrove, run for each language, does not look there")
    print(f"pairs of ours in two languages in a common cluster: {len(ours - ours_within)}")
    dirty, dirty_theirs = {name for name, fate in fates.items() if fate["contaminated"]}, set(theirs["contaminated"])
    print(f"contaminated: both {len(dirty & dirty_theirs)}, only ours {len(dirty - dirty_theirs)}, only datatrove {len(dirty_theirs - dirty)}")
    return {"contaminated_ours": sorted(dirty - dirty_theirs), "contaminated_theirs": sorted(dirty_theirs - dirty), "ours": kinds, "datatrove": len(theirs["removed"]), "both": len(ours_within & other), "only_ours": sorted(ours_within - other), "only_datatrove": sorted(other - ours_within), "across": sorted(ours - ours_within)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="documents taken of each file at most")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--ours", help="a built dedup_stages; default: cargo builds it")
    parser.add_argument("--json")
    parser.add_argument("--datatrove", metavar="DOCUMENTS", help=argparse.SUPPRESS)
    parser.add_argument("--jsonl", metavar="OUT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.jsonl:
        return print(to_jsonl(args.folder, args.limit, args.jsonl))
    if args.datatrove:
        one_core()
        return datatrove(args.datatrove, args.folder)

    stages = args.ours or build()
    rounds = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        documents = work / "documents.jsonl"
        limit = ["--limit", str(args.limit)] if args.limit else []
        subprocess.run([args.python, __file__, args.folder, "--jsonl", str(documents), *limit], check=True, stdout=subprocess.DEVNULL)
        for number in range(args.rounds):
            ours = subprocess.run(
                [stages, documents, work / f"ours-{number}", work / "decisions.jsonl"], stdout=subprocess.PIPE, check=True, preexec_fn=one_core
            )
            theirs = subprocess.run(
                [args.python, __file__, work / f"theirs-{number}", "--datatrove", documents], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
            )
            ours, theirs = json.loads(ours.stdout), json.loads(theirs.stdout.splitlines()[-1])
            ours["signatures"] = ours["sketch"] + ours["write"]
            ours["buckets"] = ours["bands"]
            rounds.append((ours, theirs))
        languages = {row["id"]: row["language"] for row in map(json.loads, open(documents))}
        ours = rounds[0][0]
        print(f"{ours['documents']} documents, {ours['bytes'] / 1e6:.1f} MB, {args.rounds} rounds, medians")
        print(f"{'stage':<14}{'ours s':>10}{'datatrove s':>13}{'ratio':>9}{'ours MB/s':>11}{'datatrove MB/s':>16}{'ours docs/s':>13}")
        report = {}
        for stage in [*STAGES, "all four", "decontaminate"]:
            of = lambda times: sum(times[s] for s in STAGES) if stage == "all four" else times[stage]
            a = statistics.median(of(ours) for ours, _ in rounds)
            b = statistics.median(of(theirs) for _, theirs in rounds)
            ratio = statistics.median(of(theirs) / of(ours) for ours, theirs in rounds)
            megabytes = ours["bytes"] / 1e6
            print(f"{stage:<14}{a:>10.4f}{b:>13.3f}{ratio:>9.1f}{megabytes / a:>11.1f}{megabytes / b:>16.2f}{ours['documents'] / a:>13.0f}")
            report[stage] = {"ours": a, "datatrove": b, "ratio": ratio}
        report["compare"] = compare(work / "decisions.jsonl", rounds[-1][1], languages)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

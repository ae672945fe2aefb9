#!/usr/bin/env python3
"""A whole build of a corpus much larger than the memory that it may have: every stage, under a hard limit, with the resident memory of each.

    cargo build --release -p essaim-corpus
    python3 benches/corpus_memory.py --scratch FOLDER --gb 5 --limit-mb 250

Makes GB of text in FOLDER out of a folder of parquet documents (default: ../shared/corpus), as JSON lines with gzip: runs of at most eight
words of documents of the same language, drawn by a fixed seed, as long as the document that gives its source and licence. So no two are near
each other by chance, and few 13-grams recur. Of a hundred documents two repeat the text of an earlier one, anywhere in the corpus, and three
have it with a few words more. French has three times its share. Then builds it: licences, languages, filters, personal data, exact and near
duplicates, decontamination, tokenizer, shards, texts. The same GB and seed give the same documents.

The limit is a memory control group (version 1 or 2) where one may be made, as root may: what goes beyond it is killed. The cache of files counts
there, too, but is given back under pressure. Elsewhere it is only compared with what was resident at most. Needs pyarrow. FOLDER takes two to three
times the text while it runs; what was made there is removed at the end.
"""
import argparse
import collections
import concurrent.futures
import gzip
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_TEXT = 64 << 20  # text of a file, about, bytes
LANGUAGE_MIN = 1 << 20  # a language with less text is left out
FILE_BITS = 24  # a document's number is its file's, and so many bits of its place in the file
EARLY = 8192  # a file has more documents than this: those that others repeat
WORDS = 8  # words that stay together
SETTINGS = """
[heldout]
documents_max = {heldout}
[[source]]
path = "texts"
filters = "web-memory"
[filters.web-memory]
base = "web"
use = {filters}
gopher-quality = {{ alphabetic_words_min = 0.6 }}
"""
# Those of FineWeb, but for the ones that want sentences and paragraphs of prose: the words are drawn.
FILTERS = ["gopher-repetition", "gopher-quality"]


def templates(folder):
    """By language: documents without their texts, their lengths, and the runs of words that texts are made of."""
    import pyarrow.parquet as parquet

    languages = collections.defaultdict(lambda: ([], [], []))
    for path in sorted(folder.glob("**/*.parquet")):
        for row in parquet.read_table(path).to_pylist():
            documents, lengths, runs = languages[row["language"]]
            text = row.pop("text")
            documents.append(row)
            lengths.append(len(text.encode()))
            for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
                words = sentence.split()
                for at in range(0, len(words), WORDS):
                    last = at + WORDS >= len(words)
                    runs.append(" ".join(words[at : at + WORDS]) + ("\n" if last and len(runs) % 3 == 0 else " "))
    return {language: value for language, value in sorted(languages.items()) if sum(value[1]) >= LANGUAGE_MIN}


class Maker:
    """Makes document after document, each from its number alone."""

    def __init__(self, languages, seed):
        self.seed, self.languages, self.names = seed, languages, list(languages)
        shares = [(3 if name == "fr" else 1) * len(languages[name][0]) for name in self.names]
        self.bounds = [sum(shares[: i + 1]) for i in range(len(shares))]
        self.runs = {name: (value[2], sum(len(run.encode()) for run in value[2]) / len(value[2])) for name, value in languages.items()}

    def text(self, number):
        draw = random.Random(f"{self.seed} {number}")
        name = draw.choices(self.names, cum_weights=self.bounds)[0]
        documents, lengths, _ = self.languages[name]
        at = draw.randrange(len(documents))
        runs, mean = self.runs[name]
        return documents[at], "".join(draw.choices(runs, k=max(1, int(lengths[at] / mean)))).strip(), draw, runs

    def document(self, number):
        template, text, draw, _ = self.text(number)
        kind = draw.random()
        if kind < 0.05:
            file = draw.randrange((number >> FILE_BITS) + 1)
            template, text, _, runs = self.text((file << FILE_BITS) + draw.randrange(EARLY))
            if kind < 0.03:
                text += "\n" + draw.choice(runs).strip()
        return template | {"id": f"{template['id']}#{number}", "text": text}


MAKER = None


def start(corpus, seed):
    global MAKER
    MAKER = Maker(templates(corpus), seed)


def write(path, first):
    """Writes a file; tells its documents and the bytes of their texts."""
    count = size = 0
    with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as out:
        while size < FILE_TEXT:
            document = MAKER.document(first + count)
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
            count += 1
            size += len(document["text"].encode())
    return count, size


def make(corpus, to, size, seed):
    to.mkdir()
    # Numbers of a file begin where no other's are, as nobody knows how many documents it takes.
    files = [(to / f"{i:04}.jsonl.gz", i << FILE_BITS) for i in range(max(1, round(size / FILE_TEXT)))]
    with concurrent.futures.ProcessPoolExecutor(initializer=start, initargs=(corpus, seed)) as pool:
        done = list(pool.map(write, *zip(*files)))
    return sum(count for count, _ in done), sum(size for _, size in done)


class Group:
    """A memory control group, if one may be made."""

    def __init__(self, limit):
        self.path, name = None, f"essaim-corpus-memory-{os.getpid()}"
        first, second = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
        self.old = first.is_dir()
        path = (first if self.old else second) / name
        try:
            path.mkdir()
            self.path = path
            (path / ("memory.limit_in_bytes" if self.old else "memory.max")).write_text(str(limit))
            swap = path / ("memory.memsw.limit_in_bytes" if self.old else "memory.swap.max")
            if swap.exists():
                swap.write_text(str(limit) if self.old else "0")
        except OSError as error:
            print(f"no control group ({error}): the limit is not enforced, only compared", file=sys.stderr)
            self.close()

    def enter(self):
        if self.path:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        text = (self.path / ("memory.oom_control" if self.old else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))

    def close(self):
        if self.path:
            self.path.rmdir()
        self.path = None


class Watched:
    """A process: resident memory at most and seconds, by stage. Stages are the lines that it writes as it begins them."""

    def __init__(self, command, group):
        self.began, self.stages, self.said = time.perf_counter(), [("start", 0.0, 0)], []
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=group.enter)
        threading.Thread(target=self.listen, daemon=True).start()
        status = pathlib.Path(f"/proc/{self.process.pid}/status")
        while True:
            pid, self.status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.seconds, self.resident = time.perf_counter() - self.began, usage.ru_maxrss << 10
                self.cpu = usage.ru_utime + usage.ru_stime
                return
            try:
                line = next((line for line in status.read_text().splitlines() if line.startswith("VmRSS")), None)
            except OSError:
                line = None
            if line:
                name, at, most = self.stages[-1]
                self.stages[-1] = (name, at, max(most, int(line.split()[1]) << 10))
            time.sleep(0.01)

    def listen(self):
        for line in self.process.stderr:
            found = re.fullmatch(r" *[0-9.]+ s  (.+)\n", line)
            if found:
                self.stages.append((found[1], time.perf_counter() - self.began, 0))
            else:
                self.said.append(line.strip())


def report(made, seconds, watched, limit, group, out):
    documents, size = made
    mb = lambda size: f"{size / 1e6:,.1f} MB"
    print(f"text: {mb(size)} in {documents:,} documents, made in {seconds:.0f} s")
    print(f"limit: {mb(limit)}, {'enforced by a control group' if group.path else 'not enforced'}; {size / limit:.1f} times that of text")
    for (name, at, most), end in zip(watched.stages, [at for _, at, _ in watched.stages[1:]] + [watched.seconds]):
        print(f"  {name:34} {end - at:8.1f} s {mb(most):>12} resident at most, sampled")
    print(f"whole build: {watched.seconds:.1f} s ({watched.cpu:.1f} s of processors), {mb(watched.resident)} resident at most")
    print(f"text / resident: {size / watched.resident:.1f}; killed: {group.kills() if group.path else 0} times")
    if watched.status != 0:
        sys.exit(f"the build failed ({watched.status}): {' '.join(watched.said[-3:])}")
    print("; ".join(watched.said) or "no warning")
    tally = json.loads((out / "facts.json").read_text())["tally"]
    rules = collections.Counter()
    for key, count in tally:
        rules[key["rule"].split("/")[0]] += count["documents"]
    print("documents by what became of them: " + ", ".join(f"{rule} {count:,}" for rule, count in rules.most_common()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=pathlib.Path, required=True, help="a folder for everything; made, and removed at the end")
    parser.add_argument("--corpus", type=pathlib.Path, default=ROOT / "../shared/corpus")
    parser.add_argument("--gb", type=float, default=1, help="text, 10^9 bytes")
    parser.add_argument("--limit-mb", type=float, default=1024, help="10^6 bytes")
    parser.add_argument("--memory", type=int, default=64, help="--memory of the build, MiB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heldout", type=int, default=500, help="documents held out in a language at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/essaim-corpus")
    parser.add_argument("--keep-texts", action="store_true", help="leave the texts, and take those that are there")
    args = parser.parse_args()
    args.scratch.mkdir(exist_ok=args.keep_texts)
    texts, noted = args.scratch / "texts", args.scratch / "made.json"
    group = Group(int(args.limit_mb * 1e6))
    try:
        began = time.perf_counter()
        if not noted.exists():
            noted.write_text(json.dumps(make(args.corpus, texts, args.gb * 1e9, args.seed)))
        made, seconds = json.loads(noted.read_text()), time.perf_counter() - began
        settings = args.scratch / "corpus.toml"
        settings.write_text(SETTINGS.format(heldout=args.heldout, filters=json.dumps(FILTERS)))
        out = args.scratch / "dataset"
        command = [args.binary, "build", settings, "--out", out, "--threads", args.threads, "--memory", args.memory]
        watched = Watched([str(part) for part in command], group)
        report(made, seconds, watched, args.limit_mb * 1e6, group, out)
    finally:
        group.close()
        for name in ["dataset", "dataset.work", "dataset.partial"]:
            shutil.rmtree(args.scratch / name, ignore_errors=True)
        if not args.keep_texts:
            shutil.rmtree(args.scratch, ignore_errors=True)


if __name__ == "__main__":
    main()

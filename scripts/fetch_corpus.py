#!/usr/bin/env python3
"""Fetches free French-centred text from Debian's packages, for a machine that has no corpus at hand.

    python3 scripts/fetch_corpus.py OUTPUT_DIR

Downloads documentation packages in seven languages (nothing is installed), takes the running text out of them, and writes
one .jsonl file for each language and source, with the columns of the Lucie Training Dataset: text, language, source, id,
and the licence. Needs Debian or a derivative; the standard library suffices. A second call goes on where the first stopped.
"""
import gzip, json, pathlib, re, subprocess, sys, tempfile
from html.parser import HTMLParser
from xml.etree import ElementTree

LANGUAGES = ["fr", "de", "es", "en", "it", "nl", "pt"]
MAN = {"fr": "manpages-fr manpages-fr-dev", "de": "manpages-de", "es": "manpages-es", "en": "manpages manpages-dev", "it": "manpages-it", "nl": "manpages-nl", "pt": "manpages-pt-br"}
LIBREOFFICE = {**{language: language for language in LANGUAGES}, "en": "en-us"}
# source, licence (SPDX), packages by language, folders by language, kind of file
SOURCES = [
    ("manpages", "GPL-3.0-or-later", MAN, {**{l: f"usr/share/man/{l}" for l in LANGUAGES}, "en": "usr/share/man", "pt": "usr/share/man/pt_BR"}, "man"),
    ("libreoffice-help", "MPL-2.0", {l: f"libreoffice-help-{c}" for l, c in LIBREOFFICE.items()}, {l: f"usr/share/libreoffice/help/{c.replace('us', 'US')}/text" for l, c in LIBREOFFICE.items()}, "html"),
    ("debian-handbook", "GPL-2.0-or-later OR CC-BY-SA-3.0", {l: "debian-handbook" for l in LANGUAGES}, {l: f"usr/share/doc/debian-handbook/html/{c}" for l, c in zip(LANGUAGES, ["fr-FR", "de-DE", "es-ES", "en-US", "it-IT", "nl-NL", "pt-BR"])}, "html"),
    ("gnome-user-docs", "CC-BY-SA-3.0", {l: "gnome-user-docs" for l in LANGUAGES}, {l: f"usr/share/help/{c}" for l, c in zip(LANGUAGES, ["fr", "de", "es", "C", "it", "nl", "pt_BR"])}, "mallard"),
    ("gimp-help", "GFDL-1.2-no-invariants-or-later", {l: f"gimp-help-{l}" for l in ["fr", "de", "es", "it"]}, {l: f"usr/share/gimp/2.0/help/{l}" for l in ["fr", "de", "es", "it"]}, "html"),
    ("lilypond-doc", "GFDL-1.3-or-later", {"fr": "lilypond-doc-html-fr"}, {"fr": "usr/share/doc/lilypond/html"}, "html"),
]
SKIPPED_PAGES = re.compile(r"(^|/)(index|genindex|[a-z-]+-big-page)(\.fr)?\.html$")


class Prose(HTMLParser):
    """The paragraphs of a page, without navigation."""

    BLOCKS = {"p", "li", "dt", "dd", "h1", "h2", "h3", "h4", "h5", "pre", "td", "th", "tr", "div", "section", "br"}
    SKIPPED = {"script", "style", "nav", "header", "footer", "head", "form", "button"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs, self.now, self.skipped = [], [], 0

    def flush(self):
        text = " ".join("".join(self.now).split())
        if text:
            self.paragraphs.append(text)
        self.now = []

    def handle_starttag(self, tag, attributes):
        if tag in self.SKIPPED:
            self.skipped += 1
        if tag in self.BLOCKS:
            self.flush()
        if tag == "li":
            self.now.append("- ")

    def handle_endtag(self, tag):
        if tag in self.SKIPPED and self.skipped:
            self.skipped -= 1
        if tag in self.BLOCKS:
            self.flush()

    def handle_data(self, data):
        if not self.skipped:
            self.now.append(data)


def html(data):
    prose = Prose()
    prose.feed(data.decode("utf-8", "replace"))
    prose.flush()
    is_prose = lambda text: text != "-" and not (text.startswith("[") and text.endswith("]"))
    return "\n\n".join(filter(is_prose, prose.paragraphs))


def mallard(data):
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return ""
    wanted = {"title", "p"}
    found = (element for element in root.iter() if element.tag.split("}")[-1] in wanted)
    return "\n\n".join(filter(None, (" ".join("".join(element.itertext()).split()) for element in found)))


ESCAPES = [(r"\\f(\[[^]]*\]|\(..|.)", ""), (r"\\s[+-]?\d", ""), (r"\\[&|^%/,:]", ""), (r"\\\((aq|cq)|\\\[(aq|cq)\]", "'"),
           (r"\\\((oq)|\\\[oq\]", "'"), (r"\\\([lr]q|\\\[[lr]q\]", '"'), (r"\\\(bu|\\\[bu\]", "-"), (r"\\\(em|\\\[em\]", "—"), (r"\\\(en|\\\[en\]", "–"),
           (r"\\\*\([^\s]{2}|\\\*\[[^]]*\]|\\\*.", ""), (r"\\m?\[[^]]*\]", ""), (r"\\\(..", ""), (r"\\\"\s.*$", ""), (r"\\[-]", "-"), (r"\\[ ~0]", " "), (r"\\e|\\\\", "\\\\"), (r"\\.", "")]


def man(data):
    lines, paragraph = [], []

    def flush():
        if paragraph:
            lines.append(" ".join(paragraph))
            paragraph.clear()

    for line in data.decode("utf-8", "replace").splitlines():
        if line.startswith(("'\\\"", ".\\\"", ".Dd")):
            if line.startswith(".Dd"):
                return ""  # mdoc
            continue
        macro = re.match(r"[.']\s*([A-Za-z]+)\s*(.*)", line)
        if macro:
            name, rest = macro.groups()
            if name == "so":
                return ""
            rest = re.sub(r'"([^"]*)"', r"\1", rest)
            if name in ("SH", "SS"):
                flush()
            elif name in ("PP", "P", "LP", "TP", "IP", "sp", "br", "HP"):
                flush()
                rest = ""
            elif name in ("BR", "RB", "IR", "RI", "BI", "IB"):
                rest = rest.replace(" ", "")
            elif name not in ("B", "I", "SM", "SB"):
                continue
            line = rest
        for pattern, replacement in ESCAPES:
            line = re.sub(pattern, replacement, line)
        if line.strip():
            paragraph.append(line.strip())
        if macro and macro.group(1) in ("SH", "SS"):
            flush()
    flush()
    return "\n\n".join(lines)


READERS = {"html": (html, (".html", ".htm")), "mallard": (mallard, (".page",)), "man": (man, (".gz",))}


def unpack(package, cache, target):
    """The package's files, below `target`; the download is kept in `cache`."""
    found = sorted(cache.glob(f"{package}_*.deb"))
    if not found:
        subprocess.run(["apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", package], cwd=cache, check=True)
        found = sorted(cache.glob(f"{package}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(target)], check=True)


def documents(root, folder, kind, language, source, license_id):
    read, endings = READERS[kind]
    base = root / folder
    paths = sorted(path for path in base.rglob("*") if path.is_file() and not path.is_symlink() and path.name.endswith(endings))
    if source == "manpages" and language == "en":
        paths = [path for path in paths if re.match(r"man\d", path.relative_to(base).parts[0])]
    if source == "lilypond-doc":
        paths = [path for path in paths if ".fr.html" in path.name and "snippets" not in path.parts and "index" not in path.name]
    for path in paths:
        key = path.relative_to(base).as_posix()
        if SKIPPED_PAGES.search(key):
            continue
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = read(data).replace("\x00", "")
        if len(text) >= 400:
            yield {"text": text, "language": language, "source": source, "id": f"{source}/{language}/{key}", "license": license_id}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    cache = out / "downloads"
    cache.mkdir(parents=True, exist_ok=True)
    total = 0
    for source, license_id, packages, folders, kind in SOURCES:
        for language, names in packages.items():
            file = out / language / f"{source}.jsonl"
            if not file.exists():
                with tempfile.TemporaryDirectory() as folder:
                    for package in names.split():
                        try:
                            unpack(package, cache, folder)
                        except (subprocess.CalledProcessError, IndexError):
                            sys.exit(f"error: the package {package} cannot be fetched; run 'apt-get update' as root and start again")
                    rows = documents(pathlib.Path(folder), folders[language], kind, language, source, license_id)
                    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
                file.parent.mkdir(exist_ok=True)
                part = file.with_suffix(".part")
                part.write_text("".join(line + "\n" for line in lines), "utf-8")
                part.rename(file)
            size = file.stat().st_size
            total += size
            print(f"    {language}/{source}: {size / 1e6:.1f} MB", file=sys.stderr, flush=True)
    if total < 10e6:
        sys.exit("error: the packages hold less than 10 MB of text; is this Debian 12?")
    (out / "complete").write_text("every source was fetched\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compiles the CUDA kernels to essaim.ptx, which is committed and built into the programs.

    python3 kernels/cuda/build_ptx.py           writes essaim.ptx
    python3 kernels/cuda/build_ptx.py --check   compiles again, compares, assembles for every card we name, and looks at both

No CUDA toolkit and no card are needed: the compiler (NVRTC) and the assembler (ptxas) come from PyPI into target/venv-cuda, by hash, some
80 MB. Their version is old on purpose: newer drivers take older PTX, and not the reverse (docs/decisions/0007-cuda.md). A second, newer
assembler shows what the drivers of today make of it, which hold one like it.
"""

import argparse
import concurrent.futures
import ctypes
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENV = ROOT / "target" / "venv-cuda"
MODULE = "essaim.cu"
OUTPUT = HERE / "essaim.ptx"

WHEELS = """\
nvidia-cuda-nvrtc-cu11==11.8.89 --hash=sha256:a8d02f3cba345be56b1ffc3e74d8f61f02bb758dd31b0f20e12277a5a244f756
nvidia-cuda-nvcc-cu11==11.8.89 --hash=sha256:f8e1e995166c884f2f5bf94975d7abb89175363b8712f7f81cd38d0df1b2cd85
nvidia-cuda-nvcc==13.1.80 --hash=sha256:3bc4a530566f7083da0cfe9f637474efa173a1101ed0bc72da9a98f8a55edb77
"""

# The oldest card we name; every newer one takes this PTX.
ARCHITECTURE = "compute_75"
# Each assembler in NVIDIA's folder, with the cards that it knows of those.
ASSEMBLERS = {
    "11.8": ("cuda_nvcc/bin/ptxas", ["sm_75", "sm_80", "sm_89", "sm_90"]),
    "13.1": ("cu13/bin/ptxas", ["sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120"]),
}

# Exact float32: nothing contracted, nothing flushed, division and square root rounded once.
OPTIONS = [
    f"--gpu-architecture={ARCHITECTURE}",
    "--std=c++14",
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--device-as-default-execution-space",
]


def fail(message):
    sys.exit(f"error: {message}")


def install():
    """The folder with NVIDIA's two packages."""
    found = list(VENV.glob("lib/python3*/site-packages/nvidia"))
    wanted = ["cuda_nvrtc/lib", *(path for path, _ in ASSEMBLERS.values())]
    if not found or not all((found[0] / path).exists() for path in wanted):
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            fail("the pinned compiler is for Linux on x86-64; essaim.ptx itself serves every machine")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.write(WHEELS)
            requirements.flush()
            pip = [str(VENV / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--require-hashes", "-r", requirements.name], check=True)
        found = list(VENV.glob("lib/python3*/site-packages/nvidia"))
    return found[0]


def sources():
    """CUDA sources and headers by name, in order."""
    paths = sorted(path for path in HERE.iterdir() if path.suffix in (".cu", ".cuh"))
    return {path.name: path.read_bytes() for path in paths}


def fingerprint(files):
    """FNV-1a over names and contents; kernels/src/cuda/ptx.rs computes the same."""
    value = 0xCBF29CE484222325
    for name, content in files.items():
        for byte in name.encode() + b"\0" + content + b"\0":
            value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def compile_ptx(nvidia, files):
    nvrtc = ctypes.CDLL(str(next((nvidia / "cuda_nvrtc/lib").glob("libnvrtc.so.*"))))
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(name, *arguments):
        code = getattr(nvrtc, name)(*arguments)
        return None if code == 0 else nvrtc.nvrtcGetErrorString(code).decode()

    def text(program, size, get):
        length = ctypes.c_size_t()
        problem = call(size, program, ctypes.byref(length))
        buffer = ctypes.create_string_buffer(length.value)
        problem = problem or call(get, program, buffer)
        if problem:
            fail(f"{get}: {problem}")
        return buffer.value.decode()

    headers = {name: content for name, content in files.items() if name != MODULE}
    names = (ctypes.c_char_p * len(headers))(*[name.encode() for name in headers])
    contents = (ctypes.c_char_p * len(headers))(*headers.values())
    program = ctypes.c_void_p()
    source = ctypes.c_char_p(files[MODULE])
    created = call("nvrtcCreateProgram", ctypes.byref(program), source, MODULE.encode(), len(headers), contents, names)
    if created:
        fail(f"nvrtcCreateProgram: {created}")
    options = (ctypes.c_char_p * len(OPTIONS))(*[option.encode() for option in OPTIONS])
    problem = call("nvrtcCompileProgram", program, len(OPTIONS), options)
    log = text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").strip()
    if log:
        print(log, file=sys.stderr)
    if problem:
        fail(f"{MODULE} does not compile: {problem}")
    ptx = text(program, "nvrtcGetPTXSize", "nvrtcGetPTX")
    head = f"// Made by build_ptx.py; do not edit.\n// Sources: {fingerprint(files)}\n"
    return head + ptx.rstrip("\n") + "\n"


def inexact(ptx):
    """Lines whose result a card could round otherwise than SEMANTICS.md says."""
    found = []
    for number, line in enumerate(ptx.splitlines(), 1):
        code = line.split("//")[0].strip()
        match = re.match(r"(?:@!?%p\d+\s+)?([a-z][\w.]*)\s", code)
        if not match:
            continue
        instruction = match.group(1)
        operation, parts = instruction.split(".")[0], instruction.split(".")[1:]
        floats = {"f16", "f16x2", "bf16", "bf16x2", "tf32", "f32", "f64"} & set(parts)
        reason = None
        if "ftz" in parts:
            reason = "flushes subnormals"
        elif "approx" in parts or "full" in parts:
            reason = "is an approximation"
        elif "sat" in parts and floats:
            reason = "clamps"
        elif operation in ("atom", "red") and floats:
            reason = "adds in no fixed order"
        elif operation in ("wmma", "mma"):
            reason = "has the tensor cores' numerics"
        elif floats - {"f32", "f64"}:
            reason = "is neither float32 nor float64"
        elif operation in ("add", "sub", "mul", "fma", "mad", "div", "sqrt", "rcp") and floats and "rn" not in parts:
            reason = "may be contracted or rounded otherwise"
        elif operation in ("min", "max") and floats and "0f" not in code:
            # With a constant, the compiler makes it from a comparison that is the same.
            reason = "treats NaN and signed zeros in its own way"
        if reason:
            found.append(f"{OUTPUT.name}:{number}: {code}: {reason}")
    return found


def assemble(nvidia, ptx):
    """Registers and shared memory of each kernel by assembler and card, and what is wrong."""
    def one(version, path, card):
        command = [str(nvidia / path), "-v", "-arch", card, "-o", "/dev/null", "-"]
        done = subprocess.run(command, input=ptx, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"ptxas {version} for {card}:\n{done.stdout}{done.stderr}")
        return (version, card), done.stderr

    table, wrong = {}, []
    tasks = [(version, path, card) for version, (path, cards) in ASSEMBLERS.items() for card in cards]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for key, log in pool.map(lambda task: one(*task), tasks):
            kernel = None
            for line in log.splitlines():
                if match := re.search(r"Compiling entry function '(\w+)'", line):
                    kernel = match.group(1)
                elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
                    if match.groups() != ("0", "0", "0"):
                        wrong.append(f"{key[1]} by ptxas {key[0]}: {kernel}: {match.group(0)}")
                elif match := re.search(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?", line):
                    table.setdefault(kernel, {})[key] = (int(match.group(1)), int(match.group(2) or 0))
    return table, wrong


def show(table):
    """Registers of each kernel on each card, by each assembler."""
    width = max(len(kernel) for kernel in table)
    keys = [(version, card) for version, (_, cards) in ASSEMBLERS.items() for card in cards]
    print(f"{'registers, by ptxas':{width}}  {' '.join(f'{version:>6}' for version, _ in keys)}")
    print(f"{'':{width}}  {' '.join(f'{card:>6}' for _, card in keys)}  shared bytes")
    for kernel, by_key in table.items():
        registers = " ".join(f"{by_key[key][0]:6}" for key in keys)
        print(f"{kernel:{width}}  {registers}  {max(shared for _, shared in by_key.values()):12}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail unless essaim.ptx is what the sources give")
    arguments = parser.parse_args()
    nvidia = install()
    files = sources()
    ptx = compile_ptx(nvidia, files)
    wrong = inexact(ptx)
    table, spilled = assemble(nvidia, ptx)
    wrong += spilled
    show(table)
    if wrong:
        fail("the kernels are not as they must be:\n  " + "\n  ".join(wrong))
    if arguments.check:
        if not OUTPUT.exists() or OUTPUT.read_text() != ptx:
            fail(f"{OUTPUT.name} is not what the sources give: run python3 kernels/cuda/build_ptx.py and commit it")
        print(f"{OUTPUT.name} is what the sources give: {len(table)} kernels, {len(ptx)} bytes, no spills by ptxas {' and '.join(ASSEMBLERS)}")
    else:
        OUTPUT.write_text(ptx)
        print(f"wrote {OUTPUT.name}: {len(table)} kernels, {len(ptx)} bytes")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Everything that only a GPU can show, in one go of less than ten minutes: bits first, then speed.

1. Every operation on the card gives the CPU's bits: the test vectors, edge sizes, the known-answer test.
2. Inner steps and whole contributions of tiny models, and one inner round of `8m`, are the CPU's bit for bit.
3. Float32 matrix products of the models' shapes against cuBLAS (through PyTorch, TF32 off).
4. The training step of 2m, 8m and 60m against PyTorch on the same card, eager and compiled, TF32 off.

Prints a table for people, and with --json FILE writes all figures. Without a CUDA device it says so after building, and ends with code 3.

    python3 benches/gpu.py [--json FILE] [--device cuda:0] [--python /path/with/torch/python]
    python3 benches/gpu.py --prepare DIR     builds and copies the programs to DIR, for a machine without compiler
    python3 benches/gpu.py --programs DIR    runs those

Needs Rust (or --programs) and NVIDIA's driver; PyTorch only for 3 and 4, which are left out without it.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = ["2m", "8m", "60m"]
# What is run, by the name of its copy: how cargo builds it, and its name in cargo's messages.
TESTS = {
    "operations": ["-p", "essaim-cuda-shim", "--test", "operations"],
    "selftest": ["-p", "essaim-cuda-shim", "--test", "selftest"],
    "device": ["-p", "essaim-train", "--test", "device"],
}
EXAMPLES = {"device_round": "essaim-train", "device_products": "essaim-cuda-shim"}
started = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)


def cargo(*arguments):
    command = ["cargo", *arguments, "--release", "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def build():
    programs = {"essaim": cargo("build", "-p", "essaim-node", "--bin", "essaim")["essaim"]}
    for name, arguments in TESTS.items():
        programs[name] = cargo("test", "--no-run", *arguments)[name]
    for name, package in EXAMPLES.items():
        programs[name] = cargo("build", "-p", package, "--example", name)[name]
    return programs


def run_json(command, **more):
    """The JSON lines that a program prints, or why there are none."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **more)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        words = (done.stderr.strip() or done.stdout.strip() or f"code {done.returncode}").splitlines()
        return [], words[-1][:300]
    return lines, None


def bits(programs, device, results):
    """Runs the tests that take a card. Gives how many failed."""
    failed = 0
    for name in TESTS:
        environment = dict(os.environ, ESSAIM_TEST_DEVICE=device)
        done = subprocess.run([programs[name]], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        summary = [line for line in done.stdout.splitlines() if line.startswith("test result")]
        results["bits"][name] = {"passed": done.returncode == 0, "summary": summary[-1] if summary else "no result"}
        say(f"{name}: {results['bits'][name]['summary']}")
        if done.returncode != 0:
            failed += 1
            print(done.stdout[-4000:])
    for optimizer in ["muon", "adamw"]:
        command = [programs["device_round"], "--config", "8m", "--steps", "6", "--optimizer", optimizer, "--device", device]
        lines, problem = run_json(command)
        entry = lines[-1] if lines else {"equal": False, "problem": problem}
        results["bits"][f"round of 8m, {optimizer}"] = entry
        failed += not entry["equal"]
        verdict = "the CPU's bits" if entry["equal"] else f"OTHER BITS, or none: {problem}"
        say(f"one inner round of 8m with {optimizer}: {verdict} {entry.get('update', '')[:16]}")
    return failed


def products(programs, device, python, results):
    ours, problem = run_json([programs["device_products"], "--device", device])
    if problem:
        return say(f"products: {problem}")
    theirs, problem = [], "no PyTorch"
    if python:
        want = "\n".join(json.dumps({key: line[key] for key in ("layout", "m", "n", "k")}) for line in ours)
        theirs, problem = run_json([python, "benches/torch_step.py", "--products", "--device", device], input=want)
    if problem:
        say(f"cuBLAS: {problem}")
    print(f"\n{'product':<28}{'ours':>12}{'cuBLAS':>12}{'ratio':>8}")
    for index, line in enumerate(ours):
        line["cublas_flops_per_s"] = theirs[index]["flops_per_s"] if index < len(theirs) else None
        line["ratio"] = line["flops_per_s"] / line["cublas_flops_per_s"] if line["cublas_flops_per_s"] else None
        name = f"{line['layout']} {line['m']} x {line['n']} x {line['k']}"
        cells = [f"{value / 1e12:.2f} T" if value else "-" for value in (line["flops_per_s"], line["cublas_flops_per_s"])]
        print(f"{name:<28}{cells[0]:>12}{cells[1]:>12}{line['ratio'] or 0:>8.2f}")
    results["products"] = ours
    ratios = [line["ratio"] for line in ours if line["ratio"]]
    if ratios:
        flops = [2 * line["m"] * line["n"] * line["k"] for line in ours]
        total = sum(flops) / sum(f / line["flops_per_s"] for f, line in zip(flops, ours))
        other = sum(flops) / sum(f / line["cublas_flops_per_s"] for f, line in zip(flops, ours))
        results["products_ratio"] = {"median": statistics.median(ratios), "all_together": total / other}
        say(f"share of cuBLAS float32: median {statistics.median(ratios):.3f}, all products together {total / other:.3f}")


def steps(programs, device, python, results):
    print(f"\n{'step':<6}{'ours':>14}{'eager':>14}{'compiled':>14}{'ratio to better':>18}{'share of peak':>15}")
    for config in CONFIGS:
        command = [programs["essaim"], "bench", "--config", config, "--device", device, "--steps", "30", "--json"]
        ours, problem = run_json(command)
        if problem:
            say(f"{config}: {problem}")
            continue
        entry = {"ours": ours[-1]}
        for mode, flags in [("eager", []), ("compiled", ["--compile"])] if python else []:
            command = [python, "benches/torch_step.py", "--config", config, "--device", device, "--steps", "30", "--warmup", "5", *flags]
            theirs, problem = run_json(command)
            if problem:
                say(f"{config} {mode}: {problem}")
            else:
                entry[mode] = theirs[-1]
        speeds = [entry[mode]["tokens_per_s"] if mode in entry else None for mode in ("ours", "eager", "compiled")]
        best = max((speed for speed in speeds[1:] if speed), default=None)
        entry["ratio"] = speeds[0] / best if best else None
        cells = "".join(f"{speed:>14,.0f}" if speed else f"{'-':>14}" for speed in speeds)
        share = entry["ours"].get("peak_share")
        print(f"{config:<6}{cells}{entry['ratio'] or 0:>18.3f}{share or 0:>15.3f}", flush=True)
        results["steps"][config] = entry


def find_python(wanted):
    for python in [wanted, sys.executable, "python3"]:
        if python and subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode == 0:
            return python
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, help="write all figures there")
    parser.add_argument("--device", default="cuda:0", help="cuda:N")
    parser.add_argument("--python", help="a Python that has PyTorch")
    parser.add_argument("--prepare", type=pathlib.Path, metavar="DIR", help="build, and copy the programs there")
    parser.add_argument("--programs", type=pathlib.Path, metavar="DIR", help="programs that were built before")
    args = parser.parse_args()
    if args.programs:
        names = ["essaim", *TESTS, *EXAMPLES]
        programs = {name: str((args.programs / name).resolve()) for name in names}
    else:
        say("building")
        programs = build()
    if args.prepare:
        args.prepare.mkdir(parents=True, exist_ok=True)
        for name, path in programs.items():
            shutil.copy(path, args.prepare / name)
        return say(f"the programs are in {args.prepare}")
    listed, problem = run_json([programs["essaim"], "devices", "--json"])
    if problem:
        sys.exit(f"essaim devices: {problem}")
    card = next((d for d in listed[-1]["devices"] if d["device"] == args.device), None)
    if card is None or not card["ready"]:
        reason = card["reason"] if card else listed[-1]["no_cuda"] or "there is no device of that number"
        print(f"There is no CUDA device to measure here ({args.device}): {reason}")
        sys.exit(3)
    say(f"{args.device}: {card['name']}, driver for CUDA {card['cuda']['driver_version']}")
    results = {"card": card, "bits": {}, "products": [], "steps": {}}
    python = find_python(args.python)
    if python is None:
        say("no PyTorch here: the comparisons are left out (pip install torch numpy, or --python)")
    failed = bits(programs, args.device, results)
    products(programs, args.device, python, results)
    steps(programs, args.device, python, results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
        say(f"all figures are in {args.json}")
    say("done" if failed == 0 else f"{failed} comparisons of bits FAILED")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

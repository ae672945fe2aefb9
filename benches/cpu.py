#!/usr/bin/env python3
"""The training step on the CPU, in turn with PyTorch: `essaim bench` and benches/torch_step.py, eager and compiled.

Each round runs every engine once for every configuration, one after the other, so that what else the machine does meets all of them; the
medians over the rounds are compared. The last column is our tokens a second over the better of PyTorch's.

    python3 benches/cpu.py [--configs 2m,8m,60m] [--rounds 5] [--threads 2] [--ops] [--json FILE] [--python PYTHON]

PYTHON is one with torch and numpy (default: the one that runs this). PyTorch's compiler needs a C++ compiler. Run it on a machine that
does nothing else.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENGINES = ["essaim", "eager", "compiled"]


def build():
    command = ["cargo", "build", "--release", "-p", "essaim-node", "--bin", "essaim", "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "essaim")


def command(engine, essaim, python, config, args):
    steps = args.steps or {"2m": 40, "8m": 12, "60m": 4}[config]
    shape = ["--config", config, "--threads", str(args.threads), "--steps", str(steps)]
    if engine == "essaim":
        return [essaim, "bench", "--device", "cpu", *shape, "--json", *(["--ops"] if args.ops else [])]
    return [python, str(ROOT / "benches" / "torch_step.py"), *shape, *(["--compile"] if engine == "compiled" else [])]


def measure(line):
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        sys.exit(f"{' '.join(line)}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def product_shares(runs):
    """Of each product, its median time and share of peak over the runs."""
    names = [o["name"] for o in runs[0]["operators"]]
    lines = []
    for index, name in enumerate(names):
        of = [run["operators"][index] for run in runs]
        shares = [o["peak_share"] for o in of if o["peak_share"] is not None]
        lines.append({
            "name": name,
            "ms": statistics.median(o["ms"] for o in of),
            "step_share": statistics.median(o["step_share"] for o in of),
            "peak_share": statistics.median(shares) if shares else None,
        })
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default="2m,8m,60m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, help="training steps of each run (default: some seconds' worth)")
    parser.add_argument("--ops", action="store_true", help="also the share of peak of each operator")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--essaim", help="a built program, instead of building one")
    args = parser.parse_args()
    configs = args.configs.split(",")
    essaim = args.essaim or build()
    runs = {config: {engine: [] for engine in ENGINES} for config in configs}
    for turn in range(args.rounds):
        for config in configs:
            for engine in ENGINES:
                result = measure(command(engine, essaim, args.python, config, args))
                runs[config][engine].append(result)
                print(f"round {turn + 1}  {config:>3}  {engine:<8} {result['tokens_per_s']:10.1f} tokens/s", file=sys.stderr, flush=True)
    summary = []
    print(f"\nmedians of {args.rounds} rounds in turn, {args.threads} threads, tokens a second")
    print(f"{'config':>6} {'essaim':>10} {'eager':>10} {'compiled':>10} {'ratio':>7} {'of peak':>8} {'path':>9} {'memory':>9} {'by formula':>10}")
    for config in configs:
        speed = {engine: statistics.median(r["tokens_per_s"] for r in runs[config][engine]) for engine in ENGINES}
        ours = runs[config]["essaim"]
        shares = [r["peak_share"] for r in ours if r.get("peak_share") is not None]
        line = {
            "config": config,
            "threads": args.threads,
            "tokens_per_s": speed,
            "ratio": speed["essaim"] / max(speed["eager"], speed["compiled"]),
            "peak_share": statistics.median(shares) if shares else None,
            "path": ours[0]["path"],
            "peak_memory_bytes": max(r["peak_memory_bytes"] for r in ours),
            "workspace_bytes": ours[0]["workspace_bytes"],
            "torch": runs[config]["eager"][0]["engine"],
        }
        if args.ops:
            line["operators"] = product_shares(ours)
        summary.append(line)
        share = f"{line['peak_share']:.3f}" if shares else "-"
        print(f"{config:>6} {speed['essaim']:10.0f} {speed['eager']:10.0f} {speed['compiled']:10.0f} {line['ratio']:7.2f} {share:>8} {line['path']:>9} {line['peak_memory_bytes'] / 1e6:6.0f} MB {line['workspace_bytes'] / 1e6:7.0f} MB")
    for line in summary if args.ops else []:
        print(f"\n{line['config']}: operator, ms, share of step, share of peak")
        for operator in line["operators"]:
            peak = "" if operator["peak_share"] is None else f"{100 * operator['peak_share']:7.1f} %"
            print(f"  {operator['name']:<18} {operator['ms']:8.2f} {100 * operator['step_share']:6.1f} % {peak}".rstrip())
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()

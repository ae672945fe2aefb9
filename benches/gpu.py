#!/usr/bin/env python3
"""Everything that only a GPU can show, in one go of less than ten minutes: bits first, then speed.

    bits      every operation on the card gives the CPU's bits: the test vectors, edge sizes, the known-answer test; inner steps and
              contributions of tiny models, and inner rounds of `8m`
    kernels   registers of each kernel as this driver translated it; none may spill
    products  float32 matrix products of the models' shapes against cuBLAS (through PyTorch, TF32 off)
    steps     the training step of 2m, 8m and 60m against PyTorch on the same card, eager and compiled, TF32 off; ours by operator
    kinds     every kind of product for each shape: for RATES in kernels/src/cuda/ops/product.rs
    fault     a program that provokes a fault, and whether a process can open the card again after it

Prints tables for people and a verdict for each mark. With --json FILE all figures are written there after each stage. A stage for which the ten
minutes no longer suffice is left out. Exit code 0: bits, kernels and marks hold. 1: other bits, or a kernel that spills. 2: it could not be run.
3: there is no CUDA device. 4: a mark is missed. 5: a mark could not be measured, or a stage was left out.

    python3 benches/gpu.py [--json FILE] [--device cuda:0] [--python /path/with/torch/python] [--stages bits,kernels]
    python3 benches/gpu.py --prepare DIR     builds and copies the programs to DIR, for a machine without compiler
    python3 benches/gpu.py --programs DIR    runs those; the machine needs a glibc as new as the builder's

Needs Rust (or --programs) and NVIDIA's driver; PyTorch only for products and steps, which are left out without it. benches/test_gpu.py tests
this script without a card.
"""
import argparse
import json
import os
import pathlib
import platform
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
EXAMPLES = {"device_round": "essaim-train", "device_products": "essaim-cuda-shim", "device_probe": "essaim-cuda-shim"}
# Share of cuBLAS in all products together, and of PyTorch's better step, that are wanted at least.
PRODUCTS_MARK, STEPS_MARK = 0.85, 1.0
# Seconds for all stages, and what each takes at most as far as can be guessed; more than that is not waited for.
BUDGET = 600
LIMITS = {"bits": 200, "kernels": 40, "products": 90, "steps": 240, "kinds": 60, "fault": 40}
started = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)


def stop(text, code=2):
    print(f"gpu.py: {text}", file=sys.stderr)
    sys.exit(code)


def call(command, limit, **more):
    """Runs a program for at most `limit` seconds: its code, none if it did not end by itself, and what it wrote."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace", cwd=ROOT, timeout=max(1, limit), **more)
    except subprocess.TimeoutExpired as late:
        texts = [text.decode(errors="replace") if isinstance(text, bytes) else text or "" for text in (late.stdout, late.stderr)]
        return None, texts[0], f"{texts[1]}\nnot done after {limit:.0f} s"
    except OSError as error:
        return None, "", f"{command[0]}: {error.strerror}"
    return done.returncode, done.stdout, done.stderr


def cargo(*arguments):
    command = ["cargo", *arguments, "--release", "--message-format=json-render-diagnostics"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    except OSError:
        stop("cargo is not here: install Rust, or name programs that were built elsewhere with --programs")
    if done.returncode != 0:
        stop(f"cargo {arguments[0]} failed; what it says is above")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def build():
    programs = {"essaim": cargo("build", "-p", "essaim-node", "--bin", "essaim")["essaim"]}
    for name, arguments in TESTS.items():
        programs[name] = cargo("test", "--no-run", *arguments)[name]
    for name, package in EXAMPLES.items():
        programs[name] = cargo("build", "-p", package, "--example", name)[name]
    return programs


def built(folder):
    programs = {name: folder.resolve() / name for name in ["essaim", *TESTS, *EXAMPLES]}
    missing = [name for name, path in programs.items() if not os.access(path, os.X_OK) or not path.is_file()]
    if missing:
        stop(f"{folder} holds no program {', '.join(missing)}: fill it with --prepare")
    return programs


def first_line(command):
    code, out, _ = call(command, 20)
    return out.strip().splitlines()[0] if code == 0 and out.strip() else None


def commit(programs_folder):
    """Of the sources of the programs, as far as it is known."""
    note = programs_folder / "commit" if programs_folder else None
    if note:
        return note.read_text().strip() if note.is_file() else None
    head = first_line(["git", "rev-parse", "HEAD"])
    return head and head + ("-changed" if first_line(["git", "status", "--porcelain"]) else "")


def machine(device):
    """What figures depend on beside the card's name."""
    fields = ["name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu", "pstate", "compute_mode"]
    ordinal = device.partition(":")[2] or "0"
    line = first_line(["nvidia-smi", "-i", ordinal, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"])
    smi = dict(zip(fields, [cell.strip() for cell in line.split(",")])) if line else None
    try:
        cpu = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"nvidia_smi": smi, "cpu": cpu, "cores": os.cpu_count(), "libc": " ".join(platform.libc_ver()), "system": platform.platform()}


class Visit:
    """One visit to a card: the programs, the time that is left, and what was found."""

    def __init__(self, programs, device, python, file=None, call=call, clock=time.monotonic):
        self.programs, self.device, self.python, self.file, self.call, self.clock = programs, device, python, file, call, clock
        self.start, self.stage_end = clock(), None
        self.results = {"seconds": {}, "left_out": {}, "failed": [], "bits": {}, "kernels": [], "products": [], "steps": {}, "kinds": [], "fault": None}

    def left(self):
        """Seconds that the running stage may still take."""
        return (self.stage_end or self.clock()) - self.clock()

    def write(self):
        if self.file:
            part = self.file.with_name(self.file.name + ".part")
            part.write_text(json.dumps(self.results, indent=1) + "\n")
            os.replace(part, self.file)

    def run(self, names):
        """All stages for which there is time, in order."""
        for name in names:
            now, spent = self.clock(), self.clock() - self.start
            if spent + LIMITS[name] > BUDGET:
                self.results["left_out"][name] = f"{spent:.0f} s of {BUDGET} are gone, and it may take {LIMITS[name]}"
                say(f"{name}: left out, {self.results['left_out'][name]}")
            else:
                self.stage_end = now + LIMITS[name]
                STAGES[name](self)
                self.results["seconds"][name] = round(self.clock() - now, 1)
                say(f"{name}: {self.results['seconds'][name]} s")
            self.write()

    def lines(self, command, **more):
        """The JSON lines that a program prints, or why there are none."""
        code, out, err = self.call(command, self.left(), **more)
        lines = []
        for line in out.splitlines():
            try:
                lines.append(json.loads(line) if line.startswith("{") else None)
            except ValueError:
                lines.append(None)  # Cut off.
        lines = [line for line in lines if line is not None]
        if code != 0 or not lines:
            words = (err.strip() or out.strip() or f"code {code}").splitlines()
            return [], words[-1][:300]
        return lines, None

    def fail(self, what):
        self.results["failed"].append(what)
        say(f"FAILED: {what}")


def bits(visit):
    for name in TESTS:
        environment = dict(os.environ, ESSAIM_TEST_DEVICE=visit.device)
        code, out, err = visit.call([visit.programs[name]], visit.left(), env=environment)
        summary = [line for line in out.splitlines() if line.startswith("test result")]
        summary = summary[-1] if summary else (err.strip().splitlines() or ["no result"])[-1]
        visit.results["bits"][name] = {"passed": code == 0, "summary": summary}
        say(f"{name}: {summary}")
        if code != 0:
            visit.fail(f"bits: {name}")
            print(out[-4000:])
    for optimizer in ["muon", "adamw"]:
        command = [visit.programs["device_round"], "--config", "8m", "--steps", "6", "--optimizer", optimizer, "--device", visit.device]
        lines, problem = visit.lines(command)
        entry = lines[-1] if lines else {"equal": False, "problem": problem}
        visit.results["bits"][f"round of 8m, {optimizer}"] = entry
        verdict = "the CPU's bits" if entry["equal"] else f"OTHER BITS, or none: {problem}"
        say(f"one inner round of 8m with {optimizer}: {verdict} {entry.get('update', '')[:16]}")
        if not entry["equal"]:
            visit.fail(f"bits: a round of 8m with {optimizer}")


def kernels(visit):
    lines, problem = visit.lines([visit.programs["device_probe"], "kernels", visit.device])
    visit.results["kernels"] = lines
    if problem:
        return visit.fail(f"kernels: {problem}")
    for line in sorted(lines, key=lambda line: -line["registers"])[:8]:
        print(f"{line['kernel']:<44}{line['registers']:>5} registers{line['shared_bytes']:>8} bytes shared")
    for line in lines:
        if line["local_bytes"] > 0:
            visit.fail(f"kernels: {line['kernel']} spills {line['local_bytes']} bytes")


def name_of(line):
    return f"{line['layout']} {line['m']} x {line['n']} x {line['k']}"


def products(visit):
    """Ours and cuBLAS in turn, twice: of each product the better speed of either."""
    ours, theirs, problem = [], [], "no PyTorch"
    for _ in range(2):
        lines, trouble = visit.lines([visit.programs["device_products"], "--device", visit.device])
        if trouble:
            return visit.fail(f"products: {trouble}")
        ours.append(lines)
        if visit.python:
            want = "\n".join(json.dumps({key: line[key] for key in ("layout", "m", "n", "k")}) for line in lines)
            command = [visit.python, "benches/torch_step.py", "--products", "--device", visit.device, "--seconds", "1"]
            lines, problem = visit.lines(command, input=want)
            if not problem:
                theirs.append(lines)
    if not theirs:
        say(f"cuBLAS: {problem}")
    best = lambda runs, index: max((run[index]["flops_per_s"] for run in runs if index < len(run)), default=None)
    print(f"\n{'product':<28}{'ours':>12}{'cuBLAS':>12}{'ratio':>8}")
    for index, line in enumerate(ours[0]):
        line["flops_per_s"], line["cublas_flops_per_s"] = best(ours, index), best(theirs, index)
        line["ratio"] = line["flops_per_s"] / line["cublas_flops_per_s"] if line["cublas_flops_per_s"] else None
        cells = [f"{value / 1e12:.2f} T" if value else "-" for value in (line["flops_per_s"], line["cublas_flops_per_s"])]
        print(f"{name_of(line):<28}{cells[0]:>12}{cells[1]:>12}{line['ratio'] or 0:>8.2f}")
    visit.results["products"] = ours[0]
    both = [line for line in ours[0] if line["ratio"]]
    if both:
        seconds = lambda key: sum(2 * line["m"] * line["n"] * line["k"] / line[key] for line in both)
        together = seconds("cublas_flops_per_s") / seconds("flops_per_s")
        visit.results["products_ratio"] = {"median": statistics.median(line["ratio"] for line in both), "all_together": together}
        say(f"share of cuBLAS float32: median {visit.results['products_ratio']['median']:.3f}, all products together {together:.3f}")


def steps(visit):
    """Ours, eager and compiled in turn, twice if there is time: of each the better run."""
    modes = {"ours": None, "eager": [], "compiled": ["--compile"]} if visit.python else {"ours": None}
    for turn in range(2):
        begun, spare = visit.clock(), visit.left()
        for config in CONFIGS:
            entry = visit.results["steps"].setdefault(config, {})
            for mode, flags in modes.items():
                command = [visit.programs["essaim"], "bench", "--config", config, "--device", visit.device, "--seconds", "4", "--json"]
                if flags is not None:
                    command = [visit.python, "benches/torch_step.py", "--config", config, "--device", visit.device, "--steps", "30", "--warmup", "5", "--seconds", "3", *flags]
                lines, problem = visit.lines(command)
                now = lines[-1] if lines else {"problem": problem}
                if problem:
                    say(f"{config} {mode}: {problem}")
                if now.get("tokens_per_s", 0) > entry.get(mode, {}).get("tokens_per_s", 0) or mode not in entry:
                    entry[mode] = now
        if visit.clock() - begun > spare / 2:
            break
    print(f"\n{'step':<6}{'ours':>14}{'eager':>14}{'compiled':>14}{'ratio to better':>18}{'share of peak':>15}")
    for config, entry in visit.results["steps"].items():
        speeds = {mode: entry[mode].get("tokens_per_s") if mode in entry else None for mode in ("ours", "eager", "compiled")}
        rivals = {mode: speeds[mode] for mode in ("eager", "compiled") if speeds[mode]}
        entry["better"] = max(rivals, key=rivals.get, default=None)
        entry["ratio"] = speeds["ours"] / rivals[entry["better"]] if rivals and speeds["ours"] else None
        cells = "".join(f"{speed:>14,.0f}" if speed else f"{'-':>14}" for speed in speeds.values())
        print(f"{config:<6}{cells}{entry['ratio'] or 0:>18.3f}{entry['ours'].get('peak_share') or 0:>15.3f}", flush=True)
    operators(visit)


def operators(visit):
    """Where our step goes, in steps that wait for each operator."""
    for config, entry in visit.results["steps"].items():
        lines, problem = visit.lines([visit.programs["essaim"], "bench", "--config", config, "--device", visit.device, "--steps", "6", "--ops", "--json"])
        if problem:
            say(f"{config} by operator: {problem}")
            continue
        entry["operators"] = lines[-1].get("operators", [])
        print(f"\n{config + ', operator':<28}{'ms':>9}{'of step':>9}{'of peak':>9}")
        for line in sorted(entry["operators"], key=lambda line: -line["ms"])[:10]:
            of_peak = f"{line['peak_share']:>9.3f}" if line.get("peak_share") else ""
            print(f"{line['name']:<28}{line['ms']:>9.3f}{line['step_share']:>9.3f}{of_peak}", flush=True)


def kinds(visit):
    lines, problem = visit.lines([visit.programs["device_products"], "--device", visit.device, "--kind", "all"])
    visit.results["kinds"] = lines
    if problem:
        return say(f"kinds: {problem}")
    names = list(dict.fromkeys(line["kind"] for line in lines))
    print(f"\n{'product, Tflop/s by kind':<28}" + "".join(f"{name:>10}" for name in names))
    speeds = {}
    for line in lines:
        speeds.setdefault(name_of(line), {})[line["kind"]] = line["flops_per_s"]
    for product, by_kind in speeds.items():
        print(f"{product:<28}" + "".join(f"{by_kind.get(name, 0) / 1e12:>10.2f}" for name in names))


def fault(visit):
    lines, problem = visit.lines([visit.programs["device_probe"], "fault", visit.device])
    visit.results["fault"] = lines[-1] if lines else {"problem": problem}
    if problem:
        return say(f"fault: {problem}")
    entry = lines[-1]
    verdict = "the same process opens the card again" if entry["reopened"] else f"only a new process opens the card again ({entry['problem']})"
    say(f"after error {entry['code']}: {verdict}")


STAGES = {"bits": bits, "kernels": kernels, "products": products, "steps": steps, "kinds": kinds, "fault": fault}


def verdict(results):
    """What the figures say of the marks, a line each, and the exit code."""
    lines, missed, unknown = [], False, False
    ratio = results.get("products_ratio", {}).get("all_together")
    marks = [("products, share of cuBLAS", ratio, PRODUCTS_MARK, None)]
    for config in CONFIGS:
        entry = results["steps"].get(config, {})
        absent = [mode for mode in ("eager", "compiled") if "tokens_per_s" not in entry.get(mode, {})]
        marks.append((f"step of {config}, share of PyTorch", entry.get("ratio"), STEPS_MARK, " and ".join(absent) or None))
    for name, value, mark, absent in marks:
        if value is None:
            lines.append(f"{name}: NOT MEASURED, wanted {mark:.2f}")
            unknown = True
        elif value < mark:
            lines.append(f"{name}: {value:.3f}, MISSED, wanted {mark:.2f}")
            missed = True
        elif absent:
            lines.append(f"{name}: {value:.3f}, but {absent} did not run: NOT DECIDED, wanted {mark:.2f}")
            unknown = True
        else:
            lines.append(f"{name}: {value:.3f}, reached, wanted {mark:.2f}")
    not_done = [stage for stage in STAGES if stage not in results["seconds"]]
    lines += [f"{stage}: NOT DONE" for stage in not_done]
    lines += [f"FAILED: {what}" for what in results["failed"]]
    return lines, 1 if results["failed"] else 4 if missed else 5 if unknown or not_done else 0


def find_python(wanted):
    """A Python that has PyTorch. One that was asked for must have it."""
    for python in [wanted] if wanted else [sys.executable, "python3"]:
        code, _, err = call([python, "-c", "import torch"], 120)
        if code == 0:
            return python
        if wanted:
            stop(f"--python {wanted}: {(err.strip().splitlines() or ['it has no PyTorch'])[-1]}")
    return None


def prepare(programs, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in programs.items():
        shutil.copy(path, folder / name)
    (folder / "commit").write_text(f"{commit(None)}\n")
    say(f"the programs are in {folder}; where they run, glibc must be {platform.libc_ver()[1]} or newer")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, help="write all figures there")
    parser.add_argument("--device", default="cuda:0", help="cuda:N")
    parser.add_argument("--python", help="a Python that has PyTorch")
    parser.add_argument("--stages", default=",".join(STAGES), help="which stages, with commas between")
    parser.add_argument("--prepare", type=pathlib.Path, metavar="DIR", help="build, and copy the programs there")
    parser.add_argument("--programs", type=pathlib.Path, metavar="DIR", help="programs that were built before")
    args = parser.parse_args()
    args.stages = args.stages.split(",")
    if unknown := [name for name in args.stages if name not in STAGES]:
        parser.error(f"there is no stage {unknown[0]}; there are {', '.join(STAGES)}")
    return args


def main():
    args = options()
    if args.programs:
        programs = built(args.programs)
    else:
        say("building")
        programs = build()
    if args.prepare:
        return prepare(programs, args.prepare)
    visit = Visit(programs, args.device, None, args.json)
    code, out, err = call([programs["essaim"], "devices", "--json"], 120)
    if code != 0:
        stop(f"essaim devices: {(err.strip().splitlines() or ['no answer'])[-1]}")
    listed = json.loads(out.strip().splitlines()[-1])
    card = next((d for d in listed["devices"] if d["device"] == args.device), None)
    if card is None or not card["ready"]:
        reason = card["reason"] if card else listed["no_cuda"] or "there is no device of that number"
        print(f"There is no CUDA device to measure here ({args.device}): {reason}")
        sys.exit(3)
    say(f"{args.device}: {card['name']}, driver for CUDA {card['cuda']['driver_version']}")
    python = find_python(args.python)
    if python is None:
        say("no PyTorch here: the comparisons are left out (pip install torch numpy, or --python)")
    visit.python = python
    torch = first_line([python, "-c", "import torch; print(torch.__version__)"]) if python else None
    visit.results.update(card=card, commit=commit(args.programs), torch=torch, **machine(args.device))
    visit.run(args.stages)
    lines, code = verdict(visit.results)
    visit.results.update(verdict=lines, exit_code=code, nvidia_smi_after=machine(args.device)["nvidia_smi"])
    visit.write()
    print("\n" + "\n".join(lines))
    if args.json:
        say(f"all figures are in {args.json}")
    sys.exit(code)


if __name__ == "__main__":
    main()

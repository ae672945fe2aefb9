#!/usr/bin/env python3
"""Tests benches/gpu.py without a card: doubles in the place of programs and clock.

    python3 benches/test_gpu.py
"""
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import gpu  # noqa: E402

SCRIPT = pathlib.Path(gpu.__file__)
SHAPE = {"layout": "NN", "m": 8, "n": 8, "k": 8}


class Card:
    """Answers as the programs do on a card; `wrong` says how some answer otherwise, by a word of the command."""

    def __init__(self, wrong=None, seconds=1.0):
        self.wrong, self.seconds, self.now, self.commands, self.limits = wrong or {}, seconds, 0.0, [], []

    def clock(self):
        return self.now

    def call(self, command, limit, **more):
        words = [str(word) for word in command]
        self.commands.append(words)
        self.limits.append(limit)
        self.now += self.seconds
        for word, answer in self.wrong.items():
            if word in words:
                return answer
        return 0, self.answer(words), ""

    def answer(self, words):
        if words[0] in gpu.TESTS:
            return "test result: ok. 3 passed"
        if "--kind" in words:
            return "\n".join(json.dumps(dict(SHAPE, kind=kind, flops_per_s=1e12)) for kind in ("large", "any"))
        if words[0] == "device_products":
            return json.dumps(dict(SHAPE, kind="auto", flops_per_s=9e12))
        if "--products" in words:
            return json.dumps(dict(SHAPE, flops_per_s=1e13))
        if "kernels" in words:
            return json.dumps({"kernel": "k", "registers": 40, "local_bytes": 0, "shared_bytes": 0})
        if "fault" in words:
            return json.dumps({"code": 700, "reopened": True, "problem": ""})
        if words[0] == "device_round":
            return json.dumps({"equal": True, "update": "abc"})
        if "--ops" in words:
            return json.dumps({"tokens_per_s": 90.0, "operators": [{"name": "clip", "ms": 2.0, "step_share": 1.0}]})
        return json.dumps({"tokens_per_s": {"essaim": 120.0}.get(words[0], 110.0 if "--compile" in words else 100.0)})


def visit(card, file=None, stages=tuple(gpu.STAGES), python="python"):
    programs = {name: name for name in ["essaim", *gpu.TESTS, *gpu.EXAMPLES]}
    made = gpu.Visit(programs, "cuda:0", python, file, card.call, card.clock)
    with contextlib.redirect_stdout(io.StringIO()):
        made.run(stages)
    return made.results


class Stages(unittest.TestCase):
    def test_a_card_that_is_as_good_as_wanted(self):
        card = Card()
        results = visit(card)
        lines, code = gpu.verdict(results)
        self.assertEqual(code, 0, lines)
        self.assertEqual(list(results["seconds"]), list(gpu.STAGES))
        self.assertAlmostEqual(results["products_ratio"]["all_together"], 0.9)
        self.assertEqual((results["steps"]["8m"]["better"], round(results["steps"]["8m"]["ratio"], 3)), ("compiled", 1.091))
        self.assertTrue(results["fault"]["reopened"])
        self.assertEqual((results["steps"]["60m"]["operators"][0]["name"], results["steps"]["60m"]["ours"]["tokens_per_s"]), ("clip", 120.0))
        engines = [words[0] for words in card.commands if "device_products" in words[0] or "--products" in words]
        self.assertEqual(engines, ["device_products", "python"] * 2 + ["device_products"], "in turn, then the kinds")
        self.assertTrue(all(0 < limit <= max(gpu.LIMITS.values()) for limit in card.limits))

    def test_other_bits_and_spills_fail(self):
        for wrong in [
            {"operations": (101, "test result: FAILED. 1 failed", "")},
            {"device_round": (1, json.dumps({"equal": False}), "")},
            {"device_round": (None, "", "not done after 9 s")},
            {"kernels": (0, json.dumps({"kernel": "k", "registers": 255, "local_bytes": 8, "shared_bytes": 0}), "")},
            {"kernels": (1, "", "no")},
        ]:
            lines, code = gpu.verdict(visit(Card(wrong)))
            self.assertEqual(code, 1, lines)
            self.assertIn("FAILED", lines[-1])

    def test_a_mark_that_is_missed_has_its_own_code(self):
        slow = {"device_products": (0, json.dumps(dict(SHAPE, kind="auto", flops_per_s=8e12)), "")}
        lines, code = gpu.verdict(visit(Card(slow)))
        self.assertEqual((code, "MISSED" in lines[0], "MISSED" in lines[1]), (4, True, False), lines)
        slow = {"essaim": (0, json.dumps({"tokens_per_s": 109.0}), "")}
        lines, code = gpu.verdict(visit(Card(slow)))
        self.assertEqual((code, "MISSED" in lines[0], "MISSED" in lines[1]), (4, False, True), lines)

    def test_a_rival_that_does_not_run_decides_nothing(self):
        results = visit(Card({"--compile": (1, "", "Traceback\nno compiler")}))
        lines, code = gpu.verdict(results)
        self.assertEqual(code, 5, lines)
        self.assertIn("compiled did not run", lines[1])
        self.assertEqual(results["steps"]["2m"]["compiled"], {"problem": "no compiler"})
        self.assertEqual(results["steps"]["2m"]["better"], "eager")
        lines, code = gpu.verdict(visit(Card(), python=None))
        self.assertEqual((code, "NOT MEASURED" in lines[0]), (5, True), lines)

    def test_figures_are_written_after_each_stage(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "figures.json"
            seen = []

            class Killed(Card):
                def call(self, command, limit, **more):
                    seen.append(list(json.loads(file.read_text())["seconds"]) if file.exists() else None)
                    if "fault" in command:
                        raise KeyboardInterrupt
                    return super().call(command, limit, **more)

            with self.assertRaises(KeyboardInterrupt):
                visit(Killed(), file)
            self.assertEqual(seen[-1], [name for name in gpu.STAGES if name != "fault"])
            self.assertEqual(seen[0], None)
            self.assertEqual(len(json.loads(file.read_text())["kinds"]), 2)

    def test_what_no_longer_fits_is_left_out(self):
        results = visit(Card(seconds=39.0))
        self.assertIn("steps", results["left_out"])
        self.assertNotIn("steps", results["seconds"])
        self.assertEqual(gpu.verdict(results)[1], 5)

    def test_no_stage_is_left_out_unseen(self):
        for left_out in gpu.STAGES:
            lines, code = gpu.verdict(visit(Card(), stages=[stage for stage in gpu.STAGES if stage != left_out]))
            self.assertEqual((code, f"{left_out}: NOT DONE" in lines), (5, True), lines)

    def test_lines_that_were_cut_off_are_no_trouble(self):
        results = visit(Card({"device_products": (None, '{"layout": "N', "not done after 9 s")}), stages=["products"])
        self.assertEqual(results["failed"], ["products: not done after 9 s"])


class Programs(unittest.TestCase):
    def run_script(self, *arguments, **more):
        done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, **more)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def test_a_program_that_hangs_is_ended(self):
        code, out, err = gpu.call([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], 1)
        self.assertEqual((code, out.strip(), err.strip()), (None, "1", "not done after 1 s"))
        self.assertEqual(gpu.call(["/no/such/program"], 1)[2], "/no/such/program: No such file or directory")

    def test_what_is_missing_is_said_in_a_line(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.run_script("--programs", folder)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
            self.assertIn("holds no program essaim", done.stderr)
            done = self.run_script(env={"PATH": folder})
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
            self.assertIn("cargo is not here", done.stderr)
        self.assertEqual(self.run_script("--stages", "bits,nothing").returncode, 2)

    def test_without_a_device_and_with_a_python_that_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for ready in [False, True]:
                entry = {"device": "cuda:0", "name": "x", "ready": ready, "reason": "it is old", "cuda": {"driver_version": "1"}}
                answer = json.dumps({"devices": [entry], "no_cuda": None})
                for name in ["essaim", *gpu.TESTS, *gpu.EXAMPLES]:
                    (folder / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
                    (folder / name).chmod(0o755)
                done = self.run_script("--programs", folder, "--python", "/no/such/python")
                self.assertEqual(done.returncode, 2 if ready else 3)
                self.assertIn("/no/such/python" if ready else "it is old", done.stderr + done.stdout)


if __name__ == "__main__":
    unittest.main()

"""What `run-tests.py` reads out of the runners' output: `python3 -m unittest discover -s scripts`."""

import importlib.util
import sys
import unittest
from pathlib import Path

spec = importlib.util.spec_from_file_location("run_tests", Path(__file__).with_name("run-tests.py"))
run_tests = sys.modules["run_tests"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_tests)

NODE = """\
✔ one (1.5ms)
﹣ a line that narrows is followed (503.04ms) # make lines runs it
﹣ a full disk is said (5.1ms) # no mount namespace here: denied
ℹ pass 1
ℹ fail 0
ℹ skipped {}
ℹ todo 0
"""


class Skips(unittest.TestCase):
    def test_what_the_machine_lacks_is_named_and_what_another_command_runs_is_not(self):
        suite = run_tests.end_to_end_suite()
        self.assertEqual(run_tests.skips(suite, NODE.format(2)), ["end to end: a full disk is said: no mount namespace here: denied"])
        self.assertEqual(run_tests.count(suite.passed, NODE), 1)

    def test_one_that_is_counted_and_not_named_is_one(self):
        skips = run_tests.skips(run_tests.end_to_end_suite(), NODE.format(3))
        self.assertEqual(skips[-1], "end to end: 1 that its runner does not name")

    def test_other_runners(self):
        python = "SKIPPED [1] tests/test_room.py:5: no camera\n3 passed, 1 skipped in 0.3s\n"
        self.assertEqual(run_tests.skips(run_tests.python_suite(), python), ["python: tests/test_room.py:5: no camera"])
        vitest = "      Tests  3 passed | 2 skipped (5)\n"
        self.assertEqual(run_tests.skips(run_tests.typescript_suite(), vitest), ["typescript: 2 that its runner does not name"])
        for suite in run_tests.cargo_suites():
            self.assertEqual(run_tests.skips(suite, "     Summary [ 1.0s] 5 tests run: 5 passed, 8 skipped\n"), [])


if __name__ == "__main__":
    unittest.main()

"""`python -m tests.bench quick|full --output FILE [--only SECTION …]`."""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from .report import Report
from .sections import LONG_SECTIONS, SECTIONS, Bench, Sizes


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("mode", choices=["quick", "full"])
    parser.add_argument("--output", type=Path, required=True, help="where the table goes, as Markdown")
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS, *LONG_SECTIONS], default=list(SECTIONS), help="these sections alone")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="granary-bench-"))
    report = Report(options.mode)
    begun = time.monotonic()
    bench = Bench(folder, report, Sizes.of(options.mode))
    try:
        for name in options.only:
            print(f"== {name}", flush=True)
            (SECTIONS | LONG_SECTIONS)[name](bench)
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(report.markdown())
    print(f"\n{report.markdown()}\n{time.monotonic() - begun:.0f} s; written to {options.output}")


if __name__ == "__main__":
    main()

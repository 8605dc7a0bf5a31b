"""The fuzzing campaign on the reader of ``.sws`` files.

    python benchmarks/fuzz_codec.py --inputs 300000 --seed 1

reads that many mutants (tests/fuzzing.py), in processes that may not grow without bound, and prints
what docs/fuzzing.md records. Inputs that fail are written to a folder, to be kept in tests/corpus
once what they found is mended. Ends with status 1 if there are any.
"""

import argparse
import faulthandler
import hashlib
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fuzzing  # noqa: E402

SHARE = 500  # inputs between two reports
MEMORY = 1 << 30  # bytes that a process may grow by
SECONDS = 10.0  # processor time for one input
HANG = 1800.0  # wall-clock seconds without a report, after which a process ends with a traceback


def work(task):
    """One share of the campaign."""
    inputs, seed = task
    faulthandler.dump_traceback_later(HANG, exit=True)
    start = time.process_time()
    found = fuzzing.campaign(inputs, seed, SECONDS)
    faulthandler.cancel_dump_traceback_later()
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found, time.process_time() - start, usage, os.getpid()


def prepare():
    """Compile what is compiled on first use, then forbid the process to grow."""
    fuzzing.campaign(50, 0)
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    chosen = parser.parse_args()
    shares = -(-chosen.inputs // SHARE)
    tasks = [
        (min(SHARE, chosen.inputs - k * SHARE), chosen.seed * 1_000_000 + k) for k in range(shares)
    ]
    total, processor, memory = fuzzing.Findings(), 0.0, 0.0
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(chosen.processes, prepare) as pool:
        for found, seconds, usage, _ in pool.imap_unordered(work, tasks):
            total.merge(found)
            processor += seconds
            memory = max(memory, usage)
            print(f"{total.inputs:,} inputs, {len(total.failures)} failures", flush=True)
    elapsed = time.monotonic() - start
    files = fuzzing.seeds() + fuzzing.large_seeds()
    print(f"seeds: {len(files)} files, {sum(map(len, files)):,} bytes")
    print(f"inputs: {total.inputs:,}; decoded: {total.decoded:,}; failures: {len(total.failures)}")
    print(f"rate: {total.inputs / processor:.0f} a second of processor time")
    print(f"wall clock: {elapsed:.0f} s in {chosen.processes} processes")
    print(f"slowest input: {total.slowest:.2f} s, of {len(total.slowest_input):,} bytes")
    print(f"largest process: {memory:.0f} MB")
    for kind, number in sorted(total.kinds.items()):
        print(f"  {kind}: {number:,}")
    print(f"reasons: {len(total.reasons)}")
    for reason, number in total.reasons.most_common():
        print(f"  {number:,} {reason}")
    for what, data in total.failures:
        chosen.failures.mkdir(exist_ok=True)
        path = chosen.failures / f"{hashlib.sha256(data).hexdigest()[:16]}.sws"
        path.write_bytes(data)
        print(f"FAILED {path}: {what}")
    sys.exit(bool(total.failures))


if __name__ == "__main__":
    main()

"""Fuzzes our readers, guided by the coverage of their code (atheris, on libFuzzer).

    pip install --require-hashes -r requirements-fuzz.txt
    python -m tests.fuzz.guided --seconds 300 [--reader tflite] [--seed 1] [--corpus FOLDER]

Each reader gets its share of the seconds, in a process of its own with LONGEST_SECONDS for a file and MOST_BYTES of
memory. A file that is answered otherwise than as it should be is written to the folder of --found and ends that reader.
The corpus is made of our own seeds; with --corpus it is kept there from one call to the next.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.mutate import mutant

NAMES = ("tflite", "json", "weights", "configuration", "classes")
LONGEST_SECONDS, MOST_BYTES = 20, 2 << 30
LARGEST_BYTES = 1 << 20
"""Of a file that libFuzzer makes; more would make it slow, and the batch has larger ones."""
GRACE_SECONDS = 120
INSTRUMENTED = ("pipeline.core", "pipeline.tflite", "pipeline.weights", "pipeline.gate", "pipeline.measure.inspect")
"""Whose coverage guides; the rest is called and not looked at."""


def fuzz(reader: str, flags: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=[*INSTRUMENTED, "pipeline.cli.configuration", "pipeline.data.class_list"]):
        from tests.fuzz.readers import READERS, REFUSED
    read = READERS[reader]
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def once(data: bytes) -> None:
        try:
            read(scratch / f"file.{reader}", data)
        except REFUSED as error:
            assert "\n" not in str(error).split("\n  ")[0], f"not one sentence: {error}"

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        """Half of them by libFuzzer, which knows what its coverage needs; half by fields of the format."""
        rng = random.Random(seed)
        if rng.random() < 0.5 and data:
            try:
                changed = mutant(bytes(data), rng)
                if len(changed) <= most:
                    return changed
            except Exception:  # broken so far that the mutator does not read it
                pass
        return atheris.Mutate(data, len(data))

    atheris.Setup([sys.argv[0], *flags], once, custom_mutator=mutate)
    atheris.Fuzz()


def run(reader: str, seconds: int, seed: int, corpus: Path, found: Path) -> bool:
    """Fuzzes one reader in a process of its own; whether nothing was found."""
    from tests.fuzz.seeds import seeds  # not in the process that fuzzes: what is imported early is not instrumented

    folder = corpus / reader
    folder.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()[reader]):
        (folder / f"seed-{number}").write_bytes(data)
    flags = [
        str(folder),
        f"-max_total_time={seconds}",
        f"-timeout={LONGEST_SECONDS}",
        f"-rss_limit_mb={MOST_BYTES >> 20}",
        f"-max_len={LARGEST_BYTES}",
        f"-seed={seed}",
        f"-artifact_prefix={found}/{reader}-",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz.guided", "--inside", reader, *flags]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds + GRACE_SECONDS, check=False
        )
        code, output = ended.returncode, ended.stdout + ended.stderr
    except subprocess.TimeoutExpired:
        code, output = -1, f"it did not end within {seconds + GRACE_SECONDS} s"
    stats = [line for line in output.splitlines() if line.startswith("stat::") or " cov: " in line]
    runs = next((line.split()[-1] for line in stats if "number_of_executed_units" in line), "?")
    peak = next((line.split()[-1] for line in stats if "peak_rss_mb" in line), "?")
    coverage = next((line.split("cov: ")[1].split()[0] for line in reversed(stats) if "cov: " in line), "?")
    print(
        f"{reader}: {runs} files in {seconds} s, {coverage} places covered, {len(list(folder.iterdir()))} files in the"
        f" corpus, at most {peak} MiB: {'nothing found' if not code else f'FOUND (exit code {code})'}",
        flush=True,
    )
    if code:
        print("\n".join(output.splitlines()[-40:]))
    return code == 0


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300, help="of all readers together")
    parser.add_argument("--reader", choices=NAMES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="where the corpus is kept; without it, it is thrown away")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where files are written that failed")
    asked = parser.parse_args()
    readers = (asked.reader,) if asked.reader else NAMES
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as scratch:
        corpus = asked.corpus or Path(scratch)
        share = max(1, asked.seconds // len(readers))
        clean = [run(reader, share, asked.seed, corpus, asked.found) for reader in readers]
    sys.exit(not all(clean))


if __name__ == "__main__":
    main()

"""Stands in for LiteRT's benchmark_model: takes its flags, prints its lines, and runs the file in LiteRT for real.

``as_program`` writes it as one file that runs by itself. What it prints is in LiteRT's tflite/tools/benchmark:
benchmark_main.cc, benchmark_model.cc, benchmark_tflite_model.cc, and in xla/tsl/util/stats_calculator.h. KIND chooses:

new     of today: lines begin with 'INFO: ', percentiles, peak memory
old     of 2020: neither, and no --output_filepath (the log in tensorflow issue 42507)
silent  prints nothing that is known
crash   ends by SIGSEGV when it runs a file
hang    runs a file for an hour
"""

import os
import resource
import signal
import statistics
import sys
import time

KIND = "new"


def as_program(path, kind="new"):
    text = open(__file__).read().replace('KIND = "new"', f"KIND = {kind!r}", 1)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o600)
    return path


def info(line):
    print(("" if KIND == "old" else "INFO: ") + line, flush=True)


def fail(line):
    prefix = "" if KIND == "old" else "ERROR: "
    print(f"{prefix}{line}\n{prefix}Benchmarking failed.", file=sys.stderr, flush=True)
    sys.exit(1)


def statistics_line(times):
    """Of microseconds, as StatWithPercentiles::OutputToStream writes them; before 2025 as Stat's."""
    if not times:
        line = "count=0"
    elif min(times) == max(times):
        line = f"count={len(times)} curr={times[-1]}" + ("(all same)" if len(times) > 1 else "")
    else:
        line = (
            f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} max={max(times)}"
            f" avg={statistics.fmean(times):.6g} std={int(statistics.pstdev(times))}"
        )
    if KIND != "old":
        ordered = sorted(times) or [0]
        line += "".join(
            f" {name}={ordered[len(ordered) * percent // 100]}"
            for name, percent in (("p5", 5), ("median", 50), ("p95", 95))
        )
    return line


def run(invoke, least, seconds, most):
    info(
        f"Running benchmark for at least {least} iterations and at least {seconds:g} seconds but terminate if exceeding"
        f" {most:g} seconds."
    )
    times: list[float] = []
    begin = time.monotonic()
    while (len(times) < least or time.monotonic() - begin < seconds) and time.monotonic() - begin <= most:
        started = time.perf_counter()
        invoke()
        times.append(round(1e6 * (time.perf_counter() - started)))
    info(statistics_line(times) + "\n")
    return times


def main():
    flags = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    if KIND == "silent":
        print("Hello, I am another program.")
        return
    info("STARTING!")
    if KIND == "old" and "output_filepath" in flags:
        print(f"WARN: Unconsumed cmdline flags: --output_filepath={flags.pop('output_filepath')}")
    info("Log parameter values verbosely: [0]")
    if not flags.get("graph"):
        fail("Please specify the name of your TF Lite input file with --graph")
    info(f"Graph: [{flags['graph']}]")
    if KIND == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if KIND == "hang":
        time.sleep(3600)
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    started = time.perf_counter()
    try:
        interpreter = Interpreter(flags["graph"], num_threads=int(flags.get("num_threads", 1)))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        fail(f"Failed to load model {flags['graph']}")
    init = round(1e6 * (time.perf_counter() - started))
    info(f"Loaded model {flags['graph']}")
    source, results = interpreter.get_input_details()[0], interpreter.get_output_details()
    for name in ("gpu", "nnapi", "xnnpack"):
        if flags.get(f"use_{name}") == "true":
            how = {"gpu": "partially executed by the delegate w/ 2 delegate kernels."}
            if name == "gpu":
                print(
                    "VERBOSE: Replacing 61 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 2"
                    " partitions for subgraph 0 (main).",
                    file=sys.stderr,
                )
            info(
                f"Explicitly applied {name.upper()} delegate, and the model graph will be "
                + how.get(name, "completely executed by the delegate.")
            )
    info(f"The input model file size (MB): {os.path.getsize(flags['graph']) / 1e6:g}")
    info(f"Initialized session in {init / 1e3:g}ms.")
    values = dict(pair.split(":") for pair in flags.get("input_layer_value_files", "").split(",") if pair)
    data = open(values[flags["input_layer"]], "rb").read()
    interpreter.set_tensor(source["index"], np.frombuffer(data, source["dtype"]).reshape(source["shape"]))
    most = float(flags.get("max_secs", 150))
    warmup = run(interpreter.invoke, int(flags.get("warmup_runs", 1)), float(flags.get("warmup_min_secs", 0.5)), most)
    timed = run(interpreter.invoke, int(flags.get("num_runs", 50)), float(flags.get("min_secs", 1)), most)
    info(
        f"Inference timings in us: Init: {init}, First inference: {(warmup or [0])[0]}, Warmup (avg):"
        f" {statistics.fmean(warmup or [0]):.6g}, Inference (avg): {statistics.fmean(timed):.6g}"
    )
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if KIND == "old":
        info(f"Peak memory footprint (MB): init=0 overall={megabytes:g}")
    else:
        info(f"Memory footprint delta from the start of the tool (MB): init=1 overall={megabytes:g}")
        if flags.get("report_peak_memory_footprint") == "true":
            info(f"Overall peak memory footprint (MB) via periodic monitoring: {megabytes:g}")
    if "output_filepath" in flags:
        try:
            with open(flags["output_filepath"], "wb") as file:  # OutputSaver: no length is checked, no error is told
                for result in results:
                    file.write(interpreter.get_tensor(result["index"]).tobytes())
        except OSError:
            pass


if __name__ == "__main__":
    main()

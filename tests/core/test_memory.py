"""The free memory, read from files that the system would write."""

import pytest

from pipeline.core.memory import free_bytes

GIB = 1 << 30


def system(root, available_gib, groups, files):
    """A /proc and /sys: ``groups`` are the lines of /proc/self/cgroup, ``files`` {path below /sys/fs/cgroup: text}."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {available_gib << 20} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for path, text in files.items():
        (root / "sys/fs/cgroup" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / path).write_text(text)
    return root


def group(folder, limit, used_gib, cached_gib, version=2):
    """The files of one control group; of what it uses, ``cached_gib`` can be taken back."""
    names = ("memory.max", "memory.current", "inactive_file")
    names = names if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    stat = f"anon 1\n{names[2]} {cached_gib * GIB}\n"
    return {
        f"{folder}{names[0]}": f"{limit}\n",
        f"{folder}{names[1]}": f"{used_gib * GIB}\n",
        f"{folder}memory.stat": stat,
    }


@pytest.mark.parametrize(
    ("groups", "files", "free_gib"),
    [
        ("0::/\n", {}, 20),
        ("0::/\n", group("", 8 * GIB, 5, 2), 5),  # a container sees its own group as the top
        ("0::/a/b\n", {**group("a/b/", "max", 5, 0), **group("a/", 6 * GIB, 5, 0)}, 1),  # the limit of one above
        ("0::/a\n", group("a/", 50 * GIB, 5, 0), 20),
        ("4:memory:/x/y\n1:cpu:/\n", group("memory/x/y/", 3 * GIB, 1, 0, version=1), 2),
        ("0::/a\n", group("a/", 2 * GIB, 3, 0), 0),
        ("0::/\n", {"memory.max": "a lot\n", "memory.current": "", "memory.stat": "one\n"}, 20),
    ],
)
def test_the_least_of_what_machine_and_container_leave(tmp_path, groups, files, free_gib):
    assert free_bytes(system(tmp_path, 20, groups, files)) == free_gib * GIB


def test_a_system_that_does_not_tell(tmp_path):
    assert free_bytes(tmp_path) is None

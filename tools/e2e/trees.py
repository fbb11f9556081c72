"""Trees of files: made the same way every time, and compared byte for byte."""

import os
import random
import shutil


def small_tree(root, files, seed=1, size_max=20_000):
    """`files` files in nested folders, of every size class from empty up."""
    rng = random.Random(seed)
    for n in range(files):
        folder = root.joinpath(*(f"dir {rng.randrange(6)}" for _ in range(rng.randrange(4))))
        folder.mkdir(parents=True, exist_ok=True)
        size = 0 if n % 25 == 0 else rng.randrange(size_max)
        (folder / f"file+{n:05}.bin").write_bytes(rng.randbytes(size))
    return root


def listing(root):
    """{path below root: size} of every file."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = os.path.getsize(path)
    return found


def compare(one, two):
    """Asserts that both trees hold the same files with the same bytes; how many there are."""
    left, right = listing(one), listing(two)
    missing, extra = sorted(left.keys() - right.keys()), sorted(right.keys() - left.keys())
    assert not missing, f"{len(missing)} files are missing, such as {missing[:3]}"
    assert not extra, f"{len(extra)} files are too many, such as {extra[:3]}"
    for name in left:
        with open(os.path.join(one, name), "rb") as a, open(os.path.join(two, name), "rb") as b:
            while True:
                x, y = a.read(1 << 20), b.read(1 << 20)
                assert x == y, f"{name} differs"
                if not x:
                    break
    return len(left)


def gather(root, sources, at_least, size_max=16 << 20, total_max=400 << 20):
    """Copies real files below `sources` to `root` until there are enough of them, in a stable order.

    What is missing to `at_least` is generated: a machine may have little installed.
    """
    count = total = 0
    for label, source in sources:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                size = os.path.getsize(path)
                if size > size_max or total + size > total_max or count >= at_least:
                    continue
                target = os.path.join(root, label, os.path.relpath(path, source))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(path, target)
                count, total = count + 1, total + size
    if count < at_least:
        small_tree(root / "generated", at_least - count, size_max=8_000)
    return root

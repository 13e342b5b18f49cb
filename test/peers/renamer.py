"""
Swaps names in a folder of its own as fast as it can, as any process of a node may: a folder for a link to somewhere
else, a folder for another, a folder for a pipe.

Owns the swaps (renameat2(2) RENAME_EXCHANGE, or two renames where the file system cannot) and counting them. Does not
know who walks there. Arguments: the folder, a seed. Ends on SIGTERM with the number of swaps.
"""
import ctypes
import os
import random
import signal
import sys

AT_FDCWD = -100
RENAME_EXCHANGE = 2
libc = ctypes.CDLL(None, use_errno=True)


def exchange(one, other):
    return libc.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE) == 0


class Ended(Exception):
    pass


def end(*_):
    raise Ended


os.chdir(sys.argv[1])
choices = random.Random(int(sys.argv[2]))
pairs = [('place', 'link'), ('place', 'other'), ('place/target', 'place/end'), ('place/k.yaml', 'place/pipe')]
swaps = 0
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
try:
    while True:
        # Mostly there and back again at once: what is swapped in is seen by few, and by the next call no more.
        pair = choices.choices(pairs, weights=[6, 2, 2, 1])[0]
        for _ in range(choices.randint(1, 2) * 2 - choices.randint(0, 1)):
            swaps += exchange(*pair)
        for _ in range(choices.randint(0, 2000)):
            pass
except Ended:
    print(swaps, flush=True)

"""
What a container's runtime does for a pod with `hostUsers: false`, and a program in it: a user namespace whose ids begin
somewhere on the node, a mount namespace of it, and in that one bind of a folder, idmapped with the user namespace.

Owns these steps as runc 1.2 takes them (open_tree(2), mount_setattr(2) with MOUNT_ATTR_IDMAP, move_mount(2)). Does not
know what is mounted. Arguments: JSON with `source` and `target` (folders), `base` and `count` (ids of the node), `uid`,
`gid`, `groups` (inside), `bind` (`idmapped`, `plain`, or `both`: the bind is idmapped, and the node's mounts stay
visible), and `command`. Exits with the command's code, and with 101 and the call's name when a step fails.
"""
import ctypes
import json
import os
import sys

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
OPEN_TREE_CLONE = 1
SYS_mount_setattr, SYS_open_tree, SYS_move_mount = 442, 428, 429
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_IDMAP = 0x100000
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 1 << 18, 2
libc = ctypes.CDLL(None, use_errno=True)


class Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ('set', 'clear', 'propagation', 'userns')]


def must(name, answer):
    if answer < 0:
        error = ctypes.get_errno()
        print(f'{name}: {os.strerror(error)}', file=sys.stderr)
        sys.exit(101)
    return answer


def user_namespace(base, count):
    """A descriptor of a new one. Its only process ends when its map is written."""
    ready, written = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        must('unshare', libc.unshare(CLONE_NEWUSER))
        os.write(ready[1], b'.')
        os.read(written[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    for file in ('uid_map', 'gid_map'):
        with open(f'/proc/{child}/{file}', 'w') as map_file:
            map_file.write(f'0 {base} {count}\n')
    namespace = os.open(f'/proc/{child}/ns/user', os.O_RDONLY | os.O_CLOEXEC)
    os.write(written[1], b'.')
    os.waitpid(child, 0)
    for fd in (*ready, *written):
        os.close(fd)
    return namespace


def device_of(folder):
    lines = [line.split() for line in open('/proc/self/mountinfo')]
    return [fields[2] for fields in lines if fields[4] == folder][-1]


def unmount_all(device):
    while True:
        points = [fields[4] for fields in map(str.split, open('/proc/self/mountinfo')) if fields[2] == device]
        if not points:
            return
        must('umount2', libc.umount2(points[-1].encode(), MNT_DETACH))


asked = json.loads(sys.argv[1])
bind = asked['bind']
namespace = user_namespace(asked['base'], asked['count'])
must('unshare', libc.unshare(CLONE_NEWNS))
must('mount', libc.mount(b'none', b'/', None, MS_REC | MS_PRIVATE, None))
tree = must('open_tree', libc.syscall(SYS_open_tree, AT_FDCWD, asked['source'].encode(), OPEN_TREE_CLONE))
if bind != 'plain':
    wanted = Attributes(MOUNT_ATTR_IDMAP, 0, 0, namespace)
    must('mount_setattr', libc.syscall(SYS_mount_setattr, tree, b'', AT_EMPTY_PATH, ctypes.byref(wanted), ctypes.sizeof(wanted)))
if bind != 'both':
    unmount_all(device_of(asked['source']))
must('move_mount', libc.syscall(SYS_move_mount, tree, b'', AT_FDCWD, asked['target'].encode(), MOVE_MOUNT_F_EMPTY_PATH))
os.close(tree)
child = os.fork()
if child == 0:
    must('setns', libc.setns(namespace, CLONE_NEWUSER))
    must('unshare', libc.unshare(CLONE_NEWNS))
    os.setgroups(asked['groups'])
    os.setresgid(*[asked['gid']] * 3)
    os.setresuid(*[asked['uid']] * 3)
    os.chdir('/')
    os.execvp(asked['command'][0], asked['command'])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

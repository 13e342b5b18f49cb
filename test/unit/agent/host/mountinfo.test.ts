/** mountinfo as kernels print it; the lines were copied from a running Linux 6.18 and from proc(5). */
import test from 'ava'
import {
  mountOf,
  mountsOfDevice,
  parseMountinfo,
  topMountAt,
  readMountinfoSync
} from '../../../../agent/host/mountinfo.ts'
import { toDeviceNumber } from '../../../../agent/base/brands.ts'

const text = `22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:3 - ext3 /dev/root rw,errors=continue
40 22 0:44 / /var/lib/with\\040space rw,nosuid,nodev - fuse.volbridge [fd00::1]:/a\\040b rw,user_id=0
41 22 0:44 / /pods/tab\\011newline\\012back\\134slash\\043 ro,nosuid - fuse.volbridge x rw
42 41 0:45 / /pods/tab\\011newline\\012back\\134slash\\043 rw - tmpfs tmpfs rw
43 22 0:46 / /no/source rw - tmpfs  rw
`
const mounts = parseMountinfo(text)

test('optional fields, octal escapes and empty sources are understood', (t) => {
  t.is(mounts.length, 6)
  t.deepEqual(mounts[1]?.tags, ['master:1', 'propagate_from:3'])
  t.is(mounts[1]?.type, 'ext3')
  t.is(mounts[2]?.mountPoint, '/var/lib/with space')
  t.is(mounts[2]?.source, '[fd00::1]:/a b')
  t.is(mounts[3]?.mountPoint, '/pods/tab\tnewline\nback\\slash#')
  t.deepEqual(mounts[5]?.source, '')
})

test('of stacked mounts the top one is seen', (t) => {
  t.is(topMountAt(mounts, '/pods/tab\tnewline\nback\\slash#')?.type, 'tmpfs')
  t.is(topMountAt(mounts, '/nowhere'), undefined)
})

test('all mounts of a file system are found by its device', (t) => {
  t.deepEqual(mountsOfDevice(mounts, toDeviceNumber('0:44')).map((mount) => mount.id), [40, 41])
})

test('the mount that holds a path is the longest prefix, by whole names', (t) => {
  t.is(mountOf(mounts, '/var/lib/with space/x')?.id, 40)
  t.is(mountOf(mounts, '/var/lib/with spaces')?.id, 22)
  t.is(mountOf(mounts, '/')?.id, 22)
})

test('a line that is not understood is an error, never "not mounted"', (t) => {
  t.throws(() => parseMountinfo('22 1 253:0 / / rw shared:1 ext4 /dev/vda rw\n'), { message: /not understood/ })
  t.throws(() => parseMountinfo('garbage\n'), { message: /not understood/ })
  t.throws(() => parseMountinfo(text.slice(0, -20)), { message: /not understood/ })
})

test('this machine\'s own table is understood', (t) => {
  t.is(mountOf(readMountinfoSync(), '/proc/self/x')?.type, 'proc')
})

/** The table against the kernel's own header, and the reply encoders against its structs. */
import { readFileSync } from 'node:fs'
import test from 'ava'
import { beginReply, finishReply, RequestHeader } from '../../../../proto/fuse/header.ts'
import { decodeDevice, encodeDevice } from '../../../../proto/fuse/attributes.ts'
import { appendListed } from '../../../../proto/fuse/directories.ts'
import { encodeInvalEntry, encodeInvalInode, encodeResend } from '../../../../proto/fuse/notifications.ts'
import { nameOfOpcode, operationNames, operations } from '../../../../proto/fuse/operations.ts'
import { FuseWriter } from '../../../../proto/fuse/writer.ts'

const attributes = {
  kind: 'file', mode: 0o4755, nlink: 2, uid: 1234, gid: 2345, sizeBytes: 2 ** 40 + 1, usedBytes: 1025, rdevMajor: 0,
  rdevMinor: 0,
  fileid: 0xfedcba9876543210n, atimeSeconds: -1, atimeNanoseconds: 5, mtimeSeconds: 2 ** 33, mtimeNanoseconds: 6,
  ctimeSeconds: 7, ctimeNanoseconds: 8
} as const

function written (write: (out: FuseWriter) => void, size = 512): Buffer {
  const out = new FuseWriter(Buffer.alloc(size, 0xee))
  write(out)
  return out.buffer.subarray(0, out.offset)
}

test('every opcode from 1 to 53 that the kernel has ever used is in the table, once', (t) => {
  const unused = [7, 19]
  for (let opcode = 1; opcode <= 53; opcode++) {
    t.is(nameOfOpcode[opcode] === undefined, unused.includes(opcode), `opcode ${opcode}`)
  }
  t.is(new Set(operationNames.map((name) => operations[name].opcode)).size, operationNames.length)
})

test('opcodes agree with the kernel header of this machine', (t) => {
  let header: string
  try {
    header = readFileSync('/usr/include/linux/fuse.h', 'utf8')
  } catch {
    t.log('skipped: no /usr/include/linux/fuse.h (apt: linux-libc-dev)')
    t.pass()
    return
  }
  const known = [...header.matchAll(/^\tFUSE_([A-Z0-9_]+)\s*= (\d+),/gm)]
  t.true(known.length > 40)
  for (const [, name = '', opcode] of known) {
    if (name in operations) t.is(operations[name as keyof typeof operations].opcode, Number(opcode), name)
  }
})

test('fuse_entry_out has 128 bytes with every field in its place', (t) => {
  const bytes = written((out) => {
    operations.LOOKUP.encode(out, { nodeid: 42, generation: 3, entryTtlMs: 1500, attributesTtlMs: 2250, attributes })
  })
  t.is(bytes.length, 128)
  t.is(bytes.readBigUInt64LE(0), 42n)
  t.is(bytes.readBigUInt64LE(8), 3n)
  t.is(bytes.readBigUInt64LE(16), 1n)
  t.is(bytes.readBigUInt64LE(24), 2n)
  t.is(bytes.readUInt32LE(32), 500_000_000)
  t.is(bytes.readUInt32LE(36), 250_000_000)
  t.is(bytes.readBigUInt64LE(40), 0xfedcba9876543210n)
  t.is(bytes.readBigUInt64LE(48), 2n ** 40n + 1n)
  t.is(bytes.readBigUInt64LE(56), 3n)
  t.is(bytes.readBigInt64LE(64), -1n)
  t.is(bytes.readBigInt64LE(72), 2n ** 33n)
  t.is(bytes.readBigInt64LE(80), 7n)
  t.deepEqual([88, 92, 96].map((at) => bytes.readUInt32LE(at)), [5, 6, 8])
  t.is(bytes.readUInt32LE(100), 0o104755)
  t.deepEqual([104, 108, 112].map((at) => bytes.readUInt32LE(at)), [2, 1234, 2345])
})

test('a missing name is nodeid 0 with a time to live and nothing else', (t) => {
  const bytes = written((out) => { operations.LOOKUP.encode(out, { nodeid: 0, entryTtlMs: 3000 }) })
  t.is(bytes.length, 128)
  t.is(bytes.readBigUInt64LE(16), 3n)
  bytes.fill(0, 16, 24)
  t.true(bytes.every((byte) => byte === 0))
})

test('an endless time to live does not overflow what the kernel can count', (t) => {
  const bytes = written((out) => { operations.LOOKUP.encode(out, { nodeid: 0, entryTtlMs: Infinity }) })
  t.true(bytes.readBigUInt64LE(16) < 2n ** 32n)
})

test('the other replies have the sizes of the kernel structs', (t) => {
  t.is(
    written((out) => { operations.GETATTR.encode(out, { attributes, attributesTtlMs: 1 }) }).length,
    104
  )
  t.is(
    written((out) => { operations.OPEN.encode(out, { handle: 1, keepCache: true }) }).length,
    16
  )
  t.is(
    written((out) => { operations.WRITE.encode(out, { bytes: 1 }) }).length,
    8
  )
  t.is(
    written((out) => {
      operations.STATFS.encode(out, {
        totalBytes: 8192n, freeBytes: 0n, availableBytes: 0n, totalFiles: 1n, freeFiles: 1n, blockBytes: 4096,
        nameBytesMax: 255
      })
    }).length,
    80
  )
  t.is(
    written((out) => {
      operations.CREATE.encode(out, {
        entry: { nodeid: 1, generation: 0, entryTtlMs: 0, attributesTtlMs: 0, attributes },
        opened: { handle: 9, keepCache: false }
      })
    }).length,
    144
  )
})

test('an open answer says which caches may stay', (t) => {
  t.is(
    written((out) => { operations.OPEN.encode(out, { handle: 7, keepCache: false }) }).readUInt32LE(8),
    0
  )
  t.is(
    written((out) => { operations.OPEN.encode(out, { handle: 7, keepCache: true }) }).readUInt32LE(8),
    2
  )
  t.is(
    written((out) => {
      operations.OPENDIR.encode(out, { handle: 7, keepCache: true, cacheListing: true })
    }).readUInt32LE(8),
    10
  )
  t.is(
    written((out) => {
      operations.OPEN.encode(out, { handle: 7, keepCache: false, closesSilently: true })
    }).readUInt32LE(8),
    32
  )
})

test('listed entries are 8-aligned, keep every byte of a name, and stop before the limit', (t) => {
  const listed = {
    name: '\xff\x80name', fileid: 2n ** 63n, kind: 'directory', nextOffset: 5, entry: undefined
  } as const
  const bytes = written((out) => {
    t.true(appendListed(out, 64, false, listed))
    t.true(appendListed(out, 64, false, listed))
    t.false(appendListed(out, 64, false, listed))
  })
  t.is(bytes.length, 64)
  t.is(bytes.readBigUInt64LE(32), 2n ** 63n)
  t.is(bytes.readBigUInt64LE(40), 5n)
  t.is(bytes.readUInt32LE(48), 6)
  t.is(bytes.readUInt32LE(52), 4)
  t.is(bytes.toString('latin1', 56, 62), '\xff\x80name')
  const plus = written((out) => {
    t.true(
      appendListed(out, 512, true, {
        ...listed, entry: { nodeid: 9, generation: 0, entryTtlMs: 0, attributesTtlMs: 0, attributes }
      })
    )
  })
  t.is(plus.length, 128 + 32)
  t.is(plus.readBigUInt64LE(0), 9n)
  t.is(plus.readUInt32LE(128 + 16), 6)
})

test('a reply header carries length, negative errno and the request number, and pads to 8 bytes', (t) => {
  const header = new RequestHeader(1, 2 ** 40 + 6, true, 1, 0, 0, 0)
  const bytes = written((out) => {
    const start = beginReply(out, header, 2)
    out.latin1('abc')
    finishReply(out, start)
  })
  t.is(bytes.length, 24)
  t.is(bytes.readUInt32LE(0), 19)
  t.is(bytes.readInt32LE(4), -2)
  t.is(bytes.readBigUInt64LE(8), 2n ** 63n + 2n ** 40n + 6n)
})

test('device numbers survive the kernel encoding, up to 12 and 20 bits', (t) => {
  for (const [major, minor] of [[0, 0], [8, 1], [259, 70000], [4095, 0xfffff]] as const) {
    t.deepEqual(decodeDevice(encodeDevice(major, minor)), { major, minor })
  }
  // makedev(8, 17) as mknod(2) has had it since Linux 1.
  t.is(encodeDevice(8, 17), 0x811)
})

test('notifications have the shape the kernel checks for', (t) => {
  const inode = encodeInvalInode(9, 4096, -1)
  t.is(inode.length, 40)
  t.is(inode.readUInt32LE(0), 40)
  t.is(inode.readInt32LE(4), 2)
  t.is(inode.readBigUInt64LE(8), 0n)
  t.deepEqual([16, 24, 32].map((at) => inode.readBigInt64LE(at)), [9n, 4096n, -1n])
  t.is(encodeInvalInode(9, 4096, 0).readBigInt64LE(24), -1n)
  const entry = encodeInvalEntry(1, 'a\xff', false)
  t.is(entry.length, 16 + 16 + 3)
  t.is(entry.readUInt32LE(24), 2)
  t.is(entry.readUInt32LE(28), 0)
  t.is(entry.toString('latin1', 32), 'a\xff\0')
  t.is(encodeInvalEntry(1, 'a', true).readUInt32LE(28), 1)
  t.is(encodeResend().length, 16)
})

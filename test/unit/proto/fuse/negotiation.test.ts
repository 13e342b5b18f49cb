import test from 'ava'
import { WireError } from '../../../../agent/base/errors.ts'
import { defaultWishes } from '../../../../agent/session/connection.ts'
import { encodeInit, INIT_FLAG, negotiate } from '../../../../proto/fuse/init.ts'
import type { InitFlag, InitIn } from '../../../../proto/fuse/init.ts'
import { FuseWriter } from '../../../../proto/fuse/writer.ts'

/** All flags of the first 22 bits: Linux 4.18. */
const flags418 = 0x003f_ffff
const bit = (flag: InitFlag): number => 2 ** (INIT_FLAG[flag] % 32)

interface Row {
  kernel: string
  init: Partial<InitIn>
  minor: number
  pages: number
  writeBytes: number
  has: InitFlag[]
  hasNot: InitFlag[]
}
const rows: readonly Row[] = [
  {
    kernel: 'Linux 4.18 (7.27)', init: { minor: 27, flags: flags418 }, minor: 27, pages: 0, writeBytes: 128 * 1024,
    has: ['ASYNC_READ', 'PARALLEL_DIROPS', 'ABORT_ERROR'],
    hasNot: ['MAX_PAGES', 'CACHE_SYMLINKS', 'INIT_EXT', 'HAS_RESEND']
  },
  {
    kernel: 'Linux 5.10 (7.32)', init: { minor: 32, flags: 0x0fff_ffff }, minor: 32, pages: 256,
    writeBytes: 1024 * 1024, has: ['MAX_PAGES', 'CACHE_SYMLINKS'], hasNot: ['HANDLE_KILLPRIV_V2', 'INIT_EXT']
  },
  {
    kernel: 'Linux 6.1 (7.37)', init: { minor: 37, flags: 0x73ff_fffb, flags2: 7 }, minor: 37, pages: 256,
    writeBytes: 1024 * 1024, has: ['MAX_PAGES', 'HANDLE_KILLPRIV_V2'], hasNot: ['INIT_EXT', 'HAS_RESEND']
  },
  {
    kernel: 'Linux 6.18 (7.45)', init: { minor: 45, flags: 0x73ff_fffb, flags2: 0x3ff }, minor: 45, pages: 256,
    writeBytes: 1024 * 1024, has: ['HAS_RESEND', 'INIT_EXT'], hasNot: []
  },
  {
    kernel: 'a kernel newer than we know', init: { minor: 60, flags: 0xffff_ffff, flags2: 0xffff_ffff }, minor: 45,
    pages: 256, writeBytes: 1024 * 1024, has: ['HAS_RESEND'], hasNot: []
  }
]

for (const { kernel, init, minor, pages, writeBytes, has, hasNot } of rows) {
  test(`${kernel} gets what it offers and no more`, (t) => {
    const offered: InitIn = { major: 7, minor: 0, maxReadaheadBytes: 131072, flags: 0, flags2: 0, ...init }
    const agreed = negotiate(offered, defaultWishes)
    t.is(agreed.minor, minor)
    t.is(agreed.reply.maxPages, pages)
    t.is(agreed.maxWriteBytes, writeBytes)
    t.is(agreed.reply.maxReadaheadBytes, 131072)
    t.is((agreed.reply.flags & ~offered.flags) >>> 0, 0)
    t.is((agreed.reply.flags2 & ~offered.flags2) >>> 0, 0)
    for (const flag of has) t.true(agreed.flags.has(flag), flag)
    for (const flag of hasNot) t.false(agreed.flags.has(flag), flag)
    for (const never of ['WRITEBACK_CACHE', 'POSIX_LOCKS', 'FLOCK_LOCKS', 'EXPORT_SUPPORT', 'DONT_MASK'] as const) {
      t.is(agreed.reply.flags & bit(never), 0, never)
    }
  })
}

test('flags beyond 32 bits are answered only together with INIT_EXT', (t) => {
  const { reply } = negotiate(
    { major: 7, minor: 45, maxReadaheadBytes: 0, flags: 0x73ff_fffb, flags2: 0x3ff },
    defaultWishes
  )
  t.is(reply.flags2, bit('HAS_RESEND'))
  t.not(reply.flags & bit('INIT_EXT'), 0)
})

test('idmapped mounts are agreed on where the kernel has them, and only when they are wished', (t) => {
  const init = { major: 7, minor: 45, maxReadaheadBytes: 0, flags: 0x73ff_fffb, flags2: 0x3ff }
  const wishes = { ...defaultWishes, flags: [...defaultWishes.flags, 'ALLOW_IDMAP'] as const }
  // include/uapi/linux/fuse.h: FUSE_ALLOW_IDMAP is 1ULL << 40.
  t.is(negotiate(init, wishes).reply.flags2 & 0x100, 0x100)
  t.is(negotiate(init, defaultWishes).reply.flags2 & 0x100, 0)
  t.false(negotiate({ ...init, flags2: 0xff }, wishes).flags.has('ALLOW_IDMAP'))
})

test('kernels older than Linux 4.18 and other majors are refused by version', (t) => {
  for (const [major, minor] of [[7, 26], [6, 40], [8, 0]] as const) {
    const error = t.throws(
      () => negotiate({ major, minor, maxReadaheadBytes: 0, flags: flags418, flags2: 0 }, defaultWishes),
      { instanceOf: WireError, code: 'UNSUPPORTED' }
    )
    t.regex(error.message, new RegExp(`${major}\\.${minor}`))
  }
})

test('readdirplus can be asked always, when it pays, or never', (t) => {
  const flagsFor = (readdirplus: 'always' | 'auto' | 'never'): number =>
    negotiate({ major: 7, minor: 31, maxReadaheadBytes: 0, flags: 0xffff_ffff, flags2: 0 }, {
      ...defaultWishes, readdirplus
    }).reply.flags
  const both = bit('DO_READDIRPLUS') | bit('READDIRPLUS_AUTO')
  t.is(flagsFor('always') & both, bit('DO_READDIRPLUS'))
  t.is(flagsFor('auto') & both, both)
  t.is(flagsFor('never') & both, 0)
})

test('fuse_init_out has 64 bytes with every field in its place', (t) => {
  const out = new FuseWriter(Buffer.alloc(64, 0xee))
  encodeInit(
    out,
    negotiate({ major: 7, minor: 45, maxReadaheadBytes: 131072, flags: 0x73ff_fffb, flags2: 0x3ff }, defaultWishes)
      .reply
  )
  t.is(out.offset, 64)
  const bytes = out.buffer
  t.deepEqual([0, 4, 8].map((at) => bytes.readUInt32LE(at)), [7, 45, 131072])
  t.deepEqual([16, 18].map((at) => bytes.readUInt16LE(at)), [64, 48])
  t.deepEqual([20, 24].map((at) => bytes.readUInt32LE(at)), [1024 * 1024, 1])
  t.is(bytes.readUInt16LE(28), 256)
  t.is(bytes.readUInt32LE(32), 128)
  t.true(bytes.subarray(36).every((byte) => byte === 0))
})

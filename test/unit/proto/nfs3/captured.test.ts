import test from 'ava'
import { WireError } from '../../../../agent/base/errors.ts'
import { encodeCallHead, finishCall } from '../../../../proto/rpc/call.ts'
import { XdrReader } from '../../../../proto/xdr/reader.ts'
import { XdrWriter } from '../../../../proto/xdr/writer.ts'
import { nfs3Failures } from '../../../../proto/nfs3/nfsstat.ts'
import type { Nfs3Attributes } from '../../../../proto/nfs3/types.ts'
import { procedures } from '../../../../proto/nfs3/procedures.ts'
import { callFiles, decodeReply, facts, type FileFacts, procedureOf, record, replyFiles } from './captured.ts'
import { chooseSeed } from '../../../model/seed.ts'

const value = (file: string): Record<string, unknown> => {
  const decoded = decodeReply(procedureOf(file), record(file)) as { ok: boolean, value: Record<string, unknown> }
  return decoded.value
}

function assertFacts (t: { is (a: unknown, b: unknown): void }, attributes: Nfs3Attributes, truth: FileFacts): void {
  t.is(attributes.mode, Number(truth.mode) & 0o7777)
  t.is(attributes.nlink, Number(truth.nlink))
  t.is(attributes.uid, Number(truth.uid))
  t.is(attributes.gid, Number(truth.gid))
  t.is(attributes.sizeBytes, Number(truth.size))
  t.is(attributes.usedBytes, Number(truth.blocks) * 512)
  t.is(attributes.fileid, BigInt(truth.ino))
  t.is(BigInt(attributes.mtimeSeconds) * 1_000_000_000n + BigInt(attributes.mtimeNanoseconds), BigInt(truth.mtimeNs))
  t.is(BigInt(attributes.ctimeSeconds) * 1_000_000_000n + BigInt(attributes.ctimeNanoseconds), BigInt(truth.ctimeNs))
}

test('the attributes in replies of ganesha are those lstat gives', (t) => {
  const found = value('lookup-0.ganesha.bin') as {
    object: string
    attributes: Nfs3Attributes
    directory: Nfs3Attributes
  }
  assertFacts(t, found.attributes, facts.file)
  t.is(found.attributes.type, 'file')
  t.is(found.directory.type, 'directory')
  t.true(found.object.length > 0 && found.object.length <= 64)
  const link = value('readlink-0.ganesha.bin') as { attributes: Nfs3Attributes, target: string }
  assertFacts(t, link.attributes, facts.link)
  t.is(Buffer.from(link.target, 'latin1').toString('utf8'), 'target/é')
})

test('READ gives the bytes of the file and its end', (t) => {
  const read = value('read-0.ganesha.bin') as { data: Buffer, eof: boolean }
  t.is(read.data.toString(), 'ganesha')
  t.true(read.eof)
})

test('READDIRPLUS and READDIR name every entry once, with its attributes', (t) => {
  const plus = value('readdirplus-0.ganesha.bin') as {
    entries: { name: string, attributes: Nfs3Attributes, fileid: bigint }[]
    eof: boolean
  }
  const plain = value('readdir-0.ganesha.bin') as { entries: { name: string, fileid: bigint }[], eof: boolean }
  const visible = (entries: { name: string }[]): string[] =>
    entries.map((entry) => entry.name).filter((entry) => !['.', '..'].includes(entry)).sort()
  t.deepEqual(visible(plus.entries), facts.readdir)
  t.deepEqual(visible(plain.entries), facts.readdir)
  t.true(plus.eof && plain.eof)
  for (const entry of ['file', 'dir', 'device', 'link'] as const) {
    const listed = plus.entries.find((candidate) => candidate.name === entry)
    if (listed === undefined) throw new Error(entry)
    assertFacts(t, listed.attributes, facts[entry])
  }
  const device = plus.entries.find((candidate) => candidate.name === 'device')
  t.deepEqual([device?.attributes.type, device?.attributes.rdevMajor, device?.attributes.rdevMinor], ['block', 7, 300])
})

test('FSSTAT, FSINFO and PATHCONF give the file system of the server', (t) => {
  const stat = value('fsstat-0.ganesha.bin')
  t.is(stat['totalBytes'], BigInt(facts.statfs.totalBytes))
  t.is(stat['totalFiles'], BigInt(facts.statfs.totalFiles))
  t.like(value('fsinfo-0.ganesha.bin'), { rtmaxBytes: 64 * 1048576, wtmaxBytes: 64 * 1048576 })
  // ganesha's own limit, above that of the file system behind it.
  t.like(value('pathconf-0.ganesha.bin'), {
    nameBytesMax: 1024, noTrunc: true, casePreserving: true, caseInsensitive: false
  })
})

for (const file of replyFiles) {
  const status = Number(/-(\d+)\.ganesha/.exec(file)?.[1])

  test(`${file} decodes to the outcome it was captured with`, (t) => {
    const decoded = decodeReply(procedureOf(file), record(file))
    if (file.startsWith('mount-export') || file.startsWith('mount-umnt')) t.pass()
    else if (status === 0) t.like(decoded, { ok: true })
    else if (!file.startsWith('mount')) {
      t.is<number, number>(nfs3Failures[(decoded as { status: keyof typeof nfs3Failures }).status], status)
    } else t.like(decoded, { ok: false, status: 'MNT3ERR_ACCES' })
  })

  test(`every prefix of ${file} is refused, and bytes behind its end change nothing`, (t) => {
    const bytes = record(file)
    for (let length = 0; length < bytes.length; length++) {
      t.throws(() => decodeReply(procedureOf(file), bytes.subarray(0, length)), { instanceOf: WireError })
    }
    t.deepEqual(
      decodeReply(procedureOf(file), Buffer.concat([bytes, Buffer.alloc(4, 0xff)])),
      decodeReply(procedureOf(file), bytes)
    )
  })

  test(`${file} with bytes changed is refused or decoded, nothing else`, (t) => {
    const seed = chooseSeed((line) => { t.log(line) })
    let random = seed
    const next = (): number => (random = (Math.imul(random, 1103515245) + 12345) >>> 0) >>> 8
    for (let round = 0; round < 300; round++) {
      const bytes = Buffer.from(record(file))
      for (let flips = 1 + next() % 3; flips > 0; flips--) {
        bytes[next() % bytes.length] = next() % 4 === 0
          ? 0xff
          : next() & 0xff
      }
      try {
        decodeReply(procedureOf(file), bytes)
      } catch (error) {
        if (!(error instanceof WireError)) t.fail(`round ${round}: ${String(error)}`)
      }
    }
    t.pass()
  })
}

/** Arguments as the other client sent them; only what they mean is ours. */
const readArgs: Record<string, (input: XdrReader) => unknown> = {
  getattr: (input) => ({ object: input.latin1(64) }),
  lookup: (input) => ({ dir: input.latin1(64), name: input.latin1(255) }),
  access: (input) => ({ object: input.latin1(64), access: input.uint32() }),
  fsinfo: (input) => ({ fsroot: input.latin1(64) }),
  read: (input) => ({ file: input.latin1(64), offsetBytes: input.size64(), countBytes: input.uint32() }),
  commit: (input) => ({ file: input.latin1(64), offsetBytes: input.size64(), countBytes: input.uint32() }),
  write: (input) => {
    const [file, offsetBytes] = [input.latin1(64), input.size64()]
    input.uint32()
    return { file, offsetBytes, stable: input.uint32(), data: [input.opaque(1 << 20)] }
  },
  readdirplus: (input) => ({
    dir: input.latin1(64), cookie: input.uint64(), cookieverf: input.fixedLatin1(8), dircountBytes: input.uint32(),
    maxcountBytes: input.uint32()
  }),
  'mount-mnt': (input) => ({ path: input.latin1(1024) }),
  null: () => undefined,
  'mount-null': () => undefined,
  'mount-export': () => undefined
}

for (const file of callFiles) {
  const read = readArgs[file.split('.')[0] ?? '']
  if (read === undefined) continue
  test(`${file}: libnfs and we send the same bytes for the same call`, (t) => {
    const bytes = record(file)
    const input = new XdrReader(bytes)
    const xid = input.uint32()
    input.fixed(20)
    const credentialStart = input.offset
    input.uint32()
    input.opaque(400)
    const credential = bytes.subarray(credentialStart, input.offset)
    input.fixed(8)
    const row = procedureOf(file)
    const out = new XdrWriter(16)
    encodeCallHead(out, row, xid, credential)
    row.encode(out, read(input))
    t.deepEqual(Buffer.concat(finishCall(out)).subarray(4), bytes)
  })
}

test('READ answers that contradict the question are refused', (t) => {
  const bytes = record('read-0.ganesha.bin')
  const body = (): XdrReader => new XdrReader(bytes, 24)
  t.notThrows(() => procedures.READ.decode(body(), { file: '', offsetBytes: 0, countBytes: 7 }))
  t.throws(() => procedures.READ.decode(body(), { file: '', offsetBytes: 0, countBytes: 6 }), { instanceOf: WireError })
  const lying = Buffer.from(bytes)
  lying.writeUInt32BE(8, 24 + 4 + 4 + 84)
  t.throws(() => procedures.READ.decode(new XdrReader(lying, 24), { file: '', offsetBytes: 0, countBytes: 100 }), {
    instanceOf: WireError
  })
})

test('a status outside the table counts as a failure of the server', (t) => {
  const bytes = Buffer.from(record('getattr-70.ganesha.bin'))
  bytes.writeUInt32BE(99, 24)
  t.like(decodeReply(procedureOf('getattr-70.ganesha.bin'), bytes), { ok: false, status: 'NFS3ERR_SERVERFAULT' })
})

test('the table has all 22 procedures under their own names and numbers', (t) => {
  const rows = Object.entries(procedures)
  t.deepEqual(rows.map(([, row]) => row.number), Array.from({ length: 22 }, (_, index) => index))
  for (const [key, row] of rows) t.is(row.name, key)
})

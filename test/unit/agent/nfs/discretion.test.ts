/** What a peer answers never comes back in a message, and root is nobody where it must not be root. */
import { randomBytes } from 'node:crypto'
import test from 'ava'
import { WireError, messageOf } from '../../../../agent/base/errors.ts'
import { CredentialCache } from '../../../../agent/nfs/credentials.ts'
import { transportFault } from '../../../../agent/nfs/faults.ts'
import { RejectedError } from '../../../../agent/rpc/call.ts'
import { mountProcedures } from '../../../../proto/mount3/procedures.ts'
import { procedures } from '../../../../proto/nfs3/procedures.ts'
import { portmapProcedures } from '../../../../proto/portmap/procedures.ts'
import { RecordFramer } from '../../../../proto/rpc/record.ts'
import { decodeReplyHead, requireReply } from '../../../../proto/rpc/reply.ts'
import { XdrReader } from '../../../../proto/xdr/reader.ts'

/** Small numbers may be ours: sizes that are allowed, versions. */
const tells = (message: string, bytes: Buffer): boolean => {
  const words = Array.from({ length: bytes.length >> 2 }, (_, n) => bytes.readUInt32BE(4 * n))
  return words.flatMap((word) => [word, word & 0x7fff_ffff]).some((word) =>
    word > 9999 &&
    [String(word), word.toString(16)].some((text) => new RegExp(`(?<![0-9a-f])${text}(?![0-9a-f])`).test(message))
  )
}

const decoders: readonly ((input: XdrReader) => unknown)[] = [
  requireReply,
  (input) => {
    const rejection = decodeReplyHead(input)
    if (rejection !== undefined) throw new RejectedError('NULL', rejection)
  },
  ...[...Object.values(procedures), ...Object.values(mountProcedures), ...Object.values(portmapProcedures)].map(
    (row) => (input: XdrReader) =>
      (row.decode as (input: XdrReader, args: unknown) => unknown)(input, { countBytes: 4, data: [] })
  )
]

test('no number that a peer sends is in any message about what it sent', (t) => {
  const endpoint = { address: '10.0.0.1', port: 2049 }
  let complaints = 0
  for (let round = 0; round < 800; round++) {
    const bytes = randomBytes(4 * (2 + round % 20))
    // Small words get further into a message.
    for (let at = 0; at < bytes.length; at += 4) {
      if ((round + at) % 3 !== 0) bytes.writeUInt32BE(bytes.readUInt8(at) % 3, at)
    }
    for (const decode of decoders) {
      try {
        decode(new XdrReader(bytes))
      } catch (error) {
        if (!(error instanceof WireError || error instanceof RejectedError)) throw error
        complaints++
        for (const message of [
          messageOf(error), messageOf(transportFault(error, 'the mount service', endpoint, 'mountport'))
        ]) {
          if (tells(message, bytes)) return t.fail(`${message}: ${bytes.toString('hex')}`)
        }
      }
    }
  }
  t.true(complaints > 2000, `${complaints} complaints`)
})

test('the first bytes of a service that is none are not in the message about it', (t) => {
  for (const greeting of ['SSH-2.0-OpenSSH', '220 mail ready\r\n', 'HTTP/1.1 400 Bad', '\u007fELF']) {
    const framer = new RecordFramer({
      recordBytesMax: 2_097_152, acquire: (bytes) => ({ buffer: Buffer.alloc(bytes), release: () => undefined })
    })
    const error = t.throws(() => {
      framer.push(Buffer.from(greeting, 'latin1'), () => undefined)
    }, { instanceOf: WireError })
    t.false(tells(error?.message ?? '', Buffer.from(greeting.slice(0, 4), 'latin1')), error?.message)
  }
})

test('versions that a server offers are told when they are versions', (t) => {
  const rejected = (low: number, high: number): string =>
    new RejectedError('MNT', { kind: 'PROG_MISMATCH', versions: { low, high } }).message
  t.regex(rejected(4, 4), /it speaks versions 4 to 4/)
  t.notRegex(rejected(1, 65_537), /65537/)
})

test('with root squashed no uid, gid or group 0 is ever in a credential, and others are who they are', (t) => {
  // RFC 5531 appendix A: stamp, machine name, uid, gid, groups.
  const idsOf = (encoded: Buffer): readonly number[] => {
    const input = new XdrReader(encoded)
    t.is(input.uint32(), 1)
    const body = new XdrReader(input.opaque(400))
    body.uint32()
    body.latin1(255)
    const [uid, gid] = [body.uint32(), body.uint32()]
    return [uid, gid, ...Array.from({ length: body.uint32() }, () => body.uint32())]
  }
  const squashing = new CredentialCache('node', 1, { squashRoot: true })
  const plain = new CredentialCache('node', 1)
  const root = { uid: 0, gid: 0, groups: [0, 7], key: '0' }
  const user = { uid: 1000, gid: 1000, groups: [0, 7], key: '1' }
  t.deepEqual(idsOf(squashing.encoded(root)), [65_534, 65_534, 65_534, 7])
  t.deepEqual(idsOf(squashing.encoded(user)), [1000, 1000, 65_534, 7])
  t.deepEqual(idsOf(plain.encoded(root)).slice(0, 2), [0, 0])
})
